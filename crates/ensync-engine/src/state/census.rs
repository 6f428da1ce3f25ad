use std::collections::BTreeMap;

use ensync_core::{EventName, Timestamp};

use super::State;
use crate::partition::Totals;

/// Everything that is counted at one moment.
#[derive(Debug)]
pub(crate) struct Census {
    pub(crate) now: Timestamp,
    pub(crate) events: BTreeMap<EventName, Totals>,
    pub(crate) queues: usize,
    pub(crate) sessions: usize,
    pub(crate) apps: usize,
}

impl State {
    /// Counts everything. Looks at each queue once, at no event.
    pub(crate) fn census(&self) -> Census {
        Census {
            now: self.now,
            events: self.partition.totals(),
            queues: self.partition.queues.len(),
            sessions: self.sessions.len(),
            apps: self.registry.apps().count(),
        }
    }
}
