//! The engine's state machine: every rule about who gets which event when, without I/O, clock or runtime.
//!
//! A command is decided, what it changes is stored, and then applied:
//!
//! 1. [`State::decide`] checks a command against the state. It is refused, or answered at once, or gives the [`Change`]s to store.
//! 2. The changes are appended to the log, those of many commands together.
//! 3. [`State::apply`] makes each change at its position, in the log's order. The [`Applied`] of a command's last change is its answer.
//! 4. [`State::dispatch`] says what to deliver now.
//!
//! Between 1 and 3 nothing else happens to the state than 1 for other commands. If the log refuses, the changes are simply not
//! applied. Applying the log's records to a new state makes the same durable state ([`State::snapshot`]) as living through them:
//! leases and sessions are not in the log, so after a restart all that is unsettled can be delivered again.
//!
//! It is three things. The registry knows who may do what, and the partition which events there are: two folds, of which neither knows
//! the other. Sessions stand before both: they say who speaks, ask the registry what he may, and hand the partition no more than a
//! recipient's id and a consumer's number.
//!
//! [`State::tick`] brings time; the state never looks at a clock. Given the same calls it does the same, always.

mod administer;
mod admit;
mod census;
mod checkpoint;
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

use std::sync::Arc;
use std::time::Duration;

use ensync_core::{AppId, ClientId, Error, ErrorKind, Peer, Result, Timestamp, WirePayload, crypto};

pub use admit::Admitted;
pub(crate) use census::Census;
pub use inspect::AppInfo;
pub(crate) use look::{Purge, SessionSeen};
pub use sessions::SessionNumber;

pub use crate::model::{Applied, Change, Defaults, Limits, Quotas, Rate, Settings};
pub(crate) use crate::partition::{Count, Walk};
pub use crate::partition::{
    DeadLetter, LetterAction, LetterFilter, Outgoing, QueueCounters, QueueStats, Replay, Source, Step,
};
pub(crate) use crate::partition::{Found, Peeked, Sight, Standing, Subscribed};

use crate::model::{KeyHash, Position, Record, Snapshot};
use crate::partition::Partition;
use crate::registry::Registry;
use rate::Rates;
use sessions::{Session, Sessions};

/// What the engine knows.
#[derive(Debug)]
pub struct State {
    settings: Settings,
    /// The latest time that [`State::tick`] was told.
    now: Timestamp,
    registry: Registry,
    partition: Partition,
    sessions: Sessions,
    rates: Rates,
    /// Sessions that the state ended by itself, until somebody asks.
    ended: Vec<SessionNumber>,
}

impl State {
    /// The state before any record.
    pub fn new(settings: Settings) -> Self {
        Self::of(settings.clone(), Registry::new(settings.defaults.clone()), Partition::new(settings))
    }

    fn of(settings: Settings, registry: Registry, partition: Partition) -> Self {
        let (sessions, rates, ended) = (Sessions::default(), Rates::default(), Vec::new());
        let mut state = Self { settings, now: Timestamp::default(), registry, partition, sessions, rates, ended };
        for (name, _) in state.registry.events() {
            state.partition.configure(name, state.registry.rules(name));
        }
        state
    }

    /// What it was told when it was made.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Makes a change: at its position in the log, or at none if it is not durable. Records read back from the log are applied
    /// the same way.
    pub fn apply(&mut self, position: Option<Position>, record: &Arc<Record>) -> Applied {
        match &**record {
            Record::Admin { at, command } => self.apply_admin(*at, command),
            _ => self.partition.apply(position, record),
        }
    }

    /// The durable part. What has expired by now, and is with nobody, is not in it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { registry: self.registry.snapshot(self.now), partition: self.partition.snapshot() }
    }

    /// A state that goes on from a durable part. The log's records after the one that was applied last come next.
    pub fn restore(settings: Settings, durable: Snapshot) -> Self {
        let registry = Registry::restore(settings.defaults.clone(), durable.registry);
        Self::of(settings.clone(), registry, Partition::restore(settings, durable.partition))
    }

    /// Brings time, and does what is due: leases end, deferred events wait again, expired ones go, old access keys
    /// end. Time never runs backwards: an earlier time than the last counts as the last. Where much is due at once some of it is left for
    /// the next time: [`has_work`](Self::has_work) says so.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.registry.tick(self.now);
        self.end_changed_sessions();
        self.partition.tick(self.now);
    }

    /// Tells that for so long nothing that clients had sent was looked at. Leases do not pass meanwhile: who holds one cannot have
    /// done anything about it.
    pub fn stood_still(&mut self, time: Duration) {
        self.partition.stood_still(time);
    }

    /// Whether anybody holds a lease.
    pub fn has_leases(&self) -> bool {
        self.partition.has_leases()
    }

    /// The time, as of the last [`tick`](Self::tick).
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// The latest time that a record of the log names. Whoever goes on from it begins no earlier.
    pub fn logged_at(&self) -> Timestamp {
        self.registry.logged_at().max(self.partition.logged_at())
    }

    /// When something is due next; until then [`tick`](Self::tick) would do nothing.
    pub fn next_due(&self) -> Option<Timestamp> {
        [self.partition.next_due(), self.registry.next_end()].into_iter().flatten().min()
    }

    /// Ends the time of reading the log back: [`QueueCounters`] count from here.
    pub fn recovered(&mut self, now: Timestamp) {
        self.tick(now);
        self.partition.recovered(now);
    }

    /// What became of events without a client's command, at most `limit` of them: they came back, or were delivered too often and
    /// have to become dead letters. Until these changes are applied the events are delivered to nobody, and named here again.
    pub fn pending(&self, limit: usize) -> Vec<Change> {
        self.partition.pending(limit)
    }

    /// The change that makes a dead letter of an event that is not where the log should have it. One that was stored once more while
    /// its old place was dropped is delivered from there instead.
    pub fn unreadable(&mut self, outgoing: &Outgoing) -> Option<Change> {
        self.partition.unreadable(outgoing)
    }

    /// Whether a [`tick`](Self::tick) has to take back more of what sessions had that are gone.
    pub(crate) fn takes_back(&self) -> bool {
        self.partition.takes_back()
    }

    /// Gives leases for events that wait to clients that have room, at most `budget` of them. Asking again gives the rest.
    pub fn dispatch(&mut self, budget: usize) -> Vec<Outgoing> {
        self.partition.dispatch(budget)
    }

    /// Whether [`dispatch`](Self::dispatch) has something to look at, or [`tick`](Self::tick) has left something.
    pub fn has_work(&self) -> bool {
        self.partition.has_work()
    }

    /// Goes on with a walk over the events that wait and the log has: at most `most` of them. Each is shown with where the log has its
    /// payload, and with the bytes of payload and metadata: what must be appended again, as it is, before that part of the log can be
    /// dropped. What is stored while the walk goes on may be shown or not, and lies after all that the log had when it began.
    pub(crate) fn walk(&self, walk: &mut Walk, most: usize, show: impl FnMut(Position, u32)) {
        self.partition.walk(walk, most, show);
    }

    /// Whether an event of this record is unsettled still. A copy of another would bring back what was deleted.
    pub(crate) fn holds(&self, record: &Record) -> bool {
        self.partition.holds(record)
    }

    /// Forgets what was needed to find what the log does not have any more.
    pub(crate) fn dropped(&mut self, from: Position, to: Position) {
        self.partition.dropped(from, to);
    }

    /// Opens a session for the app whose key hashes to `key`; the app's id is the second value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] if there is none, [`ErrorKind::Forbidden`] if it is disabled, [`ErrorKind::LimitExceeded`] if there are too many sessions,
    /// [`ErrorKind::Internal`] if the client id is taken.
    pub fn login(&mut self, key: &KeyHash, client_id: ClientId) -> Result<(SessionNumber, AppId)> {
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

    /// Ends a session: its deliveries go back, its subscriptions and pauses are gone. Returns its number, if there was one.
    pub fn logout(&mut self, client_id: &ClientId) -> Option<SessionNumber> {
        let number = self.sessions.number(client_id)?;
        self.sessions.close(number)?;
        self.partition.leave(number);
        Some(number)
    }

    /// The public key of an app, by its id: what its clients and others know it by.
    pub fn public_key(&self, app: &AppId) -> AppId {
        self.registry.app(app).map_or(*app, |app| app.public_key)
    }

    /// The public keys that an app had before, and that are still its own: the earliest first.
    pub fn earlier_keys(&self, app: &AppId) -> &[AppId] {
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
