//! What became of events of a queue that are gone: for repeated acknowledgements, and for what a replay says.

use std::collections::BTreeMap;

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

/// Fates that are remembered apart from others: what a record of the log says, and what none does, so that the former are the same after
/// a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Acked,
    Dropped,
    AckedInMemory,
    Expired,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Acked, Self::Dropped, Self::AckedInMemory, Self::Expired];

    /// `logged`: whether a record of the log says so.
    pub(super) fn of(fate: Fate, logged: bool) -> Self {
        match (fate, logged) {
            (Fate::Acked(_), true) => Self::Acked,
            (Fate::Acked(_), false) => Self::AckedInMemory,
            (Fate::Dropped, true) => Self::Dropped,
            (Fate::Dropped | Fate::Expired, _) => Self::Expired,
        }
    }

    /// Whether a record of the log says so.
    pub(super) fn is_logged(self) -> bool {
        matches!(self, Self::Acked | Self::Dropped)
    }
}

/// The fates of a queue's events. Events that were acknowledged by their first deliveries have one block, and cost one run together, however
/// many they are. How long runs stay, and how many, is for [`Fates`](super::fates::Fates).
#[derive(Debug, Default)]
pub(super) struct Settled([BTreeMap<u64, Run>; 4]);

/// What an insert did: the run that is there now, and those that went into it, or were over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inserted {
    pub(super) run: Run,
    pub(super) gone: [Option<Run>; 2],
}

impl Settled {
    pub(super) fn find(&self, seq: u64) -> Option<Fate> {
        self.0.iter().find_map(|runs| find(runs, seq))
    }

    /// Enters what is not there yet, as one with its neighbours if it is like them and they [last](Self::logged). Takes O(log n).
    pub(super) fn insert(&mut self, kind: Kind, mut run: Run, lasts: impl Fn(Timestamp) -> bool) -> Option<Inserted> {
        let runs = self.0.get_mut(kind as usize)?;
        if find(runs, run.first).is_some() {
            return None;
        }
        let before = runs.range(..run.first).next_back().map(|(_, run)| *run);
        let before = before.filter(|before| before.last + 1 == run.first && before.fate == run.fate);
        if let Some(before) = before {
            runs.remove(&before.first);
            if lasts(before.at) {
                (run.first, run.at) = (before.first, before.at.max(run.at));
            }
        }
        let after = run.last.checked_add(1).and_then(|next| runs.get(&next)).copied();
        let after = after.filter(|after| after.fate == run.fate);
        if let Some(after) = after {
            runs.remove(&after.first);
            if lasts(after.at) {
                (run.last, run.at) = (after.last, after.at.max(run.at));
            }
        }
        runs.insert(run.first, run);
        Some(Inserted { run, gone: [before, after] })
    }

    /// Forgets the run that begins with an event.
    pub(super) fn forget(&mut self, kind: Kind, first: u64) {
        if let Some(runs) = self.0.get_mut(kind as usize) {
            runs.remove(&first);
        }
    }

    /// Takes out some run.
    pub(super) fn pop(&mut self) -> Option<(Kind, Run)> {
        let runs = Kind::ALL.into_iter().zip(&mut self.0);
        runs.into_iter().find_map(|(kind, runs)| Some((kind, runs.pop_first()?.1)))
    }

    /// What the log knows of, by sequence number; acknowledgements first. Of those only what `lasts` still, by its time: what is over is not
    /// there, whenever it is taken out.
    pub(super) fn logged(&self, lasts: impl Fn(Timestamp) -> bool) -> impl Iterator<Item = Run> {
        let [acked, dropped, ..] = &self.0;
        acked.values().filter(move |run| lasts(run.at)).chain(dropped.values()).copied()
    }

    /// Each run, and what it is.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn all(&self) -> impl Iterator<Item = (Kind, Run)> {
        Kind::ALL.into_iter().zip(&self.0).flat_map(|(kind, runs)| runs.values().map(move |run| (kind, *run)))
    }
}

fn find(runs: &BTreeMap<u64, Run>, seq: u64) -> Option<Fate> {
    let (_, run) = runs.range(..=seq).next_back()?;
    (seq <= run.last).then_some(run.fate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(block: u64) -> Fate {
        Fate::Acked(Block::new(block).unwrap())
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_000 + ms)
    }

    fn insert(settled: &mut Settled, seq: u64, fate: Fate, at: Timestamp) -> Option<Inserted> {
        settled.insert(Kind::of(fate, true), Run { first: seq, last: seq, fate, at }, |_| true)
    }

    fn runs(settled: &Settled) -> Vec<(u64, u64)> {
        settled.logged(|_| true).map(|run| (run.first, run.last)).collect()
    }

    #[test]
    fn neighbours_with_one_fate_are_one_run_in_whatever_order_they_came() {
        let mut settled = Settled::default();
        for seq in [5, 3, 4, 9, 1, 2, 0, 7] {
            insert(&mut settled, seq, acked(1), at(0));
        }
        let inserted = insert(&mut settled, 8, acked(2), at(0)).unwrap();
        assert_eq!(inserted.gone, [None, None]);
        assert!(insert(&mut settled, 8, acked(3), at(0)).is_none());
        assert_eq!(runs(&settled), [(0, 5), (7, 7), (8, 8), (9, 9)]);
        assert_eq!([5, 6, 8, 10].map(|seq| settled.find(seq)), [Some(acked(1)), None, Some(acked(2)), None]);
        let inserted = insert(&mut settled, 6, acked(1), at(7)).unwrap();
        assert_eq!((inserted.run.first, inserted.run.last, inserted.run.at), (0, 7, at(7)));
        assert_eq!(inserted.gone.map(|gone| gone.map(|gone| gone.first)), [Some(0), Some(7)]);
        insert(&mut settled, u64::MAX, Fate::Dropped, at(0));
        assert_eq!(settled.find(u64::MAX), Some(Fate::Dropped));
    }

    #[test]
    fn a_million_acknowledgements_are_one_run() {
        let mut settled = Settled::default();
        for seq in 0..1_000_000 {
            insert(&mut settled, seq, acked(1), at(seq / 20_000));
        }
        assert_eq!((settled.find(0), runs(&settled)), (Some(acked(1)), vec![(0, 999_999)]));
    }

    #[test]
    fn what_is_over_is_no_neighbour() {
        let mut settled = Settled::default();
        insert(&mut settled, 1, acked(1), at(0));
        insert(&mut settled, 3, acked(1), at(50));
        let new = Run { first: 2, last: 2, fate: acked(1), at: at(60) };
        let inserted = settled.insert(Kind::Acked, new, |time| time > at(0)).unwrap();
        assert_eq!((inserted.run.first, inserted.run.last), (2, 3));
        assert_eq!((settled.find(1), runs(&settled)), (None, vec![(2, 3)]));
        assert_eq!(settled.logged(|time| time > at(60)).count(), 0);
        let (mut count, mut left) = (0, settled);
        while left.pop().is_some() {
            count += 1;
        }
        assert_eq!(count, 1);
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
                    insert(settled, seq, fate, at(step / 10));
                }
            }
            if random.u8(..) == 0 {
                let mut again = Settled::default();
                for run in restored.logged(|_| true) {
                    again.insert(Kind::of(run.fate, true), run, |_| true);
                }
                restored = again;
            }
            assert!(lived.logged(|_| true).eq(restored.logged(|_| true)), "{step}");
        }
    }
}
