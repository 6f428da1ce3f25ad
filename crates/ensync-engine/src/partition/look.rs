//! One event, and the events of one queue, as administrators see them. What is read here changes nothing.

use ensync_core::{AppId, EventId, EventName, Timestamp};

use super::dispatch::key_of;
use super::entries::{Entry, Place};
use super::outgoing::{Source, matching};
use super::queue::Queue;
use super::settled::Fate;
use super::timers::NEVER;
use super::{ConsumerNumber, EventKey, Partition};
use crate::model::{Change, EventRef, PublishRecord, Record};

/// How an event stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It could be delivered now.
    Ready,
    /// It is with a client, until its lease ends; without a lease it is on its way to the dead letters.
    InFlight(Option<(ConsumerNumber, Timestamp)>),
    /// It waits for a time.
    Deferred(Option<Timestamp>),
    /// It is a dead letter: why, and since when.
    Dead(String, Timestamp),
    Acked,
    Expired,
    Dropped,
    /// It is gone, so long ago that it is not known how.
    Settled,
}

/// Where events of a queue are that somebody wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peeked {
    Ready,
    InFlight,
    Deferred,
    Dead,
}

impl Peeked {
    fn takes(self, place: Place) -> bool {
        self == match place {
            Place::Fresh | Place::Returned | Place::Returning => Self::Ready,
            Place::Leased | Place::Doomed => Self::InFlight,
            Place::Deferred => Self::Deferred,
            Place::Dead => Self::Dead,
        }
    }
}

/// What is known of an event without a look into the log.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) id: EventId,
    /// The recipient, by its id.
    pub(crate) recipient: AppId,
    pub(crate) event: EventName,
    pub(crate) standing: Standing,
    /// Of one that is not gone.
    pub(crate) entry: Option<Waits>,
}

/// What is kept of an event that is not gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    pub(crate) accepted_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) deliveries: u32,
    /// Of those, the ones that do not count towards the most that there may be.
    pub(crate) handed_back: u8,
    /// Payload and metadata, in bytes.
    pub(crate) size: u32,
    /// Kept in memory only.
    pub(crate) transient: bool,
}

/// An event that was found, and where its record is.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) sight: Sight,
    pub(crate) source: Option<Source>,
    key: EventKey,
}

impl Found {
    /// The publish, if what was read at the source is that.
    pub(crate) fn publish<'a>(&self, record: &'a Record) -> Option<&'a PublishRecord> {
        matching(record, self.key.event).filter(|publish| publish.tag == self.key.tag)
    }
}

/// What a consumer has to do with a queue.
#[derive(Clone, Debug)]
pub(crate) struct Subscribed {
    pub(crate) event: EventName,
    /// Whether it takes events now: not if it is paused, or only holds some still.
    pub(crate) active: bool,
    pub(crate) paused: bool,
    /// Events that it has and has not settled, and their bytes.
    pub(crate) held: usize,
    pub(crate) bytes: u64,
}

/// How far a purge is: of which queue, from which sequence number on, and before which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Purge {
    queue: u32,
    from: u64,
    end: u64,
}

impl Partition {
    /// Finds an event by its id, whosoever it is.
    pub(crate) fn look_up(&self, id: &EventId) -> Option<Found> {
        let key = EventKey::of(id)?;
        let queue = self.queues.get(&key.event.queue)?;
        if key.event.seq >= queue.next_seq {
            return None;
        }
        let (sight, source) = match queue.entries.get(key.event.seq) {
            Some(entry) if key_of(key.event, entry) == key => {
                (self.sight(key.event, queue, entry), self.source(key.event, entry))
            }
            None if !key.transient => {
                let standing = match queue.settled.find(key.event.seq) {
                    Some(Fate::Acked(_)) => Standing::Acked,
                    Some(Fate::Expired) => Standing::Expired,
                    Some(Fate::Dropped) => Standing::Dropped,
                    None => Standing::Settled,
                };
                let (id, event) = (id.clone(), queue.event.clone());
                let sight = Sight { id, recipient: queue.recipient, event, standing, entry: None };
                // The id says where it was first: what was stored once more since lies elsewhere.
                let at = queue.moved.get(&key.event.seq).copied().unwrap_or(key.position);
                (sight, Some(Source::Log(at)))
            }
            _ => return None,
        };
        Some(Found { sight, source, key })
    }

    /// At most `limit` events of a queue that are not gone, in order, from the one after `after` on; `None` if there is no such queue.
    /// Looks at `budget` events at most: the second value is where to go on, if that is not the end.
    pub(crate) fn peek(
        &self,
        (recipient, event): (&AppId, &EventName),
        wanted: Option<Peeked>,
        after: Option<&EventId>,
        (limit, budget): (usize, usize),
    ) -> Option<(Vec<Sight>, Option<EventId>)> {
        let number = self.number(recipient, event)?;
        let queue = self.queues.get(&number)?;
        let after = after.and_then(EventKey::of).filter(|key| key.event.queue == number);
        let first = after.map_or(0, |key| key.event.seq.saturating_add(1));
        let (mut seen, mut looked) = (Vec::new(), 0);
        for (seq, entry) in queue.entries.from(first) {
            let at = EventRef { queue: number, seq };
            looked += 1;
            if wanted.is_none_or(|wanted| wanted.takes(entry.place)) {
                seen.push(self.sight(at, queue, entry));
            }
            if seen.len() >= limit || looked >= budget {
                return Some((seen, Some(key_of(at, entry).to_id())));
            }
        }
        Some((seen, None))
    }

    /// The last `limit` events of a queue that are not gone, in order; `None` if there is no such queue.
    pub(crate) fn last(&self, (recipient, event): (&AppId, &EventName), limit: usize) -> Option<Vec<Sight>> {
        let number = self.number(recipient, event)?;
        let queue = self.queues.get(&number)?;
        let sight = |(seq, entry)| self.sight(EventRef { queue: number, seq }, queue, entry);
        let mut seen: Vec<_> = queue.entries.last(limit).map(sight).collect();
        seen.reverse();
        Some(seen)
    }

    /// What a consumer has to do with queues.
    pub(crate) fn subscribed(&self, consumer: ConsumerNumber) -> impl Iterator<Item = Subscribed> {
        let numbers = self.consumers.get(&consumer).into_iter().flatten();
        numbers.filter_map(move |number| {
            let queue = self.queues.get(number)?;
            let known = queue.consumers.get(&consumer)?;
            Some(Subscribed {
                event: queue.event.clone(),
                active: known.active && !known.paused,
                paused: known.paused,
                held: known.held.len(),
                bytes: known.bytes,
            })
        })
    }

    /// The beginning of a purge of all that waits in a queue now.
    pub(crate) fn purge(&self, recipient: &AppId, event: &EventName) -> Option<Purge> {
        let (queue, end) = self.extent(recipient, event)?;
        Some(Purge { queue, from: 0, end })
    }

    /// The changes of a part of a purge, and what is left to do: see [`waiting_in`](Self::waiting_in).
    pub(crate) fn purge_some(&self, purge: &Purge, bounds: (usize, usize)) -> (Vec<Change>, Option<Purge>) {
        let (events, next) = self.waiting_in(purge.queue, (purge.from, purge.end), bounds);
        let changes = events.into_iter().map(|(event, durable)| Change::new(Record::Drop { event }, durable)).collect();
        (changes, next.map(|from| Purge { from, ..*purge }))
    }

    /// The events of a queue that wait, for a purge, from sequence number `from` on and before `end`: what is with clients is theirs,
    /// and dead letters are dropped as such. At most `limit` of them, and `budget` looked at; the second value is where to go on.
    fn waiting_in(
        &self,
        queue: u32,
        (from, end): (u64, u64),
        (limit, budget): (usize, usize),
    ) -> (Vec<(EventRef, bool)>, Option<u64>) {
        let Some(known) = self.queues.get(&queue) else { return (Vec::new(), None) };
        let (mut found, mut looked) = (Vec::new(), 0);
        for (seq, entry) in known.entries.from(from).take_while(|(seq, _)| *seq < end) {
            if found.len() >= limit || looked >= budget {
                return (found, Some(seq));
            }
            looked += 1;
            if matches!(entry.place, Place::Fresh | Place::Returned | Place::Returning | Place::Deferred) {
                found.push((EventRef { queue, seq }, !entry.transient));
            }
        }
        (found, None)
    }

    /// The number of a queue, and the sequence number after its last event.
    fn extent(&self, recipient: &AppId, event: &EventName) -> Option<(u32, u64)> {
        let number = self.number(recipient, event)?;
        self.queues.get(&number).map(|queue| (number, queue.next_seq))
    }

    fn sight(&self, event: EventRef, queue: &Queue, entry: &Entry) -> Sight {
        let standing = match entry.place {
            Place::Fresh | Place::Returned | Place::Returning => Standing::Ready,
            Place::Leased => Standing::InFlight(
                queue.leases.get(&event.seq).map(|lease| (lease.consumer, lease.until.after(self.still))),
            ),
            Place::Doomed => Standing::InFlight(None),
            Place::Deferred => Standing::Deferred(queue.deferred.get(&event.seq).copied()),
            Place::Dead => {
                let dead = queue.dead.get(&event.seq);
                Standing::Dead(
                    dead.map(|dead| dead.reason.clone()).unwrap_or_default(),
                    dead.map(|dead| dead.at).unwrap_or_default(),
                )
            }
        };
        Sight {
            id: key_of(event, entry).to_id(),
            recipient: queue.recipient,
            event: queue.event.clone(),
            standing,
            entry: Some(Waits {
                accepted_at: entry.accepted_at,
                expires_at: (entry.expires_at != NEVER).then_some(entry.expires_at),
                deliveries: entry.deliveries,
                handed_back: entry.handed_back,
                size: entry.size,
                transient: entry.transient,
            }),
        }
    }
}
