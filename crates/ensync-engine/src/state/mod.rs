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
//! [`State::tick`] brings time; the state never looks at a clock. Given the same calls it does the same, always.

mod admin;
mod admit;
mod apply;
mod decide;
mod dedup;
mod dispatch;
mod entries;
mod event_id;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod harness;
mod inspect;
mod queue;
mod rate;
mod registry;
mod remove;
mod replay;
mod sessions;
mod settings;
mod settle;
mod settled;
mod snapshot;
#[cfg(test)]
mod tests;
mod timers;
pub(crate) mod totals;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ensync_core::{AppId, ClientId, Error, ErrorKind, EventName, Peer, Reply, Result, Timestamp, WirePayload, crypto};

pub use admin::LetterAction;
pub use admit::Admitted;
pub use apply::Applied;
pub use dispatch::{Outgoing, Source};
pub(crate) use event_id::EventKey;
pub use inspect::{AppInfo, DeadLetter, QueueStats};
pub use queue::QueueCounters;
pub use rate::Rate;
pub use replay::Replay;
pub use sessions::SessionNumber;
pub use settings::{Defaults, Limits, Settings};

use crate::model::{EventRef, KeyHash, Record};
use dedup::Dedup;
use queue::Queue;
use rate::Rates;
use registry::Registry;
use sessions::Sessions;
use timers::{Timer, Timers};

/// What the engine knows.
#[derive(Debug)]
pub struct State {
    settings: Settings,
    /// The latest time that [`State::tick`] was told.
    now: Timestamp,
    registry: Registry,
    sessions: Sessions,
    queues: BTreeMap<u32, Queue>,
    /// By the recipient's id and the event name.
    numbers: HashMap<(AppId, EventName), u32>,
    /// The number after the largest that a queue ever had, and after the largest of which the log holds an event.
    next_number: u32,
    next_stored: u32,
    timers: Timers,
    /// When leases end, in the time of leases: see [`State::stood_still`].
    lease_ends: Timers,
    /// How long the engine stood still, all in all.
    still: Duration,
    /// The latest time that a record of the log names.
    logged_at: Timestamp,
    dedup: Dedup,
    /// For events in memory only, so that what is remembered of the others is what the log makes.
    dedup_in_memory: Dedup,
    rates: Rates,
    /// Events that are not in the log.
    memory: HashMap<EventRef, Arc<Record>>,
    /// Events that were delivered too often, until the log has them as dead letters.
    doomed: BTreeSet<EventRef>,
    /// Queues that [`State::dispatch`] has to look at.
    hot: VecDeque<u32>,
    /// What queues that are gone counted, by event name.
    retired: BTreeMap<EventName, QueueCounters>,
    /// Sessions that the state ended by itself, until somebody asks.
    ended: Vec<SessionNumber>,
}

/// What has to be done for a command.
#[derive(Debug)]
pub enum Step {
    /// Nothing: this is the answer.
    Answer(Reply),
    /// Store and apply these, in this order. What the last one comes to is the answer.
    Commit(Vec<Change>),
    /// Read a record; [`Replay::answer`] makes the answer of it.
    Replay(Box<Replay>),
}

/// A change to store and to apply.
#[derive(Clone, Debug)]
pub struct Change {
    /// What.
    pub record: Arc<Record>,
    /// Whether the log has to have it first. If not, it is applied without a position, in its turn.
    pub durable: bool,
}

impl Change {
    fn new(record: Record, durable: bool) -> Self {
        Self { record: Arc::new(record), durable }
    }
}

impl State {
    /// The state before any record.
    pub fn new(settings: Settings) -> Self {
        Self {
            now: Timestamp::default(),
            registry: Registry::new(settings.defaults.clone()),
            sessions: Sessions::default(),
            queues: BTreeMap::new(),
            numbers: HashMap::new(),
            next_number: 0,
            next_stored: 0,
            timers: Timers::default(),
            lease_ends: Timers::default(),
            still: Duration::ZERO,
            logged_at: Timestamp::default(),
            dedup: Dedup::new(&settings.limits),
            dedup_in_memory: Dedup::new(&settings.limits),
            rates: Rates::default(),
            memory: HashMap::new(),
            doomed: BTreeSet::new(),
            hot: VecDeque::new(),
            retired: BTreeMap::new(),
            ended: Vec::new(),
            settings,
        }
    }

    /// What it was told when it was made.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Brings time, and does what is due: leases end, deferred events wait again, expired ones go, old access keys
    /// end. Time never runs backwards: an earlier time than the last counts as the last.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.dedup.forget_old(self.now);
        self.dedup_in_memory.forget_old(self.now);
        self.end_old_keys(self.now);
        while let Some(timer) = self.pop_timer() {
            match timer {
                Timer::Lease(event) => self.release(event),
                Timer::Defer(event) => self.put_back(event),
                Timer::Expiry { queue, chunk } => self.sweep(queue, chunk),
            }
        }
    }

    /// What is due by now, the earliest first.
    fn pop_timer(&mut self) -> Option<Timer> {
        let (lease, other) = (self.next_lease_end(), self.timers.next());
        match (lease, other) {
            (Some(lease), other) if other.is_none_or(|other| lease <= other) => self.lease_ends.pop(self.lease_now()),
            _ => self.timers.pop(self.now),
        }
    }

    /// Tells that for so long nothing that clients had sent was looked at. Leases do not pass meanwhile: who holds one cannot have
    /// done anything about it.
    pub fn stood_still(&mut self, time: Duration) {
        self.still = self.still.saturating_add(time);
    }

    /// Whether anybody holds a lease.
    pub fn has_leases(&self) -> bool {
        self.lease_ends.next().is_some()
    }

    /// The time by which leases are measured: it stands still with the engine.
    fn lease_now(&self) -> Timestamp {
        let still = u64::try_from(self.still.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(self.now.as_millis().saturating_sub(still))
    }

    fn next_lease_end(&self) -> Option<Timestamp> {
        self.lease_ends.next().map(|end| end.after(self.still))
    }

    /// The latest time that a record of the log names. Whoever goes on from it begins no earlier.
    pub fn logged_at(&self) -> Timestamp {
        self.logged_at
    }

    /// When something is due next; until then [`tick`](Self::tick) would do nothing.
    pub fn next_due(&self) -> Option<Timestamp> {
        [self.next_lease_end(), self.timers.next(), self.registry.next_end()].into_iter().flatten().min()
    }

    /// Ends the time of reading the log back: [`QueueCounters`] count from here.
    pub fn recovered(&mut self, now: Timestamp) {
        self.tick(now);
        for queue in self.queues.values_mut() {
            queue.counters = QueueCounters::default();
        }
    }

    /// Events that were delivered too often and have to become dead letters, at most `limit` of them. Until these changes are
    /// applied the events are delivered to nobody, and named here again.
    pub fn verdicts(&self, limit: usize) -> Vec<Change> {
        self.doomed.iter().take(limit).filter_map(|&event| self.verdict(event)).collect()
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
        let number = self.sessions.open(client_id, app, *key);
        let number = number.ok_or_else(|| Error::new(ErrorKind::Internal, "a client id was given out twice"))?;
        Ok((number, app))
    }

    /// Ends a session: its deliveries go back, its subscriptions and pauses are gone. Returns its number, if there was one.
    pub fn logout(&mut self, client_id: &ClientId) -> Option<SessionNumber> {
        let number = self.sessions.number(client_id)?;
        let session = self.sessions.close(number)?;
        for (&queue, consumer) in &session.consumers {
            if let Some(queue) = self.queues.get_mut(&queue) {
                queue.consumers -= usize::from(consumer.active);
                if consumer.in_ring {
                    queue.take_turn(number);
                }
            }
            for &seq in &consumer.held {
                self.hand_back(EventRef { queue, seq });
            }
        }
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

    /// The number of a queue, which is made if it is not there.
    fn queue_number(&mut self, recipient: AppId, event: &EventName) -> Result<u32> {
        if let Some(&number) = self.numbers.get(&(recipient, event.clone())) {
            return Ok(number);
        }
        let number = self.next_number;
        if number == u32::MAX {
            return Err(Error::new(ErrorKind::LimitExceeded, "the engine has no more queue numbers"));
        }
        self.add_queue(number, recipient, event);
        Ok(number)
    }

    /// Whether the queue of that number is of that name; it is made if neither is there.
    fn add_queue(&mut self, number: u32, recipient: AppId, event: &EventName) -> bool {
        if let Some(queue) = self.queues.get(&number) {
            return queue.recipient == recipient && queue.event == *event;
        }
        if self.numbers.contains_key(&(recipient, event.clone())) {
            return false;
        }
        self.next_number = self.next_number.max(number.saturating_add(1));
        self.numbers.insert((recipient, event.clone()), number);
        self.queues.insert(number, Queue::new(recipient, event.clone()));
        true
    }
}
