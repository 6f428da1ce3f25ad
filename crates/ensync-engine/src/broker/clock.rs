use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::Timestamp;
use tokio::time::Instant;

/// Tells the time.
///
/// The broker asks for the time of day once, when it starts, and from then on measures what passes: a time of day that is corrected
/// while it runs changes nothing. Where the log knows of a later time than the time of day, the broker goes on from that one.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time of day, right or wrong.
    fn wall(&self) -> Timestamp;

    /// How much time has passed since some moment. Never runs backwards.
    fn elapsed(&self) -> Duration;

    /// Waits until so much has passed since that moment. It may return early, whoever waits looks again; and it may be dropped. A
    /// clock that does not go with tokio's has its own way to wait.
    async fn reach(&self, elapsed: Duration) {
        // Whole milliseconds and at least one, for that is how the time is counted.
        let left = elapsed.saturating_sub(self.elapsed());
        let whole = u64::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX).max(1);
        tokio::time::sleep(Duration::from_millis(whole)).await;
    }

    /// If it goes on while the process is stopped or the machine is overloaded: the longest time between two looks of the broker that is
    /// usual. Of a longer one, what is beyond that is time in which it could do nothing, and leases last longer by it. `None` says that it jumps because a
    /// test moves it.
    fn standstill(&self) -> Option<Duration> {
        None
    }
}

/// The system's clock: its time of day, and from then on its monotonic time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        static SINCE: OnceLock<std::time::Instant> = OnceLock::new();
        SINCE.get_or_init(std::time::Instant::now).elapsed()
    }

    fn standstill(&self) -> Option<Duration> {
        Some(Duration::from_secs(1))
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
    fn wall(&self) -> Timestamp {
        self.start.after(self.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.first.get_or_init(Instant::now).elapsed()
    }
}

/// How often the engine's time is compared with the time of day, and from when on a difference is told.
const COMPARE: Duration = Duration::from_secs(30);
const BEHIND: Duration = Duration::from_secs(60);

/// The engine's time: anchored once, and never backwards. Clones tell the same, and each looks for itself.
#[derive(Clone, Debug)]
pub(super) struct Time {
    clock: Arc<dyn Clock>,
    /// The time when so much had passed.
    start: Timestamp,
    first: Duration,
    /// When its owner last looked, and last compared it with the time of day.
    looked: Duration,
    compared: Duration,
    /// Shared by all clones: it is told once.
    told: Arc<AtomicBool>,
}

impl Time {
    /// How often somebody has to look while leases are held, so that it is seen when nobody could.
    pub(super) const LOOK: Duration = Duration::from_millis(500);

    /// Begins with the time of day, but no earlier than a time that is known to have been.
    pub(super) fn anchored(clock: Arc<dyn Clock>, known: Timestamp) -> Self {
        let (wall, first) = (clock.wall(), clock.elapsed());
        if known > wall {
            tracing::warn!(
                seconds = known.since(wall).as_secs_f64(),
                "the clock is behind what the log says: it is wrong, or was; the engine goes on from the later time"
            );
        }
        Self { clock, start: wall.max(known), first, looked: first, compared: first, told: Arc::default() }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.start.after(self.clock.elapsed().saturating_sub(self.first))
    }

    /// The time of day, for what others stamped with it. Not one that is ahead of what has passed since the start: that would be a
    /// clock which was set, and no reason to take anything for old.
    pub(super) fn wall(&self) -> Timestamp {
        self.clock.wall().min(self.now())
    }

    /// Waits until a time, or less long.
    pub(super) fn reach(&self, due: Timestamp) -> impl Future<Output = ()> + Send + 'static {
        let (clock, elapsed) = (self.clock.clone(), self.first.saturating_add(due.since(self.start)));
        async move { clock.reach(elapsed).await }
    }

    /// Whether [`look`](Self::look) is of any use.
    pub(super) fn runs_alone(&self) -> bool {
        self.clock.standstill().is_some()
    }

    /// By how much the time of day is ahead, if it was set since the start.
    fn behind(&self) -> Option<Duration> {
        Some(self.clock.wall().since(self.now())).filter(|behind| *behind >= BEHIND)
    }

    /// Tells, once, if the clock was corrected after the start. The next start goes by the right one: all that is stored now is older then than
    /// it is, and what has a time to live may be over.
    fn compare(&self) {
        if let Some(behind) = self.behind()
            && !self.told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                seconds = behind.as_secs(),
                "the clock was corrected after the engine was started, and the engine goes on by the time of before; what it stores has \
                 times that are too early, and at the next start that much of its time to live is over; restart it soon, and start it \
                 once the clock is right"
            );
        }
    }

    /// Looks, and tells for how much longer than is usual nobody could. What is usual is not part of it: on a disk that is slow for
    /// good no lease would ever end.
    pub(super) fn look(&mut self) -> Option<Duration> {
        let now = self.clock.elapsed();
        if now.saturating_sub(self.compared) >= COMPARE {
            self.compared = now;
            self.compare();
        }
        let gap = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        self.clock.standstill().and_then(|usual| gap.checked_sub(usual)).filter(|more| !more.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Set(std::sync::atomic::AtomicU64);

    impl Clock for Set {
        fn wall(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(std::sync::atomic::Ordering::SeqCst))
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn a_clock_that_was_behind_at_the_start_is_noticed() {
        let clock = Arc::new(Set(1_000_000.into()));
        let time = Time::anchored(clock.clone(), Timestamp::default());
        for (wall, behind) in
            [(1_000_000, None), (0, None), (1_059_999, None), (1_060_000, Some(60)), (9_000_000, Some(8_000))]
        {
            clock.0.store(wall, std::sync::atomic::Ordering::SeqCst);
            assert_eq!(time.behind().map(|behind| behind.as_secs()), behind, "{wall}");
        }
        assert_eq!(time.now(), Timestamp::from_millis(1_000_000), "and changes nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_with_tokio() {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_000));
        assert_eq!(clock.wall().as_millis(), 1_000);
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.wall().as_millis(), 1_250);
    }
}
