//! Reading JSON of which there is one form: exactly the members named, once each, none null, integers in digits, base64 canonical.
//!
//! "nacl" is read leniently because peers wrote it; here we wrote the rules.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::crypto::json::{self, malformed};
use crate::{Error, Result};

/// The members of an object, by the names they may have.
#[derive(Debug)]
pub(super) struct Members<'a, const N: usize> {
    names: [&'static str; N],
    values: [Option<&'a RawValue>; N],
    /// What else there was, to be told once the version has been read.
    stray: Option<&'static str>,
}

impl<'a, const N: usize> Members<'a, N> {
    /// Reads an object. What it must not hold is told by [`finish`](Self::finish), for an object of a later version may hold it.
    pub(super) fn read(text: &'a str, names: [&'static str; N]) -> Result<Self> {
        if !text.trim_ascii_start().starts_with('{') {
            return Err(malformed("it is not a JSON object"));
        }
        let mut members = Members { names, values: [None; N], stray: None };
        let mut reader = serde_json::Deserializer::from_str(text);
        let read = Reader(&mut members).deserialize(&mut reader).and_then(|()| reader.end());
        read.map_err(|cause| match (cause.classify(), cause.line(), cause.column()) {
            (serde_json::error::Category::Data, line, column) => {
                malformed(format!("a member occurs twice, the second time at line {line} column {column}"))
            }
            (_, line, column) => malformed(format!("it is not JSON from line {line} column {column} on")),
        })?;
        Ok(members)
    }

    /// Refuses what does not belong.
    pub(super) fn finish(&self) -> Result<()> {
        match self.stray {
            Some(stray) => Err(malformed(stray)),
            None => Ok(()),
        }
    }

    /// A member that may be absent. Null is not absent.
    pub(super) fn optional(&self, name: &'static str) -> Result<Option<&'a RawValue>> {
        let at = self.names.iter().position(|known| *known == name);
        match at.and_then(|at| self.values.get(at)).copied().flatten() {
            Some(value) if value.get() == "null" => Err(malformed(format!("{name} is null"))),
            value => Ok(value),
        }
    }

    /// A member that must be there.
    pub(super) fn required(&self, name: &'static str) -> Result<&'a RawValue> {
        json::required(self.optional(name)?, name)
    }

    /// A member that must be text.
    pub(super) fn text(&self, name: &'static str) -> Result<Cow<'a, str>> {
        json::text(self.required(name)?, name)
    }

    /// The digits of a member that must be a whole number, not negative, without fraction or exponent.
    pub(super) fn digits(&self, name: &'static str) -> Result<&'a str> {
        let digits = self.required(name)?.get();
        // JSON itself forbids leading zeros.
        if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(malformed(format!("{name} is not a whole number in digits")));
        }
        Ok(digits)
    }

    /// A member that must be base64 of at most `most` bytes.
    pub(super) fn bytes(&self, name: &'static str, most: usize) -> Result<Vec<u8>> {
        bytes(&self.text(name)?, name, most)
    }

    /// A member that must be base64 of `B` bytes.
    pub(super) fn array<const B: usize>(&self, name: &'static str) -> Result<[u8; B]> {
        exactly(&self.text(name)?, name)
    }

    /// A member that must be base64 of `B` bytes where it is there.
    pub(super) fn optional_array<const B: usize>(&self, name: &'static str) -> Result<Option<[u8; B]>> {
        let Some(value) = self.optional(name)? else { return Ok(None) };
        exactly(&json::text(value, name)?, name).map(Some)
    }
}

/// Standard base64, padded, its unused bits zero: the one spelling of its bytes.
fn bytes(text: &str, name: &'static str, most: usize) -> Result<Vec<u8>> {
    let too_long = || malformed(format!("{name} holds more than {most} bytes"));
    if text.len().div_ceil(4).saturating_mul(3) > most.saturating_add(2) {
        return Err(too_long());
    }
    let bytes =
        STANDARD.decode(text).map_err(|_| malformed(format!("{name} is not standard base64, padded and canonical")))?;
    if bytes.len() > most { Err(too_long()) } else { Ok(bytes) }
}

fn exactly<const B: usize>(text: &str, name: &'static str) -> Result<[u8; B]> {
    let wrong = |held: String| -> Error { malformed(format!("{name} holds {held} bytes, not {B}")) };
    let mut array = [0; B];
    // Told by the length, so that what is far too long is not even decoded.
    if text.len() > B.div_ceil(3).saturating_mul(4) {
        return Err(wrong(format!("more than {B}")));
    }
    let bytes = bytes(text, name, usize::MAX)?;
    if bytes.len() != B {
        return Err(wrong(bytes.len().to_string()));
    }
    array.copy_from_slice(&bytes);
    Ok(array)
}

struct Reader<'m, 'a, const N: usize>(&'m mut Members<'a, N>);

impl<'de, const N: usize> DeserializeSeed<'de> for Reader<'_, 'de, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, object: D) -> Result<(), D::Error> {
        object.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Reader<'_, 'de, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        let Members { names, values, stray } = self.0;
        while let Some((Name(name), value)) = object.next_entry::<Name<'de>, &'de RawValue>()? {
            let at = names.iter().position(|known| *known == name);
            match at.and_then(|at| values.get_mut(at)) {
                Some(Some(_)) => return Err(A::Error::custom("a member occurs twice")),
                Some(slot) => *slot = Some(value),
                None => *stray = Some("it has a member that does not belong there"),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<([u8; 3], Option<u64>)> {
        let members = Members::read(text, ["key", "count"])?;
        members.finish()?;
        let count = members.optional("count")?.map(|_| members.digits("count"));
        Ok((members.array("key")?, count.transpose()?.map(|digits| digits.parse().unwrap())))
    }

    #[test]
    fn one_form_is_read() {
        assert_eq!(read(r#"{"key":"AAEC"}"#).unwrap(), ([0, 1, 2], None));
        assert_eq!(read("\n{ \"count\" : 17, \"k\\u0065y\":\"AAE\\u0043\" }\n").unwrap(), ([0, 1, 2], Some(17)));
    }

    #[test]
    fn every_other_is_refused_with_its_reason() {
        let deep = format!(r#"{{"key":"AAEC","x":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
        for (text, part) in [
            ("", "not a JSON object"),
            ("null", "not a JSON object"),
            (r#"["AAEC"]"#, "not a JSON object"),
            (r#"{"key":"AAEC""#, "not JSON from line 1 column"),
            (r#"{"key":"AAEC"} 1"#, "not JSON from line 1 column"),
            (r#"{"key":"AAEC",}"#, "not JSON from line 1 column"),
            ("{}", "key is missing"),
            (r#"{"key":null}"#, "key is null"),
            (r#"{"key":"AAEC","count":null}"#, "count is null"),
            (r#"{"key":"AAEC","key":"AAEC"}"#, "occurs twice"),
            (r#"{"key":"AAEC","k\u0065y":"AAEC"}"#, "occurs twice"),
            (r#"{"key":"AAEC","other":1}"#, "does not belong"),
            (&deep, "does not belong"),
            (r#"{"key":1}"#, "key is a number, not text"),
            (r#"{"key":"\ud800"}"#, "invalid escape"),
            (r#"{"key":""}"#, "key holds 0 bytes, not 3"),
            (r#"{"key":"AAE="}"#, "key holds 2 bytes, not 3"),
            (r#"{"key":"AAECAA=="}"#, "key holds more than 3 bytes, not 3"),
            (r#"{"key":"AAE"}"#, "key is not standard base64"),
            (r#"{"key":"AAF="}"#, "key is not standard base64"),
            (r#"{"key":"AA-_"}"#, "key is not standard base64"),
            (r#"{"key":"AAEC\n"}"#, "key holds more than 3 bytes"),
            (r#"{"key":" AAE"}"#, "key is not standard base64"),
            (r#"{"key":"AAEC","count":"1"}"#, "count is not a whole number"),
            (r#"{"key":"AAEC","count":1.0}"#, "count is not a whole number"),
            (r#"{"key":"AAEC","count":1e3}"#, "count is not a whole number"),
            (r#"{"key":"AAEC","count":-1}"#, "count is not a whole number"),
            (r#"{"key":"AAEC","count":01}"#, "not JSON"),
            (r#"{"key":"AAEC","count":true}"#, "count is not a whole number"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::MalformedEnvelope);
            assert!(error.to_string().contains(part), "{}: {error}", text.chars().take(80).collect::<String>());
        }
    }

    #[test]
    fn a_length_has_its_limit_to_the_byte() {
        let of = |length: usize| bytes(&STANDARD.encode(vec![7; length]), "key", 100).map(|bytes| bytes.len());
        for length in 97..=100 {
            assert_eq!(of(length).unwrap(), length);
        }
        for length in 101..=106 {
            assert!(of(length).unwrap_err().to_string().contains("more than 100 bytes"));
        }
    }
}
