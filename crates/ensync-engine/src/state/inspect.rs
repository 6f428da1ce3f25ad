//! What can be seen from outside.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use ensync_core::{AppId, EventId, EventName, Timestamp};

use super::dispatch::key_of;
use super::event_id::EventKey;
use super::queue::Queue;
use super::registry::App;
use super::{QueueCounters, State};
use crate::model::{EventOptions, EventRef, KeyHash, Rights};

/// An app, as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppInfo {
    /// The public key that it was created with, which names it for as long as it exists.
    pub id: AppId,
    /// Its name, for people.
    pub name: String,
    /// The public key that it has now: its address, and the sender of what it publishes.
    pub public_key: AppId,
    /// The public keys before it that can still be published to, oldest first.
    pub earlier_keys: Vec<AppId>,
    /// Until when the access key before the last rotation logs in, if it does.
    pub old_key_until: Option<Timestamp>,
    /// Whether it may log in.
    pub enabled: bool,
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
    /// The recipient, by its id.
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

impl State {
    /// Every app, by id.
    pub fn apps(&self) -> Vec<AppInfo> {
        self.apps_after(None, None, usize::MAX)
    }

    /// At most `limit` apps, of one name or of all, by id, from the one after `after` on.
    pub fn apps_after(&self, after: Option<&AppId>, name: Option<&str>, limit: usize) -> Vec<AppInfo> {
        let mut sessions: BTreeMap<AppId, usize> = BTreeMap::new();
        for (_, session) in self.sessions.iter() {
            *sessions.entry(session.app).or_default() += 1;
        }
        let info = |(id, app): (&AppId, &App)| info(*id, app, sessions.get(id).copied().unwrap_or(0));
        let apps = self.registry.apps_after(after).filter(|(_, app)| name.is_none_or(|name| app.name == name));
        apps.take(limit).map(info).collect()
    }

    /// The app with an id, or with a public key that can be published to.
    pub fn app(&self, key: &AppId) -> Option<AppInfo> {
        let id = self.registry.find(key)?;
        let sessions = self.sessions.iter().filter(|(_, session)| session.app == id).count();
        self.registry.app(&id).map(|app| info(id, app, sessions))
    }

    /// The app that logs in with an access key.
    pub fn app_of_access_key(&self, key: &KeyHash) -> Option<AppInfo> {
        self.app(&self.registry.app_by_key(key)?)
    }

    /// Every registered event name.
    pub fn events(&self) -> Vec<(EventName, EventOptions)> {
        self.events_after(None, usize::MAX)
    }

    /// At most `limit` registered event names, from the one after `after` on.
    pub fn events_after(&self, after: Option<&EventName>, limit: usize) -> Vec<(EventName, EventOptions)> {
        let events = self.registry.events_after(after).take(limit);
        events.map(|(name, known)| (name.clone(), known.options.clone())).collect()
    }

    /// The options of one event name, if it is registered.
    pub fn event(&self, name: &EventName) -> Option<EventOptions> {
        self.registry.event(name).cloned()
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// One queue, if it was ever used. The recipient is an app's id, or any public key that can be published to.
    pub fn queue(&self, recipient: &AppId, event: &EventName) -> Option<QueueStats> {
        let number = self.numbers.get(&(self.registry.find(recipient)?, event.clone()))?;
        self.queues.get(number).map(stats)
    }

    /// Every queue.
    pub fn queues(&self) -> Vec<QueueStats> {
        self.queues.values().map(stats).collect()
    }

    /// At most `limit` queues, of one recipient and event name or of all, each with its number, from the one after `after` on.
    pub fn queues_after(
        &self,
        recipient: Option<&AppId>,
        event: Option<&EventName>,
        after: Option<u32>,
        limit: usize,
    ) -> Vec<(u32, QueueStats)> {
        let recipient = recipient.map(|key| self.registry.find(key).unwrap_or(*key));
        let queues = self.queues.range((after.map_or(Unbounded, Excluded), Unbounded)).filter(|(_, queue)| {
            recipient.is_none_or(|id| queue.recipient == id) && event.is_none_or(|name| queue.event == *name)
        });
        queues.take(limit).map(|(number, queue)| (*number, stats(queue))).collect()
    }

    /// The name of the app with an id.
    pub fn app_name(&self, id: &AppId) -> Option<&str> {
        self.registry.app(id).map(|app| app.name.as_str())
    }

    /// The dead letters of one recipient and event name, or of all, oldest event first per queue; at most `limit` of them.
    pub fn dead_letters(&self, recipient: Option<&AppId>, event: Option<&EventName>, limit: usize) -> Vec<DeadLetter> {
        self.dead_letters_after(recipient, event, None, limit)
    }

    /// The same, from the one after `after` on, which need not be one (any more).
    pub fn dead_letters_after(
        &self,
        recipient: Option<&AppId>,
        event: Option<&EventName>,
        after: Option<&EventId>,
        limit: usize,
    ) -> Vec<DeadLetter> {
        let recipient = recipient.map(|key| self.registry.find(key).unwrap_or(*key));
        let wanted = |queue: &Queue| {
            recipient.is_none_or(|id| queue.recipient == id) && event.is_none_or(|name| queue.event == *name)
        };
        let after = after.and_then(EventKey::of).map(|key| key.event);
        let queues = self.queues.range(after.map_or(0, |after| after.queue)..).filter(|(_, queue)| wanted(queue));
        let letters = queues.flat_map(|(&number, queue)| {
            let begin = after.filter(|after| after.queue == number).map_or(Unbounded, |after| Excluded(after.seq));
            queue.dead.range((begin, Unbounded)).filter_map(move |(&seq, dead)| {
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

fn info(id: AppId, app: &App, sessions: usize) -> AppInfo {
    AppInfo {
        id,
        name: app.name.clone(),
        public_key: app.public_key,
        earlier_keys: app.earlier_keys.clone(),
        old_key_until: app.old_key.map(|(_, until)| until),
        enabled: app.enabled,
        rights: app.rights,
        grants: app.grants.iter().map(|(event, rights)| (event.clone(), *rights)).collect(),
        created_at: app.created_at,
        sessions,
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
