use std::io::Write;

use clap::Args;
use ensync_sdk::SecretKey;
use ensync_sdk::crypto::fingerprint;
use zeroize::Zeroizing;

use super::Outcome;

/// Make a key pair for an app: its public id, and the secret that opens what is sealed for it.
///
/// The secret is made on this machine and sent nowhere.
#[derive(Args)]
pub(crate) struct Keygen {
    /// Print one JSON object instead of lines for a .env file.
    #[arg(long)]
    json: bool,
}

impl Keygen {
    pub(crate) fn run(self) -> Outcome {
        let secret = SecretKey::generate()?;
        let (Some(id), Some(text)) = (secret.app_id(), secret.to_base64()) else {
            return Err("the new key has no public half; please report this".into());
        };
        let print = fingerprint(&id);
        // Written at once, for standard output keeps what it is given in parts.
        let mut lines = Zeroizing::new(String::with_capacity(1 << 10));
        if self.json {
            // None of it has anything that JSON escapes.
            let (id, secret) = (id.to_string(), text.as_str());
            lines.push_str(&format!(r#"{{"app_id":"{id}","fingerprint":"{print}","secret_key":""#));
            lines.extend([secret, "\"}\n"]);
        } else {
            lines.push_str(
                "# Give the id to those who send to you; keep the secret. Fingerprint, to compare by voice:\n",
            );
            lines.push_str(&format!("# {print}\nENSYNC_APP_ID={id}\nENSYNC_SECRET_KEY="));
            lines.extend([text.as_str(), "\n"]);
        }
        std::io::stdout().lock().write_all(lines.as_bytes())?;
        Ok(())
    }
}
