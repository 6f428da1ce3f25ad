import { useEffect, useState } from "preact/hooks";
import { type Queue, type Standings, change, path, query, useAsk } from "../api/client";
import { type Route, go, to, within } from "../route";
import { bytes, count, plural } from "../ui/format";
import { Act, Empty, Facts, Field, Key, NoMore, Notice, Page, Pager, Section, ShortKey, Shown, State, Table, Time } from "../ui/parts";

const PAGE = 50;

export function Queues({ route }: { route: Route }) {
    const [event, after] = [route.query.get("event") ?? "", route.query.get("after") ?? ""];
    const asked = useAsk<{ queues: Queue[]; next: string | null }>(`/v1/queues${query({ event, after, limit: PAGE })}`);
    const [typed, setTyped] = useState(event);
    useEffect(() => setTyped(event), [event]);
    return (
        <Page title="Queues" lead="Each recipient has one for each event name that it was ever used with.">
            <form
                class="filters"
                onSubmit={(submitted) => {
                    submitted.preventDefault();
                    go(within(route, { event: typed.trim(), after: "" }));
                }}
            >
                <Field label="Event name" value={typed} onInput={(event) => setTyped(event.currentTarget.value)} />
                <button>Filter</button>
                {event && (
                    <a class="button" href={to("queues")} onClick={() => setTyped("")}>
                        Show all
                    </a>
                )}
            </form>
            <Shown asked={asked}>
                {({ queues, next }) =>
                    queues.length === 0 ? (
                        after ? (
                            <NoMore first={within(route, { after: "" })} />
                        ) : event ? (
                            <Empty title={`No queue of ${event} was ever used.`}>
                                Check the name, or <a href={to("queues")}>show all queues</a>.
                            </Empty>
                        ) : (
                            <Empty title="There are no queues yet.">
                                One begins with the first event for a recipient, or the first subscription. <a href="#/apps">See which apps there are</a>.
                            </Empty>
                        )
                    ) : (
                        <>
                            <Table
                                label="Queues"
                                rows={queues}
                                keyOf={(queue) => `${queue.app} ${queue.event}`}
                                columns={[
                                    { head: "Event name", main: true, of: (queue) => <a href={to("queues", queue.app, queue.event)}>{queue.event}</a> },
                                    { head: "Recipient", of: (queue) => <a href={to("apps", queue.app)}>{queue.app_name || <ShortKey value={queue.app} />}</a> },
                                    { head: "Ready", number: true, of: (queue) => count(queue.ready) },
                                    { head: "With clients", number: true, of: (queue) => count(queue.in_flight) },
                                    { head: "Deferred", number: true, of: (queue) => count(queue.deferred) },
                                    { head: "Dead letters", number: true, of: (queue) => (queue.dead ? <b class="bad-text">{count(queue.dead)}</b> : "0") },
                                    { head: "Consumers", number: true, of: (queue) => (queue.consumers === 0 && queue.ready > 0 ? <b class="warn-text">none</b> : count(queue.consumers)) },
                                    { head: "Oldest", of: (queue) => (queue.oldest ? <Time at={queue.oldest} /> : "–") },
                                ]}
                            />
                            <Pager
                                what={`${plural(queues.length, "queue")} on this page`}
                                shown={queues.length}
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

const STATES: [string, string][] = [
    ["", "All"],
    ["ready", "Ready"],
    ["in_flight", "With clients"],
    ["deferred", "Deferred"],
    ["dead", "Dead letters"],
];

export function OneQueue({ route }: { route: Route }) {
    const [, app = "", event = ""] = route.parts;
    const [state, after] = [route.query.get("state") ?? "", route.query.get("after") ?? ""];
    const asked = useAsk<Queue>(path`/v1/queues/${app}/${event}`);
    const peek = useAsk<{ events: Standings[]; next: string | null }>(path`/v1/queues/${app}/${event}/events` + query({ state, after, limit: PAGE }));
    const [purged, setPurged] = useState<number | null>(null);
    return (
        <Page title={event} back={["Queues", "#/queues"]} lead={asked.data && <>What waits for {asked.data.app_name || "an app that is gone"}</>}>
            {purged !== null && <Notice kind="good">{plural(purged, "event was", "events were")} given up.</Notice>}
            <Shown asked={asked}>
                {(queue) => (
                    <Section
                        title="How it stands"
                        actions={
                            <Act
                                kind="danger"
                                disabled={queue.ready + queue.deferred === 0}
                                act={async () => {
                                    setPurged((await change<{ count: number }>("POST", path`/v1/queues/${app}/${event}/purge`)).count);
                                    asked.again();
                                    peek.again();
                                }}
                                confirm={{
                                    title: "Purge this queue?",
                                    yes: "Give them up",
                                    body: (
                                        <p>
                                            About {plural(queue.ready + queue.deferred, "event")} of {queue.event} for {queue.app_name} will be gone for good, and nobody is told. What is with clients
                                            now stays theirs, and dead letters stay.
                                        </p>
                                    ),
                                }}
                            >
                                Purge…
                            </Act>
                        }
                    >
                        <Facts
                            of={[
                                ["Ready", count(queue.ready)],
                                ["With clients", count(queue.in_flight)],
                                ["Deferred", count(queue.deferred)],
                                ["Dead letters", queue.dead ? <a href={`#/letters${query({ event, app })}`}>{count(queue.dead)}</a> : "0"],
                                ["Consumers", <a href={`#/sessions${query({ app })}`}>{count(queue.consumers)}</a>],
                                ["Oldest", queue.oldest ? <Time at={queue.oldest} /> : "–"],
                                ["Recipient", <a href={to("apps", queue.app)}>{queue.app_name || "gone"}</a>],
                                ["Event name", <a href={to("names", queue.event)}>{queue.event}</a>],
                            ]}
                        />
                        <h3>Since the engine started</h3>
                        <Facts
                            of={[
                                ["Published", count(queue.counters.published)],
                                ["Delivered", count(queue.counters.delivered)],
                                ["Of these, again", count(queue.counters.redelivered)],
                                ["Acknowledged", count(queue.counters.acked)],
                                ["Deferred", count(queue.counters.deferred)],
                                ["Died", count(queue.counters.dead)],
                                ["Expired", count(queue.counters.expired)],
                                ["Given up", count(queue.counters.dropped)],
                            ]}
                        />
                        <p class="hint">
                            Recipient's first app id <Key value={queue.app} copy />
                        </p>
                    </Section>
                )}
            </Shown>
            <Section title="Look inside" about="Nothing is delivered by looking. Payloads are sealed: a recipient's key opens them, on an event's own page.">
                <nav class="tabs" aria-label="Which events">
                    {STATES.map(([value, label]) => (
                        <a href={within(route, { state: value, after: "" })} aria-current={value === state ? "page" : undefined}>
                            {label}
                        </a>
                    ))}
                </nav>
                <Shown asked={peek}>
                    {({ events, next }) =>
                        events.length === 0 && !next && after ? (
                            <NoMore first={within(route, { after: "" })} />
                        ) : events.length === 0 && !next ? (
                            <Empty title={state ? "No event of this queue stands so." : "Nothing waits in this queue."}>Events that are settled are not in it any more.</Empty>
                        ) : (
                            <>
                                <Table
                                    label="Events"
                                    rows={events}
                                    keyOf={(event) => event.id}
                                    columns={[
                                        { head: "Event", main: true, of: (event) => <a href={to("event", event.id)}><code>{event.id}</code></a> },
                                        { head: "State", of: (event) => <State of={event.state} /> },
                                        { head: "Accepted", of: (event) => (event.accepted_at ? <Time at={event.accepted_at} /> : "–") },
                                        { head: "Until", of: (event) => (event.until ? <Time at={event.until} /> : "–") },
                                        { head: "Deliveries", number: true, of: (event) => count(event.deliveries ?? 0) },
                                        { head: "Size", number: true, of: (event) => bytes(event.bytes ?? 0) },
                                    ]}
                                />
                                <Pager
                                    what={`${plural(events.length, "event")} on this page, the oldest first`}
                                    shown={events.length}
                                    first={after ? within(route, { after: "" }) : null}
                                    next={next && within(route, { after: next })}
                                />
                            </>
                        )
                    }
                </Shown>
            </Section>
        </Page>
    );
}
