//! The part of the state that the log holds: for checkpoints, and to compare.

use ensync_core::Timestamp;

use super::Partition;
use super::dedup::{Fingerprint, Remembered};
use super::dispatch::key_of;
use super::entries::{Entry, Place};
use super::event_id::EventKey;
use super::fates::Horizon;
use super::queue::{Dead, Queue};
use super::settled::{Fate, Kind, Run};
use super::timers::{NEVER, Timer};
use super::usage::Usage;
use crate::model::{
    EventRef, PartitionSnapshot, Position, Record, Settings, Share, SnapshotEvent, SnapshotPublish, SnapshotPublisher,
    SnapshotQueue, SnapshotSettled, SnapshotWait,
};

impl Partition {
    /// The durable part. What has expired by now, and is with nobody, is not in it.
    pub(crate) fn snapshot(&self) -> PartitionSnapshot {
        PartitionSnapshot {
            logged_at: self.logged_at,
            next_queue: self.next_stored,
            queues: self
                .queues
                .iter()
                .filter(|(_, q)| q.logged_seq > 0)
                .map(|(n, q)| self.durable_queue(*n, q))
                .collect(),
            publishes: self
                .dedup
                .iter()
                .map(|(app, publishes)| SnapshotPublisher { app, publishes: publishes.map(durable_publish).collect() })
                .collect(),
        }
    }

    /// A queue of a durable part, by its number, that is not in a partition: neither it nor its recipient, or one of them.
    pub(crate) fn misplaced(share: Share, durable: &PartitionSnapshot) -> Option<u32> {
        let here = |queue: &SnapshotQueue| share.has_queue(queue.number) && share.has(&queue.recipient);
        durable.queues.iter().find(|queue| !here(queue)).map(|queue| queue.number)
    }

    /// A partition that goes on from a durable part. The log's records after the one that was applied last come next.
    pub(crate) fn restore(settings: Settings, durable: PartitionSnapshot) -> Self {
        let mut state = Self::new(settings);
        state.logged_at = durable.logged_at;
        (state.next_number, state.next_stored) = (durable.next_queue, durable.next_queue);
        for queue in durable.queues {
            if state.add_queue(queue.number, queue.recipient, &queue.event) {
                state.restore_queue(queue);
            }
        }
        for SnapshotPublisher { app, publishes } in durable.publishes {
            for SnapshotPublish { fingerprint, event, tag, position, at } in publishes {
                let key = EventKey { transient: false, tag, event, position };
                state.dedup.insert(app, Fingerprint::from_bytes(fingerprint), key, at);
            }
        }
        state
    }

    /// Whether an event of this record is unsettled still. A copy of another would bring back what was deleted.
    pub(crate) fn holds(&self, record: &Record) -> bool {
        let Record::Publish(publish) = record else { return false };
        let entry = self.queues.get(&publish.at.queue).and_then(|queue| queue.entries.get(publish.at.seq));
        entry.is_some_and(|entry| entry.tag == publish.tag)
    }

    /// Where the log has an unsettled event.
    pub(super) fn current(&self, event: EventRef, entry: &Entry) -> Position {
        let moved = self.queues.get(&event.queue).and_then(|queue| queue.moved.get(&event.seq));
        moved.copied().unwrap_or(Position::new(entry.position))
    }

    fn durable_queue(&self, number: u32, queue: &Queue) -> SnapshotQueue {
        let events = queue.entries.from(0).filter(|(_, entry)| lasts(entry, self.now));
        let current = |seq, entry: &Entry| self.current(EventRef { queue: number, seq }, entry);
        let event = |(seq, entry): (u64, &Entry)| durable_event(number, queue, (seq, entry), current(seq, entry));
        SnapshotQueue {
            number,
            recipient: queue.recipient,
            event: queue.event.clone(),
            next_seq: queue.logged_seq,
            events: events.map(event).collect(),
            settled: durable_settled(queue, self.horizon()),
            moved: queue
                .moved
                .iter()
                .filter(|(seq, _)| queue.entries.get(**seq).is_none())
                .map(|(s, at)| (*s, *at))
                .collect(),
        }
    }

    fn restore_queue(&mut self, durable: SnapshotQueue) {
        let mut used = Usage::default();
        for event in durable.events {
            let SnapshotEvent { seq, position, current, tag, accepted_at, expires_at, size, .. } = event;
            let SnapshotEvent { deliveries, handed_back, waits, .. } = event;
            let event = EventRef { queue: durable.number, seq };
            let Some(queue) = self.queues.get_mut(&durable.number) else { return };
            let place = match waits {
                SnapshotWait::Client => {
                    queue.fresh += 1;
                    Place::Fresh
                }
                SnapshotWait::Until(until) => {
                    queue.deferred.insert(seq, until);
                    self.timers.arm(until, Timer::Defer(event));
                    Place::Deferred
                }
                SnapshotWait::Administrator { reason, at } => {
                    used.add(Usage::of_reason(&reason));
                    queue.dead.insert(seq, Dead { reason, at });
                    Place::Dead
                }
            };
            let expires_at = expires_at.unwrap_or(NEVER);
            let entry = Entry {
                position: position.as_u64(),
                accepted_at,
                expires_at,
                tag,
                size,
                deliveries,
                in_epoch: 0,
                handed_back,
                place,
                transient: false,
                slot: 0,
            };
            queue.entries.insert(seq, entry, 0);
            used.add(Usage::of(&entry));
            if current != position {
                queue.moved.insert(seq, current);
            }
            if place != Place::Dead {
                self.arm_expiry(event, expires_at);
            }
        }
        self.charge(durable.number, used);
        if let Some(queue) = self.queues.get_mut(&durable.number) {
            (queue.next_seq, queue.logged_seq) = (durable.next_seq, durable.next_seq);
            queue.moved.extend(durable.moved);
        }
        for SnapshotSettled { first, last, by, at } in durable.settled {
            let fate = by.map_or(Fate::Dropped, Fate::Acked);
            self.remember(durable.number, Kind::of(fate, true), Run { first, last, fate, at });
        }
    }
}

/// Whether an event is worth keeping: a client may still settle what it has when that expires.
pub(super) fn lasts(entry: &Entry, now: Timestamp) -> bool {
    let kept = matches!(entry.place, Place::Leased | Place::Returning | Place::Doomed | Place::Dead);
    !entry.transient && (kept || entry.expires_at > now)
}

pub(super) fn durable_event(
    number: u32,
    queue: &Queue,
    (seq, entry): (u64, &Entry),
    current: Position,
) -> SnapshotEvent {
    let waits = match entry.place {
        Place::Deferred => queue.deferred.get(&seq).map(|until| SnapshotWait::Until(*until)),
        Place::Dead => {
            queue.dead.get(&seq).map(|dead| SnapshotWait::Administrator { reason: dead.reason.clone(), at: dead.at })
        }
        _ => None,
    };
    // Its last delivery came to nothing yet that the log knows of.
    let unlogged = matches!(entry.place, Place::Leased | Place::Returning | Place::Doomed);
    SnapshotEvent {
        seq,
        position: key_of(EventRef { queue: number, seq }, entry).position,
        current,
        tag: entry.tag,
        accepted_at: entry.accepted_at,
        expires_at: (entry.expires_at != NEVER).then_some(entry.expires_at),
        size: entry.size,
        deliveries: entry.deliveries.saturating_sub(u32::from(unlogged)),
        handed_back: entry.handed_back,
        waits: waits.unwrap_or(SnapshotWait::Client),
    }
}

pub(super) fn durable_settled(queue: &Queue, horizon: Horizon) -> Vec<SnapshotSettled> {
    let settled = |Run { first, last, fate, at }: Run| {
        let by = match fate {
            Fate::Acked(block) => Some(block),
            Fate::Expired | Fate::Dropped => None,
        };
        SnapshotSettled { first, last, by, at }
    };
    queue.settled.logged(|at| horizon.keeps(at)).map(settled).collect()
}

pub(super) fn durable_publish(Remembered { publish, event: key, at }: Remembered) -> SnapshotPublish {
    SnapshotPublish { fingerprint: *publish.as_bytes(), event: key.event, tag: key.tag, position: key.position, at }
}
