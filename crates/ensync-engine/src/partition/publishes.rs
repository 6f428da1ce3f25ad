//! What [`Dedup`](super::dedup::Dedup) keeps publishes in: structures of which no single insert takes long, however large they are.

use std::collections::{HashMap, VecDeque};

use ensync_core::Timestamp;

use super::dedup::Fingerprint;
use super::event_id::EventKey;

/// How many maps there are. One that grows moves all that it holds; of many each has little to move, and they grow at different times.
const SHARDS: usize = 256;

/// How large a map may be that holds little.
const SMALL: usize = 64;

/// A map from fingerprints, in many.
#[derive(Debug)]
pub(super) struct Shards(Vec<HashMap<Fingerprint, (EventKey, Timestamp)>>);

impl Shards {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| HashMap::new()).collect())
    }

    pub(super) fn get(&self, publish: &Fingerprint) -> Option<&(EventKey, Timestamp)> {
        self.0.get(shard(publish))?.get(publish)
    }

    /// What was there before is the value.
    pub(super) fn insert(
        &mut self,
        publish: Fingerprint,
        event: (EventKey, Timestamp),
    ) -> Option<(EventKey, Timestamp)> {
        self.0.get_mut(shard(&publish))?.insert(publish, event)
    }

    pub(super) fn remove(&mut self, publish: &Fingerprint) {
        if let Some(map) = self.0.get_mut(shard(publish)) {
            map.remove(publish);
            if map.capacity() > SMALL && map.len() * 4 < map.capacity() {
                map.shrink_to(map.len() * 2);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(HashMap::len).sum()
    }
}

/// A hash is as good in its first byte as in any other.
fn shard(publish: &Fingerprint) -> usize {
    let [first, ..] = publish.as_bytes();
    usize::from(*first)
}

/// How many publishes are in one piece of memory.
const PIECE: u64 = 1_024;

/// An app's publishes in the order they came, each with a number. In pieces: a single list that grows is copied as a whole.
#[derive(Debug, Default)]
pub(super) struct Publishes {
    /// All are full but the last; of the first, what comes before `first` is gone. The piece at index i holds the numbers from
    /// `(first / PIECE + i) · PIECE` on.
    pieces: VecDeque<Vec<(Fingerprint, Timestamp)>>,
    /// The number of the first, and the one after the last.
    first: u64,
    end: u64,
}

impl Publishes {
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.end - self.first).unwrap_or(usize::MAX)
    }

    /// When the first was accepted.
    pub(super) fn first(&self) -> Option<(Fingerprint, Timestamp)> {
        self.pieces.front()?.get(place(self.first)).copied()
    }

    /// Their numbers: of the first, and after the last.
    pub(super) fn range(&self) -> (u64, u64) {
        (self.first, self.end)
    }

    pub(super) fn push(&mut self, publish: (Fingerprint, Timestamp)) {
        if place(self.end) == 0 {
            self.pieces.push_back(Vec::new());
        }
        if let Some(last) = self.pieces.back_mut() {
            last.push(publish);
            self.end += 1;
        }
    }

    /// Takes the first out.
    pub(super) fn pop(&mut self) -> Option<(u64, (Fingerprint, Timestamp))> {
        let (number, first) = (self.first, self.first()?);
        self.first += 1;
        if place(self.first) == 0 {
            self.pieces.pop_front();
        }
        Some((number, first))
    }

    /// Those from a number on.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = (Fingerprint, Timestamp)> {
        let number = number.max(self.first);
        let skipped = usize::try_from(number / PIECE - self.first / PIECE).unwrap_or(usize::MAX);
        let pieces = self.pieces.iter().skip(skipped).enumerate();
        pieces.flat_map(move |(index, piece)| piece.iter().skip(if index == 0 { place(number) } else { 0 }).copied())
    }
}

fn place(number: u64) -> usize {
    (number % PIECE) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishes_are_a_queue_with_numbers() {
        let publish = |n: u64| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            (Fingerprint::from_bytes(bytes), Timestamp::from_millis(n))
        };
        let (mut publishes, mut random) = (Publishes::default(), fastrand::Rng::with_seed(3));
        let (mut first, mut end) = (0, 0);
        for round in 0..200 {
            for _ in 0..random.u64(0..200) {
                publishes.push(publish(end));
                end += 1;
            }
            for _ in 0..random.u64(0..if round < 100 { 100 } else { 400 }) {
                assert_eq!(publishes.pop(), (first < end).then(|| (first, publish(first))));
                first += u64::from(first < end);
            }
            assert_eq!((publishes.len() as u64, publishes.range()), (end - first, (first, end)));
            assert_eq!(publishes.first(), (first < end).then(|| publish(first)));
            let from = random.u64(first.saturating_sub(10)..=end);
            assert!(publishes.from(from).eq((from.max(first)..end).map(publish)));
            assert!(publishes.pieces.len() as u64 <= (end - first) / PIECE + 2);
        }
        assert!(end > 10 * PIECE);
    }
}
