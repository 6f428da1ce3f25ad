//! Publishes under idempotency keys, remembered for a while.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use ensync_core::{AppId, EventName, IdempotencyKey, Timestamp};
use sha2::{Digest, Sha256};

use super::event_id::EventKey;
use super::publishes::{Publishes, Shards};
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

/// A publish that is remembered, as it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) publish: Fingerprint,
    pub(super) event: EventKey,
    pub(super) at: Timestamp,
}

/// The publishes of the last `window`: at most so many per sending app, and so many of all together.
///
/// An app pushes out its own: its oldest where it has as many as an app may, and where there are as many as there may be, the
/// oldest of the app that has the most. What is held is a function of the inserts and of the time that
/// [`forget_old`](Self::forget_old) was told, so that the log read back makes the same of it. What is over is not held, whenever it is
/// taken out: that costs time, and is done a few at a time.
#[derive(Debug)]
pub(super) struct Dedup {
    window: Duration,
    per_app: usize,
    total: usize,
    events: Shards,
    /// Of each app that has any, in the order they came.
    apps: BTreeMap<AppId, Publishes>,
    /// How many these are.
    count: usize,
    /// Who has how many.
    by_count: BTreeSet<(usize, AppId)>,
    /// From when each app's first is.
    by_age: BTreeSet<(Timestamp, AppId)>,
    /// The latest that was inserted.
    latest: Timestamp,
    /// The latest time that was told.
    told: Timestamp,
    /// A checkpoint of it that is being made.
    image: Option<Image>,
}

/// How many that are over an insert takes out: more than it puts in.
const PER_INSERT: usize = 4;

impl Dedup {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            window: limits.dedup_window,
            per_app: limits.dedup_entries_per_app,
            total: limits.dedup_entries,
            events: Shards::new(),
            apps: BTreeMap::new(),
            count: 0,
            by_count: BTreeSet::new(),
            by_age: BTreeSet::new(),
            latest: Timestamp::default(),
            told: Timestamp::default(),
            image: None,
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
        self.latest = self.latest.max(at);
        for _ in 0..PER_INSERT {
            if !self.forget_one() {
                break;
            }
        }
        if self.per_app == 0 || self.total == 0 {
            return;
        }
        while self.len_of(&sender) >= self.per_app {
            self.forget_first(sender);
        }
        while self.count >= self.total
            && let Some(&(most, app)) = self.by_count.last()
        {
            // Nobody gives way while there is one that is over. With this one it may be the sender who has the most.
            if !self.forget_one() {
                self.forget_first(if self.len_of(&sender) >= most { sender } else { app });
            }
        }
        let before = self.events.insert(publish, (event, at));
        if let (Some((event, at)), Some(image)) = (before, &mut self.image) {
            image.replaced.entry((publish, at)).or_insert(event);
        }
        self.change(sender, |publishes| publishes.push((publish, at)));
    }

    /// Takes out at most so many that are of no use any more: not at the end of the window, but after another one, for publishes that
    /// were accepted before `now` may still be inserted.
    pub(super) fn forget_old(&mut self, now: Timestamp, most: usize) {
        self.told = self.told.max(now);
        for _ in 0..most {
            if !self.forget_one() {
                break;
            }
        }
    }

    /// Whether [`forget_old`](Self::forget_old) would find one.
    pub(super) fn has_old(&self, now: Timestamp) -> bool {
        self.by_age.first().is_some_and(|(at, _)| !self.lasts_until(*at, self.told.max(now)))
    }

    /// Whether one of that time is still held.
    fn lasts(&self, at: Timestamp) -> bool {
        self.lasts_until(at, self.told)
    }

    fn lasts_until(&self, at: Timestamp, told: Timestamp) -> bool {
        self.latest.since(at) < self.window && told.since(at) < self.window.saturating_mul(2)
    }

    /// Takes out the oldest one, if it is over.
    fn forget_one(&mut self) -> bool {
        let Some(&(at, app)) = self.by_age.first() else { return false };
        let over = !self.lasts(at);
        if over {
            self.forget_first(app);
        }
        over
    }

    /// All that is held: by app, and of each in the order it came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (AppId, impl Iterator<Item = Remembered>)> {
        self.apps.iter().filter_map(|(app, publishes)| {
            let held = publishes.from(0).filter(|(_, at)| self.lasts(*at));
            let held = held.filter_map(|(publish, at)| {
                let event = self.events.get(&publish).filter(|(_, current)| *current == at)?.0;
                Some(Remembered { publish, event, at })
            });
            let mut held = held.peekable();
            held.peek()?;
            Some((*app, held))
        })
    }

    /// Begins to tell all that is held now: see [`image`](Self::image).
    pub(super) fn begin_image(&mut self) {
        self.image = Some(Image {
            left: self.apps.iter().map(|(app, publishes)| (*app, publishes.range())).collect(),
            latest: self.latest,
            told: self.told,
            replaced: HashMap::new(),
            gone: Vec::new(),
        });
    }

    pub(super) fn drop_image(&mut self) {
        self.image = None;
    }

    /// Some more of what was held when [`begin_image`](Self::begin_image) was called, whatever has happened since: an app, and of that in
    /// the order it came. Looks at no more than `most`. `None` once that is all.
    pub(super) fn image(&mut self, most: usize) -> Option<Vec<(AppId, Vec<Remembered>)>> {
        let mut image = self.image.take()?;
        let mut told = std::mem::take(&mut image.gone);
        let mut budget = most;
        while budget > 0
            && let Some(mut next) = image.left.first_entry()
        {
            let (app, (from, to)) = (*next.key(), *next.get());
            let end = to.min(from.saturating_add(budget as u64));
            budget = budget.saturating_sub(usize::try_from(end - from).unwrap_or(usize::MAX)).saturating_sub(1);
            if end == to {
                next.remove();
            } else {
                next.get_mut().0 = end;
            }
            let publishes = self.apps.get(&app).into_iter().flat_map(|publishes| publishes.from(from));
            let publishes = publishes.take(usize::try_from(end - from).unwrap_or(usize::MAX));
            let found = publishes.filter_map(|publish| image.remembered(publish, &self.events, self.window));
            told.push((app, found.collect()));
        }
        if told.is_empty() && image.left.is_empty() {
            return None;
        }
        self.image = Some(image);
        Some(told)
    }

    fn len_of(&self, app: &AppId) -> usize {
        self.apps.get(app).map_or(0, Publishes::len)
    }

    fn forget_first(&mut self, app: AppId) {
        let Some((number, first)) = self.change(app, Publishes::pop) else { return };
        if let Some(mut image) = self.image.take() {
            image.goes(app, number, first, &self.events, self.window);
            self.image = Some(image);
        }
        if self.events.get(&first.0).is_some_and(|(_, current)| *current == first.1) {
            self.events.remove(&first.0);
        }
    }

    /// Changes what is held of an app, and what is counted with it.
    fn change<T>(&mut self, app: AppId, change: impl FnOnce(&mut Publishes) -> T) -> T {
        let mut publishes = self.apps.remove(&app).unwrap_or_default();
        if let Some((_, at)) = publishes.first() {
            self.count -= publishes.len();
            self.by_count.remove(&(publishes.len(), app));
            self.by_age.remove(&(at, app));
        }
        let changed = change(&mut publishes);
        if let Some((_, at)) = publishes.first() {
            self.count += publishes.len();
            self.by_count.insert((publishes.len(), app));
            self.by_age.insert((at, app));
            self.apps.insert(app, publishes);
        }
        changed
    }
}

/// What was held at some moment, as far as it has not been told.
#[derive(Debug)]
struct Image {
    /// Which of each app's publishes, by their numbers.
    left: BTreeMap<AppId, (u64, u64)>,
    latest: Timestamp,
    told: Timestamp,
    /// What publishes were of which the key was used again since.
    replaced: HashMap<(Fingerprint, Timestamp), EventKey>,
    /// What was taken out before it was told.
    gone: Vec<(AppId, Vec<Remembered>)>,
}

impl Image {
    /// A publish, if it was held.
    fn remembered(
        &self,
        (publish, at): (Fingerprint, Timestamp),
        events: &Shards,
        window: Duration,
    ) -> Option<Remembered> {
        if self.latest.since(at) >= window || self.told.since(at) >= window.saturating_mul(2) {
            return None;
        }
        let now = || events.get(&publish).filter(|(_, current)| *current == at).map(|(event, _)| *event);
        let event = self.replaced.get(&(publish, at)).copied().or_else(now)?;
        Some(Remembered { publish, event, at })
    }

    /// Notes the first publish of an app, which is about to be forgotten.
    fn goes(&mut self, app: AppId, number: u64, publish: (Fingerprint, Timestamp), events: &Shards, window: Duration) {
        let Some((from, to)) = self.left.get_mut(&app) else { return };
        if !(*from..*to).contains(&number) {
            return;
        }
        *from = number + 1;
        if from == to {
            self.left.remove(&app);
        }
        let Some(remembered) = self.remembered(publish, events, window) else { return };
        match self.gone.last_mut() {
            Some((last, gone)) if *last == app => gone.push(remembered),
            _ => self.gone.push((app, vec![remembered])),
        }
    }
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

    fn seqs(held: impl Iterator<Item = (AppId, Vec<Remembered>)>) -> Vec<(u8, Vec<u64>)> {
        held.map(|(app, held)| (app.as_bytes()[0], held.iter().map(|one| one.event.event.seq).collect())).collect()
    }

    /// What an image that was begun tells from now on, as [`held`] does; an app is named once.
    fn rest(dedup: &mut Dedup, most: usize) -> Vec<(u8, Vec<u64>)> {
        let mut told: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        while let Some(some) = dedup.image(most) {
            for (app, more) in seqs(some.into_iter()) {
                told.entry(app).or_default().extend(more);
            }
        }
        told.into_iter().filter(|(_, seqs)| !seqs.is_empty()).collect()
    }

    /// What each app has.
    fn held(dedup: &Dedup) -> Vec<(u8, Vec<u64>)> {
        let held = seqs(dedup.iter().map(|(app, held)| (app, held.collect())));
        let count: usize = held.iter().map(|(_, seqs)| seqs.len()).sum();
        assert!(count <= dedup.count && dedup.events.len() <= dedup.count && dedup.count <= dedup.total);
        assert_eq!(dedup.count, dedup.apps.values().map(Publishes::len).sum::<usize>());
        assert_eq!((dedup.by_count.len(), dedup.by_age.len()), (dedup.apps.len(), dedup.apps.len()));
        held
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
        dedup.forget_old(at(299), 9);
        assert_eq!(held(&dedup), [(1, vec![2])]);
        assert!(!dedup.has_old(at(299)) && dedup.has_old(at(300)));
        dedup.forget_old(at(300), 0);
        assert_eq!((held(&dedup), dedup.count), (vec![], 1));
        dedup.forget_old(at(300), 9);
        assert_eq!((dedup.count, dedup.events.len(), dedup.has_old(at(300))), (0, 0, false));
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
                lived.forget_old(at(now), random.usize(0..3));
            }
            let (sender, name) = (app(random.u8(1..5)), print(random.u8(..)));
            if lived.find(&name, accepted).is_none() {
                lived.insert(sender, name, event(seq), accepted);
                read_back.insert(sender, name, event(seq), accepted);
            }
        }
        lived.forget_old(at(now), 0);
        read_back.forget_old(at(now), usize::MAX);
        assert_eq!(held(&lived), held(&read_back));
        assert!(lived.count > 6);
    }

    #[test]
    fn nobody_gives_way_while_there_is_one_that_is_over() {
        let mut dedup = limited(100, 9, 9);
        for n in 1..=8 {
            dedup.insert(app(1), print(n), event(n.into()), at(0));
        }
        dedup.insert(app(2), print(9), event(9), at(0));
        // These are taken out a few at a time, and count for nobody meanwhile.
        for n in 10..=18 {
            dedup.insert(app(2), print(n), event(n.into()), at(100));
        }
        assert_eq!(held(&dedup), [(2, (10..=18).collect())]);
    }

    #[test]
    fn an_image_is_what_was_held_when_it_was_begun() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut dedup = limited(50, 6, 12);
        let (mut now, mut told) = (1_000, 0);
        for round in 0..500 {
            let expected = held(&dedup);
            dedup.begin_image();
            let mut some: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
            for seq in 0..random.u64(0..20) {
                now += random.u64(1..8);
                let sender = random.u8(1..5);
                let name = print(sender * 50 + random.u8(..8));
                // A key that was used may be used again, too: its queue may be gone.
                if dedup.find(&name, at(now)).is_none() || random.u8(..4) == 0 {
                    dedup.insert(app(sender), name, event(round * 100 + seq), at(now));
                }
                dedup.forget_old(at(now), random.usize(0..3));
                for (app, more) in seqs(dedup.image(random.usize(1..4)).into_iter().flatten()) {
                    some.entry(app).or_default().extend(more);
                }
            }
            for (app, more) in rest(&mut dedup, 2) {
                some.entry(app).or_default().extend(more);
            }
            some.retain(|_, seqs| !seqs.is_empty());
            assert_eq!(some.into_iter().collect::<Vec<_>>(), expected, "{round}");
            told += expected.len();
        }
        assert!(told > 500, "{told}");
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
