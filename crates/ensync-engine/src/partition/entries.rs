//! The unsettled events of one queue, by sequence number.

use std::collections::BTreeMap;

use ensync_core::Timestamp;

use super::timers::NEVER;

/// Where an unsettled event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Waits for its first delivery since the engine started.
    Fresh,
    /// Waits for another one.
    Returned,
    /// With a client.
    Leased,
    /// Waits for its time.
    Deferred,
    /// Came back; waits for another delivery as soon as the log says so.
    Returning,
    /// Was delivered too often; becomes a dead letter as soon as the log says so.
    Doomed,
    /// A dead letter.
    Dead,
}

/// What is kept in memory of an unsettled event: 48 bytes. The payload is in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Where the log had it first; 0 if it is in memory only.
    pub(crate) position: u64,
    pub(crate) accepted_at: Timestamp,
    /// [`NEVER`] if it does not expire.
    pub(crate) expires_at: Timestamp,
    pub(crate) tag: u32,
    /// Payload and metadata, in bytes.
    pub(crate) size: u32,
    /// As far as is known: a restart forgets what was with a client when the engine was killed.
    pub(crate) deliveries: u32,
    /// Since the engine started.
    pub(crate) in_epoch: u32,
    /// Deliveries that do not count towards the limit, as their sessions ended first.
    pub(crate) handed_back: u8,
    pub(crate) place: Place,
    pub(crate) transient: bool,
    /// The sequence number's place in its chunk; kept by [`Entries`].
    pub(crate) slot: u8,
}

const _: () = assert!(size_of::<Entry>() <= 48);

/// Sequence numbers per chunk.
const CHUNK: u64 = 32;

/// A map from sequence number to [`Entry`], made for queues: appending, taking from the front and finding are O(log n) with a
/// small constant, an entry costs little more than its own bytes, and one that stays behind for hours does not keep the memory
/// of the thousands that were settled after it.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    chunks: BTreeMap<u64, Chunk>,
}

#[derive(Debug)]
struct Chunk {
    /// Ascending by `slot`.
    entries: Vec<Entry>,
    /// When this chunk's expiry timer is due; [`NEVER`] if there is none.
    armed: Timestamp,
    /// The last checkpoint that holds what is in it, or that was begun before it was made.
    imaged: u32,
}

/// A chunk that was taken out.
#[derive(Debug)]
pub(super) struct Popped {
    pub(super) number: u64,
    pub(super) entries: Vec<(u64, Entry)>,
    /// When its expiry timer was due.
    pub(super) armed: Timestamp,
}

impl Entries {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Entry> {
        let chunk = self.chunks.get(&chunk_of(seq))?;
        chunk.entries.get(chunk.find(seq).ok()?)
    }

    pub(crate) fn get_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        let chunk = self.chunks.get_mut(&chunk_of(seq))?;
        let index = chunk.find(seq).ok()?;
        chunk.entries.get_mut(index)
    }

    /// Enters an event. One that is there already stays. `checkpoint` is the number of the last one that was begun.
    pub(crate) fn insert(&mut self, seq: u64, entry: Entry, checkpoint: u32) {
        let new = || Chunk { entries: Vec::with_capacity(1), armed: NEVER, imaged: checkpoint };
        let chunk = self.chunks.entry(chunk_of(seq)).or_insert_with(new);
        if let Err(index) = chunk.find(seq) {
            chunk.entries.insert(index, Entry { slot: slot_of(seq), ..entry });
        }
    }

    /// Takes an event out. If its chunk goes with it, the second value is when that chunk's expiry timer was due.
    pub(crate) fn remove(&mut self, seq: u64) -> Option<(Entry, Option<Timestamp>)> {
        let number = chunk_of(seq);
        let chunk = self.chunks.get_mut(&number)?;
        let entry = chunk.entries.remove(chunk.find(seq).ok()?);
        if chunk.entries.len() * 4 <= chunk.entries.capacity() {
            chunk.entries.shrink_to_fit();
        }
        let armed = chunk.armed;
        if chunk.entries.is_empty() {
            self.chunks.remove(&number);
            return Some((entry, (armed != NEVER).then_some(armed)));
        }
        Some((entry, None))
    }

    /// The entries from a sequence number on, in order.
    pub(crate) fn from(&self, seq: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.chunks
            .range(chunk_of(seq)..)
            .flat_map(|(number, chunk)| chunk.entries.iter().map(move |e| (number * CHUNK + u64::from(e.slot), e)))
            .skip_while(move |(found, _)| *found < seq)
    }

    /// The last `count` entries, the last one first.
    pub(crate) fn last(&self, count: usize) -> impl Iterator<Item = (u64, &Entry)> {
        let chunks = self.chunks.iter().rev();
        let entries = chunks.flat_map(|(number, chunk)| {
            chunk.entries.iter().rev().map(move |e| (number * CHUNK + u64::from(e.slot), e))
        });
        entries.take(count)
    }

    /// The entries of one chunk.
    pub(crate) fn of_chunk(&self, number: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let entries = self.chunks.get(&number).map_or(&[][..], |chunk| &chunk.entries);
        entries.iter().map(move |entry| (number * CHUNK + u64::from(entry.slot), entry))
    }

    /// Takes out the first chunk.
    pub(super) fn pop_chunk(&mut self) -> Option<Popped> {
        let (number, chunk) = self.chunks.pop_first()?;
        let entries = chunk.entries.into_iter().map(|entry| (number * CHUNK + u64::from(entry.slot), entry)).collect();
        Some(Popped { number, entries, armed: chunk.armed })
    }

    /// The first chunk from a number on.
    pub(super) fn chunk_from(&self, number: u64) -> Option<u64> {
        self.chunks.range(number..).next().map(|(number, _)| *number)
    }

    /// Has a checkpoint hold a chunk from now on. Whether it is there, and the checkpoint did not.
    pub(super) fn mark(&mut self, number: u64, checkpoint: u32) -> bool {
        let Some(chunk) = self.chunks.get_mut(&number) else { return false };
        std::mem::replace(&mut chunk.imaged, checkpoint) != checkpoint
    }

    /// When the expiry timer of a chunk is due, to be changed; `None` if there is no such chunk.
    pub(crate) fn armed_mut(&mut self, number: u64) -> Option<&mut Timestamp> {
        self.chunks.get_mut(&number).map(|chunk| &mut chunk.armed)
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn armed(&self, number: u64) -> Timestamp {
        self.chunks.get(&number).map_or(NEVER, |chunk| chunk.armed)
    }
}

/// The chunk of a sequence number.
pub(crate) fn chunk_of(seq: u64) -> u64 {
    seq / CHUNK
}

fn slot_of(seq: u64) -> u8 {
    (seq % CHUNK) as u8
}

impl Chunk {
    fn find(&self, seq: u64) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&slot_of(seq), |entry| entry.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(position: u64) -> Entry {
        Entry {
            position,
            accepted_at: Timestamp::default(),
            expires_at: NEVER,
            tag: 0,
            size: 0,
            deliveries: 0,
            in_epoch: 0,
            handed_back: 0,
            place: Place::Fresh,
            transient: false,
            slot: 0,
        }
    }

    #[test]
    fn it_is_a_map() {
        let mut entries = Entries::default();
        let seqs = [0, 1, 31, 32, 33, 64, 1_000, u64::MAX];
        for &seq in seqs.iter().rev() {
            entries.insert(seq, entry(seq), 0);
            entries.insert(seq, entry(0), 0);
        }
        assert_eq!(entries.from(0).count(), seqs.len());
        assert!(entries.from(0).map(|(seq, e)| (seq, e.position)).eq(seqs.map(|seq| (seq, seq))));
        assert!(entries.from(32).map(|(seq, _)| seq).eq([32, 33, 64, 1_000, u64::MAX]));
        assert!(entries.from(34).map(|(seq, _)| seq).eq([64, 1_000, u64::MAX]));
        assert!(entries.of_chunk(1).map(|(seq, _)| seq).eq([32, 33]));
        entries.get_mut(33).unwrap().deliveries = 7;
        assert_eq!(entries.get(33).unwrap().deliveries, 7);
        assert!(entries.get(34).is_none() && entries.get(2_000).is_none() && entries.remove(34).is_none());
        for &seq in &seqs {
            assert_eq!(entries.remove(seq).unwrap().0.position, seq);
        }
        assert!(entries.chunks.is_empty());
    }

    #[test]
    fn the_last_of_a_chunk_hands_its_timer_back() {
        let mut entries = Entries::default();
        entries.insert(0, entry(0), 0);
        entries.insert(1, entry(1), 0);
        *entries.armed_mut(0).unwrap() = Timestamp::from_millis(5);
        assert_eq!(entries.remove(0).unwrap().1, None);
        assert_eq!(entries.remove(1).unwrap().1, Some(Timestamp::from_millis(5)));
        assert!(entries.armed_mut(0).is_none());
    }

    #[test]
    fn one_that_stays_behind_keeps_little_memory() {
        let mut entries = Entries::default();
        for seq in 0..10_000 {
            entries.insert(seq, entry(seq), 0);
        }
        for seq in 1..10_000 {
            entries.remove(seq);
        }
        assert_eq!(entries.chunks.len(), 1);
        assert!(entries.chunks[&0].entries.capacity() <= 4);
    }
}
