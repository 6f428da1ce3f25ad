//! Changes, made. Total: any sequence of records leaves a sound state.

use std::sync::Arc;

use ensync_core::{Block, Timestamp};

use super::Partition;
use super::dedup::Fingerprint;
use super::dispatch::key_of;
use super::entries::{Entry, Place};
use super::queue::Dead;
use super::settled::Fate;
use super::timers::{NEVER, Timer};
use super::usage::Usage;
use crate::model::{Applied, EventRef, Position, PublishRecord, Record};

impl Partition {
    /// Makes a change: at its position in the log, or at none if it is not durable. Records read back from the log are applied
    /// the same way.
    pub(crate) fn apply(&mut self, position: Option<Position>, record: &Arc<Record>) -> Applied {
        if position.is_some() {
            self.logged_at = self.logged_at.max(record.time().unwrap_or_default());
        }
        match &**record {
            Record::Publish(publish) => self.apply_publish(position, publish, record),
            Record::Ack { event, block, .. } => self.apply_ack(*event, *block),
            Record::Defer { event, until, deliveries, handed_back } => {
                self.apply_defer(*event, *until, (*deliveries, *handed_back))
            }
            Record::Return { event, deliveries, handed_back } => self.apply_return(*event, (*deliveries, *handed_back)),
            Record::Discard { event, reason, at, deliveries } => {
                self.apply_discard(*event, Dead { reason: reason.clone(), at: *at }, *deliveries)
            }
            Record::Requeue { event, expires_at } => self.apply_requeue(*event, expires_at.unwrap_or(NEVER)),
            Record::Drop { event } => match self.place(*event) {
                Some(_) => {
                    self.remove(*event, Fate::Dropped);
                    Applied::Done
                }
                None => Applied::Ignored,
            },
            Record::Remove { queues } => self.apply_remove(queues),
            // It is the registry's.
            Record::Admin { .. } => Applied::Ignored,
        }
    }

    fn apply_publish(&mut self, position: Option<Position>, publish: &PublishRecord, record: &Arc<Record>) -> Applied {
        let event = publish.at;
        let there = self.queues.get(&event.queue).and_then(|queue| Some((queue, queue.entries.get(event.seq)?)));
        if let Some((queue, entry)) = there {
            // A copy. Its recipient's key may have been given up since; number, place and tag name it well enough.
            let same = queue.event == publish.event && (entry.tag, entry.transient) == (publish.tag, false);
            let Some(position) = position.filter(|_| same) else { return Applied::Ignored };
            let id = key_of(event, entry).to_id();
            self.keep_moved(event);
            if let Some(queue) = self.queues.get_mut(&event.queue) {
                queue.moved.insert(event.seq, position);
            }
            return Applied::Stored(id);
        }
        if !self.add_queue(event.queue, publish.recipient_id, &publish.event) {
            return Applied::Ignored;
        }
        self.keep_queue(event.queue);
        let Some(queue) = self.queues.get_mut(&event.queue) else { return Applied::Ignored };
        if event.seq < queue.next_seq {
            return Applied::Ignored;
        }
        queue.next_seq = event.seq.saturating_add(1);
        if position.is_some() {
            queue.logged_seq = queue.next_seq;
            self.next_stored = self.next_stored.max(event.queue.saturating_add(1));
        }
        let key = publish.idempotency_key.as_ref();
        let (sender, recipient) = (publish.sender_id, publish.recipient_id);
        let fingerprint = key.map(|key| Fingerprint::new(&sender, &recipient, &publish.event, key, position.is_none()));
        let entry = Entry {
            position: position.map_or(0, Position::as_u64),
            accepted_at: publish.accepted_at,
            expires_at: publish.expires_at.unwrap_or(NEVER),
            tag: publish.tag,
            size: u32::try_from(publish.size()).unwrap_or(u32::MAX),
            deliveries: 0,
            in_epoch: 0,
            handed_back: 0,
            place: Place::Fresh,
            transient: position.is_none(),
            slot: 0,
        };
        self.keep(event);
        let Some(queue) = self.queues.get_mut(&event.queue) else { return Applied::Ignored };
        let key = key_of(event, &entry);
        queue.entries.insert(event.seq, entry, self.checkpoints);
        queue.fresh += 1;
        queue.counters.published += 1;
        if position.is_none() {
            self.memory.insert(event, record.clone());
        }
        if let Some(fingerprint) = fingerprint {
            let dedup = if position.is_some() { &mut self.dedup } else { &mut self.dedup_in_memory };
            dedup.insert(sender, fingerprint, key, publish.accepted_at);
        }
        self.charge(event.queue, Usage::of(&entry));
        self.arm_expiry(event, entry.expires_at);
        self.heat(event.queue);
        Applied::Stored(key.to_id())
    }

    fn apply_ack(&mut self, event: EventRef, block: Block) -> Applied {
        let fate = self.queues.get(&event.queue).and_then(|queue| queue.settled.find(event.seq));
        match (self.place(event), fate) {
            (None, Some(Fate::Acked(by))) if by == block => Applied::Done,
            (None | Some(Place::Dead), _) => Applied::Stale,
            _ => {
                self.remove(event, Fate::Acked(block));
                Applied::Done
            }
        }
    }

    fn apply_defer(&mut self, event: EventRef, until: Timestamp, deliveries: (u32, u8)) -> Applied {
        if matches!(self.place(event), None | Some(Place::Dead)) {
            return Applied::Stale;
        }
        let Some(entry) = self.lift(event) else { return Applied::Stale };
        entry.place = Place::Deferred;
        (entry.deliveries, entry.handed_back) = deliveries;
        let expires_at = entry.expires_at;
        if let Some(queue) = self.queues.get_mut(&event.queue) {
            queue.deferred.insert(event.seq, until);
            queue.counters.deferred += 1;
        }
        self.timers.arm(until, Timer::Defer(event));
        self.arm_expiry(event, expires_at);
        self.heat(event.queue);
        Applied::Deferred(until)
    }

    fn apply_return(&mut self, event: EventRef, deliveries: (u32, u8)) -> Applied {
        // Read back, it may be deferred still: nothing in the log says that the time of a deferred one had come.
        if matches!(self.place(event), None | Some(Place::Dead | Place::Leased)) {
            return Applied::Stale;
        }
        let Some(entry) = self.lift(event) else { return Applied::Stale };
        (entry.deliveries, entry.handed_back) = deliveries;
        self.wait_again(event);
        Applied::Done
    }

    fn apply_discard(&mut self, event: EventRef, dead: Dead, deliveries: u32) -> Applied {
        if matches!(self.place(event), None | Some(Place::Dead)) {
            return Applied::Stale;
        }
        let Some(entry) = self.lift(event) else { return Applied::Stale };
        entry.place = Place::Dead;
        entry.deliveries = deliveries;
        self.charge(event.queue, Usage::of_reason(&dead.reason));
        if let Some(queue) = self.queues.get_mut(&event.queue) {
            queue.dead.insert(event.seq, dead);
            queue.counters.dead += 1;
        }
        self.heat(event.queue);
        Applied::Done
    }

    fn apply_requeue(&mut self, event: EventRef, expires_at: Timestamp) -> Applied {
        if self.place(event) != Some(Place::Dead) {
            return Applied::Ignored;
        }
        self.keep(event);
        if let Some(queue) = self.queues.get_mut(&event.queue) {
            queue.counters.requeued += 1;
            if let Some(entry) = queue.entries.get_mut(event.seq) {
                (entry.expires_at, entry.deliveries, entry.handed_back) = (expires_at, 0, 0);
            }
        }
        self.put_back(event);
        Applied::Done
    }

    fn place(&self, event: EventRef) -> Option<Place> {
        self.queues.get(&event.queue)?.entries.get(event.seq).map(|entry| entry.place)
    }
}
