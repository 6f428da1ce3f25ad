use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::Timestamp;
use tokio::sync::watch;

use crate::Clock;

/// A clock that stands still until it is moved. It has nothing to do with tokio's time, so it works in every runtime and beside real
/// sockets. Cheap to clone; all clones are one clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<watch::Sender<Timestamp>>);

impl ManualClock {
    /// Where [`new`](Self::new) starts: the first of January 2026, UTC.
    pub const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    /// A clock that shows [`START`](Self::START).
    pub fn new() -> Self {
        Self::starting_at(Self::START)
    }

    /// A clock that shows a given time.
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Arc::new(watch::Sender::new(start)))
    }

    /// The time that it shows.
    pub fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    /// Moves it forward. A broker that goes by it wakes up if something is due; to wait for what comes of that, use
    /// [`TestEngine::advance`](super::TestEngine::advance).
    pub fn advance(&self, by: Duration) {
        self.advance_to(self.now().after(by));
    }

    /// Moves it to a time, or leaves it if that is past.
    pub fn advance_to(&self, to: Timestamp) {
        self.0.send_if_modified(|now| {
            let forward = to > *now;
            *now = to.max(*now);
            forward
        });
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        self.now()
    }

    fn elapsed(&self) -> Duration {
        self.now().since(Timestamp::default())
    }

    async fn reach(&self, elapsed: Duration) {
        // The sender lives in `self`.
        let _ = self.0.subscribe().wait_for(|now| now.since(Timestamp::default()) >= elapsed).await;
    }
}

/// The clock of a test engine: a manual one, and whether leases pass when it is moved.
#[derive(Clone, Debug)]
pub(super) struct KitClock {
    pub(super) time: ManualClock,
    pub(super) holds_leases: Arc<AtomicBool>,
}

#[async_trait]
impl Clock for KitClock {
    fn wall(&self) -> Timestamp {
        self.time.wall()
    }

    fn elapsed(&self) -> Duration {
        self.time.elapsed()
    }

    async fn reach(&self, elapsed: Duration) {
        self.time.reach(elapsed).await;
    }

    fn standstill(&self) -> Option<Duration> {
        self.holds_leases.load(Ordering::SeqCst).then_some(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn it_moves_when_it_is_moved() {
        let clock = ManualClock::new();
        let due = clock.now().after(Duration::from_secs(60));
        let other = clock.clone();
        let mut reached = std::pin::pin!(other.reach(due.since(Timestamp::default())));
        assert!(reached.as_mut().now_or_never().is_none());
        clock.advance(Duration::from_millis(59_999));
        assert!(reached.as_mut().now_or_never().is_none());
        clock.advance(Duration::from_millis(1));
        reached.await;
        clock.advance_to(ManualClock::START);
        assert_eq!(clock.now(), due);
    }
}
