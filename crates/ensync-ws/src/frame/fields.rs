//! `VERB;KEY=:value;KEY=:value…`: splitting it, and putting it together.

use ensync_core::{Error, ErrorKind, PayloadMetadata, Result, skip_json};

use super::{KEYS, VERBS, sort_of};

/// More keys than any verb has. Stops a frame made of millions of them early.
const MAX_KEYS: usize = 32;

/// What JSON calls white space.
const WHITE: [char; 4] = [' ', '\n', '\r', '\t'];

/// A request frame, split.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    verb: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
    /// The longest metadata that is read, in bytes.
    pub(super) max_metadata: usize,
}

impl<'a> Fields<'a> {
    /// Splits a frame whose metadata has at most so many bytes.
    pub(super) fn split(frame: &'a str, max_metadata: usize) -> Result<Self> {
        let (verb, mut rest) = frame.split_once(';').unwrap_or((frame, ""));
        let mut fields = Self { verb, pairs: Vec::with_capacity(8), max_metadata };
        while !rest.is_empty() {
            let place = frame.len() - rest.len();
            let Some((key, after)) = rest.split_once("=:").filter(|(key, _)| is_key(key)) else {
                let found = sort_of(rest);
                return Err(
                    fields.wrong(format_args!("byte {place} should begin KEY=:value, but {found} stands there"))
                );
            };
            if fields.optional(key).is_some() {
                let key = KEYS.iter().find(|known| **known == key).unwrap_or(&"that starts there");
                return Err(fields.wrong(format_args!("byte {place}: the key {key} is there twice")));
            }
            if fields.pairs.len() == MAX_KEYS {
                return Err(fields.wrong(format_args!("more than {MAX_KEYS} keys")));
            }
            let (value, next) = match key {
                "REASON" => (after, ""),
                "METADATA" | "PAYLOAD_METADATA" if after.trim_start_matches(WHITE).starts_with('{') => {
                    if key == "METADATA" && is_longer(after, max_metadata) {
                        let message = format!(
                            "{}: METADATA does not end within the {max_metadata} bytes that this engine takes",
                            fields.known_verb()
                        );
                        return Err(Error::new(ErrorKind::InvalidInput, message));
                    }
                    let split = if key == "METADATA" { split_json(after) } else { split_about(after) };
                    split.map_err(|why| fields.wrong(format_args!("byte {place}: {key} {why}")))?
                }
                _ => after.split_once(';').unwrap_or((after, "")),
            };
            fields.pairs.push((key, value));
            rest = next;
        }
        Ok(fields)
    }

    pub(super) fn verb(&self) -> &'a str {
        self.verb
    }

    pub(super) fn optional(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    pub(super) fn required(&self, key: &str) -> Result<&'a str> {
        self.optional(key).ok_or_else(|| self.wrong(format_args!("the key {key} is missing")))
    }

    /// Reads the value of `key`, or says that it is missing.
    pub(super) fn read<T>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T>) -> Result<T> {
        parse(self.required(key)?).map_err(|error| error.context(format_args!("{} {key}", self.verb)))
    }

    /// Reads the value of `key`, which is an extension's, if it is there: no peer writes a word for nothing there, and the word is a value.
    pub(super) fn read_if_there<T>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
        self.optional(key).map(|_| self.read(key, parse)).transpose()
    }

    /// Reads the value of `key`, which published clients write, if it is there and says something: those in JavaScript write `undefined`
    /// and `null` for nothing.
    pub(super) fn read_optional<T>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
        match self.optional(key) {
            None | Some("" | "undefined" | "null") => Ok(None),
            Some(_) => self.read(key, parse).map(Some),
        }
    }

    fn wrong(&self, why: std::fmt::Arguments<'_>) -> Error {
        Error::new(ErrorKind::Protocol, format!("{}: {why}", self.known_verb()))
    }

    fn known_verb(&self) -> &'static str {
        VERBS.iter().find(|known| **known == self.verb).unwrap_or(&"a frame without a verb")
    }
}

/// Whether the object that a text begins with has more bytes than this. No more of it is looked at.
fn is_longer(text: &str, most: usize) -> bool {
    let text = text.trim_start_matches(WHITE);
    text.len() > most && skip_json(text.get(..text.floor_char_boundary(most)).unwrap_or_default()).is_none()
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
}

/// Cuts one JSON object off the front of `text`, and the `;` after it.
fn split_json(text: &str) -> Result<(&str, &str), String> {
    let (value, rest) = ensync_core::split_json(text).map_err(|error| format!("is not JSON: {error}"))?;
    behind(value, rest)
}

/// The same for what is said of a payload. Of what is too long to be read, no more is looked at than where it ends.
fn split_about(text: &str) -> Result<(&str, &str), String> {
    let skipped = if text.len() > PayloadMetadata::MAX_BYTES { skip_json(text) } else { None };
    match skipped {
        Some((object, rest)) if object.len() > PayloadMetadata::MAX_BYTES => behind(object, rest),
        _ => split_json(text),
    }
}

/// A JSON value, and what follows the semicolon behind it.
fn behind<'a>(value: &'a str, rest: &'a str) -> Result<(&'a str, &'a str), String> {
    let rest = rest.trim_start_matches(WHITE);
    match rest.strip_prefix(';') {
        Some(next) => Ok((value, next)),
        None if rest.is_empty() => Ok((value, "")),
        None => Err(format!("goes on after its JSON value with {}", sort_of(rest))),
    }
}

/// A request frame in the making.
#[derive(Debug)]
pub(super) struct Writer(String);

impl Writer {
    pub(super) fn new(verb: &str, capacity: usize) -> Self {
        let mut frame = String::with_capacity(capacity);
        frame.push_str(verb);
        Self(frame)
    }

    /// A value of which its type guarantees that it holds no `;`.
    #[must_use]
    pub(super) fn token(mut self, key: &str, value: &str) -> Self {
        debug_assert!(!value.contains(';'), "{key}");
        self.begin(key);
        self.0.push_str(value);
        self
    }

    #[must_use]
    pub(super) fn number(mut self, key: &str, value: u64) -> Self {
        self.begin(key);
        self.0.push_str(&value.to_string());
        self
    }

    /// JSON text, as it is for who reads values of JSON `whole`. Readers that split at every `;` must not see one, and inside JSON it can
    /// only stand in a string, where it has another spelling.
    #[must_use]
    pub(super) fn json(mut self, key: &str, json: &str, whole: bool) -> Self {
        self.begin(key);
        if whole {
            self.0.push_str(json);
            return self;
        }
        for (nth, part) in json.split(';').enumerate() {
            if nth > 0 {
                self.0.push_str("\\u003b");
            }
            self.0.push_str(part);
        }
        self
    }

    /// The reason, which ends the frame.
    pub(super) fn reason(mut self, reason: &str) -> String {
        self.begin("REASON");
        self.0.push_str(reason);
        self.0
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn begin(&mut self, key: &str) {
        self.0.push(';');
        self.0.push_str(key);
        self.0.push_str("=:");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(frame: &str) -> Vec<(&str, &str)> {
        Fields::split(frame, usize::MAX).unwrap().pairs
    }

    #[test]
    fn each_kind_of_value_ends_where_it_should() {
        assert_eq!(pairs("PING"), []);
        assert_eq!(pairs("SUB;A=:1;B=:"), [("A", "1"), ("B", "")]);
        assert_eq!(pairs("SUB;A=:x=:y=;"), [("A", "x=:y=")]);
        assert_eq!(
            pairs(r#"PUB;METADATA=:{"a":"};B=:2","c":{"d":[";"]}} ;PAYLOAD_METADATA=: {"n":1};Z=:9"#),
            [("METADATA", r#"{"a":"};B=:2","c":{"d":[";"]}}"#), ("PAYLOAD_METADATA", r#"{"n":1}"#), ("Z", "9")]
        );
        assert_eq!(pairs("PUB;METADATA=:;A=:1"), [("METADATA", ""), ("A", "1")]);
        assert_eq!(pairs("PUB;METADATA=:undefined;A=:1"), [("METADATA", "undefined"), ("A", "1")]);
        assert_eq!(pairs("DISCARD;REASON=:a;EVENT_IDEM=:x\n;;"), [("REASON", "a;EVENT_IDEM=:x\n;;")]);
    }

    #[test]
    fn what_is_too_long_to_be_read_ends_where_its_braces_do() {
        let about = |fields: usize| {
            let fields: Vec<_> = (0..fields).map(|n| format!("\"}};a{n}\":\"string\"")).collect();
            format!("{{\"skeleton\":{{{}}}}}", fields.join(","))
        };
        for (fields, is_read) in [(10, true), (5_000, true), (100_000, false)] {
            let about = about(fields);
            assert_eq!(about.len() <= PayloadMetadata::MAX_BYTES, is_read);
            let frame = format!("PUB;PAYLOAD_METADATA=:{about} ;A=:1");
            assert_eq!(pairs(&frame), [("PAYLOAD_METADATA", about.as_str()), ("A", "1")], "{fields}");
            // What is wrong in it is found where it is read.
            let broken = frame.replacen("\"string\"", "string", 1);
            assert_eq!(Fields::split(&broken, 0).is_err(), is_read, "{fields}");
        }
    }

    /// What would be found wrong behind the longest that is taken is not: nobody has looked there.
    #[test]
    fn metadata_is_refused_by_its_length_before_it_is_read() {
        const MOST: usize = 64 << 10;
        for length in [1 << 20, 4 << 20, 16 << 20] {
            for faulty in ["\u{1}", "\",", "}", "]]]", "é"] {
                let frame = format!("PUB;EVENT_NAME=:a;METADATA=:{{\"a\":[\"{}{faulty}", "é;".repeat(length / 3));
                let error = Fields::split(&frame, MOST).unwrap_err();
                let told = "PUB: METADATA does not end within the 65536 bytes that this engine takes";
                assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, told));
            }
        }
        let longest = format!("{{\"a\":\"{}\"}}", ";".repeat(MOST - 8));
        let frame = format!("PUB;METADATA=: {longest} ;A=:1");
        assert_eq!(Fields::split(&frame, MOST).unwrap().pairs, [("METADATA", longest.as_str()), ("A", "1")]);
        assert!(Fields::split(&frame, MOST - 1).is_err());
        // A limit that is no place between two characters.
        assert!(Fields::split("PUB;METADATA=:{\"é\":1}", 3).is_err());
    }

    #[test]
    fn what_is_no_frame_says_where() {
        let many = format!("SUB;{}", (0..40).map(|n| format!("{}=:;", "A".repeat(n + 1))).collect::<String>());
        let deep = format!("PUB;METADATA=:{{\"a\":{}", "[".repeat(100_000));
        let twice = format!("SUB;{}", format!("{}=:1;", "A".repeat(10_000)).repeat(2));
        for (frame, part) in [
            ("SUB;EVENT_NAME", "SUB: byte 4 should begin KEY=:value, but a word stands there"),
            ("SUB;;A=:1", "byte 4"),
            ("SUB;event=:1", "byte 4"),
            ("SUB;A=:1;B;C=:2", "byte 9"),
            ("SUB;=:1", "byte 4"),
            ("SUB;REASON;A=:1", "SUB: byte 4"),
            ("SUB;BLOCK=:1;BLOCK=:1", "SUB: byte 13: the key BLOCK is there twice"),
            (twice.as_str(), "byte 10008: the key that starts there is there twice"),
            ("AAAA;x", "a frame without a verb: byte 5"),
            ("PUB;METADATA=:{\"a\":1;B=:2", "METADATA is not JSON"),
            ("PUB;METADATA=:{}x;B=:2", "PUB: byte 4: METADATA goes on after its JSON value with a word"),
            (many.as_str(), "more than 32 keys"),
            (deep.as_str(), "METADATA is not JSON"),
        ] {
            let error = Fields::split(frame, usize::MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(error.to_string().contains(part), "{frame:.40}: {error}");
        }
    }

    #[test]
    fn a_semicolon_in_json_is_spelt_otherwise_for_who_would_split_there() {
        let given = r#"{"a;b":"\\;;"}"#;
        let whole = Writer::new("PUB", 64).json("METADATA", given, true).number("N", 7).finish();
        assert_eq!(pairs(&whole), [("METADATA", given), ("N", "7")]);
        let frame = Writer::new("PUB", 64).json("METADATA", given, false).number("N", 7).finish();
        assert_eq!(frame, r#"PUB;METADATA=:{"a\u003bb":"\\\u003b\u003b"};N=:7"#);
        let json: serde_json::Value = serde_json::from_str(pairs(&frame)[0].1).unwrap();
        assert_eq!(json["a;b"], "\\;;");
    }
}
