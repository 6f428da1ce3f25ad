//! Who gets what, and how events change their place.

use std::sync::Arc;
use std::time::Duration;

use ensync_core::{Block, Timestamp};

use super::entries::{Entry, Place, chunk_of};
use super::handed::Handing;
use super::outgoing::{Outgoing, Source};
use super::queue::Lease;
use super::settled::Fate;
use super::timers::{NEVER, Timer};
use super::usage::Usage;
use super::{ConsumerNumber, EventKey, Partition};
use crate::model::{EventRef, Position, Rules};

/// Deliveries of one queue in a row, before the next queue has its turn.
const BURST: usize = 32;

impl Partition {
    /// Gives leases for events that wait to clients that have room, at most `budget` of them. Asking again gives the rest.
    pub(crate) fn dispatch(&mut self, budget: usize) -> Vec<Outgoing> {
        let (mut outgoing, mut expired) = (Vec::new(), self.turn);
        while outgoing.len() < budget
            && expired > 0
            && let Some(number) = self.hot.pop_front()
        {
            if let Some(queue) = self.queues.get_mut(&number) {
                queue.hot = false;
            }
            let full = outgoing.len() + BURST.min(budget - outgoing.len());
            outgoing.extend(std::iter::from_fn(|| self.deliver_next(number, &mut expired)).take(full - outgoing.len()));
            if outgoing.len() == full || expired == 0 {
                self.heat(number);
            }
        }
        outgoing
    }

    /// Whether [`dispatch`](Self::dispatch) has something to look at, or a [`tick`](Self::tick) something that waits.
    pub(crate) fn has_work(&self) -> bool {
        !self.hot.is_empty() || self.is_behind()
    }

    /// `expired`: how many events may be passed by that have expired.
    fn deliver_next(&mut self, number: u32, expired: &mut usize) -> Option<Outgoing> {
        let lease_now = self.lease_now();
        let (seq, entry) = loop {
            let queue = self.queues.get_mut(&number)?;
            let (seq, entry) = queue.next_ready()?;
            if entry.expires_at > self.now {
                break (seq, entry);
            }
            *expired = expired.checked_sub(1)?;
            self.remove(EventRef { queue: number, seq }, Fate::Expired);
        };
        let event = EventRef { queue: number, seq };
        let queue = self.queues.get_mut(&number)?;
        if queue.passed_for != seq {
            queue.ring.extend(queue.passed.drain(..));
        }
        let (number_of_consumer, consumer) = loop {
            let next = queue.ring.pop_front()?;
            let Some(consumer) = queue.consumers.get_mut(&next) else { continue };
            if !consumer.wants() {
                // It is offered again when it settles something, or goes on.
                consumer.in_ring = false;
            } else if consumer.fits(entry.size) {
                break (next, consumer);
            } else {
                queue.passed.push(next);
                queue.passed_for = seq;
            }
        };
        let rules = self.rules.get(&queue.event).copied().unwrap_or_else(|| Rules::new(None, &self.settings.defaults));
        consumer.held.insert(seq);
        consumer.bytes = consumer.bytes.saturating_add(u64::from(entry.size));
        consumer.in_ring = consumer.wants();
        if consumer.in_ring {
            queue.ring.push_back(number_of_consumer);
        }
        let entry = queue.entries.get_mut(seq)?;
        match entry.place {
            Place::Fresh => queue.fresh = queue.fresh.saturating_sub(1),
            _ => _ = queue.returned.remove(&seq),
        }
        entry.place = Place::Leased;
        entry.deliveries = entry.deliveries.saturating_add(1);
        entry.in_epoch = entry.in_epoch.saturating_add(1);
        let (entry, block) = (*entry, block(self.settings.epoch, entry.in_epoch));
        let lease = rules.ack_timeout;
        let until = lease_now.after(lease);
        let (handing, consumer) = (Arc::<Handing>::default(), number_of_consumer);
        let live = Arc::downgrade(&handing);
        queue.leases.insert(seq, Lease { consumer, block, handing, until });
        queue.counters.delivered += 1;
        queue.counters.redelivered += u64::from(entry.deliveries > 1);
        self.lease_ends.arm(until, Timer::Lease(event));
        Some(Outgoing {
            consumer,
            source: self.source(event, &entry)?,
            event,
            id: key_of(event, &entry).to_id(),
            block,
            attempt: entry.deliveries,
            lease,
            size: entry.size,
            live,
        })
    }

    /// Where an unsettled event's payload is.
    pub(super) fn source(&self, event: EventRef, entry: &Entry) -> Option<Source> {
        if entry.transient {
            return self.memory.get(&event).cloned().map(Source::Memory);
        }
        Some(Source::Log(self.current(event, entry)))
    }

    /// Has [`dispatch`](Self::dispatch) look at a queue, if it has events and, perhaps, clients.
    pub(super) fn heat(&mut self, number: u32) {
        if let Some(queue) = self.queues.get_mut(&number)
            && !queue.hot
            && queue.has_turns()
        {
            queue.hot = true;
            self.hot.push_back(number);
        }
    }

    /// Puts a client in its queue's ring, if it wants events.
    pub(super) fn offer(&mut self, consumer: ConsumerNumber, number: u32) {
        if let Some(queue) = self.queues.get_mut(&number)
            && let Some(known) = queue.consumers.get_mut(&consumer)
            && known.wants()
            && (!known.in_ring || queue.passed.contains(&consumer))
        {
            known.in_ring = true;
            queue.passed.retain(|&other| other != consumer);
            queue.ring.push_back(consumer);
            self.heat(number);
        }
    }

    /// Takes an event out of the place it is in. Whoever calls gives it another one, or removes it.
    pub(super) fn lift(&mut self, event: EventRef) -> Option<&mut Entry> {
        self.keep(event);
        let EventRef { queue: number, seq } = event;
        let queue = self.queues.get_mut(&number)?;
        let entry = *queue.entries.get(seq)?;
        match entry.place {
            Place::Fresh => queue.fresh = queue.fresh.saturating_sub(1),
            Place::Returned => _ = queue.returned.remove(&seq),
            Place::Dead => {
                if let Some(dead) = queue.dead.remove(&seq) {
                    self.discharge(number, Usage::of_reason(&dead.reason));
                }
            }
            Place::Returning => {
                queue.returning.remove(&seq);
                self.returning.remove(&event);
            }
            Place::Doomed => {
                queue.doomed = queue.doomed.saturating_sub(1);
                self.doomed.remove(&event);
            }
            Place::Deferred => {
                if let Some(until) = queue.deferred.remove(&seq) {
                    self.timers.cancel(until, Timer::Defer(event));
                }
            }
            Place::Leased => {
                if let Some(lease) = queue.leases.remove(&seq) {
                    self.lease_ends.cancel(lease.until, Timer::Lease(event));
                    if let Some(consumer) = self.consumer_mut(lease.consumer, number) {
                        consumer.held.remove(&seq);
                        consumer.bytes = consumer.bytes.saturating_sub(u64::from(entry.size));
                    }
                    self.offer(lease.consumer, number);
                    self.tidy(lease.consumer, number);
                }
            }
        }
        self.queues.get_mut(&number)?.entries.get_mut(seq)
    }

    /// Forgets an event for good.
    pub(super) fn remove(&mut self, event: EventRef, fate: Fate) {
        if self.lift(event).is_some() {
            self.erase(event, fate);
        }
    }

    /// Forgets an event that was lifted.
    fn erase(&mut self, event: EventRef, fate: Fate) {
        let Some(queue) = self.queues.get_mut(&event.queue) else { return };
        match fate {
            Fate::Acked(_) => queue.counters.acked += 1,
            Fate::Expired => queue.counters.expired += 1,
            Fate::Dropped => queue.counters.dropped += 1,
        }
        let logged = self.forget(event) && fate != Fate::Expired;
        self.keep_queue(event.queue);
        self.remember_one(event, fate, logged);
        self.heat(event.queue);
    }

    /// Makes an event wait for its next delivery. One that has expired goes at the next tick: records about it may be on their way
    /// through the log, and have to find the same when they are read back.
    pub(super) fn put_back(&mut self, event: EventRef) {
        if self.lift(event).is_some() {
            self.wait_again(event);
        }
    }

    /// The same, for an event that was lifted.
    pub(super) fn wait_again(&mut self, event: EventRef) {
        let Some(queue) = self.queues.get_mut(&event.queue) else { return };
        let Some(entry) = queue.entries.get_mut(event.seq) else { return };
        let (expires_at, exhausted) = (entry.expires_at, entry.in_epoch >= MAX_IN_EPOCH);
        if exhausted {
            // One more delivery would have the block of this one.
            return self.doom(event);
        }
        entry.place = Place::Returned;
        if let Some(queue) = self.queues.get_mut(&event.queue) {
            queue.returned.insert(event.seq);
        }
        self.arm_expiry(event, expires_at);
        self.heat(event.queue);
    }

    /// Starts a lease anew, and says how long it lasts from now.
    pub(super) fn extend(&mut self, event: EventRef) -> Option<Duration> {
        let now = self.lease_now();
        let lasts = self.rules(&self.queues.get(&event.queue)?.event).ack_timeout;
        let queue = self.queues.get_mut(&event.queue)?;
        let lease = queue.leases.get_mut(&event.seq)?;
        lease.handing.is_extended();
        let until = now.after(lasts);
        self.lease_ends.cancel(std::mem::replace(&mut lease.until, until), Timer::Lease(event));
        self.lease_ends.arm(until, Timer::Lease(event));
        Some(lasts)
    }

    /// Ends a delivery that came to nothing: the event waits again, or has been delivered often enough.
    pub(super) fn release(&mut self, event: EventRef) {
        if self.take_back_unmade(event) {
            return;
        }
        let Some(queue) = self.queues.get(&event.queue) else { return };
        let Some(entry) = queue.entries.get(event.seq) else { return };
        let counted = entry.deliveries.saturating_sub(entry.handed_back.into());
        let often = counted >= self.rules(&queue.event).max_deliveries.get();
        if often && entry.expires_at > self.now {
            self.lift(event);
            self.doom(event);
        } else {
            self.give_back(event, false);
        }
    }

    /// Has an event wait again once the log says how often it was delivered, so that neither a restart nor a checkpoint forgets that
    /// a client saw it.
    fn give_back(&mut self, event: EventRef, handed_back: bool) {
        let Some(entry) = self.lift(event) else { return };
        if entry.transient {
            entry.handed_back = entry.handed_back.saturating_add(u8::from(handed_back));
            return self.wait_again(event);
        }
        if entry.in_epoch >= MAX_IN_EPOCH {
            // One more delivery would have the block of this one.
            return self.doom(event);
        }
        entry.place = Place::Returning;
        if let Some(queue) = self.queues.get_mut(&event.queue) {
            queue.returning.insert(event.seq, handed_back);
            self.returning.insert(event);
        }
    }

    /// Ends a delivery whose session ended, or that the client hands back: the client may never have looked at the event, so this
    /// does not count towards the limit, unless it happens too often.
    pub(super) fn hand_back(&mut self, event: EventRef) {
        if self.take_back_unmade(event) {
            return;
        }
        let entry = self.queues.get(&event.queue).and_then(|queue| queue.entries.get(event.seq));
        if entry.is_some_and(|entry| entry.handed_back < MAX_HANDED_BACK) {
            self.give_back(event, true);
        } else {
            self.release(event);
        }
    }

    /// Makes sure that an event is looked at when it expires.
    pub(super) fn arm_expiry(&mut self, event: EventRef, expires_at: Timestamp) {
        let timer = Timer::Expiry { queue: event.queue, chunk: chunk_of(event.seq) };
        if let Some(queue) = self.queues.get_mut(&event.queue)
            && let Some(armed) = queue.entries.armed_mut(chunk_of(event.seq))
            && expires_at < *armed
        {
            self.timers.cancel(*armed, timer);
            self.timers.arm(expires_at, timer);
            *armed = expires_at;
        }
    }

    /// Removes the events of a chunk that have expired where they waited: how many it looked at. Deliveries are left to their clients.
    pub(super) fn sweep(&mut self, number: u32, chunk: u64) -> usize {
        let now = self.now;
        let Some(queue) = self.queues.get_mut(&number) else { return 0 };
        if let Some(armed) = queue.entries.armed_mut(chunk) {
            *armed = NEVER;
        }
        let waits = |entry: &Entry| matches!(entry.place, Place::Fresh | Place::Returned | Place::Deferred);
        let waiting: Vec<(u64, Timestamp)> =
            queue.entries.of_chunk(chunk).filter(|(_, e)| waits(e)).map(|(seq, e)| (seq, e.expires_at)).collect();
        let count = waiting.len();
        for (seq, expires_at) in waiting {
            let event = EventRef { queue: number, seq };
            if expires_at <= now {
                self.remove(event, Fate::Expired);
            } else {
                self.arm_expiry(event, expires_at);
            }
        }
        count
    }

    /// Has a lifted event become a dead letter, once the log says so.
    fn doom(&mut self, event: EventRef) {
        if let Some(queue) = self.queues.get_mut(&event.queue)
            && let Some(entry) = queue.entries.get_mut(event.seq)
        {
            entry.place = Place::Doomed;
            queue.doomed += 1;
            self.doomed.insert(event);
        }
        self.heat(event.queue);
    }
}

/// The key of an unsettled event.
pub(crate) fn key_of(event: EventRef, entry: &Entry) -> EventKey {
    EventKey { transient: entry.transient, tag: entry.tag, event, position: Position::new(entry.position) }
}

/// Deliveries that sessions may hand back before they count: more than any rolling restart needs, few enough that an event which
/// brings down whoever reads it becomes a dead letter.
pub(crate) const MAX_HANDED_BACK: u8 = 100;

/// Deliveries of an event in one run of the engine that a block can count.
pub(crate) const MAX_IN_EPOCH: u32 = (1 << 20) - 1;

/// The block of an event's nth delivery in a run: `epoch · 2²⁰ + n`, which grows over deliveries and over restarts, and stays
/// below 2⁵³ so that JavaScript reads it.
pub(crate) fn block(epoch: u64, nth: u32) -> Block {
    let block = (epoch.min((1 << 33) - 1) << 20) | u64::from(nth.min(MAX_IN_EPOCH));
    #[expect(clippy::expect_used, reason = "33 and 20 bits are less than the 63 that a block can have")]
    Block::new(block).expect("53 bits fit")
}
