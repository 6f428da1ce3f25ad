//! What whoever watches an engine wants to know: per event name, over all recipients.

use std::collections::BTreeMap;

use ensync_core::{AppId, EventName, Timestamp};

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

impl InUse {
    /// Those of two partitions as of one.
    pub(crate) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.dead += other.dead;
        self.consumers += other.consumers;
    }
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

/// A count of what is in all queues, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Count {
    /// The next queue; `None` before the first.
    next: Option<u32>,
    /// How many queues were gone when it began.
    removals: u64,
    totals: BTreeMap<EventName, Totals>,
}

impl Count {
    pub(crate) fn into_totals(self) -> BTreeMap<EventName, Totals> {
        self.totals
    }
}

impl Partition {
    /// Goes on with a count: looks at `most` queues, each once, and at no event. Whether that was all.
    ///
    /// What is counted of an event name never falls while the engine runs, so it begins again where a queue has gone meanwhile.
    pub(crate) fn count(&self, count: &mut Count, most: usize) -> bool {
        let next = count.next.filter(|_| count.removals == self.removals).unwrap_or_else(|| {
            let retired = self
                .retired
                .iter()
                .map(|(name, counters)| (name.clone(), Totals { counters: *counters, ..Totals::default() }));
            *count = Count { next: None, removals: self.removals, totals: retired.collect() };
            0
        });
        let mut queues = self.queues.range(next..);
        for (_, queue) in queues.by_ref().take(most) {
            // A name is cloned only where it is new.
            match count.totals.get_mut(&queue.event) {
                Some(totals) => totals.add(queue),
                None => count.totals.entry(queue.event.clone()).or_default().add(queue),
            }
        }
        count.next = queues.next().map(|(number, _)| *number);
        count.next.is_none()
    }

    /// What there is under an event name, for recipients that are `known`: what waits for others is about to go.
    pub(crate) fn in_use(&self, name: &EventName, known: impl Fn(&AppId) -> bool) -> InUse {
        let mut found = InUse::default();
        for queue in self.queues.values().filter(|queue| queue.event == *name && known(&queue.recipient)) {
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
        let mut count = Count::default();
        assert!(state.count(&mut count, 9));
        let totals = &count.into_totals()[&name];
        assert_eq!((totals.counters.published, totals.counters.acked, totals.ready), (6, 4, 0));
    }

    #[test]
    fn a_count_goes_on_where_it_was_and_begins_again_where_a_queue_has_gone() {
        let mut state = Partition::new(Settings::default());
        let name: EventName = "a/b".parse().unwrap();
        let recipient = |n| ensync_core::AppId::from_bytes([n; 32]);
        for n in 0..5 {
            state.add_queue(n.into(), recipient(n), &name);
            state.queues.get_mut(&n.into()).unwrap().counters.published = 10;
        }
        let published = |count: Count| count.into_totals()[&name].counters.published;
        let mut count = Count::default();
        assert!(!state.count(&mut count, 2) && !state.count(&mut count, 2));
        assert!(state.count(&mut count, 2));
        assert_eq!(published(count), 50);
        let mut count = Count::default();
        assert!(!state.count(&mut count, 2));
        // One that was counted, and one that was not.
        for gone in [0, 4] {
            state.apply_remove(&crate::model::Removed::Recipient(recipient(gone)));
        }
        assert!(!state.count(&mut count, 2) && state.count(&mut count, 2));
        assert_eq!(published(count), 50);
    }
}
