//! Request → command. All of it comes from a client, and none of it is trusted.

use std::num::{NonZeroU32, NonZeroU64};

use ensync_core::{
    AppId, Block, Command, Delay, Error, ErrorKind, EventId, EventName, IdempotencyKey, Metadata, PayloadMetadata,
    Publish, Result, Settle, Settlement, Subscribe, WirePayload,
};

use crate::generated::*;

/// A publish whose metadata has at most so many bytes.
pub(super) fn publish(request: PublishRequest, max_metadata: usize) -> Result<Command> {
    Ok(Command::Publish(Publish {
        event: EventName::parse(&request.message_name)?,
        recipient: AppId::parse(&request.delivery_to).map_err(|error| error.context("delivery_to"))?,
        payload: WirePayload::from_wire(request.payload),
        metadata: Metadata::received(&request.metadata, max_metadata)?,
        payload_metadata: PayloadMetadata::received(request.payload_metadata.as_deref().unwrap_or_default())?,
        idempotency_key: match request.idempotency_key.as_str() {
            "" => None,
            key => Some(IdempotencyKey::parse(key)?),
        },
    }))
}

pub(super) fn subscribe(request: &SubscribeRequest) -> Result<Subscribe> {
    Ok(Subscribe {
        event: EventName::parse(&request.message_name)?,
        max_in_flight: NonZeroU32::new(request.max_in_flight),
        max_bytes_in_flight: NonZeroU64::new(request.max_bytes_in_flight),
    })
}

pub(super) fn ack(request: &AcknowledgeRequest) -> Result<Command> {
    settle(&request.message_idem, &request.message_name, request.partition_block, Settlement::Ack)
}

pub(super) fn defer(request: DeferRequest) -> Result<Command> {
    let negative = |_| {
        let message = format!("delay_ms is {}; it must be 0 (at once) or 1,000 to 86,400,000", request.delay_ms);
        Error::new(ErrorKind::InvalidInput, message)
    };
    let delay = u64::try_from(request.delay_ms).map_err(negative).and_then(Delay::from_millis)?;
    let how = Settlement::Defer { delay, priority: request.priority, reason: request.reason };
    settle(&request.message_idem, &request.message_name, request.partition_block, how)
}

pub(super) fn discard(request: DiscardRequest) -> Result<Command> {
    let how = Settlement::Discard { reason: request.reason };
    settle(&request.message_idem, &request.message_name, request.partition_block, how)
}

pub(super) fn extend(request: &ExtendLeaseRequest) -> Result<Command> {
    settle(&request.message_idem, &request.message_name, request.partition_block, Settlement::Extend)
}

pub(super) fn release(request: &ReleaseRequest) -> Result<Command> {
    settle(&request.message_idem, &request.message_name, request.partition_block, Settlement::Release)
}

pub(super) fn replay(request: &ReplayRequest) -> Result<Command> {
    Ok(Command::Replay { id: EventId::parse(&request.message_idem)?, event: EventName::parse(&request.message_name)? })
}

pub(super) fn pause(request: PauseRequest) -> Result<Command> {
    Ok(Command::Pause { event: EventName::parse(&request.message_name)?, reason: request.reason })
}

pub(super) fn resume(request: &ContinueRequest) -> Result<Command> {
    Ok(Command::Continue { event: EventName::parse(&request.message_name)? })
}

fn settle(idem: &str, name: &str, block: i64, how: Settlement) -> Result<Command> {
    Ok(Command::Settle(Settle {
        id: EventId::parse(idem)?,
        event: if name.is_empty() { None } else { Some(EventName::parse(name)?) },
        // Blocks start at 1: 0 is an older peer that names none.
        block: if block == 0 { None } else { Some(Block::try_from(block)?) },
        how,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";

    fn good() -> PublishRequest {
        PublishRequest {
            message_name: "a/b".into(),
            delivery_to: KEY.into(),
            payload: "e30=".into(),
            ..PublishRequest::default()
        }
    }

    #[test]
    fn a_publish_of_an_older_peer_is_read() {
        let Command::Publish(read) =
            publish(PublishRequest { payload_metadata: Some(String::new()), ..good() }, 2).unwrap()
        else {
            panic!("not a publish")
        };
        assert_eq!((read.payload_metadata, read.idempotency_key), (None, None));
        assert_eq!(read.metadata, Metadata::default());
    }

    #[test]
    fn a_bad_publish_is_refused_by_the_right_kind() {
        for (kind, request) in [
            (ErrorKind::InvalidEventName, PublishRequest { message_name: "a//b".into(), ..good() }),
            (ErrorKind::InvalidKey, PublishRequest { delivery_to: "warehouse".into(), ..good() }),
            (ErrorKind::InvalidInput, PublishRequest { metadata: "[]".into(), ..good() }),
            (ErrorKind::InvalidInput, PublishRequest { payload_metadata: Some("{".into()), ..good() }),
            (ErrorKind::InvalidInput, PublishRequest { idempotency_key: "a b".into(), ..good() }),
        ] {
            assert_eq!(publish(request, 64 << 10).unwrap_err().kind(), kind);
        }
    }

    #[test]
    fn metadata_is_refused_by_its_length_before_it_is_read() {
        for length in [1 << 20, 4 << 20, 16 << 20] {
            // It is not JSON, which nobody finds out.
            let request = PublishRequest { metadata: "{".repeat(length), ..good() };
            let told = publish(request, 64 << 10).unwrap_err().to_string();
            assert_eq!(told, format!("the metadata has {length} bytes, this engine takes 65536"));
        }
    }

    #[test]
    fn block_zero_means_none_and_a_negative_one_nothing() {
        let ack_of = |partition_block| {
            ack(&AcknowledgeRequest { message_idem: "i".into(), partition_block, ..AcknowledgeRequest::default() })
        };
        let block_of = |command| match command {
            Command::Settle(settle) => (settle.block.map(Block::as_u64), settle.event),
            other => panic!("{other:?}"),
        };
        assert_eq!(block_of(ack_of(0).unwrap()), (None, None));
        assert_eq!(block_of(ack_of(7).unwrap()), (Some(7), None));
        assert_eq!(ack_of(-7).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_negative_delay_is_refused() {
        let request = DeferRequest { message_idem: "i".into(), delay_ms: -1, ..DeferRequest::default() };
        assert_eq!(defer(request).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
