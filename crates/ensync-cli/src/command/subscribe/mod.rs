//! `ensync subscribe`.

pub(super) mod print;
mod run;
mod running;
mod work;

use std::num::NonZeroU64;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ensync_sdk::AppId;
use ensync_sdk::core::Delay;

use crate::connection::{Connection, Secret};
use crate::values::{self, app_id};

/// Subscribe to event names and print each event, acknowledging it once it is printed.
///
/// An event that cannot be decrypted is printed with "error" instead of "payload", and left to the engine. The connection is made
/// again when it is lost; what was not acknowledged by then comes again. Ctrl-C, SIGTERM or a terminal that goes away ends it in
/// order: what was begun is finished. A second signal ends it at once, with every command that runs.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ensync subscribe orders/new orders/paid\n  ensync subscribe orders/new --count 1 --format raw\n  ensync subscribe orders/new --for 1m --no-ack --json\n  ensync subscribe orders/new --exec './import.sh' --concurrency 4"
)]
pub(crate) struct Subscribe {
    /// The events' names, such as company/service/action.
    #[arg(required = true, value_name = "EVENT")]
    events: Vec<String>,
    /// End after this many events, and take no more than that from the engine (one at a time, up to 1,000; of more, what was
    /// taken beyond goes back).
    #[arg(long, value_name = "EVENTS", value_parser = values::at_least_one::<NonZeroU64>)]
    count: Option<NonZeroU64>,
    /// End after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = values::some_time)]
    time: Option<Duration>,
    /// How an event is printed. [pretty on a terminal, else ndjson]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Print without acknowledging: the engine delivers the events again later.
    #[arg(long, conflicts_with = "exec")]
    no_ack: bool,
    /// Take only events whose sender is proven (suite aes-256-gcm).
    #[arg(long)]
    verified: bool,
    /// Take only events that this app proves to have sent. Repeat it for several.
    #[arg(long, value_name = "APP_ID", value_parser = app_id)]
    verified_from: Vec<AppId>,
    /// Discard what cannot be opened, to the dead letters, instead of printing and leaving it.
    #[arg(long)]
    discard_unreadable: bool,
    /// Run this command for each event instead of printing it: the payload is its standard input, and ENSYNC_EVENT_NAME, _ID,
    /// _SENDER, _VERIFIED, _ATTEMPT, _TIMESTAMP and _METADATA are in its environment. If it exits with 0 the event is acknowledged, with 65
    /// discarded, with 75 or anything else deferred; 126 and 127, with which the shell says that there is no such command, end
    /// this. The event stays with it for as long as it runs.
    #[arg(long, value_name = "COMMAND", value_parser = values::shell_command)]
    exec: Option<String>,
    /// How many of these commands run at a time.
    #[arg(long, value_name = "COUNT", requires = "exec", default_value = "1", value_parser = values::at_least_one::<std::num::NonZeroU16>)]
    concurrency: std::num::NonZeroU16,
    /// How long an event is deferred: 0s (at once), or 1s to 24h.
    #[arg(long, value_name = "TIME", requires = "exec", default_value = "5s", value_parser = delay)]
    defer_by: Duration,
    /// How long a command may take. Then it is killed, with whatever it started, and the event is deferred. [no limit]
    #[arg(long, value_name = "TIME", requires = "exec", value_parser = values::some_time)]
    exec_timeout: Option<Duration>,
    #[command(flatten)]
    secret: Secret,
    #[command(flatten)]
    connection: Connection,
}

/// A time by which an event can be deferred.
fn delay(text: &str) -> Result<Duration, String> {
    let time = values::time(text)?;
    Delay::new(time).map(Delay::get).map_err(|error| error.to_string())
}

/// How an event is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A line about the event, and its payload.
    Pretty,
    /// The payload, on one line.
    Raw,
    /// One line of JSON.
    #[value(alias = "json")]
    Ndjson,
}
