//! `ensync publish`.

mod bulk;
mod journal;
mod ledger;
mod lines;
mod progress;
mod run;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{ArgAction, ArgGroup, Args, ValueEnum};
use ensync_sdk::core::{IdempotencyKey, report};
use ensync_sdk::{AppId, Client, Error, EventId, PartialPublish, PayloadJson, Suite};
use serde_json::{Value, json};

use super::{Outcome, read_stdin};
use crate::connection::{Connection, Secret};
use crate::exit::{Exit, Problem, ReaderGone};
use crate::foreign::{self, trimmed};
use crate::output::{Failure, Output, note};
use crate::values::{self, recipients};

/// Publish one event, and print the id under which the engine accepted it for each recipient; or, with --file, one for each line
/// of a file.
///
/// With --file, FILE.ensync-progress tells how far it came until all of it is done: if it was interrupted, the same command goes on
/// from there. Lines that are published may not change, others may be mended. After a kill, a crash or an outage, lines that were on
/// their way may be published or not: the engine knows them again for the time that its setting deduplication.window says, and takes
/// none twice. If more than half of that time has passed, the command says which lines these are, and wants --unsure.
#[derive(Args)]
#[command(group = ArgGroup::new("what").args(["payload", "file"]).required(true))]
#[command(
    after_help = "Examples:\n  ensync publish orders/new '{\"order\":7}' --to APP_ID\n  ensync publish orders/new - --to APP_ID --to OTHER_APP_ID < order.json\n  ensync publish orders/new --file orders.ndjson --to APP_ID --rate 500\n  ensync publish orders/new '{\"order\":7}' --to APP_ID --suite aes-256-gcm --sign --idempotency-key order-7"
)]
pub(crate) struct Publish {
    /// The event's name, such as company/service/action.
    event: String,
    /// The payload as JSON; - reads it from standard input.
    payload: Option<String>,
    /// A file with a payload on each line (NDJSON); - reads standard input, and then it cannot be gone on with.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A recipient's app id (base64). Repeat it for several.
    #[arg(long, required = true, value_name = "APP_ID")]
    to: Vec<String>,
    /// A header of the event's metadata, which is not encrypted. Repeat it for several.
    #[arg(long, value_name = "KEY=VALUE")]
    header: Vec<String>,
    /// How the payload is sealed: nacl (every client reads it) or aes-256-gcm (proves the sender, and needs the secret key).
    #[arg(long, default_value = "nacl")]
    suite: String,
    /// Sign it, so that others than the recipient can be convinced. Needs --suite aes-256-gcm.
    #[arg(long)]
    sign: bool,
    /// The engine accepts an event with this key once for each recipient, however often it is published. With --file, the line's
    /// number and a hash of its text are appended: then it has 202 characters at most.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// How long to try, the login and outages included, before an event is given up; with --file, each of them. (The first
    /// connection is tried once: a host where nobody listens is told at once.)
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::time)]
    timeout: Duration,
    /// Whether the engine stores the event durably before it accepts it.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    persist: bool,
    /// With --file: at most this many events a second.
    #[arg(long, value_name = "EVENTS", requires = "file", value_parser = values::at_least_one::<NonZeroU32>)]
    rate: Option<NonZeroU32>,
    /// With --file: how many events may wait for the engine's answer. 1 keeps the order of the lines, whatever happens. By default 256.
    #[arg(long, value_name = "EVENTS", requires = "file", value_parser = values::at_least_one::<NonZeroUsize>)]
    in_flight: Option<NonZeroUsize>,
    /// With --file: go on after a line that is refused for what it is, and tell each. The same command tries those again, and no
    /// others. (What is no line's fault, such as an outage or a key that is not known, ends it all the same.)
    #[arg(long, requires = "file")]
    keep_going: bool,
    /// With --file: what to do with lines of which nobody can be sure that they were published.
    #[arg(long, value_enum, requires = "file")]
    unsure: Option<Unsure>,
    /// With --file: print the line's number, event id and recipient of each event.
    #[arg(long, requires = "file")]
    ids: bool,
    #[command(flatten)]
    secret: Secret,
    #[command(flatten)]
    connection: Connection,
}

/// How many events may be under way at a time, if nobody says.
const IN_FLIGHT: usize = 256;

/// What is done with lines that may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Unsure {
    /// Publish them again: some may arrive twice.
    Repeat,
    /// Take them as published: some may be missing.
    Skip,
}

/// What all events of a command have in common.
struct Common {
    event: String,
    to: Vec<AppId>,
    headers: Vec<(String, String)>,
    suite: Suite,
    sign: bool,
    timeout: Duration,
    persist: bool,
}

impl Publish {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        let common = self.common()?;
        if let Some(file) = &self.file {
            let own = self.own_key(&common)?;
            return bulk::run(&self, file, &common, own, out).await;
        }
        // clap does not ask for --file where the payload is given instead.
        let without = [
            ("--rate", self.rate.is_some()),
            ("--keep-going", self.keep_going),
            ("--unsure", self.unsure.is_some()),
            ("--ids", self.ids),
            ("--in-flight", self.in_flight.is_some()),
        ];
        if let Some((flag, _)) = without.into_iter().find(|(_, given)| *given) {
            return Err(Problem::usage(format!("{flag} is for the lines of a file: give --file")).into());
        }
        let given = self.payload.as_deref().unwrap_or_default();
        let is_typed = given != "-";
        let text = if is_typed { given.to_owned() } else { read_stdin("the payload").await? };
        let payload = read(&text).map_err(|error| match (is_typed, trimmed(&text)) {
            (false, "") => Problem::usage("the payload is missing: standard input is empty"),
            (true, text) if lost_its_quotes(text) => {
                Problem::usage(format!("{}; quote it for the shell, as in '{{\"a\":1}}'", report(&error)))
            }
            _ => Problem::usage(report(&error)),
        })?;
        let own = self.own_key(&common)?;
        let begun = Instant::now();
        let left = || self.timeout.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
        let client = self.connection.open_within(own, ("--timeout", self.timeout)).await?;
        let publish = common.publish(&client, payload, self.idempotency_key.as_deref());
        let told = tell(&common, publish.timeout(left()).await, out);
        // What was to be done is done, or told of; that the engine does not hear of the end is its to find out.
        let closed = tokio::time::timeout(left(), client.close()).await.unwrap_or(Ok(()));
        told?;
        closed.map_err(Into::into)
    }

    /// How many events may be under way at a time.
    fn most_in_flight(&self) -> usize {
        self.in_flight.map_or(IN_FLIGHT, NonZeroUsize::get).min(ledger::MAX_AHEAD)
    }

    fn common(&self) -> Result<Common, Problem> {
        let mut headers: Vec<(String, String)> = Vec::new();
        for header in &self.header {
            let form = || Problem::usage("--header: write it as KEY=VALUE");
            let (key, value) = header.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(form)?;
            if headers.iter().any(|(known, _)| known == key) {
                return Err(Problem::usage(format!(
                    "--header {key} is given twice; an event has one header of a name"
                )));
            }
            headers.push((key.to_owned(), value.to_owned()));
        }
        let suite: Suite = self.suite.parse().map_err(|error| Problem::at("--suite", &error))?;
        if self.sign && suite != Suite::Aes256Gcm {
            return Err(Problem::usage("--sign needs --suite aes-256-gcm"));
        }
        if self.timeout.is_zero() {
            return Err(Problem::usage("--timeout 0 leaves no time to publish"));
        }
        if let Some(key) = &self.idempotency_key {
            IdempotencyKey::parse(key).map_err(|error| Problem::at("--idempotency-key", &error))?;
            let most = IdempotencyKey::MAX_BYTES - lines::KEY_OF_A_LINE;
            if self.file.is_some() && key.len() > most {
                let (length, why) = (key.len(), "the line's number and a hash of its text are appended");
                return Err(Problem::usage(format!(
                    "--idempotency-key: with --file {most} characters at most, for {why}; this one has {length}"
                )));
            }
        }
        let (sign, timeout, persist) = (self.sign, self.timeout, self.persist);
        Ok(Common { event: self.event.clone(), to: recipients(&self.to)?, headers, suite, sign, timeout, persist })
    }

    /// The key that proves who sent it, where that is to be proven.
    fn own_key(&self, common: &Common) -> Result<Option<ensync_sdk::Keyring>, Failure> {
        if common.suite == Suite::Nacl { Ok(None) } else { self.secret.require_for(&self.connection).map(Some) }
    }
}

/// A payload, white space and a byte order mark around it aside. The text is checked and goes out as it is: a number that no `f64`
/// holds would change on the way through a `Value`.
fn read(text: &str) -> Result<PayloadJson, Error> {
    PayloadJson::parse(trimmed(text))
}

/// Whether a text looks like JSON of which a shell has taken the quotation marks.
fn lost_its_quotes(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_alphabetic() || matches!(c, '{' | '['));
    begins && !text.contains('"') && text.contains(char::is_alphabetic)
}

impl Common {
    /// One event under way.
    fn publish(&self, client: &Client, payload: PayloadJson, key: Option<&str>) -> ensync_sdk::Publish {
        let publish = client.publish_json(self.event.as_str(), payload).to_all(self.to.iter().copied());
        let mut publish = publish.persist(self.persist).timeout(self.timeout).suite(self.suite);
        if self.sign {
            publish = publish.sign();
        }
        if let Some(key) = key {
            publish = publish.idempotency_key(key);
        }
        for (key, value) in &self.headers {
            publish = publish.header(key, value.as_str());
        }
        publish
    }
}

/// That the ids could not be printed. Whoever takes it for a failure to publish would publish twice.
fn published_all_the_same(why: Failure, accepted: &[(AppId, EventId)]) -> Failure {
    if why.is::<ReaderGone>() || accepted.is_empty() {
        return why;
    }
    let ids: Vec<_> = accepted.iter().map(|(_, id)| id.as_str()).collect();
    Problem::new(Exit::Output, format!("{why}; but the event is published, as {}", ids.join(", "))).into()
}

/// Who was served, and who was not: also if it failed in part.
fn tell(common: &Common, published: Result<ensync_sdk::Receipt, Error>, out: Output) -> Outcome {
    let (accepted, failed, error) = match published {
        Ok(receipt) => (receipt.iter().map(|(to, id)| (*to, id.clone())).collect(), Vec::new(), None),
        Err(error) => match PartialPublish::of(&error) {
            Some(partial) => (partial.accepted.clone(), partial.failed.clone(), Some(error)),
            None => return Err(error.into()),
        },
    };
    let value = || {
        let accepted: Vec<_> =
            accepted.iter().map(|(to, id)| json!({"to": to.to_string(), "id": id.as_str()})).collect();
        let refused = |(to, error): &(AppId, Error)| json!({"to": to.to_string(), "kind": error.kind().code(), "message": foreign::message(&report(error))});
        json!({"published": accepted, "failed": failed.iter().map(refused).collect::<Vec<Value>>()})
    };
    if out.json {
        out.value(&value()).map_err(|why| published_all_the_same(why, &accepted))?;
    } else {
        for (to, error) in &failed {
            note(format_args!("not published to {to}: {}", foreign::message(&report(error))));
        }
        let lines: String = accepted.iter().map(|(to, id)| format!("{id}\t{to}\n")).collect();
        out.raw(lines).map_err(|why| published_all_the_same(why, &accepted))?;
    }
    let Some(error) = error else { return Ok(()) };
    let (served, all) = (accepted.len(), common.to.len());
    let exit = if served == 0 { Exit::of(error.kind()) } else { Exit::Partly };
    Err(Problem::new(exit, format!("{served} of {all} recipients were served")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_at_quoting_is_for_what_a_shell_took_quotes_of() {
        for text in ["{a:1}", "[x]", "hello"] {
            assert!(lost_its_quotes(text), "{text}");
        }
        let deep = "[".repeat(200);
        for text in ["", "1e999", "{\"a\":1,\"a\":2}", "-", &deep] {
            assert!(!lost_its_quotes(text), "{text}");
        }
    }
}
