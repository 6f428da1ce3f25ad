use clap::Args;
use ensync_sdk::crypto::{Recipient, SealOptions, Sealer, Suite};
use ensync_sdk::{AppId, EventName, PayloadJson};
use serde_json::json;

use super::{Outcome, read_stdin};
use crate::connection::Secret;
use crate::foreign::trimmed;
use crate::output::Output;
use crate::values::recipients;

/// Encrypt a payload without an engine: JSON from standard input, one line of base64 per recipient to standard output, in the
/// order they were named. The lines are what the wire carries.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  echo '{\"order\":7}' | ensync encrypt --to APP_ID\n  ensync encrypt --to APP_ID --suite aes-256-gcm --event orders/new --sign < order.json"
)]
pub(crate) struct Encrypt {
    /// A recipient's app id (base64). Repeat it for several.
    #[arg(long, required = true, value_name = "APP_ID")]
    to: Vec<String>,
    /// How: nacl (every client reads it) or aes-256-gcm (proves the sender).
    #[arg(long, default_value = "nacl")]
    suite: String,
    /// The event's name, which aes-256-gcm binds to the payload.
    #[arg(long, required_if_eq("suite", "aes-256-gcm"))]
    event: Option<String>,
    /// The sender's own key, for aes-256-gcm: without it the sender is not proven.
    #[command(flatten)]
    secret: Secret,
    /// Sign, so that others than the recipient can be convinced.
    #[arg(long)]
    sign: bool,
}

impl Encrypt {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        let payload = read_stdin("the payload").await?;
        let payload = PayloadJson::parse(trimmed(&payload))?;
        let suite: Suite = self.suite.parse()?;
        let event = match &self.event {
            Some(name) => EventName::parse(name)?,
            // "nacl" binds no name; any will do.
            None => EventName::parse("none")?,
        };
        let own = if suite == Suite::Nacl { None } else { self.secret.find()? };
        let own = own.and_then(|keys| keys.current().cloned());
        let sealer = own.map_or_else(Sealer::new, |key| Sealer::new().own_key(key));
        let options = SealOptions::from(suite);
        let options = if self.sign { options.signed() } else { options };
        let to = recipients(&self.to)?;
        let keys = to.iter().map(|id| Recipient::new(*id)).collect::<Result<Vec<_>, _>>()?;
        let copies = sealer.seal(payload.as_str().as_bytes(), &keys, &event, options)?;
        let lines: Vec<_> = copies.iter().map(|copy| copy.as_str().unwrap_or_default()).collect();
        let envelopes = || {
            let one = |(id, line): (&AppId, &&str)| json!({"to": id.to_string(), "envelope": line});
            json!({"envelopes": to.iter().zip(&lines).map(one).collect::<Vec<_>>()})
        };
        out.either(envelopes, || lines.join("\n"))
    }
}
