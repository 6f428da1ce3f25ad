use clap::Args;
use ensync_sdk::SecretKey;
use ensync_sdk::crypto::fingerprint;
use serde_json::json;

use super::Outcome;
use crate::output::Output;

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
        if out.json {
            let pair = json!({"app_id": id.to_string(), "fingerprint": print, "secret_key": &*text});
            return out.raw(format!("{pair}\n"));
        }
        out.raw(format!(
            "# Give the id to those who send to you; keep the secret. Fingerprint, to compare by voice:\n# {print}\n\
             ENSYNC_APP_ID={id}\nENSYNC_SECRET_KEY={}\n",
            &*text
        ))
    }
}
