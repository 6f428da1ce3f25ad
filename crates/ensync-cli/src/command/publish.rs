use clap::Args;
use ensync_sdk::PayloadJson;

use super::{Outcome, read_stdin};
use crate::connection::Connection;
use crate::values::app_id;

/// Publish one event, and print the id under which the engine accepted it for each recipient.
#[derive(Args)]
pub(crate) struct Publish {
    /// The event's name, such as company/service/action.
    event: String,
    /// The payload as JSON; - reads it from standard input.
    payload: String,
    /// A recipient's app id (base64). Repeat it for several.
    #[arg(long, required = true, value_name = "APP_ID")]
    to: Vec<String>,
    /// A header of the event's metadata, which is not encrypted. Repeat it for several.
    #[arg(long, value_name = "KEY=VALUE")]
    header: Vec<String>,
    /// Let the engine accept the event without storing it durably.
    #[arg(long)]
    no_persist: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Publish {
    pub(crate) async fn run(self) -> Outcome {
        let text = if self.payload == "-" { read_stdin("the payload").await? } else { self.payload };
        // The text is checked and goes out as it is: a number that no `f64` holds would change on the way through a `Value`.
        let payload = PayloadJson::parse(text.trim())
            .map_err(|error| format!("{error}; quote it for the shell, as in '{{\"a\":1}}'"))?;
        let to = self.to.iter().map(|id| app_id(id)).collect::<Result<Vec<_>, _>>()?;
        let mut headers = Vec::new();
        for header in &self.header {
            headers.push(header.split_once('=').ok_or("a --header is not KEY=VALUE")?);
        }
        let client = self.connection.open(None).await?;
        let mut publish = client.publish_json(self.event, payload).to_all(to).persist(!self.no_persist);
        for (key, value) in headers {
            publish = publish.header(key, value);
        }
        let receipt = publish.await?;
        for (recipient, id) in receipt.iter() {
            println!("{id}\t{recipient}");
        }
        client.close().await?;
        Ok(())
    }
}
