//! Names of events and of apps.

use std::fmt;
use std::sync::Arc;

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::convert::{as_text, from_text};
use crate::text::{Given, GivenChar, is_invisible, refuse_keys_as_name};
use crate::{AppId, Error, ErrorKind, Result};

/// The name of a kind of event, such as `company/service/action`. Cheap to clone.
///
/// One or more segments joined by `/`, at most 255 bytes in all. A segment is not empty, is not `.` or `..`, and holds no white
/// space, no character that cannot be seen (controls, zero-width ones, the controls of bidirectional writing), and none of
/// `; , { } " \`, which the WebSocket grammar and ids reserve. What is a key or a token, or has the letters and
/// nearly the length of one, is no name; nor is `*` or `#` a segment, for there are no wildcards. Names are compared byte by byte.
///
/// ```
/// use ensync_core::EventName;
///
/// let name: EventName = "orders/status/updated".parse()?;
/// assert_eq!(name, "orders/status/updated");
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
    /// [`ErrorKind::InvalidEventName`] says which rule is broken, and shows the beginning of the name.
    pub fn parse(name: &str) -> Result<Self> {
        // The length first: whoever sent it chose it, and the search for keys is slow.
        if name.len() <= Self::MAX_BYTES {
            refuse_keys_as_name(name, ErrorKind::InvalidEventName, "an event name")?;
        }
        // Elsewhere they stand for every name. Here whoever subscribed to one would wait for ever, and whoever gave a right to one would give
        // another than meant.
        if let Some(wildcard) = name.split('/').find(|segment| matches!(*segment, "*" | "#")) {
            let message = format!(
                "event name {} has the segment {wildcard:?}; there are no wildcards here, name each event",
                Given(name)
            );
            return Err(Error::new(ErrorKind::InvalidEventName, message));
        }
        Self::parse_stored(name)
    }

    /// Reads a name that was accepted once and stored since: only its form counts. What else [`parse`](Self::parse) refuses, a later version
    /// may see more of.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn parse_stored(name: &str) -> Result<Self> {
        let refuse = |why: fmt::Arguments<'_>| {
            let message = format!("event name {} {why}; write it like company/service/action", Given(name));
            Err(Error::new(ErrorKind::InvalidEventName, message))
        };
        if name.is_empty() {
            return refuse(format_args!("is empty"));
        }
        if name.len() > Self::MAX_BYTES {
            return refuse(format_args!("has {} bytes, the limit is {}", name.len(), Self::MAX_BYTES));
        }
        for segment in name.split('/') {
            match segment {
                "" => return refuse(format_args!("has an empty segment")),
                // What a file system, an URL or a person would take for another name.
                "." | ".." => return refuse(format_args!("has the segment {segment:?}")),
                _ => {}
            }
        }
        let reserved = |c: char| c.is_whitespace() || is_invisible(c) || ";,{}\"\\".contains(c);
        if let Some(c) = name.chars().find(|&c| reserved(c)) {
            return refuse(format_args!("holds {}, which names cannot", GivenChar(c)));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

from_text!(EventName, "an event name such as company/service/action");
as_text!(EventName);

impl fmt::Debug for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventName({})", self.0)
    }
}

/// The name of an app, for people: the engine and its tools know apps by it beside their [ids](AppId). Cheap to clone.
///
/// 1 to 256 bytes, without a blank at either end and without characters that cannot be seen (controls, line breaks, zero-width
/// ones, the controls of bidirectional writing). What reads as an app id, a key or a token is no name. Names are compared byte by
/// byte; an engine tells whoever creates an app of one whose name [looks the same](Self::looks_like).
///
/// ```
/// use ensync_core::AppName;
///
/// assert_eq!(AppName::parse("order service")?, "order service");
/// assert!(AppName::parse(" shop").is_err());
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppName(Arc<str>);

impl AppName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// Reads a name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] says which rule is broken, and shows the beginning of the name.
    pub fn parse(name: &str) -> Result<Self> {
        let refuse = |why: fmt::Arguments<'_>| {
            Err(Error::new(ErrorKind::InvalidInput, format!("app name {} {why}", Given(name))))
        };
        if name.is_empty() {
            return refuse(format_args!("is empty"));
        }
        if name.len() > Self::MAX_BYTES {
            return refuse(format_args!("has {} bytes, the limit is {}", name.len(), Self::MAX_BYTES));
        }
        refuse_keys_as_name(name, ErrorKind::InvalidInput, "an app's name")?;
        if matches!(name.len(), 43 | 44) && AppId::parse(name).is_ok() {
            return refuse(format_args!("reads as an app id, which names cannot"));
        }
        if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
            return refuse(format_args!("begins or ends with a blank"));
        }
        if let Some(c) = name.chars().find(|&c| is_invisible(c)) {
            return refuse(format_args!("holds {}, which names cannot", GivenChar(c)));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether people see the same when they see another name: letters that Unicode calls compatible (UAX #15, form NFKC), such as an é
    /// of one character and of two, or blanks of another kind or number between the same words. Of alphabets that share shapes, as Latin
    /// and Cyrillic do, it knows nothing.
    ///
    /// ```
    /// use ensync_core::AppName;
    ///
    /// let name = AppName::parse("order service")?;
    /// assert!(name.looks_like("order\u{a0}service") && !name.looks_like("Order service"));
    /// # Ok::<(), ensync_core::Error>(())
    /// ```
    pub fn looks_like(&self, name: &str) -> bool {
        let [own, other] = [self.as_str(), name].map(|name| ComposingNormalizerBorrowed::new_nfkc().normalize(name));
        own.split_whitespace().eq(other.split_whitespace())
    }
}

from_text!(AppName, "an app's name");
as_text!(AppName);

impl fmt::Debug for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppName({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";
    /// Zero-width, byte order mark, bidirectional, separators, controls, fillers.
    const UNSEEN: [char; 12] = [
        '\u{200b}', '\u{200d}', '\u{feff}', '\u{202e}', '\u{2066}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{85}',
        '\u{7f}', '\u{ad}', '\u{3164}',
    ];

    #[test]
    fn names_in_use_are_taken() {
        for name in [
            "a",
            "payments/completed",
            "gms/ensync/third_party/payments/complete",
            "zamówienia/v2.1/new-one",
            "a/..b/...",
            "c#/a*b/**",
            // As long as the base64 of a key.
            "payments/gateway/settlement/batch/completed",
        ] {
            assert_eq!(EventName::parse(name).unwrap().as_str(), name);
        }
        for name in ["shop", "Order service (north)", "zamówienia", "木", "a/b;c", &"x".repeat(256)] {
            assert_eq!(AppName::parse(name).unwrap(), name);
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
            ("a/../b", "the segment \"..\""),
            (".", "the segment \".\""),
            ("a b", "holds ' '"),
            ("a;BLOCK=:1", "holds ';'"),
            ("a\n", "holds '\\n'"),
            ("a{b}", "holds '{'"),
            ("*", "no wildcards here"),
            ("orders/*", "the segment \"*\""),
            ("#", "no wildcards here"),
            ("a/#/b", "the segment \"#\""),
            (ID, "this is a key"),
        ] {
            let error = EventName::parse(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidEventName);
            assert!(error.to_string().contains(part), "{error}");
        }
        let long = "x".repeat(257);
        for (name, part) in [
            ("", "is empty"),
            (long.as_str(), "has 257 bytes, the limit is 256"),
            (" ", "begins or ends with a blank"),
            (" shop", "begins or ends with a blank"),
            ("shop\u{a0}", "begins or ends with a blank"),
            ("a\nb", "holds '\\n'"),
            (ID, "this is a key"),
            (&"A".repeat(43), "reads as an app id"),
            ("ensync_key_0123", "this is an app key"),
        ] {
            let error = AppName::parse(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn names_that_look_the_same_are_known() {
        for (name, same, other) in [
            ("a b", ["a b", "a\u{a0}b", "a\u{2003}b", "a  b"], ["ab", "a  c", "A b", "a-b"]),
            ("caf\u{e9}", ["caf\u{e9}", "cafe\u{301}", "ｃａｆé", "ca\u{66}é"], ["cafe", "café s", "cafè", "CAFÉ"]),
            ("\u{fb01}n 2", ["fin 2", "ﬁn ²", "fin\u{3000}2", "fin \u{2009}2"], ["fin2", "fin", "fin 3", "f in 2"]),
        ] {
            let name = AppName::parse(name).unwrap();
            assert_eq!(same.map(|same| name.looks_like(same)), [true; 4], "{name}");
            assert_eq!(other.map(|other| name.looks_like(other)), [false; 4], "{name}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_in_no_name() {
        for c in UNSEEN {
            for name in [format!("a{c}b"), format!("{c}ab"), format!("ab{c}")] {
                assert!(EventName::parse(&name).is_err(), "{name:?}");
                let error = AppName::parse(&name).unwrap_err();
                assert!(!error.to_string().contains(c), "{error:?}");
            }
        }
    }
}
