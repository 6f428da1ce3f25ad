use std::fmt;

use serde::Serialize;

use super::{FieldType, PayloadMetadata};
use crate::convert::parsed;
use crate::json::{self, Fault, Why};
use crate::{Error, ErrorKind, Result};

/// A payload's JSON text, checked once: what every published client reads, and reads alike. It carries its own size and shape.
///
/// Python's `json`, Node's `JSON.parse` and Go's `encoding/json` do not read the same. What one of them cannot read, or reads as
/// something else, is refused: a name that one object has twice, half of a surrogate pair (`"\ud800"`), a number beyond the range of
/// a double (`1e400`), more than 127 levels. Everything else is kept as it was written; what a reader then makes of a number of
/// more than 17 digits is its own affair (Node rounds it, Python does not).
///
/// ```
/// use ensync_core::{FieldType, PayloadJson};
///
/// let payload = PayloadJson::parse(r#"{"order":"123","total":99.50}"#)?;
/// assert_eq!(payload.as_str(), r#"{"order":"123","total":99.50}"#);
/// assert_eq!(payload.about().skeleton.as_ref().unwrap()["total"], FieldType::Double);
///
/// let error = PayloadJson::parse(r#"{"amount":"7","amount":7}"#).unwrap_err();
/// assert!(error.to_string().contains("line 1 column 15 (byte 14): a name that its object has already"));
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PayloadJson {
    text: String,
    about: PayloadMetadata,
}

impl PayloadJson {
    /// Checks JSON text.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidPayload`] names the place and what is wrong there. It repeats nothing of the payload.
    pub fn parse(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let scanned = json::scan(&text).map_err(invalid)?;
        let members = scanned.members.unwrap_or_default();
        let about = PayloadMetadata {
            byte_size: text.len() as u64,
            field_count: Some(members.len() as u64),
            skeleton: Some(members.into_iter().map(|m| (m.name.into_owned(), FieldType::of_json(m.value))).collect()),
            unread: false,
        };
        Ok(Self { text, about })
    }

    /// Checks bytes that should be JSON text.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), and if they are not UTF-8.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        let text = String::from_utf8(bytes)
            .map_err(|cause| invalid(Fault::in_bytes(Why::Utf8, cause.as_bytes(), cause.utf8_error().valid_up_to())))?;
        Self::parse(text)
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidPayload`] if it cannot be written as JSON (a map whose keys are not text, for one; an infinite number, which
    /// the message names by its place), or not as JSON that every client reads.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Result<Self> {
        let text = json::written(ErrorKind::InvalidPayload, "the payload", value)?;
        Self::parse(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its size and shape.
    pub fn about(&self) -> &PayloadMetadata {
        &self.about
    }
}

parsed!(owned PayloadJson);

fn invalid(fault: Fault) -> Error {
    fault.error(ErrorKind::InvalidPayload, "the payload")
}

impl fmt::Debug for PayloadJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayloadJson({} bytes)", self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_json_has_not_is_refused_with_its_place() {
        for number in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let error = PayloadJson::of(&std::collections::HashMap::from([("total", [0.5, number])])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidPayload);
            assert!(error.to_string().contains("undefined number at [0][1]"), "{error}");
        }
        assert_eq!(PayloadJson::of(&(None::<f64>, 0.5)).unwrap().as_str(), "[null,0.5]");
    }
}
