use clap::Args;
use ensync_sdk::crypto::{Inspected, fingerprint, inspect};
use serde_json::json;

use super::{Outcome, read_stdin};
use crate::foreign;
use crate::output::Output;
use crate::values::envelope;

/// Say what an envelope shows to everybody, as JSON: the base64 of the wire from standard input. Needs no key, and proves nothing.
#[derive(Args)]
#[command(after_help = "Examples:\n  ensync inspect < envelope.txt")]
pub(crate) struct Inspect {}

impl Inspect {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        let sealed = read_stdin("the envelope").await?;
        let shown = match inspect(&envelope(&sealed)?)? {
            Inspected::Single { plaintext_bytes } => {
                json!({"suite": "nacl", "form": "single", "plaintext_bytes": plaintext_bytes})
            }
            Inspected::Hybrid { recipients, entries, plaintext_bytes } => json!({
                "suite": "nacl",
                "form": "hybrid",
                "recipients": recipients.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "entries": entries,
                "plaintext_bytes": plaintext_bytes,
            }),
            Inspected::Sealed { event, to, from, id, created, signed, plaintext_bytes } => json!({
                "suite": "aes-256-gcm",
                "event": event.as_str(),
                "to": to.to_string(),
                "to_fingerprint": fingerprint(&to),
                "from": from.map(|id| id.to_string()),
                "from_fingerprint": from.as_ref().map(fingerprint),
                "id": id.as_str(),
                "created": created.as_millis(),
                "signed": signed,
                "plaintext_bytes": plaintext_bytes,
            }),
            _ => return Err("this version of the tool cannot show this envelope; upgrade it".into()),
        };
        if out.json { out.value(&shown) } else { out.line(foreign::json(&format!("{shown:#}"))) }
    }
}
