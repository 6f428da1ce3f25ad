//! How old what waits is, on a machine whose clock may be set.

use std::time::{Duration, Instant};

use ensync_core::Timestamp;

/// By how much the two clocks of a machine may part without one having been set.
const PARTED: Duration = Duration::from_secs(60);

/// Notices that the machine's clock was set forward: a device without a battery for its clock begins in 1970, queues, and learns the time
/// with its network. By that clock all that waits would have become too old in that moment.
#[derive(Debug)]
pub(super) struct Clock {
    last: Option<(Timestamp, Instant)>,
    /// Whether what waited already was looked at.
    begun: bool,
    /// What it was set forward by, and the outbox does not know yet.
    forward: Duration,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { last: None, begun: false, forward: Duration::ZERO }
    }

    /// What time it is, and by how much the clock was set forward that was not [noted](Self::noted) yet.
    pub(super) fn look(&mut self) -> (Timestamp, Duration) {
        self.see(Timestamp::now(), Instant::now())
    }

    fn see(&mut self, now: Timestamp, at: Instant) -> (Timestamp, Duration) {
        if let Some((last, since)) = self.last {
            let apart = now.since(last).saturating_sub(at.saturating_duration_since(since));
            if apart > PARTED {
                self.forward = self.forward.saturating_add(apart);
            }
        }
        self.last = Some((now, at));
        (now, self.forward)
    }

    /// Whether the outbox has written something down since it was opened.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The outbox has written it down.
    pub(super) fn noted(&mut self) {
        self.begun = true;
        self.forward = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_forward_is_noticed_and_kept_until_it_is_noted() {
        let (mut clock, begun) = (Clock::new(), Instant::now());
        let see = |clock: &mut Clock, wall: u64, run: u64| {
            clock.see(Timestamp::from_millis(wall * 1_000), begun + Duration::from_secs(run)).1.as_secs()
        };
        assert_eq!(see(&mut clock, 1_000, 0), 0);
        assert_eq!(see(&mut clock, 1_600, 600), 0, "time goes by");
        assert_eq!(see(&mut clock, 1_660, 601), 0, "a little is none");
        assert_eq!(see(&mut clock, 100, 602), 0, "backward");
        assert_eq!(see(&mut clock, 1_000_100, 603), 999_999);
        assert_eq!(see(&mut clock, 1_000_101, 604), 999_999);
        assert_eq!(see(&mut clock, 1_000_300, 605), 1_000_197, "both");
        clock.noted();
        assert_eq!(see(&mut clock, 1_000_301, 606), 0);
    }
}
