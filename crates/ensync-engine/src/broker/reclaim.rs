//! Which parts of a log are dropped for the space they take.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ensync_core::{Error, Timestamp};
use tokio::time::Instant;

use crate::log::{LogPart, LogSpace};
use crate::model::Position;
use crate::seldom::Seldom;

/// What reading a record back costs beside its bytes, in bytes.
pub(super) const RECORD: u64 = 512;
/// What a record of an event takes of the log beside its payload and metadata, in bytes: most of them no more. Where there is no space,
/// that is what counts.
const FRAMED: u64 = 160;

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

/// Parts that could not be dropped. They are left alone for a while: what is wrong with one is no reason to keep the others.
#[derive(Debug)]
pub(super) struct Stuck {
    /// By where they begin: until when.
    until: BTreeMap<Position, Instant>,
    pause: Duration,
    told: Seldom,
}

impl Stuck {
    pub(super) fn new(pause: Duration) -> Self {
        Self { until: BTreeMap::new(), pause, told: Seldom::new() }
    }

    pub(super) fn add(&mut self, part: &LogPart, error: &Error) {
        if let Some(times) = self.told.due() {
            let error = ensync_core::report(error);
            tracing::warn!(error, from = %part.from, times, "cannot drop a part of the log; others are, and it is tried again later");
        }
        self.until.insert(part.from, Instant::now() + self.pause);
    }

    pub(super) fn leave_out(&mut self, parts: &mut Vec<LogPart>) {
        let now = Instant::now();
        self.until.retain(|_, until| *until > now);
        parts.retain(|part| !self.until.contains_key(&part.from));
    }
}

/// What the partitions want of the disk they are on, so that none of them drops for all.
#[derive(Debug, Default)]
pub(super) struct DiskShares(Mutex<BTreeMap<u32, DiskShare>>);

/// What one of them wants of it, and what it has to give.
#[derive(Clone, Copy, Debug)]
struct DiskShare {
    /// How large the disk is. Those of which it is the same are taken to be on one.
    total: u64,
    /// For its next segments.
    needs: u64,
    /// What it might drop, in bytes.
    parts: u64,
}

impl DiskShares {
    /// Takes note of how a partition stands.
    pub(super) fn note(&self, partition: u32, space: &LogSpace) {
        let parts = space.parts.iter().map(|part| part.bytes).sum();
        let needs = 2 * space.segment_bytes;
        self.lock().insert(partition, DiskShare { total: space.total, needs, parts });
    }

    /// How many bytes a partition has to make free: what its log keeps too little of, and of what the disk lacks beside that as much as it
    /// has of what can be dropped.
    pub(super) fn short(&self, partition: u32, space: &LogSpace) -> u64 {
        self.note(partition, space);
        let shares = self.lock();
        let there = || shares.values().filter(|share| share.total == space.total);
        let lacking = reserve(space.total, there().map(|share| share.needs).sum()).saturating_sub(space.free);
        let all: u64 = there().map(|share| share.parts).sum();
        let own = shares.get(&partition).map_or(0, |share| share.parts);
        if all == 0 {
            return lacking.saturating_add(space.lacking);
        }
        let part = u64::try_from((u128::from(lacking) * u128::from(own)).div_ceil(u128::from(all))).unwrap_or(lacking);
        part.saturating_add(space.lacking)
    }

    /// How many are on a disk that is so large.
    pub(super) fn sharers(&self, total: u64) -> u64 {
        self.lock().values().filter(|share| share.total == total).count() as u64
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, DiskShare>> {
        // No code that holds the lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of a disk is to stay free, where so much is needed: a twentieth of it at least, up to 1 GiB, and a quarter at most.
fn reserve(total: u64, needed: u64) -> u64 {
    needed.max((total / 20).min(1 << 30)).min(total / 4)
}

/// What waits in which part of the log.
#[derive(Debug)]
pub(super) struct Survey {
    /// Each with the bytes that wait in it; in the order of the log.
    parts: Vec<(u64, Reclaim)>,
    /// What an event counts beside its bytes.
    record: u64,
}

impl Survey {
    /// `short`: there is no space.
    pub(super) fn new(parts: &[LogPart], short: bool) -> Self {
        let reclaim = |part: &LogPart| (0, Reclaim { part: *part, left: Vec::new(), sorted: false });
        Self { parts: parts.iter().map(reclaim).collect(), record: if short { FRAMED } else { RECORD } }
    }

    /// Takes note of an event that waits.
    pub(super) fn see(&mut self, at: Position, size: u32) {
        let after = self.parts.partition_point(|(_, reclaim)| reclaim.part.from <= at);
        let Some((live, reclaim)) = after.checked_sub(1).and_then(|index| self.parts.get_mut(index)) else { return };
        if at < reclaim.part.to {
            *live += u64::from(size) + self.record;
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
        let mut survey = Survey::new(parts, false);
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
        let mut survey = Survey::new(&[part(1, 100_000, 5)], false);
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
        assert_eq!(reserve(8 << 20, 1 << 20), 1 << 20);
        assert_eq!(reserve(8 << 20, 128 << 20), 2 << 20);
        assert_eq!(reserve(100 << 30, 128 << 20), 1 << 30);
    }

    /// Each of them sees all that the disk lacks.
    #[test]
    fn partitions_on_one_disk_make_free_what_it_lacks_once() {
        const MIB: u64 = 1 << 20;
        let space = |parts: u64, free| {
            let parts = (1..=parts).map(|number| part(number, MIB, 5)).collect();
            LogSpace { parts, used: 0, free, lacking: 0, total: 1_000 * MIB, segment_bytes: MIB }
        };
        let (disk, alone) = (DiskShares::default(), DiskShares::default());
        assert_eq!(alone.short(0, &space(9, 10 * MIB)), 40 * MIB);
        let parts = [10, 30, 0, 60];
        for (index, parts) in (0..).zip(parts) {
            disk.note(index, &space(parts, 10 * MIB));
        }
        let short: Vec<_> =
            (0..).zip(parts).map(|(index, parts)| disk.short(index, &space(parts, 10 * MIB)) / MIB).collect();
        assert_eq!(short, [4, 12, 0, 24]);
        // What has been made free since is not looked for again.
        assert_eq!(disk.short(3, &space(60, 50 * MIB)), 0);
        // Together they need more than one of them, and one on a disk of its own has nothing to do with it.
        for index in 0..10 {
            disk.note(index, &LogSpace { segment_bytes: 18 * MIB, ..space(10, 50 * MIB) });
        }
        let large = LogSpace { segment_bytes: 18 * MIB, ..space(10, 50 * MIB) };
        assert_eq!(disk.short(0, &large), 20 * MIB);
        // What one of them keeps too little of is its own.
        assert_eq!(disk.short(0, &LogSpace { lacking: 7, ..large }), 20 * MIB + 7);
        assert_eq!(disk.short(77, &LogSpace { total: 500 * MIB, ..space(10, 5 * MIB) }), 20 * MIB);
    }

    #[test]
    fn without_space_a_small_event_counts_what_it_takes() {
        let planned = |short| {
            let mut survey = Survey::new(&[part(1, 20_000, 5)], short);
            (0..50).for_each(|n| survey.see(Position::new((1 << 32) + 64 + n), 100));
            survey.plan((1, short), Timestamp::default()).0.len()
        };
        assert_eq!((planned(false), planned(true)), (0, 1));
    }
}
