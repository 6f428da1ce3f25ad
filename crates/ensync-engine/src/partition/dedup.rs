//! Publishes under idempotency keys, remembered for a while.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use ensync_core::{AppId, EventName, IdempotencyKey, Timestamp};
use sha2::{Digest, Sha256};

use super::event_id::EventKey;
use crate::model::Limits;

/// Names a publish: the ids of sender and recipient, the event name, the key and whether it went to the log, hashed, so that long names
/// and keys cost no memory. 128 bits of SHA-256 are far from a collision at the number that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// What is in memory only does not count for what is in the log: after a restart nobody would know of the former.
    pub(super) fn new(
        sender: &AppId,
        recipient: &AppId,
        event: &EventName,
        key: &IdempotencyKey,
        transient: bool,
    ) -> Self {
        let hash = Sha256::new().chain_update(sender.as_bytes()).chain_update(recipient.as_bytes());
        // A name holds no zero byte, so where it ends and the key begins is in the hash too.
        let hash = hash.chain_update([u8::from(transient)]).chain_update(event.as_str()).chain_update([0]);
        let hash: [u8; 32] = hash.chain_update(key.as_str()).finalize().into();
        let [first, ..] = hash.as_chunks::<16>().0 else { return Self([0; 16]) };
        Self(*first)
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The publishes of the last `window`: at most so many per sending app, and so many of all together.
///
/// An app pushes out its own: its oldest where it has as many as an app may, and where there are as many as there may be, the
/// oldest of the app that has the most. What is held is a function of the inserts, whatever [`forget_old`](Self::forget_old) does
/// between them, so that the log read back makes the same of it.
#[derive(Debug)]
pub(super) struct Dedup {
    window: Duration,
    per_app: usize,
    total: usize,
    events: HashMap<Fingerprint, (EventKey, Timestamp)>,
    /// Of each app that has any, in the order they came.
    apps: BTreeMap<AppId, VecDeque<(Fingerprint, Timestamp)>>,
    /// How many these are.
    count: usize,
    /// Who has how many.
    by_count: BTreeSet<(usize, AppId)>,
    /// From when each app's first is.
    by_age: BTreeSet<(Timestamp, AppId)>,
}

impl Dedup {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            window: limits.dedup_window,
            per_app: limits.dedup_entries_per_app,
            total: limits.dedup_entries,
            events: HashMap::new(),
            apps: BTreeMap::new(),
            count: 0,
            by_count: BTreeSet::new(),
            by_age: BTreeSet::new(),
        }
    }

    /// The event that was published first, if that is within the window before `now`.
    pub(super) fn find(&self, publish: &Fingerprint, now: Timestamp) -> Option<EventKey> {
        self.events.get(publish).filter(|(_, at)| now.since(*at) < self.window).map(|(event, _)| *event)
    }

    /// The event of another publish that was accepted at the same time: in the same batch, when neither was remembered yet. Later
    /// ones were held against what is remembered before they came into the log, whatever the window was then.
    pub(super) fn of_same_batch(&self, publish: &Fingerprint, accepted_at: Timestamp) -> Option<EventKey> {
        self.events.get(publish).filter(|(_, at)| *at == accepted_at).map(|(event, _)| *event)
    }

    /// Remembers a publish of `sender`. Takes O(log n).
    pub(super) fn insert(&mut self, sender: AppId, publish: Fingerprint, event: EventKey, at: Timestamp) {
        self.prune(at, self.window);
        self.restore(sender, publish, event, at);
    }

    /// The same, for what [`iter`](Self::iter) gave: all of it was within the window.
    pub(super) fn restore(&mut self, sender: AppId, publish: Fingerprint, event: EventKey, at: Timestamp) {
        if self.per_app == 0 || self.total == 0 || self.window.is_zero() {
            return;
        }
        while self.len_of(&sender) >= self.per_app {
            self.forget_first(sender);
        }
        while self.count >= self.total
            && let Some(&(most, app)) = self.by_count.last()
        {
            // With this one it may be the sender who has the most.
            self.forget_first(if self.len_of(&sender) >= most { sender } else { app });
        }
        self.events.insert(publish, (event, at));
        self.change(sender, |publishes| publishes.push_back((publish, at)));
    }

    /// Forgets what is of no use any more: not at the end of the window, but after another one, for publishes that were accepted
    /// before `now` may still be inserted.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        self.prune(now, self.window.saturating_mul(2));
    }

    /// All that is held: by app, and of each in the order it came.
    pub(super) fn iter(
        &self,
    ) -> impl Iterator<Item = (AppId, impl Iterator<Item = (Fingerprint, EventKey, Timestamp)>)> {
        self.apps.iter().map(|(app, publishes)| {
            let current = publishes.iter().filter(|publish| is_current(&self.events, publish));
            (*app, current.filter_map(|(publish, at)| Some((*publish, self.events.get(publish)?.0, *at))))
        })
    }

    fn prune(&mut self, now: Timestamp, age: Duration) {
        while let Some(&(at, app)) = self.by_age.first()
            && now.since(at) >= age
        {
            self.forget_first(app);
        }
    }

    fn len_of(&self, app: &AppId) -> usize {
        self.apps.get(app).map_or(0, VecDeque::len)
    }

    fn forget_first(&mut self, app: AppId) {
        let first = self.change(app, VecDeque::pop_front);
        if let Some(first) = first.filter(|first| is_current(&self.events, first)) {
            self.events.remove(&first.0);
        }
    }

    /// Changes what is held of an app, and what is counted with it.
    fn change<T>(&mut self, app: AppId, change: impl FnOnce(&mut VecDeque<(Fingerprint, Timestamp)>) -> T) -> T {
        let mut publishes = self.apps.remove(&app).unwrap_or_default();
        if let Some((_, at)) = publishes.front() {
            self.count -= publishes.len();
            self.by_count.remove(&(publishes.len(), app));
            self.by_age.remove(&(*at, app));
        }
        let changed = change(&mut publishes);
        if let Some((_, at)) = publishes.front() {
            self.count += publishes.len();
            self.by_count.insert((publishes.len(), app));
            self.by_age.insert((*at, app));
            self.apps.insert(app, publishes);
        }
        changed
    }
}

/// Whether this is what the key was used for last.
fn is_current(events: &HashMap<Fingerprint, (EventKey, Timestamp)>, (publish, at): &(Fingerprint, Timestamp)) -> bool {
    events.get(publish).is_some_and(|(_, current)| current == at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventRef, Position};

    fn event(seq: u64) -> EventKey {
        EventKey { transient: false, tag: 0, event: EventRef { queue: 0, seq }, position: Position::START }
    }

    fn print(n: u8) -> Fingerprint {
        Fingerprint([n; 16])
    }

    fn limited(window_ms: u64, per_app: usize, total: usize) -> Dedup {
        let dedup_window = Duration::from_millis(window_ms);
        Dedup::new(&Limits { dedup_window, dedup_entries_per_app: per_app, dedup_entries: total, ..Limits::default() })
    }

    fn app(n: u8) -> AppId {
        AppId::from_bytes([n; 32])
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    /// How many an app has.
    fn held(dedup: &Dedup) -> Vec<(u8, Vec<u64>)> {
        let held = dedup.iter().map(|(app, held)| (app.as_bytes()[0], held.map(|(_, key, _)| key.event.seq).collect()));
        let held: Vec<(u8, Vec<u64>)> = held.collect();
        let count: usize = held.iter().map(|(_, seqs)| seqs.len()).sum();
        assert_eq!((dedup.count, dedup.events.len()), (count, count));
        assert_eq!((dedup.by_count.len(), dedup.by_age.len()), (held.len(), held.len()));
        held
    }

    #[test]
    fn without_a_window_nothing_is_remembered() {
        let mut dedup = limited(0, 10, 10);
        dedup.insert(app(1), print(1), event(1), at(5));
        assert_eq!((dedup.find(&print(1), at(5)), dedup.of_same_batch(&print(1), at(5))), (None, None));
        assert_eq!(held(&dedup), []);
    }

    #[test]
    fn the_window_closes() {
        let mut dedup = limited(100, 10, 10);
        dedup.insert(app(1), print(1), event(1), at(0));
        assert_eq!(dedup.find(&print(1), at(99)), Some(event(1)));
        assert_eq!(dedup.find(&print(1), at(100)), None);
        assert_eq!(dedup.find(&print(2), at(0)), None);
        dedup.insert(app(1), print(1), event(2), at(100));
        assert_eq!(dedup.find(&print(1), at(150)), Some(event(2)));
        assert_eq!(held(&dedup), [(1, vec![2])]);
        dedup.forget_old(at(299));
        assert_eq!(held(&dedup), [(1, vec![2])]);
        dedup.forget_old(at(300));
        assert_eq!(held(&dedup), []);
    }

    #[test]
    fn an_app_that_publishes_much_pushes_out_its_own_oldest() {
        let mut dedup = limited(1_000, 2, 10);
        dedup.insert(app(2), print(9), event(9), at(0));
        for n in 1..=3 {
            dedup.insert(app(1), print(n), event(n.into()), at(n.into()));
        }
        assert_eq!(held(&dedup), [(1, vec![2, 3]), (2, vec![9])]);
        assert_eq!([1, 2, 3, 9].map(|n| dedup.find(&print(n), at(3)).is_some()), [false, true, true, true]);
    }

    #[test]
    fn where_there_are_too_many_the_app_with_the_most_gives_way() {
        let mut dedup = limited(1_000, 10, 4);
        for n in 1..=3 {
            dedup.insert(app(1), print(n), event(n.into()), at(n.into()));
        }
        dedup.insert(app(2), print(4), event(4), at(4));
        // The one with few takes from the one with many, and not the other way round.
        dedup.insert(app(2), print(5), event(5), at(5));
        assert_eq!(held(&dedup), [(1, vec![2, 3]), (2, vec![4, 5])]);
        for (n, sender) in [(6, 1), (7, 2), (8, 2), (9, 1)] {
            dedup.insert(app(sender), print(n), event(n.into()), at(n.into()));
        }
        assert_eq!(held(&dedup), [(1, vec![6, 9]), (2, vec![7, 8])]);
        dedup.insert(app(3), print(10), event(10), at(10));
        assert_eq!(held(&dedup).iter().map(|(_, seqs)| seqs.len()).collect::<Vec<_>>(), [2, 1, 1]);
    }

    #[test]
    fn what_is_held_does_not_depend_on_when_the_old_was_forgotten() {
        let mut random = fastrand::Rng::with_seed(11);
        let (mut lived, mut read_back) = (limited(50, 6, 12), limited(50, 6, 12));
        let mut now = 1_000;
        for seq in 0..2_000 {
            now += random.u64(0..8);
            // A publish is inserted a while after it was accepted.
            let accepted = at(now - random.u64(0..20));
            if random.bool() {
                lived.forget_old(at(now));
            }
            let (sender, name) = (app(random.u8(1..5)), print(random.u8(..)));
            if lived.find(&name, accepted).is_none() {
                lived.insert(sender, name, event(seq), accepted);
                read_back.insert(sender, name, event(seq), accepted);
            }
        }
        lived.forget_old(at(now));
        read_back.forget_old(at(now));
        assert_eq!(held(&lived), held(&read_back));
        assert!(lived.count > 6);
    }

    #[test]
    fn nothing_is_remembered_where_nothing_may_be() {
        for (per_app, total) in [(0, 9), (9, 0)] {
            let mut dedup = limited(1_000, per_app, total);
            dedup.insert(app(1), print(1), event(1), at(0));
            assert_eq!(held(&dedup), []);
        }
    }

    /// What the guide on sizing says is computed from these.
    #[test]
    fn an_entry_is_as_large_as_is_said() {
        assert_eq!(size_of::<(Fingerprint, (EventKey, Timestamp))>(), 56);
        assert_eq!(size_of::<(Fingerprint, Timestamp)>(), 24);
    }

    #[test]
    fn each_part_of_the_name_counts() {
        let [a, b] = [AppId::from_bytes([1; 32]), AppId::from_bytes([2; 32])];
        let [e, f] = ["e", "ek"].map(|name| EventName::parse(name).unwrap());
        let [k, l] = ["k", "kk"].map(|key| IdempotencyKey::parse(key).unwrap());
        let names = [
            Fingerprint::new(&a, &b, &e, &k, false),
            Fingerprint::new(&b, &b, &e, &k, false),
            Fingerprint::new(&a, &a, &e, &k, false),
            Fingerprint::new(&b, &a, &e, &k, false),
            Fingerprint::new(&a, &b, &f, &k, false),
            // Joined without a separator, these two would be one.
            Fingerprint::new(&a, &b, &e, &l, false),
            Fingerprint::new(&a, &b, &e, &k, true),
        ];
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
        assert_eq!(names[0], Fingerprint::new(&a, &b, &e, &k, false));
    }
}
