use std::fmt;

use ensync_core::crypto::{Opener, Recipient, Sealer, Suite};
use ensync_core::{ErrorKind, FieldType, Metadata, PayloadJson, SecretKey, split_json};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::check_refusal;

/// Takes the input for JSON of any kind: what is taken means to us what it means to serde_json, and what is refused serde_json
/// refuses, too, where it is told to refuse a name that one object has twice.
pub fn json(input: &[u8]) -> bool {
    let oracle = std::str::from_utf8(input).ok().and_then(unique);
    let payload = match PayloadJson::from_bytes(input.to_vec()) {
        Ok(payload) => payload,
        Err(error) => {
            check_refusal(&error, &[ErrorKind::InvalidPayload]);
            assert_eq!(oracle, None);
            return false;
        }
    };
    let value = oracle.expect("what we take, serde_json takes");
    assert_eq!(read(&payload), value);
    check_skeleton(&payload, &value);
    let text = payload.as_str();
    assert_eq!(Metadata::parse(text).ok().map(|metadata| metadata.fields()), value.as_object().cloned());
    // Cut off by its own end, it is the same.
    let behind = format!("{text};B=:1");
    if !value.is_number() {
        assert_eq!(split_json(&behind).unwrap(), (text.trim_ascii(), &behind[text.trim_ascii_end().len()..]));
    }
    true
}

/// Through an envelope and back, as an event's reader gets it.
fn read(payload: &PayloadJson) -> Value {
    let secret = SecretKey::from_seed([1; 32]);
    let to = [Recipient::new(secret.app_id().unwrap()).unwrap()];
    let event = "a/b".parse().unwrap();
    let sealed = Sealer::new().seal(payload.as_str().as_bytes(), &to, &event, Suite::Nacl).unwrap();
    let opened = Opener::new(secret.into()).open(&sealed[0], &ensync_core::crypto::Expected::event(&event)).unwrap();
    assert_eq!(opened.text().unwrap(), payload.as_str());
    opened.json().unwrap()
}

fn check_skeleton(payload: &PayloadJson, value: &Value) {
    let skeleton = payload.about().skeleton.clone().unwrap();
    let members = value.as_object().cloned().unwrap_or_default();
    assert!(skeleton.keys().eq(members.keys()));
    for (name, kind) in skeleton {
        let fits = match &members[&name] {
            Value::Null => kind == FieldType::Null,
            Value::Bool(_) => kind == FieldType::Boolean,
            Value::String(_) => kind == FieldType::String,
            Value::Array(_) => kind == FieldType::Array,
            Value::Object(_) => kind == FieldType::Object,
            Value::Number(number) => match number.as_i64() {
                Some(whole) if i32::try_from(whole).is_ok() => kind == FieldType::Integer,
                // Whole numbers beyond 64 bits are doubles to serde_json.
                _ => {
                    matches!(kind, FieldType::Long | FieldType::Double)
                        || (kind == FieldType::Integer && number.as_f64() == Some(0.0))
                }
            },
        };
        assert!(fits, "{name:?} is {kind}");
    }
}

/// The value of a text as serde_json reads it, without its names with a meaning of their own; `None` if it does not, or one object has
/// a name twice.
pub(super) fn unique(text: &str) -> Option<Value> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Unique.deserialize(&mut reader).ok()?;
    reader.end().is_ok().then_some(value)
}

struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Unique)? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        #[derive(Deserialize)]
        struct Name(String);

        let mut members = Map::new();
        while let Some(Name(name)) = object.next_key()? {
            let value = object.next_value_seed(Unique)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a name twice"));
            }
        }
        Ok(members.into())
    }
}
