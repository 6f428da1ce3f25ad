//! What travels beside the payload, in clear.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{Error, ErrorKind, Result};

/// An event's metadata: a JSON object that the engine and the recipient can read. **It is not encrypted.**
///
/// `headers` (an object of the user's) and `persist` (a boolean) have a meaning of their own; any other key is the user's, except
/// those that start with `$`, which belong to the engine. The text is kept as it came, so that all of it reaches the recipient
/// unchanged, numbers that no `f64` holds included. Cheap to clone.
///
/// ```
/// use ensync_core::Metadata;
///
/// let metadata = Metadata::parse(r#"{"headers":{"source":"shop"},"persist":true,"trace":7}"#)?;
/// assert_eq!(metadata.header("source").unwrap(), "shop");
/// assert_eq!(metadata.persist(), Some(true));
/// assert_eq!(metadata.field("trace").unwrap(), 7);
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Metadata(Arc<str>);

impl Metadata {
    /// Reads a JSON object. The empty text, which some peers send, is the empty object.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is not a JSON object, or is nested deeper than 128 levels.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_str::<Map<String, Value>>(text) {
            Ok(_) => Ok(Self(text.into())),
            Err(cause) => Err(Error::new(ErrorKind::InvalidInput, "metadata is not a JSON object").with_source(cause)),
        }
    }

    /// From fields.
    pub fn from_fields(fields: Map<String, Value>) -> Self {
        Self(Value::Object(fields).to_string().into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// All fields, the engine's included.
    pub fn fields(&self) -> Map<String, Value> {
        // The text was read once already, so this cannot fail; an empty object is the honest answer if it ever did.
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// One field.
    pub fn field(&self, key: &str) -> Option<Value> {
        self.fields().remove(key)
    }

    /// The user's headers.
    pub fn headers(&self) -> Map<String, Value> {
        match self.field("headers") {
            Some(Value::Object(headers)) => headers,
            _ => Map::new(),
        }
    }

    /// One header.
    pub fn header(&self, key: &str) -> Option<Value> {
        self.headers().remove(key)
    }

    /// Whether the sender asked the engine to store the event durably. `None` where it did not say, which engines take as yes.
    pub fn persist(&self) -> Option<bool> {
        unwrap_content(self.field("persist")?).as_bool()
    }

    /// What a replay adds: see [`ReplayInfo`]. `None` on a first delivery.
    pub fn replay_info(&self) -> Option<ReplayInfo> {
        let internal = self.field("$internal")?;
        let info = internal.get("replay_info")?;
        let read = |camel: &str, snake: &str| info.get(camel).or_else(|| info.get(snake)).cloned().map(unwrap_content);
        Some(ReplayInfo {
            is_replayed: read("isReplayed", "is_replayed")?.as_bool()?,
            replayed_at: read("replayTimestamp", "replay_timestamp")
                .and_then(|v| v.as_u64())
                .map(crate::Timestamp::from_millis),
            was_acknowledged: read("wasAcknowledged", "was_acknowledged").and_then(|v| v.as_bool()),
        })
    }
}

/// What an engine says about a replayed event (its metadata holds it as `$internal.replay_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayInfo {
    /// True for an event that `replay` returned.
    pub is_replayed: bool,
    /// When it was replayed.
    pub replayed_at: Option<crate::Timestamp>,
    /// Whether it had been acknowledged by then.
    pub was_acknowledged: Option<bool>,
}

impl ReplayInfo {
    /// The fields that an engine adds to the metadata of an event replayed at `now`.
    pub fn annotate(metadata: &Metadata, now: crate::Timestamp, was_acknowledged: bool) -> Metadata {
        let mut fields = metadata.fields();
        fields.entry("headers").or_insert_with(|| Value::Object(Map::new()));
        fields.insert(
            "$internal".into(),
            serde_json::json!({"replay_info": {
                "isReplayed": true,
                "replayTimestamp": now.as_millis(),
                "wasAcknowledged": was_acknowledged,
            }}),
        );
        Metadata::from_fields(fields)
    }
}

/// One documented form wraps each value as `{"is_string": false, "content": "true"}`; this is the value either way.
fn unwrap_content(value: Value) -> Value {
    let Value::Object(fields) = &value else { return value };
    match (fields.get("is_string"), fields.get("content")) {
        (Some(Value::Bool(false)), Some(Value::String(content))) => {
            serde_json::from_str(content).unwrap_or_else(|_| Value::String(content.clone()))
        }
        (Some(Value::Bool(true)), Some(content)) => content.clone(),
        _ => value,
    }
}

impl Default for Metadata {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_kept_as_it_came() {
        let text = r#"{"b":123456789012345678901234567890,"a":1.0}"#;
        assert_eq!(Metadata::parse(text).unwrap().as_str(), text);
    }

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for number in [1286721.4567867215_f64, 0.1 + 0.2, f64::MAX, f64::MIN_POSITIVE, 5e-324] {
            let metadata = Metadata::parse(&format!(r#"{{"n":{number:?}}}"#)).unwrap();
            assert_eq!(metadata.field("n").unwrap().as_f64(), Some(number));
        }
    }

    #[test]
    fn only_objects_are_metadata() {
        for text in
            ["null", "[]", "7", "{", "{} {}", "\"x\"", &format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200))]
        {
            assert_eq!(Metadata::parse(text).unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
        }
        assert_eq!(Metadata::parse("").unwrap(), Metadata::default());
    }

    #[test]
    fn both_documented_forms_of_replay_info_are_read() {
        let plain = r#"{"headers":{},"$internal":{"replay_info":{"isReplayed":true,"replayTimestamp":1758410511179,"wasAcknowledged":false}}}"#;
        let wrapped = r#"{"persist":{"is_string":false,"content":"true"},"$internal":{"replay_info":{
            "is_replayed":{"is_string":false,"content":"true"},
            "replay_timestamp":{"is_string":false,"content":"1758410511179"},
            "was_acknowledged":{"is_string":false,"content":"false"}}}}"#;
        let plain = Metadata::parse(plain).unwrap().replay_info().unwrap();
        let wrapped = Metadata::parse(wrapped).unwrap();
        assert_eq!(wrapped.persist(), Some(true));
        assert_eq!(wrapped.replay_info().unwrap(), plain);
        assert_eq!(plain.replayed_at.unwrap().as_millis(), 1_758_410_511_179);
        assert_eq!(plain.was_acknowledged, Some(false));
    }

    #[test]
    fn annotating_keeps_what_was_there() {
        let metadata = Metadata::parse(r#"{"headers":{"a":1},"k":2}"#).unwrap();
        let annotated = ReplayInfo::annotate(&metadata, crate::Timestamp::from_millis(5), true);
        assert_eq!(annotated.header("a").unwrap(), 1);
        assert_eq!(annotated.field("k").unwrap(), 2);
        assert_eq!(annotated.replay_info().unwrap().was_acknowledged, Some(true));
    }
}
