use std::ops::Range;

use super::find::is_white;

/// A text in which something was undone, and where each byte of it comes from.
pub(super) struct View {
    pub(super) text: String,
    from: Vec<Range<usize>>,
}

impl View {
    /// Without percent-encoding (RFC 3986 section 2.1).
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
            let code = (c == '%').then(|| text.get(at + 1..at + 3)).flatten();
            let code = code.filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()));
            let decoded = code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(u8::is_ascii);
            let (c, length) = decoded.map_or((c, c.len_utf8()), |byte| (char::from(byte), 3));
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
