//! Reading JSON that a peer wrote: members once each, of the right type and length, and errors that name the member and repeat
//! nothing that was sent.
//!
//! Members are first taken as raw text, so an unknown one costs no memory and its depth no stack.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::{Error, ErrorKind, Result, encoding};

/// An error of kind [`ErrorKind::MalformedEnvelope`].
pub(crate) fn malformed(why: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::MalformedEnvelope, why)
}

/// Reads an object whose members are all raw text.
pub(crate) fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    // Without this, serde would take a list of the members' values for the object.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(malformed("it is not a JSON object"));
    }
    serde_json::from_str(text).map_err(|cause| {
        let (line, column) = (cause.line(), cause.column());
        match cause.classify() {
            Category::Data => {
                malformed(format!("a member occurs twice, the second time at line {line} column {column}"))
            }
            _ => malformed(format!("it is not JSON from line {line} column {column} on")),
        }
    })
}

/// For `deserialize_with`: tells a member that is null from one that is absent.
pub(crate) fn present<'de, D: Deserializer<'de>>(member: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(member).map(Some)
}

/// A member that must be there.
pub(crate) fn required<'a>(member: Option<&'a RawValue>, name: &'static str) -> Result<&'a RawValue> {
    member.ok_or_else(|| malformed(format!("{name} is missing")))
}

/// A member that must be text.
pub(crate) fn text<'a>(member: &'a RawValue, name: &'static str) -> Result<Cow<'a, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let what = match member.get().as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<Text<'a>>(member.get()) {
            Ok(Text(text)) => return Ok(text),
            Err(_) => "text with an invalid escape",
        },
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'n') => "null",
        Some(b't' | b'f') => "true or false",
        _ => "a number",
    };
    Err(malformed(format!("{name} is {what}, not text")))
}

/// A member that must be base64.
pub(crate) fn bytes(member: Option<&RawValue>, name: &'static str) -> Result<Vec<u8>> {
    let text = text(required(member, name)?, name)?;
    encoding::decode(&text).ok_or_else(|| malformed(format!("{name} is not base64")))
}

/// A member that must be base64 of `N` bytes.
pub(crate) fn array<const N: usize>(member: Option<&RawValue>, name: &'static str) -> Result<[u8; N]> {
    let bytes = bytes(member, name)?;
    <[u8; N]>::try_from(bytes.as_slice()).map_err(|_| malformed(format!("{name} holds {} bytes, not {N}", bytes.len())))
}

/// The members of an object whose names are not known beforehand.
#[derive(Debug)]
pub(crate) struct Members<'a>(pub(crate) BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(object: D) -> Result<Self, D::Error> {
        struct Names;

        #[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        impl<'de> Visitor<'de> for Names {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((Name(name), value)) = object.next_entry::<Name<'de>, &'de RawValue>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member occurs twice"));
                    }
                }
                Ok(Members(members))
            }
        }

        object.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Sample<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        key: Option<&'a RawValue>,
    }

    fn key(text: &str) -> Result<[u8; 3]> {
        array(object::<Sample<'_>>(text)?.key, "key")
    }

    #[test]
    fn a_member_is_read_whatever_surrounds_it() {
        let deep = format!(r#" {{"x":{}{},"key":"AA\u0041A"}} "#, "[".repeat(500_000), "]".repeat(500_000));
        for text in [r#"{"key":"AAAA"}"#, "\n{\"key\": \"AAAA\", \"other\": {\"key\": 1}}", &deep] {
            assert_eq!(key(text).unwrap(), [0; 3]);
        }
    }

    #[test]
    fn every_refusal_names_the_member() {
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
            (r#"{"key":"\ud800"}"#, "key is text with an invalid escape"),
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
        let members = object::<Members<'_>>(r#"{"b":1,"a":[2],"\u0063":{}}"#).unwrap().0;
        assert!(members.keys().eq(["a", "b", "c"]));
        for twice in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":1}"#] {
            let error = object::<Members<'_>>(twice).unwrap_err();
            assert!(error.to_string().contains("occurs twice"), "{error}");
        }
    }
}
