import { useContext, useEffect, useState } from "preact/hooks";
import { type App, type May, change, get, path, query, useAsk } from "../api/client";
import { fromBase64 } from "../crypto/bytes";
import { type Route, go, to, within } from "../route";
import { plural, when } from "../ui/format";
import { Access, Act, Check, Empty, Facts, Field, IfFull, Key, NoMore, Page, Pager, Section, Select, Shown, Table, Tag, Time } from "../ui/parts";
import { makeApp, rotateAccessKey, rotatePair } from "./keys";

const PAGE = 50;

export function Apps({ route }: { route: Route }) {
    const [search, enabled, after] = ["search", "enabled", "after"].map((name) => route.query.get(name) ?? "");
    const asked = useAsk<{ apps: App[]; next: string | null }>(`/v1/apps${query({ search, enabled, after, limit: PAGE })}`);
    const [typed, setTyped] = useState({ search: search ?? "", enabled: enabled ?? "" });
    useEffect(() => setTyped({ search: search ?? "", enabled: enabled ?? "" }), [search, enabled]);
    const filtered = Boolean(search || enabled);
    return (
        <Page
            title="Apps"
            lead="An app is a program, or several of one kind: it has an address that others publish to, and keys of its own."
            actions={
                <IfFull>
                    <a class="button primary" href="#/new-app">
                        New app
                    </a>
                </IfFull>
            }
        >
            <form
                class="filters"
                onSubmit={(submitted) => {
                    submitted.preventDefault();
                    go(within(route, { search: typed.search.trim(), enabled: typed.enabled, after: "" }));
                }}
            >
                <Field label="Name or id holds" value={typed.search} onInput={(event) => setTyped({ ...typed, search: event.currentTarget.value })} />
                <Select
                    label="May log in"
                    value={typed.enabled}
                    options={[
                        ["", "Either"],
                        ["true", "Enabled"],
                        ["false", "Disabled"],
                    ]}
                    onValue={(enabled) => setTyped({ ...typed, enabled })}
                />
                <button>Filter</button>
                {filtered && (
                    <a class="button" href={to("apps")} onClick={() => setTyped({ search: "", enabled: "" })}>
                        Show all
                    </a>
                )}
            </form>
            <Shown asked={asked}>
                {({ apps, next }) =>
                    apps.length === 0 && !next ? (
                        after ? (
                            <NoMore first={within(route, { after: "" })} />
                        ) : filtered ? (
                            <Empty title="No app matches.">
                                <a href={to("apps")}>Show all apps</a>
                            </Empty>
                        ) : (
                            <Empty title="There are no apps yet.">
                                <a href="#/new-app">Create the first one</a>: its keys are made in this browser, and shown once.
                            </Empty>
                        )
                    ) : (
                        <>
                            <Table
                                label="Apps"
                                rows={apps}
                                keyOf={(app) => app.id}
                                columns={[
                                    { head: "Name", main: true, of: (app) => <a href={to("apps", app.id)}>{app.name}</a> },
                                    { head: "May", of: (app) => (app.enabled ? <Rights may={app.rights} /> : <Tag kind="warn">Disabled</Tag>) },
                                    { head: "Sessions", number: true, of: (app) => app.sessions },
                                    { head: "Created", of: (app) => <Time at={app.created_at} /> },
                                    { head: "App id", of: (app) => <Key value={app.public_key} /> },
                                ]}
                            />
                            <Pager
                                what={`${plural(apps.length, "app")} on this page`}
                                shown={apps.length}
                                first={after ? within(route, { after: "" }) : null}
                                next={next && within(route, { after: next })}
                            />
                        </>
                    )
                }
            </Shown>
        </Page>
    );
}

function Rights({ may }: { may: May }) {
    const words = [may.publish && "publish", may.subscribe && "subscribe"].filter(Boolean);
    return words.length ? <>{words.join(", ")}</> : <Tag>nothing of itself</Tag>;
}

/** What cannot be seen, as far as this browser knows it: the engine's rule for names. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/u;

/** Why a name is none; the engine looks once more. */
export function wrongName(name: string): string | null {
    if (UNSEEN.test(name)) return "It holds a character that cannot be seen, which names cannot.";
    if (new TextEncoder().encode(name).length > 256) return "It is longer than 256 bytes.";
    return fromBase64(name)?.length === 32 ? "It reads as an app id, which names cannot." : null;
}

export function NewApp() {
    const [name, setName] = useState("");
    const [taken, setTaken] = useState<string | null>(null);
    const [same, setSame] = useState(false);
    const wanted = name.trim();
    const wrong = wrongName(wanted);
    const isTaken = taken !== null && taken === wanted;
    const [may, setMay] = useState<May>({ publish: true, subscribe: true });
    return (
        <Page title="New app" back={["Apps", "#/apps"]} lead="Its key pair is made in this browser: the engine gets the public half only.">
            <form class="section">
                <Field
                    label="Name"
                    value={name}
                    required
                    maxLength={256}
                    autoFocus
                    onInput={(event) => setName(event.currentTarget.value)}
                    hint="For people, such as warehouse."
                    error={wrong ?? (isTaken && !same ? `An app has the name ${taken} already: give this one another, or say that two may have it.` : null)}
                />
                {isTaken && <Check label="Two apps may have this name" hint="Their ids tell them apart." checked={same} onCheck={setSame} />}
                <fieldset>
                    <legend>With every event name it may, unless a grant says otherwise</legend>
                    <Check label="publish" checked={may.publish} onCheck={(publish) => setMay({ ...may, publish })} />
                    <Check label="subscribe and replay" checked={may.subscribe} onCheck={(subscribe) => setMay({ ...may, subscribe })} />
                </fieldset>
                <div class="actions">
                    <Act
                        kind="primary"
                        submit
                        disabled={!wanted || wrong !== null || (isTaken && !same)}
                        act={async () => {
                            // Before there are keys that somebody keeps for nothing.
                            const { apps } = isTaken ? { apps: [] } : await get<{ apps: App[] }>(`/v1/apps${query({ name: wanted, limit: 1 })}`);
                            if (apps.length === 0) return makeApp(wanted, may, isTaken);
                            setTaken(wanted);
                            setSame(false);
                        }}
                    >
                        Make its keys
                    </Act>
                </div>
            </form>
        </Page>
    );
}

const GRACES: [string, string][] = [
    ["0", "Not at all: its sessions end now"],
    ["3600000", "1 hour"],
    ["86400000", "1 day"],
    ["604800000", "7 days"],
    ["2592000000", "30 days"],
];

export function OneApp({ route }: { route: Route }) {
    const id = route.parts[1] ?? "";
    const asked = useAsk<App>(path`/v1/apps/${id}`);
    const [grace, setGrace] = useState("86400000");
    const full = useContext(Access) === "full";
    return (
        <Page title={asked.data?.name ?? "App"} back={["Apps", "#/apps"]} lead={asked.data && !asked.data.enabled && <Tag kind="warn">Disabled</Tag>}>
            <Shown asked={asked}>
                {(app) => (
                    <>
                        <Section title="Who it is">
                            <Facts
                                of={[
                                    ["App id: what others publish to", <Key value={app.public_key} copy />],
                                    ...(app.id === app.public_key ? [] : [["First app id: it stays its name here", <Key value={app.id} copy />] as [string, preact.ComponentChildren]]),
                                    ["Created", <Time at={app.created_at} />],
                                    ["Sessions", <a href={`#/sessions${query({ app: app.id })}`}>{app.sessions}</a>],
                                ]}
                            />
                        </Section>
                        <Grants app={app} again={asked.again} />
                        <Section title="App key" about="What it logs in with. The engine keeps a hash of it, and cannot show it.">
                            {app.old_access_key_until && (
                                <p>
                                    The key before logs in until {when(app.old_access_key_until)}.
                                </p>
                            )}
                            <IfFull>
                            <div class="row">
                                <Select label="The present key goes on for" value={grace} options={GRACES} onValue={setGrace} />
                                <Act
                                    act={() => rotateAccessKey(app, Number(grace)).finally(asked.again)}
                                    confirm={{
                                        title: `Give ${app.name} another app key?`,
                                        yes: "Make a new key",
                                        body: (
                                            <>
                                                <p>{grace === "0" ? "Its sessions end at once, and its programs need the new key to come back." : "Programs that have the present key go on with it for the time that you chose, and need the new one by then."}</p>
                                                {app.old_access_key_until && (
                                                    <p>
                                                        <b>The key before it logs in until {when(app.old_access_key_until)}, and would end now</b>: programs that still have it are logged out at once.
                                                    </p>
                                                )}
                                            </>
                                        ),
                                    }}
                                >
                                    Rotate app key…
                                </Act>
                            </div>
                            </IfFull>
                        </Section>
                        {(full || app.earlier_public_keys.length > 0) && (
                        <Section title="Key pair" about="Opens what is sealed for it, and proves what it publishes. Its public half is the app id.">
                            <Act
                                act={async () => rotatePair(app)}
                                confirm={{ title: `Give ${app.name} another key pair?`, yes: "Make a new pair", body: <p>It is made in this browser, and shown to you before it is the app's. Then the app's sessions end, and its programs need the new secret key beside the earlier one. What is published to the earlier app id still reaches it.</p> }}
                            >
                                Rotate key pair…
                            </Act>
                            {app.earlier_public_keys.length > 0 && (
                                <Table
                                    label="Earlier app ids"
                                    rows={app.earlier_public_keys}
                                    keyOf={(key) => key}
                                    columns={[
                                        { head: "Earlier app id", main: true, of: (key) => <Key value={key} /> },
                                        {
                                            head: "Decide",
                                            of: (key) => (
                                                <Act
                                                    small
                                                    kind="danger"
                                                    act={async () => {
                                                        await change("DELETE", path`/v1/apps/${id}/earlier-public-keys/${key}`);
                                                        asked.again();
                                                    }}
                                                    confirm={{ title: "Retire this key?", yes: "Retire it for good", body: <p>Whatever is published to it from now on is refused. What is queued already is delivered.</p> }}
                                                >
                                                    Retire…
                                                </Act>
                                            ),
                                        },
                                    ]}
                                />
                            )}
                        </Section>
                        )}
                        {full && (
                        <Section title="Disable or delete">
                            <div class="actions">
                                {app.enabled ? (
                                    <Act
                                        act={async () => {
                                            await change("POST", path`/v1/apps/${id}/disable`);
                                            asked.again();
                                        }}
                                        confirm={{ title: `Disable ${app.name}?`, yes: "Disable it", body: <p>Its sessions end at once, and it cannot log in. What is published to it waits until it is enabled again.</p> }}
                                    >
                                        Disable…
                                    </Act>
                                ) : (
                                    <Act
                                        act={async () => {
                                            await change("POST", path`/v1/apps/${id}/enable`);
                                            asked.again();
                                        }}
                                    >
                                        Enable
                                    </Act>
                                )}
                                <Act
                                    kind="danger"
                                    act={async () => {
                                        await change("DELETE", path`/v1/apps/${id}`);
                                        go(to("apps"));
                                    }}
                                    confirm={{ title: `Delete ${app.name}?`, yes: "Delete it for good", body: <p>Its {plural(app.sessions, "session")} end, and everything that was published to it is gone, dead letters included. What it published stays with those it was for.</p> }}
                                >
                                    Delete…
                                </Act>
                            </div>
                        </Section>
                        )}
                    </>
                )}
            </Shown>
        </Page>
    );
}

function Grants({ app, again }: { app: App; again: () => void }) {
    const [name, setName] = useState("");
    const [may, setMay] = useState<May>({ publish: true, subscribe: true });
    const set = (where: string, may: May) => async () => {
        await change("PUT", where, may);
        again();
    };
    const flip = (of: "publish" | "subscribe") => ({ ...app.rights, [of]: !app.rights[of] });
    const rights = path`/v1/apps/${app.id}/rights`;
    const now = app.grants.find((grant) => grant.event === name.trim())?.rights ?? app.rights;
    const taken = (["publish", "subscribe"] as const).filter((right) => now[right] && !may[right]);
    return (
        <Section title="Rights" about="What it may do with every event name, and with single ones.">
            <div class="row">
                {(["publish", "subscribe"] as const).map((right) => (
                    <span class="right">
                        <Tag kind={app.rights[right] ? "good" : undefined}>{app.rights[right] ? `may ${right}` : `may not ${right}`}</Tag>
                        <Act
                            small
                            act={set(rights, flip(right))}
                            confirm={app.rights[right] ? { title: `Take the right to ${right} from ${app.name}?`, yes: "Take it", body: <p>This holds at once, for every event name without a grant of its own.{right === "subscribe" ? " Sessions that are subscribed to such a name end." : ""}</p> } : undefined}
                        >
                            {app.rights[right] ? "Take…" : "Give"}
                        </Act>
                    </span>
                ))}
            </div>
            {app.grants.length > 0 && (
                <Table
                    label="Grants"
                    rows={app.grants}
                    keyOf={(grant) => grant.event}
                    columns={[
                        { head: "Event name", main: true, of: (grant) => <a href={to("names", grant.event)}>{grant.event}</a> },
                        { head: "May", of: (grant) => <Rights may={grant.rights} /> },
                        {
                            head: "Decide",
                            of: (grant) => (
                                <Act
                                    small
                                    kind="danger"
                                    act={async () => {
                                        await change("DELETE", path`/v1/apps/${app.id}/grants/${grant.event}`);
                                        again();
                                    }}
                                    confirm={{ title: `Take the grant for ${grant.event} back?`, yes: "Take it back", body: <p>What {app.name} may do with every event name holds for this one again, at once. If that is less, sessions that are subscribed to it end.</p> }}
                                >
                                    Take back…
                                </Act>
                            ),
                        },
                    ]}
                />
            )}
            <IfFull>
            <details>
                <summary>Say what it may do with one event name</summary>
                <form class="filters">
                    <Field label="Event name" value={name} onInput={(event) => setName(event.currentTarget.value)} />
                    <Check label="publish" checked={may.publish} onCheck={(publish) => setMay({ ...may, publish })} />
                    <Check label="subscribe" checked={may.subscribe} onCheck={(subscribe) => setMay({ ...may, subscribe })} />
                    <Act
                        submit
                        disabled={!name.trim()}
                        act={set(path`/v1/apps/${app.id}/grants/${name.trim()}`, may)}
                        confirm={
                            taken.length
                                ? {
                                      title: `Take the right to ${taken.join(" and to ")} ${name.trim()} from ${app.name}?`,
                                      yes: "Take it",
                                      body: <p>This holds at once.{taken.includes("subscribe") ? " Sessions that are subscribed to it end." : ""}</p>,
                                  }
                                : undefined
                        }
                    >
                        {taken.length ? "Set the grant…" : "Set the grant"}
                    </Act>
                </form>
            </details>
            </IfFull>
        </Section>
    );
}
