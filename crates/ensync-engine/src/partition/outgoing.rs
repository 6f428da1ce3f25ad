//! Deliveries, as references and as clients get them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ensync_core::{Block, Delivery, EventId};

use super::ConsumerNumber;
use super::handed::Handing;
use crate::model::{EventRef, Position, PublishRecord, Record};

/// A delivery to make: the lease is given, the payload has yet to be read.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// To whom.
    pub consumer: ConsumerNumber,
    pub(super) source: Source,
    /// Which event.
    pub event: EventRef,
    /// Its id.
    pub id: EventId,
    pub(super) block: Block,
    pub(super) attempt: u32,
    pub(super) lease: Duration,
    pub(super) size: u32,
    pub(super) live: Weak<Handing>,
}

/// Where a payload is.
#[derive(Clone, Debug)]
pub enum Source {
    /// In the log.
    Log(Position),
    /// Here.
    Memory(Arc<Record>),
}

impl Outgoing {
    /// Where the payload is.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Payload and metadata, in bytes.
    pub fn size(&self) -> u64 {
        self.size.into()
    }

    /// Whether the lease lasts still. Once it has ended the event is somebody else's to get.
    pub fn is_live(&self) -> bool {
        self.live.strong_count() > 0
    }

    /// The delivery, from the record that was read at its source; `None` if that is another record.
    pub fn delivery(&self, record: &Record) -> Option<Delivery> {
        let publish = matching(record, self.event)?;
        let made = delivery(publish, self.id.clone(), self.block);
        Some(Delivery { attempt: Some(self.attempt), lease: Some(self.lease), ..made })
    }
}

/// The publish of an event, if a record is that.
pub(super) fn matching(record: &Record, event: EventRef) -> Option<&PublishRecord> {
    match record {
        Record::Publish(publish) if publish.at == event => Some(publish),
        _ => None,
    }
}

pub(super) fn delivery(publish: &PublishRecord, id: EventId, block: Block) -> Delivery {
    Delivery {
        event: publish.event.clone(),
        id,
        block,
        payload: publish.payload.clone(),
        metadata: publish.metadata.clone(),
        sender: Some(publish.sender),
        recipient: Some(publish.recipient),
        timestamp: Some(publish.accepted_at),
        attempt: None,
        lease: None,
    }
}
