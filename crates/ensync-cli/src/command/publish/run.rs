//! How far a run is: what becomes of each line, what is printed and noted of it, and why it stops.

use std::path::Path;
use std::time::Duration;

use ensync_sdk::core::report;
use ensync_sdk::{Error, ErrorKind, PartialPublish};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use serde_json::json;
use tokio::time::Instant;

use super::Publish;
use super::bulk::{Answer, hopeless, now};
use super::journal::Journal;
use super::ledger::{Ledger, Standing, What};
use super::lines::Line;
use super::progress::Progress;
use crate::command::Outcome;
use crate::exit::{Exit, Problem};
use crate::foreign;
use crate::output::{Output, Unwritten, note, plural};

/// How often it is noted how far it is.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How many lines may go out between two notes, if few are in flight: after a kill, so many may be published.
const MAX_RESERVED: u64 = 2_000;
/// How many lines may wait to be printed.
const MAX_PRINTING: usize = 256;

/// A run.
pub(super) struct Bulk {
    out: Output,
    ids: bool,
    keep_going: bool,
    in_flight: u64,
    journal: Option<Journal>,
    progress: Progress,
    ledger: Ledger,
    /// Where the last line ends that was read.
    bytes: u64,
    /// How many went out since the last note, when that was, and whether there is news.
    begun: u64,
    noted: Instant,
    news: bool,
    /// Lines that are being printed.
    pub(super) printing: FuturesUnordered<BoxFuture<'static, Result<(), Unwritten>>>,
    /// Why no more are begun.
    pub(super) stop: Option<Problem>,
    signalled: bool,
}

/// What an error says of a line.
enum Fate {
    /// It will not pass as it is, and nobody got it.
    Refused,
    /// It will not pass for some of its recipients; others have it.
    Partly,
    /// Nothing: it is not the line's fault.
    Untold,
}

impl Fate {
    fn of(error: &Error) -> Self {
        if let Some(partial) = PartialPublish::of(error) {
            let refused = partial.failed.iter().all(|(_, error)| is_refusal(error));
            return match (refused, partial.accepted.is_empty()) {
                (true, true) => Self::Refused,
                (true, false) => Self::Partly,
                (false, _) => Self::Untold,
            };
        }
        if is_refusal(error) { Self::Refused } else { Self::Untold }
    }
}

/// Whether an event was refused for what it is: not for the moment, and not for who sends it where.
fn is_refusal(error: &Error) -> bool {
    use ErrorKind as Kind;
    let of_the_run = matches!(
        error.kind(),
        Kind::InvalidUrl
            | Kind::FeatureDisabled
            | Kind::InvalidEventName
            | Kind::InvalidKey
            | Kind::Unauthenticated
            | Kind::Forbidden
            | Kind::UnknownEvent
            | Kind::Connect
            | Kind::Tls
            | Kind::Closed
    );
    !of_the_run && !error.is_retryable() && !error.may_have_happened()
}

impl Bulk {
    pub(super) fn new(
        publish: &Publish,
        out: Output,
        journal: Option<Journal>,
        ledger: Ledger,
        progress: Progress,
    ) -> Self {
        Self {
            out,
            ids: publish.ids,
            keep_going: publish.keep_going,
            in_flight: publish.most_in_flight() as u64,
            journal,
            bytes: progress.before(),
            progress,
            ledger,
            begun: 0,
            noted: Instant::now(),
            news: false,
            printing: FuturesUnordered::new(),
            stop: None,
            signalled: false,
        }
    }

    /// Begins no more. The first reason is the one that is told.
    pub(super) fn stop(&mut self, why: Problem) {
        self.stop.get_or_insert(why);
    }

    pub(super) fn may_begin(&self) -> bool {
        self.stop.is_none() && self.ledger.has_room() && self.printing.len() < MAX_PRINTING
    }

    /// Whether a line is to be published.
    pub(super) fn is_wanted(&mut self, line: &Line) -> bool {
        self.bytes = self.bytes.max(line.bytes);
        let what = self.ledger.what(line);
        self.news |= what == What::Pass;
        if what == What::Changed {
            let text = format!("line {} was published, and is another one now", line.number);
            self.stop(Problem::new(Exit::Conflict, text));
        }
        what == What::Publish
    }

    /// Notes that a line may be published from now on. False if that is not possible: then it must not go out.
    pub(super) fn begin(&mut self, line: &Line) -> bool {
        let is_news = self.ledger.is_news(line);
        self.ledger.begin(line, now());
        self.begun += 1;
        if is_news {
            self.note_down(self.begun.max(self.in_flight).min(MAX_RESERVED.max(self.in_flight)));
            if self.stop.is_some() {
                self.ledger.back(line);
                return false;
            }
        }
        true
    }

    /// It is known what became of a line, as far as anybody can know it.
    pub(super) fn answered(&mut self, line: &Line, answer: Answer) {
        self.news = true;
        let error = match answer {
            Ok(receipt) => {
                self.ledger.stands(line, Standing::Done);
                if self.ids {
                    let lines: String = receipt
                        .iter()
                        .map(|(to, id)| match self.out.json {
                            true => {
                                format!("{}\n", json!({"line": line.number, "id": id.as_str(), "to": to.to_string()}))
                            }
                            false => format!("{}\t{id}\t{to}\n", line.number),
                        })
                        .collect();
                    self.printing.push(Box::pin(self.out.print(lines)));
                }
                return;
            }
            Err(error) => error,
        };
        let fate = Fate::of(&error);
        match fate {
            Fate::Refused => self.ledger.stands(line, Standing::Not),
            Fate::Untold if !error.may_have_happened() => self.ledger.back(line),
            Fate::Partly | Fate::Untold => self.ledger.stands(line, Standing::Unsure),
        }
        if matches!(fate, Fate::Untold) || !self.keep_going {
            return self.stop(Problem::at(format_args!("line {}", line.number), &error));
        }
        self.progress.clear();
        note(foreign::message(&format!("line {}: {}", line.number, report(&error))));
        if self.ledger.is_hopeless() {
            self.stop(hopeless());
        }
    }

    /// What became of what was to be printed. That nobody reads it is no reason to stop in the middle.
    pub(super) fn printed(&mut self, printed: Result<(), Unwritten>) {
        match printed {
            Ok(()) => {}
            Err(Unwritten::ReaderGone) => self.ids = false,
            Err(Unwritten::Failed(why)) => {
                self.stop(Problem::new(Exit::Output, format!("{why}; ids of lines that are published are missing")));
            }
        }
    }

    /// Shows how far it is, and notes it from time to time.
    pub(super) fn tick(&mut self) {
        self.progress.show(self.ledger.published, self.bytes);
        if self.news && self.noted.elapsed() >= NOTE_EVERY {
            self.note_down(self.begun.max(self.in_flight).min(MAX_RESERVED.max(self.in_flight)));
        }
    }

    /// Writes down what is known. `more`: so many lines may go out before it is written again.
    fn note_down(&mut self, more: u64) {
        let Some(journal) = &self.journal else { return };
        let noted = self.ledger.noted(if self.stop.is_some() { 0 } else { more }, now());
        if let Err(problem) = journal.write(&noted) {
            return self.stop(problem);
        }
        (self.begun, self.news, self.noted) = (0, false, Instant::now());
    }

    pub(super) fn interrupted(&mut self, signal: &str, in_flight: usize) -> Result<(), Problem> {
        self.progress.clear();
        if std::mem::replace(&mut self.signalled, true) {
            self.note_down(0);
            return Err(Problem::new(Exit::Partly, format!("ended at once by {signal}; {}", self.go_on())));
        }
        note(format_args!("waiting for {in_flight} answers; once more ends at once"));
        self.stop(Problem::new(Exit::Partly, format!("stopped by {signal}")));
        Ok(())
    }

    fn go_on(&self) -> String {
        let but = match self.ledger.failed() {
            0 => String::new(),
            failed => format!(" but for {failed} of the lines"),
        };
        let all = match self.ledger.line() {
            0 if self.ledger.published == 0 => return "nothing is published".to_owned(),
            line => format!("all up to line {line} is published{but}"),
        };
        if self.journal.is_some() { format!("{all}; the same command goes on from there") } else { all }
    }

    /// Tells what came of it. `read`: to the end of the file.
    pub(super) async fn end(mut self, file: &Path, read: bool) -> Outcome {
        self.progress.clear();
        let (failed, seconds) = (self.ledger.failed(), self.progress.elapsed().as_secs_f64());
        let whole = read && self.stop.is_none() && failed == 0;
        match &self.journal {
            Some(journal) if whole || self.ledger.is_nothing() => {
                if let Err(problem) = journal.remove() {
                    self.stop(problem);
                }
            }
            Some(_) => self.note_down(0),
            None => {}
        }
        let (published, skipped) = (self.ledger.published, self.ledger.skipped);
        if self.out.json {
            let seconds = (seconds * 1e3).round() / 1e3;
            let value = json!({"published": published, "skipped": skipped, "failed": failed, "seconds": seconds});
            if let Err(Unwritten::Failed(why)) = self.out.print(format!("{value}\n")).await {
                self.stop(Problem::new(Exit::Output, why));
            }
        } else {
            let rate = published as f64 / seconds.max(0.001);
            let lines = plural(published, "line", "lines");
            note(format_args!("{lines} of {} published in {seconds:.1} s ({rate:.0}/s)", file.display()));
        }
        if let Some(problem) = self.stop.take() {
            let text = if whole { problem.to_string() } else { format!("{problem}; {}", self.go_on()) };
            return Err(problem.with_message(text).into());
        }
        if failed == 0 {
            return Ok(());
        }
        let again = if self.journal.is_some() { "; the same command tries those again, and no others" } else { "" };
        Err(Problem::new(
            Exit::Partly,
            format!("{}, see above{again}", plural(failed, "line was refused", "lines were refused")),
        )
        .into())
    }
}
