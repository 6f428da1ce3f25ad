use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::convert::parsed;
use crate::json::{self, Member};
use crate::text::Given;
use crate::{Error, ErrorKind, FieldType, PayloadMetadata, Result};

/// The fields that payloads of an event name must have, and their types.
///
/// Written as a JSON object `{"field": "type"}`. Types are case-insensitive: `string`, `integer` (`int`), `long`, `double`,
/// `float`, `number`, `boolean` (`bool`), `object`, `array`, `null`. A field that is missing is an error, one that is extra is
/// not. Whole numbers widen: `long` takes an integer, `double` and `float` take every number (JavaScript writes 100.0 as 100).
///
/// ```
/// use ensync_core::{PayloadMetadata, Schema};
///
/// let schema = Schema::parse(r#"{"order": "string", "total": "double"}"#)?;
/// schema.check(&PayloadMetadata::of_json(r#"{"order": "o-1", "total": 100}"#)?)?;
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema(BTreeMap<String, FieldType>);

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is not an object of known type names.
    pub fn parse(text: &str) -> Result<Self> {
        let like = r#"a schema is a JSON object like {"order": "string"}"#;
        let fields = match json::scan(text) {
            Ok(scanned) => scanned.members.ok_or_else(|| Error::new(ErrorKind::InvalidInput, like))?,
            Err(fault) => return Err(fault.error(ErrorKind::InvalidInput, "the schema")),
        };
        let read = |Member { name, value, .. }: Member<'_>| match json::text(value)
            .as_deref()
            .and_then(FieldType::of_schema)
        {
            Some(kind) => Ok((name.into_owned(), kind)),
            None => Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "schema: the type of field {} is {}; it must be one of string, integer, long, double, float, number, \
                     boolean, object, array, null",
                    Given(&name),
                    Given(value.trim_matches('"'))
                ),
            )),
        };
        fields.into_iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// The fields and their types.
    pub fn fields(&self) -> impl Iterator<Item = (&str, FieldType)> {
        self.0.iter().map(|(field, kind)| (field.as_str(), *kind))
    }

    /// The schema as JSON.
    pub fn to_json(&self) -> String {
        self.fields()
            .map(|(field, kind)| (field.to_owned(), Value::String(kind.to_string())))
            .collect::<Value>()
            .to_string()
    }

    /// Checks a payload by its skeleton. One without a skeleton passes: its sender did not say.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SchemaMismatch`] names the first 16 fields that are missing or of another type, and says how many more there are;
    /// [`ErrorKind::PayloadTooLarge`] if there are so many fields that an engine has not [read](PayloadMetadata::unread) what they are.
    pub fn check(&self, payload: &PayloadMetadata) -> Result<()> {
        if payload.unread && !self.0.is_empty() {
            let message = format!(
                "the payload has too many fields for an event with a schema: their names and types take more than {} bytes; put what \
                 the schema does not name into one of them",
                PayloadMetadata::MAX_BYTES
            );
            return Err(Error::new(ErrorKind::PayloadTooLarge, message));
        }
        let Some(skeleton) = &payload.skeleton else { return Ok(()) };
        let mut complaints = self.fields().filter_map(|(field, wanted)| match skeleton.get(field) {
            None => Some(format!("field {} is missing", Shown(field))),
            Some(&found) if !fits(found, wanted) => Some(format!("field {} is {found}, not {wanted}", Shown(field))),
            Some(_) => None,
        });
        let mut said = complaints.by_ref().take(MAX_COMPLAINTS).collect::<Vec<_>>();
        if said.is_empty() {
            return Ok(());
        }
        let more = complaints.count();
        if more > 0 {
            said.push(format!("and {more} more"));
        }
        let message = format!("the payload breaks the event's schema: {}", said.join("; "));
        Err(Error::new(ErrorKind::SchemaMismatch, message))
    }
}

parsed!(Schema);

/// How many fields an error names.
const MAX_COMPLAINTS: usize = 16;

/// The name of a field as an error shows it: in quotes, what cannot be seen escaped, and so much of it that people know it by.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 64;
        match self.0.char_indices().nth(MOST) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}…", self.0.get(..end).unwrap_or_default()),
        }
    }
}

/// Whether a value whose skeleton says `found` may stand in a field of type `wanted`.
fn fits(found: FieldType, wanted: FieldType) -> bool {
    use FieldType::{Double, Float, Integer, Long, Number, Unknown};
    match wanted {
        Integer => matches!(found, Integer | Number),
        Long => matches!(found, Integer | Long | Number),
        Double | Float | Number => matches!(found, Integer | Long | Double | Float | Number),
        _ => found == wanted,
    }
    .max(found == Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &str, payload: &str) -> Result<()> {
        Schema::parse(schema).unwrap().check(&PayloadMetadata::of_json(payload).unwrap())
    }

    #[test]
    fn numbers_widen_and_never_narrow() {
        for (kind, value, fits) in [
            ("long", "5", true),
            ("long", "5000000000", true),
            ("int", "5000000000", false),
            ("Integer", "5", true),
            ("double", "100", true),
            ("float", "99.5", true),
            ("double", "5000000000", true),
            ("integer", "1.5", false),
            ("number", "1.5", true),
            ("BOOL", "true", true),
            ("string", "1", false),
            ("null", "null", true),
            ("object", "[]", false),
            ("long", "123456789012345678901234567890", true),
            ("long", "-0", true),
            ("int", "-0", true),
            ("long", "1.0", false),
            ("double", "123456789012345678901234567890", true),
        ] {
            let checked = check(&format!(r#"{{"f":"{kind}"}}"#), &format!(r#"{{"f":{value}}}"#));
            assert_eq!(checked.is_ok(), fits, "{kind} {value}");
        }
    }

    #[test]
    fn every_complaint_is_named() {
        let error = check(r#"{"a":"string","b":"int","c":"bool"}"#, r#"{"a":1,"c":true,"extra":0}"#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
        let text = error.to_string();
        assert!(text.contains(r#"field "a" is integer, not string"#), "{text}");
        assert!(text.contains(r#"field "b" is missing"#), "{text}");
        assert!(!text.contains("extra") && !text.contains("\"c\""), "{text}");
    }

    #[test]
    fn a_schema_of_thousands_of_long_names_gives_a_short_complaint() {
        let names: Vec<String> = (0..5_000).map(|n| format!("\"{n:04}{}\":\"int\"", "x".repeat(1_000))).collect();
        let text = check(&format!("{{{}}}", names.join(",")), "{}").unwrap_err().to_string();
        assert!(text.contains("field \"0000xxx") && text.ends_with("; and 4984 more"), "{text}");
        assert!(text.len() < 2_000, "{}", text.len());
    }

    #[test]
    fn an_unknown_shape_passes() {
        let schema = Schema::parse(r#"{"a":"string"}"#).unwrap();
        schema.check(&PayloadMetadata { byte_size: 1, ..PayloadMetadata::default() }).unwrap();
        schema.check(&PayloadMetadata::parse(r#"{"byte_size":1,"skeleton":{"a":"novel"}}"#).unwrap()).unwrap();
        assert!(schema.check(&PayloadMetadata::parse(r#"{"byte_size":1,"skeleton":{}}"#).unwrap()).is_err());
    }

    /// Whoever sends it chooses how many fields stand beside the one that is wrong.
    #[test]
    fn nobody_gets_past_a_schema_by_many_fields() {
        let schema = Schema::parse(r#"{"a":"string"}"#).unwrap();
        for (more, kind) in [
            (10, ErrorKind::SchemaMismatch),
            (4_000, ErrorKind::SchemaMismatch),
            (50_000, ErrorKind::PayloadTooLarge),
            (400_000, ErrorKind::PayloadTooLarge),
        ] {
            let fields: String = (0..more).map(|n| format!(",\"field{n}\":0")).collect();
            let about = PayloadMetadata::of_json(&format!("{{\"a\":1{fields}}}")).unwrap();
            let received = PayloadMetadata::received(&about.to_json()).unwrap().unwrap();
            assert_eq!(schema.check(&received).unwrap_err().kind(), kind, "{more}");
        }
    }

    #[test]
    fn bad_schemas_say_where() {
        for (text, part) in [
            ("[]", "JSON object"),
            (r#"{"a":"int","a":"string"}"#, "line 1 column 12"),
            (r#"{"a":"decimal"}"#, "\"a\""),
            (r#"{"a":{"b":"int"}}"#, "\"a\""),
        ] {
            assert!(Schema::parse(text).unwrap_err().to_string().contains(part), "{text}");
        }
        for long in [format!("{{\"a\":{:?}}}", "x".repeat(10_000)), format!("{{{:?}:[]}}", "x".repeat(10_000))] {
            assert!(Schema::parse(&long).unwrap_err().to_string().len() < 300);
        }
        let schema = Schema::parse(r#"{"a":"INT","b":"Bool"}"#).unwrap();
        assert_eq!(schema.to_json(), r#"{"a":"integer","b":"boolean"}"#);
        assert_eq!(Schema::parse(&schema.to_json()).unwrap(), schema);
    }
}
