//! Texts without the keys in them: for whoever prints, logs or sends on what somebody else wrote.

mod find;
mod keys;
mod view;

use std::borrow::Cow;

use find::secrets;
pub(crate) use find::{certain, secret_key};
pub(crate) use keys::{Checks, ISSUED, find_secret_key, is_random, issued_in, whole_issued};
use view::View;

#[cfg(test)]
pub(crate) use keys::tests::{CHECKED, LOOKED};

/// How much of a text [`redacted`] looks through, in bytes.
const MOST: usize = 64 << 10;
/// How far a key may go beyond what is shown of a text, in bytes: of one that begins before, nothing is shown.
const BEYOND: usize = 1_024;
pub(crate) const HIDDEN: &str = "(not shown: a key)";
const TOO_LONG: &str = "… (the rest is not shown: it is too long)";

/// How much [`redacted`] leaves out of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Redact {
    /// What is a secret for all that can be told: a secret key, app keys, admin tokens and client ids, a private key in PEM; and 32 bytes
    /// in base64 that are no app's id, as 15 of 16 seeds are. In pieces with white space between them, percent-encoded, with the
    /// escapes of JSON, and as a text in base64, too.
    Secrets,
    /// And hex of the length of a key, which may as well be a checksum: for messages.
    Hex,
    /// And app ids: for what was typed where it has no meaning.
    Keys,
}

/// A text without the secrets in it. Of one that is longer than 64 KiB, the rest is left out too.
///
/// ```
/// use ensync_core::{Redact, redacted};
///
/// assert_eq!(redacted("no app logs in with ensync_key_q83v", Redact::Secrets), "no app logs in with (not shown: a key)");
/// assert_eq!(redacted("no app has the name \"shop\"", Redact::Keys), "no app has the name \"shop\"");
/// ```
pub fn redacted(text: &str, what: Redact) -> Cow<'_, str> {
    redacted_head(text, what, MOST)
}

/// The first `most` bytes of a text, without the secrets in them: where no more of it is shown.
///
/// ```
/// use ensync_core::{Redact, redacted_head};
///
/// let text = format!("{}ensync_key_q83v", "é".repeat(100));
/// assert!(redacted_head(&text, Redact::Secrets, 3).starts_with("é… (the rest is not shown"));
/// ```
pub fn redacted_head(text: &str, what: Redact, most: usize) -> Cow<'_, str> {
    let head = |most: usize| text.get(..text.floor_char_boundary(most)).unwrap_or(text);
    let shown = head(most).len();
    // What it costs goes by what is shown.
    let mut found = secrets(head(most.saturating_add(BEYOND)), what, Checks::of(head(most)));
    found.retain(|found| found.start < shown);
    if found.is_empty() && shown == text.len() {
        return Cow::Borrowed(text);
    }
    let (mut clean, mut at) = (String::with_capacity(shown), 0);
    for found in found {
        clean.push_str(text.get(at..found.start).unwrap_or_default());
        clean.push_str(HIDDEN);
        at = found.end;
    }
    clean.push_str(text.get(at..shown).unwrap_or_default());
    if shown < text.len() {
        clean.push_str(TOO_LONG);
    }
    Cow::Owned(clean)
}

/// The secret that a text holds for certain, if there is one: a whole key or token of an engine; a secret key whose halves belong together,
/// in base64 or hex, percent-encoded, with the escapes of JSON or in pieces; a private key in PEM; each of these as a text in base64. What
/// refuses asks this: names, ids and URLs do.
///
/// ```
/// use ensync_core::secret_in;
///
/// let text = "--to=ensync_key_q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA";
/// assert_eq!(secret_in(text), Some("an app key"));
/// assert_eq!(secret_in("audit/ensync_key_rotated"), None);
/// ```
pub fn secret_in(text: &str) -> Option<&'static str> {
    certain(text, &mut Checks::of(text))
}

/// The same, and what looks like one: 32 bytes in base64 that are no app's id. A digest does, too. For where a secret would do harm, and
/// nothing else that is so long belongs.
pub fn perhaps_secret_in(text: &str) -> Option<&'static str> {
    let in_pieces = || whole_issued(&View::joined(text).text);
    secret_in(text).or_else(in_pieces).or_else(|| {
        // To speak of tokens is to hold none.
        let begun = |found: &str| issued_in(&View::decoded(found).text).next().is_some();
        let mut found =
            secrets(text, Redact::Secrets, Checks::of(text)).into_iter().filter_map(|found| text.get(found));
        found.find(|found| !begun(found)).map(|_| "a secret key")
    })
}

#[cfg(test)]
mod tests;
