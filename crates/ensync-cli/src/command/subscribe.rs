use clap::Args;
use ensync_sdk::{Event, SecretKey};
use futures::TryStreamExt;
use serde_json::{Value, json};

use super::Outcome;
use crate::connection::Connection;
use crate::{foreign, secrets};

/// Subscribe to an event name and print each event as one line of JSON, acknowledging it once it is printed.
///
/// An event that cannot be decrypted is printed with "error" instead of "payload", and left to the engine.
#[derive(Args)]
pub(crate) struct Subscribe {
    /// The event's name, such as company/service/action.
    event: String,
    /// End after this many events.
    #[arg(long, value_name = "EVENTS")]
    count: Option<u64>,
    /// Print without acknowledging: the engine delivers the events again later.
    #[arg(long)]
    no_ack: bool,
    /// The app's secret key. Better given in the environment, where other users of the machine do not see it. [env: ENSYNC_SECRET_KEY]
    #[arg(long)]
    secret_key: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

impl Subscribe {
    pub(crate) async fn run(self) -> Outcome {
        let secret =
            secrets::given("--secret-key").ok_or("no secret key: set ENSYNC_SECRET_KEY, or give --secret-key")?;
        let client = self.connection.open(Some(SecretKey::parse(&secret)?)).await?;
        let mut events = client.subscribe(self.event).await?;
        eprintln!("subscribed to {} at {}; Ctrl-C ends it", events.name(), client.endpoint());
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let event = tokio::select! {
                event = events.try_next() => event?,
                _ = tokio::signal::ctrl_c() => None,
            };
            let Some(event) = event else { break };
            left -= 1;
            let opened = event.json().and_then(|_| event.text());
            println!("{}", line(&event, &opened));
            match opened {
                Ok(_) if !self.no_ack => event.ack().await?,
                // For its lease's end, or another reader: dropped it would come again at once.
                _ => event.leave(),
            }
        }
        client.close().await?;
        Ok(())
    }
}

/// Payload and metadata stay the text they are: a number that no `f64` holds would change on the way through a `Value`.
fn line(event: &Event, opened: &Result<&str, ensync_sdk::Error>) -> String {
    let known = json!({
        "name": event.name().as_str(),
        "id": event.id().as_str(),
        "block": event.block().as_u64(),
        "timestamp": event.timestamp().map(|at| at.as_millis()),
        "sender": event.sender().app_id().map(|id| id.to_string()),
        "verified": event.sender().verified().is_some(),
        "attempt": event.attempt(),
    });
    let known = known.to_string();
    let metadata = one_line(event.metadata().as_str());
    let (key, value) = match opened {
        Ok(payload) => ("payload", one_line(payload)),
        Err(error) => ("error", foreign::json(&Value::from(ensync_sdk::core::report(error)).to_string())),
    };
    format!(r#"{},"metadata":{metadata},"{key}":{value}}}"#, known.trim_end_matches('}'))
}

/// Strings of JSON hold no line break as such, so these are white space between values.
fn one_line(json: &str) -> String {
    foreign::json(json).replace(['\n', '\r'], " ")
}
