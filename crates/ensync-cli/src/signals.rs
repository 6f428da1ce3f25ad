//! What the operating system asks of a running engine, and of a command that goes on for a while.

use std::time::{Duration, Instant};

#[cfg(unix)]
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// Within this time the same signal is the same wish: coreutils' `timeout` signals a command and then its process group, a terminal and
/// a supervisor may both do it.
const SAME: Duration = Duration::from_millis(200);

/// What is asked for.
pub(crate) enum Signal {
    /// To stop; the signal's name.
    Stop(&'static str),
    /// To read the files of which the contents may change again.
    Reload,
}

/// The signals, from when it was made on.
#[cfg(unix)]
pub(crate) struct Signals {
    interrupt: Stream,
    terminate: Stream,
    /// Unless it is ignored.
    hang_up: Option<Stream>,
    last: Last,
}

/// The signal that was told last, and when.
#[derive(Default)]
struct Last(Option<(&'static str, Instant)>);

impl Last {
    /// Whether a signal is another wish than the one before.
    fn is_new(&mut self, name: &'static str, now: Instant) -> bool {
        let again = self.0.is_some_and(|(last, at)| last == name && now.duration_since(at) < SAME);
        if !again {
            self.0 = Some((name, now));
        }
        !again
    }
}

#[cfg(unix)]
impl Signals {
    /// For an engine.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { hang_up: Some(signal(SignalKind::hangup())?), ..Self::without_hang_up()? })
    }

    /// For every other command: where the terminal goes away it stops too, unless it was started to outlive that (`nohup`).
    pub(crate) fn of_command() -> std::io::Result<Self> {
        if is_hang_up_ignored() { Self::without_hang_up() } else { Self::listen() }
    }

    fn without_hang_up() -> std::io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hang_up: None, last: Last::default() })
    }

    pub(crate) async fn next(&mut self) -> Signal {
        loop {
            let name = tokio::select! {
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.terminate.recv() => "SIGTERM",
                () = hung_up(&mut self.hang_up) => return Signal::Reload,
            };
            if self.last.is_new(name, Instant::now()) {
                return Signal::Stop(name);
            }
        }
    }
}

#[cfg(unix)]
async fn hung_up(signal: &mut Option<Stream>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Whether whoever started this had SIGHUP ignored, as far as the system tells (proc(5), `SigIgn`).
#[cfg(unix)]
fn is_hang_up_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

/// Ctrl-C, from when it was made on.
#[cfg(not(unix))]
#[derive(Default)]
pub(crate) struct Signals(Last);

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self::default())
    }

    pub(crate) fn of_command() -> std::io::Result<Self> {
        Ok(Self::default())
    }

    pub(crate) async fn next(&mut self) -> Signal {
        loop {
            match tokio::signal::ctrl_c().await {
                Ok(()) if self.0.is_new("Ctrl-C", Instant::now()) => return Signal::Stop("Ctrl-C"),
                Ok(()) => {}
                Err(_) => std::future::pending().await,
            }
        }
    }
}

impl Signals {
    /// The next one that asks a command to stop.
    pub(crate) async fn stop(&mut self) -> &'static str {
        match self.next().await {
            Signal::Stop(name) => name,
            Signal::Reload => "SIGHUP",
        }
    }

    /// What something gives, unless it is asked to stop before: then the signal's name.
    pub(crate) async fn unless<T>(&mut self, what: impl Future<Output = T>) -> Result<T, &'static str> {
        tokio::select! {
            done = what => Ok(done),
            name = self.stop() => Err(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_signal_right_away_is_the_same_wish() {
        let (mut last, begun) = (Last::default(), Instant::now());
        let told = [
            ("SIGTERM", 0),
            ("SIGTERM", 1),
            ("SIGTERM", 199),
            ("SIGINT", 199),
            ("SIGTERM", 199),
            ("SIGTERM", 398),
            ("SIGTERM", 399),
        ];
        let told = told.map(|(name, ms)| last.is_new(name, begun + Duration::from_millis(ms)));
        assert_eq!(told, [true, false, false, true, true, false, true]);
    }
}
