//! What waits before it is tried again.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// The first wait, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The longest for all together: something else might go.
const ALL: Duration = Duration::from_secs(5);
/// After so many failures in a row, none between them going well, it is not the single one that is the matter.
const IN_A_ROW: u32 = 8;
/// While nothing goes: how long after one was taken another is, of those that are not known to have failed. It may go though others do not.
const PACE: Duration = Duration::from_millis(50);
/// How many are known to have failed at most.
const MOST: usize = if cfg!(test) { 128 } else { 1_024 };

/// Waits that grow with each failure, for each by itself. If nothing goes any more, all that failed wait together, and are tried one at a
/// time, each when it is its turn in the order in which whoever reads them gives them; what did not fail is tried meanwhile, at a pace.
#[derive(Debug)]
pub(super) struct Holds<K> {
    /// Those that failed, and did not go well since.
    each: HashMap<K, Hold>,
    /// Since nothing goes.
    all: Option<All>,
    /// Since nothing can be read.
    unread: Option<Hold>,
    in_a_row: u32,
}

/// A wait of all.
#[derive(Clone, Copy, Debug)]
struct All {
    hold: Hold,
    /// When the next is taken, whichever it is.
    next: Instant,
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

    fn is_on(&self, now: Instant) -> bool {
        self.until > now
    }
}

impl<K> Default for Holds<K> {
    fn default() -> Self {
        Self { each: HashMap::new(), all: None, unread: None, in_a_row: 0 }
    }
}

impl<K: Clone + Eq + Hash> Holds<K> {
    /// It failed, for a reason that passes.
    pub(super) fn hold(&mut self, one: K, now: Instant) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let known = self.enter(one, now);
        if self.all.is_some() || self.in_a_row >= IN_A_ROW || !known {
            self.wait_together(now);
        }
    }

    /// It has to wait, for a reason that is nobody else's.
    pub(super) fn hold_alone(&mut self, one: K, now: Instant) {
        if !self.enter(one, now) {
            // More than it is known of: one at a time, or those that are forgotten would be tried without a pause.
            self.wait_together(now);
        }
    }

    /// That others fail too, which are tried meanwhile, keeps back none for longer that failed before.
    fn wait_together(&mut self, now: Instant) {
        if !self.all.as_ref().is_some_and(|all| all.hold.is_on(now)) {
            let before = self.all.as_ref().map(|all| all.hold);
            self.all = Some(All { hold: Hold::after(before, now, ALL), next: now + PACE });
        }
    }

    /// False if another had to be forgotten for it.
    fn enter(&mut self, one: K, now: Instant) -> bool {
        let next = Hold::after(self.each.get(&one).copied(), now, WAITS.1);
        self.each.insert(one, next);
        if self.each.len() > MOST {
            // What was tried since, or is gone: it has no more to wait for.
            self.each.retain(|_, hold| hold.until + WAITS.1 > now);
        }
        let first = self.each.values().map(|hold| hold.until).min().filter(|_| self.each.len() > MOST);
        if let Some(first) = first {
            self.each.retain(|_, hold| hold.until > first);
        }
        first.is_none()
    }

    /// Nothing could be read.
    pub(super) fn hold_all(&mut self, now: Instant) {
        self.unread = Some(Hold::after(self.unread, now, ALL));
    }

    /// Something was read.
    pub(super) fn read(&mut self) {
        self.unread = None;
    }

    /// It went well.
    pub(super) fn release(&mut self, one: &K) {
        self.in_a_row = 0;
        self.all = None;
        self.each.remove(one);
    }

    /// Whether nothing at all is to be tried.
    pub(super) fn none(&self, now: Instant) -> bool {
        self.all.is_some_and(|all| all.next > now) || self.unread.is_some_and(|hold| hold.is_on(now))
    }

    /// How many are tried at a time, where so many could be.
    pub(super) fn at_a_time(&self, room: usize) -> usize {
        if self.all.is_some() { room.min(1) } else { room }
    }

    /// One is tried.
    pub(super) fn taken(&mut self, now: Instant) {
        if let Some(all) = &mut self.all {
            all.next = now + PACE;
        }
    }

    /// What is not to be tried now, while some are `running`. Where nothing goes that is all that has failed, until their wait is over, and
    /// while one of them is tried.
    pub(super) fn held(&self, now: Instant, running: &HashSet<K>) -> HashSet<K> {
        let nothing_goes = |all: &All| all.hold.is_on(now) || running.iter().any(|one| self.each.contains_key(one));
        let all_wait = self.all.as_ref().is_some_and(nothing_goes);
        let held = self.each.iter().filter(|(_, hold)| all_wait || hold.is_on(now));
        held.map(|(one, _)| one.clone()).collect()
    }

    /// When the next wait is over.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let later = |until: Instant| Some(until).filter(|until| *until > now);
        if let Some(unread) = self.unread.and_then(|hold| later(hold.until)) {
            return Some(unread);
        }
        // Whose own wait ends before that of all has to wait all the same.
        let all = self.all.and_then(|all| later(all.next).or_else(|| later(all.hold.until)));
        all.or_else(|| self.each.values().filter_map(|hold| later(hold.until)).min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held<K: Clone + Eq + Hash>(holds: &Holds<K>, now: Instant) -> HashSet<K> {
        holds.held(now, &HashSet::new())
    }

    #[test]
    fn waits_grow_for_each_and_a_success_ends_them() {
        let (mut holds, mut now) = (Holds::default(), Instant::now());
        for n in 0..6 {
            holds.hold("a", now);
            let next = holds.next(now).unwrap();
            let most = WAITS.0 * (1 << n);
            assert!((most / 2..=most).contains(&(next - now)), "{n}");
            assert_eq!(held(&holds, now), HashSet::from(["a"]));
            now = next;
            assert_eq!((held(&holds, now).len(), holds.next(now), holds.none(now)), (0, None, false));
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
        assert!(!holds.none(later) && holds.all.is_none(), "each is over");
        assert_eq!(held(&holds, later), HashSet::from([MOST]));
    }

    #[test]
    fn what_has_failed_waits_together_if_nothing_goes_and_is_tried_one_at_a_time() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        for n in 0..IN_A_ROW - 1 {
            holds.hold(n, now);
        }
        assert_eq!((holds.at_a_time(32), holds.none(now)), (32, false));
        holds.hold(7, now);
        assert_eq!((holds.at_a_time(32), holds.at_a_time(0), holds.none(now)), (1, 0, true));
        let until = holds.all.unwrap().hold.until;
        assert_eq!(holds.next(now), Some(now + PACE));
        // One after the other of those that did not fail is tried, and fails: the first have to wait no longer for that.
        let mut now = now + PACE;
        for n in 8..11 {
            assert_eq!((holds.none(now), held(&holds, now)), (false, (0..n).collect()));
            holds.taken(now);
            assert!(holds.none(now));
            holds.hold(n, now);
            now = holds.next(now).unwrap();
        }
        assert_eq!((holds.all.unwrap().hold.until, holds.next(now)), (until, Some(until)), "no other is left");
        // Then it is the turn of one of them, and of no other until it has failed.
        let later = now + 2 * WAITS.1;
        assert_eq!(held(&holds, later), HashSet::new());
        holds.taken(later);
        let running = HashSet::from([3]);
        assert_eq!(holds.held(later, &running), (0..11).collect());
        assert_eq!(holds.held(later, &HashSet::from([99])), HashSet::new(), "that is none of them");
        holds.hold(3, later);
        assert!(holds.next(later + PACE).unwrap() > later + WAITS.0 / 2);
        holds.release(&3);
        assert_eq!((holds.at_a_time(32), held(&holds, later).len(), holds.none(later)), (32, 0, false));
    }

    #[test]
    fn of_what_is_nobody_elses_matter_no_other_waits() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        for n in 0..100 {
            holds.hold_alone(n, now);
        }
        assert_eq!((holds.at_a_time(32), holds.none(now), held(&holds, now).len()), (32, false, 100));
    }

    #[test]
    fn what_is_known_is_bounded_and_beyond_that_nothing_goes_fast() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        for n in 0..2 * MOST {
            holds.hold(n, now + Duration::from_millis(n as u64));
            assert!(holds.each.len() <= MOST);
            if n < MOST {
                holds.release(&usize::MAX);
                assert_eq!(holds.at_a_time(32), 32, "{n}");
            }
        }
        assert_eq!(holds.at_a_time(32), 1);
    }

    #[test]
    fn of_what_cannot_be_read_none_is_tried() {
        let (mut holds, now) = (Holds::<u8>::default(), Instant::now());
        holds.hold_all(now);
        assert!(holds.none(now) && holds.next(now).is_some() && !holds.none(now + ALL));
        holds.read();
        assert!(!holds.none(now));
    }
}
