//! The registry, spelled out.

use std::sync::Arc;

use ensync_core::{AppId, EventName, Timestamp};

use super::{App, Name, Registry};
use crate::model::{Defaults, RegistrySnapshot, SnapshotApp, SnapshotName};

/// A registry as it was at one moment. It is soon taken, also of a large one, and whatever is done to that changes nothing here.
#[derive(Debug)]
pub(crate) struct Picture {
    now: Timestamp,
    logged_at: Timestamp,
    apps: Vec<(AppId, Arc<App>)>,
    events: Vec<(EventName, Arc<Name>)>,
    deleted: Vec<AppId>,
}

impl Picture {
    /// All of it, but for access keys that had ended by then.
    pub(crate) fn spell_out(&self) -> RegistrySnapshot {
        RegistrySnapshot {
            logged_at: self.logged_at,
            apps: self.apps.iter().map(|(id, app)| durable_app(*id, app, self.now)).collect(),
            events: self.events.iter().map(|(name, known)| durable_name(name, known)).collect(),
            deleted: self.deleted.clone(),
        }
    }
}

impl Registry {
    /// How it is now.
    pub(crate) fn picture(&self, now: Timestamp) -> Picture {
        Picture {
            now,
            logged_at: self.logged_at,
            apps: self.apps.iter().map(|(id, app)| (*id, app.clone())).collect(),
            events: self.events.iter().map(|(name, known)| (name.clone(), known.clone())).collect(),
            deleted: self.deleted.iter().copied().collect(),
        }
    }

    /// All of it, but for access keys that have ended by now.
    pub(crate) fn snapshot(&self, now: Timestamp) -> RegistrySnapshot {
        self.picture(now).spell_out()
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
        registry.deleted = durable.deleted.into();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventOptions, KeyHash, Rights};

    /// What is under the lock that everybody needs copies no app, however many there are, and how much each may do.
    #[test]
    fn a_picture_shares_what_it_shows_and_stays_as_it_was() {
        let (app, name) = (AppId::from_bytes([1; 32]), EventName::parse("a/b").unwrap());
        let mut registry = Registry::new(Defaults::default());
        let key = KeyHash::of(&ensync_core::AppKey::parse("key").unwrap());
        registry.add_app(app, App::new(app, "one".into(), key, Rights::ALL, Timestamp::default()));
        registry.add_event(name.clone(), EventOptions::default(), false);
        registry.grant(&app, Some(&name), Rights::NONE);
        let before = registry.snapshot(Timestamp::default());
        let picture = registry.picture(Timestamp::default());
        assert!(Arc::ptr_eq(&picture.apps[0].1, &registry.apps[&app]));
        assert!(Arc::ptr_eq(&picture.events[0].1, &registry.events[&name]));
        registry.enable(&app, false);
        registry.remove_event(&name);
        assert_eq!(picture.spell_out(), before);
        let after = registry.snapshot(Timestamp::default());
        assert!(!after.apps[0].enabled && after.apps[0].grants.is_empty() && after.events.is_empty());
    }
}
