//! How far it is, for whoever looks.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line changes.
pub(super) const EVERY: Duration = Duration::from_millis(250);

/// A line on a terminal that changes; elsewhere nothing.
pub(super) struct Progress {
    shown: bool,
    begun: Instant,
    /// How many bytes there are, if that is known.
    all: Option<u64>,
    /// How many of them were done before this run.
    before: u64,
}

impl Progress {
    pub(super) fn new(all: Option<u64>, json: bool) -> Self {
        Self { shown: io::stderr().is_terminal() && !json, begun: Instant::now(), all, before: 0 }
    }

    /// So many bytes were done before.
    pub(super) fn skip(&mut self, bytes: u64) {
        self.before = bytes;
        self.begun = Instant::now();
    }

    /// How many bytes were done before.
    pub(super) fn before(&self) -> u64 {
        self.before
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// `published` events of this run, up to a place in the file.
    pub(super) fn show(&self, published: u64, bytes: u64) {
        if self.shown {
            // The line is erased first (ECMA-48, EL).
            _ = write!(io::stderr(), "\r\u{1b}[K{}", line(published, bytes, self.before, self.all, self.elapsed()));
        }
    }

    /// What follows begins on a line of its own.
    pub(super) fn clear(&self) {
        if self.shown {
            _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

fn line(published: u64, bytes: u64, before: u64, all: Option<u64>, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = published as f64 / seconds;
    let Some(all) = all.filter(|all| *all > 0) else { return format!("{published} published, {rate:.0}/s") };
    let percent = bytes as f64 * 100.0 / all as f64;
    let new = bytes.saturating_sub(before);
    let left = match new {
        0 => String::new(),
        new => {
            let seconds = all.saturating_sub(bytes) as f64 * seconds / new as f64;
            format!(", {} left", humantime::format_duration(Duration::from_secs(seconds as u64)))
        }
    };
    format!("{percent:.0} %, {published} published, {rate:.0}/s{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_from_what_this_run_did() {
        let two = Duration::from_secs(2);
        assert_eq!(line(100, 500, 400, Some(1_000), two), "50 %, 100 published, 50/s, 10s left");
        assert_eq!(line(0, 400, 400, Some(1_000), two), "40 %, 0 published, 0/s");
        assert_eq!(line(100, 500, 0, None, two), "100 published, 50/s");
    }
}
