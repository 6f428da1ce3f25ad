//! What whoever watches an engine wants to know: per event name, over all recipients.

use std::collections::BTreeMap;

use ensync_core::{EventName, Timestamp};

use super::queue::Queue;
use super::{Partition, QueueCounters};

/// The queues of one event name together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) counters: QueueCounters,
    pub(crate) ready: u64,
    pub(crate) in_flight: u64,
    pub(crate) deferred: u64,
    pub(crate) dead: u64,
    pub(crate) consumers: u64,
    /// When the oldest event that is neither settled nor a dead letter was accepted.
    pub(crate) oldest: Option<Timestamp>,
}

/// What is under an event name, or waits for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InUse {
    /// Unsettled events that are no dead letters.
    pub(crate) events: usize,
    pub(crate) dead: usize,
    pub(crate) consumers: usize,
}

impl Totals {
    fn add(&mut self, queue: &Queue) {
        self.counters.add(&queue.counters);
        self.ready += (queue.ready() + queue.returning.len()) as u64;
        self.in_flight += (queue.leases.len() + queue.doomed) as u64;
        self.deferred += queue.deferred.len() as u64;
        self.dead += queue.dead.len() as u64;
        self.consumers += queue.subscribed as u64;
        self.oldest = [self.oldest, queue.oldest()].into_iter().flatten().min();
    }

    /// Those of two names as of one.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        self.ready += other.ready;
        self.in_flight += other.in_flight;
        self.deferred += other.deferred;
        self.dead += other.dead;
        self.consumers += other.consumers;
        self.oldest = [self.oldest, other.oldest].into_iter().flatten().min();
    }
}

impl Partition {
    /// Counts everything. Looks at each queue once, at no event.
    pub(crate) fn totals(&self) -> BTreeMap<EventName, Totals> {
        let mut events: BTreeMap<EventName, Totals> = BTreeMap::new();
        for (name, counters) in &self.retired {
            events.entry(name.clone()).or_default().counters.add(counters);
        }
        for queue in self.queues.values() {
            // A name is cloned only where it is new.
            match events.get_mut(&queue.event) {
                Some(totals) => totals.add(queue),
                None => events.entry(queue.event.clone()).or_default().add(queue),
            }
        }
        events
    }

    /// What there is under an event name.
    pub(crate) fn in_use(&self, name: &EventName) -> InUse {
        let mut found = InUse::default();
        for queue in self.queues.values().filter(|queue| queue.event == *name) {
            found.events +=
                queue.ready() + queue.returning.len() + queue.leases.len() + queue.doomed + queue.deferred.len();
            found.dead += queue.dead.len();
            found.consumers += queue.subscribed;
        }
        found
    }

    /// Keeps what a queue counted, for it is about to go: what is counted of an event name never falls while the engine runs.
    pub(super) fn retire(&mut self, event: &EventName, counters: &QueueCounters) {
        self.retired.entry(event.clone()).or_default().add(counters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Settings;

    #[test]
    fn a_queue_that_goes_leaves_its_counters() {
        let mut state = Partition::new(Settings::default());
        let name: EventName = "a/b".parse().unwrap();
        let counters = QueueCounters { published: 3, acked: 2, ..QueueCounters::default() };
        state.retire(&name, &counters);
        state.retire(&name, &counters);
        let totals = &state.totals()[&name];
        assert_eq!((totals.counters.published, totals.counters.acked, totals.ready), (6, 4, 0));
    }
}
