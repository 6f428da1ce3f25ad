//! What a request says, read into what a route asks for. What is wrong with it is said here, in words of our own: where, what should
//! stand there, and of what kind it is. Serde's own words repeat what was sent, which may be a key.

use std::fmt;

use ensync_core::Given;
use serde::de::value::StringDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor,
};
use serde_json::{Map, Value};

/// Reads a checked body.
pub(super) fn body<T: DeserializeOwned>(value: Value) -> Result<T, Wrong> {
    T::deserialize(Said { value, words: false }).map_err(|wrong| wrong.of("the body"))
}

/// Reads what is behind the question mark, of which every value is a word.
pub(super) fn query<T: DeserializeOwned>(pairs: Vec<(String, String)>) -> Result<T, Wrong> {
    let mut members = Map::new();
    for (name, value) in pairs {
        if members.contains_key(&name) {
            return Err(Wrong::new(format!("{} is there twice", Given(&name))).of("the query"));
        }
        members.insert(name, Value::String(value));
    }
    T::deserialize(Said { value: Value::Object(members), words: true }).map_err(|wrong| wrong.of("the query"))
}

/// Where a request is wrong, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// From the outside in.
    path: String,
    why: String,
}

impl Wrong {
    fn new(why: impl Into<String>) -> Self {
        Self { path: String::new(), why: why.into() }
    }

    fn inside(mut self, step: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{joint}{}", self.path);
        self
    }

    /// Names the whole if it is the whole that is wrong.
    fn of(mut self, whole: &str) -> Self {
        if self.path.is_empty() {
            whole.clone_into(&mut self.path);
        }
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    /// From what reads our own types, which repeats no keys.
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("should be {expected}, and is {}", kind(&found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("should be {expected}, and is another {}", kind(&found).trim_start_matches("a ")))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("should be {expected}, and has {length} items"))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("should be one of {}, and is another text", known.join(", ")))
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Self::new(format!("there is no {} here; there are: {known}", Given(name)))
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(format!("{name} is missing"))
    }

    fn duplicate_field(name: &'static str) -> Self {
        Self::new(format!("{name} is there twice"))
    }
}

fn kind(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
        Unexpected::Seq => "a list",
        Unexpected::Map => "an object",
        Unexpected::Option | Unexpected::Unit => "null",
        _ => "a text",
    }
}

/// A value of a request.
struct Said {
    value: Value,
    /// Whether every value is a text, and what it is read as says what it means.
    words: bool,
}

impl Said {
    fn wrong<T>(&self, expected: &str) -> Result<T, Wrong> {
        let found = match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        Err(Wrong::new(format!("should be {expected}, and is {found}")))
    }

    fn object<'de, V: Visitor<'de>>(self, known: &'static [&'static str], visitor: V) -> Result<V::Value, Wrong> {
        match self.value {
            Value::Object(members) => {
                visitor.visit_map(Members { left: members.into_iter(), value: None, known, words: self.words })
            }
            _ => self.wrong("an object"),
        }
    }

    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let whole = match &self.value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) if self.words => text.parse().ok(),
            _ => None,
        };
        match whole {
            Some(whole) => visitor.visit_u64(whole),
            None if matches!(self.value, Value::Number(_)) => {
                Err(Wrong::new("should be a whole number from 0 on, and is another number"))
            }
            None => self.wrong("a whole number from 0 on"),
        }
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            self.number(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Said {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(ref number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(whole), ..) => visitor.visit_u64(whole),
                (_, Some(whole), _) => visitor.visit_i64(whole),
                (.., double) => visitor.visit_f64(double.unwrap_or_default()),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => visitor.visit_seq(Items { left: items.into_iter(), at: 0, words: self.words }),
            Value::Object(_) => self.object(&[], visitor),
        }
    }

    numbers! {
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::String(text) if self.words && text == "true" => visitor.visit_bool(true),
            Value::String(text) if self.words && text == "false" => visitor.visit_bool(false),
            _ => self.wrong("true or false"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.value {
            Value::String(text) => visitor.visit_string(text),
            _ => self.wrong("a text"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.value.is_array() { self.deserialize_any(visitor) } else { self.wrong("a list") }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.object(&[], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.object(known, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.value {
            Value::String(text) => visitor.visit_enum(IntoDeserializer::<Wrong>::into_deserializer(text)),
            _ => self.wrong(&format!("one of {}", known.join(", "))),
        }
    }

    serde::forward_to_deserialize_any! {
        f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// The members of an object.
struct Members {
    left: serde_json::map::IntoIter,
    /// The value of the last name.
    value: Option<(String, Value)>,
    /// The names that may be shown whole.
    known: &'static [&'static str],
    words: bool,
}

impl<'de> de::MapAccess<'de> for Members {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        let Some((name, value)) = self.left.next() else { return Ok(None) };
        self.value = Some((name.clone(), value));
        seed.deserialize(StringDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let (name, value) = self.value.take().ok_or_else(|| Wrong::new("a value without a name"))?;
        let said = Said { value, words: self.words };
        seed.deserialize(said).map_err(|wrong| match self.known.iter().find(|known| **known == name) {
            Some(known) => wrong.inside(known),
            None => wrong.inside(&Given(&name).to_string()),
        })
    }
}

/// The items of a list.
struct Items {
    left: std::vec::IntoIter<Value>,
    at: usize,
    words: bool,
}

impl<'de> de::SeqAccess<'de> for Items {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let Some(value) = self.left.next() else { return Ok(None) };
        let at = self.at;
        self.at += 1;
        seed.deserialize(Said { value, words: self.words }).map(Some).map_err(|wrong| wrong.inside(&format!("[{at}]")))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only what is refused is looked at")]
    struct Asked {
        name: String,
        limit: Option<u32>,
        all: Option<bool>,
        list: Option<Vec<String>>,
        order: Option<Order>,
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    enum Order {
        Ascending,
        Descending,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only what is refused is looked at")]
    struct Inner {
        publish: bool,
    }

    const SECRET: &str = "hunter2-hunter2";

    #[test]
    fn what_is_wrong_is_told_by_place_and_kind() {
        for (value, told) in [
            (json!([SECRET]), "the body: should be an object, and is a list"),
            (json!(SECRET), "the body: should be an object, and is a text"),
            (json!({}), "the body: name is missing"),
            (json!({"name": 7}), "name: should be a text, and is a number"),
            (json!({"name": null}), "name: should be a text, and is null"),
            (json!({"name": "", "limit": SECRET}), "limit: should be a whole number from 0 on, and is a text"),
            (json!({"name": "", "limit": -1}), "limit: should be a whole number from 0 on, and is another number"),
            (json!({"name": "", "limit": 1.5}), "limit: should be a whole number from 0 on, and is another number"),
            (json!({"name": "", "limit": 4_294_967_296_u64}), "limit: should be u32, and is another number"),
            (json!({"name": "", "all": SECRET}), "all: should be true or false, and is a text"),
            (json!({"name": "", "list": SECRET}), "list: should be a list, and is a text"),
            (json!({"name": "", "list": ["a", {}]}), "list[1]: should be a text, and is an object"),
            (
                json!({"name": "", "order": SECRET}),
                "order: should be one of Ascending, Descending, and is another text",
            ),
            (
                json!({"name": "", "order": {SECRET: 1}}),
                "order: should be one of Ascending, Descending, and is an object",
            ),
            (json!({"name": "", "inner": SECRET}), "inner: should be an object, and is a text"),
            (
                json!({"name": "", "inner": {"publish": SECRET}}),
                "inner.publish: should be true or false, and is a text",
            ),
            (
                json!({"name": "", "hunter2-hunter2": 1}),
                "the body: there is no \"hunter2-…\" here; there are: name, limit, all, list, order, inner",
            ),
        ] {
            assert_eq!(body::<Asked>(value).unwrap_err().to_string(), told);
        }
        let good = json!({"name": "n", "limit": 7, "all": null, "list": ["a"], "order": "Descending", "inner": {"publish": true, "x": [{}]}});
        let read = body::<Asked>(good).unwrap();
        assert_eq!((read.name.as_str(), read.limit, read.all), ("n", Some(7), None));
        assert!(matches!(read.order, Some(Order::Descending)));
    }

    #[test]
    fn a_query_is_words() {
        let asked = |pairs: &[(&str, &str)]| {
            query::<Asked>(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let read = asked(&[("name", "7"), ("limit", "7"), ("all", "true"), ("order", "Ascending")]).unwrap();
        assert_eq!((read.name.as_str(), read.limit, read.all), ("7", Some(7), Some(true)));
        for (pairs, told) in [
            (&[("name", "a"), ("limit", SECRET)][..], "limit: should be a whole number from 0 on, and is a text"),
            (&[("name", "a"), ("name", "b")], "the query: \"name\" is there twice"),
            (&[("name", "a"), ("all", SECRET)], "all: should be true or false, and is a text"),
            (&[("nmae", "a")], "the query: there is no \"nmae\" here; there are: name, limit, all, list, order, inner"),
        ] {
            assert_eq!(asked(pairs).unwrap_err().to_string(), told);
        }
    }
}
