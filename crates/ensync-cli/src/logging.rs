//! The log, on standard error.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// The crates of this workspace. Only they are made to say more: at their finest levels others write whole frames, app keys
/// included.
const OURS: [&str; 5] = ["ensync", "ensync_client", "ensync_engine", "ensync_grpc", "ensync_ws"];
/// What may wait to be written, in bytes. Further lines are lost, and counted.
const WAITING: usize = 4 << 20;
/// How long the end of the program waits for it.
const FLUSH: Duration = Duration::from_secs(1);
/// How long to wait before standard error is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// What is logged. `RUST_LOG` goes before either.
pub(crate) enum Filter<'a> {
    /// By an engine: the level of its configuration, and how often `-v` was given.
    Engine(&'a str, u8),
    /// By every other command.
    Command(u8),
    /// By one that tells itself what becomes of its connection.
    Follower(u8),
}

impl Filter<'_> {
    fn directives(&self) -> String {
        let ours = |level: &str| {
            let levels: Vec<_> = OURS.iter().map(|name| format!("{name}={level}")).collect();
            format!("warn,{}", levels.join(","))
        };
        match self {
            Self::Command(0) => "warn".into(),
            Self::Follower(0) => "warn,ensync_client::session::supervisor=error".into(),
            Self::Command(1) | Self::Follower(1) => ours("info"),
            Self::Command(_) | Self::Follower(_) => ours("debug"),
            Self::Engine(_, 1..) => ours("debug"),
            Self::Engine(level @ ("info" | "debug" | "trace"), 0) => ours(level),
            Self::Engine(level, 0) => (*level).to_owned(),
        }
    }
}

/// Starts to log. What is returned is kept until the end: what waits is written then.
///
/// A thread of its own writes: whoever reads standard error may be slow, stuck or gone, and nothing else waits for him or fails with
/// him.
pub(crate) fn start(format: LogFormat, filter: Filter<'_>) -> Log {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter.directives()));
    let lines = Arc::new(Lines::default());
    let log = tracing_subscriber::fmt::layer().with_writer(Writer(lines.clone()));
    // It would report a line that it cannot write where it could not write it, and end the program.
    let log = log.log_internal_errors(false).with_ansi(io::stderr().is_terminal());
    let start =
        tracing_subscriber::registry().with(filter).with(filter_fn(|line| is_harmless(line.target(), *line.level())));
    match format {
        LogFormat::Text => start.with(log).init(),
        LogFormat::Json => start.with(log.json().flatten_event(true)).init(),
    }
    let writing = lines.clone();
    let thread = std::thread::Builder::new().name("ensync-stderr".into());
    if thread.spawn(move || writing.write(&mut io::stderr(), format)).is_err() {
        lines.lock().no_thread = true;
    }
    Log(lines)
}

/// The log of this program, until it is dropped.
#[must_use = "what waits is written when it is dropped"]
pub(crate) struct Log(Arc<Lines>);

impl Drop for Log {
    fn drop(&mut self) {
        let until = Instant::now() + FLUSH;
        let mut queue = self.0.lock();
        while !queue.is_empty()
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            queue = self.0.written.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Lines that wait to be written.
#[derive(Default)]
struct Lines {
    queue: Mutex<Queue>,
    added: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How many found no room.
    lost: u64,
    /// Whether some were taken out and are not written yet.
    writing: bool,
    /// Whether each line is written where it is made.
    no_thread: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && !self.writing
    }
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8]) {
        let mut queue = self.lock();
        if queue.no_thread {
            _ = io::stderr().write_all(line);
        } else if queue.bytes + line.len() > WAITING {
            queue.lost += 1;
        } else {
            queue.bytes += line.len();
            queue.lines.push_back(line.to_owned());
            self.added.notify_one();
        }
    }

    /// Writes for ever.
    fn write(&self, to: &mut impl Write, format: LogFormat) {
        loop {
            let (lines, lost) = {
                let mut queue = self.lock();
                while queue.lines.is_empty() {
                    queue = self.added.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                (queue.writing, queue.bytes) = (true, 0);
                (std::mem::take(&mut queue.lines), std::mem::take(&mut queue.lost))
            };
            let mut failed = lost;
            for line in lines {
                if failed > 0 && write(to, missing(failed, format).as_bytes()).is_ok() {
                    failed = 0;
                }
                failed += u64::from(write(to, &line).is_err());
            }
            let mut queue = self.lock();
            queue.writing = false;
            queue.lost += failed;
            self.written.notify_all();
        }
    }
}

/// Writes all of a line, or says that it is not possible. One who does not read just now is waited for.
fn write(to: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match to.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => line = line.get(length..).unwrap_or_default(),
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

/// What stands in place of lines that are missing.
fn missing(lines: u64, format: LogFormat) -> String {
    let at = humantime::format_rfc3339_micros(SystemTime::now());
    let message = "lines of the log are missing: standard error could not be written";
    match format {
        LogFormat::Text => format!("{at}  WARN ensync::logging: {message} lines={lines}\n"),
        LogFormat::Json => {
            let line = serde_json::json!({
                "timestamp": at.to_string(), "level": "WARN", "message": message, "lines": lines, "target": "ensync::logging",
            });
            format!("{line}\n")
        }
    }
}

struct Writer(Arc<Lines>);

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(&self.0)
    }
}

/// What a line is written to, whole.
struct Line<'a>(&'a Lines);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a line can be logged, whatever `RUST_LOG` says: those of the WebSocket library show whole frames at its finest levels,
/// app keys and client ids included.
fn is_harmless(target: &str, level: Level) -> bool {
    !(target == "tungstenite" || target.starts_with("tungstenite::")) || level <= Level::INFO
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails the first so many writes, then hands over what it is given.
    struct Broken(u32, std::sync::mpsc::Sender<String>);

    impl Write for Broken {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if self.0 > 0 {
                self.0 -= 1;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.1.send(String::from_utf8(line.to_vec()).unwrap()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_are_lost_are_counted_and_told_later() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = Arc::new(Lines::default());
            lines.add(&vec![b'x'; WAITING - 1]);
            lines.add(b"too much\n");
            let (sender, written) = std::sync::mpsc::channel();
            let writing = lines.clone();
            // The note of the line without room, and the long one, find nobody.
            std::thread::spawn(move || writing.write(&mut Broken(2, sender), format));
            drop(Log(lines.clone()));
            lines.add(b"good\n");
            let note = written.recv_timeout(Duration::from_secs(60)).unwrap();
            assert!(note.contains("missing") && note.contains('2'), "{note}");
            assert_eq!(written.recv_timeout(Duration::from_secs(60)).unwrap(), "good\n");
        }
    }
}
