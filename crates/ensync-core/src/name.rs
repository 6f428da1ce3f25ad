//! Event names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Error, ErrorKind, Result};

/// The name of a kind of event, such as `company/service/action`. Cheap to clone.
///
/// One or more segments joined by `/`, at most 255 bytes in all. A segment is not empty and holds no white space, no control
/// character and none of `; , { } " \`, which the WebSocket grammar and ids reserve. Names are compared byte by byte.
///
/// ```
/// use ensync_core::EventName;
///
/// let name: EventName = "orders/status/updated".parse()?;
/// assert_eq!(name.as_str(), "orders/status/updated");
/// assert!("orders//updated".parse::<EventName>().is_err());
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventName(Arc<str>);

impl EventName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Reads a name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidEventName`] says which rule is broken.
    pub fn parse(name: &str) -> Result<Self> {
        let refuse = |why: fmt::Arguments<'_>| {
            let shown: String = name.chars().take(64).collect();
            Err(Error::new(
                ErrorKind::InvalidEventName,
                format!("event name {shown:?} {why}; write it like company/service/action"),
            ))
        };
        if name.is_empty() {
            return refuse(format_args!("is empty"));
        }
        if name.len() > Self::MAX_BYTES {
            return refuse(format_args!("has {} bytes, the limit is {}", name.len(), Self::MAX_BYTES));
        }
        if name.split('/').any(str::is_empty) {
            return refuse(format_args!("has an empty segment"));
        }
        let reserved = |c: char| c.is_whitespace() || c.is_control() || ";,{}\"\\".contains(c);
        if let Some(c) = name.chars().find(|&c| reserved(c)) {
            return refuse(format_args!("holds {c:?}, which names cannot"));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventName {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        Self::parse(name)
    }
}

impl TryFrom<&str> for EventName {
    type Error = Error;
    fn try_from(name: &str) -> Result<Self> {
        Self::parse(name)
    }
}

impl TryFrom<String> for EventName {
    type Error = Error;
    fn try_from(name: String) -> Result<Self> {
        Self::parse(&name)
    }
}

impl TryFrom<&EventName> for EventName {
    type Error = Error;
    fn try_from(name: &EventName) -> Result<Self> {
        Ok(name.clone())
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventName({})", self.0)
    }
}

impl AsRef<str> for EventName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_use_are_taken() {
        for name in ["a", "payments/completed", "gms/ensync/third_party/payments/complete", "zamówienia/v2.1/new-one"]
        {
            assert_eq!(EventName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn each_rule_has_its_message() {
        let long = "x".repeat(256);
        for (name, part) in [
            ("", "is empty"),
            (long.as_str(), "has 256 bytes, the limit is 255"),
            ("a//b", "empty segment"),
            ("/a", "empty segment"),
            ("a/", "empty segment"),
            ("a b", "holds ' '"),
            ("a;BLOCK=:1", "holds ';'"),
            ("a\n", "holds '\\n'"),
            ("a{b}", "holds '{'"),
        ] {
            let error = EventName::parse(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidEventName);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
