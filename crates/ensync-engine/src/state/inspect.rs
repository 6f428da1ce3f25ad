//! What can be seen from outside.

use std::collections::BTreeMap;

use ensync_core::{AppId, EventId, EventName, Timestamp};

use super::dispatch::key_of;
use super::queue::Queue;
use super::{QueueCounters, State};
use crate::log::{EventOptions, EventRef, Rights};

/// An app, as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppInfo {
    /// Its address.
    pub id: AppId,
    /// Its name, for people.
    pub name: String,
    /// What it may do with names that `grants` does not speak of.
    pub rights: Rights,
    /// What it may do with single names.
    pub grants: Vec<(EventName, Rights)>,
    /// When it was created.
    pub created_at: Timestamp,
    /// How many sessions it has.
    pub sessions: usize,
}

/// A queue: the events of one recipient under one event name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// The recipient.
    pub recipient: AppId,
    /// The event name.
    pub event: EventName,
    /// Events that could be delivered now.
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
    /// Whom it was for.
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

impl State {
    /// Every app, by id.
    pub fn apps(&self) -> Vec<AppInfo> {
        let mut sessions: BTreeMap<AppId, usize> = BTreeMap::new();
        for (_, session) in self.sessions.iter() {
            *sessions.entry(session.app).or_default() += 1;
        }
        let info = |(id, app): (&AppId, &super::registry::App)| AppInfo {
            id: *id,
            name: app.name.clone(),
            rights: app.rights,
            grants: app.grants.iter().map(|(event, rights)| (event.clone(), *rights)).collect(),
            created_at: app.created_at,
            sessions: sessions.get(id).copied().unwrap_or(0),
        };
        self.registry.apps().map(info).collect()
    }

    /// Every registered event name.
    pub fn events(&self) -> Vec<(EventName, EventOptions)> {
        self.registry.events().map(|(name, options)| (name.clone(), options.clone())).collect()
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// One queue, if it was ever used.
    pub fn queue(&self, recipient: &AppId, event: &EventName) -> Option<QueueStats> {
        let number = self.numbers.get(&(*recipient, event.clone()))?;
        self.queues.get(number).map(stats)
    }

    /// Every queue.
    pub fn queues(&self) -> Vec<QueueStats> {
        self.queues.values().map(stats).collect()
    }

    /// The dead letters of one recipient and event name, or of all, oldest event first per queue; at most `limit` of them.
    pub fn dead_letters(&self, recipient: Option<&AppId>, event: Option<&EventName>, limit: usize) -> Vec<DeadLetter> {
        let wanted = |queue: &Queue| {
            recipient.is_none_or(|id| queue.recipient == *id) && event.is_none_or(|name| queue.event == *name)
        };
        let queues = self.queues.iter().filter(|(_, queue)| wanted(queue));
        let letters = queues.flat_map(|(&number, queue)| {
            queue.dead.iter().filter_map(move |(&seq, dead)| {
                let entry = queue.entries.get(seq)?;
                Some(DeadLetter {
                    id: key_of(EventRef { queue: number, seq }, entry).to_id(),
                    event: queue.event.clone(),
                    recipient: queue.recipient,
                    reason: dead.reason.clone(),
                    at: dead.at,
                    accepted_at: entry.accepted_at,
                    deliveries: entry.deliveries,
                })
            })
        });
        letters.take(limit).collect()
    }
}

fn stats(queue: &Queue) -> QueueStats {
    QueueStats {
        recipient: queue.recipient,
        event: queue.event.clone(),
        ready: queue.ready(),
        in_flight: queue.leases.len() + queue.doomed,
        deferred: queue.deferred.len(),
        dead: queue.dead.len(),
        consumers: queue.consumers,
        oldest: queue.oldest(),
        counters: queue.counters,
    }
}
