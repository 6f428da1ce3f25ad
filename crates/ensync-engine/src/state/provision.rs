//! What administrators ask for.

use ensync_core::{AppId, Error, ErrorKind, EventId, EventName, Result};

use super::apply::taken;
use super::dispatch::key_of;
use super::entries::Place;
use super::event_id::EventKey;
use super::{Change, State};
use crate::log::{EventOptions, EventRef, KeyHash, Record, Rights};

/// What an administrator asks for. It goes the way of every command.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Provision {
    /// A new app.
    CreateApp {
        /// Its address.
        id: AppId,
        /// Its name, for people.
        name: String,
        /// What its key hashes to.
        key_hash: KeyHash,
        /// What it may do with every event name.
        rights: Rights,
    },
    /// A new event name, or new options for one.
    RegisterEvent {
        /// The name.
        name: EventName,
        /// All of its options.
        options: EventOptions,
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
    /// A dead letter is to be delivered again.
    Requeue(EventId),
    /// A dead letter is to be given up.
    DropDead(EventId),
}

impl State {
    /// Checks what an administrator asks for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for an app that exists, a name of more than 256 bytes or options out of range;
    /// [`ErrorKind::NotFound`] for an app, [`ErrorKind::UnknownEvent`] for an event name, and [`ErrorKind::NotFound`] for a dead
    /// letter that does not.
    pub fn provision(&self, what: Provision) -> Result<Change> {
        let record = match what {
            Provision::CreateApp { id, name, key_hash, rights } => {
                if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
                    return Err(Error::new(
                        ErrorKind::InvalidInput,
                        "an app's name is 1 to 256 bytes without control characters",
                    ));
                }
                if self.registry.app(&id).is_some() || self.registry.app_by_key(&key_hash).is_some() {
                    return Err(taken());
                }
                Record::App { id, name, key_hash, rights, at: self.now }
            }
            Provision::RegisterEvent { name, options } => {
                options.check().map_err(|error| error.context(format!("register {name}")))?;
                Record::Event { name, options, auto: false }
            }
            Provision::Grant { app, event, rights } => {
                if self.registry.app(&app).is_none() {
                    return Err(Error::new(ErrorKind::NotFound, format!("no app of this engine has the id {app}")));
                }
                if let Some(event) = event.as_ref().filter(|event| self.registry.event(event).is_none()) {
                    let message = format!("the event name {event} is not registered; register it first");
                    return Err(Error::new(ErrorKind::UnknownEvent, message));
                }
                Record::Grant { app, event, rights }
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
