//! Which parts of a log are dropped for the space they take.

use std::collections::VecDeque;

use ensync_core::Timestamp;

use crate::log::{LogPart, LogSpace};
use crate::model::Position;

/// What reading a record back costs beside its bytes, in bytes.
pub(super) const RECORD: u64 = 512;

/// A part of the log that is about to be dropped.
#[derive(Debug)]
pub(super) struct Reclaim {
    pub(super) part: LogPart,
    /// What has to be stored once more before.
    left: Vec<(Position, u32)>,
    /// Whether that is in order, the last first.
    sorted: bool,
}

impl Reclaim {
    /// Whether nothing in it is needed.
    pub(super) fn is_unneeded(&self) -> bool {
        self.left.is_empty()
    }

    /// What is to be stored once more next, in the order of the log: so many events at most, and no more after so many bytes.
    pub(super) fn next_copies(&mut self, (most, max_bytes): (usize, u64)) -> Vec<Position> {
        if !std::mem::replace(&mut self.sorted, true) {
            self.left.sort_unstable_by(|a, b| b.cmp(a));
        }
        let (mut copies, mut bytes) = (Vec::new(), 0);
        while copies.len() < most
            && bytes < max_bytes
            && let Some((at, size)) = self.left.pop()
        {
            bytes += u64::from(size);
            copies.push(at);
        }
        copies
    }
}

/// How much of the disk is to stay free: for the next segments, and for a checkpoint beside those that are there; a twentieth of it at
/// least, and a quarter at most.
pub(super) fn reserve(space: &LogSpace, checkpoint: u64) -> u64 {
    let needed = 2 * space.segment_bytes + 2 * checkpoint;
    needed.max((space.total / 20).min(1 << 30)).min(space.total / 4)
}

/// What waits in which part of the log.
#[derive(Debug)]
pub(super) struct Survey {
    /// Each with the bytes that wait in it; in the order of the log.
    parts: Vec<(u64, Reclaim)>,
}

impl Survey {
    pub(super) fn new(parts: &[LogPart]) -> Self {
        let reclaim = |part: &LogPart| (0, Reclaim { part: *part, left: Vec::new(), sorted: false });
        Self { parts: parts.iter().map(reclaim).collect() }
    }

    /// Takes note of an event that waits.
    pub(super) fn see(&mut self, at: Position, size: u32) {
        let after = self.parts.partition_point(|(_, reclaim)| reclaim.part.from <= at);
        let Some((live, reclaim)) = after.checked_sub(1).and_then(|index| self.parts.get_mut(index)) else { return };
        if at < reclaim.part.to {
            *live += u64::from(size) + RECORD;
            if *live <= most(&reclaim.part, true) {
                reclaim.left.push((at, size));
            } else {
                // It will not be chosen.
                reclaim.left = Vec::new();
            }
        }
    }

    /// Which parts go, in order, and whether that is as much as is wanted. Old ones go if less than half of one waits still. Where bytes
    /// are wanted, those in which least waits go, the oldest first; a part of which more than half waits stays, or, on a disk without
    /// space, of which more than three quarters do.
    pub(super) fn plan(self, (wanted, short): (u64, bool), before: Timestamp) -> (VecDeque<Reclaim>, bool) {
        let mut found = self.parts;
        found.sort_by_key(|(live, reclaim)| (live.saturating_mul(4) / reclaim.part.bytes.max(1), reclaim.part.from));
        let (mut plan, mut freed) = (VecDeque::new(), 0);
        for (live, reclaim) in found {
            let part = reclaim.part;
            if live <= most(&part, short) && (freed < wanted || part.written < before && live <= most(&part, false)) {
                freed += part.bytes.saturating_sub(live);
                plan.push_back(reclaim);
            }
        }
        (plan, freed >= wanted)
    }
}

/// How many bytes may wait in a part that is to go.
fn most(part: &LogPart, short: bool) -> u64 {
    if short { part.bytes / 4 * 3 } else { part.bytes / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u64, bytes: u64, written: u64) -> LogPart {
        let (from, to) = (Position::new(number << 32), Position::new((number + 1) << 32));
        LogPart { from, to, bytes, written: Timestamp::from_millis(written) }
    }

    /// The numbers of the parts that go, and what has to be stored again for it.
    fn planned(
        parts: &[LogPart],
        waiting: &[(u64, u32)],
        wanted: u64,
        short: bool,
        before: u64,
    ) -> (Vec<u64>, usize, bool) {
        let mut survey = Survey::new(parts);
        for (part, size) in waiting {
            survey.see(Position::new((part << 32) + 64), *size);
        }
        // What is in no part does not count.
        survey.see(Position::START, 1 << 30);
        survey.see(Position::new(1 << 62), 1 << 30);
        let (plan, enough) = survey.plan((wanted, short), Timestamp::from_millis(before));
        let copies = plan.iter().map(|reclaim| reclaim.left.len()).sum();
        (plan.iter().map(|reclaim| reclaim.part.from.as_u64() >> 32).collect(), copies, enough)
    }

    #[test]
    fn what_nobody_needs_goes_first_then_that_of_which_least_waits() {
        let parts: Vec<_> = (1..=4).map(|number| part(number, 10_000, 5)).collect();
        let waiting = [(1, 9_000), (2, 3_000), (4, 1_000)];
        assert_eq!(planned(&parts, &waiting, 0, false, 0), (vec![], 0, true));
        // Settled events between others that wait.
        assert_eq!(planned(&parts, &waiting, 1, false, 0), (vec![3], 0, true));
        assert_eq!(planned(&parts, &waiting, 15_000, false, 0), (vec![3, 4], 1, true));
        assert_eq!(planned(&parts, &waiting, 50_000, false, 0), (vec![3, 4, 2], 2, false), "the first one waits whole");
    }

    #[test]
    fn what_is_stored_once_more_comes_in_the_order_of_the_log() {
        let at = |n: u64| Position::new((1 << 32) + n);
        let mut survey = Survey::new(&[part(1, 100_000, 5)]);
        for n in [3, 1, 2, 5, 4] {
            survey.see(at(n), 100);
        }
        let (mut plan, _) = survey.plan((1, false), Timestamp::default());
        let mut reclaim = plan.pop_front().unwrap();
        assert_eq!(reclaim.next_copies((2, 1 << 20)), [at(1), at(2)]);
        assert_eq!(reclaim.next_copies((9, 150)), [at(3), at(4)]);
        assert!(!reclaim.is_unneeded());
        assert_eq!(reclaim.next_copies((9, 1 << 20)), [at(5)]);
        assert!(reclaim.is_unneeded() && reclaim.next_copies((9, 9)).is_empty());
    }

    #[test]
    fn without_space_more_is_worth_a_copy() {
        let parts = [part(1, 10_000, 5)];
        assert_eq!(planned(&parts, &[(1, 6_000)], 1, false, 0).0, Vec::<u64>::new());
        assert_eq!(planned(&parts, &[(1, 6_000)], 1, true, 0).0, [1]);
        assert_eq!(planned(&parts, &[(1, 7_600)], 1, true, 0).0, Vec::<u64>::new());
    }

    #[test]
    fn what_is_old_goes_though_nothing_is_wanted() {
        let parts = [part(1, 10_000, 1), part(2, 10_000, 9), part(3, 10_000, 2)];
        assert_eq!(planned(&parts, &[(3, 100)], 0, false, 5), (vec![1, 3], 1, true));
        assert_eq!(planned(&parts, &[(3, 9_000)], 0, false, 5), (vec![1], 0, true));
    }

    #[test]
    fn what_stays_free_is_bounded_by_the_disk() {
        let space = |total, segment_bytes| LogSpace { parts: Vec::new(), used: 0, free: 0, total, segment_bytes };
        assert_eq!(reserve(&space(8 << 20, 512 << 10), 0), 1 << 20);
        assert_eq!(reserve(&space(8 << 20, 64 << 20), 0), 2 << 20);
        assert_eq!(reserve(&space(100 << 30, 64 << 20), 0), 1 << 30);
    }
}
