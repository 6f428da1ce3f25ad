//! How long it is remembered what became of events, and how much of it.
//!
//! Acknowledgements are remembered for as long as a client may repeat one, in whatever queue and whatever happens there since; all else until
//! there is too much. An app pushes out its own: the oldest of what it has itself where that is as much as an app may have, and where there is
//! as much as there may be, the oldest of the app that has the most.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ensync_core::{AppId, Timestamp};

use super::Partition;
use super::settled::{Fate, Kind, Run};
use crate::model::{EventRef, Limits, Share};

/// How many runs are remembered of one recipient, of each [`Kind`]. About 8 MB: 546 a second for 2 minutes.
const PER_APP: usize = 1 << 16;
/// And of all of them. A partition has its part, but no less than one recipient may have.
const TOTAL: usize = 1 << 18;

/// The runs of all queues, by age.
#[derive(Debug)]
pub(crate) struct Fates {
    window: Duration,
    per_app: usize,
    total: usize,
    kinds: [Ages; 4],
}

/// From when on acknowledgements are remembered: a function of the log, and of the time that was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    pub(super) logged_at: Timestamp,
    pub(super) now: Timestamp,
    pub(super) window: Duration,
}

impl Horizon {
    /// Whether what the log says happened then is still remembered. Not to the end of the window by the clock, but for another one: what was
    /// decided before may be applied still.
    pub(super) fn keeps(self, at: Timestamp) -> bool {
        self.logged_at.since(at) <= self.window && self.now.since(at) <= self.window.saturating_mul(2)
    }

    fn keeps_of(self, kind: Kind, at: Timestamp) -> bool {
        match kind {
            Kind::Acked => self.keeps(at),
            Kind::AckedInMemory => self.now.since(at) <= self.window,
            Kind::Dropped | Kind::Expired => true,
        }
    }
}

impl Fates {
    pub(super) fn new(limits: &Limits, share: Share) -> Self {
        let part = usize::try_from(share.part(TOTAL as u64)).unwrap_or(usize::MAX);
        Self { window: limits.dedup_window, per_app: PER_APP, total: part.max(PER_APP), kinds: Default::default() }
    }

    /// The oldest one, if it is to go as there are too many. `recipient` is who has a new one.
    fn surplus(&mut self, kind: Kind, recipient: AppId) -> Option<(u32, u64)> {
        let ages = self.kinds.get_mut(kind as usize)?;
        let own = ages.len_of(&recipient);
        let most = ages.by_count.last().filter(|_| ages.count > self.total);
        let whose = match most {
            _ if own > self.per_app => recipient,
            Some((most, _)) if own >= *most => recipient,
            Some((_, app)) => *app,
            None => return None,
        };
        ages.change(whose, BTreeSet::pop_first).map(|(_, queue, first)| (queue, first))
    }

    /// Takes out the oldest one, if it is over.
    fn pop_over(&mut self, kind: Kind, horizon: Horizon) -> Option<(u32, u64)> {
        let ages = self.kinds.get_mut(kind as usize)?;
        let app = ages.by_age.first().filter(|(at, _)| !horizon.keeps_of(kind, *at))?.1;
        ages.change(app, BTreeSet::pop_first).map(|(_, queue, first)| (queue, first))
    }

    /// Forgets a run of a queue that is gone.
    pub(super) fn forget(&mut self, kind: Kind, recipient: AppId, queue: u32, run: Run) {
        if let Some(ages) = self.kinds.get_mut(kind as usize) {
            ages.change(recipient, |runs| runs.remove(&(run.at, queue, run.first)));
        }
    }

    /// How much may be remembered, where it is not what machines have room for.
    #[cfg(test)]
    pub(crate) fn set_bounds(&mut self, per_app: usize, total: usize) {
        (self.per_app, self.total) = (per_app, total);
    }
}

/// Runs by recipient, and of each by age: when the last of it happened, in which queue, and its first event.
type Runs = BTreeSet<(Timestamp, u32, u64)>;

#[derive(Debug, Default)]
struct Ages {
    apps: BTreeMap<AppId, Runs>,
    /// How many these are.
    count: usize,
    /// Who has how many, and from when each one's first is.
    by_count: BTreeSet<(usize, AppId)>,
    by_age: BTreeSet<(Timestamp, AppId)>,
}

impl Ages {
    fn len_of(&self, app: &AppId) -> usize {
        self.apps.get(app).map_or(0, Runs::len)
    }

    /// Changes what is held of a recipient, and what is counted with it.
    fn change<T>(&mut self, app: AppId, change: impl FnOnce(&mut Runs) -> T) -> T {
        let runs = self.apps.entry(app).or_default();
        let of = |runs: &Runs| runs.first().map(|(at, ..)| (runs.len(), *at));
        let before = of(runs);
        let changed = change(runs);
        let after = of(runs);
        if before != after {
            if let Some((count, at)) = before {
                self.count -= count;
                self.by_count.remove(&(count, app));
                self.by_age.remove(&(at, app));
            }
            if let Some((count, at)) = after {
                self.count += count;
                self.by_count.insert((count, app));
                self.by_age.insert((at, app));
            }
        }
        if after.is_none() {
            self.apps.remove(&app);
        }
        changed
    }
}

impl Partition {
    pub(super) fn horizon(&self) -> Horizon {
        Horizon { logged_at: self.logged_at, now: self.now, window: self.fates.window }
    }

    /// Remembers what became of events of a queue.
    pub(super) fn remember(&mut self, number: u32, kind: Kind, run: Run) {
        let horizon = self.horizon();
        let Some(queue) = self.queues.get_mut(&number) else { return };
        let lasts = |at| horizon.keeps_of(kind, at);
        let Some(inserted) = queue.settled.insert(kind, run, lasts) else { return };
        let recipient = queue.recipient;
        let Some(ages) = self.fates.kinds.get_mut(kind as usize) else { return };
        ages.change(recipient, |runs| {
            for gone in inserted.gone.into_iter().flatten() {
                runs.remove(&(gone.at, number, gone.first));
            }
            runs.insert((inserted.run.at, number, inserted.run.first));
        });
        while let Some((queue, first)) = self.fates.surplus(kind, recipient) {
            self.forget_run(queue, kind, first);
        }
    }

    /// The same of one event.
    pub(super) fn remember_one(&mut self, event: EventRef, fate: Fate, logged: bool) {
        let at = if logged { self.logged_at } else { self.now };
        self.remember(event.queue, Kind::of(fate, logged), Run { first: event.seq, last: event.seq, fate, at });
    }

    /// Forgets a run that nothing else knows any more: what that cost.
    fn forget_run(&mut self, number: u32, kind: Kind, first: u64) -> usize {
        let cost = if kind.is_logged() { self.keep_queue(number) } else { 0 };
        // One that went while a checkpoint is made is there still.
        let queue = match self.queues.get_mut(&number) {
            None => self.leaving.get_mut(&number),
            queue => queue,
        };
        if let Some(queue) = queue {
            queue.settled.forget(kind, first);
        }
        1 + cost
    }

    /// Forgets acknowledgements that nobody may repeat any more, some at a time.
    pub(super) fn forget_old_fates(&mut self) {
        let horizon = self.horizon();
        for kind in [Kind::Acked, Kind::AckedInMemory] {
            let mut left = self.turn;
            while left > 0
                && let Some((queue, first)) = self.fates.pop_over(kind, horizon)
            {
                left = left.saturating_sub(self.forget_run(queue, kind, first));
            }
        }
    }

    /// Whether what is known by age is what queues hold, of those that are gone too.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn fates_agree(&self) -> bool {
        let mut counts = [0; 4];
        for (number, queue) in self.queues.iter().chain(&self.leaving) {
            for (kind, run) in queue.settled.all() {
                let Some(ages) = self.fates.kinds.get(kind as usize) else { return false };
                let known =
                    ages.apps.get(&queue.recipient).is_some_and(|runs| runs.contains(&(run.at, *number, run.first)));
                let Some(count) = counts.get_mut(kind as usize).filter(|_| known) else { return false };
                *count += 1;
            }
        }
        self.fates.kinds.iter().zip(counts).all(|(ages, count)| {
            let of_app = |(app, runs): (&AppId, &Runs)| {
                let oldest = runs.first().is_some_and(|(at, ..)| ages.by_age.contains(&(*at, *app)));
                oldest && ages.by_count.contains(&(runs.len(), *app))
            };
            let each = ages.apps.len() == ages.by_age.len() && ages.apps.len() == ages.by_count.len();
            each && ages.count == count
                && ages.apps.values().map(Runs::len).sum::<usize>() == count
                && ages.apps.iter().all(of_app)
        })
    }

    /// Whether [`forget_old_fates`](Self::forget_old_fates) would find one.
    pub(super) fn has_old_fates(&self) -> bool {
        let horizon = self.horizon();
        let oldest = |kind| Some((kind, self.fates.kinds.get(kind as usize)?.by_age.first()?.0));
        [Kind::Acked, Kind::AckedInMemory].into_iter().filter_map(oldest).any(|(kind, at)| !horizon.keeps_of(kind, at))
    }
}
