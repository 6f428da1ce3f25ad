use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use serde_json::Value;

use super::Outcome;
use crate::admin::{Admin, Output, Table, shown, text, time};
use crate::output::plural;

/// Say how a running engine is: version, uptime, whether it is ready, what it holds, its disk and its limits.
#[derive(Args)]
#[command(after_help = "Examples:\n  ensync info\n  ensync info --json")]
pub(crate) struct Info {
    #[command(flatten)]
    admin: Admin,
}

impl Info {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        self.admin.must_run("ensync info")?;
        let info = self.admin.run(async |api| api.get("/v1/info").await).await?;
        out.table(|| info.clone(), || table(&info))
    }
}

fn table(info: &Value) -> Table {
    let mut table = Table::new(["VERSION", text(info, "version")]);
    let uptime = Duration::from_secs(info.get("uptime_ms").and_then(Value::as_u64).unwrap_or_default() / 1_000);
    table.row(["UPTIME".into(), humantime::format_duration(uptime).to_string()]);
    table.row(["TIME".into(), time(info.get("now"))]);
    let ready = match info.get("ready") {
        Some(Value::Bool(true)) => "yes".to_owned(),
        _ => format!("no: {}", text(info, "trouble")),
    };
    table.row(["READY".into(), ready]);
    for (name, field) in [("APPS", "apps"), ("QUEUES", "queues"), ("SESSIONS", "sessions")] {
        table.row([name.into(), shown(info, field)]);
    }
    let connections = info.get("connections").unwrap_or(&Value::Null);
    let [open, grpc, websocket] = ["open", "grpc", "websocket"].map(|name| shown(connections, name));
    table.row(["CONNECTIONS".into(), format!("{open} ({grpc} gRPC, {websocket} WebSocket)")]);
    match info.get("disk").filter(|disk| !disk.is_null()) {
        None => table.row(["LOG".into(), "in memory".into()]),
        Some(disk) => {
            let mib = |name: &str| disk.get(name).and_then(Value::as_u64).unwrap_or_default() >> 20;
            let segments = disk.get("segments").and_then(Value::as_u64).unwrap_or_default();
            let segments = plural(segments, "segment", "segments");
            let text = format!("{} MiB in {segments}, {} MiB free", mib("bytes"), mib("free_bytes"));
            table.row(["LOG".into(), text]);
        }
    }
    for (name, value) in info.get("limits").and_then(Value::as_object).into_iter().flatten() {
        let (name, value) = limit(name, value);
        table.row([format!("LIMIT {}", name.to_uppercase().replace('_', " ")), value]);
    }
    for setting in info.get("settings").and_then(Value::as_array).into_iter().flatten() {
        table.row([format!("SETTING {}", text(setting, "name")), text(setting, "value").into()]);
    }
    table
}

/// A limit in words: times and sizes with their units.
fn limit<'a>(name: &'a str, value: &Value) -> (&'a str, String) {
    let time = name.strip_suffix("_ms");
    let shown = match (time, value.as_u64()) {
        _ if value.is_null() => "none".to_owned(),
        (Some(_), Some(ms)) => humantime::format_duration(Duration::from_millis(ms)).to_string(),
        (None, Some(bytes)) if name.ends_with("bytes") || name.contains("_bytes_") => ByteSize(bytes).to_string(),
        _ => value.to_string(),
    };
    (time.unwrap_or(name), shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_units() {
        for (name, value, shown) in [
            ("ack_timeout_ms", 60_000.into(), ("ack_timeout", "1m")),
            ("ttl_ms", Value::Null, ("ttl", "none")),
            ("publish_rate", Value::Null, ("publish_rate", "none")),
            ("max_payload_bytes", (1 << 20).into(), ("max_payload_bytes", "1.0 MiB")),
            ("max_sessions", 5.into(), ("max_sessions", "5")),
        ] {
            let found = limit(name, &value);
            assert_eq!((found.0, found.1.as_str()), shown);
        }
    }
}
