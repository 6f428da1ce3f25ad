//! What administrators ask for, of whatever it is about; and what that does to sessions.

use ensync_core::{AppId, Error, ErrorKind, EventName, Result, Timestamp};

use super::{Access, Applied, InUse, Partition, SessionNumber, SessionOf};
use crate::model::{AdminCommand, Removed};

impl Access {
    /// Checks what an administrator asks for. Whether anything is under an event name that is to go is for the partitions to say: see
    /// [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] for an app, a key or an event name that exists, and for one that is in use;
    /// [`ErrorKind::InvalidInput`] for a name of more than 256 bytes or options out of range;
    /// [`ErrorKind::NotFound`] for an app, [`ErrorKind::UnknownEvent`] for an event name, and [`ErrorKind::NotFound`] for a key or
    /// a grant that does not exist.
    pub(crate) fn administer(&self, command: AdminCommand) -> Result<AdminCommand> {
        if let AdminCommand::UseEvent { name } = &command {
            self.check_first_use(name)?;
        }
        self.registry.decide(command)
    }

    /// Has nobody use an event name from now on, until [`open`](Self::open): what partitions say is under it stays true.
    pub(crate) fn close(&mut self, name: &EventName) {
        self.closing = Some(name.clone());
    }

    /// Ends that.
    pub(crate) fn open(&mut self) {
        self.closing = None;
    }

    /// Does what an administrator asked for. What that does to sessions, [`take_ended`](Self::take_ended) and [`over`](Self::over) say.
    pub(crate) fn apply(&mut self, at: Timestamp, command: &AdminCommand) -> Applied {
        self.version += 1;
        self.registry.apply(at, command)
    }

    /// Whether [`take_ended`](Self::take_ended) may have something to say.
    pub(crate) fn has_changed(&self) -> bool {
        self.registry.has_changed()
    }

    /// Ends the sessions whose access key or public key is the app's no more, of apps of which something has changed since this was asked
    /// last. Says which sessions ended, and which apps that were.
    pub(crate) fn take_ended(&mut self) -> (Vec<SessionOf>, Vec<AppId>) {
        let changed: Vec<_> = self.registry.take_changed().into_iter().collect();
        for app in &changed {
            let admits = |session: &super::Session| self.registry.admits(app, &session.key, &session.public_key);
            let over = self.sessions.of(app).filter(|(_, session)| !admits(session));
            let over: Vec<_> = over.map(|(number, _)| number).collect();
            let ended = over.into_iter().filter_map(|number| self.end(number)).collect::<Vec<_>>();
            self.ended.extend(ended);
        }
        (std::mem::take(&mut self.ended), changed)
    }

    /// The sessions of an app that take what it may not take any more: they are over, and their clients are told so when they subscribe
    /// again, and go on with the rest. The partition is the app's.
    pub(crate) fn over(&self, partition: &Partition, app: &AppId) -> Vec<SessionNumber> {
        let may = |name: &EventName| self.registry.rights(app, name).subscribe;
        let over = self.sessions.of(app).filter(|(number, _)| partition.names_of(*number).any(|name| !may(name)));
        over.map(|(number, _)| number).collect()
    }

    /// What of a partition's queues should be gone, as their app or their name is: an engine may have ended after it stored the one and
    /// before it stored the other. To be stored and applied before anything else happens.
    pub(crate) fn leftovers(&self, partition: &Partition) -> Vec<Removed> {
        partition.left(|app| self.registry.app(app).is_some(), |name| self.registry.event(name).is_some())
    }

    /// What there is under an event name.
    pub(crate) fn in_use(&self, partition: &Partition, name: &EventName) -> InUse {
        partition.in_use(name, |app| self.registry.app(app).is_some())
    }

    /// Whether an app was deleted, and is not there again. One that the registry neither knows nor deleted was made by a later one.
    pub(crate) fn is_deleted(&self, app: &AppId) -> bool {
        self.registry.is_deleted(app)
    }
}

/// What goes with what an administrator wants gone.
pub(crate) fn removed(command: &AdminCommand) -> Option<Removed> {
    match command {
        AdminCommand::DeleteApp { app } => Some(Removed::Recipient(*app)),
        AdminCommand::DeleteEvent { name } => Some(Removed::Name(name.clone())),
        _ => None,
    }
}

/// Refuses to delete an event name under which there is something. A name goes only when that takes nothing from anybody: the engine does
/// not choose whose events are worth less.
///
/// # Errors
///
/// [`ErrorKind::Conflict`].
pub(crate) fn check_unused(name: &EventName, used: InUse) -> Result<()> {
    if used == InUse::default() {
        return Ok(());
    }
    let InUse { events, dead, consumers } = used;
    let message = format!(
        "{name} is in use: {events} unsettled events, {dead} dead letters, {consumers} subscriptions; it can be deleted when there are \
         none"
    );
    Err(Error::new(ErrorKind::Conflict, message))
}
