//! Events that come in.

use ensync_core::{AppId, Error, ErrorKind, Publish, Reply, Result};

use super::dedup::Fingerprint;
use super::{Partition, PublishRecord, Step};
use crate::model::{Change, EventRef, Record};

/// A publish that is allowed, by whom and for whom it is known to be.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    /// The app that publishes: its id, and the public key that it is known by.
    pub(crate) sender_id: AppId,
    pub(crate) sender: AppId,
    /// The id of the app that it is for.
    pub(crate) recipient_id: AppId,
    pub(crate) publish: Publish,
    /// Whether it goes to the log.
    pub(crate) durable: bool,
}

impl Partition {
    /// Takes an event in, or says that it is there already.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LimitExceeded`].
    pub(crate) fn publish(&mut self, publication: Publication) -> Result<Step> {
        let Publication { sender_id, sender, recipient_id, publish, durable } = publication;
        let fingerprint = publish
            .idempotency_key
            .as_ref()
            .map(|key| Fingerprint::new(&sender_id, &recipient_id, &publish.event, key, !durable));
        let dedup = if durable { &self.dedup } else { &self.dedup_in_memory };
        let fingerprint = fingerprint.filter(|_| dedup.remembers());
        if let Some(fingerprint) = fingerprint {
            // What went with its queue does not count: a repetition of it would be lost.
            let first = dedup.find(&fingerprint, self.now).filter(|first| self.queues.contains_key(&first.event.queue));
            if let Some(first) = first {
                return Ok(Step::Answer(Reply::Published { id: first.to_id() }));
            }
            if let Some(first) = self.deciding.get(&fingerprint) {
                return Ok(Step::Same(*first));
            }
        }
        let size = publish.payload.len().saturating_add(publish.metadata.as_str().len()) as u64;
        self.check_quotas(&recipient_id, &publish.event, size, durable)?;
        let queue = self.queue_number(recipient_id, &publish.event)?;
        let at = EventRef { queue, seq: self.reserve(queue)? };
        if let Some(fingerprint) = fingerprint {
            self.deciding.insert(fingerprint, at);
        }
        let record = PublishRecord {
            at,
            tag: self.settings.tag,
            recipient_id,
            recipient: publish.recipient,
            sender_id,
            sender,
            payload: publish.payload,
            metadata: publish.metadata,
            accepted_at: self.now,
            expires_at: self.rules(&publish.event).ttl.map(|ttl| self.now.after(ttl)),
            event: publish.event,
            idempotency_key: publish.idempotency_key,
        };
        Ok(Step::Commit(vec![Change::new(Record::Publish(record), durable)]))
    }

    /// Forgets what was decided and not applied: it is about to be stored and applied, or refused.
    pub(crate) fn batch_ends(&mut self) {
        self.deciding.clear();
    }

    /// Gives out the next sequence number of a queue. One that is never used does no harm.
    fn reserve(&mut self, number: u32) -> Result<u64> {
        let full = || Error::new(ErrorKind::LimitExceeded, "the queue has no more sequence numbers");
        let queue = self.queues.get_mut(&number).ok_or_else(full)?;
        let seq = queue.reserved.max(queue.next_seq);
        queue.reserved = seq.checked_add(1).ok_or_else(full)?;
        Ok(seq)
    }
}
