//! Answer → reply. All of it comes from the engine, and none of it is trusted.

use std::time::Duration;

use ensync_core::{
    AppId, Block, Delivery, Error, ErrorKind, EventId, EventName, Metadata, Reply, Result, Timestamp, WirePayload,
};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::generated::{PublishResponse, ReplayResponse, StreamResponse};

pub(super) fn published(answer: PublishResponse) -> Result<Reply> {
    if !answer.success {
        return Err(Error::from_refusal(&answer.error_message));
    }
    let id = EventId::parse(&answer.message_idem).map_err(|cause| bad("message_idem", cause))?;
    Ok(Reply::Published { id })
}

pub(super) fn delivery(record: StreamResponse) -> Result<Delivery> {
    Ok(Delivery {
        event: EventName::parse(&record.message_name).map_err(|cause| bad("message_name", cause))?,
        id: EventId::parse(&record.message_idem).map_err(|cause| bad("message_idem", cause))?,
        // Protocol buffers write nothing for 0, so 0 is what an engine without blocks says.
        block: match record.partition_block {
            0 => Block::UNKNOWN,
            block => Block::try_from(block).map_err(|cause| bad("partition_block", cause))?,
        },
        metadata: Metadata::parse(&record.metadata).map_err(|cause| bad("metadata", cause))?,
        payload: WirePayload::from_wire(record.payload),
        // Only a claim, and peers may name senders otherwise: what is no key is nobody.
        sender: AppId::parse(&record.sender).ok(),
        recipient: AppId::parse(&record.recipient).ok(),
        timestamp: u64::try_from(record.logged_at).ok().filter(|&at| at > 0).map(Timestamp::from_millis),
        attempt: Some(record.attempt).filter(|&attempt| attempt > 0),
        lease: lease(record.lease_ms),
    })
}

/// A lease in milliseconds, of which 0 says nothing.
pub(super) fn lease(ms: i64) -> Option<Duration> {
    u64::try_from(ms).ok().filter(|&ms| ms > 0).map(Duration::from_millis)
}

/// Reads either form of a replayed event: the JSON record, or the bare base64 payload, which says nothing but what was asked for.
pub(super) fn replayed(answer: ReplayResponse, id: &EventId, event: &EventName) -> Result<Reply> {
    if !answer.success {
        return Err(Error::from_refusal(&answer.message));
    }
    let data = answer.message_data.trim();
    if data.starts_with('{') {
        let record: Record<'_> = serde_json::from_str(data).map_err(|cause| bad("message_data", cause))?;
        return Ok(Reply::Replayed(Box::new(record.read(id, event)?)));
    }
    let payload = WirePayload::from_wire(data.to_owned());
    if !payload.looks_like_base64() {
        return Err(Error::new(
            ErrorKind::Protocol,
            "message_data in the engine's answer is neither a JSON record nor a base64 payload",
        ));
    }
    Ok(Reply::Replayed(Box::new(Delivery {
        event: event.clone(),
        id: id.clone(),
        block: Block::UNKNOWN,
        payload,
        metadata: Metadata::default(),
        sender: None,
        recipient: None,
        timestamp: None,
        attempt: None,
        lease: None,
    })))
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(alias = "event_name")]
    message_name: Option<String>,
    #[serde(alias = "event_idem")]
    message_idem: Option<String>,
    /// A number or a string.
    partition_block: Option<Value>,
    payload: String,
    /// An object, or an object as text. Kept as it came.
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    sender: Option<Value>,
    recipient: Option<Value>,
    logged_at: Option<Value>,
    attempt: Option<Value>,
}

impl Record<'_> {
    fn read(self, id: &EventId, event: &EventName) -> Result<Delivery> {
        let key = |value: Option<Value>| AppId::parse(value?.as_str()?).ok();
        let metadata = match self.metadata.map(RawValue::get) {
            None | Some("null") => Metadata::default(),
            Some(text) if text.starts_with('"') => {
                let text: String = serde_json::from_str(text).map_err(|cause| bad("metadata", cause))?;
                Metadata::parse(&text).map_err(|cause| bad("metadata", cause))?
            }
            Some(text) => Metadata::parse(text).map_err(|cause| bad("metadata", cause))?,
        };
        Ok(Delivery {
            event: match self.message_name {
                Some(name) => EventName::parse(&name).map_err(|cause| bad("message_name", cause))?,
                None => event.clone(),
            },
            id: match self.message_idem {
                Some(idem) => EventId::parse(&idem).map_err(|cause| bad("message_idem", cause))?,
                None => id.clone(),
            },
            block: match self.partition_block {
                None | Some(Value::Null) => Block::UNKNOWN,
                Some(Value::String(text)) => text.parse().map_err(|cause| bad("partition_block", cause))?,
                Some(number) => number.to_string().parse().map_err(|cause| bad("partition_block", cause))?,
            },
            payload: WirePayload::from_wire(self.payload),
            metadata,
            sender: key(self.sender),
            recipient: key(self.recipient),
            timestamp: self.logged_at.and_then(|at| at.as_u64()).map(Timestamp::from_millis),
            attempt: self.attempt.and_then(|attempt| attempt.as_u64()).and_then(|attempt| attempt.try_into().ok()),
            lease: None,
        })
    }
}

fn bad(field: &str, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Protocol, format!("{field} in the engine's answer cannot be understood")).with_source(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";

    fn replay(data: &str) -> Result<Delivery> {
        let answer = ReplayResponse { success: true, message: String::new(), message_data: data.to_owned() };
        let reply = replayed(answer, &EventId::parse("asked").unwrap(), &EventName::parse("a/b").unwrap())?;
        match reply {
            Reply::Replayed(delivery) => Ok(*delivery),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_forms_of_a_replay_are_read() {
        let bare = replay("e30=").unwrap();
        assert_eq!((bare.id.as_str(), bare.event.as_str(), bare.block.as_u64()), ("asked", "a/b", 0));
        assert_eq!(bare.payload.as_str().unwrap(), "e30=");

        let full = replay(&format!(
            r#"{{"message_name":"c/d","message_idem":"i-1","partition_block":"7","payload":"e30=","metadata":{{"n":1.0}},
                "sender":"{KEY}","recipient":"{KEY}","logged_at":5,"attempt":2,"more":[]}}"#
        ))
        .unwrap();
        assert_eq!((full.id.as_str(), full.event.as_str(), full.block.as_u64()), ("i-1", "c/d", 7));
        assert_eq!(full.metadata.as_str(), r#"{"n":1.0}"#);
        assert_eq!((full.sender, full.recipient), (AppId::parse(KEY).ok(), AppId::parse(KEY).ok()));
        assert_eq!((full.timestamp, full.attempt), (Some(Timestamp::from_millis(5)), Some(2)));

        let sparse = replay(r#"{"payload":"e30=","partition_block":8,"metadata":"{\"a\":1}","sender":null}"#).unwrap();
        assert_eq!((sparse.id.as_str(), sparse.block.as_u64(), sparse.sender), ("asked", 8, None));
        assert_eq!(sparse.metadata.field("a").unwrap(), 1);
    }

    #[test]
    fn a_bad_replay_names_its_field() {
        for (data, field) in [
            ("", "message_data"),
            ("not base64!", "message_data"),
            ("{", "message_data"),
            ("{}", "message_data"),
            (r#"{"payload":"e30=","message_name":"a b"}"#, "message_name"),
            (r#"{"payload":"e30=","message_idem":""}"#, "message_idem"),
            (r#"{"payload":"e30=","partition_block":-1}"#, "partition_block"),
            (r#"{"payload":"e30=","partition_block":1.5}"#, "partition_block"),
            (r#"{"payload":"e30=","metadata":[]}"#, "metadata"),
            (&format!(r#"{{"payload":"e30=","metadata":{}1{}}}"#, "[".repeat(500), "]".repeat(500)), "metadata"),
        ] {
            let error = replay(data).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{data}");
            assert!(error.to_string().contains(field), "{data}: {error}");
        }
    }

    #[test]
    fn a_record_is_read_or_its_bad_field_named() {
        let good = StreamResponse {
            message_idem: "i".into(),
            message_name: "a/b".into(),
            payload: "e30=".into(),
            partition_block: 3,
            metadata: String::new(),
            sender: "a group, not a key".into(),
            ..StreamResponse::default()
        };
        let read = delivery(good.clone()).unwrap();
        assert_eq!((read.sender, read.timestamp, read.attempt, read.lease), (None, None, None, None));
        assert_eq!([-1, 0, 1_500].map(lease), [None, None, Some(Duration::from_millis(1_500))]);
        for (field, record) in [
            ("message_name", StreamResponse { message_name: "a//b".into(), ..good.clone() }),
            ("message_idem", StreamResponse { message_idem: "a;b".into(), ..good.clone() }),
            ("partition_block", StreamResponse { partition_block: -1, ..good.clone() }),
            ("metadata", StreamResponse { metadata: "[]".into(), ..good.clone() }),
        ] {
            let error = delivery(record).unwrap_err();
            assert!(error.to_string().starts_with(field), "{error}");
        }
    }
}
