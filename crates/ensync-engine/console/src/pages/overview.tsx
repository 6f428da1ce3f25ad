import { useMemo } from "preact/hooks";
import { type Info, type LastHour, type Sample, useAsk } from "../api/client";
import type { Live } from "../api/live";
import { Chart, type Series } from "../ui/chart";
import { bytes, count, micros, plural, rate, span } from "../ui/format";
import { Empty, Facts, Notice, Page, Section, Shown } from "../ui/parts";

export function Overview(props: { live: Live }) {
    const info = useAsk<Info>("/v1/info");
    const hour = useAsk<LastHour>("/v1/history", 10_000);
    return (
        <Page title="Overview" lead={info.data && `Version ${info.data.version}, running for ${span(info.data.uptime_ms)}`}>
            <Shown asked={info}>
                {(shown) => (
                    <>
                        {!info.error && <Verdict info={shown} now={props.live.cut ? undefined : props.live.now} />}
                        <Numbers info={shown} now={props.live.now ?? hour.data?.samples.at(-1)} />
                    </>
                )}
            </Shown>
            <Section title="The last hour">
                <Shown asked={hour}>{(hour) => <Curves hour={hour} now={props.live.now} />}</Shown>
            </Section>
            {info.data && info.data.apps === 0 && (
                <Empty title="Nobody uses this engine yet.">
                    <a href="#/new-app">Create an app</a> to get the keys that a program logs in with, and{" "}
                    <a href="#/new-name">register an event name</a> for what it publishes.
                </Empty>
            )}
        </Page>
    );
}

/** Whether all is well, in one sentence; if not, what is wrong and where to look. */
function Verdict({ info, now }: { info: Info; now: Sample | undefined }) {
    const wrong = [];
    if (!info.ready) wrong.push(<>The engine carries out no commands: {info.trouble ?? "it does not say why"}.</>);
    const disk = info.disk;
    if (disk && disk.free_bytes < disk.bytes / 4 && disk.free_bytes < 1 << 30) {
        wrong.push(<>The disk is nearly full: {bytes(disk.free_bytes)} are free.</>);
    }
    const watch = [];
    if (now && now.dead > 0) {
        watch.push(
            <>
                <a href="#/letters">{plural(now.dead, "dead letter waits", "dead letters wait")}</a> for a decision.
            </>,
        );
    }
    const late = Math.max(60_000, 2 * (info.limits?.ack_timeout_ms ?? 0));
    if (now?.oldest_ms && now.oldest_ms > late && now.ready + now.deferred > 0) {
        watch.push(
            <>
                The oldest event has waited for {span(now.oldest_ms)}: <a href="#/queues">see which queue has no consumer, or events that are deferred</a>.
            </>,
        );
    }
    if (wrong.length) return <Notice kind="bad">{wrong.concat(watch).map((line) => <p>{line}</p>)}</Notice>;
    if (watch.length) return <Notice kind="warn">{watch.map((line) => <p>{line}</p>)}</Notice>;
    // Of what was not counted, or long ago, nothing good is said.
    if (!now) return <Notice kind="info"><p>It runs. What waits in it is being counted…</p></Notice>;
    return (
        <Notice kind="good">
            <p>All is well: the engine carries out commands, no event is stuck, and there are no dead letters.</p>
        </Notice>
    );
}

const known = (number: number | null | undefined) => (number == null ? null : count(number));

function Numbers({ info, now }: { info: Info; now: Sample | undefined }) {
    const waiting = now && now.ready + now.in_flight + now.deferred;
    return (
        <Facts
            of={[
                ["Events that wait", waiting === undefined ? null : count(waiting)],
                ["Dead letters", now ? count(now.dead) : null],
                ["Sessions", known(now?.sessions ?? info.sessions)],
                ["Apps", known(info.apps)],
                ["Log", info.disk ? bytes(info.disk.bytes) : info.ready ? "in memory" : "–"],
                ["Free on its disk", info.disk ? bytes(info.disk.free_bytes) : "–"],
            ]}
        />
    );
}

function Curves({ hour, now }: { hour: LastHour; now: Sample | undefined }) {
    const samples = useMemo(() => {
        const last = hour.samples.at(-1);
        return now && (!last || now.at > last.at) ? [...hour.samples, now] : hour.samples;
    }, [hour, now]);
    const times = useMemo(() => samples.map((sample) => sample.at / 1_000), [samples]);
    const per = (of: (sample: Sample) => number) =>
        samples.map((sample, at) => {
            const before = samples[at - 1];
            // Between two samples that lie far apart the engine did not answer, and under a second nothing can be told.
            if (!before || sample.at - before.at > 3 * hour.every_ms || sample.at - before.at < 900) return null;
            return (Math.max(0, of(sample) - of(before)) * 1_000) / (sample.at - before.at);
        });
    const of = (of: (sample: Sample) => number | null | undefined) => samples.map((sample) => of(sample) ?? null);
    const line = (label: string, color: Series["color"], values: (number | null)[]): Series => ({ label, color, values });
    const curves = useMemo(
        () => ({
            rates: [line("Published", "one", per((s) => s.published)), line("Acknowledged", "two", per((s) => s.acked)), line("Died", "three", per((s) => s.died))],
            depth: [line("Ready", "one", of((s) => s.ready)), line("With clients", "two", of((s) => s.in_flight)), line("Deferred", "three", of((s) => s.deferred))],
            oldest: [line("Oldest event", "one", of((s) => s.oldest_ms ?? 0))],
            commit: [line("Mean", "one", of((s) => (s.commits ? s.commit_mean_us : null))), line("Longest", "three", of((s) => (s.commits ? s.commit_max_us : null)))],
            disk: [line("Log", "one", of((s) => s.log_bytes)), line("Free", "two", of((s) => s.free_bytes))],
            people: [line("Sessions", "one", of((s) => s.sessions)), line("Connections", "two", of((s) => s.connections))],
        }),
        [samples],
    );
    if (samples.length === 0) return <Empty title="Nothing has been counted yet.">The first figures come within ten seconds of a start.</Empty>;
    return (
        <div class="charts">
            <Chart title="Events per second" times={times} series={curves.rates} format={rate} least={4} whole />
            <Chart title="Events that wait" times={times} series={curves.depth} format={(n) => count(Math.round(n))} least={4} whole />
            <Chart title="Age of the oldest event" times={times} series={curves.oldest} format={span} least={4_000} />
            <Chart title="Time to store a batch" times={times} series={curves.commit} format={(n) => micros(Math.round(n))} least={100} />
            <Chart title="Who is connected" times={times} series={curves.people} format={(n) => count(Math.round(n))} least={4} whole />
            {samples.some((sample) => sample.log_bytes !== null) && <Chart title="Disk" times={times} series={curves.disk} format={bytes} least={1 << 20} />}
        </div>
    );
}
