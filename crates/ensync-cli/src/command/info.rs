use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::Outcome;
use crate::admin::{Admin, Output, Table, shown, text, time};

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
            let segments = shown(disk, "segments");
            let text = format!("{} MiB in {segments} segments, {} MiB free", mib("bytes"), mib("free_bytes"));
            table.row(["LOG".into(), text]);
        }
    }
    for (name, value) in info.get("limits").and_then(Value::as_object).into_iter().flatten() {
        table.row([format!("LIMIT {}", name.to_uppercase().replace('_', " ")), value.to_string()]);
    }
    for setting in info.get("settings").and_then(Value::as_array).into_iter().flatten() {
        table.row([format!("SETTING {}", text(setting, "name")), text(setting, "value").into()]);
    }
    table
}
