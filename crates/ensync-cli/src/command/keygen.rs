use clap::Args;
use ensync_sdk::SecretKey;
use ensync_sdk::crypto::fingerprint;

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
        if self.json {
            println!(
                "{}",
                serde_json::json!({"app_id": id.to_string(), "fingerprint": fingerprint(&id), "secret_key": &*text})
            );
        } else {
            println!("# Give the id to those who send to you; keep the secret. Fingerprint, to compare by voice:");
            println!("# {}", fingerprint(&id));
            println!("ENSYNC_APP_ID={id}");
            println!("ENSYNC_SECRET_KEY={}", &*text);
        }
        Ok(())
    }
}
