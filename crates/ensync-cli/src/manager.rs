//! What a service manager is told: systemd, or whoever else set `NOTIFY_SOCKET` (sd_notify(3)). Without one, nobody.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use ensync_engine::{Broker, ReadProgress};

/// How often is looked whether a start goes on.
const LOOK: Duration = Duration::from_secs(5);
/// For how long a start that went on since the last look need not be ready yet.
const LONGER: Duration = Duration::from_secs(60);

/// What a service manager wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Ready,
    /// The configuration is read again; [`Ready`](Self::Ready) follows.
    Reloading,
    Stopping,
    /// What is under way takes so much longer.
    Longer(Duration),
    /// What it is at, for people.
    Status(String),
    /// It is alive.
    Alive,
}

/// Tells some of that at once.
#[cfg(target_os = "linux")]
pub(crate) fn tell(what: &[Told]) {
    use sd_notify::NotifyState;
    let mut states = Vec::new();
    for told in what {
        match told {
            Told::Ready => states.push(NotifyState::Ready),
            Told::Reloading => {
                states.push(NotifyState::Reloading);
                // With it the manager tells this reload from the one before.
                states.extend(NotifyState::monotonic_usec_now());
            }
            Told::Stopping => states.push(NotifyState::Stopping),
            Told::Longer(time) => {
                let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
                states.push(NotifyState::ExtendTimeoutUsec(micros));
            }
            Told::Status(text) => states.push(NotifyState::Status(text)),
            Told::Alive => states.push(NotifyState::Watchdog),
        }
    }
    if let Err(cause) = sd_notify::notify(&states) {
        tracing::warn!(%cause, "cannot tell the service manager");
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn tell(_: &[Told]) {}

/// Waits for a start, and asks the manager for more time for as long as the start reads on. One that hangs is given up by the manager as
/// any other.
pub(crate) async fn starting<T>(progress: ReadProgress, start: impl Future<Output = T>, tell: impl Fn(&[Told])) -> T {
    let mut start = pin!(start);
    let mut seen = 0;
    loop {
        if let Ok(started) = tokio::time::timeout(LOOK, &mut start).await {
            return started;
        }
        let bytes = progress.bytes();
        if bytes != seen {
            seen = bytes;
            let mib = bytes >> 20;
            tracing::info!(mib, "reading the log back");
            tell(&[Told::Longer(LONGER), Told::Status(format!("reading the log back: {mib} MiB so far"))]);
        }
    }
}

/// Tells the manager again and again that the engine is alive, if it wants to know. One that does not answer is not.
pub(crate) async fn watchdog(broker: Broker) {
    #[cfg(target_os = "linux")]
    while let Some(within) = sd_notify::watchdog_enabled() {
        // Twice as often as it has to be: sd_watchdog_enabled(3). What the question takes, which is longest when the disk hangs, is
        // part of that.
        let next = tokio::time::Instant::now() + within / 2;
        if broker.is_alive().await {
            tell(&[Told::Alive]);
        }
        tokio::time::sleep_until(next).await;
    }
    #[cfg(not(target_os = "linux"))]
    drop(broker);
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_start_is_given_time_while_it_reads_on() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("data");
        let server = || ensync_engine::Server::builder().data_dir(&data);
        let builder = server();
        let progress = builder.progress();
        let told = Mutex::new(Vec::new());
        let tell = |what: &[Told]| told.lock().unwrap().push(what[0].clone());
        let begun = tokio::time::Instant::now();
        // Nothing is read for 12 s, then all, then nothing for a minute.
        let start = async {
            tokio::time::sleep(Duration::from_secs(12)).await;
            server().start().await.unwrap().shutdown().await;
            let running = builder.start().await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            running
        };
        let running = starting(progress.clone(), start, tell).await;
        assert!(progress.bytes() > 0 && begun.elapsed() >= Duration::from_secs(72));
        assert_eq!(*told.lock().unwrap(), [Told::Longer(LONGER)]);
        running.shutdown().await;
    }
}
