//! What the model makes of a log that loses its beginning, or its end.

use super::bench::app;
use super::model::{Seen, World};
use crate::model::{Position, partition_of};
use crate::state::Applied;

impl World {
    /// The start of the log goes, and what waits in it is stored once more, as the broker's retention does it.
    pub(super) fn retain(&mut self, back: usize) {
        let end = self.bench.base.1;
        let end = end - back % (end + 1);
        for (position, _) in self.bench.waiting_before(Position::new(end as u64 + 1)) {
            let copy = self.bench.log[position.as_u64() as usize - 1].clone();
            self.bench.log.push(copy.clone());
            let moved = Position::new(self.bench.log.len() as u64);
            assert!(matches!(self.bench.state.apply(Some(moved), &copy), Applied::Stored(_)));
        }
        self.bench.dropped = self.bench.dropped.max(end);
        self.bench.state.dropped(Position::START, Position::new(end as u64 + 1));
        self.set_floor(self.bench.log.len());
    }

    pub(super) fn set_floor(&mut self, at: usize) {
        self.floor = self.floor.max(at);
        self.snapshots = self.snapshots.split_off(&self.floor);
        self.remember();
    }

    /// What a checkpoint would hold now.
    pub(super) fn remember(&mut self) {
        self.snapshots.insert(self.bench.log.len(), self.bench.state.snapshot());
    }

    /// The logs end earlier, each by itself, and the engine starts from them: what came after was never accepted.
    pub(super) fn cut(&mut self, back: usize) {
        let at = self.bench.log.len() - back % (self.bench.log.len() - self.floor + 1);
        let least = self.bench.told(at).max(self.floor);
        let ends: Vec<_> =
            (0..self.bench.state.partitions.len()).map(|partition| end(back, partition, least, at)).collect();
        self.bench.cut(at, &ends);
        self.snapshots.split_off(&(ends.iter().min().unwrap() + 1));
        self.past.split_off(&(at + 1));
        self.apps = self.past.last_key_value().unwrap().1.clone();
        let end_of = |seen: &Seen| ends[partition_of(&app(seen.queue.0), (ends.len() as u32).try_into().unwrap())];
        self.seen.retain(|_, seen| seen.transient || seen.accepted[0].0 <= end_of(seen));
        // An app that was deleted is back, with events that nobody saw while its successor's were delivered.
        self.first.clear();
        for seen in self.seen.values().filter(|seen| seen.delivered && !seen.transient) {
            let last = self.first.entry(seen.queue).or_default();
            *last = seen.order.max(*last);
        }
        for seen in self.seen.values_mut().filter(|seen| !seen.transient) {
            let end = end_of(seen);
            seen.accepted.retain(|(length, _)| *length <= end);
            if seen.over.is_some_and(|length| length > end) {
                (seen.over, seen.acked) = (None, None);
            }
            // Its app was deleted, though its partition's log ends before it was told: the start removes it.
            if !self.apps.has(seen.queue.0) {
                seen.over.get_or_insert(at);
            }
        }
        self.bench.restart();
        self.after_restart();
    }

    pub(super) fn after_restart(&mut self) {
        for peer in std::mem::take(&mut self.peers) {
            self.forget(&peer);
        }
        for seen in self.seen.values_mut().filter(|seen| seen.transient) {
            (seen.over, seen.acked) = (Some(0), None);
        }
        self.tally.clear();
    }
}

/// Where the log of a partition ends that has so many records at least and at most: often at its end, for most crashes cut only one.
fn end(seed: usize, partition: usize, least: usize, most: usize) -> usize {
    let mixed = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7 * partition as u32 + 11) >> 16;
    if mixed.is_multiple_of(3) { most } else { most - (mixed / 3) as usize % (most - least + 1) }
}
