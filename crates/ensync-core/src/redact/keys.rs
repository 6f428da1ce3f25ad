//! What keys and tokens look like in a text.

use std::ops::Range;

use crate::{AppKey, ClientId, SecretKey, encoding};

/// Fewer letters than this behind a prefix are no key: 128 random bits take as many.
const ISSUED_LETTERS: usize = 22;
/// As many as any has, and some more.
const MOST_LETTERS: usize = 64;
const LONGEST_WORD: usize = 16;
/// What the keys and tokens that an EnSync engine makes begin with.
pub(crate) const ISSUED: [(&str, &str); 3] =
    [(AppKey::PREFIX, "an app key"), ("ensync_admin_", "an admin token"), (ClientId::PREFIX, "a session's client id")];

/// A key or token of an engine, or a part of one, in a text.
struct Issued {
    at: usize,
    what: &'static str,
    /// Whether enough letters stand behind its prefix.
    whole: bool,
    /// Whether half of those are in words: programs name metrics and events of an engine so.
    speaks: bool,
    /// Whether its prefix is spelt as an engine does. A host's name is read in any case of letters.
    spelt: bool,
}

/// All of them, in order.
fn issued(text: &str) -> impl Iterator<Item = Issued> {
    text.match_indices(['e', 'E']).filter_map(move |(at, _)| {
        let begins = |prefix: &str| text.get(at..at + prefix.len()).filter(|head| head.eq_ignore_ascii_case(prefix));
        let (head, prefix, what) = ISSUED.iter().find_map(|(prefix, what)| Some((begins(prefix)?, *prefix, *what)))?;
        let is_letter = |b: &u8| b.is_ascii_alphanumeric() || b"-_".contains(b);
        let start = at + prefix.len();
        let behind = text.as_bytes().get(start..).unwrap_or_default().iter();
        let letters = behind.take(MOST_LETTERS).take_while(|b| is_letter(b)).count();
        let parts = text.get(start..start + letters).unwrap_or_default().split(['_', '-']);
        let is_shouted = |part: &str| part.len() >= 4 && part.bytes().all(|b| b.is_ascii_uppercase());
        let words = parts.filter(|part| part.len() <= LONGEST_WORD && (is_word(part) || is_shouted(part)));
        // A word by chance is in one of 70 keys, and behind a whole key somebody may have put one: half of it must be words.
        let speaks = words.map(str::len).sum::<usize>() * 2 >= letters;
        Some(Issued { at, what, whole: letters >= ISSUED_LETTERS, speaks, spelt: head == prefix })
    })
}

/// What the first whole key or token of an engine in a text is. A name may well speak of such keys, as in `audit/ensync_key_rotated` or
/// `ensync_session_duration_seconds_bucket`: where mostly words stand behind the prefix, it is none.
pub(crate) fn whole_issued(text: &str) -> Option<&'static str> {
    issued(text).find(|found| found.whole && !found.speaks).map(|found| found.what)
}

/// Where in a text keys or tokens of an engine begin, or parts of them. With capitals in its prefix one must be whole, for the variable
/// `ENSYNC_ADMIN_URL` is none.
pub(crate) fn issued_in(text: &str) -> impl Iterator<Item = usize> {
    issued(text).filter(|found| found.whole || found.spelt).map(|found| found.at)
}

/// Whether letters of base64 are as mixed as those of random bytes are: these change between capitals, small letters and digits at every
/// other place, and words seldom do. Of 100 keys some do not; the names of things are so in nobody's language, and where an id that
/// is random stands among them, a word does too.
pub(crate) fn is_random(letters: &str) -> bool {
    if letters.split(['/', '-', '_', '+']).any(is_word) {
        return false;
    }
    let class = |byte: u8| match byte {
        b'A'..=b'Z' => Some('A'),
        b'a'..=b'z' => Some('a'),
        b'0'..=b'9' => Some('0'),
        _ => None,
    };
    let (mut last, mut last_case) = (None, None);
    let (mut digits, mut changes, mut cases) = (0, 0, 0);
    for now in letters.bytes().map(class) {
        changes += usize::from(now.is_some() && last.is_some() && now != last);
        last = now;
        match now {
            Some('0') => digits += 1,
            None => {}
            case => {
                cases += usize::from(last_case.is_some() && case != last_case);
                last_case = case;
            }
        }
    }
    digits > 0 && changes * 3 >= letters.len() && cases * 6 >= letters.len()
}

/// Whether a part of a name is a word. Of 1,000 keys one has such a part between its slashes.
fn is_word(part: &str) -> bool {
    let is_letter = |(at, byte): (usize, u8)| byte.is_ascii_lowercase() || (at == 0 && byte.is_ascii_uppercase());
    part.len() >= 4 && part.bytes().enumerate().all(is_letter)
}

/// Where in a text a whole secret key stands, in base64 of either alphabet: for whoever prints or sends text that is not its own.
/// The search is bounded: of a text with very many places that could be one, the rest counts as one.
pub(crate) fn find_secret_key(text: &str) -> Option<Range<usize>> {
    secret_keys(text, &mut Checks::of(text)).into_iter().next()
}

/// How many candidates are looked at at most, each of which costs a multiplication on the curve.
const MOST_CHECKS: usize = 1_024;

/// For how many bytes of a text one is looked at: of 16 places in a text of random letters one is a candidate, for the last four bits of
/// a key's base64 are zero.
const BYTES_OF_A_CHECK: usize = 12;

/// How many are looked at in any text.
const LEAST_CHECKS: usize = 32;

/// How many candidates are looked at in a name or an id.
const OF_A_NAME: usize = 8;

/// How many candidates may still be looked at.
pub(crate) struct Checks(usize);

impl Checks {
    /// As many as are worth a look in a text of which somebody wants to know it for sure: so that it costs what its length does.
    pub(crate) fn of(text: &str) -> Self {
        Self((text.len() / BYTES_OF_A_CHECK).clamp(LEAST_CHECKS, MOST_CHECKS))
    }

    /// As many as a text of a stranger's may cost, however long it is: it is asked of each name and id in each command.
    pub(crate) fn of_a_name() -> Self {
        Self(OF_A_NAME)
    }

    /// Takes one; false if there is none left.
    pub(crate) fn take(&mut self) -> bool {
        #[cfg(test)]
        tests::CHECKED.set(tests::CHECKED.get() + usize::from(self.0 > 0));
        self.0.checked_sub(1).map(|left| self.0 = left).is_some()
    }
}

/// Characters of 64 bytes in base64, without padding.
const LENGTH: usize = 86;
/// How many places are looked at where as many letters of base64 stand.
const PLACES: usize = 16_384;

/// Where in a text that many stand.
fn places(text: &str) -> impl Iterator<Item = usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(window) = bytes.get(at..at + LENGTH) {
            match window.iter().rposition(|b| !is_base64(b)) {
                Some(last) => at += last + 1,
                None => {
                    at += 1;
                    return Some(at - 1);
                }
            }
        }
        None
    })
}

fn is_base64(b: &u8) -> bool {
    b.is_ascii_alphanumeric() || b"+/-_".contains(b)
}

/// The letters at a place, if they can be a secret key.
fn candidate(text: &str, at: usize) -> Option<&str> {
    #[cfg(test)]
    tests::LOOKED.set(tests::LOOKED.get() + 1);
    // The last letter has four bits that belong to no byte.
    let window = text.get(at..at + LENGTH).filter(|window| window.ends_with(['A', 'Q', 'g', 'w']))?;
    let many = |is: fn(&u8) -> bool| window.bytes().filter(is).count() >= 4;
    let mixed = many(u8::is_ascii_uppercase) && many(u8::is_ascii_lowercase);
    (mixed && encoding::decode_secret(window).is_some()).then_some(window)
}

/// Where all whole secret keys in a text stand. The last one may be the rest of a text that has too many places.
pub(crate) fn secret_keys(text: &str, checks: &mut Checks) -> Vec<Range<usize>> {
    let (mut found, mut end) = (Vec::new(), 0);
    for (nth, at) in places(text).enumerate() {
        if at < end {
            continue;
        }
        let candidate = if nth < PLACES { candidate(text, at) } else { None };
        if nth == PLACES || (candidate.is_some() && !checks.take()) {
            found.push(at..text.len());
            break;
        }
        if candidate.is_some_and(|window| SecretKey::parse(window).is_ok()) {
            end = at + LENGTH;
            end += text.bytes().skip(end).take(2).take_while(|b| *b == b'=').count();
            found.push(at..end);
        }
    }
    found
}

/// Whether a whole secret key stands in a text. What begins or ends where a word does is looked at first: nobody pastes a key into
/// the middle of one. Of a text with very many places that could be one, the rest counts as none.
pub(crate) fn holds_secret_key(text: &str, checks: &mut Checks) -> bool {
    let is_edge = |at: Option<usize>| {
        let byte = at.and_then(|at| text.as_bytes().get(at));
        byte.is_none_or(|byte| !byte.is_ascii_alphanumeric())
    };
    for edge in [true, false] {
        for at in places(text).take(PLACES) {
            if (is_edge(at.checked_sub(1)) || is_edge(Some(at + LENGTH))) != edge {
                continue;
            }
            if let Some(window) = candidate(text, at) {
                if !checks.take() {
                    return false;
                }
                if SecretKey::parse(window).is_ok() {
                    return true;
                }
            }
        }
    }
    false
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    thread_local! {
        /// How many places were looked at for a secret key.
        pub(crate) static LOOKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
        /// How many candidates for a key were looked at.
        pub(crate) static CHECKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    #[test]
    fn a_secret_key_is_found_inside_a_text() {
        let secret = SecretKey::from_seed([9; 32]).to_base64().unwrap();
        let url_safe = secret.replace('+', "-").replace('/', "_");
        for key in [secret.as_str(), url_safe.as_str(), url_safe.trim_end_matches('=')] {
            for text in [key.to_owned(), format!("k={key};"), format!("é/{key}AB"), format!("xx{key}")] {
                let found = find_secret_key(&text).unwrap_or_else(|| panic!("{text}"));
                assert!(text[found].starts_with(&key[..86]));
            }
        }
        assert_eq!(find_secret_key(&"abCD".repeat(22)), None);
        assert_eq!(find_secret_key("/a/path/that/is/long/"), None);
        // A certificate or a token of several hundred letters is none. The search ends, and says so.
        let mut state = 7_u64;
        let mut letters = |count: usize| -> String {
            (0..count)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                    char::from(alphabet[usize::try_from(state >> 58).unwrap()])
                })
                .collect()
        };
        assert_eq!(find_secret_key(&letters(4_000)), None);
        assert!(find_secret_key(&letters(60_000)).is_some());
        // So it does where each place has the form of a key, which costs more.
        assert_eq!(find_secret_key(&"AgQw".repeat(1_000)), Some(333..4_000));
        assert_eq!(find_secret_key(&"AgQw".repeat(10_000)), Some(1_024..40_000));
        // Nor does what never decodes cost more than that.
        for text in ["abCDefGH".repeat(100_000), "a".repeat(800_000)] {
            assert_eq!(find_secret_key(&text), Some(16_384..800_000));
        }
    }
}
