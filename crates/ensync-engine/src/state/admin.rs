//! What administrators ask for: refused, or turned into changes.

use std::time::Duration;

use ensync_core::{AppId, AppName, Error, ErrorKind, EventId, EventName, Result};

use super::apply::taken;
use super::dispatch::key_of;
use super::entries::Place;
use super::event_id::EventKey;
use super::registry::App;
use super::{Change, State};
use crate::model::{AdminCommand, EventOptions, Record};

/// The most earlier public keys that an app keeps.
const MAX_EARLIER_KEYS: usize = 16;
/// The longest that an old access key goes on.
const MAX_GRACE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What is to become of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterAction {
    /// It is to be delivered again.
    Requeue,
    /// It is to be given up.
    Drop,
}

impl State {
    /// Checks what an administrator asks for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] for an app, a key or an event name that exists, and for one that is in use;
    /// [`ErrorKind::InvalidInput`] for a name of more than 256 bytes or options out of range;
    /// [`ErrorKind::NotFound`] for an app, [`ErrorKind::UnknownEvent`] for an event name, and [`ErrorKind::NotFound`] for a key or
    /// a grant that does not exist.
    pub fn administer(&self, mut command: AdminCommand) -> Result<Change> {
        if let Some(app) = command.app_mut() {
            *app = self.known_app(app)?.0;
        }
        match &command {
            AdminCommand::CreateApp { id, name, key_hash, same_name, .. } => {
                let name = AppName::parse(name)?;
                if !self.registry.is_free(id) || self.registry.app_by_key(key_hash).is_some() {
                    return Err(taken());
                }
                if !same_name && self.registry.has_app_named(&name) {
                    return Err(conflict(format!(
                        "an app has the name {name} already; give this one another, or say that two may have the same"
                    )));
                }
            }
            AdminCommand::RotateKey { key_hash, grace, .. } => {
                if *grace > MAX_GRACE {
                    return Err(invalid("an old access key goes on for 30 days at most"));
                }
                if self.registry.app_by_key(key_hash).is_some() {
                    return Err(taken());
                }
            }
            AdminCommand::RotateKeyPair { app, public_key } => self.check_key_pair(app, public_key)?,
            AdminCommand::RetireKey { app, public_key } => self.check_retired(app, public_key)?,
            AdminCommand::Enable { .. } | AdminCommand::DeleteApp { .. } | AdminCommand::UseEvent { .. } => {}
            AdminCommand::CreateEvent { name, .. } if self.registry.event(name).is_some() => {
                return Err(conflict(format!("the event name {name} is registered already")));
            }
            AdminCommand::CreateEvent { name, options } | AdminCommand::RegisterEvent { name, options } => {
                options.check().map_err(|error| error.context(format!("register {name}")))?;
            }
            AdminCommand::ChangeEvent { name, change } => {
                let options = change.made(self.known_event(name)?);
                options.check().map_err(|error| error.context(format!("change {name}")))?;
            }
            AdminCommand::DeleteEvent { name } => self.check_idle(name)?,
            AdminCommand::Grant { event, .. } => _ = event.as_ref().map(|event| self.known_event(event)).transpose()?,
            AdminCommand::Revoke { app, event } => {
                let (_, known) = self.known_app(app)?;
                if !known.grants.contains_key(event) {
                    let message = format!("the app {app} has no grant of its own for {event}");
                    return Err(Error::new(ErrorKind::NotFound, message));
                }
            }
        }
        if let AdminCommand::CreateApp { same_name, .. } = &mut command {
            *same_name = true;
        }
        Ok(Change::new(Record::Admin { at: self.now, command }, true))
    }

    /// Checks what an administrator wants done with a dead letter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none of that id.
    pub fn dead_letter(&self, what: LetterAction, id: &EventId) -> Result<Change> {
        let find = || {
            let key = EventKey::of(id)?;
            let queue = self.queues.get(&key.event.queue)?;
            let entry = queue.entries.get(key.event.seq)?;
            (entry.place == Place::Dead && key_of(key.event, entry) == key).then_some((
                key.event,
                queue,
                !entry.transient,
            ))
        };
        let not_found = || Error::new(ErrorKind::NotFound, format!("no dead letter has the id {id}"));
        let (event, queue, durable) = find().ok_or_else(not_found)?;
        let record = match what {
            LetterAction::Requeue => {
                let ttl = self.registry.ttl(&queue.event);
                Record::Requeue { event, expires_at: ttl.map(|ttl| self.now.after(ttl)) }
            }
            LetterAction::Drop => Record::Drop { event },
        };
        Ok(Change::new(record, durable))
    }

    fn check_key_pair(&self, app: &AppId, public_key: &AppId) -> Result<()> {
        let (_, known) = self.known_app(app)?;
        if !self.registry.is_free(public_key) {
            return Err(conflict(format!(
                "an app has the public key {public_key}, or had it first; make a new key pair"
            )));
        }
        if known.earlier_keys.len() >= MAX_EARLIER_KEYS {
            let message = format!("the app has {MAX_EARLIER_KEYS} earlier public keys, which is the limit; retire one");
            return Err(conflict(message));
        }
        Ok(())
    }

    fn check_retired(&self, app: &AppId, public_key: &AppId) -> Result<()> {
        let (_, known) = self.known_app(app)?;
        if known.public_key == *public_key {
            return Err(conflict("this is the app's present public key; give the app another key pair first"));
        }
        if !known.earlier_keys.contains(public_key) {
            let message = format!("the app {app} has no earlier public key {public_key}");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Ok(())
    }

    /// A name goes only when that takes nothing from anybody: the engine does not choose whose events are worth less.
    fn check_idle(&self, name: &EventName) -> Result<()> {
        self.known_event(name)?;
        let (mut events, mut dead, mut consumers) = (0, 0, 0);
        for queue in self.queues.values().filter(|queue| queue.event == *name) {
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
        Ok(())
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
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn conflict(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Conflict, message)
}
