use std::io::{IsTerminal, stdout};

use clap::Args;
use ensync_sdk::EventName;
use ensync_sdk::core::check_json;
use ensync_sdk::crypto::{Expected, Opener, SenderProof};
use serde_json::{Value, json};

use super::{Outcome, read_stdin};
use crate::connection::Secret;
use crate::foreign;
use crate::output::{Output, note};
use crate::values::envelope;

/// Decrypt a payload without an engine: the base64 of the wire from standard input, the plaintext to standard output. Who sent it,
/// and whether that is proven, goes to standard error.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ensync decrypt --event orders/new < envelope.txt\n  ensync encrypt --to APP_ID < order.json | ensync decrypt"
)]
pub(crate) struct Decrypt {
    /// The event name that it came under. Give it whenever it is known: without it, a payload of aes-256-gcm is taken under any.
    #[arg(long)]
    event: Option<String>,
    #[command(flatten)]
    secret: Secret,
}

impl Decrypt {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        let opener = Opener::new(self.secret.require()?);
        let event = self.event.as_deref().map(EventName::parse).transpose()?;
        let expected = event.as_ref().map_or(Expected::any_event(), Expected::event);
        let sealed = read_stdin("the envelope").await?;
        let opened = opener.open(&envelope(&sealed)?, &expected)?;
        let (sender, signed) = match &opened.sender {
            SenderProof::Verified { key, signed } => (Some(key.to_string()), *signed),
            _ => (None, false),
        };
        let text = String::from_utf8_lossy(&opened.plaintext);
        if out.json {
            // It may hold numbers that JSON's readers would change.
            let about = json!({"sender": sender, "verified": sender.is_some(), "signed": signed}).to_string();
            let payload = match check_json("the payload", &opened.plaintext) {
                Ok(payload) => payload.replace(['\n', '\r'], " "),
                Err(_) => Value::from(&*text).to_string(),
            };
            return out.line(foreign::json(&format!(r#"{},"payload":{payload}}}"#, about.trim_end_matches('}'))));
        }
        match sender {
            Some(key) => note(format_args!("sender: {key}, verified{}", if signed { ", signed" } else { "" })),
            None => note("sender: not verified"),
        }
        match stdout().is_terminal() {
            true => out.line(foreign::json(&text)),
            false => out.raw([&opened.plaintext[..], b"\n"].concat()),
        }
    }
}
