import { useEffect, useState } from "preact/hooks";
import { type EventName, Raw, change, path, query, useAsk } from "../api/client";
import { asText, readObject } from "../crypto/json";
import { secretIn } from "../crypto/secret";
import { type Route, go, to, within } from "../route";
import { plural, span } from "../ui/format";
import { Act, Area, Empty, Field, IfFull, NoMore, Page, Pager, Section, Shown, Table, Tag } from "../ui/parts";

const PAGE = 50;

export function Names({ route }: { route: Route }) {
    const after = route.query.get("after") ?? "";
    const asked = useAsk<{ events: EventName[]; next: string | null }>(`/v1/events${query({ after, limit: PAGE })}`);
    return (
        <Page
            title="Event names"
            lead="What events are about, such as shop/orders/created. A name may say what payloads look like, and how long they are of use."
            actions={
                <IfFull>
                    <a class="button primary" href="#/new-name">
                        New event name
                    </a>
                </IfFull>
            }
        >
            <Shown asked={asked}>
                {({ events, next }) =>
                    events.length === 0 && after ? (
                        <NoMore first={within(route, { after: "" })} />
                    ) : events.length === 0 ? (
                        <Empty title="No event name is registered yet.">
                            <a href="#/new-name">Register the first one</a>; apps can publish under it then.
                        </Empty>
                    ) : (
                        <>
                            <Table
                                label="Event names"
                                rows={events}
                                keyOf={(event) => event.name}
                                columns={[
                                    { head: "Name", main: true, of: (event) => <a href={to("names", event.name)}>{event.name}</a> },
                                    { head: "Schema", of: (event) => (event.schema ? plural(Object.keys(event.schema).length, "field") : <Tag>any payload</Tag>) },
                                    { head: "Time to live", of: (event) => (event.ttl_ms == null ? "default" : span(event.ttl_ms)) },
                                    { head: "Deliveries at most", number: true, of: (event) => event.max_deliveries ?? "default" },
                                    { head: "Time to settle", of: (event) => (event.ack_timeout_ms == null ? "default" : span(event.ack_timeout_ms)) },
                                    { head: "Queues", of: (event) => <a href={`#/queues${query({ event: event.name })}`}>show</a> },
                                ]}
                            />
                            <Pager
                                what={`${plural(events.length, "event name")} on this page`}
                                shown={events.length}
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

const TYPES = ["string", "integer", "int", "long", "double", "float", "number", "boolean", "bool", "object", "array", "null"];

/** What is wrong with a schema as it is typed; the engine checks it once more. */
export function checkSchema(text: string): { error: string | null; schema: Record<string, string> | null } {
    if (!text.trim()) return { error: null, schema: null };
    const { members, at, twice } = readObject(text);
    if (twice !== null) return { error: `The schema names ${shown(twice)} twice, ${place(text, at)}.`, schema: null };
    if (!members) {
        const isOther = /^\s*(?:\[|"|-?[0-9]|true|false|null)/.test(text);
        if (isOther) return { error: 'A schema is an object of fields and types, such as {"order": "string", "total": "double"}.', schema: null };
        return { error: `This is not JSON yet: it cannot be read on ${place(text, at)}.`, schema: null };
    }
    const schema: [string, string][] = [];
    for (const [field, value] of members) {
        const type = asText(value);
        if (type === null || !TYPES.includes(type.toLowerCase())) {
            return { error: `The type of ${shown(field)} is ${shown(type ?? value)}; it can be ${TYPES.join(", ")}.`, schema: null };
        }
        schema.push([field, type]);
    }
    // Of entries, for "__proto__" is a name like any other.
    return { error: null, schema: Object.fromEntries(schema) };
}

/** A text of somebody's in a message, as far as it is shown: one may have pasted a key. */
const shown = (text: string): string => (secretIn(text) ? "(not shown: a key)" : JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text));

function place(text: string, at: number): string {
    const lines = text.slice(0, at).split("\n");
    return `line ${lines.length}, column ${(lines.at(-1) ?? "").length + 1}`;
}

export interface Typed {
    schema: string;
    ttl: string;
    deliveries: string;
    timeout: string;
}

const seconds = (ms: number | null | undefined): string => (ms == null ? "" : String(ms / 1_000));
const millis = (text: string): number | null => (text.trim() === "" ? null : Math.round(Number(text) * 1_000));

function checkNumber(text: string, least: number, most: number, whole: boolean): string | null {
    if (text.trim() === "") return null;
    const number = Number(text);
    if (!Number.isFinite(number) || (whole && !Number.isInteger(number))) return "This is not a number.";
    return number < least || number > most ? `It can be ${least} to ${most.toLocaleString("en")}.` : null;
}

function Options(props: { typed: Typed; set: (typed: Typed) => void }) {
    const { typed, set } = props;
    const { error, schema } = checkSchema(typed.schema);
    const wrong = errors(typed);
    return (
        <>
            <Area
                label="Schema"
                value={typed.schema}
                onText={(schema) => set({ ...typed, schema })}
                error={error}
                hint={schema ? `This is a schema of ${plural(Object.keys(schema).length, "field")}. A payload that has no such field, or another type, is refused.` : 'Empty: payloads may look like anything. Else such as {"order": "string", "total": "double"}.'}
            />
            <div class="grid">
                <Field label="Time to live, in seconds" inputMode="decimal" value={typed.ttl} error={wrong.ttl} onInput={(event) => set({ ...typed, ttl: event.currentTarget.value })} hint="Then an event expires; holds for later events. Empty: the engine's default." />
                <Field label="Deliveries at most" inputMode="numeric" value={typed.deliveries} error={wrong.deliveries} onInput={(event) => set({ ...typed, deliveries: event.currentTarget.value })} hint="Then an event is a dead letter. Empty: the engine's default." />
                <Field label="Time to settle, in seconds" inputMode="decimal" value={typed.timeout} error={wrong.timeout} onInput={(event) => set({ ...typed, timeout: event.currentTarget.value })} hint="Then an event is delivered again. Empty: the engine's default." />
            </div>
        </>
    );
}

const errors = (typed: Typed) => ({
    ttl: checkNumber(typed.ttl, 0.1, 31_536_000_000, false),
    deliveries: checkNumber(typed.deliveries, 1, 4_294_967_295, true),
    timeout: checkNumber(typed.timeout, 0.1, 86_400, false),
});
const isGood = (typed: Typed): boolean => !checkSchema(typed.schema).error && Object.values(errors(typed)).every((error) => !error);
// The schema goes as it was typed, so that the engine sees what is there twice.
const options = (typed: Typed) => ({
    schema: checkSchema(typed.schema).schema && new Raw(typed.schema),
    ttl_ms: millis(typed.ttl),
    max_deliveries: typed.deliveries.trim() ? Number(typed.deliveries) : null,
    ack_timeout_ms: millis(typed.timeout),
});

/** What is other than it was loaded: the rest stays what it is by now, whoever changed it. */
export function changes(before: Typed, typed: Typed): object {
    const fields = { schema: "schema", ttl: "ttl_ms", deliveries: "max_deliveries", timeout: "ack_timeout_ms" } as const;
    const [said, now] = [options(typed), Object.keys(fields) as (keyof Typed)[]];
    return Object.fromEntries(now.filter((name) => before[name].trim() !== typed[name].trim()).map((name) => [fields[name], said[fields[name]]]));
}

export function NewName() {
    const [name, setName] = useState("");
    const [typed, set] = useState<Typed>({ schema: "", ttl: "", deliveries: "", timeout: "" });
    return (
        <Page title="New event name" back={["Event names", "#/names"]}>
            <form class="section">
                <Field label="Name" value={name} required maxLength={255} autoFocus onInput={(event) => setName(event.currentTarget.value)} hint="Words between slashes, such as shop/orders/created." />
                <Options typed={typed} set={set} />
                <div class="actions">
                    <Act
                        kind="primary"
                        submit
                        disabled={!name.trim() || !isGood(typed)}
                        act={async () => {
                            await change("POST", "/v1/events", { name: name.trim(), ...options(typed) });
                            go(to("names", name.trim()));
                        }}
                    >
                        Register
                    </Act>
                </div>
            </form>
        </Page>
    );
}

const loaded = ({ schema, ttl_ms, max_deliveries, ack_timeout_ms }: EventName): Typed => ({
    schema: schema ? JSON.stringify(schema, null, 2) : "",
    ttl: seconds(ttl_ms),
    deliveries: max_deliveries == null ? "" : String(max_deliveries),
    timeout: seconds(ack_timeout_ms),
});

export function OneName({ route }: { route: Route }) {
    const name = route.parts[1] ?? "";
    const asked = useAsk<EventName>(path`/v1/events/${name}`, 0);
    const [typed, set] = useState<Typed | null>(null);
    const [before, setBefore] = useState<Typed | null>(null);
    const [saved, setSaved] = useState(false);
    useEffect(() => {
        if (!asked.data) return;
        set(loaded(asked.data));
        setBefore(loaded(asked.data));
    }, [asked.data]);
    return (
        <Page title={name} back={["Event names", "#/names"]}>
            <Shown asked={asked}>
                {() =>
                    typed &&
                    before && (
                        <>
                            <Section title="What holds for its events">
                                <form class="form">
                                <Options
                                    typed={typed}
                                    set={(typed) => {
                                        setSaved(false);
                                        set(typed);
                                    }}
                                />
                                <div class="actions">
                                    <Act
                                        kind="primary"
                                        submit
                                        disabled={!isGood(typed)}
                                        act={async () => {
                                            const now = loaded(await change<EventName>("PATCH", path`/v1/events/${name}`, changes(before, typed)));
                                            set(now);
                                            setBefore(now);
                                            setSaved(true);
                                        }}
                                    >
                                        Save
                                    </Act>
                                    {saved && <Tag kind="good">Saved</Tag>}
                                </div>
                                </form>
                            </Section>
                            <Section title="Where it is used">
                                <p>
                                    <a href={`#/queues${query({ event: name })}`}>Queues of this name</a> · <a href={`#/letters${query({ event: name })}`}>dead letters of this name</a>
                                </p>
                            </Section>
                            <IfFull>
                            <Section title="Delete">
                                <Act
                                    kind="danger"
                                    act={async () => {
                                        await change("DELETE", path`/v1/events/${name}`);
                                        go(to("names"));
                                    }}
                                    confirm={{ title: `Delete ${name}?`, yes: "Delete it for good", body: <p>Its grants and its empty queues go with it, and its settled events cannot be replayed any more. It is refused while an event waits under it, dead letters included, or somebody subscribes to it.</p> }}
                                >
                                    Delete…
                                </Act>
                            </Section>
                            </IfFull>
                        </>
                    )
                }
            </Shown>
        </Page>
    );
}
