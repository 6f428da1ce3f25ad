use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::SenderProof;
use super::sealed::SealedId;
use crate::json;
use crate::{Error, ErrorKind, Result, Timestamp};

/// An opened payload.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// The payload's JSON text, wiped when dropped.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// Who sealed it.
    pub sender: SenderProof,
    /// The name that the sender gave it; `None` in the suite "nacl".
    pub id: Option<SealedId>,
    /// When it was sealed, by the sender's clock; `None` in the suite "nacl".
    pub created: Option<Timestamp>,
}

impl Opened {
    /// The payload's JSON text, as its sender wrote it: numbers have all their digits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.plaintext).map_err(|cause| {
            Error::new(ErrorKind::Decode, format!("the payload is not UTF-8 from byte {} on", cause.valid_up_to()))
        })
    }

    /// The payload as JSON. A whole number of 64 bits is exact; any other number is the nearest double, and [`text`](Self::text) has
    /// its digits. Of a name that one object has twice the last value counts.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if it is not JSON.
    pub fn json(&self) -> Result<Value> {
        json::value(self.text()?)
            .map_err(|fault| Error::new(ErrorKind::Decode, format!("the payload is not JSON: {fault}")))
    }

    /// The payload as a `T`. What becomes of a number is for `T` to say: an `f64` rounds it, a `u128` does not.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if it is no `T`, or has a member whose name serde_json takes for its own
    /// (`$serde_json::private::…`): a `T` that holds a [`Value`] would not get what was sent. [`json`](Self::json) and
    /// [`text`](Self::text) read it. It may have one, and is refused, if characters are written `\u00…` in it and it is nothing that
    /// [`json`](Self::json) reads, as with a number beyond the range of a double.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        let refuse = |why: String| {
            let what = std::any::type_name::<T>();
            Err(Error::new(ErrorKind::Decode, format!("the payload is no {what}: {why}")))
        };
        let text = self.text()?;
        if json::has_reserved_name(text) {
            return refuse(
                "a member has, or may have, a name of serde_json's own; read it as JSON or as text".to_owned(),
            );
        }
        serde_json::from_str(text).or_else(|cause| refuse(mismatch(&cause)))
    }
}

/// Where the payload differs from what was asked for. The error itself would repeat a part of the payload, which has no place in logs.
fn mismatch(cause: &serde_json::Error) -> String {
    let why = match cause.classify() {
        Category::Data => "another type, a missing field or a value out of range",
        Category::Eof => "it ends too early",
        Category::Syntax | Category::Io => "it is not JSON",
    };
    format!("{why}, at line {}, column {}", cause.line(), cause.column())
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("plaintext", &format_args!("{} bytes", self.plaintext.len()))
            .field("sender", &self.sender)
            .field("id", &self.id)
            .field("created", &self.created)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(text: &str) -> Opened {
        Opened {
            plaintext: Zeroizing::new(text.as_bytes().to_vec()),
            sender: SenderProof::Unverified,
            id: None,
            created: None,
        }
    }

    #[test]
    fn no_name_switches_the_parser() {
        let bomb = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        for name in
            ["$serde_json::private::RawValue", "$serde_json::private::Number", r"$serde_json::private\u003a:RawValue"]
        {
            let text = format!(r#"{{"a":[{{"{name}":"{bomb}"}}]}}"#);
            let json = opened(&text).json().unwrap();
            let (name, value) = json["a"][0].as_object().unwrap().iter().next().unwrap();
            assert!(name.starts_with("$serde_json::private::"));
            assert_eq!(value, bomb.as_str());
            let error = opened(&text).decode::<Value>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
            assert!(error.to_string().contains("serde_json's own"), "{error}");
        }
    }

    #[test]
    fn no_name_switches_the_parser_behind_what_is_refused_or_lost() {
        #[derive(Debug, serde::Deserialize)]
        struct Wanted {
            #[allow(dead_code, reason = "it is not to be read")]
            v: Value,
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let reserved = r#"{"$serde_json::private::RawValue":"{\"admin\":true}"}"#;
        for ignored in ["1e400", r#""\ud800""#, &deep, r#"{"a":1,"a":2}"#] {
            let text = format!(r#"{{"x":{ignored},"v":{reserved}}}"#);
            assert_eq!(opened(&text).decode::<Wanted>().unwrap_err().kind(), ErrorKind::Decode, "{text}");
        }
        for twice in [format!(r#"{{"v":{reserved},"v":1}}"#), format!(r#"{{"a":[{reserved}],"a":1,"v":1}}"#)] {
            assert_eq!(opened(&twice).decode::<Value>().unwrap_err().kind(), ErrorKind::Decode, "{twice}");
        }
        assert_eq!(opened(r#"{"x":1e400,"v":"$ 5"}"#).decode::<Wanted>().unwrap().v, "$ 5");
    }

    #[test]
    fn numbers_keep_what_their_type_can_hold() {
        let text = r#"{"n":123456789012345678901234567890,"d":1.10}"#;
        let opened = opened(text);
        assert_eq!(opened.text().unwrap(), text);
        let typed: std::collections::BTreeMap<String, f64> = opened.decode().unwrap();
        assert_eq!(typed["d"], 1.1);
        assert_eq!(opened.json().unwrap()["n"], 123456789012345678901234567890.0);
        let exact: u128 = super::tests::opened("123456789012345678901234567890").decode().unwrap();
        assert_eq!(exact, 123_456_789_012_345_678_901_234_567_890);
    }

    #[test]
    fn what_is_no_json_is_no_payload() {
        for text in ["", "{", "1e400", "\"\\ud800\""] {
            assert_eq!(opened(text).json().unwrap_err().kind(), ErrorKind::Decode, "{text}");
            assert_eq!(opened(text).decode::<Value>().unwrap_err().kind(), ErrorKind::Decode, "{text}");
        }
        assert_eq!(opened(r#"{"a":1,"a":2}"#).json().unwrap()["a"], 2);
    }
}
