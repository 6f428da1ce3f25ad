//! The lines of a file, many in flight.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ensync_sdk::core::report;
use ensync_sdk::{Client, Error, Keyring, Receipt};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::journal::{self, Journal};
use super::ledger::{Chain, Ledger, MAX_BEHIND, Noted, Standing, chained};
use super::lines::{self, Lines};
use super::progress::{EVERY, Progress};
use super::run::Bulk;
use super::{Common, Publish, Unsure, read};
use crate::command::Outcome;
use crate::exit::{Exit, Problem};
use crate::output::{Failure, Output, note, plural};
use crate::signals::Signals;

/// Publishes a file. `own`: the key that proves who sent it.
pub(super) async fn run(publish: &Publish, file: &Path, common: &Common, own: Option<Keyring>, out: Output) -> Outcome {
    let mut signals = Signals::of_command()?;
    let source = Source::open(file)?;
    let mut lines = source.lines()?;
    let opened =
        signals.unless(publish.connection.open_within(own, ("--timeout", publish.timeout))).await.map_err(stopped)?;
    let client = opened?;
    let key = publish.idempotency_key.as_deref();
    let sender = client.app_id().map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    let purpose = journal::purpose(common, key, client.endpoint().to_string(), sender);
    let (journal, noted) = match source.size {
        Some(_) => Journal::open(file, purpose, key).map(|(journal, noted)| (Some(journal), noted))?,
        None => (None, Noted::default()),
    };
    let run = match (&journal, key) {
        (Some(journal), _) => journal.run.clone(),
        (None, Some(key)) => key.to_owned(),
        (None, None) => journal::random().map_err(|cause| Problem::new(Exit::Failed, cause.to_string()))?,
    };
    agree(&noted, client.deduplication_window().unwrap_or_default(), publish.unsure)?;
    let bytes = signals.unless(verify(&mut lines, &noted, file)).await.map_err(stopped)??;
    if noted.has_gaps() {
        // Some of the lines that were passed are wanted after all.
        lines = source.lines()?;
    }
    let mut progress = Progress::new(source.size, out.json);
    progress.skip(bytes);
    let ledger = Ledger::new(noted, publish.unsure == Some(Unsure::Skip));
    let mut bulk = Bulk::new(publish, out, journal, ledger, progress);
    let ended = follow(publish, common, &client, &mut bulk, (lines, &run, file), &mut signals).await?;
    let told = bulk.end(file, ended);
    let told = signals.unless(told).await.map_err(stopped)?;
    let closed = signals.unless(client.close()).await.map_err(stopped)?;
    told?;
    closed.map_err(Into::into)
}

/// Publishes line by line. True if all of the file was read.
async fn follow(
    publish: &Publish,
    common: &Common,
    client: &Client,
    bulk: &mut Bulk,
    (mut lines, run, file): (Lines, &str, &Path),
    signals: &mut Signals,
) -> Result<bool, Failure> {
    let mut flight = FuturesUnordered::new();
    let (mut ticks, mut next, mut ended) = (interval(EVERY), Instant::now(), false);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let pause = publish.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.get());
    let in_flight = publish.most_in_flight();
    while !(flight.is_empty() && bulk.printing.is_empty() && (ended || bulk.stop.is_some())) {
        let more = !ended && bulk.may_begin() && flight.len() < in_flight;
        tokio::select! {
            Some((line, answer)) = flight.next(), if !flight.is_empty() => bulk.answered(&line, answer),
            Some(printed) = bulk.printing.next(), if !bulk.printing.is_empty() => bulk.printed(printed),
            line = async { sleep_until(next).await; lines.recv().await }, if more => match line {
                None => ended = true,
                Some(Err(cause)) => bulk.stop(cannot_read(file, &cause)),
                Some(Ok(line)) => if bulk.is_wanted(&line) {
                    match read(&line.text) {
                        Err(error) => bulk.answered(&line, Err(in_a_line(error))),
                        Ok(payload) if bulk.begin(&line) => {
                            // What is another text is another event, whatever its number is.
                            let key = lines::key(run, &line);
                            let publishing = common.publish(client, payload, Some(&key)).into_future();
                            flight.push(async move { (line, publishing.await) });
                            next = next.max(Instant::now().checked_sub(EVERY).unwrap_or(next)) + pause;
                        }
                        // How far it is cannot be noted, so it does not go out.
                        Ok(_) => {}
                    }
                },
            },
            _ = ticks.tick() => bulk.tick(),
            name = signals.stop() => bulk.interrupted(name, flight.len())?,
        }
    }
    Ok(ended)
}

/// The answer to a publish.
pub(super) type Answer = Result<Receipt, Error>;

/// What is wrong with a line. It is told by its number in the file, so where it is in the line is a column.
fn in_a_line(error: Error) -> Error {
    let said = report(&error);
    match said.split_once("line 1 column ") {
        Some((before, rest)) => Error::new(error.kind(), format!("{before}column {rest}")),
        None => error,
    }
}

fn stopped(signal: &'static str) -> Problem {
    Problem::new(Exit::Partly, format!("stopped by {signal}; the same command goes on"))
}

fn cannot_read(file: &Path, cause: &std::io::Error) -> Problem {
    Problem::usage(format!("--file: cannot read {}: {cause}", file.display()))
}

/// The file that is published.
struct Source<'a> {
    path: &'a Path,
    /// How long it is, if it is a file that can be read again, and so be gone on with.
    size: Option<u64>,
    /// Held locked while it is published: two runs at a time would write down what the other did not do.
    _locked: Option<File>,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Self, Problem> {
        let nothing = Self { path, size: None, _locked: None };
        // What stands there is no file beside which another could be.
        if path == Path::new("-") || ["/dev", "/proc"].iter().any(|special| path.starts_with(special)) {
            return Ok(nothing);
        }
        let about = std::fs::metadata(path).map_err(|cause| cannot_read(path, &cause))?;
        if about.is_dir() {
            return Err(Problem::usage(format!("--file: {} is a directory", path.display())));
        }
        if !about.is_file() {
            return Ok(nothing);
        }
        let file = File::open(path).map_err(|cause| cannot_read(path, &cause))?;
        // Elsewhere a lock keeps others from reading, this program's own other handles included.
        if cfg!(unix) && matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            let text = format!("{} is being published by another run; wait for that", path.display());
            return Err(Problem::new(Exit::Conflict, text));
        }
        Ok(Self { path, size: Some(about.len()), _locked: Some(file) })
    }

    fn lines(&self) -> Result<Lines, Problem> {
        lines::read(self.path).map_err(|cause| cannot_read(self.path, &cause))
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether what may be published can be published again: the engine still knows it, or somebody said what to do.
fn agree(noted: &Noted, window: Duration, said: Option<Unsure>) -> Result<(), Problem> {
    let Some(doubt) = noted.doubt() else { return Ok(()) };
    let age = noted.since.and_then(|since| now().checked_sub(since)).map(Duration::from_millis);
    let which = match (doubt.first, doubt.last) {
        (first, last) if first == last => format!("line {first}"),
        (first, last) => format!("up to {} of the lines {first} to {last}", doubt.count),
    };
    let shown = |time: Duration| humantime::format_duration(Duration::from_secs(time.as_secs()));
    // It has to be taken again, and answered, while the engine knows it.
    let known = age.is_some_and(|age| age < window / 2);
    match said {
        None if !known => {
            let age = age.map_or_else(|| "at a time that is not known".to_owned(), |age| format!("{} ago", shown(age)));
            let text = format!(
                "{which} may be published already: they were on their way {age}, and the engine knows an event again for {} only; \
                 look whether they arrived, then add --unsure repeat to publish them again, or --unsure skip to take them as published",
                shown(window)
            );
            return Err(Problem::new(Exit::Conflict, text));
        }
        None => {
            note(format_args!("{which} may be published already; the engine still knows those, and takes none twice"))
        }
        Some(Unsure::Repeat) => note(format_args!("{which} may be published already, and is published again")),
        Some(Unsure::Skip) => note(format_args!("{which} may be published already, and counts as published")),
    }
    Ok(())
}

/// Passes over what was done before, if it is still what it was. How many bytes that is.
async fn verify(lines: &mut Lines, noted: &Noted, file: &Path) -> Result<u64, Problem> {
    let (mut chain, mut bytes, mut last) = (Chain::default(), 0, 0);
    while last < noted.line {
        let Some(line) = lines.recv().await else { break };
        let line = line.map_err(|cause| cannot_read(file, &cause))?;
        if !noted.apart.contains_key(&line.number) {
            chain = chained(&chain, line.number, &line.own);
        }
        (last, bytes) = (line.number, line.bytes);
    }
    if (last, chain) != (noted.line, noted.chain) {
        let (number, shown, journal) = (noted.line, file.display(), Journal::path(file));
        let text = format!(
            "the first {number} lines of {shown} are not what was published of it; remove {} to publish all of it anew",
            journal.display()
        );
        return Err(Problem::new(Exit::Conflict, text));
    }
    if noted.line > 0 {
        let left = noted.apart.range(..=noted.line).filter(|(_, (_, standing))| *standing != Standing::Done).count();
        let but = if left == 0 { String::new() } else { format!(", but for {left} of them") };
        let before = plural(noted.line, "line was", "lines were");
        note(format_args!("the first {before} published before{but}; going on"));
    }
    Ok(bytes)
}

/// Why so many lines were not published is no fault of the lines.
pub(super) fn hopeless() -> Problem {
    Problem::new(Exit::Partly, format!("{MAX_BEHIND} lines were refused"))
}
