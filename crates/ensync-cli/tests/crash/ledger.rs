//! What the engine said, and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use ensync_sdk::core::Timestamp;
use tokio::sync::Notify;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Settlement {
    Ack,
    Discard,
    /// By a second or two.
    Defer,
    /// Until long after the test.
    DeferLong,
}

/// An event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// The publish was answered.
    pub(crate) accepted: bool,
    /// It came since the last [`Ledger::mark`].
    pub(crate) came: bool,
    /// Its id, once it came.
    pub(crate) id: String,
    pub(crate) was_deferred: bool,
    /// What was sent to settle the last delivery.
    pub(crate) tried: Option<Settlement>,
    /// And whether it was answered.
    pub(crate) answered: bool,
    /// Before that it is not to come.
    until: Option<Timestamp>,
}

impl Entry {
    /// Whether it has to come: now or soon.
    pub(crate) fn is_owed(&self) -> bool {
        self.accepted && matches!(self.tried, None | Some(Settlement::Defer))
    }

    pub(crate) fn is_settled(&self, as_what: Settlement) -> bool {
        self.answered && self.tried == Some(as_what)
    }

    /// The settlement was sent, and nobody knows whether it arrived.
    pub(crate) fn is_in_doubt(&self, about: Settlement) -> bool {
        !self.answered && self.tried == Some(about)
    }
}

/// By number.
pub(crate) type Entries = BTreeMap<u64, Entry>;

#[derive(Default)]
pub(crate) struct Ledger {
    entries: Mutex<Entries>,
    pub(crate) progress: Notify,
}

impl Ledger {
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap()
    }

    /// The number of the next event.
    pub(crate) fn number(&self) -> u64 {
        let mut entries = self.entries();
        let n = entries.len() as u64;
        entries.insert(n, Entry::default());
        n
    }

    fn with<T>(&self, n: u64, change: impl FnOnce(&mut Entry) -> T) -> T {
        let done = change(self.entries().get_mut(&n).unwrap());
        self.progress.notify_one();
        done
    }

    pub(crate) fn accept(&self, n: u64) {
        self.with(n, |entry| entry.accepted = true);
    }

    /// An event came: is that right? Tells whether it was deferred once.
    pub(crate) fn receive(&self, n: u64, id: String) -> bool {
        self.with(n, |entry| {
            let settled = entry.is_settled(Settlement::Ack) || entry.is_settled(Settlement::Discard);
            assert!(!settled, "{n} came back after its settlement was answered: {entry:?}");
            let now = Timestamp::now();
            assert!(entry.until.is_none_or(|until| until <= now), "{n} came before its time, at {now:?}: {entry:?}");
            assert!(entry.id.is_empty() || entry.id == id, "{n} has the id {id} now: {entry:?}");
            (entry.id, entry.came, entry.tried, entry.answered, entry.until) = (id, true, None, false, None);
            entry.was_deferred
        })
    }

    pub(crate) fn attempt(&self, n: u64, settlement: Settlement) {
        self.with(n, |entry| {
            entry.tried = Some(settlement);
            entry.was_deferred |= matches!(settlement, Settlement::Defer | Settlement::DeferLong);
        });
    }

    pub(crate) fn answer(&self, n: u64, until: Option<Timestamp>) {
        self.with(n, |entry| (entry.answered, entry.until) = (true, until));
    }

    /// The engine said that it did not settle it.
    #[cfg(target_os = "linux")]
    pub(crate) fn refuse(&self, n: u64) {
        self.with(n, |entry| entry.tried = None);
    }

    /// Of the discards that were not answered, those of which there is no dead letter did not happen: these events have to come.
    pub(crate) fn owe_what_was_not_discarded(&self, dead: &BTreeSet<String>) {
        let mut entries = self.entries();
        let undone = |entry: &&mut Entry| entry.is_in_doubt(Settlement::Discard) && !dead.contains(&entry.id);
        entries.values_mut().filter(undone).for_each(|entry| entry.tried = None);
    }

    pub(crate) fn mark(&self) {
        self.entries().values_mut().for_each(|entry| entry.came = false);
    }

    pub(crate) fn count(&self, which: impl Fn(&Entry) -> bool) -> usize {
        self.entries().values().filter(|entry| which(entry)).count()
    }

    pub(crate) fn accepted(&self) -> usize {
        self.count(|entry| entry.accepted)
    }

    pub(crate) fn owed(&self) -> BTreeSet<u64> {
        self.entries().iter().filter(|(_, entry)| entry.is_owed()).map(|(n, _)| *n).collect()
    }
}
