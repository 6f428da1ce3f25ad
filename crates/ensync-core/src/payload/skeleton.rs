use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::PayloadJson;
use crate::convert::parsed;
use crate::json::{self, Member};
use crate::{Error, ErrorKind, Result};

/// The type of a payload's top-level field, as skeletons and schemas name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FieldType {
    /// Text.
    String,
    /// A whole number that fits a signed 32-bit integer.
    Integer,
    /// Any other whole number.
    Long,
    /// A number with a fraction or an exponent.
    Double,
    /// In schemas the same as [`Double`](Self::Double); skeletons of ours never hold it.
    Float,
    /// Any number: what older peers write.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An object.
    Object,
    /// An array.
    Array,
    /// `null`.
    Null,
    /// A name that this version does not know. It fits every field.
    Unknown,
}

impl FieldType {
    /// The type of a JSON value given as checked text.
    ///
    /// A number is what it is written as: whole without a fraction and an exponent, of whatever length, as Python tells them apart.
    /// (Node, which cannot, writes no other form of a whole number.)
    pub(super) fn of_json(text: &str) -> Self {
        match text.as_bytes().first() {
            Some(b'"') => Self::String,
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            _ if text.contains(['.', 'e', 'E']) => Self::Double,
            _ if text.parse::<i32>().is_ok() => Self::Integer,
            _ => Self::Long,
        }
    }

    /// Reads a type's name in a skeleton, which is spelt in one way.
    fn of_skeleton(name: &str) -> Self {
        match Self::of_schema(name) {
            Some(known) if known.name() == name => known,
            _ => Self::Unknown,
        }
    }

    /// Reads a type's name in a schema: case-insensitive, with the aliases `int` and `bool`.
    pub(crate) fn of_schema(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "string" => Self::String,
            "integer" | "int" => Self::Integer,
            "long" => Self::Long,
            "double" => Self::Double,
            "float" => Self::Float,
            "number" => Self::Number,
            "boolean" | "bool" => Self::Boolean,
            "object" => Self::Object,
            "array" => Self::Array,
            "null" => Self::Null,
            _ => return None,
        })
    }

    /// Its name, as skeletons have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Long => "long",
            Self::Double => "double",
            Self::Float => "float",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Object => "object",
            Self::Array => "array",
            Self::Null => "null",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Size and shape of a plaintext payload: what a sender tells the engine, which never sees the payload itself. **It is not
/// encrypted**: the names and types of the top-level fields are visible to the engine.
///
/// ```
/// use ensync_core::{FieldType, PayloadMetadata};
///
/// let text = r#"{"order":"123","total":99.5}"#;
/// let about = PayloadMetadata::of_json(text)?;
/// assert_eq!(about.byte_size, 28);
/// assert_eq!(about.skeleton.unwrap()["total"], FieldType::Double);
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PayloadMetadata {
    /// The length of the UTF-8 JSON text that is encrypted, in bytes.
    pub byte_size: u64,
    /// The types of the top-level fields; empty for a payload that is no object. Some peers send none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skeleton: Option<BTreeMap<String, FieldType>>,
    /// How many top-level fields there are. Older peers do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_count: Option<u64>,
    /// Whether so much was said that an engine did not read it. No schema fits then: nobody gets past one by many fields.
    #[serde(skip)]
    pub unread: bool,
}

impl PayloadMetadata {
    /// Of a payload given as JSON text. Whoever goes on with the text takes [`PayloadJson::parse`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidPayload`] if the text is not JSON that every client reads.
    pub fn of_json(text: &str) -> Result<Self> {
        PayloadJson::parse(text).map(|payload| payload.about().clone())
    }

    /// The longest text that an engine reads, in bytes: some 10,000 fields. It costs a look at each, and whoever sends it chooses how many
    /// there are.
    pub const MAX_BYTES: usize = 256 << 10;

    /// Reads what an engine was sent. An empty text says nothing; one that is longer than [`MAX_BYTES`](Self::MAX_BYTES) is
    /// [not read](Self::unread).
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn received(text: &str) -> Result<Option<Self>> {
        match text.len() {
            0 => Ok(None),
            1..=Self::MAX_BYTES => Self::parse(text).map(Some),
            _ => Ok(Some(Self { unread: true, ..Self::default() })),
        }
    }

    /// Reads the JSON text of the wire. Members that it does not know, and members that are null, are as if they were not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is not such an object.
    pub fn parse(text: &str) -> Result<Self> {
        let members = match json::scan(text) {
            Ok(scanned) => scanned.members.ok_or_else(|| unlike("it is not a JSON object"))?,
            Err(fault) => return Err(fault.error(ErrorKind::InvalidInput, "payload metadata")),
        };
        let member = |name: &str| members.iter().find(|m| m.name == name && m.value != "null").map(|m| m.value);
        let count = |name| {
            let count = |text: &str| {
                text.parse::<u64>().map_err(|_| unlike(&format!("{name} is not a whole number of 64 bits")))
            };
            member(name).map(count).transpose()
        };
        let skeleton = match member("skeleton") {
            None => None,
            Some(skeleton) => {
                let fields = json::scan(skeleton).ok().and_then(|scanned| scanned.members);
                let fields = fields.ok_or_else(|| unlike("skeleton is not an object"))?;
                let field = |Member { name, value, .. }: Member<'_>| match json::text(value) {
                    Some(kind) => Ok((name.into_owned(), FieldType::of_skeleton(&kind))),
                    None => Err(unlike("skeleton holds a type that is not text")),
                };
                Some(fields.into_iter().map(field).collect::<Result<_>>()?)
            }
        };
        let (byte_size, field_count) = (count("byte_size")?.unwrap_or_default(), count("field_count")?);
        Ok(Self { byte_size, skeleton, field_count, unread: false })
    }

    /// The JSON text of the wire.
    pub fn to_json(&self) -> String {
        // A map of strings and three numbers always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }
}

parsed!(PayloadMetadata);

fn unlike(why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!(
            r#"payload metadata is not like {{"byte_size":2,"skeleton":{{"field":"type"}},"field_count":1}}: {why}"#
        ),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn peers_and_we_see_the_same_shape() {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/envelopes.json")).unwrap();
        let cases = vectors["payload_metadata"].as_array().unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let json = &case["json"];
            let ours = PayloadMetadata::of_json(&json.to_string()).unwrap();
            let node = PayloadMetadata::parse(&case["node"].to_string()).unwrap();
            assert_eq!(ours, node, "{}", case["payload"]);
            let python = PayloadMetadata::parse(&case["python"].to_string()).unwrap();
            assert_eq!((ours.skeleton, None), (python.skeleton, python.field_count));
        }
    }

    #[test]
    fn what_is_no_object_has_an_empty_skeleton() {
        for json in ["[1]", "\"text\"", "7", "null"] {
            let about = PayloadMetadata::of_json(json).unwrap();
            assert_eq!((about.skeleton.unwrap().len(), about.field_count), (0, Some(0)));
        }
    }

    #[test]
    fn older_and_unknown_forms_are_read() {
        let about =
            PayloadMetadata::parse(r#"{"byte_size":3,"skeleton":{"a":"number","b":"decimal"},"new":1}"#).unwrap();
        let skeleton = about.skeleton.unwrap();
        assert_eq!((skeleton["a"], skeleton["b"]), (FieldType::Number, FieldType::Unknown));
        assert_eq!(PayloadMetadata::parse(r#"{"byte_size":3}"#).unwrap().skeleton, None);
        for bad in [
            "",
            "[]x",
            "[]",
            "[3]",
            "null",
            r#"[3,{"a":"string"},1]"#,
            r#"{"byte_size":-1}"#,
            r#"{"byte_size":"3"}"#,
            r#"{"skeleton":7}"#,
            r#"{"skeleton":[]}"#,
            r#"{"skeleton":{"a":1}}"#,
            r#"{"skeleton":{"a":"string","a":"integer"}}"#,
            r#"{"skeleton":{},"skeleton":{"a":"string"}}"#,
        ] {
            assert_eq!(PayloadMetadata::parse(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn a_number_is_of_the_type_that_its_text_says() {
        for (text, kind) in [
            ("0", FieldType::Integer),
            ("-0", FieldType::Integer),
            ("2147483647", FieldType::Integer),
            ("-2147483648", FieldType::Integer),
            ("2147483648", FieldType::Long),
            ("-2147483649", FieldType::Long),
            ("18446744073709551615", FieldType::Long),
            ("18446744073709551616", FieldType::Long),
            ("-9223372036854775809", FieldType::Long),
            ("123456789012345678901234567890", FieldType::Long),
            ("1.0", FieldType::Double),
            ("-0.0", FieldType::Double),
            ("1e2", FieldType::Double),
            ("1E4", FieldType::Double),
        ] {
            let about = PayloadMetadata::of_json(&format!(r#"{{"n":{text}}}"#)).unwrap();
            assert_eq!(about.skeleton.unwrap()["n"], kind, "{text}");
        }
    }
}
