//! What became of events of a queue that are gone: for repeated acknowledgements, and for what a replay says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ensync_core::{Block, Timestamp};

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The delivery of this block acknowledged it.
    Acked(Block),
    /// Nobody did in time.
    Expired,
    /// An administrator gave it up: a dead letter, or one that waited.
    Dropped,
}

/// Neighbours with the same fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) fate: Fate,
    /// When the last of them met it.
    pub(super) at: Timestamp,
}

/// The fates of a queue's events. Acknowledgements are remembered for as long as a client may repeat one. Events that were
/// acknowledged by their first deliveries have one block, and cost one run together, however many they are.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// What records of the log say.
    acked: Runs,
    dropped: Runs,
    /// What they do not, apart from those, so that the former are the same after a restart.
    acked_in_memory: Runs,
    expired: Runs,
}

impl Settled {
    pub(super) fn find(&self, seq: u64) -> Option<Fate> {
        [&self.acked, &self.dropped, &self.acked_in_memory, &self.expired].into_iter().find_map(|runs| runs.find(seq))
    }

    /// `logged` says whether a record of the log says so. Acknowledgements of more than `window` before are forgotten. What is held is
    /// a function of the inserts.
    pub(super) fn insert(&mut self, seq: u64, fate: Fate, logged: bool, at: Timestamp, window: Duration) {
        let runs = match (fate, logged) {
            (Fate::Acked(_), true) => &mut self.acked,
            (Fate::Acked(_), false) => &mut self.acked_in_memory,
            (Fate::Dropped, true) => &mut self.dropped,
            (Fate::Dropped | Fate::Expired, _) => &mut self.expired,
        };
        if matches!(fate, Fate::Acked(_)) {
            runs.forget_before(at, window);
        }
        runs.insert(Run { first: seq, last: seq, fate, at });
    }

    /// What [`logged`](Self::logged) gave.
    pub(super) fn restore(&mut self, run: Run) {
        match run.fate {
            Fate::Acked(_) => self.acked.insert(run),
            Fate::Expired | Fate::Dropped => self.dropped.insert(run),
        }
    }

    /// What the log knows of, by sequence number; acknowledgements first.
    pub(super) fn logged(&self) -> impl Iterator<Item = Run> {
        self.acked.by_first.values().chain(self.dropped.by_first.values()).copied()
    }
}

#[derive(Debug, Default)]
struct Runs {
    by_first: BTreeMap<u64, Run>,
    by_age: BTreeSet<(Timestamp, u64)>,
}

impl Runs {
    /// The most runs; the oldest are forgotten then. About 2 MB.
    const CAPACITY: usize = 1 << 14;

    fn find(&self, seq: u64) -> Option<Fate> {
        let (_, run) = self.by_first.range(..=seq).next_back()?;
        (seq <= run.last).then_some(run.fate)
    }

    /// Enters what is not there yet, as one with its neighbours if it is like them. Takes O(log n).
    fn insert(&mut self, mut run: Run) {
        if self.find(run.first).is_some() {
            return;
        }
        let before = self.by_first.range(..run.first).next_back().map(|(_, run)| *run);
        if let Some(before) = before.filter(|before| before.last + 1 == run.first && before.fate == run.fate) {
            self.remove(before);
            (run.first, run.at) = (before.first, before.at.max(run.at));
        }
        let after = run.last.checked_add(1).and_then(|next| self.by_first.get(&next)).copied();
        if let Some(after) = after.filter(|after| after.fate == run.fate) {
            self.remove(after);
            (run.last, run.at) = (after.last, after.at.max(run.at));
        }
        self.by_first.insert(run.first, run);
        self.by_age.insert((run.at, run.first));
        if self.by_first.len() > Self::CAPACITY
            && let Some((_, first)) = self.by_age.pop_first()
        {
            self.by_first.remove(&first);
        }
    }

    fn forget_before(&mut self, now: Timestamp, window: Duration) {
        while let Some(&(at, first)) = self.by_age.first()
            && now.since(at) > window
        {
            self.by_age.pop_first();
            self.by_first.remove(&first);
        }
    }

    fn remove(&mut self, run: Run) {
        self.by_first.remove(&run.first);
        self.by_age.remove(&(run.at, run.first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(100);

    fn acked(block: u64) -> Fate {
        Fate::Acked(Block::new(block).unwrap())
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_000 + ms)
    }

    fn runs(settled: &Settled) -> Vec<(u64, u64)> {
        settled.logged().map(|run| (run.first, run.last)).collect()
    }

    #[test]
    fn neighbours_with_one_fate_are_one_run_in_whatever_order_they_came() {
        let mut settled = Settled::default();
        for seq in [5, 3, 4, 9, 1, 2, 0, 7] {
            settled.insert(seq, acked(1), true, at(0), WINDOW);
        }
        settled.insert(8, acked(2), true, at(0), WINDOW);
        settled.insert(8, acked(3), true, at(0), WINDOW);
        assert_eq!(runs(&settled), [(0, 5), (7, 7), (8, 8), (9, 9)]);
        assert_eq!([5, 6, 8, 10].map(|seq| settled.find(seq)), [Some(acked(1)), None, Some(acked(2)), None]);
        settled.insert(u64::MAX, Fate::Dropped, true, at(0), WINDOW);
        assert_eq!(settled.find(u64::MAX), Some(Fate::Dropped));
    }

    #[test]
    fn a_million_acknowledgements_within_the_window_are_remembered() {
        let mut settled = Settled::default();
        for seq in 0..1_000_000 {
            settled.insert(seq, acked(1), true, at(seq / 20_000), WINDOW);
        }
        assert_eq!((settled.find(0), runs(&settled)), (Some(acked(1)), vec![(0, 999_999)]));
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten_and_nothing_younger() {
        let mut settled = Settled::default();
        for seq in 0..10 {
            settled.insert(seq * 2, acked(1), true, at(seq * 20), WINDOW);
        }
        assert_eq!(settled.logged().map(|run| run.first).collect::<Vec<_>>(), [8, 10, 12, 14, 16, 18]);
        settled.insert(1, Fate::Expired, false, at(1_000), WINDOW);
        assert_eq!(settled.find(8), Some(acked(1)), "others do not push it out");
    }

    #[test]
    fn memory_is_bounded_and_the_latest_stay() {
        let mut settled = Settled::default();
        let count = Runs::CAPACITY as u64 + 100;
        for seq in 0..count {
            settled.insert(seq, acked(seq + 1), true, at(seq / 1_000), WINDOW);
        }
        assert_eq!(settled.logged().count(), Runs::CAPACITY);
        assert_eq!((settled.find(99), settled.find(count - 1)), (None, Some(acked(count))));
    }

    #[test]
    fn what_is_restored_goes_on_as_what_was_lived() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut lived = Settled::default();
        let mut restored = Settled::default();
        for step in 0..3_000_u64 {
            let (seq, fate) =
                (random.u64(0..4_000), if random.u8(..10) == 0 { Fate::Dropped } else { acked(random.u64(1..3)) });
            for settled in [&mut lived, &mut restored] {
                if settled.find(seq).is_none() {
                    settled.insert(seq, fate, true, at(step / 10), WINDOW);
                }
            }
            if random.u8(..) == 0 {
                let mut again = Settled::default();
                restored.logged().for_each(|run| again.restore(run));
                restored = again;
            }
            assert!(lived.logged().eq(restored.logged()), "{step}");
        }
    }
}
