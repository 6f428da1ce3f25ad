use clap::Args;
use ensync_sdk::SecretKey;
use ensync_sdk::crypto::fingerprint;
use zeroize::Zeroizing;

use super::Outcome;
use crate::output::Output;
use crate::shell;

/// Make a key pair for an app: its public id, and the secret that opens what is sealed for it.
///
/// The secret is made on this machine and sent nowhere.
#[derive(Args)]
#[command(after_help = "Examples:\n  ensync keygen > shop.env\n  ensync keygen --json")]
pub(crate) struct Keygen {}

impl Keygen {
    pub(crate) fn run(self, out: Output) -> Outcome {
        let secret = SecretKey::generate()?;
        let (Some(id), Some(text)) = (secret.app_id(), secret.to_base64()) else {
            return Err("the new key has no public half; please report this".into());
        };
        let print = fingerprint(&id);
        // Written at once, for standard output keeps what it is given in parts.
        let mut lines = Zeroizing::new(String::with_capacity(1 << 10));
        if out.json {
            // None of it has anything that JSON escapes.
            let (id, secret) = (id.to_string(), text.as_str());
            lines.push_str(&format!(r#"{{"app_id":"{id}","fingerprint":"{print}","secret_key":""#));
            lines.extend([secret, "\"}\n"]);
        } else {
            lines.push_str(
                "# Give the id to those who send to you; keep the secret. Fingerprint, to compare by voice:\n",
            );
            lines.push_str(&format!("# {print}\n"));
            shell::assign(&mut lines, "ENSYNC_APP_ID", &id.to_string())?;
            shell::assign(&mut lines, "ENSYNC_SECRET_KEY", &text)?;
        }
        out.raw(lines.as_bytes())
    }
}
