//! What can be seen from outside.

use ensync_core::{AppId, EventId, EventName, Timestamp};

use super::{DeadLetter, QueueStats, State};
use crate::model::{EventOptions, KeyHash, Rights};
use crate::registry::App;

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

impl State {
    /// Every app, by id.
    pub fn apps(&self) -> Vec<AppInfo> {
        self.apps_after(None, None, usize::MAX)
    }

    /// At most `limit` apps, of one name or of all, by id, from the one after `after` on.
    pub fn apps_after(&self, after: Option<&AppId>, name: Option<&str>, limit: usize) -> Vec<AppInfo> {
        let info = |(id, app): (&AppId, &App)| info(*id, app, self.sessions.len_of(id));
        let apps = self.registry.apps_after(after).filter(|(_, app)| name.is_none_or(|name| app.name == name));
        apps.take(limit).map(info).collect()
    }

    /// The app with an id, or with a public key that can be published to.
    pub fn app(&self, key: &AppId) -> Option<AppInfo> {
        let id = self.registry.find(key)?;
        self.registry.app(&id).map(|app| info(id, app, self.sessions.len_of(&id)))
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
        self.partition.queue(&self.registry.find(recipient)?, event)
    }

    /// Every queue.
    pub fn queues(&self) -> Vec<QueueStats> {
        self.partition.queues()
    }

    /// At most `limit` queues, of one recipient and event name or of all, each with the name of its recipient, from the one after the
    /// number `after` on. Looks at `budget` of them at most; the second value is where to go on, if that is not the end.
    pub(crate) fn queues_after(
        &self,
        (recipient, event): (Option<&AppId>, Option<&EventName>),
        after: Option<u32>,
        bounds: (usize, usize),
    ) -> (Vec<(QueueStats, String)>, Option<u32>) {
        let recipient = recipient.map(|key| self.registry.find(key).unwrap_or(*key));
        let (found, next) = self.partition.queues_after((recipient.as_ref(), event), after, bounds);
        let named = |stats: QueueStats| {
            let name = self.app_name(&stats.recipient).unwrap_or_default().to_owned();
            (stats, name)
        };
        (found.into_iter().map(named).collect(), next)
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
        self.partition.dead_letters_after(recipient.as_ref(), event, after, limit)
    }

    /// The name of the app with an id.
    pub fn app_name(&self, id: &AppId) -> Option<&str> {
        self.registry.app(id).map(|app| app.name.as_str())
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
