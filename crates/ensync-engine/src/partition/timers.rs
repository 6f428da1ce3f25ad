//! Everything that is due at some time, in one structure.

use std::collections::BTreeSet;

use ensync_core::Timestamp;

use crate::model::EventRef;

/// Later than every point in time.
pub(crate) const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The end of a lease.
    Lease(EventRef),
    /// The end of a defer.
    Defer(EventRef),
    /// Some event of a queue's chunk of entries expires.
    Expiry { queue: u32, chunk: u64 },
}

/// A set of timers: O(log n) to arm, cancel and pop.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Timestamp, Timer)>);

impl Timers {
    /// A timer at [`NEVER`] is none.
    pub(crate) fn arm(&mut self, at: Timestamp, timer: Timer) {
        if at != NEVER {
            self.0.insert((at, timer));
        }
    }

    pub(crate) fn cancel(&mut self, at: Timestamp, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    /// Takes the earliest timer that is due.
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<Timer> {
        if self.0.first()?.0 > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, _)| *at)
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Timer> {
        self.0.iter().map(|(_, timer)| *timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_order_and_once() {
        let at = Timestamp::from_millis;
        let lease = |seq| Timer::Lease(EventRef { queue: 0, seq });
        let mut timers = Timers::default();
        for (ms, seq) in [(30, 1), (10, 2), (20, 3), (10, 2)] {
            timers.arm(at(ms), lease(seq));
        }
        timers.arm(NEVER, lease(4));
        timers.cancel(at(20), lease(3));
        timers.cancel(at(21), lease(1));
        assert_eq!((timers.iter().count(), timers.next()), (2, Some(at(10))));
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(30)), Some(lease(2)));
        assert_eq!(timers.pop(at(30)), Some(lease(1)));
        assert_eq!((timers.pop(NEVER), timers.next()), (None, None));
    }
}
