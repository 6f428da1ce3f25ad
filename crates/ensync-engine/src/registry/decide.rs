//! What administrators ask for: refused, or to be stored.

use std::time::Duration;

use ensync_core::{AppId, AppName, Error, ErrorKind, EventName, Result};

use super::{App, Registry};
use crate::model::{AdminCommand, EventOptions};

/// The most earlier public keys that an app keeps.
const MAX_EARLIER_KEYS: usize = 16;
/// The longest that an old access key goes on.
const MAX_GRACE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Registry {
    /// Checks what an administrator asks for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] for an app, a key or an event name that exists, and for one that is in use;
    /// [`ErrorKind::InvalidInput`] for a name of more than 256 bytes or options out of range;
    /// [`ErrorKind::NotFound`] for an app, [`ErrorKind::UnknownEvent`] for an event name, and [`ErrorKind::NotFound`] for a key or
    /// a grant that does not exist.
    pub(crate) fn decide(&self, mut command: AdminCommand) -> Result<AdminCommand> {
        if let Some(app) = command.app_mut() {
            *app = self.known_app(app)?.0;
        }
        match &command {
            AdminCommand::CreateApp { id, name, key_hash, same_name, .. } => {
                let name = AppName::parse(name)?;
                if !self.is_free(id) || self.app_by_key(key_hash).is_some() {
                    return Err(taken());
                }
                if !same_name && let Some(other) = self.app_that_looks_named(&name) {
                    let which = if name == *other { "the name" } else { "a name that looks like" };
                    return Err(conflict(format!(
                        "an app has {which} {name} already; give this one another, or say that two may have the same"
                    )));
                }
            }
            AdminCommand::RotateKey { key_hash, grace, .. } => {
                if *grace > MAX_GRACE {
                    return Err(invalid("an old app key goes on for 30 days at most"));
                }
                if self.app_by_key(key_hash).is_some() {
                    return Err(taken());
                }
            }
            AdminCommand::RotateKeyPair { app, public_key } => self.check_key_pair(app, public_key)?,
            AdminCommand::RetireKey { app, public_key } => self.check_retired(app, public_key)?,
            AdminCommand::Enable { .. } | AdminCommand::DeleteApp { .. } | AdminCommand::UseEvent { .. } => {}
            AdminCommand::CreateEvent { name, .. } if self.event(name).is_some() => {
                return Err(conflict(format!("the event name {name} is registered already")));
            }
            AdminCommand::CreateEvent { name, options } | AdminCommand::RegisterEvent { name, options } => {
                options.check().map_err(|error| error.context(format!("register {name}")))?;
            }
            AdminCommand::ChangeEvent { name, change } => {
                let options = change.made(self.known_event(name)?);
                options.check().map_err(|error| error.context(format!("change {name}")))?;
            }
            AdminCommand::DeleteEvent { name } => _ = self.known_event(name)?,
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
        Ok(command)
    }

    fn check_key_pair(&self, app: &AppId, public_key: &AppId) -> Result<()> {
        let (_, known) = self.known_app(app)?;
        if !self.is_free(public_key) {
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

    fn known_app(&self, key: &AppId) -> Result<(AppId, &App)> {
        let find = || {
            let id = self.find(key)?;
            Some((id, self.app(&id)?))
        };
        find().ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no app of this engine has the id {key}")))
    }

    fn known_event(&self, event: &EventName) -> Result<&EventOptions> {
        let unknown = || {
            let message = format!("the event name {event} is not registered; register it first");
            Error::new(ErrorKind::UnknownEvent, message)
        };
        self.event(event).ok_or_else(unknown)
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn conflict(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Conflict, message)
}

fn taken() -> Error {
    conflict("an app with this public key or this access key exists already")
}
