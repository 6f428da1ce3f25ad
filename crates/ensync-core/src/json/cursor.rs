use std::borrow::Cow;

use super::{Fault, Why};

/// A place in a text, and the steps from token to token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The byte it stands at.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The text from `start` to where it stands.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    pub(super) fn fault(&self, why: Why) -> Fault {
        self.fault_at(why, self.at)
    }

    pub(super) fn fault_at(&self, why: Why, at: usize) -> Fault {
        Fault::new(why, self.text, at)
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn step(&mut self) {
        self.at += 1;
    }

    /// Skips white space, and tells what comes then.
    pub(super) fn next(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.step(),
                byte => return byte,
            }
        }
    }

    /// Skips white space and one byte, which must be this.
    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.next() != Some(byte) {
            return Err(self.fault(Why::Expected(what)));
        }
        self.step();
        Ok(())
    }

    /// Reads a text in quotes. It is copied only if it has escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        let start = self.at + 1;
        let escaped = self.skip_string()?;
        let inner = self.text.get(start..self.at - 1).unwrap_or_default();
        Ok(if escaped { Cow::Owned(unescape(inner)) } else { Cow::Borrowed(inner) })
    }

    /// Skips a text in quotes, and tells whether it has escapes.
    pub(super) fn skip_string(&mut self) -> Result<bool, Fault> {
        self.step();
        let mut escaped = false;
        loop {
            self.at += plain(self.text.as_bytes().get(self.at..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.fault(Why::Control)),
                None => return Err(self.fault(Why::Expected("the end of the text, a quotation mark,"))),
            }
        }
        self.step();
        Ok(escaped)
    }

    /// Skips a value of which nothing is checked but where it ends: at the end of the text, at the bracket that closes the first one, or
    /// where a word does.
    pub(super) fn skip_unchecked(&mut self) -> Result<(), Fault> {
        let start = self.at;
        let mut open: usize = 0;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' if open > 0 || self.at == start => self.skip_string_unchecked()?,
                b'{' | b'[' if open > 0 || self.at == start => {
                    open += 1;
                    self.step();
                }
                b'}' | b']' if open > 0 => {
                    open -= 1;
                    self.step();
                }
                b'"' | b'{' | b'[' | b'}' | b']' | b',' | b' ' | b'\n' | b'\r' | b'\t' if open == 0 => break,
                _ => {
                    self.step();
                    continue;
                }
            }
            if open == 0 {
                break;
            }
        }
        if open > 0 {
            return Err(self.fault(Why::Expected("a closing brace or bracket")));
        }
        if self.at == start { Err(self.fault(Why::Expected("a value"))) } else { Ok(()) }
    }

    fn skip_string_unchecked(&mut self) -> Result<(), Fault> {
        self.step();
        loop {
            self.at += plain(self.text.as_bytes().get(self.at..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => break,
                // The backslash, and the first byte of what it escapes.
                Some(b'\\') if self.at + 1 < self.text.len() => self.at += 2,
                Some(b'\\') | None => {
                    self.at = self.text.len();
                    return Err(self.fault(Why::Expected("the end of the text, a quotation mark,")));
                }
                Some(_) => self.step(),
            }
        }
        self.step();
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Fault> {
        let start = self.at;
        let wrong = |why| self.fault_at(why, start);
        let code = |at: usize| {
            let digits = self.text.get(at..at + 4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
            digits.and_then(|digits| u16::from_str_radix(digits, 16).ok())
        };
        let bytes = self.text.as_bytes();
        let length = match bytes.get(start + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => match code(start + 2) {
                Some(0xd800..=0xdbff) => {
                    let low =
                        bytes.get(start + 6..start + 8).filter(|next| *next == b"\\u").and_then(|_| code(start + 8));
                    match low {
                        Some(0xdc00..=0xdfff) => 12,
                        _ => return Err(wrong(Why::Surrogate)),
                    }
                }
                Some(0xdc00..=0xdfff) => return Err(wrong(Why::Surrogate)),
                Some(_) => 6,
                None => return Err(wrong(Why::Escape)),
            },
            _ => return Err(wrong(Why::Escape)),
        };
        self.at += length;
        Ok(())
    }

    /// Skips a number (RFC 8259 section 6), and gives its text.
    pub(super) fn number(&mut self) -> Result<&'a str, Fault> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.step();
        }
        let whole = match self.peek() {
            Some(b'0') => {
                self.step();
                1
            }
            _ => self.digits()?,
        };
        if self.peek() == Some(b'.') {
            self.step();
            self.digits()?;
        }
        let power = matches!(self.peek(), Some(b'e' | b'E'));
        if power {
            self.step();
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.step();
            }
            self.digits()?;
        }
        let text = self.since(start);
        // The largest double has 309 digits before its point.
        if (power || whole > 308) && !text.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(self.fault_at(Why::Range, start));
        }
        Ok(text)
    }

    fn digits(&mut self) -> Result<usize, Fault> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.step();
        }
        if self.at == start { Err(self.fault(Why::Expected("a digit"))) } else { Ok(self.at - start) }
    }

    /// Skips `true`, `false` or `null`.
    pub(super) fn word(&mut self) -> Result<&'a str, Fault> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        match ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word)) {
            Some(word) => {
                let start = self.at;
                self.at += word.len();
                Ok(self.since(start))
            }
            None => Err(self.fault(Why::Expected("a value"))),
        }
    }
}

/// How many bytes there are before the first quotation mark, backslash or control character.
fn plain(bytes: &[u8]) -> usize {
    let special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    // In blocks, which the compiler makes vector instructions of: a ciphertext has hundreds of kilobytes.
    let (blocks, _) = bytes.as_chunks::<32>();
    let clear =
        blocks.iter().take_while(|block| !block.iter().fold(false, |found, byte| found | special(byte))).count();
    let rest = bytes.get(clear * 32..).unwrap_or_default();
    clear * 32 + rest.iter().position(special).unwrap_or(rest.len())
}

/// The text that a checked one with escapes means.
fn unescape(text: &str) -> String {
    let mut meant = String::with_capacity(text.len());
    let mut parts = text.split('\\');
    meant.push_str(parts.next().unwrap_or_default());
    let mut high = 0;
    while let Some(part) = parts.next() {
        let mut rest = part.chars();
        match rest.next() {
            // Two backslashes: the second began a part of its own, of which nothing is an escape.
            None => {
                meant.push('\\');
                meant.push_str(parts.next().unwrap_or_default());
                continue;
            }
            Some('b') => meant.push('\u{8}'),
            Some('f') => meant.push('\u{c}'),
            Some('n') => meant.push('\n'),
            Some('r') => meant.push('\r'),
            Some('t') => meant.push('\t'),
            Some('u') => {
                let code = part.get(1..5).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_default();
                rest = part.get(5..).unwrap_or_default().chars();
                match code {
                    0xd800..=0xdbff => high = code,
                    0xdc00..=0xdfff => {
                        let pair = 0x1_0000 + ((high & 0x3ff) << 10) + (code & 0x3ff);
                        meant.push(char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    _ => meant.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)),
                }
            }
            Some(itself) => meant.push(itself),
        }
        meant.push_str(rest.as_str());
    }
    meant
}
