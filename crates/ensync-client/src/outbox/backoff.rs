//! What waits before it is tried again.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// The first wait, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The longest for all together: something else might go.
const ALL: Duration = Duration::from_secs(5);
/// After so many failures in a row, none between them going well, it is not the single one that is the matter.
const IN_A_ROW: u32 = 8;
/// How many are held at most. Beyond that all wait.
const MOST: usize = 1_024;

/// Waits that grow with each failure, for each by itself, and for all if nothing goes.
#[derive(Debug)]
pub(super) struct Holds<K> {
    each: HashMap<K, Hold>,
    all: Option<Hold>,
    in_a_row: u32,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    until: Instant,
    wait: Duration,
}

impl Hold {
    /// The next after `last`, random, so that the many that were turned away do not come back together.
    fn after(last: Option<Self>, now: Instant, longest: Duration) -> Self {
        let wait = last.map_or(WAITS.0, |last| last.wait * 2).min(longest);
        Self { until: now + wait.mul_f64(0.5 + fastrand::f64() / 2.0), wait }
    }
}

impl<K> Default for Holds<K> {
    fn default() -> Self {
        Self { each: HashMap::new(), all: None, in_a_row: 0 }
    }
}

impl<K: Eq + Hash> Holds<K> {
    /// It failed, for a reason that passes.
    pub(super) fn hold(&mut self, one: K, now: Instant) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let next = Hold::after(self.each.get(&one).copied(), now, WAITS.1);
        self.each.insert(one, next);
        if self.each.len() > MOST {
            // What was tried since, or is gone: it has no more to wait for.
            self.each.retain(|_, hold| hold.until + WAITS.1 > now);
        }
        if self.in_a_row >= IN_A_ROW || self.each.len() > MOST {
            self.hold_all(now);
        }
    }

    pub(super) fn hold_all(&mut self, now: Instant) {
        self.all = Some(Hold::after(self.all, now, ALL));
    }

    /// It went well.
    pub(super) fn release(&mut self, one: &K) {
        self.in_a_row = 0;
        self.all = None;
        self.each.remove(one);
    }

    /// How many may be tried at a time: one, while nothing goes.
    pub(super) fn at_a_time(&self, usual: usize) -> usize {
        if self.all.is_some() { 1 } else { usual }
    }

    /// Whether all wait.
    pub(super) fn all(&self, now: Instant) -> bool {
        self.all.is_some_and(|hold| hold.until > now)
    }

    /// Those that wait.
    pub(super) fn held(&self, now: Instant) -> impl Iterator<Item = &K> {
        self.each.iter().filter(move |(_, hold)| hold.until > now).map(|(one, _)| one)
    }

    /// When the next wait is over.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.each.values().chain(&self.all).map(|hold| hold.until).filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_for_each_and_a_success_ends_them() {
        let (mut holds, mut now) = (Holds::default(), Instant::now());
        for n in 0..6 {
            holds.hold("a", now);
            let next = holds.next(now).unwrap();
            let most = WAITS.0 * (1 << n);
            assert!((most / 2..=most).contains(&(next - now)), "{n}");
            assert_eq!(holds.held(now).collect::<Vec<_>>(), [&"a"]);
            now = next;
            assert_eq!((holds.held(now).count(), holds.next(now), holds.all(now)), (0, None, false));
        }
        holds.release(&"a");
        holds.hold("a", now);
        assert!(holds.next(now).unwrap() - now <= WAITS.0);
    }

    #[test]
    fn holds_of_what_is_gone_hold_nobody() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        for n in 0..MOST {
            holds.hold(n, now);
            holds.release(&usize::MAX);
        }
        let later = now + 3 * WAITS.1;
        holds.hold(MOST, later);
        assert!(!holds.all(later), "each is over");
        assert_eq!(holds.held(later).collect::<Vec<_>>(), [&MOST]);
    }

    #[test]
    fn all_wait_only_if_nothing_goes() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        for n in 0..100 {
            holds.hold(n, now);
            // Another goes well, each time.
            holds.release(&1_000);
            assert_eq!((holds.all(now), holds.at_a_time(32)), (false, 32));
        }
        for n in 0..8 {
            holds.hold(n, now);
        }
        assert_eq!((holds.all(now), holds.at_a_time(32)), (true, 1));
        assert!(!holds.all(now + ALL));
        holds.release(&1_000);
        assert_eq!((holds.all(now), holds.at_a_time(32)), (false, 32));
    }
}
