use clap::Args;
use ensync_sdk::crypto::{Recipient, SealOptions, Sealer, Suite};
use ensync_sdk::{EventName, PayloadJson, SecretKey};

use super::{Outcome, read_stdin};
use crate::secrets;
use crate::values::app_id;

/// Encrypt a payload without an engine: JSON from standard input, one line of base64 per recipient to standard output, in the
/// order they were named. The lines are what the wire carries.
#[derive(Args)]
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
    /// The sender's own secret key, for aes-256-gcm: without it the sender is not proven. [env: ENSYNC_SECRET_KEY]
    #[arg(long)]
    secret_key: Option<String>,
    /// Sign, so that others than the recipient can be convinced.
    #[arg(long)]
    sign: bool,
}

impl Encrypt {
    pub(crate) async fn run(self) -> Outcome {
        let payload = read_stdin("the payload").await?;
        let payload = PayloadJson::parse(payload.trim())?;
        let suite: Suite = self.suite.parse()?;
        let event = match &self.event {
            Some(name) => EventName::parse(name)?,
            // "nacl" binds no name; any will do.
            None => EventName::parse("none")?,
        };
        let sealer = match secrets::given("--secret-key").filter(|_| suite != Suite::Nacl) {
            Some(key) => Sealer::new().own_key(SecretKey::parse(&key)?),
            None => Sealer::new(),
        };
        let options = SealOptions::from(suite);
        let options = if self.sign { options.signed() } else { options };
        let to = self.to.iter().map(|id| Recipient::new(app_id(id)?)).collect::<Result<Vec<_>, _>>()?;
        for copy in sealer.seal(payload.as_str().as_bytes(), &to, &event, options)? {
            println!("{}", copy.as_str().unwrap_or_default());
        }
        Ok(())
    }
}
