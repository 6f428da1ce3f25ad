//! Where the secrets in a text are. Whoever wrote the text chose how long it is and what is in it, so each rule goes through it once,
//! and goes on behind what it has found.

use std::ops::Range;

use super::Redact;
use super::keys::{Checks, holds_secret_key, is_random, issued_in, secret_keys, whole_issued};
use super::view::View;
use crate::{AppId, SecretKey, encoding};

/// What a private key in a PEM file begins and ends with.
pub(super) const PEM: (&str, &str) = ("-----BEGIN ", "-----END ");
/// How long the prefix of a key or token of an engine is, and how many letters stand behind it.
const TOKEN_LETTERS: usize = "ensync_key_".len() + 43;
/// How many characters 32 bytes have in base64, with padding or without.
const BASE64: [usize; 2] = [43, 44];
/// How many 32 and 64 bytes have in hex, with `0x` before them or without.
const HEX: [usize; 4] = [64, 66, 128, 130];

/// Four letters of base64 are three bytes: at which of four a text begins, nobody knows.
const SHIFTS: std::ops::Range<usize> = 0..4;

/// All of them: in order, and apart from each other.
pub(super) fn secrets(text: &str, what: Redact, checks: Checks) -> Vec<Range<usize>> {
    let mut search = Search { what, checks };
    let mut found = search.plain(text);
    found.extend(search.in_base64(text));
    // Written in another way, which is undone.
    if is_written(text) {
        let decoded = View::decoded(text);
        let plain = search.plain(&decoded.text);
        let words = search.words(&decoded.text, &plain);
        found.extend(plain.into_iter().chain(words).map(|found| decoded.back(found)));
        let joined = View::joined(text);
        let in_pieces = secret_keys(&joined.text, &mut search.checks);
        let in_pieces = in_pieces.into_iter().chain(hex_pairs(&joined.text, &mut search.checks));
        found.extend(in_pieces.map(|found| joined.back(found)));
        found.extend(search.in_base64(&joined.text).into_iter().map(|found| joined.back(found)));
        found = merged(found);
        // Behind a prefix that is in pieces, all is hidden; a whole one was found as it stands.
        let begun = issued_in(&joined.text).map(|at| joined.back(at..at + 1).start);
        let in_pieces = begun.into_iter().find(|at| !covers(&found, *at));
        found.extend(in_pieces.map(|at| at..text.len()));
    }
    merged(found)
}

/// What a text holds that is a secret for certain: a whole key or token of an engine, also in base64, or what [`secret_key`] finds. What
/// may be one, as 32 bytes and the mere beginning of a token may, is something else's, too.
pub(crate) fn certain(text: &str, checks: &mut Checks) -> Option<&'static str> {
    let issued = whole_issued(text);
    let issued = issued.or_else(|| text.contains(['%', '\\']).then(|| whole_issued(&View::decoded(text).text))?);
    issued.or_else(|| secret_key(text, checks)).or_else(|| in_base64(text, &mut whole_issued))
}

/// What is found in a text that stands in this one in base64, as it is or in pieces. No deeper: nobody writes that.
fn in_base64<T>(text: &str, look: &mut dyn FnMut(&str) -> Option<T>) -> Option<T> {
    let mut within = |text: &str| SHIFTS.into_iter().find_map(|shift| look(&View::of_base64(text, shift)?.text));
    within(text).or_else(|| is_written(text).then(|| within(&View::joined(text).text))?)
}

/// The secret key that a text holds: 64 bytes of which the one half belongs to the other, in base64 or hex, percent-encoded, with the escapes
/// of JSON, or in pieces with white space between them; or a private key in PEM; or a text with one of these, in base64.
pub(crate) fn secret_key(text: &str, checks: &mut Checks) -> Option<&'static str> {
    let mut look = |text: &str| {
        if text
            .split(PEM.0)
            .skip(1)
            .any(|behind| behind.split("-----").next().is_some_and(|label| label.contains("PRIVATE")))
        {
            return Some("a private key");
        }
        let found = holds_secret_key(text, checks) || !hex_pairs(text, checks).is_empty();
        found.then_some("a secret key")
    };
    let written = |look: &mut dyn FnMut(&str) -> Option<&'static str>| {
        look(&View::decoded(text).text).or_else(|| look(&View::joined(text).text))
    };
    let found = look(text).or_else(|| is_written(text).then(|| written(&mut look))?);
    found.or_else(|| in_base64(text, &mut look))
}

fn is_written(text: &str) -> bool {
    text.contains(['%', '\\']) || text.contains(is_white)
}

/// Where secret keys stand in hex, whatever other letters are around them.
fn hex_pairs(text: &str, checks: &mut Checks) -> Vec<Range<usize>> {
    let (mut found, mut begin) = (Vec::new(), 0);
    let ends = text.bytes().enumerate().filter(|(_, byte)| !byte.is_ascii_hexdigit()).map(|(at, _)| at);
    for end in ends.chain([text.len()]) {
        let digits = text.get(begin..end).unwrap_or_default();
        if digits.len() == 128 && checks.take() && is_hex_pair(digits) {
            found.push(begin..end);
        }
        begin = end + 1;
    }
    found
}

/// Whether these digits are a secret and its own public half, and so nothing else.
fn is_hex_pair(digits: &str) -> bool {
    let nibble = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.as_bytes().as_chunks::<2>().0.iter();
    let bytes: Option<Vec<u8>> = pairs.map(|[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect();
    let bytes = zeroize::Zeroizing::new(bytes.unwrap_or_default());
    bytes.len() == 64 && SecretKey::parse(&encoding::encode_secret(&bytes)).is_ok()
}

struct Search {
    what: Redact,
    checks: Checks,
}

impl Search {
    /// What is a secret as it stands there.
    fn plain(&mut self, text: &str) -> Vec<Range<usize>> {
        let mut found = pem(text);
        found.extend(self.issued(text));
        found.extend(secret_keys(text, &mut self.checks));
        found.extend(hex_pairs(text, &mut self.checks));
        let mut found = merged(found);
        // Each of what stands between these by itself: one key may stand right behind another.
        let between = between(&found, text.len());
        found.extend(between.flat_map(|part| self.runs(text, part)).collect::<Vec<_>>());
        merged(found)
    }

    /// The same of what stands there in base64.
    fn in_base64(&mut self, text: &str) -> Vec<Range<usize>> {
        let views = SHIFTS.filter_map(|shift| View::of_base64(text, shift));
        views
            .flat_map(|view| self.plain(&view.text).into_iter().map(move |found| view.back(found)).collect::<Vec<_>>())
            .collect()
    }

    /// Keys and tokens of an engine.
    fn issued(&self, text: &str) -> Vec<Range<usize>> {
        let ends = |c: char| !c.is_ascii_graphic() || "'\",;".contains(c);
        let mut found: Vec<Range<usize>> = Vec::new();
        for start in issued_in(text) {
            if found.last().is_some_and(|last| start < last.end) {
                continue;
            }
            let rest = text.get(start..).unwrap_or_default();
            let mut end = start + rest.find(ends).unwrap_or(rest.len());
            if self.what == Redact::Keys {
                // What white space cut off it.
                while (end - start) < TOKEN_LETTERS
                    && let Some(rest) = text.get(end..)
                    && let word = rest.trim_start()
                    && word.len() < rest.len()
                    && let letters =
                        word.find(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).unwrap_or(word.len())
                    && letters > 0
                {
                    end += rest.len() - word.len() + letters;
                }
            }
            found.push(start..end);
        }
        found
    }

    /// Runs of the letters of base64 that are a key of 32 bytes, or what is behind a slash or a hyphen in them; hex digits between such.
    fn runs(&mut self, text: &str, part: Range<usize>) -> Vec<Range<usize>> {
        let (mut found, mut at) = (Vec::new(), part.start);
        let within = |at: usize| text.get(at..part.end).unwrap_or_default();
        while let Some(start) = within(at).find(is_base64).map(|found| at + found) {
            let rest = within(start);
            let length = rest.find(|c| !is_base64(c)).unwrap_or(rest.len());
            let padding = within(start + length).bytes().take(2).take_while(|byte| *byte == b'=').count();
            at = start + length + padding;
            let run = text.get(start..at).unwrap_or_default();
            for length in BASE64 {
                let Some(begin) = run.len().checked_sub(length) else { continue };
                let before = run.get(..begin).unwrap_or_default();
                if (begin == 0 || before.ends_with(['/', '-'])) && self.is_key(run.get(begin..).unwrap_or_default()) {
                    found.push(start + begin..at);
                    break;
                }
            }
            let mut begin = start;
            for piece in run.split(['/', '-', '+', '_']) {
                if self.is_hex_key(piece) {
                    found.push(begin..begin + piece.len());
                }
                begin += piece.len() + 1;
            }
        }
        found
    }

    /// Words with nothing but white space between them that are a key together. What was `found` is no part of any.
    fn words(&mut self, text: &str, found: &[Range<usize>]) -> Vec<Range<usize>> {
        let is_letter = |c: char| is_base64(c) || c == '=';
        let mut keys = Vec::new();
        for part in between(found, text.len()) {
            let within = |at: usize| text.get(at..part.end).unwrap_or_default();
            let mut words: Vec<Range<usize>> = Vec::new();
            let mut at = part.start;
            while let Some(start) = within(at).find(is_letter).map(|found| at + found) {
                if !text.get(at..start).unwrap_or_default().chars().all(is_white) {
                    keys.extend(self.together(text, &words));
                    words.clear();
                }
                let rest = within(start);
                at = start + rest.find(|c| !is_letter(c)).unwrap_or(rest.len());
                words.push(start..at);
            }
            keys.extend(self.together(text, &words));
        }
        keys
    }

    /// The keys that some of these are, one put behind the other.
    fn together(&mut self, text: &str, words: &[Range<usize>]) -> Vec<Range<usize>> {
        // Where each would end if there were nothing between them.
        let ends: Vec<usize> =
            words.iter().scan(0, |end, word| Some(*end + word.len()).inspect(|now| *end = *now)).collect();
        let (mut keys, mut first) = (Vec::new(), 0);
        while let Some(begin) = words.get(first) {
            let before = ends.get(first).map_or(0, |end| end - begin.len());
            let lengths = BASE64.into_iter().chain(HEX);
            // The last of those that are a key together with the first: found by the length of the whole, for most have another.
            let last = lengths.filter_map(|length| ends.binary_search(&(before + length)).ok()).find(|last| {
                let joined: String = words
                    .get(first..=*last)
                    .unwrap_or_default()
                    .iter()
                    .filter_map(|word| text.get(word.clone()))
                    .collect();
                // Sentences have words, too, but few digits.
                let digits = joined.bytes().filter(u8::is_ascii_digit).count();
                *last > first && digits >= 2 && (self.is_key(&joined) || self.is_hex_key(&joined))
            });
            if let Some(last) = last
                && let Some(end) = words.get(last)
            {
                keys.push(begin.start..end.end);
                first = last;
            }
            first += 1;
        }
        keys
    }

    /// 32 bytes in base64 that are to be hidden.
    fn is_key(&mut self, part: &str) -> bool {
        let mixed = part.ends_with('=') || is_random(part);
        let id = if mixed && BASE64.contains(&part.len()) { AppId::parse(part).ok() } else { None };
        // Where too many were looked at, each counts as one.
        id.is_some_and(|id| self.what == Redact::Keys || !self.checks.take() || id.check().is_err())
    }

    /// 32 or 64 bytes in hex that are to be hidden.
    fn is_hex_key(&mut self, part: &str) -> bool {
        if !HEX.contains(&part.len()) {
            return false;
        }
        let digits = part.strip_prefix("0x").unwrap_or(part);
        if !matches!(digits.len(), 64 | 128) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return false;
        }
        if self.what >= Redact::Hex {
            return true;
        }
        digits.len() == 128 && (!self.checks.take() || is_hex_pair(digits))
    }
}

/// Private keys in PEM: from the first beginning to the last end, and from a beginning behind that to the end of the text.
fn pem(text: &str) -> Vec<Range<usize>> {
    let Some(start) = text.find(PEM.0) else { return Vec::new() };
    let end = text.rfind(PEM.1).filter(|end| *end > start).and_then(|end| {
        let line = text.get(end + PEM.1.len()..)?;
        Some(end + PEM.1.len() + line.find("-----").map_or(line.len(), |at| at + 5))
    });
    let first = start..end.unwrap_or(text.len());
    let next = text.get(first.end..).and_then(|rest| rest.find(PEM.0)).map(|at| first.end + at..text.len());
    std::iter::once(first).chain(next).collect()
}

/// In order, and what overlaps as one.
fn merged(mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
    found.sort_unstable_by_key(|found| found.start);
    found.dedup_by(|next, last| {
        let overlap = next.start < last.end;
        if overlap {
            last.end = last.end.max(next.end);
        }
        overlap
    });
    found
}

/// Whether a place is in one of these.
fn covers(found: &[Range<usize>], at: usize) -> bool {
    let behind = found.partition_point(|found| found.start <= at);
    behind.checked_sub(1).and_then(|last| found.get(last)).is_some_and(|found| at < found.end)
}

/// What is between these.
fn between(found: &[Range<usize>], length: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = [0].into_iter().chain(found.iter().map(|found| found.end)).collect::<Vec<_>>();
    let ends = found.iter().map(|found| found.start).chain([length]).collect::<Vec<_>>();
    starts.into_iter().zip(ends).map(|(start, end)| start..end)
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/-_".contains(c)
}

pub(super) fn is_white(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}
