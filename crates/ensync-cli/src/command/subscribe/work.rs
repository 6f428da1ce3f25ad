//! What is done with one event.

use std::convert::Infallible;
use std::future::pending;
use std::io::{self, stdout};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ensync_sdk::core::report;
use ensync_sdk::{Control, Error, Event};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Notify;

use super::Format;
use super::print::{Opened, lines, one_line};
use super::running::Running;
use crate::exit::{Exit, Problem};
use crate::foreign::printable;
use crate::output::{Failure, Output, Unwritten, colours, note};

/// How long to wait before a settlement is tried again that was refused in passing.
const AGAIN: Duration = Duration::from_millis(250);
/// For how long. It holds up what comes behind it, and the end when that is asked for.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// What a command exits with to say that the data are of no use, as in BSD's sysexits.h (`EX_DATAERR`).
const USELESS: i32 = 65;
/// The same for: not now (`EX_TEMPFAIL`).
const NOT_NOW: i32 = 75;
/// What a shell exits with if a command may not be run, or is not there: POSIX, Shell Command Language, 2.8.2. Windows has a code of its
/// own for the latter.
const NO_COMMAND: [i32; 3] = [126, 127, 9_009];
/// The longest text that a command is given in a variable, in bytes: the system takes no more than 128 KiB for one (execve(2)).
const MAX_VARIABLE: usize = 120 << 10;

/// What is to be done with each event, and how far it is.
pub(super) struct Work {
    pub(super) out: Output,
    pub(super) format: Format,
    pub(super) ack: bool,
    pub(super) exec: Option<String>,
    /// How long a command may take.
    pub(super) exec_timeout: Option<Duration>,
    pub(super) running: Running,
    pub(super) defer_by: Duration,
    /// How many events may still be taken.
    pub(super) left: AtomicU64,
    /// Told when it is to end.
    pub(super) end: Notify,
    /// Why it ends, if that is no good reason.
    pub(super) failure: Mutex<Option<Ended>>,
    /// How many events could be opened, and how many not.
    pub(super) opened: AtomicU64,
    pub(super) unopened: AtomicU64,
}

/// Why it ends before it was to.
#[derive(Debug)]
pub(super) enum Ended {
    /// An event could not be printed.
    Unwritten(Unwritten),
    /// There is no such command, whatever event it is for.
    NoCommand(String),
}

impl From<Ended> for Failure {
    fn from(why: Ended) -> Self {
        match why {
            Ended::Unwritten(why) => why.into(),
            Ended::NoCommand(message) => Problem::usage(message).into(),
        }
    }
}

/// What becomes of an event.
enum Verdict {
    Ack,
    Defer(&'static str),
    Discard,
    /// For its lease's end, or another reader: dropped it would come again at once.
    Leave,
}

impl Work {
    /// Does it with one event.
    pub(super) async fn handle(&self, event: Event, control: &Control) {
        let taken = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        let Ok(before) = taken else {
            // It was on its way when the last one was taken; dropped, it goes back.
            return self.end.notify_one();
        };
        let ends = self.failure().is_some();
        if ends {
            return Self::hand_back(event, control).await;
        }
        let opened = event.json().and_then(|_| event.text());
        let counted = if opened.is_ok() { &self.opened } else { &self.unopened };
        counted.fetch_add(1, Ordering::Relaxed);
        let verdict = match &self.exec {
            Some(command) => self.execute(command, &event, &opened).await,
            None => match self.print(&event, &opened).await {
                Err(why) => Err(Ended::Unwritten(why)),
                Ok(()) if self.ack && opened.is_ok() => Ok(Verdict::Ack),
                Ok(()) => Ok(Verdict::Leave),
            },
        };
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(why) => {
                self.failure().get_or_insert(why);
                self.end.notify_one();
                return Self::hand_back(event, control).await;
            }
        };
        let last = before == 1;
        if last && let Err(error) = control.pause("the last event that was asked for").await {
            tracing::debug!(%error, "not paused");
        }
        self.settle(event, verdict).await;
        if last {
            self.end.notify_one();
        }
    }

    /// Has an event come again at once, and not to us: that would go round until it is a dead letter.
    async fn hand_back(event: Event, control: &Control) {
        if let Err(error) = control.pause("this reader ends").await {
            tracing::debug!(%error, "not paused");
        }
        drop(event);
    }

    fn failure(&self) -> MutexGuard<'_, Option<Ended>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it was of no use, if it was not: it ended early, or, unless somebody asked it to end, nothing of what came could be opened.
    pub(super) fn verdict(&self, asked: bool) -> Result<(), Failure> {
        if let Some(why) = self.failure().take() {
            return Err(why.into());
        }
        match (self.opened.load(Ordering::Relaxed), self.unopened.load(Ordering::Relaxed)) {
            (0, unopened @ 1..) if !asked => {
                let text = format!(
                    "of the events that came ({unopened}) none can be opened with the secret key at hand; is it the key of this app?"
                );
                Err(Problem::new(Exit::Unreadable, text).into())
            }
            _ => Ok(()),
        }
    }

    async fn print(&self, event: &Event, opened: &Opened<'_>) -> Result<(), Unwritten> {
        if self.format == Format::Raw
            && let Err(error) = opened
        {
            note(format_args!("warning: {} cannot be opened: {}", printable(event.id().as_str()), report(error)));
            return Ok(());
        }
        let text = format!("{}\n", lines(event, opened, self.format, colours(&stdout())));
        self.out.print(text).await
    }

    async fn execute(&self, command: &str, event: &Event, opened: &Opened<'_>) -> Result<Verdict, Ended> {
        let id = printable(event.id().as_str());
        let payload = match opened {
            Ok(payload) => *payload,
            Err(error) => {
                note(format_args!("warning: {id} cannot be opened, and is left: {}", report(error)));
                return Ok(Verdict::Leave);
            }
        };
        let ran = self.run(command, event, payload).await;
        if self.running.is_ended() {
            // It was killed, which says nothing of the event; nor is there anybody left to tell.
            pending::<()>().await;
        }
        let status = match ran {
            Ok(status) => status,
            Err(cause) if cause.kind() == io::ErrorKind::TimedOut => {
                note(format_args!(
                    "warning: the command for {id} took too long, and was killed; the event is deferred"
                ));
                return Ok(Verdict::Defer("the command took too long"));
            }
            Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                return Err(Ended::NoCommand(format!("--exec: no shell can be run: {cause}")));
            }
            Err(cause) => {
                note(format_args!("warning: {command:?} cannot be run, so {id} is deferred: {cause}"));
                return Ok(Verdict::Defer("the command cannot be run"));
            }
        };
        Ok(match status.code() {
            Some(0) => Verdict::Ack,
            Some(USELESS) => Verdict::Discard,
            Some(NOT_NOW) => Verdict::Defer("the command said: not now"),
            Some(code) if NO_COMMAND.contains(&code) => {
                return Err(Ended::NoCommand(format!(
                    "--exec: the shell says that there is no such command, or that it may not be run (exit code {code}); the event \
                     {id} goes back to its queue"
                )));
            }
            _ => {
                note(format_args!("warning: the command for {id} ended with {status}; the event is deferred"));
                Verdict::Defer("the command failed")
            }
        })
    }

    /// A settlement that is lost is no reason to end: the event comes again.
    async fn settle(&self, event: Event, verdict: Verdict) {
        let begun = Instant::now();
        loop {
            let settled = match verdict {
                Verdict::Leave => return event.leave(),
                Verdict::Ack => event.ack().await,
                Verdict::Defer(why) => event.defer(self.defer_by, why).await.map(drop),
                Verdict::Discard => event.discard("the command refused it (exit code 65)").await,
            };
            let Err(error) = settled else { return };
            if !error.is_retryable() || event.is_lease_lost() || begun.elapsed() >= SETTLED_WITHIN {
                unsettled(&event, &error);
                // Dropped it would come again at once, and again, until it has no deliveries left.
                return event.leave();
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = event.lease_lost() => return unsettled(&event, &error),
            }
        }
    }

    /// Runs a command in the shell, with the payload as its standard input.
    async fn run(&self, command: &str, event: &Event, payload: &str) -> io::Result<ExitStatus> {
        let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
        let sender = event.sender();
        let mut child = Command::new(shell);
        child
            .args([flag, command])
            .env("ENSYNC_EVENT_NAME", event.name().as_str())
            .env("ENSYNC_EVENT_ID", event.id().as_str())
            .env("ENSYNC_EVENT_SENDER", sender.app_id().map(|id| id.to_string()).unwrap_or_default())
            .env("ENSYNC_EVENT_VERIFIED", sender.verified().is_some().to_string())
            .env("ENSYNC_EVENT_ATTEMPT", event.attempt().unwrap_or(1).to_string())
            .env("ENSYNC_EVENT_TIMESTAMP", event.timestamp().map(|at| at.as_millis().to_string()).unwrap_or_default())
            .stdin(Stdio::piped())
            .kill_on_drop(true);
        let metadata = one_line(event.metadata().as_str());
        if metadata.len() <= MAX_VARIABLE {
            child.env("ENSYNC_EVENT_METADATA", metadata);
        } else {
            let id = printable(event.id().as_str());
            note(format_args!(
                "warning: the metadata of {id} are too long for a variable: ENSYNC_EVENT_METADATA is not set"
            ));
            child.env_remove("ENSYNC_EVENT_METADATA");
        }
        // Ctrl-C is for us: the command may finish.
        #[cfg(unix)]
        child.process_group(0);
        let mut child = child.spawn()?;
        let group = self.running.add(child.id());
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // It need not read it.
                _ = stdin.write_all(payload.as_bytes()).await;
            }
            pending::<Infallible>().await
        };
        let limit = async {
            match self.exec_timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => pending().await,
            }
        };
        let status = tokio::select! {
            status = child.wait() => status?,
            // What it started may hold its standard input without reading; that is no reason to wait when it is over.
            never = feed => match never {},
            () = limit => return Err(io::ErrorKind::TimedOut.into()),
        };
        group.ended();
        Ok(status)
    }
}

fn unsettled(event: &Event, error: &Error) {
    let id = printable(event.id().as_str());
    note(format_args!("warning: {id} was not settled, and may come again: {}", report(error)));
}
