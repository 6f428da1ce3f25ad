import { useContext, useEffect, useState } from "preact/hooks";
import { type App, type Info, type Letter, change, get, query, useAsk } from "../api/client";
import { fromBase64 } from "../crypto/bytes";
import { type Route, go, to, within } from "../route";
import { count, plural, when } from "../ui/format";
import { Access, Act, Empty, Field, NoMore, Notice, Page, Pager, Select, Shown, Table, Time } from "../ui/parts";

const PAGE = 50;
const AGES: [string, string][] = [
    ["", "At any time"],
    ["3600000", "In the last hour"],
    ["86400000", "In the last day"],
    ["604800000", "In the last week"],
];

const MANY = 1_000;

/** Which letters a filter is about, in words, and how many those are now. */
function Which(props: { filter: { event: string; app: string; reason: string }; since: string; recipient?: string }) {
    const { event, app, reason } = props.filter;
    const asked = useAsk<{ dead_letters: Letter[]; next: string | null }>(`/v1/dead-letters${query({ event, app, reason, since: props.since, limit: MANY })}`, 0);
    const words = [
        event && `of ${event}`,
        app && `for ${props.recipient || app}`,
        reason && `with a reason that holds “${reason}”`,
        props.since && `that died since ${when(Number(props.since))}`,
    ].filter(Boolean);
    const { data } = asked;
    const number = !data ? (asked.error ? "an unknown number" : "…") : data.next ? `more than ${count(data.dead_letters.length)}` : count(data.dead_letters.length);
    return (
        <p>
            <b>
                {[number === "1" ? "There is 1 dead letter now" : `There are ${number} dead letters now`, ...words].join(", ")}.
            </b>
        </p>
    );
}

export function Letters({ route }: { route: Route }) {
    const word = (name: string) => route.query.get(name) ?? "";
    const filter = { event: word("event"), app: word("app"), reason: word("reason") };
    // A moment, so that all pages, and whatever is done to them, are about the same letters. It is the engine's clock that tells it.
    const since = word("since");
    const filtered = Boolean(filter.event || filter.app || filter.reason || since);
    const asked = useAsk<{ dead_letters: Letter[]; next: string | null }>(`/v1/dead-letters${query({ ...filter, since, after: word("after"), limit: PAGE })}`);
    const [typed, setTyped] = useState({ ...filter, age: since });
    const [failed, setFailed] = useState<string | null>(null);
    const [chosen, setChosen] = useState<Set<string>>(new Set());
    const [done, setDone] = useState<string | null>(null);
    const full = useContext(Access) === "full";
    useEffect(() => {
        setTyped({ ...filter, age: since });
        setFailed(null);
        setChosen(new Set());
    }, [route]);
    const letters = asked.data?.dead_letters ?? [];
    const picked = letters.filter((letter) => chosen.has(letter.id));
    const settle = (what: "requeue" | "drop", which: object) => async () => {
        const { count: number } = await change<{ count: number }>("POST", `/v1/dead-letters/${what}`, which);
        setDone(what === "requeue" ? `${plural(number, "event is", "events are")} queued again.` : `${plural(number, "event is", "events are")} gone.`);
        setChosen(new Set());
        asked.again();
    };
    const all = filtered ? { ...Object.fromEntries(Object.entries(filter).filter(([, value]) => value)), ...(since ? { since: Number(since) } : {}) } : { all: true };
    const what = filtered ? "all that match the filter" : "all dead letters of this engine";
    const which = <Which filter={filter} since={since} recipient={letters[0]?.app_name} />;
    const apply = async () => {
        let from = typed.age;
        if (AGES.some(([age]) => age === from) && from) {
            try {
                const { now } = await get<Info>("/v1/info");
                if (now == null) throw new Error("The engine does not say what time it is. Try again.");
                from = String(now - Number(from));
            } catch (error) {
                return setFailed((error as Error).message);
            }
        }
        let app = typed.app.trim();
        if (app && fromBase64(app)?.length !== 32) {
            // A name, which the address does not say, for another app may have it tomorrow.
            try {
                const { apps } = await get<{ apps: App[] }>(`/v1/apps${query({ name: app, limit: 2 })}`);
                if (apps.length !== 1) return setFailed(apps.length ? `Several apps have the name ${app}: give the app id.` : `No app has the name ${app}.`);
                app = apps[0]?.id ?? "";
            } catch (error) {
                return setFailed((error as Error).message);
            }
        }
        const words = { event: typed.event.trim(), app, reason: typed.reason.trim() };
        go(within(route, { ...words, since: from, age: "", after: "" }));
    };
    return (
        <Page title="Dead letters" lead="Events that nobody could use: a client discarded them, or they were delivered too often. They wait for your decision.">
            <form
                class="filters"
                onSubmit={(submitted) => {
                    submitted.preventDefault();
                    void apply();
                }}
            >
                <Field label="Event name" value={typed.event} onInput={(event) => setTyped({ ...typed, event: event.currentTarget.value })} />
                <Field label="Recipient's name or app id" value={typed.app} onInput={(event) => setTyped({ ...typed, app: event.currentTarget.value })} />
                <Field label="Reason holds" value={typed.reason} onInput={(event) => setTyped({ ...typed, reason: event.currentTarget.value })} />
                <Select label="Died" value={typed.age} options={since ? [...AGES, [since, `Since ${when(Number(since))}`]] : AGES} onValue={(age) => setTyped({ ...typed, age })} />
                <button>Filter</button>
                {filtered && (
                    <a class="button" href={to("letters")}>
                        Show all
                    </a>
                )}
            </form>
            {failed && <Notice kind="bad">{failed}</Notice>}
            {done && <Notice kind="good">{done}</Notice>}
            <Shown asked={asked}>
                {({ next }) =>
                    letters.length === 0 && !next ? (
                        word("after") ? (
                            <NoMore first={within(route, { after: "" })} />
                        ) : filtered ? (
                            <Empty title="No dead letter matches.">
                                <a href={to("letters")}>Show all dead letters</a>
                            </Empty>
                        ) : (
                            <Empty title="There are no dead letters.">An event becomes one when a client discards it, or when it was delivered too often.</Empty>
                        )
                    ) : (
                        <>
                            {full && <div class="toolbar">
                                <span class="hint">{picked.length ? `${count(picked.length)} chosen` : "Choose some, or deal with all at once"}</span>
                                <span class="actions">
                                    {picked.length > 0 && (
                                        <>
                                            <Act
                                                small
                                                act={settle("requeue", { ids: picked.map((letter) => letter.id) })}
                                                confirm={{ title: `Queue ${plural(picked.length, "event")} again?`, yes: "Queue again", body: <p>Their clients get them once more, as if for the first time.</p> }}
                                            >
                                                Requeue chosen…
                                            </Act>
                                            <Act
                                                small
                                                kind="danger"
                                                act={settle("drop", { ids: picked.map((letter) => letter.id) })}
                                                confirm={{ title: `Drop ${plural(picked.length, "event")}?`, yes: "Drop for good", body: <p>They are gone for good, and nobody is told.</p> }}
                                            >
                                                Drop chosen…
                                            </Act>
                                        </>
                                    )}
                                    <Act
                                        small
                                        act={settle("requeue", all)}
                                        confirm={{ title: `Queue ${what} again?`, yes: "Queue all again", body: <><p>This takes {what}, also those on other pages. Their clients get them once more, as if for the first time.</p>{which}</> }}
                                    >
                                        {filtered ? "Requeue all that match…" : "Requeue all…"}
                                    </Act>
                                    <Act
                                        small
                                        kind="danger"
                                        act={settle("drop", all)}
                                        confirm={{ title: `Drop ${what}?`, yes: "Drop all for good", body: <><p>This takes {what}, also those on other pages. They are gone for good, and nobody is told.</p>{which}</> }}
                                    >
                                        {filtered ? "Drop all that match…" : "Drop all…"}
                                    </Act>
                                </span>
                            </div>}
                            <Table
                                label="Dead letters"
                                rows={letters}
                                keyOf={(letter) => letter.id}
                                columns={[
                                    ...(full ? [{
                                        head: "",
                                        headed: (
                                            <input
                                                type="checkbox"
                                                aria-label="Choose all on this page"
                                                checked={picked.length === letters.length}
                                                onChange={(event) => setChosen(new Set(event.currentTarget.checked ? letters.map((letter) => letter.id) : []))}
                                            />
                                        ),
                                        of: (letter: Letter) => (
                                            <input
                                                type="checkbox"
                                                aria-label={`Choose event ${letter.id}`}
                                                checked={chosen.has(letter.id)}
                                                onChange={(event) => {
                                                    const now = new Set(chosen);
                                                    if (event.currentTarget.checked) now.add(letter.id);
                                                    else now.delete(letter.id);
                                                    setChosen(now);
                                                }}
                                            />
                                        ),
                                    }] : []),
                                    {
                                        head: "Event",
                                        main: true,
                                        of: (letter) => (
                                            <>
                                                <a href={to("event", letter.id)}>{letter.event}</a>
                                                <div class="hint">
                                                    <code>{letter.id}</code>
                                                </div>
                                            </>
                                        ),
                                    },
                                    { head: "Reason", of: (letter) => <span class="reason">{letter.reason || "none given"}</span> },
                                    { head: "Recipient", of: (letter) => <a href={to("apps", letter.app)}>{letter.app_name || "gone"}</a> },
                                    { head: "Died", of: (letter) => <Time at={letter.at} /> },
                                    { head: "Deliveries", number: true, of: (letter) => count(letter.deliveries) },
                                    ...(full ? [{
                                        head: "Decide",
                                        of: (letter: Letter) => (
                                            <span class="actions">
                                                <Act small act={settle("requeue", { id: letter.id })}>
                                                    Requeue
                                                </Act>
                                                <Act
                                                    small
                                                    kind="danger"
                                                    act={settle("drop", { id: letter.id })}
                                                    confirm={{ title: "Drop this event?", yes: "Drop for good", body: <p>The event <code>{letter.id}</code> of {letter.event} for {letter.app_name} is gone for good, and nobody is told.</p> }}
                                                >
                                                    Drop…
                                                </Act>
                                            </span>
                                        ),
                                    }] : []),
                                ]}
                            />
                            <Pager
                                what={`${plural(letters.length, "dead letter")} on this page, the oldest event of each queue first`}
                                shown={letters.length}
                                first={word("after") ? within(route, { after: "" }) : null}
                                next={next && within(route, { after: next })}
                            />
                        </>
                    )
                }
            </Shown>
        </Page>
    );
}
