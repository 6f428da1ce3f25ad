//! One rule for JSON, at every edge: accepted is what all published clients read (Python's `json`, Node's `JSON.parse`, Go's
//! `encoding/json`), refused is what one of them cannot read or reads as something else.
//!
//! Refused are, beside what is no JSON (RFC 8259): a name that one object has twice (readers take the first, or the last, or none);
//! half of a surrogate pair; a number beyond the range of a double; more than [`MAX_DEPTH`] levels. What is accepted is kept as
//! text, so that numbers keep their digits.
//!
//! The check is one pass without a tree, on a stack of its own. No name inside a document has a meaning here: serde_json's
//! [`Value`](serde_json::Value) has two that make it read on in another way, so nothing a peer sent is read as one by serde_json.

mod cursor;
mod fault;
mod finite;
mod outline;
mod scan;
mod value;

use serde::Serialize;

use crate::{Error, ErrorKind, Result};

pub(crate) use fault::{Fault, Why};
use finite::not_finite;
pub(crate) use outline::outline;
pub(crate) use scan::{Member, scan};
pub(crate) use value::{has_reserved_name, text, value};

/// How many levels of objects and arrays a document may have.
pub(crate) const MAX_DEPTH: usize = 127;

/// Cuts a JSON value off the front of a text, checked by the rule of [`PayloadJson`](crate::PayloadJson): the value, and what follows.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] names the place and what is wrong there.
pub fn split_json(text: &str) -> Result<(&str, &str)> {
    scan::prefix(text).map_err(|fault| Error::new(ErrorKind::InvalidInput, fault.to_string()))
}

/// Checks that bytes are a JSON value by the rule of [`PayloadJson`](crate::PayloadJson), and gives them as text. `what` they are
/// begins the message of the error.
///
/// ```
/// use ensync_core::check_json;
///
/// assert_eq!(check_json("the body", b"[1, 2]")?, "[1, 2]");
/// let error = check_json("the body", br#"{"a":1,"a":2}"#).unwrap_err();
/// assert!(error.to_string().starts_with("the body is not JSON that every client reads: line 1 column 8 "));
/// # Ok::<(), ensync_core::Error>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] names the place and what is wrong there.
pub fn check_json<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(bytes).map_err(|cause| Fault::in_bytes(Why::Utf8, bytes, cause.valid_up_to()));
    let checked = text.and_then(|text| scan(text).map(|_| text));
    checked.map_err(|fault| fault.error(ErrorKind::InvalidInput, what))
}

/// Reads JSON that somebody sent, as a tree in which no name has a meaning of its own: serde_json gives two of them one. `what` it is
/// begins the message of the error. Of a name that one object has twice the last value counts.
///
/// ```
/// use ensync_core::read_json;
///
/// let schema = br#"{"$serde_json::private::RawValue": "string"}"#;
/// assert_eq!(read_json("the answer", schema)?["$serde_json::private::RawValue"], "string");
/// # Ok::<(), ensync_core::Error>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] names the place and what is wrong there.
pub fn read_json(what: &str, bytes: &[u8]) -> Result<serde_json::Value> {
    let text = std::str::from_utf8(bytes).map_err(|cause| Fault::in_bytes(Why::Utf8, bytes, cause.valid_up_to()));
    text.and_then(value).map_err(|fault| fault.error(ErrorKind::InvalidInput, what))
}

/// The JSON object or list that a text begins with, as far as its braces and brackets tell where it ends, and what is behind it. Nothing else
/// of it is looked at: for what is too long to be read.
///
/// ```
/// use ensync_core::skip_json;
///
/// assert_eq!(skip_json(r#"{"a":"}"};B"#), Some((r#"{"a":"}"}"#, ";B")));
/// assert_eq!(skip_json(r#"{"a":"#), None);
/// ```
pub fn skip_json(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return text.split_at_checked(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Writes a value as JSON that every client reads, by the rule of [`PayloadJson`](crate::PayloadJson). `what` it is begins the message of
/// the error.
///
/// ```
/// use ensync_core::write_json;
///
/// assert_eq!(write_json("the header", &123_456_789_012_345_678_901_u128)?, "123456789012345678901");
/// let error = write_json("the header", &f64::NAN).unwrap_err();
/// assert_eq!(error.to_string(), "the header holds an infinite or undefined number, which JSON has not");
/// # Ok::<(), ensync_core::Error>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if it cannot be written so: see [`PayloadJson::of`](crate::PayloadJson::of).
pub fn write_json(what: &str, value: &(impl Serialize + ?Sized)) -> Result<String> {
    let text = written(ErrorKind::InvalidInput, what, value)?;
    scan(&text).map_err(|fault| fault.error(ErrorKind::InvalidInput, what))?;
    Ok(text)
}

/// A value as JSON that is not checked otherwise.
pub(crate) fn written(kind: ErrorKind, what: &str, value: &(impl Serialize + ?Sized)) -> Result<String> {
    let text = serde_json::to_string(value)
        .map_err(|cause| Error::new(kind, format!("{what} cannot be written as JSON")).with_source(cause))?;
    // An infinite or undefined number would go out as null.
    if text.contains("null")
        && let Some(place) = not_finite(value)
    {
        let place = if place.is_empty() { String::new() } else { format!(" at {}", crate::printable(&place)) };
        let message = format!("{what} holds an infinite or undefined number{place}, which JSON has not");
        return Err(Error::new(kind, message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
