use std::fmt;

use super::strict_json::Members;
use crate::crypto::json::malformed;
use crate::{AppId, Error, ErrorKind, EventName, Result, Timestamp, encoding, id};

/// The name that its sender gave a sealed payload: the same in every recipient's copy, in every delivery and in a publish that is
/// sent again, so a reader can tell repetitions by it. It is not the engine's id of the event. Cheap to compare.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SealedId(Box<str>);

impl SealedId {
    /// The longest one, in characters.
    pub const MAX_CHARS: usize = 64;

    /// A fresh one: a ULID, its randomness from the operating system.
    pub(in crate::crypto) fn random() -> Result<Self> {
        id::random_ulid().map(|ulid| Self(ulid.into()))
    }

    /// `None` if the text is not 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let valid = (1..=Self::MAX_CHARS).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        valid.then(|| Self(text.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SealedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a sealed envelope says in clear, and what its key depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::crypto) struct Header {
    pub(in crate::crypto) event: EventName,
    pub(in crate::crypto) to: AppId,
    /// The sender's key; `None` in mode base.
    pub(in crate::crypto) from: Option<AppId>,
    pub(in crate::crypto) id: SealedId,
    pub(in crate::crypto) created: Timestamp,
    /// HPKE's encapsulated key.
    pub(in crate::crypto) enc: [u8; 32],
    /// Whether the envelope carries a signature; in mode auth only.
    pub(in crate::crypto) signed: bool,
}

impl Header {
    /// The longest header, in bytes of its JSON.
    pub(super) const MAX_BYTES: usize = 4096;
    /// The times that a header can say are below this: an integer that every JSON reader reads exactly.
    pub(super) const CREATED_LIMIT: u64 = 1 << 53;

    /// Its JSON. None of the values needs an escape.
    pub(super) fn to_json(&self) -> String {
        let Self { event, to, from, id, created, enc, signed } = self;
        let from = from.map(|from| format!(r#","from":"{from}""#)).unwrap_or_default();
        let enc = encoding::encode(enc);
        let created = created.as_millis();
        let signed = if *signed { r#","signed":true"# } else { "" };
        format!(
            r#"{{"v":1,"event":"{event}","to":"{to}"{from},"id":"{id}","created":{created},"enc":"{enc}"{signed}}}"#
        )
    }

    /// Reads it strictly.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedEnvelope`] for another version, else [`ErrorKind::MalformedEnvelope`].
    pub(super) fn read(json: &[u8]) -> Result<Self> {
        if json.len() > Self::MAX_BYTES {
            return Err(malformed(format!("it has more than {} bytes", Self::MAX_BYTES)));
        }
        let text = std::str::from_utf8(json).map_err(|_| malformed("it is not UTF-8"))?;
        let members = Members::read(text, &["v", "event", "to", "from", "id", "created", "enc", "signed"])?;
        // First, because a later version may have members that this one has not.
        let version = members.digits("v")?;
        if version != "1" {
            let shown: String = version.chars().take(16).collect();
            return Err(Error::new(
                ErrorKind::UnsupportedEnvelope,
                format!("the envelope is of version {shown}, this version of the SDK reads 1; upgrade it"),
            ));
        }
        members.finish()?;
        let event = EventName::parse_stored(&members.text("event")?)
            .map_err(|cause| malformed("event is not an event name").with_source(cause))?;
        let id = SealedId::parse(&members.text("id")?)
            .ok_or_else(|| malformed("id is not 1 to 64 letters, digits, underscores and hyphens"))?;
        let created = members.digits("created")?.parse().ok().filter(|millis| *millis < Self::CREATED_LIMIT);
        let signed = match members.optional("signed")? {
            None => false,
            Some("true") => true,
            Some(_) => return Err(malformed("signed is not true; an envelope without a signature leaves it out")),
        };
        let header = Self {
            event,
            to: AppId::from_bytes(members.array("to")?),
            from: members.optional_array("from")?.map(AppId::from_bytes),
            id,
            created: created.map(Timestamp::from_millis).ok_or_else(|| malformed("created is 2⁵³ ms or more"))?,
            enc: members.array("enc")?,
            signed,
        };
        if header.signed && header.from.is_none() {
            return Err(malformed("signed is there, but from is not"));
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(from: Option<AppId>, signed: bool) -> Header {
        Header {
            event: EventName::parse("zamówienia/status").unwrap(),
            to: AppId::from_bytes([1; 32]),
            from,
            id: SealedId::random().unwrap(),
            created: Timestamp::from_millis(Header::CREATED_LIMIT - 1),
            enc: [3; 32],
            signed,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let from = Some(AppId::from_bytes([2; 32]));
        for header in [header(None, false), header(from, false), header(from, true)] {
            assert_eq!(Header::read(header.to_json().as_bytes()).unwrap(), header);
        }
    }

    /// The JSON of a header with one member replaced, or added, or taken away.
    fn with(name: &str, value: &str) -> String {
        let from = Some(AppId::from_bytes([2; 32]));
        let json = header(from, true).to_json();
        let mut members: Vec<String> = json[1..json.len() - 1]
            .split(',')
            .filter(|member| !member.starts_with(&format!("\"{name}\":")))
            .map(Into::into)
            .collect();
        if !value.is_empty() {
            members.push(format!("\"{name}\":{value}"));
        }
        format!("{{{}}}", members.join(","))
    }

    #[test]
    fn every_member_has_one_form() {
        let key = |byte: u8| format!("\"{}\"", encoding::encode(&[byte; 32]));
        for (name, value) in [
            ("v", "1"),
            ("event", r#""a\/b""#),
            ("to", &key(9)),
            ("id", r#""a-_Z9""#),
            ("id", &format!("\"{}\"", "x".repeat(64))),
            ("created", "0"),
            ("created", "9007199254740991"),
        ] {
            assert!(Header::read(with(name, value).as_bytes()).is_ok(), "{name} {value}");
        }
        for (name, value, part) in [
            ("v", "", "v is missing"),
            ("v", "null", "v is null"),
            ("v", "\"1\"", "v is not a whole number"),
            ("v", "1.0", "v is not a whole number"),
            ("v", "1e0", "v is not a whole number"),
            ("v", "-1", "v is not a whole number"),
            ("event", "", "event is missing"),
            ("event", "\"\"", "event is not an event name"),
            ("event", r#""a\u0000""#, "event is not an event name"),
            ("event", "7", "event is a number"),
            ("to", "", "to is missing"),
            ("to", "null", "to is null"),
            ("to", "\"AAAA\"", "to holds 3 bytes, not 32"),
            ("to", &key(9).replace('=', ""), "to is not standard base64"),
            ("from", "null", "from is null"),
            ("from", "\"\"", "from holds 0 bytes, not 32"),
            ("from", "", "signed is there, but from is not"),
            ("id", "", "id is missing"),
            ("id", "\"\"", "id is not 1 to 64"),
            ("id", "\"a.b\"", "id is not 1 to 64"),
            ("id", "\"é\"", "id is not 1 to 64"),
            ("id", &format!("\"{}\"", "x".repeat(65)), "id is not 1 to 64"),
            ("created", "", "created is missing"),
            ("created", "9007199254740992", "created is 2⁵³ ms or more"),
            ("created", "99999999999999999999999", "created is 2⁵³ ms or more"),
            ("created", "1.5", "created is not a whole number"),
            ("created", "1763769600e3", "created is not a whole number"),
            ("created", "-0", "created is not a whole number"),
            ("created", "\"0\"", "created is not a whole number"),
            ("enc", "", "enc is missing"),
            ("enc", "\"AAAA\"", "enc holds 3 bytes, not 32"),
            ("signed", "false", "signed is not true"),
            ("signed", "null", "signed is null"),
            ("signed", "1", "signed is not true"),
            ("signed", "\"true\"", "signed is not true"),
            ("more", "1", "does not belong"),
            ("V", "1", "does not belong"),
        ] {
            let error = Header::read(with(name, value).as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MalformedEnvelope, "{name} {value}: {error}");
            assert!(error.to_string().contains(part), "{name} {value}: {error}");
        }
    }

    #[test]
    fn another_version_is_unsupported_whatever_else_it_holds() {
        for json in [r#"{"v":2,"what":{"is":"new"}}"#, r#"{"v":0}"#, r#"{"v":100000000000000000000000000}"#] {
            let error = Header::read(json.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnsupportedEnvelope);
            assert!(error.to_string().contains("upgrade"), "{error}");
        }
        for json in [r#"{"v":2,"v":2}"#, r#"{"v":2"#, "[2]", "2"] {
            assert_eq!(Header::read(json.as_bytes()).unwrap_err().kind(), ErrorKind::MalformedEnvelope);
        }
    }

    #[test]
    fn the_longest_header_has_4096_bytes() {
        let mut json = header(None, false).to_json();
        while json.len() < Header::MAX_BYTES {
            json.push('\n');
        }
        assert!(Header::read(json.as_bytes()).is_ok());
        json.push('\n');
        assert!(Header::read(json.as_bytes()).unwrap_err().to_string().contains("more than 4096 bytes"));
        assert!(Header::read(b"{\"v\":1,\"event\":\"\xff\"}").unwrap_err().to_string().contains("not UTF-8"));
    }
}
