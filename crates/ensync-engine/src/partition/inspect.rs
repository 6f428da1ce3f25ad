//! What can be seen of queues from outside.

use std::ops::Bound::{Excluded, Unbounded};

use ensync_core::{AppId, EventId, EventName, Timestamp};

use super::queue::Queue;
use super::{Partition, QueueCounters};

/// A queue: the events of one recipient under one event name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// The recipient, by its id.
    pub recipient: AppId,
    /// The event name.
    pub event: EventName,
    /// Events that could be delivered now, or as soon as the log has that they came back.
    pub ready: usize,
    /// Events that are with clients, or on their way to the dead letters.
    pub in_flight: usize,
    /// Events that wait for a time.
    pub deferred: usize,
    /// Dead letters.
    pub dead: usize,
    /// Subscriptions, paused ones included.
    pub consumers: usize,
    /// When the oldest event that is neither settled nor a dead letter was accepted.
    pub oldest: Option<Timestamp>,
    /// How often things happened.
    pub counters: QueueCounters,
}

/// An event that nobody could use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its id.
    pub id: EventId,
    /// Its event name.
    pub event: EventName,
    /// Whom it was for, by the app's id.
    pub recipient: AppId,
    /// Why it is here: a client's words, or `max deliveries`.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
    /// When the engine accepted it.
    pub accepted_at: Timestamp,
    /// How often it was delivered.
    pub deliveries: u32,
}

impl Partition {
    /// One queue, if it was ever used. The recipient is an app's id.
    pub(crate) fn queue(&self, recipient: &AppId, event: &EventName) -> Option<QueueStats> {
        self.queues.get(&self.number(recipient, event)?).map(stats)
    }

    /// Every queue.
    pub(crate) fn queues(&self) -> Vec<QueueStats> {
        self.queues.values().map(stats).collect()
    }

    /// At most `limit` queues, of one recipient and event name or of all, from the one after the number `after` on. Looks at `budget` of
    /// them at most; the second value is where to go on, if that is not the end.
    pub(crate) fn queues_after(
        &self,
        (recipient, event): (Option<&AppId>, Option<&EventName>),
        after: Option<u32>,
        (limit, budget): (usize, usize),
    ) -> (Vec<QueueStats>, Option<u32>) {
        let mut found = Vec::new();
        let queues = self.queues.range((after.map_or(Unbounded, Excluded), Unbounded));
        for (looked, (number, queue)) in queues.enumerate() {
            if recipient.is_none_or(|id| queue.recipient == *id) && event.is_none_or(|name| queue.event == *name) {
                found.push(stats(queue));
            }
            if found.len() >= limit || looked + 1 >= budget {
                return (found, Some(*number));
            }
        }
        (found, None)
    }
}

fn stats(queue: &Queue) -> QueueStats {
    QueueStats {
        recipient: queue.recipient,
        event: queue.event.clone(),
        ready: queue.ready() + queue.returning.len(),
        in_flight: queue.leases.len() + queue.doomed,
        deferred: queue.deferred.len(),
        dead: queue.dead.len(),
        consumers: queue.subscribed,
        oldest: queue.oldest(),
        counters: queue.counters,
    }
}
