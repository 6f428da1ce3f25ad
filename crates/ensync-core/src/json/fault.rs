use std::fmt;

use crate::{Error, ErrorKind};

/// Where a text breaks the rule for JSON, and how. It repeats nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) why: Why,
    /// The byte, from 0.
    pub(crate) at: usize,
    /// The line, from 1.
    pub(crate) line: usize,
    /// The byte in the line, from 1.
    pub(crate) column: usize,
}

/// The ways to break the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Not JSON; what should stand there.
    Expected(&'static str),
    /// Not JSON: a character below U+0020 inside a text.
    Control,
    /// Not JSON: an escape that there is not.
    Escape,
    /// Half of a surrogate pair.
    Surrogate,
    /// A number that no double holds.
    Range,
    /// Too many levels.
    Depth,
    /// A name that its object has already.
    Twice,
    /// Bytes that are not UTF-8.
    Utf8,
}

impl Fault {
    pub(super) fn new(why: Why, text: &str, at: usize) -> Self {
        Self::in_bytes(why, text.as_bytes(), at)
    }

    /// For text of which it is not known that it is UTF-8.
    pub(crate) fn in_bytes(why: Why, text: &[u8], at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        Self { why, at, line, column }
    }

    /// The error that says it of `what`.
    pub(crate) fn error(self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, format!("{what} is not JSON that every client reads: {self}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {} (byte {}): ", self.line, self.column, self.at)?;
        match self.why {
            Why::Expected(what) => write!(f, "{what} should stand here"),
            Why::Control => f.write_str("a control character inside a text; write it as an escape"),
            Why::Escape => f.write_str("an escape that JSON does not have"),
            Why::Surrogate => f.write_str("half of a surrogate pair, which is no character"),
            Why::Range => f.write_str("a number beyond the range of a double (64 bits)"),
            Why::Depth => write!(f, "more than {} levels of objects and arrays", super::MAX_DEPTH),
            Why::Twice => f.write_str("a name that its object has already"),
            Why::Utf8 => f.write_str("bytes that are not UTF-8"),
        }
    }
}

impl std::error::Error for Fault {}
