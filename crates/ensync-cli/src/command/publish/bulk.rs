//! The lines of a file, many in flight.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ensync_sdk::core::report;
use ensync_sdk::{Error, Receipt, SecretKey};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::journal::{Done, Journal};
use super::lines::{self, Line};
use super::progress::{EVERY, Progress};
use super::{Common, Publish, read};
use crate::command::Outcome;
use crate::exit::{Exit, Problem};
use crate::foreign;
use crate::output::{Output, note};
use crate::signals::Signals;

/// The most lines that may wait for answers: the file that tells how far it came names each.
const MAX_IN_FLIGHT: usize = 10_000;

/// How far it is.
struct Bulk {
    out: Output,
    ids: bool,
    keep_going: bool,
    journal: Option<Journal>,
    progress: Progress,
    /// Lines in flight or done above the last line up to which all are done; what ends with a line, when it is done.
    above: BTreeMap<u64, Option<End>>,
    /// The last line up to which all are done, where it ends, the hash of the file up to there, and whether the journal knows.
    done: (u64, u64, String),
    noted: bool,
    /// Lines after it that were done before, and the hash of each.
    before: BTreeMap<u64, String>,
    published: u64,
    skipped: u64,
    failed: u64,
    /// Why no more are begun.
    stop: Option<Problem>,
}

/// Where a line ends, the hash of the file up to there, and that of the line.
type End = (u64, String, String);

/// Publishes a file. `own`: the key that proves who sent it.
pub(super) async fn run(
    publish: &Publish,
    file: &Path,
    common: &Common,
    own: Option<SecretKey>,
    out: Output,
) -> Outcome {
    let mut signals = Signals::listen()?;
    let (shown, key) = (file.display(), publish.idempotency_key.as_deref());
    let cannot = |cause: std::io::Error| Problem::usage(format!("--file: cannot read {shown}: {cause}"));
    let about = if file == Path::new("-") { None } else { Some(std::fs::metadata(file).map_err(cannot)?) };
    let mut lines = lines::read(file).map_err(cannot)?;
    // A pipe cannot be read again, so it cannot be gone on with.
    let regular = about.filter(std::fs::Metadata::is_file);
    let size = regular.as_ref().map(std::fs::Metadata::len);
    let journal = regular.map(|_| Journal::open(file, common, key)).transpose()?;
    let mut bulk = Bulk::new(publish, out, journal, size);
    let run = bulk.run_name(key)?;
    bulk.skip(&mut lines, file).await?;
    let client = publish.connection.open(own).await?;
    let mut flight = FuturesUnordered::new();
    let (mut ticks, mut next, mut ended) = (interval(EVERY), Instant::now(), false);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let pause = publish.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.get());
    while !(flight.is_empty() && (ended || bulk.stop.is_some())) {
        let more = !ended && bulk.stop.is_none() && flight.len() < publish.in_flight.get().min(MAX_IN_FLIGHT);
        tokio::select! {
            Some((line, receipt)) = flight.next(), if !flight.is_empty() => bulk.answered(line, receipt)?,
            line = async { sleep_until(next).await; lines.recv().await }, if more => match line {
                None => ended = true,
                Some(Err(cause)) => bulk.stop = Some(cannot(cause)),
                Some(Ok(line)) if bulk.is_done(&line) => {}
                Some(Ok(line)) => {
                    bulk.begin(&line);
                    match read(&line.text) {
                        Err(error) => bulk.answered(line, Err(error))?,
                        Ok(payload) => {
                            let key = format!("{run}-{}", line.number);
                            let publishing = common.publish(&client, payload, Some(&key)).into_future();
                            flight.push(async move { (line, publishing.await) });
                            next = next.max(Instant::now().checked_sub(EVERY).unwrap_or(next)) + pause;
                        }
                    }
                }
            },
            _ = ticks.tick() => bulk.keep()?,
            name = signals.stop() => bulk.interrupted(name, flight.len())?,
        }
    }
    let told = bulk.end(file);
    let closed = client.close().await;
    told?;
    closed.map_err(Into::into)
}

impl Bulk {
    fn new(publish: &Publish, out: Output, journal: Option<Journal>, size: Option<u64>) -> Self {
        Self {
            out,
            ids: publish.ids,
            keep_going: publish.keep_going,
            journal,
            progress: Progress::new(size, out.json),
            above: BTreeMap::new(),
            done: (0, 0, String::new()),
            noted: true,
            before: BTreeMap::new(),
            published: 0,
            skipped: 0,
            failed: 0,
            stop: None,
        }
    }

    /// What the idempotency keys begin with.
    fn run_name(&self, key: Option<&str>) -> Result<String, Problem> {
        match (&self.journal, key) {
            (Some(journal), _) => Ok(journal.run.clone()),
            (None, Some(key)) => Ok(key.to_owned()),
            (None, None) => super::journal::random().map_err(|cause| Problem::new(Exit::Failed, cause.to_string())),
        }
    }

    /// Passes over what was done before, if it is still what it was.
    async fn skip(&mut self, lines: &mut tokio::sync::mpsc::Receiver<std::io::Result<Line>>, file: &Path) -> Outcome {
        let Some(done) = self.journal.as_ref().and_then(|journal| journal.done.clone()) else { return Ok(()) };
        let Done { line: number, hash, above } = done;
        self.before = above;
        if number == 0 {
            return Ok(());
        }
        let mut last = None;
        while last.as_ref().is_none_or(|last: &Line| last.number < number) {
            match lines.recv().await {
                Some(line) => last = Some(line?),
                None => break,
            }
        }
        let Some(last) = last.filter(|last| last.number == number && last.hash == hash) else {
            let (file, journal) = (file.display(), Journal::path(file));
            let text = format!(
                "the first {number} lines of {file} are not what was published of it; remove {} to publish all of it anew",
                journal.display()
            );
            return Err(Problem::new(Exit::Conflict, text).into());
        };
        self.skipped = number;
        self.progress.skip(last.bytes);
        self.done = (last.number, last.bytes, last.hash);
        note(format_args!("the first {number} lines were published before; going on"));
        Ok(())
    }

    /// Whether there is nothing to do for a line: it is empty, or was published before.
    fn is_done(&mut self, line: &Line) -> bool {
        match self.before.get(&line.number) {
            Some(own) if *own == line.own => self.skipped += 1,
            Some(_) => {
                let text = format!("line {} was published, and is another one now", line.number);
                self.stop = Some(Problem::new(Exit::Conflict, text));
                return true;
            }
            None if line.text.trim().is_empty() => {}
            None => return false,
        }
        self.begin(line);
        self.finish(line);
        true
    }

    fn begin(&mut self, line: &Line) {
        self.above.insert(line.number, None);
    }

    fn answered(&mut self, line: Line, answer: Result<Receipt, Error>) -> Outcome {
        match answer {
            Ok(receipt) => {
                self.published += 1;
                if self.ids {
                    for (to, id) in receipt.iter() {
                        let value = || json!({"line": line.number, "id": id.as_str(), "to": to.to_string()});
                        self.out.either(value, || format!("{}\t{id}\t{to}", line.number))?;
                    }
                }
                self.finish(&line);
                Ok(())
            }
            Err(error) => {
                let problem = Problem::at(format_args!("line {}", line.number), &error);
                if self.keep_going {
                    self.failed += 1;
                    self.progress.clear();
                    note(foreign::message(&format!("line {}: {}", line.number, report(&error))));
                    self.finish(&line);
                    return Ok(());
                }
                self.stop.get_or_insert(problem);
                Ok(())
            }
        }
    }

    /// A line is done.
    fn finish(&mut self, line: &Line) {
        self.above.insert(line.number, Some((line.bytes, line.hash.clone(), line.own.clone())));
        self.noted = false;
        while let Some(first) = self.above.first_entry()
            && first.get().is_some()
        {
            let number = *first.key();
            if let Some((bytes, hash, _)) = first.remove() {
                self.done = (number, bytes, hash);
            }
        }
    }

    /// Shows how far it is, and keeps it.
    fn keep(&mut self) -> Outcome {
        self.progress.show(self.published, self.done.1);
        if let Some(journal) = self.journal.as_mut().filter(|_| !self.noted) {
            // What was done in an earlier run and is not come to yet is done all the same.
            let mut above = self.before.split_off(&self.done.0.saturating_add(1));
            self.before.clone_from(&above);
            let done = self.above.iter().filter_map(|(line, end)| Some((*line, end.as_ref()?.2.clone())));
            above.extend(done);
            journal.write(&Done { line: self.done.0, hash: self.done.2.clone(), above })?;
            self.noted = true;
        }
        Ok(())
    }

    fn interrupted(&mut self, signal: &str, in_flight: usize) -> Outcome {
        self.keep()?;
        if self.stop.is_some() {
            let text = format!("ended at once by {signal}; {}", self.go_on());
            return Err(Problem::new(Exit::Partly, text).into());
        }
        self.progress.clear();
        note(format_args!("waiting for {in_flight} answers; once more ends at once"));
        self.stop = Some(Problem::new(Exit::Partly, format!("stopped by {signal}")));
        Ok(())
    }

    fn go_on(&self) -> String {
        let line = self.done.0;
        match &self.journal {
            Some(_) => format!("all up to line {line} is published; the same command goes on from there"),
            None => format!("all up to line {line} is published"),
        }
    }

    fn end(mut self, file: &Path) -> Outcome {
        self.keep()?;
        self.progress.clear();
        let seconds = self.progress.elapsed().as_secs_f64();
        if let Some(problem) = self.stop.take() {
            let text = format!("{problem}; {}", self.go_on());
            return Err(problem.with_message(text).into());
        }
        if let Some(journal) = self.journal.take() {
            journal.remove()?;
        }
        let Self { published, skipped, failed, .. } = self;
        let value = || json!({"published": published, "skipped": skipped, "failed": failed, "seconds": (seconds * 1e3).round() / 1e3});
        if self.out.json {
            self.out.value(&value())?;
        } else {
            let rate = published as f64 / seconds.max(0.001);
            note(format_args!("{published} lines of {} published in {seconds:.1} s ({rate:.0}/s)", file.display()));
        }
        match failed {
            0 => Ok(()),
            failed => Err(Problem::new(Exit::Partly, format!("{failed} lines were refused, see above")).into()),
        }
    }
}
