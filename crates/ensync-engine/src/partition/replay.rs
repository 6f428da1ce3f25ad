//! Events once more, settled or not.

use ensync_core::{AppId, Block, EventId, EventName, ReplayInfo, Reply, Result, Timestamp};

use super::dispatch::key_of;
use super::event_id::EventKey;
use super::outgoing::{Source, delivery, matching};
use super::settle::not_found;
use super::settled::Fate;
use super::{Partition, Step};
use crate::model::Record;

/// A replay that was allowed, and waits for the record to be read at its [`source`](Replay::source).
#[derive(Clone, Debug)]
pub struct Replay {
    /// Where the record is, if the id is not forged.
    pub source: Source,
    key: EventKey,
    block: Option<Block>,
    fate: Option<Fate>,
    waits: bool,
    now: Timestamp,
}

impl Replay {
    /// The answer, from what was read.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound) if there was nothing, or another record: the event was dropped by
    /// retention, or its id is forged.
    pub fn answer(&self, record: Option<&Record>) -> Result<Reply> {
        let publish = record.and_then(|record| matching(record, self.key.event));
        // The queue is the caller's, and its number was never another's; the recipient may be a key that was given up since.
        let publish = publish.filter(|publish| publish.tag == self.key.tag);
        let publish = publish.ok_or_else(not_found)?;
        let acknowledged = match self.fate {
            _ if self.waits => false,
            Some(fate) => matches!(fate, Fate::Acked(_)),
            // So long ago that only this is known: it is gone, and it could have expired or not.
            None => publish.expires_at.is_none_or(|at| at > self.now),
        };
        let block = match (self.block, self.fate) {
            (Some(block), _) | (None, Some(Fate::Acked(block))) => block,
            // Clients skip events whose block is 0.
            _ => Block::try_from(1_i64)?,
        };
        let mut replayed = delivery(publish, self.key.to_id(), block);
        replayed.metadata = ReplayInfo::annotate(&replayed.metadata, self.now, acknowledged);
        Ok(Reply::Replayed(Box::new(replayed)))
    }
}

impl Partition {
    /// Finds an event of a recipient, to be read once more.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound).
    pub(crate) fn replay(&self, recipient: &AppId, id: &EventId, event: &EventName) -> Result<Step> {
        let key = EventKey::of(id).ok_or_else(not_found)?;
        let queue = self.queues.get(&key.event.queue).ok_or_else(not_found)?;
        if queue.recipient != *recipient || queue.event != *event || key.event.seq >= queue.next_seq {
            return Err(not_found());
        }
        let entry = queue.entries.get(key.event.seq);
        let source = match entry {
            Some(entry) if key_of(key.event, entry) == key => self.source(key.event, entry).ok_or_else(not_found)?,
            // The id says where it was first: what was stored once more since lies elsewhere.
            None if !key.transient => Source::Log(queue.moved.get(&key.event.seq).copied().unwrap_or(key.position)),
            _ => return Err(not_found()),
        };
        Ok(Step::Replay(Box::new(Replay {
            source,
            key,
            block: entry.and_then(|entry| self.last_block(entry.in_epoch)),
            fate: queue.settled.find(key.event.seq),
            waits: entry.is_some(),
            now: self.now,
        })))
    }
}
