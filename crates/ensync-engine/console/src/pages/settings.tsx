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
                        <Section title="What clients may use up">
                            <Facts
                                of={[
                                    ["Largest payload, sealed", bytes(info.limits.max_payload_bytes)],
                                    ["Largest metadata", bytes(info.limits.max_metadata_bytes)],
                                    ["Unsettled events of a subscription", `${count(info.limits.max_in_flight)}, ${bytes(info.limits.max_bytes_in_flight)}`],
                                    ["Subscriptions of a session", count(info.limits.max_subscriptions)],
                                    ["Sessions", `${count(info.limits.max_sessions)}, ${count(info.limits.max_sessions_per_app)} of one app`],
                                    ["Publishes of an app", info.limits.publish_rate == null ? "any number" : `${count(info.limits.publish_rate)} a second`],
                                    ["What may wait in a queue", `${count(info.limits.queue_events)} events, ${bytes(info.limits.queue_bytes)}`],
                                    ["What may wait for an app", `${count(info.limits.app_events)} events, ${bytes(info.limits.app_bytes)}`],
                                ]}
                            />
                        </Section>
                        <Section title="For event names that say nothing else">
                            <Facts
                                of={[
                                    ["Time to settle", span(info.limits.ack_timeout_ms)],
                                    ["Deliveries at most", count(info.limits.max_deliveries)],
                                    ["Time to live", info.limits.ttl_ms == null ? "no end" : span(info.limits.ttl_ms)],
                                    ["Repeated publishes are known for", span(info.limits.dedup_window_ms)],
                                    ["Event names", info.dev ? "registered by their first use" : "must be registered"],
                                ]}
                            />
                        </Section>
                    </>
                )}
            </Shown>
        </Page>
    );
}
