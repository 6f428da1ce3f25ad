//! The forms of a replayed event.

use ensync_core::{Delivery, Error, ErrorKind, Result};
use serde::Serialize;

/// `message_data` for a caller with this user agent.
///
/// The Python peer decodes it as the payload. The Go peer reads it by protobuf's JSON rules into the stream's message and refuses
/// every field that this message does not have. The Node peer, and everybody else, reads a JSON record. In each record `metadata`
/// is JSON text, as in the stream's message: the Node peer parses it once more.
pub(super) fn message_data(delivery: &Delivery, user_agent: &str) -> Result<String> {
    if user_agent.starts_with("grpc-python") {
        return Ok(delivery.payload.as_str().unwrap_or_default().to_owned());
    }
    let text = |key: ensync_core::AppId| key.to_string();
    let mut record = Record {
        message_name: delivery.event.as_str(),
        message_idem: delivery.id.as_str(),
        partition_block: delivery.block.to_string(),
        payload: delivery.payload.as_str().unwrap_or_default(),
        metadata: delivery.metadata.as_str(),
        sender: delivery.sender.map(text).unwrap_or_default(),
        recipient: None,
        logged_at: None,
        attempt: None,
    };
    if !user_agent.starts_with("grpc-go") {
        record.recipient = delivery.recipient.map(text);
        record.logged_at = delivery.timestamp.map(|at| at.as_millis());
        record.attempt = delivery.attempt;
    }
    serde_json::to_string(&record).map_err(|cause| {
        Error::new(ErrorKind::Internal, "a replayed event cannot be written as JSON").with_source(cause)
    })
}

#[derive(Serialize)]
struct Record<'a> {
    message_name: &'a str,
    message_idem: &'a str,
    /// Text: JavaScript would round a large number.
    partition_block: String,
    payload: &'a str,
    metadata: &'a str,
    /// Empty if nobody is known, as in the stream's message.
    sender: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logged_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
}

#[cfg(test)]
mod tests {
    use ensync_core::{AppId, Block, EventId, EventName, Metadata, Timestamp, WirePayload};
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";

    fn delivery() -> Delivery {
        Delivery {
            event: EventName::parse("a/b").unwrap(),
            id: EventId::parse("i-1").unwrap(),
            block: Block::new(9_007_199_254_740_993).unwrap(),
            payload: WirePayload::from_wire("e30=".to_owned()),
            metadata: Metadata::parse(r#"{"headers":{"a":"b"},"n":1.0}"#).unwrap(),
            sender: AppId::parse(KEY).ok(),
            recipient: AppId::parse(KEY).ok(),
            timestamp: Some(Timestamp::from_millis(5)),
            attempt: Some(2),
            lease: None,
        }
    }

    fn record(delivery: &Delivery, user_agent: &str) -> Value {
        serde_json::from_str(&message_data(delivery, user_agent).unwrap()).unwrap()
    }

    #[test]
    fn go_gets_the_six_fields_of_the_streams_message_and_no_other() {
        let mut delivery = delivery();
        let six = |sender: &str| {
            json!({
                "message_name": "a/b", "message_idem": "i-1", "partition_block": "9007199254740993", "payload": "e30=",
                "metadata": r#"{"headers":{"a":"b"},"n":1.0}"#, "sender": sender,
            })
        };
        assert_eq!(record(&delivery, "grpc-go/1.78.0"), six(KEY));
        delivery.sender = None;
        assert_eq!(record(&delivery, "grpc-go/1.78.0"), six(""));
    }

    #[test]
    fn node_and_the_rest_get_metadata_as_text_and_more() {
        for agent in ["grpc-node-js/1.13.0", "ensync-rust/0.1", "", "curl"] {
            let record = record(&delivery(), agent);
            assert_eq!(record["metadata"], r#"{"headers":{"a":"b"},"n":1.0}"#, "{agent}");
            assert_eq!(
                (&record["recipient"], &record["logged_at"], &record["attempt"]),
                (&json!(KEY), &json!(5), &json!(2))
            );
        }
        assert_eq!(message_data(&delivery(), "grpc-python-asyncio/1.75.0 grpc-c/49").unwrap(), "e30=");
    }
}
