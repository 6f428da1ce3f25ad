use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Error, ErrorKind, Result};

/// The type of a payload's top-level field, as skeletons and schemas name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    #[serde(other)]
    Unknown,
}

impl FieldType {
    /// The type of a JSON value.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::String(_) => Self::String,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
            Value::Number(number) => match number.as_i64() {
                Some(whole) if i32::try_from(whole).is_ok() => Self::Integer,
                Some(_) => Self::Long,
                None if number.is_u64() => Self::Long,
                None => Self::Double,
            },
        }
    }

    /// The type of a JSON value given as text that is known to be JSON.
    fn of_json(text: &str) -> Self {
        match text.as_bytes().first() {
            Some(b'"') => Self::String,
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            _ => serde_json::from_str(text).map_or(Self::Double, |number| Self::of(&Value::Number(number))),
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
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
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
        })
    }
}

/// Size and shape of a plaintext payload: what a sender tells the engine, which never sees the payload itself. **It is not
/// encrypted**: the names and types of the top-level fields are visible to the engine.
///
/// ```
/// use ensync_core::{FieldType, PayloadMetadata};
///
/// let text = r#"{"order":"123","total":99.5}"#;
/// let about = PayloadMetadata::of(&serde_json::from_str(text).unwrap(), text.len());
/// assert_eq!(about.byte_size, 28);
/// assert_eq!(about.skeleton.unwrap()["total"], FieldType::Double);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadMetadata {
    /// The length of the UTF-8 JSON text that is encrypted, in bytes.
    #[serde(default)]
    pub byte_size: u64,
    /// The types of the top-level fields; empty for a payload that is no object. Some peers send none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skeleton: Option<BTreeMap<String, FieldType>>,
    /// How many top-level fields there are. Older peers do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_count: Option<u64>,
}

impl PayloadMetadata {
    /// Of a payload whose JSON text has `byte_size` bytes.
    pub fn of(payload: &Value, byte_size: usize) -> Self {
        let skeleton: BTreeMap<_, _> = match payload {
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), FieldType::of(value))).collect(),
            _ => BTreeMap::new(),
        };
        Self { byte_size: byte_size as u64, field_count: Some(skeleton.len() as u64), skeleton: Some(skeleton) }
    }

    /// Of a payload given as JSON text, without building the value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidPayload`] if the text is not JSON.
    pub fn of_json(text: &str) -> Result<Self> {
        let invalid = |cause: serde_json::Error| {
            Error::new(ErrorKind::InvalidPayload, "the payload is not JSON").with_source(cause)
        };
        let skeleton = if text.trim_start().starts_with('{') {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(invalid)?;
            fields.into_iter().map(|(name, value)| (name, FieldType::of_json(value.get()))).collect()
        } else {
            serde_json::from_str::<&RawValue>(text).map_err(invalid)?;
            BTreeMap::new()
        };
        Ok(Self { byte_size: text.len() as u64, field_count: Some(skeleton.len() as u64), skeleton: Some(skeleton) })
    }

    /// Reads the JSON text of the wire.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is not such an object.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|cause| {
            Error::new(
                ErrorKind::InvalidInput,
                r#"payload metadata is not JSON like {"byte_size":2,"skeleton":{"field":"type"},"field_count":1}"#,
            )
            .with_source(cause)
        })
    }

    /// The JSON text of the wire.
    pub fn to_json(&self) -> String {
        // A map of strings and three numbers always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_and_we_see_the_same_shape() {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/envelopes.json")).unwrap();
        let cases = vectors["payload_metadata"].as_array().unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let json = &case["json"];
            let ours = PayloadMetadata::of(json, json.to_string().len());
            assert_eq!(PayloadMetadata::of_json(&json.to_string()).unwrap(), ours);
            let node = PayloadMetadata::parse(&case["node"].to_string()).unwrap();
            assert_eq!(ours, node, "{}", case["payload"]);
            let python = PayloadMetadata::parse(&case["python"].to_string()).unwrap();
            assert_eq!((ours.skeleton, None), (python.skeleton, python.field_count));
        }
    }

    #[test]
    fn what_is_no_object_has_an_empty_skeleton() {
        for json in ["[1]", "\"text\"", "7", "null"] {
            let about = PayloadMetadata::of(&serde_json::from_str(json).unwrap(), json.len());
            assert_eq!(PayloadMetadata::of_json(json).unwrap(), about);
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
        for bad in ["", "[]x", r#"{"byte_size":-1}"#, r#"{"skeleton":7}"#] {
            assert_eq!(PayloadMetadata::parse(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }
}
