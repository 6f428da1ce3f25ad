//! Command → request.

use ensync_core::{Block, Error, ErrorKind, PayloadMetadata, Publish, Result, Settle, Subscribe};

use crate::generated::*;

/// Refuses here what cannot be carried, and what the connection would refuse after carrying it.
pub(super) fn check(publish: &Publish, max_bytes: usize) -> Result<()> {
    if !publish.payload.looks_like_base64() {
        return Err(Error::new(ErrorKind::MalformedEnvelope, "the sealed payload is not base64 text"));
    }
    let bytes = publish.payload.len() + publish.metadata.as_str().len();
    if bytes <= max_bytes {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::PayloadTooLarge,
        format!(
            "the sealed event has {bytes} bytes, this connection carries {max_bytes} \
             (the option max_message_bytes); send a reference to the data instead"
        ),
    ))
}

pub(super) fn publish(client_id: &str, publish: &Publish) -> PublishRequest {
    PublishRequest {
        client_id: client_id.to_owned(),
        message_name: publish.event.to_string(),
        payload: publish.payload.as_str().unwrap_or_default().to_owned(),
        delivery_to: publish.recipient.to_string(),
        metadata: publish.metadata.as_str().to_owned(),
        payload_metadata: publish.payload_metadata.as_ref().map(PayloadMetadata::to_json),
        idempotency_key: publish.idempotency_key.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

pub(super) fn subscribe(client_id: &str, subscribe: &Subscribe) -> SubscribeRequest {
    SubscribeRequest {
        client_id: client_id.to_owned(),
        message_name: subscribe.event.as_str().to_owned(),
        max_in_flight: subscribe.max_in_flight.map_or(0, Into::into),
        max_bytes_in_flight: subscribe.max_bytes_in_flight.map_or(0, Into::into),
    }
}

pub(super) fn ack(client_id: &str, settle: &Settle) -> AcknowledgeRequest {
    let (message_idem, message_name, partition_block) = delivery(settle);
    AcknowledgeRequest { client_id: client_id.to_owned(), message_idem, message_name, partition_block }
}

pub(super) fn defer(client_id: &str, settle: &Settle, delay_ms: i64, priority: i32, reason: &str) -> DeferRequest {
    let (message_idem, message_name, partition_block) = delivery(settle);
    DeferRequest {
        client_id: client_id.to_owned(),
        message_idem,
        message_name,
        delay_ms,
        priority,
        reason: reason.to_owned(),
        partition_block,
    }
}

pub(super) fn discard(client_id: &str, settle: &Settle, reason: &str) -> DiscardRequest {
    let (message_idem, message_name, partition_block) = delivery(settle);
    DiscardRequest {
        client_id: client_id.to_owned(),
        message_idem,
        message_name,
        reason: reason.to_owned(),
        partition_block,
    }
}

pub(super) fn extend(client_id: &str, settle: &Settle) -> ExtendLeaseRequest {
    let (message_idem, message_name, partition_block) = delivery(settle);
    ExtendLeaseRequest { client_id: client_id.to_owned(), message_idem, message_name, partition_block }
}

pub(super) fn release(client_id: &str, settle: &Settle) -> ReleaseRequest {
    let (message_idem, message_name, partition_block) = delivery(settle);
    ReleaseRequest { client_id: client_id.to_owned(), message_idem, message_name, partition_block }
}

fn delivery(settle: &Settle) -> (String, String, i64) {
    let name = settle.event.as_ref().map(ToString::to_string).unwrap_or_default();
    // Blocks start at 1, so 0 says that there is none.
    (settle.id.to_string(), name, settle.block.map_or(0, Block::as_i64))
}
