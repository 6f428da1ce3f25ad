use std::collections::BTreeMap;

use ensync_core::{EventName, Timestamp};

use super::Access;
use crate::partition::{Count, Totals};

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Census {
    pub(crate) now: Timestamp,
    pub(crate) events: BTreeMap<EventName, Totals>,
    pub(crate) queues: usize,
    pub(crate) sessions: usize,
    pub(crate) apps: usize,
}

impl Census {
    /// Before any partition was counted.
    pub(crate) fn new(access: &Access, now: Timestamp) -> Self {
        let (sessions, apps) = (access.sessions.len(), access.registry.apps().count());
        Self { now, events: BTreeMap::new(), queues: 0, sessions, apps }
    }

    /// Adds what was counted in a partition, and how many queues that has.
    pub(crate) fn add(&mut self, count: Count, queues: usize) {
        self.queues += queues;
        for (name, totals) in count.into_totals() {
            self.events.entry(name).or_default().merge(&totals);
        }
    }
}
