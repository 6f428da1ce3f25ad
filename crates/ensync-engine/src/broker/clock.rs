use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::Timestamp;
use tokio::time::Instant;

/// Tells the time. The broker takes care that it does not run backwards.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Waits until it is `due`. It may return early, whoever waits looks again; and it may be dropped. A clock that does not go with
    /// tokio's has its own way to wait.
    async fn reach(&self, due: Timestamp) {
        // Whole milliseconds and at least one, for that is how the time is counted.
        let whole = u64::try_from(due.since(self.now()).as_millis()).unwrap_or(u64::MAX).max(1);
        tokio::time::sleep(Duration::from_millis(whole)).await;
    }
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The time at which it was first asked, and from then on what tokio's clock says: where a test pauses and advances tokio's time,
/// this time goes with it.
#[derive(Debug)]
pub struct TokioClock {
    start: Timestamp,
    first: OnceLock<Instant>,
}

impl TokioClock {
    /// Starts with the system's time.
    pub fn new() -> Self {
        Self::starting_at(Timestamp::now())
    }

    /// Starts with a given time.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, first: OnceLock::new() }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.start.after(self.first.get_or_init(Instant::now).elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_with_tokio() {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_000));
        assert_eq!(clock.now().as_millis(), 1_000);
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.now().as_millis(), 1_250);
    }
}
