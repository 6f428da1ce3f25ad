//! What the records of one log come to, whichever log of a store it is.

use std::sync::Arc;

use ensync_core::Timestamp;

use crate::model::{Position, Record, Settings, Snapshot};
use crate::partition::Partition;
use crate::registry::Registry;

/// A registry and a partition, of which the records of a log make one.
#[derive(Debug)]
pub(crate) struct Fold {
    registry: Registry,
    partition: Partition,
    /// The latest time that was told.
    now: Timestamp,
}

impl Fold {
    /// Before any record.
    pub(crate) fn new(settings: Settings) -> Self {
        Self::restore(settings, Snapshot::default())
    }

    /// Goes on from a snapshot.
    pub(crate) fn restore(settings: Settings, durable: Snapshot) -> Self {
        let registry = Registry::restore(settings.defaults.clone(), durable.registry);
        Self { registry, partition: Partition::restore(settings, durable.partition), now: Timestamp::default() }
    }

    pub(crate) fn apply(&mut self, at: Position, record: &Arc<Record>) {
        match &**record {
            Record::Admin { at, command } => _ = self.registry.apply(*at, command),
            _ => _ = self.partition.apply(Some(at), record),
        }
    }

    /// The latest time that a record names.
    pub(crate) fn logged_at(&self) -> Timestamp {
        self.registry.logged_at().max(self.partition.logged_at())
    }

    /// Does all that is due by a time.
    pub(crate) fn recovered(&mut self, now: Timestamp) {
        self.now = now;
        self.registry.tick(now);
        self.partition.recovered(now);
    }

    #[cfg(test)]
    pub(crate) fn tick(&mut self, now: Timestamp) {
        self.now = now;
        self.registry.tick(now);
        self.partition.tick(now);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot { registry: self.registry.snapshot(self.now), partition: self.partition.snapshot() }
    }
}
