use ensync_core::{Delivery, Result, Timestamp};
use serde::Serialize;

/// Writes the frame that delivers an event.
pub fn write_record(delivery: &Delivery) -> String {
    record("+RECORD:", delivery)
}

/// Reads a record's JSON: what stands behind `+RECORD:` or `+REPLAY:`.
///
/// # Errors
///
/// Those of [`Delivery::from_record`].
pub fn parse_record(json: &str) -> Result<Delivery> {
    Delivery::from_record(json, None)
}

/// A record behind `prefix`.
pub(super) fn record(prefix: &str, delivery: &Delivery) -> String {
    let metadata = delivery.metadata.as_str();
    let before = Before {
        name: delivery.event.as_str(),
        idem: delivery.id.as_str(),
        id: delivery.id.as_str(),
        block: delivery.block.as_u64(),
        logged_at: delivery.timestamp.map(Timestamp::as_millis),
        payload: delivery.payload.as_str().unwrap_or_default(),
    };
    let after = After {
        sender: delivery.sender.map(|id| id.to_string()),
        recipient: delivery.recipient.map(|id| id.to_string()),
        is_group: false,
        attempt: delivery.attempt,
        lease_ms: delivery.lease.map(|lease| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)),
    };
    let mut frame = Vec::with_capacity(512 + delivery.payload.len() + metadata.len());
    frame.extend_from_slice(prefix.as_bytes());
    // Texts and numbers: neither this nor the UTF-8 check can fail.
    let done = serde_json::to_writer(&mut frame, &before);
    // Metadata stands between the two as it came: it was checked then.
    frame.pop();
    frame.extend_from_slice(br#","metadata":"#);
    frame.extend_from_slice(metadata.as_bytes());
    let comma = frame.len();
    let done = done.and_then(|()| serde_json::to_writer(&mut frame, &after));
    if let Some(brace) = frame.get_mut(comma) {
        *brace = b',';
    }
    debug_assert!(done.is_ok());
    String::from_utf8(frame).unwrap_or_default()
}

/// What stands before the metadata.
#[derive(Serialize)]
struct Before<'a> {
    name: &'a str,
    idem: &'a str,
    id: &'a str,
    block: u64,
    #[serde(rename = "loggedAt", skip_serializing_if = "Option::is_none")]
    logged_at: Option<u64>,
    payload: &'a str,
}

/// What stands behind it.
#[derive(Serialize)]
struct After {
    sender: Option<String>,
    recipient: Option<String>,
    #[serde(rename = "isGroup")]
    is_group: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(rename = "leaseMs", skip_serializing_if = "Option::is_none")]
    lease_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ensync_core::{AppId, Block, EventId, EventName, Metadata, WirePayload};

    use super::*;

    const KEY: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";

    fn delivery() -> Delivery {
        Delivery {
            event: EventName::parse("orders/new").unwrap(),
            id: EventId::parse("e-1").unwrap(),
            block: Block::new(7).unwrap(),
            payload: WirePayload::from_wire("e30="),
            metadata: Metadata::parse(r#"{"headers":{"a":"};+"},"n":123456789012345678901}"#).unwrap(),
            sender: Some(AppId::parse(KEY).unwrap()),
            recipient: None,
            timestamp: Some(Timestamp::from_millis(1_758_410_511_179)),
            attempt: Some(2),
            lease: Some(Duration::from_secs(60)),
        }
    }

    #[test]
    fn the_peers_names_are_written() {
        assert_eq!(
            write_record(&delivery()),
            format!(
                r#"+RECORD:{{"name":"orders/new","idem":"e-1","id":"e-1","block":7,"loggedAt":1758410511179,"payload":"e30=","metadata":{{"headers":{{"a":"}};+"}},"n":123456789012345678901}},"sender":"{KEY}","recipient":null,"isGroup":false,"attempt":2,"leaseMs":60000}}"#
            )
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let frame = write_record(&delivery());
        assert_eq!(parse_record(frame.strip_prefix("+RECORD:").unwrap()).unwrap(), delivery());
        // A payload that came from a stranger over another transport.
        let odd = Delivery {
            payload: WirePayload::from_wire("\"},\n{\\é"),
            timestamp: None,
            attempt: None,
            lease: None,
            ..delivery()
        };
        let frame = write_record(&odd);
        assert_eq!(parse_record(frame.strip_prefix("+RECORD:").unwrap()).unwrap(), odd);
    }
}
