//! What administrators ask for, of whatever it is about; and what that does to sessions.

use ensync_core::{AppId, Error, ErrorKind, EventId, Result, Timestamp};

use super::{Applied, Change, LetterAction, SessionNumber, State};
use crate::model::{AdminCommand, Record, Removed};

impl State {
    /// Checks what an administrator asks for. What an app or a name takes with it is among the changes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] for an app, a key or an event name that exists, and for one that is in use;
    /// [`ErrorKind::InvalidInput`] for a name of more than 256 bytes or options out of range;
    /// [`ErrorKind::NotFound`] for an app, [`ErrorKind::UnknownEvent`] for an event name, and [`ErrorKind::NotFound`] for a key or
    /// a grant that does not exist.
    pub fn administer(&self, command: AdminCommand) -> Result<Vec<Change>> {
        let command = self.registry.decide(command)?;
        let removed = match &command {
            AdminCommand::DeleteApp { app } => Some(Removed::Recipient(*app)),
            AdminCommand::DeleteEvent { name } => {
                // A name goes only when that takes nothing from anybody: the engine does not choose whose events are worth less.
                let used = self.partition.in_use(name);
                if used.events + used.dead + used.consumers > 0 {
                    let message = format!(
                        "{name} is in use: {} unsettled events, {} dead letters, {} subscriptions; it can be deleted when there are \
                         none",
                        used.events, used.dead, used.consumers
                    );
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
                Some(Removed::Name(name.clone()))
            }
            _ => None,
        };
        let command = Change::new(Record::Admin { at: self.now, command }, true);
        let removed = removed.map(|queues| Change::new(Record::Remove { queues }, true));
        Ok([command].into_iter().chain(removed).collect())
    }

    /// Checks what an administrator wants done with a dead letter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none of that id.
    pub fn dead_letter(&self, what: LetterAction, id: &EventId) -> Result<Change> {
        self.partition.dead_letter(what, id)
    }

    /// Queues that should be gone, as their app or their name is: an engine may have ended after it stored the one and before it stored
    /// the other. To be stored and applied before anything else happens.
    pub fn leftovers(&self) -> Vec<Change> {
        let removed =
            self.partition.left(|app| self.registry.app(app).is_some(), |name| self.registry.event(name).is_some());
        removed.into_iter().map(|queues| Change::new(Record::Remove { queues }, true)).collect()
    }

    /// The sessions that the engine ended by itself since this was asked last: nothing is to be pushed to them any more.
    pub fn take_ended(&mut self) -> Vec<SessionNumber> {
        std::mem::take(&mut self.ended)
    }

    pub(super) fn apply_admin(&mut self, at: Timestamp, command: &AdminCommand) -> Applied {
        let applied = self.registry.apply(at, command);
        if let Some(name) = command.event_name() {
            self.partition.configure(name, self.registry.rules(name));
        }
        self.end_changed_sessions();
        applied
    }

    /// Ends the sessions of apps of which something has changed that could not be opened now as they are.
    pub(super) fn end_changed_sessions(&mut self) {
        for app in self.registry.take_changed() {
            self.end_sessions(&app);
        }
    }

    /// A session whose access key or public key is the app's no more is over, and so is one that subscribes to what the app may not
    /// subscribe to: a client that comes back is told so when it subscribes again, and goes on with the rest.
    fn end_sessions(&mut self, app: &AppId) {
        let over = self.sessions.of(app).filter(|(number, session)| {
            !self.registry.admits(app, &session.key, &session.public_key)
                || self.partition.names_of(*number).any(|name| !self.registry.rights(app, name).subscribe)
        });
        for client_id in over.map(|(_, session)| session.client_id.clone()).collect::<Vec<_>>() {
            let number = self.logout(&client_id);
            self.ended.extend(number);
        }
    }
}
