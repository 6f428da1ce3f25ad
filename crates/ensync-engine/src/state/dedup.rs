//! Publishes under idempotency keys, remembered for a while.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use ensync_core::{AppId, EventName, IdempotencyKey, Timestamp};
use sha2::{Digest, Sha256};

use super::event_id::EventKey;
use crate::log::EventRef;

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

/// The publishes of the last `window`, at most `capacity` of them.
#[derive(Debug)]
pub(super) struct Dedup {
    window: Duration,
    capacity: usize,
    events: HashMap<Fingerprint, (EventKey, Timestamp)>,
    /// In the order they came.
    order: VecDeque<(Fingerprint, Timestamp)>,
}

impl Dedup {
    pub(super) fn new(window: Duration, capacity: usize) -> Self {
        Self { window, capacity, events: HashMap::new(), order: VecDeque::new() }
    }

    /// The event that was published first, if that is within the window before `now`.
    pub(super) fn find(&self, publish: &Fingerprint, now: Timestamp) -> Option<EventKey> {
        self.events.get(publish).filter(|(_, at)| now.since(*at) < self.window).map(|(event, _)| *event)
    }

    pub(super) fn insert(&mut self, publish: Fingerprint, event: EventKey, at: Timestamp) {
        self.events.insert(publish, (event, at));
        self.order.push_back((publish, at));
        while self.order.len() > self.capacity {
            self.forget_first();
        }
    }

    /// Forgets what is older than the window.
    pub(super) fn prune(&mut self, now: Timestamp) {
        while self.order.front().is_some_and(|(_, at)| now.since(*at) >= self.window) {
            self.forget_first();
        }
    }

    /// Forgets the publishes of some events.
    pub(super) fn forget(&mut self, gone: impl Fn(EventRef) -> bool) {
        self.events.retain(|_, (key, _)| !gone(key.event));
        let events = &self.events;
        self.order.retain(|(publish, at)| events.get(publish).is_some_and(|(_, current)| current == at));
    }

    /// What [`find`](Self::find) would find at `now`, in the order it came.
    pub(super) fn iter(&self, now: Timestamp) -> impl Iterator<Item = (Fingerprint, EventKey, Timestamp)> {
        self.order.iter().filter_map(move |(publish, at)| {
            let (event, current) = self.events.get(publish)?;
            (current == at && now.since(*at) < self.window).then_some((*publish, *event, *at))
        })
    }

    fn forget_first(&mut self) {
        if let Some((publish, at)) = self.order.pop_front()
            && self.events.get(&publish).is_some_and(|(_, current)| *current == at)
        {
            self.events.remove(&publish);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Position;

    fn event(seq: u64) -> EventKey {
        EventKey { transient: false, tag: 0, event: EventRef { queue: 0, seq }, position: Position::START }
    }

    fn print(n: u8) -> Fingerprint {
        Fingerprint([n; 16])
    }

    #[test]
    fn the_window_closes() {
        let at = Timestamp::from_millis;
        let mut dedup = Dedup::new(Duration::from_millis(100), 10);
        dedup.insert(print(1), event(1), at(0));
        assert_eq!(dedup.find(&print(1), at(99)), Some(event(1)));
        assert_eq!(dedup.find(&print(1), at(100)), None);
        assert_eq!(dedup.find(&print(2), at(0)), None);
        dedup.insert(print(1), event(2), at(100));
        dedup.prune(at(150));
        assert_eq!(dedup.find(&print(1), at(150)), Some(event(2)));
        assert_eq!(dedup.iter(at(150)).count(), 1);
        dedup.prune(at(200));
        assert!(dedup.events.is_empty() && dedup.order.is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut dedup = Dedup::new(Duration::from_secs(1), 2);
        for n in 1..=3 {
            dedup.insert(print(n), event(n.into()), Timestamp::from_millis(n.into()));
        }
        let found = [1, 2, 3].map(|n| dedup.find(&print(n), Timestamp::from_millis(3)).is_some());
        assert_eq!((found, dedup.events.len()), ([false, true, true], 2));
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
