import { useState } from "preact/hooks";
import { type EventDetails, change, get, path, useAsk } from "../api/client";
import { readSecretKey } from "../crypto/keys";
import { type Opened, open } from "../crypto/open";
import { type Route, go, to } from "../route";
import { bytes, plural, when } from "../ui/format";
import { Act, Copy, Empty, Facts, Field, Key, Notice, Page, Section, Shown, State, Tag, Time } from "../ui/parts";

export function FindEvent() {
    const [id, setId] = useState("");
    return (
        <Page title="Find an event" lead="By the id that the engine gave it: what publishing answers, and what a delivery names.">
            <form
                class="filters"
                onSubmit={(event) => {
                    event.preventDefault();
                    if (id.trim()) go(to("event", id.trim()));
                }}
            >
                <Field label="Event's id" value={id} autoFocus onInput={(event) => setId(event.currentTarget.value)} />
                <button class="primary">Find</button>
            </form>
            <Empty title="An event is found whether it waits, is settled or is a dead letter.">
                What is settled is kept for as long as the engine's retention says. Ids are on the pages of <a href="#/queues">queues</a> and <a href="#/letters">dead letters</a>.
            </Empty>
        </Page>
    );
}

const SUITES: Record<string, string> = { nacl: "NaCl box, for one recipient", "nacl-hybrid": "NaCl box, for several recipients", "aes-256-gcm": "AES-256-GCM, sealed (HPKE)" };

export function OneEvent({ route }: { route: Route }) {
    const id = route.parts[1] ?? "";
    const asked = useAsk<EventDetails>(path`/v1/lookup/${id}`);
    return (
        <Page title="Event" back={["Find an event", "#/event"]} lead={<code class="wrap">{id}</code>}>
            <Shown asked={asked}>
                {(found) => (
                    <>
                        <Section title="What it is" actions={found.standing.state === "dead" && <Decide found={found} again={asked.again} />}>
                            <Facts
                                of={[
                                    ["State", <State of={found.standing.state} />],
                                    ["Event name", <a href={to("names", found.standing.event)}>{found.standing.event}</a>],
                                    ["From", found.sender_app ? <a href={to("apps", found.sender_app)}>{found.sender_name ?? "an app that is gone"}</a> : "–"],
                                    ["To", <a href={to("apps", found.standing.app)}>{found.app_name || "an app that is gone"}</a>],
                                    ["Queue", <a href={to("queues", found.standing.app, found.standing.event)}>show</a>],
                                    ["Sealed with", found.suite ? SUITES[found.suite] : found.payload_bytes === null ? "–" : "no envelope that is known"],
                                    ["Sealed payload", found.payload_bytes === null ? "–" : bytes(found.payload_bytes ?? 0)],
                                    ["Inside", found.plaintext_bytes == null ? "–" : bytes(found.plaintext_bytes)],
                                    ["Kept", found.standing.in_memory ? "in memory only" : ["acked", "expired", "dropped", "settled"].includes(found.standing.state) ? "as long as the engine's retention says" : "in the log"],
                                ]}
                            />
                        </Section>
                        <Life found={found} />
                        <Section title="Metadata" about="What travels in clear beside the payload.">
                            {found.metadata_text == null ? <p class="hint">The log does not have it any more.</p> : /^\s*\{\s*\}\s*$/.test(found.metadata_text) ? <p class="hint">There is none.</p> : <pre>{laidOut(found.metadata_text)}</pre>}
                        </Section>
                        {found.payload_bytes !== null && <Decrypt key={id} id={id} found={found} />}
                        {found.recipient && (
                            <Section title="Keys">
                                <Facts
                                    of={[
                                        ["Sealed for", <Key value={found.recipient} copy />],
                                        ["Its publisher's key then", found.sender ? <Key value={found.sender} copy /> : "–"],
                                        ["Idempotency key", found.idempotency_key ? <code class="wrap">{found.idempotency_key}</code> : "none"],
                                    ]}
                                />
                            </Section>
                        )}
                    </>
                )}
            </Shown>
        </Page>
    );
}

function Decide({ found, again }: { found: EventDetails; again: () => void }) {
    const settle = (what: string) => async () => {
        await change("POST", `/v1/dead-letters/${what}`, { id: found.standing.id });
        again();
    };
    return (
        <>
            <Act act={settle("requeue")}>Requeue</Act>
            <Act kind="danger" act={settle("drop")} confirm={{ title: "Drop this event?", yes: "Drop for good", body: <p>The event <code>{found.standing.id}</code> is gone for good, and nobody is told.</p> }}>
                Drop…
            </Act>
        </>
    );
}

/** What is known of its life, in order. */
function Life({ found }: { found: EventDetails }) {
    const { standing } = found;
    const steps: [string, preact.ComponentChildren, number | null][] = [];
    steps.push(["Accepted", <>from {found.sender_name ?? "an app"}, for {found.app_name || "an app"}</>, standing.accepted_at ?? null]);
    if (standing.deliveries) {
        const back = standing.handed_back ? ` (${standing.handed_back} of them do not count: sessions ended first)` : "";
        steps.push([`Delivered ${standing.deliveries === 1 ? "once" : `${standing.deliveries} times`}`, back, null]);
    } else if (standing.deliveries === 0) steps.push(["Not delivered yet", "", null]);
    switch (standing.state) {
        case "in_flight":
            steps.push([
                "With a client",
                <>
                    {standing.session ? <a href={to("sessions", String(standing.session))}>session {standing.session}</a> : "on its way to the dead letters"}
                    {standing.until && `, which may settle it until ${when(standing.until)}`}
                </>,
                null,
            ]);
            break;
        case "ready":
            steps.push(["Waits for a client that takes it", "", null]);
            break;
        case "deferred":
            steps.push(["Deferred", standing.until ? `until ${when(standing.until)}` : "", null]);
            break;
        case "dead":
            steps.push(["Became a dead letter", <span class="reason">{standing.reason || "without a reason"}</span>, standing.dead_at ?? null]);
            break;
        case "acked":
            steps.push(["Acknowledged by its recipient", "", null]);
            break;
        case "expired":
            steps.push(["Expired before anybody acknowledged it", "", standing.expires_at ?? null]);
            break;
        case "dropped":
            steps.push(["Given up by an administrator", "", null]);
            break;
        default:
            steps.push(["Settled", "so long ago that it is not known how", null]);
    }
    if (standing.expires_at && ["ready", "in_flight", "deferred"].includes(standing.state)) steps.push(["Will be of no use any more", "", standing.expires_at]);
    return (
        <Section title="Its life">
            <ol class="life">
                {steps.map(([what, detail, at]) => (
                    <li>
                        <b>{what}</b> {detail}
                        {at && (
                            <div class="hint">
                                {when(at)}, <Time at={at} />
                            </div>
                        )}
                    </li>
                ))}
            </ol>
        </Section>
    );
}

/** The key stays in this page's memory, and is gone when one leaves the page. */
function Decrypt({ id, found }: { id: string; found: EventDetails }) {
    const [key, setKey] = useState("");
    const [state, set] = useState<{ error?: string; opened?: Opened; busy?: boolean }>({});
    const run = async (event: Event) => {
        event.preventDefault();
        set({ busy: true });
        try {
            const pair = readSecretKey(key);
            const { payload } = await get<EventDetails>(path`/v1/lookup/${id}` + "?payload=true");
            if (!payload) throw new Error("The engine does not have the payload of this event any more.");
            set({ opened: open(payload, pair) });
            setKey("");
        } catch (error) {
            set({ error: (error as Error).message });
        }
    };
    const { opened } = state;
    return (
        <Section title="Payload" about="It is sealed, and the engine cannot open it. You can, here in the browser: the key does not leave this page, and is forgotten when it has opened the event.">
            <form class="filters" onSubmit={(event) => void run(event)}>
                {/* No password, by its type: browsers offer to save those, and to send them to other machines. */}
                <Field secret label={`Secret key of ${found.app_name || "its recipient"}`} class="masked" autocomplete="off" autocapitalize="off" value={key} onInput={(event) => setKey(event.currentTarget.value)} error={state.error} />
                <button disabled={!key.trim() || state.busy}>{state.busy ? "Opening…" : "Decrypt"}</button>
            </form>
            {opened && <Plain opened={opened} found={found} />}
        </Section>
    );
}

function Plain({ opened, found }: { opened: Opened; found: EventDetails }) {
    const text = readable(opened.plaintext);
    const known = opened.sender && opened.sender === found.sender;
    const misdirected = opened.header !== null && opened.header.event !== found.standing.event;
    return (
        <>
            {misdirected ? (
                <Notice kind="bad">
                    <p>It was sealed for the event name {opened.header?.event}, not for the one under which it was published: the SDKs refuse it.</p>
                </Notice>
            ) : opened.sender ? (
                <Notice kind={known ? "good" : "warn"}>
                    {known ? (
                        <p>
                            Sender verified: it was sealed with the key of {found.sender_name ?? "its publisher"}
                            {opened.signed && ", and signed"}.
                        </p>
                    ) : (
                        <p>It was sealed with the key {opened.sender}, which is not the one that its publisher had with this engine: the SDKs refuse it.</p>
                    )}
                </Notice>
            ) : (
                <Notice kind="info">
                    <p>Sender not verified: this envelope does not say who sealed it. Who published it is what the engine says.</p>
                </Notice>
            )}
            {text === null ? (
                <p>{plural(opened.plaintext.length, "byte")} that are not text.</p>
            ) : (
                <div class="plain">
                    <pre aria-label="Decrypted payload">{text}</pre>
                    <Copy text={text} />
                </div>
            )}
            {opened.header && (
                <p class="hint">
                    Sealed {when(opened.header.created)}, as its sender's clock says. <Tag>{opened.header.id}</Tag>
                </p>
            )}
        </>
    );
}

function readable(bytes: Uint8Array): string | null {
    try {
        return laidOut(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch {
        return null;
    }
}

/** JSON in lines, if that changes nothing else: numbers that JavaScript cannot hold would come out as others. */
export function laidOut(text: string): string {
    try {
        const laid = JSON.stringify(JSON.parse(text), null, 2);
        return laid.replace(/\s/g, "") === text.replace(/\s/g, "") ? laid : text;
    } catch {
        return text;
    }
}

