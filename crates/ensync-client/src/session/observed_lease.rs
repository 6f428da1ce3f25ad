//! How long an engine that tells no leases leaves a delivery with its client.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::SHORTEST_LEASE;

/// How long what was seen counts: an engine may be set otherwise, and then what is dropped too early waits there.
const COUNTS: Duration = Duration::from_secs(600);

/// What the settlements of one subscription show of the leases of an engine that tells none.
///
/// A settlement that is refused as stale shows that the engine has taken the delivery back by then, and so has it all that came as
/// early. What is handed to a slow reader all the same is settled too late, and comes again, without end: so it is dropped where it
/// waits. A settlement that is taken shows that a delivery of that age is still the client's.
#[derive(Debug, Default)]
pub(crate) struct ObservedLease(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    refused: Vec<Refused>,
    /// The greatest age at which one was taken, and when.
    accepted: Option<(Duration, Instant)>,
}

/// A settlement that was refused.
#[derive(Clone, Copy, Debug)]
struct Refused {
    /// How old the delivery was.
    age: Duration,
    when: Instant,
}

/// How many refusals are kept, those at the least age. One alone may have another cause, as an answer that was lost and an ack that was
/// sent again.
const ENOUGH: usize = 2;

impl ObservedLease {
    /// The settlement of a delivery that had been here for so long, when the answer came, was refused as stale.
    pub(crate) fn refused(&self, age: Duration) {
        let (age, when) = (age.max(SHORTEST_LEASE), Instant::now());
        let mut seen = self.lock();
        let refused = &mut seen.refused;
        refused.retain(|refused| refused.counts(when));
        let place = refused.partition_point(|known| known.age <= age);
        refused.insert(place, Refused { age, when });
        refused.truncate(ENOUGH);
    }

    /// The same in words of the engine's own, which may say anything: that it came too late only where others are taken, and this one was
    /// older than any of them.
    pub(crate) fn refused_in_words(&self, age: Duration) {
        let (accepted, now) = (self.lock().accepted, Instant::now());
        let counts = |when: Instant| now.saturating_duration_since(when) < COUNTS;
        if accepted.is_some_and(|(longest, when)| counts(when) && age > longest) {
            self.refused(age);
        }
    }

    /// The settlement of a delivery that had been here for so long, when it was sent, was taken.
    pub(crate) fn accepted(&self, age: Duration) {
        let (mut seen, now) = (self.lock(), Instant::now());
        seen.refused.retain(|refused| refused.age > age);
        let longer =
            |(longest, when): (Duration, Instant)| longest > age && now.saturating_duration_since(when) < COUNTS;
        if !seen.accepted.is_some_and(longer) {
            seen.accepted = Some((age, now));
        }
    }

    /// Older than this nothing is the client's any more; `None` if that is not known.
    pub(super) fn at_most(&self, now: Instant) -> Option<Duration> {
        self.lock().refused.iter().filter(|refused| refused.counts(now)).nth(ENOUGH - 1).map(|refused| refused.age)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refused {
    fn counts(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.when) < COUNTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn two_refusals_show_it_and_one_that_is_taken_later_shows_otherwise() {
        let observed = ObservedLease::default();
        let known = || observed.at_most(Instant::now());
        observed.refused(8 * SECOND);
        assert_eq!(known(), None, "one may have another cause");
        observed.accepted(4 * SECOND);
        observed.refused(12 * SECOND);
        assert_eq!(known(), Some(12 * SECOND));
        observed.refused(8 * SECOND);
        assert_eq!(known(), Some(8 * SECOND), "what two showed");
        observed.refused(20 * SECOND);
        observed.refused(6 * SECOND);
        observed.accepted(5 * SECOND);
        assert_eq!(known(), Some(8 * SECOND));
        observed.accepted(6 * SECOND);
        assert_eq!(known(), None);
        observed.refused(9 * SECOND);
        assert_eq!(known(), Some(9 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_is_forgotten_and_is_never_shorter_than_a_lease_may_be() {
        let observed = ObservedLease::default();
        let known = || observed.at_most(Instant::now());
        observed.refused(Duration::ZERO);
        observed.refused(Duration::ZERO);
        assert_eq!(known(), Some(SHORTEST_LEASE));
        tokio::time::advance(COUNTS - SECOND).await;
        assert_eq!(known(), Some(SHORTEST_LEASE));
        tokio::time::advance(SECOND).await;
        assert_eq!(known(), None);
    }
}
