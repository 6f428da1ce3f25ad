use std::ops::Range;

use super::find::is_white;

/// A text in which something was undone, and where each byte of it comes from.
pub(super) struct View {
    pub(super) text: String,
    from: Vec<Range<usize>>,
}

impl View {
    /// Without percent-encoding (RFC 3986 section 2.1), and without the escapes that JSON has for a slash and for characters by their
    /// numbers (RFC 8259 section 7): some write each slash so.
    pub(super) fn decoded(text: &str) -> Self {
        Self::of(text, false)
    }

    /// The same, and without white space.
    pub(super) fn joined(text: &str) -> Self {
        Self::of(text, true)
    }

    fn of(text: &str, joined: bool) -> Self {
        let mut view = Self { text: String::with_capacity(text.len()), from: Vec::with_capacity(text.len()) };
        let mut skip_to = 0;
        for (at, c) in text.char_indices() {
            if at < skip_to {
                continue;
            }
            let (c, length) = written(text.get(at..).unwrap_or_default()).unwrap_or((c, c.len_utf8()));
            skip_to = at + length;
            if !(joined && is_white(c)) {
                view.text.push(c);
                view.from.extend(std::iter::repeat_n(at..at + length, c.len_utf8()));
            }
        }
        view
    }

    /// Where a part of it stood.
    pub(super) fn back(&self, part: Range<usize>) -> Range<usize> {
        let start = self.from.get(part.start).map_or(0, |from| from.start);
        let end = part.end.checked_sub(1).and_then(|last| self.from.get(last)).map_or(start, |from| from.end);
        start..end.max(start)
    }
}

/// The ASCII character that a text begins with, if it is written otherwise, and how many bytes that takes.
fn written(text: &str) -> Option<(char, usize)> {
    let hex = |digits: &str| {
        let all = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let code = u32::from_str_radix(digits, 16).ok().filter(|_| all)?;
        char::from_u32(code).filter(char::is_ascii)
    };
    match text.as_bytes() {
        [b'%', ..] => Some((hex(text.get(1..3)?)?, 3)),
        [b'\\', b'/', ..] => Some(('/', 2)),
        [b'\\', b'u', ..] => Some((hex(text.get(2..6)?)?, 6)),
        _ => None,
    }
}
