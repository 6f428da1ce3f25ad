//! What administrators ask for.

use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::{AppId, AppName, Error, ErrorKind, EventId, EventName, Result, Schema};

use super::apply::taken;
use super::dispatch::key_of;
use super::entries::Place;
use super::event_id::EventKey;
use super::registry::App;
use super::{Change, State};
use crate::log::{EventOptions, EventRef, KeyHash, Record, Rights};

/// The most earlier public keys that an app keeps.
const MAX_EARLIER_KEYS: usize = 16;
/// The longest that an old access key goes on.
const MAX_GRACE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What an administrator asks for. It goes the way of every command.
///
/// Where an app is meant, its id names it, and every public key of it that can be published to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Provision {
    /// A new app.
    CreateApp {
        /// Its public key, which becomes its id.
        id: AppId,
        /// Its name, for people.
        name: AppName,
        /// What its key hashes to.
        key_hash: KeyHash,
        /// What it may do with every event name.
        rights: Rights,
        /// Whether another app may have that name already: then only ids tell the two apart.
        same_name: bool,
    },
    /// Another access key for an app. Sessions of keys that do not log in any more end.
    RotateKey {
        /// The app.
        app: AppId,
        /// What the new key hashes to.
        key_hash: KeyHash,
        /// How long the one before goes on logging in; zero: not at all.
        grace: Duration,
    },
    /// Another public key for an app. Its sessions end.
    RotateKeyPair {
        /// The app.
        app: AppId,
        /// The new public key.
        public_key: AppId,
    },
    /// An earlier public key of an app is not to be published to any more.
    RetireKey {
        /// The app.
        app: AppId,
        /// The key.
        public_key: AppId,
    },
    /// Whether an app may log in. If not, its sessions end.
    Enable {
        /// The app.
        app: AppId,
        /// Whether it may.
        enabled: bool,
    },
    /// An app, its sessions and its queues are to go.
    DeleteApp {
        /// The app.
        app: AppId,
    },
    /// A new event name.
    CreateEvent {
        /// The name.
        name: EventName,
        /// All of its options.
        options: EventOptions,
    },
    /// A new event name, or new options for one.
    RegisterEvent {
        /// The name.
        name: EventName,
        /// All of its options.
        options: EventOptions,
    },
    /// Some new options for an event name.
    ChangeEvent {
        /// The name.
        name: EventName,
        /// What is new.
        change: EventChange,
    },
    /// An event name that nothing waits under is to go.
    DeleteEvent {
        /// The name.
        name: EventName,
    },
    /// Rights of an app.
    Grant {
        /// The app.
        app: AppId,
        /// For this name, or for all names without a grant of their own.
        event: Option<EventName>,
        /// What it may do.
        rights: Rights,
    },
    /// A grant for a single name is to be taken back.
    Revoke {
        /// The app.
        app: AppId,
        /// The name.
        event: EventName,
    },
    /// A dead letter is to be delivered again.
    Requeue(EventId),
    /// A dead letter is to be given up.
    DropDead(EventId),
}

/// New options for an event name: `None` leaves one as it is, `Some(None)` leaves it to the engine's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventChange {
    /// See [`EventOptions::schema`].
    pub schema: Option<Option<Schema>>,
    /// See [`EventOptions::ttl`].
    pub ttl: Option<Option<Duration>>,
    /// See [`EventOptions::max_deliveries`].
    pub max_deliveries: Option<Option<NonZeroU32>>,
    /// See [`EventOptions::ack_timeout`].
    pub ack_timeout: Option<Option<Duration>>,
}

impl EventChange {
    fn made(self, options: EventOptions) -> EventOptions {
        EventOptions {
            schema: self.schema.unwrap_or(options.schema),
            ttl: self.ttl.unwrap_or(options.ttl),
            max_deliveries: self.max_deliveries.unwrap_or(options.max_deliveries),
            ack_timeout: self.ack_timeout.unwrap_or(options.ack_timeout),
        }
    }
}

impl State {
    /// Checks what an administrator asks for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] for an app, its name, a key or an event name that exists, and for one that is in use;
    /// [`ErrorKind::InvalidInput`] for options out of range;
    /// [`ErrorKind::NotFound`] for an app, [`ErrorKind::UnknownEvent`] for an event name, and [`ErrorKind::NotFound`] for a key,
    /// a grant or a dead letter that does not exist.
    pub fn provision(&self, what: Provision) -> Result<Change> {
        let record = match what {
            Provision::CreateApp { id, name, key_hash, rights, same_name } => {
                if !self.registry.is_free(&id) || self.registry.app_by_key(&key_hash).is_some() {
                    return Err(taken());
                }
                if !same_name && self.registry.has_app_named(&name) {
                    return Err(conflict(format!(
                        "an app has the name {name} already; give this one another, or say that two may have the same"
                    )));
                }
                Record::App { id, name: name.into(), key_hash, rights, at: self.now }
            }
            Provision::RotateKey { app, key_hash, grace } => self.rotate_key(app, key_hash, grace)?,
            Provision::RotateKeyPair { app, public_key } => self.rotate_key_pair(app, public_key)?,
            Provision::RetireKey { app, public_key } => self.retire_key(app, public_key)?,
            Provision::Enable { app, enabled } => Record::Enable { app: self.known_app(&app)?.0, enabled },
            Provision::DeleteApp { app } => Record::DeleteApp { app: self.known_app(&app)?.0 },
            Provision::CreateEvent { name, .. } if self.registry.event(&name).is_some() => {
                return Err(conflict(format!("the event name {name} is registered already")));
            }
            Provision::CreateEvent { name, options } | Provision::RegisterEvent { name, options } => {
                options.check().map_err(|error| error.context(format!("register {name}")))?;
                Record::Event { name, options, auto: false }
            }
            Provision::ChangeEvent { name, change } => {
                let options = change.made(self.known_event(&name)?.clone());
                options.check().map_err(|error| error.context(format!("change {name}")))?;
                Record::Event { name, options, auto: false }
            }
            Provision::DeleteEvent { name } => self.delete_idle_event(name)?,
            Provision::Grant { app, event, rights } => {
                let (app, _) = self.known_app(&app)?;
                event.as_ref().map(|event| self.known_event(event)).transpose()?;
                Record::Grant { app, event, rights }
            }
            Provision::Revoke { app, event } => {
                let (id, known) = self.known_app(&app)?;
                if !known.grants.contains_key(&event) {
                    let message = format!("the app {app} has no grant of its own for {event}");
                    return Err(Error::new(ErrorKind::NotFound, message));
                }
                Record::Revoke { app: id, event }
            }
            Provision::Requeue(id) => {
                let (event, durable) = self.dead_letter(&id)?;
                let name = self.queues.get(&event.queue).map(|queue| &queue.event);
                let ttl = name.and_then(|name| self.registry.ttl(name));
                let record = Record::Requeue { event, expires_at: ttl.map(|ttl| self.now.after(ttl)) };
                return Ok(Change::new(record, durable));
            }
            Provision::DropDead(id) => {
                let (event, durable) = self.dead_letter(&id)?;
                return Ok(Change::new(Record::Drop { event }, durable));
            }
        };
        Ok(Change::new(record, true))
    }

    fn rotate_key(&self, app: AppId, key_hash: KeyHash, grace: Duration) -> Result<Record> {
        let (app, _) = self.known_app(&app)?;
        if grace > MAX_GRACE {
            return Err(invalid("an old access key goes on for 30 days at most"));
        }
        if self.registry.app_by_key(&key_hash).is_some() {
            return Err(taken());
        }
        let old_until = (!grace.is_zero()).then(|| self.now.after(grace));
        Ok(Record::AccessKey { app, key_hash, at: self.now, old_until })
    }

    fn rotate_key_pair(&self, app: AppId, public_key: AppId) -> Result<Record> {
        let (app, known) = self.known_app(&app)?;
        if !self.registry.is_free(&public_key) {
            return Err(conflict(format!(
                "an app has the public key {public_key}, or had it first; make a new key pair"
            )));
        }
        if known.earlier_keys.len() >= MAX_EARLIER_KEYS {
            let message = format!("the app has {MAX_EARLIER_KEYS} earlier public keys, which is the limit; retire one");
            return Err(conflict(message));
        }
        Ok(Record::KeyPair { app, public_key })
    }

    fn retire_key(&self, app: AppId, public_key: AppId) -> Result<Record> {
        let (id, known) = self.known_app(&app)?;
        if known.public_key == public_key {
            return Err(conflict("this is the app's present public key; give the app another key pair first"));
        }
        if !known.earlier_keys.contains(&public_key) {
            let message = format!("the app {app} has no earlier public key {public_key}");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Ok(Record::RetireKey { app: id, public_key })
    }

    /// A name goes only when that takes nothing from anybody: the engine does not choose whose events are worth less.
    fn delete_idle_event(&self, name: EventName) -> Result<Record> {
        self.known_event(&name)?;
        let (mut events, mut dead, mut consumers) = (0, 0, 0);
        for queue in self.queues.values().filter(|queue| queue.event == name) {
            events += queue.ready() + queue.leases.len() + queue.doomed + queue.deferred.len();
            dead += queue.dead.len();
            consumers += queue.consumers;
        }
        if events + dead + consumers > 0 {
            return Err(conflict(format!(
                "{name} is in use: {events} unsettled events, {dead} dead letters, {consumers} subscriptions; it can be deleted \
                 when there are none"
            )));
        }
        Ok(Record::DeleteEvent { name })
    }

    fn known_app(&self, key: &AppId) -> Result<(AppId, &App)> {
        let find = || {
            let id = self.registry.find(key)?;
            Some((id, self.registry.app(&id)?))
        };
        find().ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no app of this engine has the id {key}")))
    }

    fn known_event(&self, event: &EventName) -> Result<&EventOptions> {
        let unknown = || {
            let message = format!("the event name {event} is not registered; register it first");
            Error::new(ErrorKind::UnknownEvent, message)
        };
        self.registry.event(event).ok_or_else(unknown)
    }

    fn dead_letter(&self, id: &EventId) -> Result<(EventRef, bool)> {
        let find = || {
            let key = EventKey::of(id)?;
            let entry = self.queues.get(&key.event.queue)?.entries.get(key.event.seq)?;
            let found = entry.place == Place::Dead && key_of(key.event, entry) == key;
            found.then_some((key.event, !entry.transient))
        };
        find().ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no dead letter has the id {id}")))
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn conflict(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Conflict, message)
}
