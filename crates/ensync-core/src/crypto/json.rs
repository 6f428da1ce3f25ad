//! Reading JSON that a peer wrote: members once each, of the right type and length, and errors that name the member and repeat
//! nothing that was sent.
//!
//! Everything is read through [`Object`]: checked in one pass, its members pieces of the text. What "nacl" adds is leniency, for
//! peers wrote it; what "aes-256-gcm" adds is in `sealed/strict_json.rs`.

use std::borrow::Cow;

use crate::json::{self, Member, Why};
use crate::{Error, ErrorKind, Result, encoding};

/// An error of kind [`ErrorKind::MalformedEnvelope`].
pub(crate) fn malformed(why: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::MalformedEnvelope, why)
}

/// The members of an object, each as it stands there.
#[derive(Debug)]
pub(crate) struct Object<'a>(pub(crate) Vec<Member<'a>>);

impl<'a> Object<'a> {
    /// Reads an object that a text consists of.
    pub(crate) fn read(text: &'a str) -> Result<Self> {
        let not_an_object = || malformed("it is not a JSON object");
        if !text.trim_ascii_start().starts_with('{') {
            return Err(not_an_object());
        }
        match json::scan(text) {
            Ok(scanned) => scanned.members.map(Self).ok_or_else(not_an_object),
            Err(fault) if fault.why == Why::Twice => Err(malformed(format!(
                "a member occurs twice, the second time at line {} column {}",
                fault.line, fault.column
            ))),
            Err(fault) => Err(malformed(format!("it is not JSON from line {} column {} on", fault.line, fault.column))
                .with_source(fault)),
        }
    }

    /// A member as it stands there.
    pub(crate) fn optional(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|member| member.name == name).map(|member| member.value)
    }

    /// A member that must be there.
    pub(crate) fn required(&self, name: &'static str) -> Result<&'a str> {
        self.optional(name).ok_or_else(|| malformed(format!("{name} is missing")))
    }

    /// A member that must be base64.
    pub(crate) fn bytes(&self, name: &'static str) -> Result<Vec<u8>> {
        let text = text(self.required(name)?, name)?;
        encoding::decode(&text).ok_or_else(|| malformed(format!("{name} is not base64")))
    }

    /// A member that must be base64 of `N` bytes.
    pub(crate) fn array<const N: usize>(&self, name: &'static str) -> Result<[u8; N]> {
        let bytes = self.bytes(name)?;
        <[u8; N]>::try_from(bytes.as_slice())
            .map_err(|_| malformed(format!("{name} holds {} bytes, not {N}", bytes.len())))
    }
}

/// A value that must be text.
pub(crate) fn text<'a>(value: &'a str, name: &'static str) -> Result<Cow<'a, str>> {
    let what = match value.as_bytes().first() {
        Some(b'"') => match json::text(value) {
            Some(text) => return Ok(text),
            None => "broken",
        },
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'n') => "null",
        Some(b't' | b'f') => "true or false",
        _ => "a number",
    };
    Err(malformed(format!("{name} is {what}, not text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<[u8; 3]> {
        Object::read(text)?.array("key")
    }

    #[test]
    fn a_member_is_read_whatever_surrounds_it() {
        let deep = format!(r#" {{"x":{}{},"key":"AA\u0041A"}} "#, "[".repeat(126), "]".repeat(126));
        for text in [r#"{"key":"AAAA"}"#, "\n{\"key\": \"AAAA\", \"other\": {\"key\": 1}}", &deep] {
            assert_eq!(key(text).unwrap(), [0; 3]);
        }
    }

    #[test]
    fn every_refusal_names_the_member() {
        let deep = format!(r#"{{"key":"AAAA","x":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
        for (text, part) in [
            ("", "not a JSON object"),
            ("null", "not a JSON object"),
            (r#"["AAAA"]"#, "not a JSON object"),
            (r#"{"key":"AAAA""#, "not JSON from line 1 column"),
            (r#"{"key":"AAAA"} x"#, "not JSON from line 1 column"),
            (r#"{"key":"AAAA","key":"AAAA"}"#, "a member occurs twice"),
            ("{}", "key is missing"),
            (r#"{"key":null}"#, "key is null"),
            (r#"{"key":7}"#, "key is a number"),
            (r#"{"key":true}"#, "key is true or false"),
            (r#"{"key":[]}"#, "key is a list"),
            (r#"{"key":{}}"#, "key is an object"),
            (r#"{"key":"\ud800"}"#, "not JSON from line 1 column 9"),
            (r#"{"key":"AAAA","more":1,"more":1}"#, "a member occurs twice"),
            (&deep, "not JSON from line 1 column"),
            (r#"{"key":"!AAA"}"#, "key is not base64"),
            (r#"{"key":"AAAAAAAA"}"#, "key holds 6 bytes, not 3"),
        ] {
            let error = key(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MalformedEnvelope);
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn names_are_collected_once_each() {
        let members = Object::read(r#"{"b":1,"a":[2],"\u0063":{}}"#).unwrap().0;
        assert!(members.iter().map(|member| &*member.name).eq(["b", "a", "c"]));
        for twice in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":1}"#] {
            let error = Object::read(twice).unwrap_err();
            assert!(error.to_string().contains("occurs twice"), "{error}");
        }
    }
}
