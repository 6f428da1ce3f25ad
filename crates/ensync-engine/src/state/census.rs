use std::collections::BTreeMap;

use ensync_core::{EventName, Timestamp};

use super::State;
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

impl State {
    /// Goes on with a count: looks at `most` queues, each once, and at no event. Everything, once that is all of them.
    pub(crate) fn count(&self, count: &mut Count, most: usize) -> Option<Census> {
        if !self.partition.count(count, most) {
            return None;
        }
        Some(Census {
            now: self.now,
            events: std::mem::take(count).into_totals(),
            queues: self.partition.queues.len(),
            sessions: self.sessions.len(),
            apps: self.registry.apps().count(),
        })
    }
}
