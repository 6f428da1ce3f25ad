//! Publishes under idempotency keys, remembered for a while.

mod fingerprint;
mod image;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use ensync_core::{AppId, Timestamp};

pub(super) use fingerprint::Fingerprint;
use image::Image;

use super::event_id::EventKey;
use super::publishes::{Publishes, Shards};
use crate::model::{Limits, Share};

/// A publish that is remembered, as it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) publish: Fingerprint,
    pub(super) event: EventKey,
    pub(super) at: Timestamp,
}

/// The publishes of the last `window`: at most so many per sending app, and so many of all together.
///
/// An app pushes out its own: its oldest where it has as many as an app may, and where there are as many as there may be, the
/// oldest of the app that has the most. What is held is a function of the inserts and of the time that
/// [`forget_old`](Self::forget_old) was told, so that the log read back makes the same of it. What is over is not held, whenever it is
/// taken out: that costs time, and is done a few at a time.
#[derive(Debug)]
pub(super) struct Dedup {
    window: Duration,
    per_app: usize,
    total: usize,
    events: Shards,
    /// Of each app that has any, in the order they came.
    apps: BTreeMap<AppId, Publishes>,
    /// How many these are.
    count: usize,
    /// Who has how many.
    by_count: BTreeSet<(usize, AppId)>,
    /// From when each app's first is.
    by_age: BTreeSet<(Timestamp, AppId)>,
    /// The latest that was inserted.
    latest: Timestamp,
    /// The latest time that was told.
    told: Timestamp,
    /// A checkpoint of it that is being made.
    image: Option<Image>,
}

/// How many that are over an insert takes out: more than it puts in.
const PER_INSERT: usize = 4;

impl Dedup {
    pub(super) fn new(limits: &Limits, share: Share) -> Self {
        Self {
            window: limits.dedup_window,
            per_app: limits.dedup_entries_per_app,
            total: total(limits, share),
            events: Shards::new(),
            apps: BTreeMap::new(),
            count: 0,
            by_count: BTreeSet::new(),
            by_age: BTreeSet::new(),
            latest: Timestamp::default(),
            told: Timestamp::default(),
            image: None,
        }
    }

    /// The event that was published first, if that is within the window before `now`.
    pub(super) fn find(&self, publish: &Fingerprint, now: Timestamp) -> Option<EventKey> {
        self.events.get(publish).filter(|(_, at)| now.since(*at) < self.window).map(|(event, _)| *event)
    }

    /// Whether anything is remembered at all.
    pub(super) fn remembers(&self) -> bool {
        self.per_app > 0 && self.total > 0 && !self.window.is_zero()
    }

    /// Remembers a publish of `sender`. Takes O(log n).
    pub(super) fn insert(&mut self, sender: AppId, publish: Fingerprint, event: EventKey, at: Timestamp) {
        self.latest = self.latest.max(at);
        for _ in 0..PER_INSERT {
            if !self.forget_one() {
                break;
            }
        }
        if !self.remembers() {
            return;
        }
        while self.len_of(&sender) >= self.per_app {
            self.forget_first(sender);
        }
        while self.count >= self.total
            && let Some(&(most, app)) = self.by_count.last()
        {
            // Nobody gives way while there is one that is over. With this one it may be the sender who has the most.
            if !self.forget_one() {
                self.forget_first(if self.len_of(&sender) >= most { sender } else { app });
            }
        }
        let before = self.events.insert(publish, (event, at));
        if let (Some((event, at)), Some(image)) = (before, &mut self.image) {
            image.replaced.entry((publish, at)).or_insert(event);
        }
        self.change(sender, |publishes| publishes.push((publish, at)));
    }

    /// Takes out at most so many that are of no use any more: not at the end of the window, but after another one, for publishes that
    /// were accepted before `now` may still be inserted.
    pub(super) fn forget_old(&mut self, now: Timestamp, most: usize) {
        self.told = self.told.max(now);
        for _ in 0..most {
            if !self.forget_one() {
                break;
            }
        }
    }

    /// Whether [`forget_old`](Self::forget_old) would find one.
    pub(super) fn has_old(&self, now: Timestamp) -> bool {
        self.by_age.first().is_some_and(|(at, _)| !self.lasts_until(*at, self.told.max(now)))
    }

    /// Whether one of that time is still held.
    fn lasts(&self, at: Timestamp) -> bool {
        self.lasts_until(at, self.told)
    }

    fn lasts_until(&self, at: Timestamp, told: Timestamp) -> bool {
        self.latest.since(at) < self.window && told.since(at) < self.window.saturating_mul(2)
    }

    /// Takes out the oldest one, if it is over.
    fn forget_one(&mut self) -> bool {
        let Some(&(at, app)) = self.by_age.first() else { return false };
        let over = !self.lasts(at);
        if over {
            self.forget_first(app);
        }
        over
    }

    /// All that is held: by app, and of each in the order it came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (AppId, impl Iterator<Item = Remembered>)> {
        self.apps.iter().filter_map(|(app, publishes)| {
            let held = publishes.from(0).filter(|(_, at)| self.lasts(*at));
            let held = held.filter_map(|(publish, at)| {
                let event = self.events.get(&publish).filter(|(_, current)| *current == at)?.0;
                Some(Remembered { publish, event, at })
            });
            let mut held = held.peekable();
            held.peek()?;
            Some((*app, held))
        })
    }

    /// Begins to tell all that is held now: see [`image`](Self::image).
    pub(super) fn begin_image(&mut self) {
        self.image = Some(Image {
            left: self.apps.iter().map(|(app, publishes)| (*app, publishes.range())).collect(),
            latest: self.latest,
            told: self.told,
            replaced: HashMap::new(),
            gone: Vec::new(),
        });
    }

    pub(super) fn drop_image(&mut self) {
        self.image = None;
    }

    /// Some more of what was held when [`begin_image`](Self::begin_image) was called, whatever has happened since: an app, and of that in
    /// the order it came. Looks at no more than `most`. `None` once that is all.
    pub(super) fn image(&mut self, most: usize) -> Option<Vec<(AppId, Vec<Remembered>)>> {
        let mut image = self.image.take()?;
        let mut told = std::mem::take(&mut image.gone);
        let mut budget = most;
        while budget > 0
            && let Some(mut next) = image.left.first_entry()
        {
            let (app, (from, to)) = (*next.key(), *next.get());
            let end = to.min(from.saturating_add(budget as u64));
            budget = budget.saturating_sub(usize::try_from(end - from).unwrap_or(usize::MAX)).saturating_sub(1);
            if end == to {
                next.remove();
            } else {
                next.get_mut().0 = end;
            }
            let publishes = self.apps.get(&app).into_iter().flat_map(|publishes| publishes.from(from));
            let publishes = publishes.take(usize::try_from(end - from).unwrap_or(usize::MAX));
            let found = publishes.filter_map(|publish| image.remembered(publish, &self.events, self.window));
            told.push((app, found.collect()));
        }
        if told.is_empty() && image.left.is_empty() {
            return None;
        }
        self.image = Some(image);
        Some(told)
    }

    fn len_of(&self, app: &AppId) -> usize {
        self.apps.get(app).map_or(0, Publishes::len)
    }

    fn forget_first(&mut self, app: AppId) {
        let Some((number, first)) = self.change(app, Publishes::pop) else { return };
        if let Some(mut image) = self.image.take() {
            image.goes(app, number, first, &self.events, self.window);
            self.image = Some(image);
        }
        if self.events.get(&first.0).is_some_and(|(_, current)| *current == first.1) {
            self.events.remove(&first.0);
        }
    }

    /// Changes what is held of an app, and what is counted with it.
    fn change<T>(&mut self, app: AppId, change: impl FnOnce(&mut Publishes) -> T) -> T {
        let mut publishes = self.apps.remove(&app).unwrap_or_default();
        if let Some((_, at)) = publishes.first() {
            self.count -= publishes.len();
            self.by_count.remove(&(publishes.len(), app));
            self.by_age.remove(&(at, app));
        }
        let changed = change(&mut publishes);
        if let Some((_, at)) = publishes.first() {
            self.count += publishes.len();
            self.by_count.insert((publishes.len(), app));
            self.by_age.insert((at, app));
            self.apps.insert(app, publishes);
        }
        changed
    }
}

/// How many are remembered of all apps: a partition's part, but no fewer than one app may have where there is room for these at all. Else
/// what an app that publishes to one recipient is promised would hang on the number of partitions.
fn total(limits: &Limits, share: Share) -> usize {
    let part = usize::try_from(share.part(limits.dedup_entries as u64)).unwrap_or(usize::MAX);
    part.max(limits.dedup_entries_per_app.min(limits.dedup_entries))
}

#[cfg(test)]
mod tests;
