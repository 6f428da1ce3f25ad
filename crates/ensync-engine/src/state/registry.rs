//! Apps, their keys and rights, and event names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use ensync_core::{AppId, AppName, EventName, Timestamp};

use super::settings::Defaults;
use crate::model::{EventOptions, KeyHash, Rights};

/// One app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct App {
    pub(super) name: String,
    /// What clients know it by: others publish to it, and it is the sender of what this app publishes.
    pub(super) public_key: AppId,
    /// Those before it that can still be published to, oldest first.
    pub(super) earlier_keys: Vec<AppId>,
    pub(super) key_hash: KeyHash,
    /// The access key before, and until when it logs in.
    pub(super) old_key: Option<(KeyHash, Timestamp)>,
    pub(super) enabled: bool,
    /// For names without a grant of their own.
    pub(super) rights: Rights,
    pub(super) grants: BTreeMap<EventName, Rights>,
    pub(super) created_at: Timestamp,
}

impl App {
    /// An app as it is created: its id is its public key.
    pub(super) fn new(id: AppId, name: String, key_hash: KeyHash, rights: Rights, created_at: Timestamp) -> Self {
        let (earlier_keys, grants) = (Vec::new(), BTreeMap::new());
        Self { name, public_key: id, earlier_keys, key_hash, old_key: None, enabled: true, rights, grants, created_at }
    }

    fn public_keys(&self) -> impl Iterator<Item = AppId> {
        self.earlier_keys.iter().copied().chain([self.public_key])
    }

    fn access_keys(&self) -> impl Iterator<Item = KeyHash> {
        self.old_key.map(|(hash, _)| hash).into_iter().chain([self.key_hash])
    }
}

/// A registered event name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) options: EventOptions,
    /// By its first use.
    pub(super) auto: bool,
}

/// An app's *id* is the public key that it was created with. It names the app, its queues and its sessions for good; which public
/// keys can be published to is another matter.
#[derive(Debug)]
pub(super) struct Registry {
    defaults: Defaults,
    /// By id.
    apps: BTreeMap<AppId, App>,
    /// The ids, by every public key that can be published to.
    recipients: HashMap<AppId, AppId>,
    /// Looked up by a keyed hash of the SHA-256 of the key, and compared in constant time: how long that takes says nothing of a key.
    keys: HashMap<KeyHash, AppId>,
    /// When old access keys end.
    ends: BTreeSet<(Timestamp, AppId)>,
    events: BTreeMap<EventName, Name>,
    auto_events: usize,
}

impl Registry {
    pub(super) fn new(defaults: Defaults) -> Self {
        Self {
            defaults,
            apps: BTreeMap::new(),
            recipients: HashMap::new(),
            keys: HashMap::new(),
            ends: BTreeSet::new(),
            events: BTreeMap::new(),
            auto_events: 0,
        }
    }

    pub(super) fn app(&self, id: &AppId) -> Option<&App> {
        self.apps.get(id)
    }

    pub(super) fn app_by_key(&self, key: &KeyHash) -> Option<AppId> {
        self.keys.get(key).copied()
    }

    /// The id of the app that events sealed for a public key go to.
    pub(super) fn recipient(&self, public_key: &AppId) -> Option<AppId> {
        self.recipients.get(public_key).copied()
    }

    /// The id of the app that administrators mean by a key: its id, or any public key that it has.
    pub(super) fn find(&self, key: &AppId) -> Option<AppId> {
        if self.apps.contains_key(key) { Some(*key) } else { self.recipient(key) }
    }

    pub(super) fn apps(&self) -> impl Iterator<Item = (&AppId, &App)> {
        self.apps.iter()
    }

    /// The apps whose ids are greater than one.
    pub(super) fn apps_after(&self, id: Option<&AppId>) -> impl Iterator<Item = (&AppId, &App)> {
        self.apps.range((id.map_or(Unbounded, Excluded), Unbounded))
    }

    pub(super) fn has_app_named(&self, name: &AppName) -> bool {
        self.apps.values().any(|app| *name == app.name)
    }

    /// Whether no app has a key as its id or among its public keys.
    pub(super) fn is_free(&self, public_key: &AppId) -> bool {
        self.find(public_key).is_none()
    }

    /// Whether there was room: a public key, an id and an access key belong to one app.
    pub(super) fn add_app(&mut self, id: AppId, app: App) -> bool {
        let free = self.is_free(&id)
            && app.public_keys().all(|key| self.is_free(&key))
            && !app.access_keys().any(|key| self.keys.contains_key(&key));
        if free {
            self.recipients.extend(app.public_keys().map(|key| (key, id)));
            self.keys.extend(app.access_keys().map(|key| (key, id)));
            self.ends.extend(app.old_key.map(|(_, until)| (until, id)));
            self.apps.insert(id, app);
        }
        free
    }

    /// Whether there was such an app.
    pub(super) fn remove_app(&mut self, id: &AppId) -> bool {
        let Some(app) = self.apps.remove(id) else { return false };
        for key in app.public_keys() {
            self.recipients.remove(&key);
        }
        for key in app.access_keys() {
            self.keys.remove(&key);
        }
        if let Some((_, until)) = app.old_key {
            self.ends.remove(&(until, *id));
        }
        true
    }

    /// Gives an app another access key, if that is nobody's; the one before stays until a time, or ends at once.
    pub(super) fn rotate_key(&mut self, id: &AppId, key_hash: KeyHash, old_until: Option<Timestamp>) -> bool {
        let Some(app) = self.apps.get_mut(id).filter(|_| !self.keys.contains_key(&key_hash)) else { return false };
        if let Some((hash, until)) = app.old_key.take() {
            self.keys.remove(&hash);
            self.ends.remove(&(until, *id));
        }
        let old = std::mem::replace(&mut app.key_hash, key_hash);
        self.keys.insert(key_hash, *id);
        match old_until {
            Some(until) => {
                app.old_key = Some((old, until));
                self.ends.insert((until, *id));
            }
            None => _ = self.keys.remove(&old),
        }
        true
    }

    /// Ends the old access key that has to end first, if it has to by now: its app.
    pub(super) fn end_old_key(&mut self, now: Timestamp) -> Option<AppId> {
        let (_, id) = self.ends.first().copied().filter(|(until, _)| *until <= now)?;
        self.ends.pop_first();
        if let Some((hash, _)) = self.apps.get_mut(&id).and_then(|app| app.old_key.take()) {
            self.keys.remove(&hash);
        }
        Some(id)
    }

    /// When the next old access key ends.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Gives an app another public key, if that is nobody's.
    pub(super) fn rotate_key_pair(&mut self, id: &AppId, public_key: AppId) -> bool {
        let free = self.is_free(&public_key);
        let Some(app) = self.apps.get_mut(id).filter(|_| free) else { return false };
        app.earlier_keys.push(std::mem::replace(&mut app.public_key, public_key));
        self.recipients.insert(public_key, *id);
        true
    }

    /// Takes one of its earlier public keys from an app, if it has that.
    pub(super) fn retire_key(&mut self, id: &AppId, public_key: &AppId) -> bool {
        let Some(app) = self.apps.get_mut(id) else { return false };
        let Some(at) = app.earlier_keys.iter().position(|key| key == public_key) else { return false };
        app.earlier_keys.remove(at);
        self.recipients.remove(public_key);
        true
    }

    /// Whether there is such an app.
    pub(super) fn enable(&mut self, id: &AppId, enabled: bool) -> bool {
        self.apps.get_mut(id).map(|app| app.enabled = enabled).is_some()
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

    /// Whether there was such a grant.
    pub(super) fn revoke(&mut self, app: &AppId, event: &EventName) -> bool {
        self.apps.get_mut(app).is_some_and(|app| app.grants.remove(event).is_some())
    }

    pub(super) fn rights(&self, app: &AppId, event: &EventName) -> Rights {
        self.apps.get(app).map_or(Rights::NONE, |app| app.grants.get(event).copied().unwrap_or(app.rights))
    }

    pub(super) fn event(&self, name: &EventName) -> Option<&EventOptions> {
        self.events.get(name).map(|name| &name.options)
    }

    pub(super) fn events(&self) -> impl Iterator<Item = (&EventName, &Name)> {
        self.events.iter()
    }

    /// The names after one.
    pub(super) fn events_after(&self, name: Option<&EventName>) -> impl Iterator<Item = (&EventName, &Name)> {
        self.events.range((name.map_or(Unbounded, Excluded), Unbounded))
    }

    /// How many names were registered by their first use.
    pub(super) fn auto_events(&self) -> usize {
        self.auto_events
    }

    /// With `auto`, a name that is there stays as it is.
    pub(super) fn add_event(&mut self, event: EventName, options: EventOptions, auto: bool) {
        if auto && self.events.contains_key(&event) {
            return;
        }
        self.remove_name(&event);
        self.auto_events += usize::from(auto);
        self.events.insert(event, Name { options, auto });
    }

    /// Takes the grants for it too. Whether there was such a name.
    pub(super) fn remove_event(&mut self, event: &EventName) -> bool {
        let found = self.remove_name(event);
        if found {
            for app in self.apps.values_mut() {
                app.grants.remove(event);
            }
        }
        found
    }

    fn remove_name(&mut self, event: &EventName) -> bool {
        let found = self.events.remove(event);
        self.auto_events -= usize::from(found.as_ref().is_some_and(|name| name.auto));
        found.is_some()
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
