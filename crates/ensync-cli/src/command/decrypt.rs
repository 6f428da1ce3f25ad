use std::io::{IsTerminal, Write};

use clap::Args;
use ensync_sdk::crypto::{Expected, Opener, SenderProof};
use ensync_sdk::{EventName, Keyring, SecretKey};

use super::{Outcome, read_stdin};
use crate::values::envelope;
use crate::{foreign, secrets};

/// Decrypt a payload without an engine: the base64 of the wire from standard input, the plaintext to standard output. Who sent it,
/// and whether that is proven, goes to standard error.
#[derive(Args)]
pub(crate) struct Decrypt {
    /// The event name that it came under. Give it whenever it is known: without it, a payload of aes-256-gcm is taken under any.
    #[arg(long)]
    event: Option<String>,
    /// The secret key. Better given in the environment, where other users of the machine do not see it. [env: ENSYNC_SECRET_KEY]
    #[arg(long)]
    secret_key: Option<String>,
}

impl Decrypt {
    pub(crate) async fn run(self) -> Outcome {
        let key = secrets::given("--secret-key").ok_or("no secret key: set ENSYNC_SECRET_KEY, or give --secret-key")?;
        let opener = Opener::new(Keyring::new(SecretKey::parse(&key)?));
        let event = self.event.as_deref().map(EventName::parse).transpose()?;
        let expected = event.as_ref().map_or(Expected::any_event(), Expected::event);
        let sealed = read_stdin("the envelope").await?;
        let opened = opener.open(&envelope(&sealed)?, &expected)?;
        match opened.sender {
            SenderProof::Verified { key, signed } => {
                eprintln!("sender: {key}, verified{}", if signed { ", signed" } else { "" });
            }
            _ => eprintln!("sender: not verified"),
        }
        let mut out = std::io::stdout().lock();
        if out.is_terminal() {
            out.write_all(foreign::json(&String::from_utf8_lossy(&opened.plaintext)).as_bytes())?;
        } else {
            out.write_all(&opened.plaintext)?;
        }
        out.write_all(b"\n")?;
        Ok(())
    }
}
