use std::collections::BTreeMap;

use ensync_core::{EventName, Timestamp};

use super::Access;
use crate::partition::Totals;

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Census {
    pub(crate) now: Timestamp,
    pub(crate) events: BTreeMap<EventName, Totals>,
    pub(crate) queues: usize,
    pub(crate) sessions: usize,
    pub(crate) apps: usize,
    /// Which partitions answered in time. Of the others there is what they counted before, if they did.
    pub(crate) answers: Vec<bool>,
}

/// What was counted in a partition.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) totals: BTreeMap<EventName, Totals>,
    pub(crate) queues: usize,
}

impl Census {
    /// Before any partition was counted.
    pub(crate) fn new(access: &Access, now: Timestamp) -> Self {
        let (sessions, apps) = (access.sessions.len(), access.registry.apps().count());
        Self { now, events: BTreeMap::new(), queues: 0, sessions, apps, answers: Vec::new() }
    }

    /// Adds what was counted in a partition last, and whether that was now.
    pub(crate) fn add(&mut self, counted: Option<&Counted>, answers: bool) {
        self.answers.push(answers);
        let Some(Counted { totals, queues }) = counted else { return };
        self.queues += queues;
        for (name, totals) in totals {
            match self.events.get_mut(name) {
                Some(sum) => sum.merge(totals),
                None => _ = self.events.insert(name.clone(), totals.clone()),
            }
        }
    }
}
