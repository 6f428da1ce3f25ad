//! What becomes of deliveries.

use std::collections::BTreeSet;

use ensync_core::{AppId, Block, Error, ErrorKind, Reply, Result, Settle, Settlement};

use super::entries::{Entry, Place};
use super::event_id::EventKey;
use super::settled::Fate;
use super::{ConsumerNumber, Outgoing, Partition, Source, Step};
use crate::model::{Change, EventRef, Position, Record, stale};

/// The reason of dead letters that were delivered too often.
const MAX_DELIVERIES: &str = "max deliveries";

/// The reason of dead letters that the log does not have.
const UNREADABLE: &str = "the log is damaged where this event was stored";

/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 1_024;

impl Partition {
    /// Settles a delivery of a consumer of a recipient.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], [`ErrorKind::StaleDelivery`].
    pub(crate) fn settle(&mut self, consumer: ConsumerNumber, recipient: &AppId, settle: &Settle) -> Result<Step> {
        let key = EventKey::of(&settle.id).ok_or_else(not_found)?;
        let event = key.event;
        let queue = self.queues.get(&event.queue).filter(|queue| queue.recipient == *recipient);
        let queue = queue.ok_or_else(not_found)?;
        let Some(entry) = queue.entries.get(event.seq) else {
            if event.seq >= queue.next_seq {
                return Err(not_found());
            }
            // An acknowledgement whose answer was lost is sent again: it gets the same answer.
            let again = match (&settle.how, queue.settled.find(event.seq), settle.block) {
                (Settlement::Ack, Some(Fate::Acked(by)), Some(block)) => by == block,
                _ => false,
            };
            return if again { Ok(Step::Answer(Reply::Done)) } else { Err(stale()) };
        };
        if (entry.tag, entry.transient, entry.position) != (key.tag, key.transient, key.position.as_u64()) {
            return Err(not_found());
        }
        let lease = queue.leases.get(&event.seq).filter(|lease| lease.consumer == consumer).ok_or_else(stale)?;
        if settle.block.is_some_and(|block| block != lease.block) {
            return Err(stale());
        }
        let (durable, deliveries, block, handed_back) =
            (!entry.transient, entry.deliveries, lease.block, entry.handed_back);
        let record = match &settle.how {
            Settlement::Ack => Record::Ack { event, block, at: self.now },
            Settlement::Defer { delay, .. } if delay.is_none() => {
                if let Some(queue) = self.queues.get_mut(&event.queue) {
                    queue.counters.deferred += 1;
                }
                self.release(event);
                return Ok(Step::Answer(Reply::Deferred { until: Some(self.now) }));
            }
            Settlement::Defer { delay, .. } => {
                Record::Defer { event, until: self.now.after(delay.get()), deliveries, handed_back }
            }
            Settlement::Discard { reason } => {
                Record::Discard { event, reason: shortened(reason), at: self.now, deliveries }
            }
            Settlement::Rollback => {
                self.release(event);
                return Ok(Step::Answer(Reply::Done));
            }
            Settlement::Release => {
                self.hand_back(event);
                return Ok(Step::Answer(Reply::Done));
            }
            Settlement::Extend => return Ok(Step::Answer(Reply::Extended { lease: self.extend(event) })),
            other => {
                let message = format!("this engine does not know the settlement {}", other.name());
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        };
        Ok(Step::Commit(vec![Change::new(record, durable)]))
    }

    /// The change that lets an event which came back be delivered again.
    pub(super) fn come_back(&self, event: EventRef) -> Option<Change> {
        let queue = self.queues.get(&event.queue)?;
        let (entry, handed_back) = (queue.entries.get(event.seq)?, queue.returning.get(&event.seq)?);
        let handed_back = entry.handed_back.saturating_add(u8::from(*handed_back));
        Some(Change::new(Record::Return { event, deliveries: entry.deliveries, handed_back }, true))
    }

    /// The change that makes a doomed event a dead letter.
    pub(super) fn verdict(&self, event: EventRef) -> Option<Change> {
        let entry = self.queues.get(&event.queue)?.entries.get(event.seq)?;
        let (reason, deliveries) = (MAX_DELIVERIES.to_owned(), entry.deliveries);
        let doomed = entry.place == Place::Doomed;
        doomed.then(|| Change::new(Record::Discard { event, reason, at: self.now, deliveries }, !entry.transient))
    }

    /// The change that makes a dead letter of an event that is not where the log should have it. One that was stored once more while
    /// its old place was dropped is read there, at once, by whoever is next.
    pub(crate) fn unreadable(&mut self, outgoing: &Outgoing) -> Option<Change> {
        let event = outgoing.event;
        let entry = self.queues.get(&event.queue)?.entries.get(event.seq)?;
        if entry.place == Place::Dead {
            return None;
        }
        if matches!(outgoing.source(), Source::Log(at) if *at == self.current(event, entry)) {
            let (reason, deliveries) = (UNREADABLE.to_owned(), entry.deliveries);
            return Some(Change::new(Record::Discard { event, reason, at: self.now, deliveries }, !entry.transient));
        }
        if outgoing.is_live() {
            self.hand_back(event);
        }
        None
    }

    /// The changes that make dead letters of the events that the log does not have at these places. It looks at all there are.
    pub(crate) fn unreadable_at(&self, places: &BTreeSet<Position>) -> Vec<Change> {
        let waiting = self.queues.iter().flat_map(|(number, queue)| {
            queue.entries.from(0).map(|(seq, entry)| (EventRef { queue: *number, seq }, entry))
        });
        let gone = waiting.filter(|(event, entry)| {
            !entry.transient && entry.place != Place::Dead && places.contains(&self.current(*event, entry))
        });
        let discard = |(event, entry): (EventRef, &Entry)| {
            let (reason, deliveries) = (UNREADABLE.to_owned(), entry.deliveries);
            Change::new(Record::Discard { event, reason, at: self.now, deliveries }, true)
        };
        gone.map(discard).collect()
    }

    /// How many events that are neither settled nor dead letters lie in the log before a place. Those that expire are left out: what has
    /// expired is in no record, so after a crash a clock that is behind has them wait though their place was dropped by right.
    pub(crate) fn waits_before(&self, place: Position) -> usize {
        let waiting = self.queues.iter().flat_map(|(number, queue)| {
            queue.entries.from(0).map(|(seq, entry)| (EventRef { queue: *number, seq }, entry))
        });
        let there = |(event, entry): &(EventRef, &Entry)| {
            let lasts = entry.expires_at == super::timers::NEVER && entry.place != Place::Dead;
            !entry.transient && lasts && self.current(*event, entry) < place
        };
        waiting.filter(there).count()
    }

    /// The block of an unsettled event's last delivery in this run.
    pub(super) fn last_block(&self, in_epoch: u32) -> Option<Block> {
        (in_epoch > 0).then(|| super::dispatch::block(self.settings.epoch, in_epoch))
    }
}

/// The same words for an event that never was and for another app's.
pub(super) fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "the engine has no such event for this app")
}

/// What is kept of a reason.
pub(crate) fn shortened(reason: &str) -> String {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_are_cut_between_characters() {
        assert_eq!(shortened("why"), "why");
        let long = "é".repeat(1_000);
        assert_eq!(shortened(&long).len(), 1_024);
        assert_eq!(shortened(&format!("x{long}")).len(), 1_023);
    }
}
