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
/// How many are held at most. Beyond that all wait.
const MOST: usize = 1_024;

/// Waits that grow with each failure, for each by itself. If nothing goes any more, what has failed is tried one at a time, that which was
/// tried longest ago first; what has not is tried all the same, unless there is too much that has.
#[derive(Debug)]
pub(super) struct Holds<K> {
    each: HashMap<K, Hold>,
    /// Since nothing goes.
    all: Option<Hold>,
    /// Since nothing can be read.
    unread: Option<Hold>,
    in_a_row: u32,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    /// When it failed.
    since: Instant,
    until: Instant,
    wait: Duration,
}

impl Hold {
    /// The next after `last`, random, so that the many that were turned away do not come back together.
    fn after(last: Option<Self>, now: Instant, longest: Duration) -> Self {
        let wait = last.map_or(WAITS.0, |last| last.wait * 2).min(longest);
        Self { since: now, until: now + wait.mul_f64(0.5 + fastrand::f64() / 2.0), wait }
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
        let next = Hold::after(self.each.get(&one).copied(), now, WAITS.1);
        self.each.insert(one, next);
        if self.each.len() > MOST {
            // What was tried since, or is gone: it has no more to wait for.
            self.each.retain(|_, hold| hold.until + WAITS.1 > now);
        }
        if self.in_a_row >= IN_A_ROW || self.each.len() > MOST {
            self.all = Some(Hold::after(self.all, now, ALL));
        }
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
        let too_many = self.each.len() >= MOST && self.all.is_some_and(|hold| hold.is_on(now));
        too_many || self.unread.is_some_and(|hold| hold.is_on(now))
    }

    /// Whose turn it is where nothing goes, unless one of those that failed is among the `running`: that which was tried longest ago.
    pub(super) fn turn(&self, now: Instant, running: impl Fn(&K) -> bool) -> Option<K> {
        self.all.as_ref().filter(|all| !all.is_on(now) && !self.each.keys().any(running))?;
        let due = self.each.iter().filter(|(_, hold)| !hold.is_on(now));
        due.min_by_key(|(_, hold)| hold.since).map(|(one, _)| one.clone())
    }

    /// What is not to be tried now. Where nothing goes that is all that has failed, but the one whose turn it is.
    pub(super) fn held(&self, now: Instant, turn: Option<&K>) -> HashSet<K> {
        let nothing_goes = self.all.is_some();
        let held =
            self.each.iter().filter(|(one, hold)| if nothing_goes { Some(*one) != turn } else { hold.is_on(now) });
        held.map(|(one, _)| one.clone()).collect()
    }

    /// Nothing of it waits any more: it must not keep the turn from the others.
    pub(super) fn gone(&mut self, one: &K) {
        self.each.remove(one);
    }

    /// When the next wait is over.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let later = |hold: &Hold| Some(hold.until).filter(|until| *until > now);
        let all = self.all.as_ref().and_then(later);
        let each = self.each.values().filter_map(later).min();
        // While all wait, no single one is waited for.
        let next = all.or(each);
        next.into_iter().chain(self.unread.as_ref().and_then(later)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held<K: Clone + Eq + Hash>(holds: &Holds<K>, now: Instant) -> HashSet<K> {
        holds.held(now, holds.turn(now, |_| false).as_ref())
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
        assert!(!holds.none(later), "each is over");
        assert_eq!(held(&holds, later), HashSet::from([MOST]));
    }

    #[test]
    fn what_has_failed_waits_its_turn_if_nothing_goes_and_holds_up_nothing_else() {
        let (mut holds, mut now) = (Holds::default(), Instant::now());
        for n in 0..20 {
            holds.hold(n, now);
            now += Duration::from_millis(1);
        }
        assert_eq!(held(&holds, now), (0..20).collect(), "and no other");
        assert!(!holds.none(now));
        // One after the other, from that which was tried longest ago, with waits between.
        let mut tried = Vec::new();
        while tried.len() < 60 {
            now = holds.next(now).expect("something waits").max(now + Duration::from_millis(1));
            let all: HashSet<_> = (0..20).collect();
            for one in all.difference(&held(&holds, now)) {
                tried.push(*one);
                let turn = holds.turn(now, |running| running == one);
                assert_eq!(holds.held(now, turn.as_ref()), all, "one at a time");
                holds.hold(*one, now);
            }
        }
        assert_eq!(tried, (0..20).cycle().take(60).collect::<Vec<_>>());
        holds.release(&3);
        assert!(held(&holds, now + WAITS.1).is_empty());
    }

    #[test]
    fn of_too_many_none_is_tried_while_all_wait_nor_of_what_cannot_be_read() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        for n in 0..=MOST {
            holds.hold(n, now);
        }
        assert!(holds.none(now) && !holds.none(now + ALL));
        let mut holds = Holds::<u8>::default();
        holds.hold_all(now);
        assert!(holds.none(now) && holds.next(now).is_some() && !holds.none(now + ALL));
        holds.read();
        assert!(!holds.none(now));
    }
}
