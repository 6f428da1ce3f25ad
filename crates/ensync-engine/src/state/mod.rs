//! Who speaks, and what he may: what stands before queues. With them it is the engine's state, every rule about who gets which event
//! when, without I/O, clock or runtime.
//!
//! A command is decided, what it changes is stored, and then applied:
//!
//! 1. [`Access`] checks a command, asks the registry what its session may, and hands a partition no more than a recipient's id and a
//!    consumer's number. It is refused, or answered at once, or gives the [`Change`]s to store.
//! 2. The changes are appended to the partition's log, those of many commands together.
//! 3. The partition makes each change at its position, in the log's order. The [`Applied`] of a command's last change is its answer.
//! 4. The partition says what to deliver now.
//!
//! Between 1 and 3 nothing else happens to a partition than 1 for other commands. If the log refuses, the changes are simply not
//! applied. Applying the log's records to a new partition makes the same durable state as living through them:
//! leases and sessions are not in the log, so after a restart all that is unsettled can be delivered again.
//!
//! The registry and the partitions are folds of logs of their own, of which none knows another. What administrators ask for is decided
//! and stored first, applied then, and known to every partition before it is answered: what was decided under rights
//! that it ended is stored before, or refused.
//!
//! Ticks bring time; nothing here ever looks at a clock. Given the same calls it does the same, always.

mod administer;
mod admit;
mod census;
mod decide;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod harness;
mod inspect;
mod look;
mod rate;
mod sessions;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use ensync_core::{
    AppId, ClientId, Error, ErrorKind, EventId, EventName, Peer, Result, Timestamp, WirePayload, crypto,
};

pub(crate) use administer::{check_unused, removed};
pub use admit::Admitted;
pub(crate) use census::{Census, Counted};
pub(crate) use decide::Use;
#[cfg(test)]
pub(crate) use harness::state::State;
pub use inspect::AppInfo;
pub(crate) use look::SessionSeen;
pub use sessions::SessionNumber;

pub use crate::model::{Applied, Change, Defaults, Limits, Quotas, Rate, Settings};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use crate::partition::Walk;
pub(crate) use crate::partition::{Count, InUse, Partition, Purge};
pub use crate::partition::{
    DeadLetter, LetterAction, LetterFilter, Outgoing, QueueCounters, QueueStats, Replay, Source, Step,
};
pub(crate) use crate::partition::{Found, Peeked, Sight, Standing, Subscribed};

use crate::model::{KeyHash, RegistrySnapshot, partition_of};
pub(crate) use crate::registry::Picture;
use crate::registry::Registry;
use rate::Rates;
use sessions::{Session, Sessions};

/// Who is logged in, and what he may do.
#[derive(Debug)]
pub struct Access {
    settings: Settings,
    /// The latest time that [`Access::tick`] was told.
    now: Timestamp,
    registry: Registry,
    sessions: Sessions,
    /// How fast apps publish, to whomever.
    rates: Mutex<Rates>,
    /// An event name that is about to be deleted, if nothing is under it.
    closing: Option<EventName>,
    /// Sessions that ended by themselves, until somebody asks.
    ended: Vec<SessionOf>,
    /// Grows with whatever may end a session but its own end.
    version: u64,
}

/// Says that a session was open at some time, when what it sent with this set out to its partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    version: u64,
    session: SessionNumber,
}

/// A session, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionOf {
    pub(crate) number: SessionNumber,
    /// Its app, by its id: that app's partition has what the session takes.
    pub(crate) app: AppId,
}

impl Access {
    /// Before anything was asked for.
    pub(crate) fn new(settings: Settings) -> Self {
        let registry = Registry::new(settings.defaults.clone());
        Self::of(settings, registry)
    }

    /// Goes on from a snapshot. What the log has after it comes next.
    pub(crate) fn restore(settings: Settings, durable: RegistrySnapshot) -> Self {
        let registry = Registry::restore(settings.defaults.clone(), durable);
        Self::of(settings, registry)
    }

    fn of(settings: Settings, registry: Registry) -> Self {
        let (sessions, rates, ended) = (Sessions::default(), Mutex::default(), Vec::new());
        Self { settings, now: Timestamp::default(), registry, sessions, rates, closing: None, ended, version: 0 }
    }

    /// What it was told when it was made.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many partitions there are.
    fn partitions(&self) -> NonZeroU32 {
        self.settings.share.count()
    }

    /// The registry, but for access keys that have ended by now.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn snapshot(&self) -> RegistrySnapshot {
        self.registry.snapshot(self.now)
    }

    /// The same, to be spelled out later.
    pub(crate) fn picture(&self) -> Picture {
        self.registry.picture(self.now)
    }

    /// Tells a partition what holds for the events of each name.
    pub(crate) fn configure(&self, partition: &mut Partition) {
        for (name, _) in self.registry.events() {
            partition.configure(name, self.registry.rules(name));
        }
    }

    /// The same, of one name.
    pub(crate) fn configure_name(&self, partition: &mut Partition, name: &EventName) {
        partition.configure(name, self.registry.rules(name));
    }

    /// Brings time: old access keys end, and sessions with them. Time never runs backwards: an earlier time than the last counts as the
    /// last.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.registry.tick(self.now);
    }

    /// The latest time that a record names. Whoever goes on from it begins no earlier.
    pub(crate) fn logged_at(&self) -> Timestamp {
        self.registry.logged_at()
    }

    /// When [`tick`](Self::tick) would do something next.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.registry.next_end()
    }

    /// The index of the partition that has the queues of an app, by its id.
    pub(crate) fn partition_of(&self, app: &AppId) -> usize {
        partition_of(app, self.partitions())
    }

    /// Opens a session for the app whose key hashes to `key`; the app's id is the second value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] if there is none, [`ErrorKind::Forbidden`] if it is disabled, [`ErrorKind::LimitExceeded`] if there are too many sessions,
    /// [`ErrorKind::Internal`] if the client id is taken.
    pub(crate) fn login(&mut self, key: &KeyHash, client_id: ClientId) -> Result<(SessionNumber, AppId)> {
        let Some(app) = self.registry.app_by_key(key) else {
            return Err(Error::new(ErrorKind::Unauthenticated, "the engine does not know this app key; check the key"));
        };
        if self.registry.app(&app).is_some_and(|app| !app.enabled) {
            let message = "this app is disabled; whoever administers the engine can enable it";
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        let limits = &self.settings.limits;
        if self.sessions.len() >= limits.max_sessions {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                "the engine has as many sessions as it may (max_sessions); try later",
            ));
        }
        if self.sessions.len_of(&app) >= limits.max_sessions_per_app {
            let limit = limits.max_sessions_per_app;
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "this app has {limit} sessions, which is its limit (max_sessions_per_app); close some, or try later"
                ),
            ));
        }
        let public_key = self.public_key(&app);
        let number = self.sessions.open(Session { client_id, app, key: *key, public_key });
        let number = number.ok_or_else(|| Error::new(ErrorKind::Internal, "a client id was given out twice"))?;
        Ok((number, app))
    }

    /// Ends a session, as its client wants or its connection is gone. What it took is with its app's partition, until that is told. What
    /// it sent before is carried out.
    pub(crate) fn logout(&mut self, client_id: &ClientId) -> Option<SessionOf> {
        let number = self.sessions.number(client_id)?;
        let session = self.sessions.close(number)?;
        Some(SessionOf { number, app: session.app })
    }

    /// Ends a session that may not go on: no command of it is carried out any more.
    pub(crate) fn end(&mut self, number: SessionNumber) -> Option<SessionOf> {
        let ended = self.let_go(number)?;
        self.version += 1;
        Some(ended)
    }

    /// Ends one that nobody reads any more. What it sent before is carried out, as for one that has logged out.
    pub(crate) fn let_go(&mut self, number: SessionNumber) -> Option<SessionOf> {
        let session = self.sessions.close(number)?;
        Some(SessionOf { number, app: session.app })
    }

    /// Lets a session send a command: it is taken for open if nothing has changed by then that may have ended it but its client's own wish.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] if it has ended.
    pub(crate) fn pass(&self, peer: &Peer) -> Result<Pass> {
        self.session(peer).map(|session| Pass { version: self.version, session })
    }

    /// The session that was open when it sent something; another's change may have ended it since.
    fn admitted(&self, peer: &Peer, pass: Pass) -> Result<SessionNumber> {
        if pass.version == self.version { Ok(pass.session) } else { self.session(peer) }
    }

    /// Ends all sessions of the apps of a partition, as the engine stops. Publishes that they sent before may still be carried out: nothing
    /// was taken from them.
    pub(crate) fn end_all(&mut self, partition: usize) -> Vec<SessionOf> {
        let all: Vec<_> = self.sessions.after(None, None).map(|(number, session)| (number, session.app)).collect();
        let there = all.into_iter().filter(|(_, app)| self.partition_of(app) == partition).collect::<Vec<_>>();
        let over = there.into_iter().filter(|(number, _)| self.sessions.close(*number).is_some());
        over.map(|(number, app)| SessionOf { number, app }).collect()
    }

    /// The public key of an app, by its id: what its clients and others know it by.
    pub(crate) fn public_key(&self, app: &AppId) -> AppId {
        self.registry.app(app).map_or(*app, |app| app.public_key)
    }

    /// The public keys that an app had before, and that are still its own: the earliest first.
    pub(crate) fn earlier_keys(&self, app: &AppId) -> &[AppId] {
        self.registry.app(app).map_or(&[], |app| &app.earlier_keys)
    }

    /// Who is told to be the sender of what an app publishes: it by its public key of now, or by an earlier one of its own, if that
    /// sealed the envelope. A reader would take anything else for a forgery.
    fn sender(&self, app: &AppId, payload: &WirePayload) -> AppId {
        let earlier = self.earlier_keys(app);
        let sealed_by = || match crypto::inspect(payload) {
            Ok(crypto::Inspected::Sealed { from, .. }) => from.filter(|from| earlier.contains(from)),
            _ => None,
        };
        // Only then is it worth a look into the envelope.
        if earlier.is_empty() { None } else { sealed_by() }.unwrap_or_else(|| self.public_key(app))
    }

    /// The session that speaks.
    fn session(&self, peer: &Peer) -> Result<SessionNumber> {
        match self.sessions.find(&peer.client_id) {
            Some((number, session)) if session.app == peer.app_id => Ok(number),
            _ => Err(Error::new(ErrorKind::Unauthenticated, "the session has ended; log in again")),
        }
    }
}

/// The index of the partition that has an event, by its id; `None` if that is no id of this engine.
pub(crate) fn partition_of_event(id: &EventId, partitions: NonZeroU32) -> Option<usize> {
    crate::partition::EventKey::of(id).map(|key| crate::model::partition_of_queue(key.event.queue, partitions))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // No code that holds a lock can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
