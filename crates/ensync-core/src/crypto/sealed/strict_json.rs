//! Reading JSON of which there is one form: exactly the members named, once each, none null, integers in digits, base64 canonical.
//!
//! "nacl" is read leniently because peers wrote it; here we wrote the rules.

use std::borrow::Cow;

use crate::crypto::json::{self, Object, malformed};
use crate::{Error, Result, encoding};

/// The members of an object that may have no others than some.
#[derive(Debug)]
pub(super) struct Members<'a> {
    members: Object<'a>,
    /// Whether there was another, to be told once the version has been read.
    stray: bool,
}

impl<'a> Members<'a> {
    /// Reads an object. What it must not hold is told by [`finish`](Self::finish), for an object of a later version may hold it.
    pub(super) fn read(text: &'a str, names: &[&str]) -> Result<Self> {
        Object::read(text).map(|members| Self::of(members, names))
    }

    /// The same of an object that was read.
    pub(super) fn of(members: Object<'a>, names: &[&str]) -> Self {
        let stray = members.0.iter().any(|member| !names.contains(&&*member.name));
        Self { members, stray }
    }

    /// Refuses what does not belong.
    pub(super) fn finish(&self) -> Result<()> {
        if self.stray { Err(malformed("it has a member that does not belong there")) } else { Ok(()) }
    }

    /// A member that may be absent. Null is not absent.
    pub(super) fn optional(&self, name: &'static str) -> Result<Option<&'a str>> {
        match self.members.optional(name) {
            Some("null") => Err(malformed(format!("{name} is null"))),
            value => Ok(value),
        }
    }

    /// A member that must be there.
    pub(super) fn required(&self, name: &'static str) -> Result<&'a str> {
        self.optional(name)?.map_or_else(|| self.members.required(name), Ok)
    }

    /// A member that must be text.
    pub(super) fn text(&self, name: &'static str) -> Result<Cow<'a, str>> {
        json::text(self.required(name)?, name)
    }

    /// The digits of a member that must be a whole number, not negative, without fraction or exponent.
    pub(super) fn digits(&self, name: &'static str) -> Result<&'a str> {
        let digits = self.required(name)?;
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
    let bytes = encoding::decode_canonical(text)
        .ok_or_else(|| malformed(format!("{name} is not standard base64, padded and canonical")))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<([u8; 3], Option<u64>)> {
        let members = Members::read(text, &["key", "count"])?;
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
            (&deep, "not JSON from line 1 column"),
            (r#"{"key":1}"#, "key is a number, not text"),
            (r#"{"key":"\ud800"}"#, "not JSON from line 1 column 9"),
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
        let of = |length: usize| bytes(&encoding::encode(&vec![7; length]), "key", 100).map(|bytes| bytes.len());
        for length in 97..=100 {
            assert_eq!(of(length).unwrap(), length);
        }
        for length in 101..=106 {
            assert!(of(length).unwrap_err().to_string().contains("more than 100 bytes"));
        }
    }
}
