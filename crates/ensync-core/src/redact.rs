//! Texts without the keys in them: for whoever prints, logs or sends on what somebody else wrote.

use std::borrow::Cow;
use std::ops::Range;

use crate::text::{find_secret_key, issued_in};
use crate::{AppId, SecretKey, encoding};

/// What a private key in a PEM file begins and ends with.
const PEM: (&str, &str) = ("-----BEGIN ", "-----END ");
/// How many letters stand behind the prefix of a key or token of an engine.
const TOKEN_LETTERS: usize = 43;
const HIDDEN: &str = "(not shown: a key)";
/// How many secrets are looked for in a text. To look for one costs a walk over all that is left, so of a text that has more, the rest
/// counts as one.
const MOST: usize = 64;

/// How much [`redacted`] leaves out of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Redact {
    /// What is a secret for all that can be told: a secret key, app keys and admin tokens, a private key in PEM; and 32 bytes in base64
    /// that are no app's id, as 15 of 16 seeds are. In pieces with white space between them, and percent-encoded, too.
    Secrets,
    /// And hex of the length of a key, which may as well be a checksum: for messages.
    Hex,
    /// And app ids: for what was typed where it has no meaning.
    Keys,
}

/// A text without the secrets in it. Of one with more than 64 of them, what stands behind those is left out as well.
///
/// ```
/// use ensync_core::{Redact, redacted};
///
/// assert_eq!(redacted("no app logs in with ensync_key_q83v", Redact::Secrets), "no app logs in with (not shown: a key)");
/// assert_eq!(redacted("no app has the name \"shop\"", Redact::Keys), "no app has the name \"shop\"");
/// ```
pub fn redacted(text: &str, what: Redact) -> Cow<'_, str> {
    let Some(mut found) = find(text, what) else { return Cow::Borrowed(text) };
    let (mut clean, mut rest) = (String::with_capacity(text.len()), text);
    for _ in 0..MOST {
        clean.push_str(rest.get(..found.start).unwrap_or_default());
        clean.push_str(HIDDEN);
        rest = rest.get(found.end..).unwrap_or_default();
        match find(rest, what) {
            Some(next) => found = next,
            None => {
                clean.push_str(rest);
                return Cow::Owned(clean);
            }
        }
    }
    clean.push_str(rest.get(..found.start).unwrap_or_default());
    clean.push_str(HIDDEN);
    Cow::Owned(clean)
}

/// The secret in a text, if one is seen: what [`Redact::Secrets`] leaves out.
///
/// ```
/// use ensync_core::secret_in;
///
/// assert_eq!(secret_in("--to=ensync_key_q83v"), Some("a key or token of an engine"));
/// assert_eq!(secret_in("--to=warehouse"), None);
/// ```
pub fn secret_in(text: &str) -> Option<&'static str> {
    let found = text.get(find(text, Redact::Secrets)?)?;
    Some(if found.contains(PEM.0) {
        "a private key"
    } else if issued_in(&View::joined(found).text).is_some() {
        "a key or token of an engine"
    } else {
        "a secret key"
    })
}

/// Where the first one is.
fn find(text: &str, what: Redact) -> Option<Range<usize>> {
    #[cfg(test)]
    tests::WALKED.set(tests::WALKED.get() + text.len());
    let plain = in_plain(text, what);
    // Written in another way, which is undone.
    let is_written = text.contains('%') || text.contains(is_white);
    let written = || {
        let (decoded, joined) = (View::decoded(text), View::joined(text));
        let cut = find_secret_key(&joined.text).map(|found| joined.back(found));
        // Behind a prefix that is in pieces, all is hidden; a whole one is found as it stands.
        let issued = issued_in(&joined.text).map(|at| joined.back(at..at + 1).start);
        let issued =
            issued.filter(|at| issued_in(&decoded.text).is_none_or(|whole| decoded.back(whole..whole + 1).start > *at));
        let found = in_plain(&decoded.text, what).into_iter().chain(in_words(&decoded.text, what));
        found.map(|found| decoded.back(found)).chain(cut).chain(issued.map(|at| at..text.len())).collect::<Vec<_>>()
    };
    let written = is_written.then(written).into_iter().flatten();
    plain.into_iter().chain(written).min_by_key(|found| (found.start, text.len() - found.end))
}

fn in_plain(text: &str, what: Redact) -> Option<Range<usize>> {
    let found = [pem(text), find_secret_key(text), issued(text, what), runs(text, what)];
    found.into_iter().flatten().min_by_key(|found| found.start)
}

fn pem(text: &str) -> Option<Range<usize>> {
    let start = text.find(PEM.0)?;
    let end = text.rfind(PEM.1).filter(|end| *end > start).and_then(|end| {
        let line = text.get(end + PEM.1.len()..)?;
        Some(end + PEM.1.len() + line.find("-----").map_or(line.len(), |at| at + 5))
    });
    Some(start..end.unwrap_or(text.len()))
}

/// A key or a token of an engine.
fn issued(text: &str, what: Redact) -> Option<Range<usize>> {
    let start = issued_in(text)?;
    let ends = |c: char| !c.is_ascii_graphic() || "'\",;".contains(c);
    let rest = text.get(start..)?;
    let mut end = start + rest.find(ends).unwrap_or(rest.len());
    if what == Redact::Keys {
        // What white space cut off it.
        let prefix = "ensync_key_".len();
        while (end - start) < prefix + TOKEN_LETTERS
            && let Some(rest) = text.get(end..)
            && let word = rest.trim_start()
            && word.len() < rest.len()
            && let letters = word.find(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).unwrap_or(word.len())
            && letters > 0
        {
            end += rest.len() - word.len() + letters;
        }
    }
    Some(start..end)
}

/// A run of the letters of base64 that is a key of 32 bytes, or what is behind a slash or hyphens in it; a run of hex digits.
fn runs(text: &str, what: Redact) -> Option<Range<usize>> {
    let mut at = 0;
    while let Some(start) = text.get(at..)?.find(is_base64).map(|found| at + found) {
        let rest = text.get(start..)?;
        let length = rest.find(|c| !is_base64(c)).unwrap_or(rest.len());
        let padding = rest.get(length..)?.chars().take(2).take_while(|c| *c == '=').count();
        at = start + length + padding;
        let run = text.get(start..at)?;
        let begins = run.char_indices().map(|(begin, _)| begin);
        let begins = begins.filter(|at| *at == 0 || run.get(..*at).is_some_and(|before| before.ends_with(['/', '-'])));
        for begin in begins {
            let part = run.get(begin..)?;
            if is_key(part, what) {
                return Some(start + begin..at);
            }
            let part = part.get(..part.find('/').unwrap_or(part.len()))?;
            if is_hex_key(part, what) {
                return Some(start + begin..start + begin + part.len());
            }
        }
    }
    None
}

/// Words with nothing but white space between them that are a key together.
fn in_words(text: &str, what: Redact) -> Option<Range<usize>> {
    let is_letter = |c: char| is_base64(c) || c == '=';
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while let Some(start) = text.get(at..)?.find(is_letter).map(|found| at + found) {
        let rest = text.get(start..)?;
        at = start + rest.find(|c| !is_letter(c)).unwrap_or(rest.len());
        words.push(start..at);
    }
    for (first, begin) in words.iter().enumerate() {
        let mut joined = text.get(begin.clone())?.to_owned();
        let mut before = begin.end;
        for word in words.get(first + 1..)? {
            let between = text.get(before..word.start)?;
            if joined.len() > 128 || !between.chars().all(is_white) {
                break;
            }
            joined.push_str(text.get(word.clone())?);
            before = word.end;
            // Few pieces have the length of a key. Sentences have words, too, but few digits.
            let digits = || joined.bytes().filter(u8::is_ascii_digit).count() >= 2;
            if matches!(joined.len(), 43 | 44 | 64 | 66 | 128 | 130)
                && digits()
                && (is_key(&joined, what) || is_hex_key(&joined, what))
            {
                return Some(begin.start..word.end);
            }
        }
    }
    None
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/-_".contains(c)
}

fn is_white(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

/// 32 bytes in base64 that are to be hidden.
fn is_key(part: &str, what: Redact) -> bool {
    let mixed = part.contains(|c: char| c.is_ascii_uppercase()) && part.contains(|c: char| c.is_ascii_lowercase());
    let id = if mixed && matches!(part.len(), 43 | 44) { AppId::parse(part).ok() } else { None };
    id.is_some_and(|id| what == Redact::Keys || id.check().is_err())
}

/// 32 or 64 bytes in hex that are to be hidden.
fn is_hex_key(part: &str, what: Redact) -> bool {
    let digits = part.strip_prefix("0x").unwrap_or(part);
    if !matches!(digits.len(), 64 | 128) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return false;
    }
    if what >= Redact::Hex {
        return true;
    }
    // Bytes that are a secret and its own public half are nothing else.
    let nibble = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.as_bytes().as_chunks::<2>().0.iter();
    let bytes: Option<Vec<u8>> = pairs.map(|[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect();
    let bytes = zeroize::Zeroizing::new(bytes.unwrap_or_default());
    bytes.len() == 64 && SecretKey::parse(&zeroize::Zeroizing::new(encoding::encode(&bytes))).is_ok()
}

/// A text in which something was undone, and where each byte of it comes from.
struct View {
    text: String,
    from: Vec<Range<usize>>,
}

impl View {
    /// Without percent-encoding (RFC 3986 section 2.1).
    fn decoded(text: &str) -> Self {
        Self::of(text, false)
    }

    /// The same, and without white space.
    fn joined(text: &str) -> Self {
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
    fn back(&self, part: Range<usize>) -> Range<usize> {
        let start = self.from.get(part.start).map_or(0, |from| from.start);
        let end = part.end.checked_sub(1).and_then(|last| self.from.get(last)).map_or(start, |from| from.end);
        start..end.max(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        /// How many bytes were walked over.
        pub(super) static WALKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    /// Whoever sends a text chooses how many secrets are in it.
    #[test]
    fn of_a_text_with_very_many_secrets_the_rest_is_one() {
        for (count, shown) in [(64, true), (65, false), (1_000, false)] {
            let text = format!("{}, the end", vec![KEY; count].join(", "));
            WALKED.set(0);
            let clean = redacted(&text, Redact::Keys);
            assert!(WALKED.get() <= 65 * text.len(), "{} bytes walked over, of {}", WALKED.get(), text.len());
            assert_eq!((clean.ends_with(", the end"), clean.contains("q83vEjRW")), (shown, false), "{count}");
            assert_eq!(clean.matches(HIDDEN).count(), count.min(65), "{count}");
        }
    }

    /// A seed that is no app's id.
    const SEED: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB0=";
    const ID: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";
    const SECRET: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB2hX8vsQ/MVG/NzNwzYwgDgAA/Dk3nieaSflWlKdB+03w==";
    const KEY: &str = "ensync_key_q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA";

    fn hex(base64: &str) -> String {
        encoding::decode(base64).unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn percent(text: &str) -> String {
        text.replace('/', "%2F").replace('+', "%2b").replace('=', "%3D")
    }

    /// Nothing of 12 letters in a row is left.
    fn assert_hidden(secret: &str, text: &str, what: Redact) {
        let clean = redacted(text, what);
        assert!(clean.contains("not shown"), "{text:?} -> {clean:?}");
        for piece in secret.trim_end_matches('=').as_bytes().windows(12) {
            assert!(!clean.contains(str::from_utf8(piece).unwrap()), "{text:?} -> {clean:?}");
        }
    }

    fn around(secret: &str) -> Vec<String> {
        vec![
            secret.to_owned(),
            format!(" {secret}\n"),
            format!("--to={secret}"),
            format!("k={secret}"),
            format!("--{secret}"),
            format!("/home/{secret}"),
            format!("cannot read '{secret}': no such file"),
            format!("{secret}, and again \"{secret}\""),
        ]
    }

    #[test]
    fn secrets_are_seen_wherever_they_stand() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
        for secret in [SEED, SECRET, KEY, &KEY.to_uppercase(), "ensync_admin_abc-_0123456789", pem, &hex(SECRET)] {
            for text in around(secret) {
                assert!(secret_in(&text).is_some(), "{text}");
                for what in [Redact::Secrets, Redact::Hex, Redact::Keys] {
                    assert!(!redacted(&text, what).contains("MC4CAQ"));
                    let shown = if secret == pem { "MC4CAQAwBQYD" } else { secret };
                    assert_hidden(shown, &text, what);
                }
            }
        }
    }

    #[test]
    fn secrets_are_seen_in_every_writing() {
        for secret in [SEED, SECRET, KEY] {
            for cut in [5, 20, 30, 40] {
                let (first, second) = secret.split_at(cut);
                let (middle, last) = second.split_at(second.len() / 2);
                for (text, what) in [
                    (format!("{first} {second}"), Redact::Keys),
                    (format!("unrecognized subcommand '{first}\n  {middle}\t{last}'"), Redact::Keys),
                    (percent(secret), Redact::Secrets),
                    (format!("http://h/v1/{}?x=1", percent(secret)), Redact::Secrets),
                    (percent(&format!("{first} {second}")), Redact::Keys),
                ] {
                    // Of what is cut, a beginning that is no key by itself is found only as a part of one.
                    assert_hidden(secret, &text, what);
                    assert!(secret_in(&text).is_some(), "{text}");
                }
            }
        }
        assert!(secret_in("ensync_ke y_0123456789abcdef").is_some());
        assert_hidden("0123456789abcdef", "ensync_ke y_0123456789abcdef", Redact::Secrets);
        for key in [hex(SECRET), hex(SEED), hex(ID), hex(SEED).to_uppercase(), format!("0x{}", hex(SEED))] {
            for text in around(&key) {
                assert_hidden(&key, &text, Redact::Hex);
            }
            assert_hidden(&key, &format!("{} {}", &key[..30], &key[30..]), Redact::Hex);
        }
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for text in [
            "",
            "no app has the name \"warehouse\"",
            "/a/path/that/is/as/long/as/a/key/is/in/base/64",
            "a=b==",
            "100 % of it, %zz, %e9",
            "[env: ENSYNC_ADMIN_TOKEN_FILE] and ENSYNC_KEY_FILE",
            "In 2026 The Engine Of The Config Manager Answered With Words Of Its Own And 17 More",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!((secret_in(text), redacted(text, Redact::Keys)), (None, Cow::Borrowed(text)));
        }
        let (id, sum) = (format!("app {ID} is disabled"), format!("/volumes/{}/_data", hex(ID)));
        assert_eq!((secret_in(&id), &*redacted(&id, Redact::Hex)), (None, &*id));
        assert_eq!((secret_in(&sum), &*redacted(&sum, Redact::Secrets)), (None, &*sum));
        assert_hidden(ID, &id, Redact::Keys);
        assert_eq!(redacted(&sum, Redact::Hex), "/volumes/(not shown: a key)/_data");
    }
}
