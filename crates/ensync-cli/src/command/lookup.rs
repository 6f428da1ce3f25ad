use clap::Args;
use serde_json::Value;

use super::Outcome;
use crate::admin::{Admin, Output, Table, encoded, shown, text, time};

/// Find an event by its id, whosoever it is, settled or not: how it stands, who sent it, and what travels in clear.
#[derive(Args)]
#[command(after_help = "Examples:\n  ensync lookup ID\n  ensync lookup ID --payload --json")]
pub(crate) struct Lookup {
    /// The event's id.
    id: String,
    /// Also the sealed payload, as it travels: `ensync decrypt` opens it with its recipient's key.
    #[arg(long)]
    payload: bool,
    #[command(flatten)]
    admin: Admin,
}

impl Lookup {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        look_up(&self.admin, &self.id, self.payload, out).await
    }
}

/// Shows one event.
pub(super) async fn look_up(admin: &Admin, id: &str, payload: bool, out: Output) -> Outcome {
    let path = format!("/v1/lookup/{}?payload={payload}", encoded(id));
    let event = admin.run(async |api| api.get(&path).await).await?;
    out.table(|| event.clone(), || table(&event))
}

fn table(event: &Value) -> Table {
    let standing = event.get("standing").unwrap_or(&Value::Null);
    let mut table = Table::new(["ID", text(standing, "id")]);
    table.row(["STATE".into(), text(standing, "state").replace('_', " ")]);
    table.row(["EVENT".into(), text(standing, "event").into()]);
    table.row(["APP".into(), format!("{} ({})", text(event, "app_name"), text(standing, "app"))]);
    let is = |of: &Value, field: &str| of.get(field).is_some_and(|value| !value.is_null());
    if is(event, "sender") {
        let name = if is(event, "sender_name") { text(event, "sender_name") } else { "an app that is gone" };
        table.row(["FROM".into(), format!("{name} ({})", text(event, "sender"))]);
    }
    for (name, field) in
        [("ACCEPTED", "accepted_at"), ("EXPIRES", "expires_at"), ("UNTIL", "until"), ("DEAD SINCE", "dead_at")]
    {
        if is(standing, field) {
            table.row([name.into(), time(standing.get(field))]);
        }
    }
    for (name, of, field) in [
        ("DELIVERIES", standing, "deliveries"),
        ("SESSION", standing, "session"),
        ("REASON", standing, "reason"),
        ("SUITE", event, "suite"),
        ("PLAINTEXT BYTES", event, "plaintext_bytes"),
        ("PAYLOAD BYTES", event, "payload_bytes"),
        ("IDEMPOTENCY KEY", event, "idempotency_key"),
        ("METADATA", event, "metadata_text"),
        ("PAYLOAD", event, "payload"),
    ] {
        if is(of, field) {
            let value = of.get(field).and_then(Value::as_str).map_or_else(|| shown(of, field), str::to_owned);
            table.row([name.into(), value]);
        }
    }
    table
}
