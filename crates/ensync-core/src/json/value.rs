use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use super::cursor::Cursor;
use super::{Fault, MAX_DEPTH, Why};

/// What serde_json's own types look for as the name of an object's first member.
const RESERVED: &str = "$serde_json::private::";

/// Reads JSON that somebody sent, as a tree: no name in it has a meaning of its own, and of one that occurs twice the last value
/// counts, as it does in Python, Node and Go.
pub(crate) fn value(text: &str) -> Result<Value, Fault> {
    read_all(text, &mut false)
}

/// The same, and whether a name that serde_json takes for its own is in it.
fn read_all(text: &str, reserved: &mut bool) -> Result<Value, Fault> {
    let mut cursor = Cursor::new(text);
    let value = read(&mut cursor, MAX_DEPTH, reserved)?;
    match cursor.next() {
        None => Ok(value),
        Some(_) => Err(cursor.fault(Why::Expected("the end"))),
    }
}

/// The text that a JSON text in quotation marks means; `None` if it is something else.
pub(crate) fn text(json: &str) -> Option<Cow<'_, str>> {
    let mut cursor = Cursor::new(json);
    let text = (cursor.next() == Some(b'"')).then(|| cursor.string().ok()).flatten()?;
    cursor.next().is_none().then_some(text)
}

/// Whether an object somewhere in `json` has a name that serde_json takes for its own: read as a `Value`, such an object is not
/// what it says, and what it holds is read anew without regard to depth.
pub(crate) fn has_reserved_name(json: &str) -> bool {
    // Found plainly or with escapes, or not there. What cannot be looked through may have one: serde_json passes over what we refuse.
    if !json.contains(RESERVED) && !json.contains("\\u00") {
        return false;
    }
    let mut reserved = false;
    let read = read_all(json, &mut reserved);
    reserved || read.is_err()
}

/// `left` levels may still be opened.
fn read(cursor: &mut Cursor<'_>, left: usize, reserved: &mut bool) -> Result<Value, Fault> {
    let deeper = |cursor: &Cursor<'_>| left.checked_sub(1).ok_or_else(|| cursor.fault(Why::Depth));
    match cursor.next() {
        Some(b'{') => {
            let left = deeper(cursor)?;
            cursor.step();
            let mut members = Map::new();
            while cursor.next() != Some(b'}') {
                if !members.is_empty() {
                    cursor.expect(b',', "a comma or a closing brace")?;
                }
                if cursor.next() != Some(b'"') {
                    return Err(cursor.fault(Why::Expected("a name in quotation marks")));
                }
                let name = cursor.string()?.into_owned();
                cursor.expect(b':', "a colon")?;
                // Looked at here, for of a name that is there twice one value is lost.
                *reserved |= name.starts_with(RESERVED);
                members.insert(name, read(cursor, left, reserved)?);
            }
            cursor.step();
            Ok(Value::Object(members))
        }
        Some(b'[') => {
            let left = deeper(cursor)?;
            cursor.step();
            let mut values = Vec::new();
            while cursor.next() != Some(b']') {
                if !values.is_empty() {
                    cursor.expect(b',', "a comma or a closing bracket")?;
                }
                values.push(read(cursor, left, reserved)?);
            }
            cursor.step();
            Ok(Value::Array(values))
        }
        Some(b'"') => cursor.string().map(|text| Value::String(text.into_owned())),
        Some(b'-' | b'0'..=b'9') => {
            let text = cursor.number()?;
            Ok(Value::Number(number(text)))
        }
        _ => Ok(match cursor.word()? {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => Value::Null,
        }),
    }
}

/// A whole number of 64 bits exactly, any other as the nearest double.
fn number(text: &str) -> Number {
    let whole = || text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from)).ok();
    // Minus zero is a double, or it would lose its sign.
    let whole = if text == "-0" { None } else { whole() };
    whole.or_else(|| Number::from_f64(text.parse().ok()?)).unwrap_or_else(|| Number::from(0))
}
