//! Which parts of a log are dropped for the space they take.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ensync_core::{Error, Timestamp};
use tokio::time::Instant;

use crate::log::{LogPart, LogSpace};
use crate::model::Position;
use crate::seldom::Seldom;

/// What reading a record back costs beside its bytes, in bytes.
pub(super) const RECORD: u64 = 512;

/// A part of the log that is about to be dropped.
#[derive(Debug)]
pub(super) struct Reclaim {
    pub(super) part: LogPart,
    /// What has to be stored once more before, the last first.
    pub(super) left: Vec<(Position, u32)>,
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

/// How much of the disk is to stay free: for the next segments, and for a checkpoint beside those that are there; a twentieth of it at
/// least, and a quarter at most.
pub(super) fn reserve(space: &LogSpace, checkpoint: u64) -> u64 {
    let needed = 2 * space.segment_bytes + 2 * checkpoint;
    needed.max((space.total / 20).min(1 << 30)).min(space.total / 4)
}

/// Which parts go, in order, and whether that is as much as is wanted. Old ones go if less than half of one waits still. Where bytes are
/// wanted, those in which least waits go, the oldest first; a part of which more than half waits stays, or, on a disk without space, of
/// which more than three quarters do.
pub(super) fn plan(
    parts: &[LogPart],
    waiting: Vec<(Position, u32)>,
    (wanted, short): (u64, bool),
    before: Timestamp,
) -> (VecDeque<Reclaim>, bool) {
    let mut waiting = waiting.into_iter().peekable();
    let mut found = Vec::with_capacity(parts.len());
    for part in parts {
        let (mut live, mut left) = (0, Vec::new());
        while let Some((at, size)) = waiting.next_if(|(at, _)| *at < part.to) {
            if at >= part.from {
                live += u64::from(size) + RECORD;
                left.push((at, size));
            }
        }
        left.reverse();
        found.push((live, Reclaim { part: *part, left }));
    }
    found.sort_by_key(|(live, reclaim)| (live.saturating_mul(4) / reclaim.part.bytes.max(1), reclaim.part.from));
    let (mut plan, mut freed) = (VecDeque::new(), 0);
    for (live, reclaim) in found {
        let part = reclaim.part;
        let most = if short { part.bytes / 4 * 3 } else { part.bytes / 2 };
        if live <= most && (freed < wanted || part.written < before && live <= part.bytes / 2) {
            freed += part.bytes.saturating_sub(live);
            plan.push_back(reclaim);
        }
    }
    (plan, freed >= wanted)
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
        let waiting = waiting.iter().map(|(part, size)| (Position::new((part << 32) + 64), *size)).collect();
        let (plan, enough) = plan(parts, waiting, (wanted, short), Timestamp::from_millis(before));
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
