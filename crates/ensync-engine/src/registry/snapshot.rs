//! The registry, spelled out.

use ensync_core::{AppId, EventName, Timestamp};

use super::{App, Name, Registry};
use crate::model::{Defaults, RegistrySnapshot, SnapshotApp, SnapshotName};

impl Registry {
    /// All of it, but for access keys that have ended by now.
    pub(crate) fn snapshot(&self, now: Timestamp) -> RegistrySnapshot {
        RegistrySnapshot {
            logged_at: self.logged_at,
            apps: self.apps.iter().map(|(id, app)| durable_app(*id, app, now)).collect(),
            events: self.events.iter().map(|(name, known)| durable_name(name, known)).collect(),
        }
    }

    /// A registry that goes on from a snapshot.
    pub(crate) fn restore(defaults: Defaults, durable: RegistrySnapshot) -> Self {
        let mut registry = Self::new(defaults);
        registry.logged_at = durable.logged_at;
        for app in durable.apps {
            let grants = app.grants.into_iter().collect();
            let SnapshotApp {
                id, name, public_key, earlier_keys, key_hash, old_key, enabled, rights, created_at, ..
            } = app;
            let app = App { name, public_key, earlier_keys, key_hash, old_key, enabled, rights, grants, created_at };
            registry.add_app(id, app);
        }
        for SnapshotName { name, options, auto } in durable.events {
            registry.add_event(name, options, auto);
        }
        registry
    }
}

fn durable_app(id: AppId, app: &App, now: Timestamp) -> SnapshotApp {
    SnapshotApp {
        id,
        name: app.name.clone(),
        public_key: app.public_key,
        earlier_keys: app.earlier_keys.clone(),
        key_hash: app.key_hash,
        old_key: app.old_key.filter(|(_, until)| *until > now),
        enabled: app.enabled,
        rights: app.rights,
        grants: app.grants.iter().map(|(event, rights)| (event.clone(), *rights)).collect(),
        created_at: app.created_at,
    }
}

fn durable_name(name: &EventName, known: &Name) -> SnapshotName {
    SnapshotName { name: name.clone(), options: known.options.clone(), auto: known.auto }
}
