//! What the operating system asks of a running engine, and of a command that goes on for a while.

#[cfg(unix)]
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

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
        Ok(Self { interrupt, terminate, hang_up: None })
    }

    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop("SIGINT"),
            _ = self.terminate.recv() => Signal::Stop("SIGTERM"),
            () = hung_up(&mut self.hang_up) => Signal::Reload,
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
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn of_command() -> std::io::Result<Self> {
        Ok(Self)
    }

    pub(crate) async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Stop("Ctrl-C"),
            Err(_) => std::future::pending().await,
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
