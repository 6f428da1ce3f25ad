//! Who may do what: apps, their keys and rights, and event names. A fold of what administrators asked for; it knows of no queue and no
//! session.

mod apply;
mod decide;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use ensync_core::{AppId, AppName, EventName, Timestamp};

pub(crate) use snapshot::Picture;

use crate::model::{Defaults, EventOptions, KeyHash, Rights, Rules};

/// One app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) name: String,
    /// What clients know it by: others publish to it, and it is the sender of what this app publishes.
    pub(crate) public_key: AppId,
    /// Those before it that can still be published to, oldest first.
    pub(crate) earlier_keys: Vec<AppId>,
    pub(crate) key_hash: KeyHash,
    /// The access key before, and until when it logs in.
    pub(crate) old_key: Option<(KeyHash, Timestamp)>,
    pub(crate) enabled: bool,
    /// For names without a grant of their own.
    pub(crate) rights: Rights,
    pub(crate) grants: BTreeMap<EventName, Rights>,
    pub(crate) created_at: Timestamp,
}

impl App {
    /// An app as it is created: its id is its public key.
    pub(crate) fn new(id: AppId, name: String, key_hash: KeyHash, rights: Rights, created_at: Timestamp) -> Self {
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
pub(crate) struct Name {
    pub(crate) options: EventOptions,
    /// By its first use.
    pub(crate) auto: bool,
}

/// An app's *id* is the public key that it was created with. It names the app, its queues and its sessions for good; which public
/// keys can be published to is another matter.
#[derive(Debug)]
pub(crate) struct Registry {
    defaults: Defaults,
    /// The latest time that a record names.
    logged_at: Timestamp,
    /// Apps of which something has changed, until somebody asks.
    changed: BTreeSet<AppId>,
    /// By id.
    apps: BTreeMap<AppId, Arc<App>>,
    /// The ids, by every public key that can be published to.
    recipients: HashMap<AppId, AppId>,
    /// Looked up by a keyed hash of the SHA-256 of the key, and compared in constant time: how long that takes says nothing of a key.
    keys: HashMap<KeyHash, AppId>,
    /// When old access keys end.
    ends: BTreeSet<(Timestamp, AppId)>,
    events: BTreeMap<EventName, Arc<Name>>,
    auto_events: usize,
    /// Apps that were deleted and are not there again, the latest last.
    deleted: VecDeque<AppId>,
}

/// How many deleted apps are remembered: as many as may be deleted before their queues are gone from every partition, or a backup is made.
const DELETED: usize = 16_384;

impl Registry {
    pub(crate) fn new(defaults: Defaults) -> Self {
        Self {
            defaults,
            logged_at: Timestamp::default(),
            changed: BTreeSet::new(),
            apps: BTreeMap::new(),
            recipients: HashMap::new(),
            keys: HashMap::new(),
            ends: BTreeSet::new(),
            events: BTreeMap::new(),
            auto_events: 0,
            deleted: VecDeque::new(),
        }
    }

    pub(crate) fn app(&self, id: &AppId) -> Option<&App> {
        self.apps.get(id).map(|app| &**app)
    }

    fn app_mut(&mut self, id: &AppId) -> Option<&mut App> {
        self.apps.get_mut(id).map(Arc::make_mut)
    }

    pub(crate) fn app_by_key(&self, key: &KeyHash) -> Option<AppId> {
        self.keys.get(key).copied()
    }

    /// The id of the app that events sealed for a public key go to.
    pub(crate) fn recipient(&self, public_key: &AppId) -> Option<AppId> {
        self.recipients.get(public_key).copied()
    }

    /// The id of the app that administrators mean by a key: its id, or any public key that it has.
    pub(crate) fn find(&self, key: &AppId) -> Option<AppId> {
        if self.apps.contains_key(key) { Some(*key) } else { self.recipient(key) }
    }

    pub(crate) fn apps(&self) -> impl Iterator<Item = (&AppId, &App)> {
        self.apps.iter().map(|(id, app)| (id, &**app))
    }

    /// The apps whose ids are greater than one.
    pub(crate) fn apps_after(&self, id: Option<&AppId>) -> impl Iterator<Item = (&AppId, &App)> {
        self.apps.range((id.map_or(Unbounded, Excluded), Unbounded)).map(|(id, app)| (id, &**app))
    }

    /// The name of an app that people would take for this one.
    pub(crate) fn app_that_looks_named(&self, name: &AppName) -> Option<&str> {
        self.apps.values().map(|app| app.name.as_str()).find(|other| name.looks_like(other))
    }

    /// Whether an app was deleted, and is not there again.
    pub(crate) fn is_deleted(&self, id: &AppId) -> bool {
        self.deleted.contains(id)
    }

    /// Whether no app has a key as its id or among its public keys.
    pub(crate) fn is_free(&self, public_key: &AppId) -> bool {
        self.find(public_key).is_none()
    }

    /// Whether there was room: a public key, an id and an access key belong to one app.
    pub(crate) fn add_app(&mut self, id: AppId, app: App) -> bool {
        let free = self.is_free(&id)
            && app.public_keys().all(|key| self.is_free(&key))
            && !app.access_keys().any(|key| self.keys.contains_key(&key));
        if free {
            self.recipients.extend(app.public_keys().map(|key| (key, id)));
            self.keys.extend(app.access_keys().map(|key| (key, id)));
            self.ends.extend(app.old_key.map(|(_, until)| (until, id)));
            self.apps.insert(id, Arc::new(app));
            self.deleted.retain(|deleted| *deleted != id);
        }
        free
    }

    /// Whether there was such an app.
    pub(crate) fn remove_app(&mut self, id: &AppId) -> bool {
        let Some(app) = self.apps.remove(id) else { return false };
        if self.deleted.len() >= DELETED {
            self.deleted.pop_front();
        }
        self.deleted.push_back(*id);
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
    pub(crate) fn rotate_key(&mut self, id: &AppId, key_hash: KeyHash, old_until: Option<Timestamp>) -> bool {
        let free = !self.keys.contains_key(&key_hash);
        let Some(app) = self.apps.get_mut(id).filter(|_| free).map(Arc::make_mut) else { return false };
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

    /// Ends the access keys that end by a time. Records bring their own time, so that a key that ended before is free when the log is
    /// read back as well.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        while let Some(&(until, id)) = self.ends.first()
            && until <= now
        {
            self.ends.pop_first();
            if let Some((hash, _)) = self.app_mut(&id).and_then(|app| app.old_key.take()) {
                self.keys.remove(&hash);
            }
            self.changed.insert(id);
        }
    }

    /// Whether [`take_changed`](Self::take_changed) has something to say.
    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The apps of which something has changed since this was asked last; some may be gone.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<AppId> {
        std::mem::take(&mut self.changed)
    }

    /// The latest time that a record names.
    pub(crate) fn logged_at(&self) -> Timestamp {
        self.logged_at
    }

    /// Whether an access key logs an app in under a public key: the session of one that does not any more is over.
    pub(crate) fn admits(&self, id: &AppId, key: &KeyHash, public_key: &AppId) -> bool {
        self.apps.get(id).is_some_and(|app| {
            app.enabled && app.public_key == *public_key && app.access_keys().any(|other| other == *key)
        })
    }

    /// When the next old access key ends.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Gives an app another public key, if that is nobody's.
    pub(crate) fn rotate_key_pair(&mut self, id: &AppId, public_key: AppId) -> bool {
        let free = self.is_free(&public_key);
        let Some(app) = self.app_mut(id).filter(|_| free) else { return false };
        app.earlier_keys.push(std::mem::replace(&mut app.public_key, public_key));
        self.recipients.insert(public_key, *id);
        true
    }

    /// Takes one of its earlier public keys from an app, if it has that.
    pub(crate) fn retire_key(&mut self, id: &AppId, public_key: &AppId) -> bool {
        let Some(app) = self.apps.get_mut(id).map(Arc::make_mut) else { return false };
        let Some(at) = app.earlier_keys.iter().position(|key| key == public_key) else { return false };
        app.earlier_keys.remove(at);
        self.recipients.remove(public_key);
        true
    }

    /// Whether there is such an app.
    pub(crate) fn enable(&mut self, id: &AppId, enabled: bool) -> bool {
        self.app_mut(id).map(|app| app.enabled = enabled).is_some()
    }

    /// Whether there is such an app.
    pub(crate) fn grant(&mut self, app: &AppId, event: Option<&EventName>, rights: Rights) -> bool {
        let Some(app) = self.app_mut(app) else { return false };
        match event {
            Some(event) => _ = app.grants.insert(event.clone(), rights),
            None => app.rights = rights,
        }
        true
    }

    /// Whether there was such a grant.
    pub(crate) fn revoke(&mut self, app: &AppId, event: &EventName) -> bool {
        self.app_mut(app).is_some_and(|app| app.grants.remove(event).is_some())
    }

    pub(crate) fn rights(&self, app: &AppId, event: &EventName) -> Rights {
        self.apps.get(app).map_or(Rights::NONE, |app| app.grants.get(event).copied().unwrap_or(app.rights))
    }

    pub(crate) fn event(&self, name: &EventName) -> Option<&EventOptions> {
        self.events.get(name).map(|name| &name.options)
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = (&EventName, &Name)> {
        self.events.iter().map(|(name, known)| (name, &**known))
    }

    /// The names after one.
    pub(crate) fn events_after(&self, name: Option<&EventName>) -> impl Iterator<Item = (&EventName, &Name)> {
        self.events.range((name.map_or(Unbounded, Excluded), Unbounded)).map(|(name, known)| (name, &**known))
    }

    /// How many names were registered by their first use.
    pub(crate) fn auto_events(&self) -> usize {
        self.auto_events
    }

    /// With `auto`, a name that is there stays as it is.
    pub(crate) fn add_event(&mut self, event: EventName, options: EventOptions, auto: bool) {
        if auto && self.events.contains_key(&event) {
            return;
        }
        self.remove_name(&event);
        self.auto_events += usize::from(auto);
        self.events.insert(event, Arc::new(Name { options, auto }));
    }

    /// Takes the grants for it too. Whether there was such a name.
    pub(crate) fn remove_event(&mut self, event: &EventName) -> bool {
        let found = self.remove_name(event);
        if found {
            for app in self.apps.values_mut().filter(|app| app.grants.contains_key(event)) {
                Arc::make_mut(app).grants.remove(event);
            }
        }
        found
    }

    fn remove_name(&mut self, event: &EventName) -> bool {
        let found = self.events.remove(event);
        self.auto_events -= usize::from(found.as_ref().is_some_and(|name| name.auto));
        found.is_some()
    }

    /// What holds for the events of a name.
    pub(crate) fn rules(&self, event: &EventName) -> Rules {
        Rules::new(self.event(event), &self.defaults)
    }
}
