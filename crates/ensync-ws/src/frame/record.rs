use std::borrow::Cow;
use std::time::Duration;

use ensync_core::{
    AppId, Block, Delivery, Error, ErrorKind, EventId, EventName, Metadata, Result, Timestamp, WirePayload,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Writes the frame that delivers an event.
pub fn write_record(delivery: &Delivery) -> String {
    record("+RECORD:", delivery)
}

/// Reads a record's JSON: what stands behind `+RECORD:` or `+REPLAY:`.
///
/// Peers differ, so this takes `idem` or `id`; `name`, `eventName` or `messageName`; `loggedAt` or `logged_at`; a block that is a
/// number or text; metadata that is an object or the text of one. A sender or recipient that is no key is left out.
///
/// # Errors
///
/// [`ErrorKind::Protocol`] names the field that is missing or wrong. The payload is never part of it.
pub fn parse_record(json: &str) -> Result<Delivery> {
    let wrong = || Error::new(ErrorKind::Protocol, "an event's record is not a JSON object");
    if !json.trim_start().starts_with('{') {
        // An array would be read field by field.
        return Err(wrong());
    }
    let read: Read<'_> = serde_json::from_str(json).map_err(|cause| wrong().with_source(cause))?;
    let name = text(read.name).or_else(|| text(read.event_name)).or_else(|| text(read.message_name));
    let id = text(read.idem).or_else(|| text(read.id));
    Ok(Delivery {
        event: field("name", name, EventName::parse)?,
        id: field("idem", id, EventId::parse)?,
        block: field("block", word(read.block), str::parse::<Block>)?,
        payload: WirePayload::from_wire(text(read.payload).unwrap_or_default().into_owned()),
        metadata: match read.metadata {
            None => Metadata::default(),
            Some(value) => {
                let json = text(read.metadata).unwrap_or(Cow::Borrowed(value.get()));
                field("metadata", Some(json), Metadata::parse)?
            }
        },
        sender: text(read.sender).and_then(|id| AppId::parse(&id).ok()),
        recipient: text(read.recipient).and_then(|id| AppId::parse(&id).ok()),
        timestamp: word(read.logged_at)
            .or_else(|| word(read.logged_at_snake))
            .and_then(|ms| ms.parse().ok())
            .map(Timestamp::from_millis),
        attempt: word(read.attempt).and_then(|attempt| attempt.parse().ok()),
        lease: word(read.lease_ms).and_then(|ms| ms.parse().ok()).map(Duration::from_millis),
    })
}

/// A record behind `prefix`.
pub(super) fn record(prefix: &str, delivery: &Delivery) -> String {
    let metadata = serde_json::from_str(delivery.metadata.as_str()).unwrap_or(RawValue::NULL);
    let written = Written {
        name: delivery.event.as_str(),
        idem: delivery.id.as_str(),
        id: delivery.id.as_str(),
        block: delivery.block.as_u64(),
        logged_at: delivery.timestamp.map(Timestamp::as_millis),
        metadata,
        sender: delivery.sender.map(|id| id.to_string()),
        recipient: delivery.recipient.map(|id| id.to_string()),
        is_group: false,
        attempt: delivery.attempt,
        lease_ms: delivery.lease.map(|lease| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)),
        payload: delivery.payload.as_str().unwrap_or_default(),
    };
    let mut frame = Vec::with_capacity(512 + delivery.payload.len() + delivery.metadata.as_str().len());
    frame.extend_from_slice(prefix.as_bytes());
    // Texts, numbers and JSON that was parsed before: neither this nor the UTF-8 check can fail.
    let done = serde_json::to_writer(&mut frame, &written);
    debug_assert!(done.is_ok());
    String::from_utf8(frame).unwrap_or_default()
}

#[derive(Serialize)]
struct Written<'a> {
    name: &'a str,
    idem: &'a str,
    id: &'a str,
    block: u64,
    #[serde(rename = "loggedAt", skip_serializing_if = "Option::is_none")]
    logged_at: Option<u64>,
    payload: &'a str,
    metadata: &'a RawValue,
    sender: Option<String>,
    recipient: Option<String>,
    #[serde(rename = "isGroup")]
    is_group: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(rename = "leaseMs", skip_serializing_if = "Option::is_none")]
    lease_ms: Option<u64>,
}

/// Each field as it came: one that is of the wrong type must not cost the others.
#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow, default)]
    name: Raw<'a>,
    #[serde(borrow, default, rename = "eventName")]
    event_name: Raw<'a>,
    #[serde(borrow, default, rename = "messageName")]
    message_name: Raw<'a>,
    #[serde(borrow, default)]
    idem: Raw<'a>,
    #[serde(borrow, default)]
    id: Raw<'a>,
    #[serde(borrow, default)]
    block: Raw<'a>,
    #[serde(borrow, default)]
    payload: Raw<'a>,
    #[serde(borrow, default)]
    metadata: Raw<'a>,
    #[serde(borrow, default)]
    sender: Raw<'a>,
    #[serde(borrow, default)]
    recipient: Raw<'a>,
    #[serde(borrow, default, rename = "loggedAt")]
    logged_at: Raw<'a>,
    #[serde(borrow, default, rename = "logged_at")]
    logged_at_snake: Raw<'a>,
    #[serde(borrow, default)]
    attempt: Raw<'a>,
    #[serde(borrow, default, rename = "leaseMs")]
    lease_ms: Raw<'a>,
}

type Raw<'a> = Option<&'a RawValue>;

/// The value, if it is a string.
fn text<'a>(value: Raw<'a>) -> Option<Cow<'a, str>> {
    let json = value?.get();
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    // Base64, ids and names need no escape, and a payload is long.
    if inner.contains('\\') { serde_json::from_str(json).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// The value, if it is a string or a number, as text.
fn word<'a>(value: Raw<'a>) -> Option<Cow<'a, str>> {
    text(value).or_else(|| {
        let json = value?.get();
        json.starts_with(|c: char| c.is_ascii_digit() || c == '-').then_some(Cow::Borrowed(json))
    })
}

fn field<T>(name: &str, value: Option<Cow<'_, str>>, parse: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let wrong = |what: &str| Error::new(ErrorKind::Protocol, format!("an event's record: the field {name} {what}"));
    let value = value.ok_or_else(|| wrong("is missing"))?;
    parse(&value).map_err(|cause| wrong("cannot be read").with_source(cause))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn every_spelling_of_the_peers_is_read() {
        for json in [
            r#"{"name":"a","idem":"x","block":3,"payload":"e30=","metadata":{"k":1},"loggedAt":5,"attempt":1}"#,
            r#"{"eventName":"a","id":"x","block":"3","payload":"e30=","metadata":"{\"k\":1}","logged_at":"5","attempt":"1"}"#,
            r#" {"messageName":"a","idem":"x","id":"other","block":3,"payload":"e3\u0030=","metadata": {"k":1} ,"loggedAt":5,
                "attempt":1,"is_group":[[{"deep":{}}]],"sender":null,"recipient":"not a key"} "#,
        ] {
            let read = parse_record(json).unwrap();
            assert_eq!((read.event.as_str(), read.id.as_str(), read.block.as_u64()), ("a", "x", 3), "{json}");
            assert_eq!(
                (read.payload.as_str().unwrap(), read.metadata.field("k").unwrap()),
                ("e30=", 1.into()),
                "{json}"
            );
            assert_eq!((read.timestamp.unwrap().as_millis(), read.attempt), (5, Some(1)), "{json}");
            assert_eq!((read.sender, read.recipient), (None, None), "{json}");
        }
        let bare =
            parse_record(r#"{"name":"a","idem":"x","block":3,"metadata":null,"sender":7,"loggedAt":{}}"#).unwrap();
        assert_eq!(
            (bare.metadata, bare.payload.len(), bare.sender, bare.timestamp),
            (Metadata::default(), 0, None, None)
        );
    }

    #[test]
    fn a_broken_record_names_its_field() {
        let deep = format!(
            r#"{{"name":"a","idem":"x","block":1,"metadata":{{"a":{}1{}}}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        );
        for (json, part) in [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            (r#"{"name":"a""#, "not a JSON object"),
            (r#"{"name":"a","name":"b","idem":"x","block":1}"#, "not a JSON object"),
            (r#"{"idem":"x","block":1}"#, "name is missing"),
            (r#"{"name":7,"idem":"x","block":1}"#, "name is missing"),
            (r#"{"name":"a b","idem":"x","block":1}"#, "name cannot be read"),
            (r#"{"name":"a","block":1}"#, "idem is missing"),
            (r#"{"name":"a","idem":"x;y","block":1}"#, "idem cannot be read"),
            (r#"{"name":"a","idem":"x"}"#, "block is missing"),
            (r#"{"name":"a","idem":"x","block":-1}"#, "block cannot be read"),
            (r#"{"name":"a","idem":"x","block":1e3}"#, "block cannot be read"),
            (r#"{"name":"a","idem":"x","block":1,"metadata":[]}"#, "metadata cannot be read"),
            (r#"{"name":"a","idem":"x","block":1,"metadata":"x"}"#, "metadata cannot be read"),
            (deep.as_str(), "metadata cannot be read"),
        ] {
            let error = parse_record(json).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(error.to_string().contains(part), "{json}: {error}");
        }
    }
}
