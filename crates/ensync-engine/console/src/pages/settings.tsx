import { type Info, useAsk } from "../api/client";
import { bytes, count, span } from "../ui/format";
import { Empty, Facts, Page, Section, Shown, Table } from "../ui/parts";

export function Settings() {
    const asked = useAsk<Info>("/v1/info", 30_000);
    return (
        <Page title="Settings" lead="As they are in force. They are changed in the engine's configuration file, and hold after a restart.">
            <Shown asked={asked}>
                {(info) => (
                    <>
                        <Section title="Other than the defaults">
                            {info.settings.length === 0 ? (
                                <Empty title="Every setting is as it is by default." />
                            ) : (
                                <Table
                                    label="Settings that differ from the defaults"
                                    rows={info.settings}
                                    keyOf={(setting) => setting.name}
                                    columns={[
                                        { head: "Setting", main: true, of: (setting) => <code>{setting.name}</code> },
                                        { head: "Value", of: (setting) => <code class="wrap">{setting.value}</code> },
                                        { head: "Default", of: (setting) => (setting.default == null ? "not set" : <code class="wrap">{setting.default}</code>) },
                                        { head: "What it is for", wide: true, of: (setting) => setting.about },
                                    ]}
                                />
                            )}
                        </Section>
                        {info.limits && <Limits limits={info.limits} dev={info.dev} />}
                    </>
                )}
            </Shown>
        </Page>
    );
}

function Limits({ limits, dev }: { limits: NonNullable<Info["limits"]>; dev: Info["dev"] }) {
    return (
        <>
                        <Section title="What clients may use up">
                            <Facts
                                of={[
                                    ["Largest payload, sealed", bytes(limits.max_payload_bytes)],
                                    ["Largest metadata", bytes(limits.max_metadata_bytes)],
                                    ["Unsettled events of a subscription", `${count(limits.max_in_flight)}, ${bytes(limits.max_bytes_in_flight)}`],
                                    ["Subscriptions of a session", count(limits.max_subscriptions)],
                                    ["Sessions", `${count(limits.max_sessions)}, ${count(limits.max_sessions_per_app)} of one app`],
                                    ["Publishes of an app", limits.publish_rate == null ? "any number" : `${count(limits.publish_rate)} a second`],
                                    ["What may wait in a queue", `${count(limits.queue_events)} events, ${bytes(limits.queue_bytes)}`],
                                    ["What may wait for an app", `${count(limits.app_events)} events, ${bytes(limits.app_bytes)}`],
                                ]}
                            />
                        </Section>
                        <Section title="For event names that say nothing else">
                            <Facts
                                of={[
                                    ["Time to settle", span(limits.ack_timeout_ms)],
                                    ["Deliveries at most", count(limits.max_deliveries)],
                                    ["Time to live", limits.ttl_ms == null ? "no end" : span(limits.ttl_ms)],
                                    ["Repeated publishes are known for", span(limits.dedup_window_ms)],
                                    ["Event names", dev ? "registered by their first use" : "must be registered"],
                                ]}
                            />
                        </Section>
        </>
    );
}
