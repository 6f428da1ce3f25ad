//! Answer → reply. All of it comes from the engine, and none of it is trusted.

use std::time::Duration;

use ensync_core::{
    AppId, Block, Delivery, Error, ErrorKind, EventId, EventName, Metadata, Reply, Result, Timestamp, WirePayload,
};

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
        metadata: Metadata::delivered(&record.metadata),
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
        let read = Delivery::from_record(data, Some((event, id))).map_err(|error| error.context("message_data"))?;
        // Nobody waits for its settlement.
        return Ok(Reply::Replayed(Box::new(Delivery { lease: None, ..read })));
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
        ] {
            let error = replay(data).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{data}");
            assert!(error.to_string().contains(field), "{data}: {error}");
        }
    }

    /// serde_json takes a name for its own, and reads what stands behind it anew, without regard to depth. A thread of a program has 2 MiB
    /// of stack; this one has less.
    #[test]
    fn no_name_in_a_replay_switches_the_parser() {
        const NAME: &str = "$serde_json::private::RawValue";
        let deeper = |inner: String, _| {
            let inner = serde_json::to_string(&inner).unwrap();
            format!("{}{{\"{NAME}\":{inner}}}{}", "[".repeat(120), "]".repeat(120))
        };
        let bomb = (0..9).fold("1".to_owned(), deeper);
        let check = move || {
            for field in ["sender", "recipient", "logged_at", "attempt"] {
                for value in [&format!(r#"{{"{NAME}":"\"{KEY}\""}}"#), &format!(r#"{{"{NAME}":"7"}}"#), &bomb] {
                    let read = replay(&format!(r#"{{"payload":"e30=","{field}":{value}}}"#)).unwrap();
                    let told = (read.sender, read.recipient, read.timestamp, read.attempt);
                    assert_eq!(told, (None, None, None, None), "{field}");
                }
            }
            for field in ["message_name", "message_idem", "partition_block", "payload"] {
                for value in [&format!(r#"{{"{NAME}":"7"}}"#), &bomb] {
                    let rest = if field == "payload" { "" } else { r#","payload":"e30=""# };
                    assert!(replay(&format!(r#"{{"{field}":{value}{rest}}}"#)).is_err(), "{field}");
                }
            }
        };
        std::thread::Builder::new().stack_size(512 << 10).spawn(check).unwrap().join().unwrap();
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
        ] {
            let error = delivery(record).unwrap_err();
            assert!(error.to_string().starts_with(field), "{error}");
        }
        // What stands beside the payload is no reason to lose an event.
        let odd = delivery(StreamResponse { metadata: r#"{"a":1,"a":2}"#.into(), ..good }).unwrap();
        assert!(odd.metadata.unreadable().is_some() && odd.id == "i");
    }
}
