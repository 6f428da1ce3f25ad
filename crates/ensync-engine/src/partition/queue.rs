//! One queue: the unsettled events of one recipient under one event name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ensync_core::{AppId, Block, EventName, Timestamp};

use super::ConsumerNumber;
use super::consume::Consumer;
use super::entries::{Entries, Entry, Place};
use super::handed::Handing;
use super::settled::Settled;
use super::usage::Usage;
use crate::model::Position;

/// A delivery that is with a client.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) consumer: ConsumerNumber,
    pub(crate) block: Block,
    pub(super) handing: Arc<Handing>,
    /// When it ends, in the time of leases.
    pub(crate) until: Timestamp,
}

/// Why and when an event became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
}

/// How often things happened to a queue since the engine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueCounters {
    /// Events accepted. Repeated publishes under one idempotency key count once.
    pub published: u64,
    /// Deliveries made, first and later ones.
    pub delivered: u64,
    /// Deliveries that were not an event's first.
    pub redelivered: u64,
    /// Events acknowledged.
    pub acked: u64,
    /// Deliveries that clients deferred, also those by no time at all.
    pub deferred: u64,
    /// Events that became dead letters.
    pub dead: u64,
    /// Events that expired.
    pub expired: u64,
    /// Dead letters that were put back.
    pub requeued: u64,
    /// Events that administrators gave up: dead letters, and what a purge took.
    pub dropped: u64,
}

impl QueueCounters {
    /// Both together.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { published, delivered, redelivered, acked, deferred, dead, expired, requeued, dropped } = other;
        self.published += published;
        self.delivered += delivered;
        self.redelivered += redelivered;
        self.acked += acked;
        self.deferred += deferred;
        self.dead += dead;
        self.expired += expired;
        self.requeued += requeued;
        self.dropped += dropped;
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) recipient: AppId,
    pub(crate) event: EventName,
    pub(crate) entries: Entries,
    /// The sequence number after the last event that was applied.
    pub(crate) next_seq: u64,
    /// The same, of the events in the log.
    pub(crate) logged_seq: u64,
    /// The sequence number after the last one that was given out: events on their way through the log have theirs already.
    pub(crate) reserved: u64,
    /// No event before this one is [`Place::Fresh`].
    cursor: u64,
    /// How many are.
    pub(crate) fresh: usize,
    pub(crate) returned: BTreeSet<u64>,
    pub(crate) leases: BTreeMap<u64, Lease>,
    pub(crate) deferred: BTreeMap<u64, Timestamp>,
    pub(crate) dead: BTreeMap<u64, Dead>,
    /// Those that are [`Place::Returning`], and whether the delivery does not count.
    pub(crate) returning: BTreeMap<u64, bool>,
    /// How many are [`Place::Doomed`].
    pub(crate) doomed: usize,
    /// Whose turn it is: consumers that may have room.
    pub(crate) ring: VecDeque<ConsumerNumber>,
    /// Consumers whose turn it was when the next event did not fit beside what they have: they wait for another one, or until they
    /// settle something.
    pub(crate) passed: Vec<ConsumerNumber>,
    /// The event they were passed over for.
    pub(crate) passed_for: u64,
    pub(crate) consumers: BTreeMap<ConsumerNumber, Consumer>,
    /// How many of them are subscribed.
    pub(crate) subscribed: usize,
    /// Whether the state's list of queues to look at holds this one.
    pub(crate) hot: bool,
    pub(crate) counters: QueueCounters,
    pub(crate) usage: Usage,
    /// What became of events that are gone.
    pub(super) settled: Settled,
    /// Where the log has the latest copy of events that were appended more than once; also of events that are gone, for as long as
    /// it has them.
    pub(crate) moved: BTreeMap<u64, Position>,
    /// The last checkpoint that holds what is said of the queue itself, or that was begun before it was made.
    pub(super) imaged: u32,
    /// Once it is gone: the last checkpoint that was begun before.
    pub(super) left_after: u32,
}

impl Queue {
    /// `checkpoint` is the number of the last one that was begun.
    pub(crate) fn new(recipient: AppId, event: EventName, checkpoint: u32) -> Self {
        Self {
            recipient,
            event,
            entries: Entries::default(),
            next_seq: 0,
            logged_seq: 0,
            reserved: 0,
            cursor: 0,
            fresh: 0,
            returned: BTreeSet::new(),
            leases: BTreeMap::new(),
            deferred: BTreeMap::new(),
            dead: BTreeMap::new(),
            returning: BTreeMap::new(),
            doomed: 0,
            ring: VecDeque::new(),
            passed: Vec::new(),
            passed_for: 0,
            consumers: BTreeMap::new(),
            subscribed: 0,
            hot: false,
            counters: QueueCounters::default(),
            usage: Usage::default(),
            settled: Settled::default(),
            moved: BTreeMap::new(),
            imaged: checkpoint,
            left_after: 0,
        }
    }

    /// How many events could be delivered now.
    pub(crate) fn ready(&self) -> usize {
        self.fresh + self.returned.len()
    }

    /// Whether it is worth asking for a delivery.
    pub(crate) fn has_turns(&mut self) -> bool {
        let news = |queue: &mut Self| queue.next_ready().is_some_and(|(seq, _)| seq != queue.passed_for);
        self.ready() > 0 && (!self.ring.is_empty() || (!self.passed.is_empty() && news(self)))
    }

    /// Takes a consumer out of the ring.
    pub(crate) fn take_turn(&mut self, consumer: ConsumerNumber) {
        self.ring.retain(|&other| other != consumer);
        self.passed.retain(|&other| other != consumer);
    }

    /// The event to deliver next: returned ones first, for they are older.
    pub(crate) fn next_ready(&mut self) -> Option<(u64, Entry)> {
        if let Some(&seq) = self.returned.first() {
            return self.entries.get(seq).map(|entry| (seq, *entry));
        }
        if self.fresh == 0 {
            return None;
        }
        // Each event is passed by once, so this costs O(1) per event on the whole.
        let (seq, entry) = self.entries.from(self.cursor).find(|(_, entry)| entry.place == Place::Fresh)?;
        self.cursor = seq;
        Some((seq, *entry))
    }

    /// When the oldest event that is neither settled nor a dead letter was accepted.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        let fresh = (self.fresh > 0).then(|| self.entries.from(self.cursor).find(|(_, e)| e.place == Place::Fresh));
        let firsts = [
            self.returned.first().copied(),
            self.returning.first_key_value().map(|(seq, _)| *seq),
            self.leases.first_key_value().map(|(seq, _)| *seq),
            self.deferred.first_key_value().map(|(seq, _)| *seq),
            fresh.flatten().map(|(seq, _)| seq),
        ];
        let first = firsts.into_iter().flatten().min()?;
        self.entries.get(first).map(|entry| entry.accepted_at)
    }
}
