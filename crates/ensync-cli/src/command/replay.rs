use std::io::{IsTerminal, stdout};

use clap::Args;

use super::Outcome;
use super::subscribe::{Format, print};
use crate::connection::{Connection, Secret};
use crate::exit::Problem;
use crate::output::{Output, colours};

/// Get an event again by its id, settled or not, and print it. It is the app's own, and nothing changes by it.
#[derive(Args)]
#[command(after_help = "Examples:\n  ensync replay orders/new ID\n  ensync replay orders/new ID --format raw")]
pub(crate) struct Replay {
    /// The event's name.
    event: String,
    /// The event's id.
    id: String,
    /// How it is printed. [pretty on a terminal, else ndjson]
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    secret: Secret,
    #[command(flatten)]
    connection: Connection,
}

impl Replay {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        if out.json && self.format.is_some_and(|format| format != Format::Ndjson) {
            return Err(Problem::usage("--json prints JSON: leave it or --format out").into());
        }
        let client = self.connection.open(Some(self.secret.require_for(&self.connection)?)).await?;
        let replayed = client.replay(self.event, self.id.as_str()).await;
        let told = replayed.map_err(Into::into).and_then(|event| {
            let pretty = stdout().is_terminal() && !out.json;
            let format = self.format.unwrap_or(if pretty { Format::Pretty } else { Format::Ndjson });
            let opened = event.json().and_then(|_| event.text());
            if format == Format::Raw
                && let Err(error) = opened
            {
                return Err(error.into());
            }
            out.line(print::lines(&event, &opened, format, colours(&stdout())))
        });
        let closed = client.close().await;
        told?;
        closed.map_err(Into::into)
    }
}
