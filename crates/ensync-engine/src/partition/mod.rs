//! Queues: who gets which event when. A state machine without I/O or clock, and a fold of the records about events.
//!
//! It knows recipients by their ids and consumers by their numbers, and takes both on trust: who somebody is, and what he may do, is for
//! the registry and for whoever calls.
//!
//! [`Partition::tick`] brings time. Given the same calls a partition does the same, always.

mod apply;
mod checkpoint;
mod consume;
mod dedup;
mod dispatch;
mod entries;
mod event_id;
mod fates;
mod filter;
mod handed;
mod image;
mod inspect;
mod letters;
mod look;
mod outgoing;
mod publish;
mod publishes;
mod queue;
mod remove;
mod replay;
mod settle;
mod settled;
mod snapshot;
mod timers;
mod totals;
mod turn;
mod usage;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ensync_core::{AppId, Error, ErrorKind, EventName, Reply, Result, Timestamp};

pub(crate) use consume::Window;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use dispatch::key_of;
#[cfg(test)]
pub(crate) use dispatch::{MAX_HANDED_BACK, MAX_IN_EPOCH, block};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use entries::{Place, chunk_of};
pub(crate) use event_id::EventKey;
pub use filter::LetterFilter;
pub(crate) use filter::holds;
pub use inspect::{DeadLetter, QueueStats};
pub use letters::LetterAction;
pub(crate) use look::{Found, Peeked, Purge, Sight, Standing, Subscribed};
pub use outgoing::{Outgoing, Source};
pub(crate) use publish::Publication;
pub use queue::QueueCounters;
pub use replay::Replay;
pub(crate) use settle::shortened;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use timers::Timer;
pub(crate) use totals::{Count, InUse, Totals};
pub(crate) use turn::Walk;
pub(crate) use usage::Usage;

use crate::model::{Change, EventRef, PublishRecord, Record, Rules, Settings};
use dedup::{Dedup, Fingerprint};
use fates::Fates;
use image::Image;
use queue::Queue;
use timers::Timers;
use turn::{Dropping, Parting, TURN};

/// The number of a consumer: given out once in the life of the process.
pub(crate) type ConsumerNumber = u64;

/// The queues of some recipients: of those that are [its share](crate::model::Share).
#[derive(Debug)]
pub(crate) struct Partition {
    settings: Settings,
    /// What holds for the events of names that say anything.
    rules: HashMap<EventName, Rules>,
    /// The latest time that [`Partition::tick`] was told.
    pub(crate) now: Timestamp,
    pub(crate) queues: BTreeMap<u32, Queue>,
    /// By the recipient's id and the event name.
    pub(crate) numbers: HashMap<(AppId, EventName), u32>,
    /// The number after the largest that a queue ever had, and after the largest of which the log holds an event.
    next_number: u32,
    next_stored: u32,
    /// Which queues know a consumer.
    pub(crate) consumers: HashMap<ConsumerNumber, BTreeSet<u32>>,
    pub(crate) timers: Timers,
    /// When leases end, in the time of leases: see [`Partition::stood_still`].
    pub(crate) lease_ends: Timers,
    /// How long the engine stood still, all in all.
    still: Duration,
    /// The latest time that a record of the log names.
    logged_at: Timestamp,
    dedup: Dedup,
    /// For events in memory only, so that what is remembered of the others is what the log makes.
    dedup_in_memory: Dedup,
    /// Publishes under idempotency keys that were decided and are not applied yet.
    deciding: HashMap<Fingerprint, EventRef>,
    /// How long it is remembered what became of events.
    pub(crate) fates: Fates,
    /// What waits for each recipient.
    pub(crate) usage: HashMap<AppId, Usage>,
    /// Events that are not in the log. No map that moves all it holds when it grows.
    pub(crate) memory: BTreeMap<EventRef, Arc<Record>>,
    /// Events that were delivered too often, until the log has them as dead letters.
    pub(crate) doomed: BTreeSet<EventRef>,
    /// Events that came back, until the log has that.
    pub(crate) returning: BTreeSet<EventRef>,
    /// Queues that [`Partition::dispatch`] has to look at.
    pub(crate) hot: VecDeque<u32>,
    /// What queues that are gone counted, by event name.
    retired: BTreeMap<EventName, QueueCounters>,
    /// How many queues are gone.
    removals: u64,
    /// Queues that are gone, until what they held is forgotten.
    pub(crate) leaving: BTreeMap<u32, Queue>,
    /// What consumers that are gone had, until it goes back.
    pub(crate) parting: VecDeque<Parting>,
    /// What the log has dropped, until it is forgotten where things were moved to there.
    dropping: VecDeque<Dropping>,
    /// How many checkpoints were begun, and the one that is being made.
    checkpoints: u32,
    image: Option<Image>,
    /// How much is done at a time of what can wait.
    turn: usize,
}

/// What has to be done for a command.
#[derive(Debug)]
pub enum Step {
    /// Nothing: this is the answer.
    Answer(Reply),
    /// Store and apply these, in this order. What the last one comes to is the answer.
    Commit(Vec<Change>),
    /// Nothing: it is the same publish as that of this event, which was decided and is not applied yet. What that comes to is the answer.
    Same(EventRef),
    /// Read a record; [`Replay::answer`] makes the answer of it.
    Replay(Box<Replay>),
}

impl Partition {
    /// A partition before any record.
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            rules: HashMap::new(),
            now: Timestamp::default(),
            queues: BTreeMap::new(),
            numbers: HashMap::new(),
            next_number: 0,
            next_stored: 0,
            consumers: HashMap::new(),
            timers: Timers::default(),
            lease_ends: Timers::default(),
            still: Duration::ZERO,
            logged_at: Timestamp::default(),
            dedup: Dedup::new(&settings.limits, settings.share),
            dedup_in_memory: Dedup::new(&settings.limits, settings.share),
            deciding: HashMap::new(),
            fates: Fates::new(&settings.limits, settings.share),
            usage: HashMap::new(),
            memory: BTreeMap::new(),
            doomed: BTreeSet::new(),
            returning: BTreeSet::new(),
            hot: VecDeque::new(),
            retired: BTreeMap::new(),
            removals: 0,
            leaving: BTreeMap::new(),
            parting: VecDeque::new(),
            dropping: VecDeque::new(),
            checkpoints: 0,
            image: None,
            turn: TURN,
            settings,
        }
    }

    /// Says what holds for the events of a name from now on. Nothing that a record makes depends on it.
    pub(crate) fn configure(&mut self, name: &EventName, rules: Rules) {
        if rules == Rules::new(None, &self.settings.defaults) {
            self.rules.remove(name);
        } else {
            self.rules.insert(name.clone(), rules);
        }
    }

    /// Which of them it is.
    #[cfg(test)]
    pub(crate) fn share(&self) -> crate::model::Share {
        self.settings.share
    }

    /// Whether the queues of a recipient are here, by its id.
    pub(crate) fn has(&self, recipient: &AppId) -> bool {
        self.settings.share.has(recipient)
    }

    fn rules(&self, name: &EventName) -> Rules {
        self.rules.get(name).copied().unwrap_or_else(|| Rules::new(None, &self.settings.defaults))
    }

    /// Tells that for so long nothing that clients had sent was looked at. Leases do not pass meanwhile: who holds one cannot have
    /// done anything about it.
    pub(crate) fn stood_still(&mut self, time: Duration) {
        self.still = self.still.saturating_add(time);
    }

    /// Whether anybody holds a lease.
    pub(crate) fn has_leases(&self) -> bool {
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
    pub(crate) fn logged_at(&self) -> Timestamp {
        self.logged_at
    }

    /// When something is due next; until then [`tick`](Self::tick) would do nothing.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        [self.next_lease_end(), self.timers.next()].into_iter().flatten().min()
    }

    /// Ends the time of reading the log back: [`QueueCounters`] count from here. All that is due is done: nobody waits yet. How many events
    /// have expired by now.
    pub(crate) fn recovered(&mut self, now: Timestamp) -> u64 {
        self.tick(now);
        while self.is_behind() {
            self.tick(now);
        }
        let counters = self.queues.values_mut().map(|queue| std::mem::take(&mut queue.counters));
        counters.map(|counters| counters.expired).sum()
    }

    /// What became of events without a client's command, at most `limit` of them: they came back, or were delivered too often and
    /// have to become dead letters. Until these changes are applied the events are delivered to nobody, and named here again.
    pub(crate) fn pending(&self, limit: usize) -> Vec<Change> {
        let back = self.returning.iter().filter_map(|&event| self.come_back(event));
        back.chain(self.doomed.iter().filter_map(|&event| self.verdict(event))).take(limit).collect()
    }

    fn number(&self, recipient: &AppId, event: &EventName) -> Option<u32> {
        self.numbers.get(&(*recipient, event.clone())).copied()
    }

    /// The number of a queue, which is made if it is not there.
    fn queue_number(&mut self, recipient: AppId, event: &EventName) -> Result<u32> {
        if let Some(number) = self.number(&recipient, event) {
            return Ok(number);
        }
        let none_left = || Error::new(ErrorKind::LimitExceeded, "the engine has no more queue numbers");
        let number = self.settings.share.queue_from(self.next_number).ok_or_else(none_left)?;
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
        self.queues.insert(number, Queue::new(recipient, event.clone(), self.checkpoints));
        true
    }
}
