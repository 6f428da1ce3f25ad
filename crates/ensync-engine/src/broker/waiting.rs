//! What publishes that wait for a partition's task hold.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ensync_core::{AppId, Error, ErrorKind, Result};

use crate::state::Quotas;

/// Bytes of publishes that wait, of each app and of all. When the disk is slow nobody's fill the memory, nor keep out another's.
///
/// Of several partitions none has more than is left free for the others, of an app's part as of all: one whose disk hangs has half of it
/// at most, and two that hang have two thirds, however long they do.
#[derive(Debug)]
pub(super) struct Waiting {
    per_app: u64,
    total: u64,
    partitions: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: Used,
    apps: HashMap<AppId, Used>,
}

/// What is held, and how much of it by what waits for each partition.
#[derive(Debug, Default)]
struct Used {
    bytes: u64,
    of: BTreeMap<usize, u64>,
}

impl Used {
    /// Whether there is no room for some more. One that is alone always has it.
    fn is_full(&self, partition: usize, bytes: u64, quota: u64, partitions: usize) -> bool {
        let here = self.of.get(&partition).copied().unwrap_or_default();
        let over = self.bytes > 0 && self.bytes.saturating_add(bytes) > quota;
        over || partitions > 1 && here > 0 && here.saturating_add(bytes) > quota.saturating_sub(self.bytes)
    }

    fn add(&mut self, partition: usize, bytes: u64) {
        self.bytes += bytes;
        *self.of.entry(partition).or_default() += bytes;
    }

    fn take(&mut self, partition: usize, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(here) = self.of.get_mut(&partition) {
            *here = here.saturating_sub(bytes);
            if *here == 0 {
                self.of.remove(&partition);
            }
        }
    }
}

/// What one of them holds, until this is dropped.
#[derive(Debug)]
#[must_use = "it is given back when this is dropped"]
pub(super) struct Charge {
    waiting: Arc<Waiting>,
    app: AppId,
    partition: usize,
    bytes: u64,
}

impl Waiting {
    pub(super) fn new(quotas: &Quotas, partitions: usize) -> Self {
        Self { per_app: quotas.app_waiting, total: quotas.waiting, partitions, held: Mutex::default() }
    }

    /// Takes room for a publish of an app to a partition. One that is alone there always has it, if there is any.
    pub(super) fn charge(self: &Arc<Self>, app: AppId, partition: usize, bytes: usize) -> Result<Charge> {
        let bytes = bytes as u64;
        let mut held = self.held();
        let full = |used: &Used, quota| used.is_full(partition, bytes, quota, self.partitions);
        let (name, quota) = match () {
            () if held.apps.get(&app).is_some_and(|used| full(used, self.per_app)) => ("app_waiting", self.per_app),
            () if full(&held.all, self.total) => ("waiting", self.total),
            () => {
                held.all.add(partition, bytes);
                held.apps.entry(app).or_default().add(partition, bytes);
                return Ok(Charge { waiting: self.clone(), app, partition, bytes });
            }
        };
        let whose = if name == "waiting" { "all apps" } else { "this app" };
        let limits =
            if self.partitions > 1 { ", of which a partition has no more than is left for the others" } else { "" };
        Err(Error::new(
            ErrorKind::LimitExceeded,
            format!(
                "publishes of {whose} hold as much as they may until they are stored (quotas.{name}: {quota} bytes{limits}); try again"
            ),
        ))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // No code that holds the lock can panic half-way through a change.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut held = self.waiting.held();
        held.all.take(self.partition, self.bytes);
        if let Some(used) = held.apps.get_mut(&self.app) {
            used.take(self.partition, self.bytes);
            if used.bytes == 0 {
                held.apps.remove(&self.app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_app_leaves_room_for_others_and_all_have_an_end() {
        let mut quotas = Quotas::default();
        (quotas.app_waiting, quotas.waiting) = (100, 150);
        let waiting = Arc::new(Waiting::new(&quotas, 1));
        let app = |n| AppId::from_bytes([n; 32]);
        let large = waiting.charge(app(1), 0, 400).unwrap();
        assert!(waiting.charge(app(1), 0, 1).unwrap_err().to_string().contains("quotas.app_waiting"));
        drop(large);
        let held = [waiting.charge(app(1), 0, 60).unwrap(), waiting.charge(app(1), 0, 40).unwrap()];
        let error = waiting.charge(app(1), 0, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        let other = waiting.charge(app(2), 0, 50).unwrap();
        assert!(waiting.charge(app(3), 0, 1).unwrap_err().to_string().contains("(quotas.waiting:"));
        drop((held, other));
        let left = waiting.held();
        assert_eq!((left.all.bytes, left.all.of.len(), left.apps.len()), (0, 0, 0));
    }

    #[test]
    fn what_waits_for_one_partition_leaves_room_for_the_others() {
        let mut quotas = Quotas::default();
        (quotas.app_waiting, quotas.waiting) = (100, 200);
        let waiting = Arc::new(Waiting::new(&quotas, 4));
        let mut held = Vec::new();
        // Whatever goes to the first two stays there.
        for partition in [0, 1] {
            for app in 0..50 {
                let app = AppId::from_bytes([app; 32]);
                while let Ok(charge) = waiting.charge(app, partition, 10) {
                    held.push(charge);
                }
            }
        }
        let used = waiting.held().all.of.clone();
        assert_eq!(used, BTreeMap::from([(0, 100), (1, 50)]));
        // Everybody has room for what goes elsewhere.
        for app in 0..60 {
            drop(waiting.charge(AppId::from_bytes([app; 32]), 2, 10).unwrap());
        }
        drop(held);
        assert!(waiting.held().apps.is_empty());
    }
}
