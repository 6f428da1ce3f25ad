import { useEffect, useState } from "preact/hooks";
import { type Letter, change, query, useAsk } from "../api/client";
import { type Route, go, to, within } from "../route";
import { count, plural } from "../ui/format";
import { Act, Empty, Field, Notice, Page, Pager, Select, Shown, Table, Time } from "../ui/parts";

const PAGE = 50;
const AGES: [string, string][] = [
    ["", "At any time"],
    ["3600000", "In the last hour"],
    ["86400000", "In the last day"],
    ["604800000", "In the last week"],
];

export function Letters({ route }: { route: Route }) {
    const word = (name: string) => route.query.get(name) ?? "";
    const filter = { event: word("event"), app: word("app"), reason: word("reason") };
    const age = word("age");
    // Fixed while one looks, so that pages belong together.
    const [opened] = useState(() => Date.now());
    const since = age ? opened - Number(age) : undefined;
    const filtered = Boolean(filter.event || filter.app || filter.reason || age);
    const asked = useAsk<{ dead_letters: Letter[]; next: string | null }>(`/v1/dead-letters${query({ ...filter, since, after: word("after"), limit: PAGE })}`);
    const [typed, setTyped] = useState({ ...filter, age });
    const [chosen, setChosen] = useState<Set<string>>(new Set());
    const [done, setDone] = useState<string | null>(null);
    useEffect(() => {
        setTyped({ ...filter, age });
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
    const all = filtered ? Object.fromEntries(Object.entries({ ...filter, since }).filter(([, value]) => value)) : { all: true };
    const what = filtered ? "all that match the filter" : "all dead letters of this engine";
    return (
        <Page title="Dead letters" lead="Events that nobody could use: a client discarded them, or they were delivered too often. They wait for your decision.">
            <form
                class="filters"
                onSubmit={(submitted) => {
                    submitted.preventDefault();
                    const words = Object.fromEntries(Object.entries(typed).map(([name, value]) => [name, value.trim()]));
                    go(within(route, { ...words, after: "" }));
                }}
            >
                <Field label="Event name" value={typed.event} onInput={(event) => setTyped({ ...typed, event: event.currentTarget.value })} />
                <Field label="Recipient's id" value={typed.app} onInput={(event) => setTyped({ ...typed, app: event.currentTarget.value })} />
                <Field label="Reason holds" value={typed.reason} onInput={(event) => setTyped({ ...typed, reason: event.currentTarget.value })} />
                <Select label="Died" value={typed.age} options={AGES} onValue={(age) => setTyped({ ...typed, age })} />
                <button>Filter</button>
                {filtered && (
                    <a class="button" href={to("letters")}>
                        Show all
                    </a>
                )}
            </form>
            {done && <Notice kind="good">{done}</Notice>}
            <Shown asked={asked}>
                {({ next }) =>
                    letters.length === 0 && !next ? (
                        filtered ? (
                            <Empty title="No dead letter matches.">
                                <a href={to("letters")}>Show all dead letters</a>
                            </Empty>
                        ) : (
                            <Empty title="There are no dead letters.">Every event found somebody who could use it.</Empty>
                        )
                    ) : (
                        <>
                            <div class="toolbar">
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
                                        confirm={{ title: `Queue ${what} again?`, yes: "Queue all again", body: <p>This takes {what}, also those on other pages. Their clients get them once more, as if for the first time.</p> }}
                                    >
                                        {filtered ? "Requeue all that match…" : "Requeue all…"}
                                    </Act>
                                    <Act
                                        small
                                        kind="danger"
                                        act={settle("drop", all)}
                                        confirm={{ title: `Drop ${what}?`, yes: "Drop all for good", body: <p>This takes {what}, also those on other pages. They are gone for good, and nobody is told.</p> }}
                                    >
                                        {filtered ? "Drop all that match…" : "Drop all…"}
                                    </Act>
                                </span>
                            </div>
                            <Table
                                label="Dead letters"
                                rows={letters}
                                keyOf={(letter) => letter.id}
                                columns={[
                                    {
                                        head: "",
                                        of: (letter) => (
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
                                    },
                                    { head: "Event", main: true, of: (letter) => <a href={to("event", letter.id)}>{letter.event}</a> },
                                    { head: "Reason", of: (letter) => <span class="reason">{letter.reason || "none given"}</span> },
                                    { head: "Recipient", of: (letter) => <a href={to("apps", letter.app)}>{letter.app_name || "gone"}</a> },
                                    { head: "Died", of: (letter) => <Time at={letter.at} /> },
                                    { head: "Deliveries", number: true, of: (letter) => count(letter.deliveries) },
                                    {
                                        head: "Decide",
                                        of: (letter) => (
                                            <span class="actions">
                                                <Act small act={settle("requeue", { id: letter.id })}>
                                                    Requeue
                                                </Act>
                                                <Act
                                                    small
                                                    kind="danger"
                                                    act={settle("drop", { id: letter.id })}
                                                    confirm={{ title: "Drop this event?", yes: "Drop for good", body: <p>The event of {letter.event} for {letter.app_name} is gone for good, and nobody is told.</p> }}
                                                >
                                                    Drop…
                                                </Act>
                                            </span>
                                        ),
                                    },
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
