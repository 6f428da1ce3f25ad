//! What can be seen from outside.

use ensync_core::{AppId, EventName, Timestamp};

use super::Access;
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

impl Access {
    /// Every app, by id.
    pub(crate) fn apps(&self) -> Vec<AppInfo> {
        self.apps_after(None, None, usize::MAX)
    }

    /// At most `limit` apps, of one name or of all, by id, from the one after `after` on.
    pub(crate) fn apps_after(&self, after: Option<&AppId>, name: Option<&str>, limit: usize) -> Vec<AppInfo> {
        let info = |(id, app): (&AppId, &App)| info(*id, app, self.sessions.len_of(id));
        let apps = self.registry.apps_after(after).filter(|(_, app)| name.is_none_or(|name| app.name == name));
        apps.take(limit).map(info).collect()
    }

    /// The app with an id, or with a public key that can be published to.
    pub(crate) fn app(&self, key: &AppId) -> Option<AppInfo> {
        let id = self.registry.find(key)?;
        self.registry.app(&id).map(|app| info(id, app, self.sessions.len_of(&id)))
    }

    /// The app that logs in with an access key.
    pub(crate) fn app_of_access_key(&self, key: &KeyHash) -> Option<AppInfo> {
        self.app(&self.registry.app_by_key(key)?)
    }

    /// Every registered event name.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn events(&self) -> Vec<(EventName, EventOptions)> {
        self.events_after(None, usize::MAX)
    }

    /// At most `limit` registered event names, from the one after `after` on.
    pub(crate) fn events_after(&self, after: Option<&EventName>, limit: usize) -> Vec<(EventName, EventOptions)> {
        let events = self.registry.events_after(after).take(limit);
        events.map(|(name, known)| (name.clone(), known.options.clone())).collect()
    }

    /// The options of one event name, if it is registered.
    pub(crate) fn event(&self, name: &EventName) -> Option<EventOptions> {
        self.registry.event(name).cloned()
    }

    /// How many sessions are open.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The id of the app that administrators mean by a key: its id, or any public key of it that can be published to.
    pub(crate) fn find(&self, key: &AppId) -> Option<AppId> {
        self.registry.find(key)
    }

    /// The name of the app with an id.
    pub(crate) fn app_name(&self, id: &AppId) -> Option<&str> {
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
