//! Apps, their keys and rights, and event names.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::{AppId, EventName, Timestamp};

use super::settings::Defaults;
use crate::log::{EventOptions, KeyHash, Rights};

/// One app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct App {
    pub(super) name: String,
    pub(super) key_hash: KeyHash,
    /// For names without a grant of their own.
    pub(super) rights: Rights,
    pub(super) grants: BTreeMap<EventName, Rights>,
    pub(super) created_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Registry {
    defaults: Defaults,
    apps: BTreeMap<AppId, App>,
    /// Looked up by a keyed hash of the SHA-256 of the key, and compared in constant time: how long that takes says nothing of a key.
    keys: HashMap<KeyHash, AppId>,
    events: BTreeMap<EventName, EventOptions>,
    auto_events: usize,
}

impl Registry {
    pub(super) fn new(defaults: Defaults) -> Self {
        Self { defaults, apps: BTreeMap::new(), keys: HashMap::new(), events: BTreeMap::new(), auto_events: 0 }
    }

    pub(super) fn app(&self, id: &AppId) -> Option<&App> {
        self.apps.get(id)
    }

    pub(super) fn app_by_key(&self, key: &KeyHash) -> Option<AppId> {
        self.keys.get(key).copied()
    }

    pub(super) fn apps(&self) -> impl Iterator<Item = (&AppId, &App)> {
        self.apps.iter()
    }

    /// Whether there was room: an id and a key belong to one app.
    pub(super) fn add_app(&mut self, id: AppId, app: App) -> bool {
        let free = !self.apps.contains_key(&id) && !self.keys.contains_key(&app.key_hash);
        if free {
            self.keys.insert(app.key_hash, id);
            self.apps.insert(id, app);
        }
        free
    }

    /// Whether there is such an app.
    pub(super) fn grant(&mut self, app: &AppId, event: Option<&EventName>, rights: Rights) -> bool {
        let Some(app) = self.apps.get_mut(app) else { return false };
        match event {
            Some(event) => _ = app.grants.insert(event.clone(), rights),
            None => app.rights = rights,
        }
        true
    }

    pub(super) fn rights(&self, app: &AppId, event: &EventName) -> Rights {
        self.apps.get(app).map_or(Rights::NONE, |app| app.grants.get(event).copied().unwrap_or(app.rights))
    }

    pub(super) fn event(&self, name: &EventName) -> Option<&EventOptions> {
        self.events.get(name)
    }

    pub(super) fn events(&self) -> impl Iterator<Item = (&EventName, &EventOptions)> {
        self.events.iter()
    }

    pub(super) fn auto_events(&self) -> usize {
        self.auto_events
    }

    /// With `auto`, a name that is there stays as it is.
    pub(super) fn add_event(&mut self, name: EventName, options: EventOptions, auto: bool) {
        if auto && self.events.contains_key(&name) {
            return;
        }
        self.auto_events += usize::from(auto);
        self.events.insert(name, options);
    }

    pub(super) fn restore_events(&mut self, events: Vec<(EventName, EventOptions)>, auto_events: usize) {
        (self.events, self.auto_events) = (events.into_iter().collect(), auto_events);
    }

    pub(super) fn ttl(&self, event: &EventName) -> Option<Duration> {
        self.event(event).and_then(|options| options.ttl).or(self.defaults.ttl)
    }

    pub(super) fn ack_timeout(&self, event: &EventName) -> Duration {
        self.event(event).and_then(|options| options.ack_timeout).unwrap_or(self.defaults.ack_timeout)
    }

    pub(super) fn max_deliveries(&self, event: &EventName) -> NonZeroU32 {
        self.event(event).and_then(|options| options.max_deliveries).unwrap_or(self.defaults.max_deliveries)
    }
}
