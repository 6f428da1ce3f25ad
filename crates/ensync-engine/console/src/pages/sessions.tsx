import { type Session, type SessionDetails, change, path, query, useAsk } from "../api/client";
import { type Route, go, to, within } from "../route";
import { bytes, count, plural } from "../ui/format";
import { Act, Empty, Facts, NoMore, Page, Pager, Section, Shown, Table, Tag, Time } from "../ui/parts";

const PAGE = 50;
const TRANSPORTS: Record<string, string> = { grpc: "gRPC", websocket: "WebSocket", ws: "WebSocket", local: "in this process" };
const transport = (name: string): string => TRANSPORTS[name] ?? name;

export function Sessions({ route }: { route: Route }) {
    const [app, after] = [route.query.get("app") ?? "", route.query.get("after") ?? ""];
    const asked = useAsk<{ sessions: Session[]; next: string | null }>(`/v1/sessions${query({ app, after, limit: PAGE })}`);
    return (
        <Page title="Connections" lead={app ? <>Sessions of one app. <a href={to("sessions")}>Show all</a></> : "Clients that are logged in, in the order in which they came."}>
            <Shown asked={asked}>
                {({ sessions, next }) =>
                    sessions.length === 0 && after ? (
                        <NoMore first={within(route, { after: "" })} />
                    ) : sessions.length === 0 ? (
                        <Empty title={app ? "This app has no session." : "Nobody is logged in."}>
                            {app ? "Its programs are not running, or cannot reach the engine." : <>Programs log in with the app key of <a href="#/apps">an app</a>.</>}
                        </Empty>
                    ) : (
                        <>
                            <Table
                                label="Sessions"
                                rows={sessions}
                                keyOf={(session) => String(session.session)}
                                columns={[
                                    { head: "Session", main: true, of: (session) => <a href={to("sessions", String(session.session))}>{session.session}</a> },
                                    { head: "App", of: (session) => <a href={to("apps", session.app)}>{session.app_name}</a> },
                                    { head: "From", of: (session) => <code>{session.remote ?? "–"}</code> },
                                    { head: "Transport", of: (session) => transport(session.transport) },
                                    { head: "Since", of: (session) => <Time at={session.since} /> },
                                    { head: "Subscriptions", number: true, of: (session) => count(session.subscriptions) },
                                    { head: "Holds", number: true, of: (session) => (session.held ? `${count(session.held)}, ${bytes(session.held_bytes)}` : "0") },
                                ]}
                            />
                            <Pager
                                what={`${plural(sessions.length, "session")} on this page`}
                                shown={sessions.length}
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

export function OneSession({ route }: { route: Route }) {
    const number = route.parts[1] ?? "";
    const asked = useAsk<SessionDetails>(path`/v1/sessions/${number}`);
    return (
        <Page title={`Session ${number}`} back={["Connections", "#/sessions"]}>
            <Shown asked={asked}>
                {({ session, subscriptions }) => (
                    <>
                        <Section
                            title="Who it is"
                            actions={
                                <Act
                                    kind="danger"
                                    act={async () => {
                                        await change("DELETE", path`/v1/sessions/${number}`);
                                        go(to("sessions"));
                                    }}
                                    confirm={{ title: `End session ${number}?`, yes: "End it", body: <p>The {plural(session.held, "event")} that it holds go back to their queues. Its client may log in again at once; to keep it out, <a href={to("apps", session.app)}>disable its app</a>.</p> }}
                                >
                                    End…
                                </Act>
                            }
                        >
                            <Facts
                                of={[
                                    ["App", <a href={to("apps", session.app)}>{session.app_name}</a>],
                                    ["From", <code>{session.remote ?? "this process"}</code>],
                                    ["Transport", transport(session.transport)],
                                    ["Since", <Time at={session.since} />],
                                    ["Holds", `${plural(session.held, "event")}, ${bytes(session.held_bytes)}`],
                                ]}
                            />
                        </Section>
                        <Section title="Subscriptions">
                            {subscriptions.length === 0 ? (
                                <Empty title="It is subscribed to nothing.">It may publish only.</Empty>
                            ) : (
                                <Table
                                    label="Subscriptions"
                                    rows={subscriptions}
                                    keyOf={(subscription) => subscription.event}
                                    columns={[
                                        { head: "Event name", main: true, of: (subscription) => <a href={to("queues", session.app, subscription.event)}>{subscription.event}</a> },
                                        { head: "Takes events", of: (subscription) => (subscription.active ? <Tag kind="good">yes</Tag> : <Tag kind="warn">{subscription.paused ? "paused" : "no more"}</Tag>) },
                                        { head: "Holds", number: true, of: (subscription) => (subscription.held ? `${count(subscription.held)}, ${bytes(subscription.held_bytes)}` : "0") },
                                    ]}
                                />
                            )}
                        </Section>
                    </>
                )}
            </Shown>
        </Page>
    );
}
