//! What travels beside the payload, in clear.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::convert::parsed;
use crate::json::{self, Member};
use crate::redact::{Checks, certain};
use crate::{Error, ErrorKind, Result, Timestamp};

/// An event's metadata: a JSON object that the engine and the recipient can read. **It is not encrypted.**
///
/// `headers` (an object of the user's) and `persist` (a boolean) have a meaning of their own; any other key is the user's, except
/// those that start with `$`, which are the engine's: an engine takes them out of what a sender gives it. The text is checked once
/// (by the rule of [`PayloadJson`](crate::PayloadJson)) and kept as it came: all of it reaches the recipient unchanged, numbers that
/// no `f64` holds included. One thing is otherwise: over WebSocket, to an engine that announces no extension of this SDK's, every `;`
/// goes as `\u003b`, which means the same, for such an engine may split its frames there; and what a published client writes, it writes
/// in its own way. [`raw`](Self::raw) and [`raw_header`](Self::raw_header) give such a number as it was written; what gives
/// a [`Value`] holds whole numbers of 64 bits exactly, and any other number as the nearest double. Cheap to clone.
///
/// ```
/// use ensync_core::Metadata;
///
/// let metadata = Metadata::parse(r#"{"headers":{"source":"shop"},"persist":true,"trace":7.10}"#)?;
/// assert_eq!(metadata.header("source").unwrap(), "shop");
/// assert_eq!(metadata.persist(), Some(true));
/// assert_eq!(metadata.field("trace").unwrap(), 7.1);
/// assert_eq!(metadata.raw("trace"), Some("7.10"));
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Metadata {
    text: Arc<str>,
    unreadable: Option<Arc<Error>>,
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Metadata {}

impl Metadata {
    /// Reads a JSON object. The empty text, which some peers send, is the empty object.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is not a JSON object that every client reads (see [`PayloadJson`](crate::PayloadJson));
    /// the message names the place.
    pub fn parse(text: &str) -> Result<Self> {
        // What JSON calls white space, and no more.
        let text = text.trim_matches([' ', '\n', '\r', '\t']);
        if text.is_empty() {
            return Ok(Self::default());
        }
        match json::scan(text) {
            Ok(scanned) if scanned.members.is_some() => Ok(Self::checked(text)),
            Ok(_) => Err(Error::new(ErrorKind::InvalidInput, "metadata is not a JSON object")),
            Err(fault) => Err(fault.error(ErrorKind::InvalidInput, "metadata")),
        }
    }

    /// Reads what an engine was sent that takes `most` bytes of it. What is longer is refused by its length, unread: whoever sends it chose
    /// how long it is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is longer, or as [`parse`](Self::parse).
    pub fn received(text: &str, most: usize) -> Result<Self> {
        if text.len() > most {
            let message = format!("the metadata has {} bytes, this engine takes {most}", text.len());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Self::parse(text)
    }

    fn checked(object: &str) -> Self {
        Self { text: object.into(), unreadable: None }
    }

    /// Reads what an engine delivered. It is no reason to lose an event that what stands beside the payload breaks the rule: such metadata
    /// is empty, and [`unreadable`](Self::unreadable) says why.
    pub fn delivered(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|error| Self { unreadable: Some(Arc::new(error)), ..Self::default() })
    }

    /// Why metadata that was delivered is empty, if it is so because it could not be read.
    pub fn unreadable(&self) -> Option<&Error> {
        self.unreadable.as_deref()
    }

    /// From fields.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if they are nested deeper than 127 levels.
    pub fn from_fields(fields: Map<String, Value>) -> Result<Self> {
        Self::parse(&Value::Object(fields).to_string())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What of it is a secret for certain, if something is: a key or token of an engine, a secret key, a private key in PEM. The search is
    /// bounded, for it is made at each publish: in a long text that is nothing but letters of base64, a few places are looked at.
    pub fn secret(&self) -> Option<&'static str> {
        // Shorter than any that would be found, and most are.
        if self.text.len() < 32 { None } else { certain(&self.text, &mut Checks::of_a_name()) }
    }

    /// One field's JSON text, as its sender wrote it: two texts may mean the same.
    pub fn raw(&self, key: &str) -> Option<&str> {
        member(&self.text, key)
    }

    /// One header's JSON text, as its sender wrote it: two texts may mean the same.
    pub fn raw_header(&self, key: &str) -> Option<&str> {
        member(self.raw("headers")?, key)
    }

    /// All fields, the engine's included.
    pub fn fields(&self) -> Map<String, Value> {
        object(&self.text)
    }

    /// One field.
    pub fn field(&self, key: &str) -> Option<Value> {
        self.raw(key).and_then(read)
    }

    /// The user's headers.
    pub fn headers(&self) -> Map<String, Value> {
        self.raw("headers").map(object).unwrap_or_default()
    }

    /// One header.
    pub fn header(&self, key: &str) -> Option<Value> {
        self.raw_header(key).and_then(read)
    }

    /// Whether the sender asked the engine to store the event durably. `None` where it did not say, which engines take as yes.
    pub fn persist(&self) -> Option<bool> {
        unwrapped(self.raw("persist")?)?.as_bool()
    }

    /// What a replay adds: see [`ReplayInfo`]. `None` on a first delivery.
    pub fn replay_info(&self) -> Option<ReplayInfo> {
        let info = member(self.raw("$internal")?, "replay_info")?;
        let read = |camel, snake| member(info, camel).or_else(|| member(info, snake)).and_then(unwrapped);
        Some(ReplayInfo {
            is_replayed: read("isReplayed", "is_replayed")?.as_bool()?,
            replayed_at: read("replayTimestamp", "replay_timestamp")
                .and_then(|value| value.as_u64())
                .map(Timestamp::from_millis),
            was_acknowledged: read("wasAcknowledged", "was_acknowledged").and_then(|value| value.as_bool()),
        })
    }

    /// The same without the keys that start with `$`, which only an engine may write. Everything else stays as it is written.
    ///
    /// A sender may well give some: a published client that hands on an event that it replayed hands on its metadata, too. So they
    /// are taken out, not refused.
    #[must_use]
    pub fn without_engine_keys(&self) -> Self {
        // Spelt out or as an escape, or not there.
        if !self.text.contains('$') && !self.text.contains("\\u0024") {
            return self.clone();
        }
        let members = members(&self.text);
        let own: Vec<&str> = members
            .iter()
            .filter(|member| !member.name.starts_with('$'))
            .filter_map(|member| self.text.get(member.span.0..member.span.1))
            .collect();
        if own.len() == members.len() { self.clone() } else { Self::checked(&format!("{{{}}}", own.join(","))) }
    }
}

parsed!(Metadata);

/// What an engine says about a replayed event (its metadata holds it as `$internal.replay_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayInfo {
    /// True for an event that `replay` returned.
    pub is_replayed: bool,
    /// When it was replayed.
    pub replayed_at: Option<Timestamp>,
    /// Whether it had been acknowledged by then.
    pub was_acknowledged: Option<bool>,
}

impl ReplayInfo {
    /// The metadata of an event replayed at `now`: the text as it is, and behind it what an engine adds.
    pub fn annotate(metadata: &Metadata, now: Timestamp, was_acknowledged: bool) -> Metadata {
        let metadata = metadata.without_engine_keys();
        let members = members(&metadata.text);
        let open = metadata.text.strip_suffix('}').unwrap_or("{");
        let comma = if members.is_empty() { "" } else { "," };
        let headers = if members.iter().any(|member| member.name == "headers") { "" } else { r#""headers":{},"# };
        let now = now.as_millis();
        let text = format!(
            r#"{open}{comma}{headers}"$internal":{{"replay_info":{{"isReplayed":true,"replayTimestamp":{now},"wasAcknowledged":{was_acknowledged}}}}}}}"#
        );
        Metadata::checked(&text)
    }
}

/// The members of a checked object; none if it is something else.
fn members(json: &str) -> Vec<Member<'_>> {
    json::scan(json).ok().and_then(|scanned| scanned.members).unwrap_or_default()
}

fn member<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    members(json).into_iter().find(|member| member.name == name).map(|member| member.value)
}

fn read(json: &str) -> Option<Value> {
    json::value(json).ok()
}

fn object(json: &str) -> Map<String, Value> {
    match read(json) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// One documented form wraps each value as `{"is_string": false, "content": "true"}`; this is the value either way.
fn unwrapped(json: &str) -> Option<Value> {
    let value = read(json)?;
    match (value.get("is_string"), value.get("content")) {
        (Some(Value::Bool(false)), Some(Value::String(content))) => {
            Some(read(content).unwrap_or_else(|| Value::String(content.clone())))
        }
        (Some(Value::Bool(true)), Some(content)) => Some(content.clone()),
        _ => Some(value),
    }
}

impl Default for Metadata {
    fn default() -> Self {
        Self::checked("{}")
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({})", self.text)
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
        assert_eq!(Metadata::parse(" \r\n\t").unwrap(), Metadata::default());
        for text in ["\u{c}{}", "{}\u{c}", "\u{a0}{}"] {
            assert!(Metadata::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_longer_than_is_taken_is_not_read() {
        for length in [1 << 20, 4 << 20, 16 << 20] {
            let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(length));
            crate::crypto::cost::SPENT.take();
            let error = Metadata::received(&text, 64 << 10).unwrap_err();
            assert_eq!(error.to_string(), format!("the metadata has {} bytes, this engine takes 65536", text.len()));
            assert!(crate::PayloadMetadata::received(&text).unwrap().unwrap().unread);
            assert_eq!(crate::crypto::cost::SPENT.take(), Default::default(), "{length}");
        }
        let longest = format!(r#"{{"a":"{}"}}"#, "x".repeat((64 << 10) - 8));
        assert_eq!(Metadata::received(&longest, 64 << 10).unwrap().as_str(), longest);
        assert!(Metadata::received(&longest, longest.len() - 1).is_err());
    }

    #[test]
    fn what_is_delivered_unreadable_is_empty_and_says_why() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":"\ud800"}"#, r#"{"n":NaN}"#, "[]", "x"] {
            let metadata = Metadata::delivered(text);
            assert_eq!((metadata.as_str(), metadata.clone()), ("{}", Metadata::default()), "{text}");
            let why = Metadata::parse(text).unwrap_err().to_string();
            assert_eq!(metadata.unreadable().map(ToString::to_string), Some(why), "{text}");
        }
        let readable = Metadata::delivered(r#"{"a":1}"#);
        assert!(readable.unreadable().is_none() && readable.raw("a") == Some("1"));
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
    fn a_replay_adds_to_the_text_and_changes_nothing_of_it() {
        let added = r#""$internal":{"replay_info":{"isReplayed":true,"replayTimestamp":5,"wasAcknowledged":true}}}"#;
        for (text, before) in [
            ("{}", r#"{"headers":{},"#.to_owned()),
            (r#"{ "z":1.10, "a":1e-400 ,"n":123456789012345678901234567890 }"#, String::new()),
            (r#"{"headers":{"b":-0,"a":"\u00e9"}}"#, r#"{"headers":{"b":-0,"a":"\u00e9"},"#.to_owned()),
            (r#"{"k":2,"$internal":{"replay_info":7},"headers":{}}"#, r#"{"k":2,"headers":{},"#.to_owned()),
        ] {
            let metadata = Metadata::parse(text).unwrap();
            let annotated = ReplayInfo::annotate(&metadata, Timestamp::from_millis(5), true);
            let before = match before.as_str() {
                "" => format!(r#"{},"headers":{{}},"#, text.strip_suffix('}').unwrap()),
                before => before.to_owned(),
            };
            assert_eq!(annotated.as_str(), format!("{before}{added}"));
            assert_eq!(Metadata::parse(annotated.as_str()).unwrap(), annotated);
            assert_eq!(annotated.replay_info().unwrap().was_acknowledged, Some(true));
        }
    }

    #[test]
    fn a_sender_writes_no_key_of_the_engine() {
        for (given, kept) in [
            (r#"{"$internal":{"replay_info":{"isReplayed":true}},"a":1.10}"#, r#"{"a":1.10}"#),
            (r#"{"a":1 ,"\u0024b":2, "c":{"$d":3}}"#, r#"{"a":1,"c":{"$d":3}}"#),
            (r#"{ "$":0 }"#, "{}"),
            (r#"{ "price":"7 $", "n$":1 }"#, r#"{ "price":"7 $", "n$":1 }"#),
        ] {
            let metadata = Metadata::parse(given).unwrap().without_engine_keys();
            assert_eq!(metadata.as_str(), kept);
            assert_eq!((metadata.replay_info(), Metadata::parse(kept).unwrap()), (None, metadata));
        }
    }

    #[test]
    fn no_name_switches_the_parser() {
        let bomb = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        for name in ["$serde_json::private::RawValue", "$serde_json::private::Number"] {
            let text = format!(r#"{{"headers":{{"h":{{"{name}":"{bomb}"}}}},"{name}":"{{}}"}}"#);
            let metadata = Metadata::parse(&text).unwrap();
            assert_eq!(metadata.header("h").unwrap()[name].as_str(), Some(bomb.as_str()));
            assert_eq!(metadata.fields()[name], "{}");
            let replayed = ReplayInfo::annotate(&metadata, Timestamp::from_millis(1), false);
            assert!(replayed.as_str().starts_with(r#"{"headers":{"h":{"#));
            assert_eq!(replayed.headers(), metadata.headers());
        }
    }

    #[test]
    fn fields_too_deep_for_some_reader_are_refused_and_not_lost() {
        let deep = (0..200).fold(Value::from(1), |inner, _| Value::Array(vec![inner]));
        let fields = [("headers".to_owned(), serde_json::json!({ "h": deep })), ("persist".to_owned(), false.into())];
        let error = Metadata::from_fields(fields.into_iter().collect()).unwrap_err();
        assert!(error.to_string().contains("more than 127 levels"), "{error}");
    }
}
