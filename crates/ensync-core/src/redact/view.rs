use std::ops::Range;

use super::find::is_white;

/// A text in which something was undone, and where each byte of it comes from.
pub(super) struct View {
    pub(super) text: String,
    from: Vec<Range<usize>>,
}

impl View {
    /// Without percent-encoding (RFC 3986 section 2.1), and without the escapes that JSON has for a slash, for ends of lines and tabs, and
    /// for characters by their numbers (RFC 8259 section 7): some write each slash so.
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

    /// What long runs of the letters of base64 say, as configuration that holds texts in base64 has them; other bytes than those of a text
    /// as [`OTHER`]. Read from the `shift`-th letter of each on: what stands before a text may be of such letters, too. `None` if nothing
    /// there is a text as long as a key. Of a text that is very long, the beginning is looked at: nobody pastes a key behind that.
    pub(super) fn of_base64(text: &str, shift: usize) -> Option<Self> {
        let text = text.as_bytes().get(..MOST).unwrap_or(text.as_bytes());
        let mut view = Self { text: String::new(), from: Vec::new() };
        let mut begin = 0;
        let ends = text.iter().enumerate().filter(|(_, byte)| sextet(**byte).is_none()).map(|(at, _)| at);
        for end in ends.chain([text.len()]) {
            let letters = text.get(begin..end).unwrap_or_default();
            if letters.len() >= INNER_LETTERS && holds_text(letters, shift) {
                for (at, c) in said(letters, shift) {
                    view.text.push(c);
                    // A byte is of two letters.
                    view.from.push(begin + at - 1..begin + at + 1);
                }
                view.text.push(OTHER);
                view.from.push(end..end);
            }
            begin = end + 1;
        }
        (!view.text.is_empty()).then_some(view)
    }

    /// Where a part of it stood.
    pub(super) fn back(&self, part: Range<usize>) -> Range<usize> {
        let start = self.from.get(part.start).map_or(0, |from| from.start);
        let end = part.end.checked_sub(1).and_then(|last| self.from.get(last)).map_or(start, |from| from.end);
        start..end.max(start)
    }
}

/// How much of a text is looked at for texts in base64, in bytes: as far beyond what is shown as is looked at for other writings.
const MOST: usize = (64 << 10) + 1_024;
/// The shortest text that may be a key or token of an engine, and its letters in base64: the prefix of an app key, and 22 letters.
const INNER_TEXT: usize = 33;
const INNER_LETTERS: usize = 44;
/// What stands for bytes that are of no text.
const OTHER: char = '\u{1}';

/// What a letter of base64 stands for, of either alphabet (RFC 4648 sections 4 and 5).
fn sextet(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    };
    Some(value.into())
}

/// What letters of base64 say, and at which of them each character is complete.
fn said(letters: &[u8], shift: usize) -> impl Iterator<Item = (usize, char)> {
    let (mut bits, mut count) = (0_u32, 0);
    letters.iter().enumerate().skip(shift).filter_map(move |(at, letter)| {
        (bits, count) = (bits << 6 | sextet(*letter)?, count + 6);
        if count < 8 {
            return None;
        }
        count -= 8;
        let byte = u8::try_from(bits >> count & 0xff).ok()?;
        bits &= (1 << count) - 1;
        let is_text = byte.is_ascii_graphic() || b" \n\r\t".contains(&byte);
        Some((at, if is_text { char::from(byte) } else { OTHER }))
    })
}

/// Whether letters of base64 say a text that is long enough somewhere.
fn holds_text(letters: &[u8], shift: usize) -> bool {
    let mut stretch = 0;
    said(letters, shift).any(|(_, c)| {
        stretch = if c == OTHER { 0 } else { stretch + 1 };
        stretch >= INNER_TEXT
    })
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
        [b'\\', b'n', ..] => Some(('\n', 2)),
        [b'\\', b'r', ..] => Some(('\r', 2)),
        [b'\\', b't', ..] => Some(('\t', 2)),
        [b'\\', b'u', ..] => Some((hex(text.get(2..6)?)?, 6)),
        _ => None,
    }
}
