//! Text that is not the program's own: what others wrote is printed so that it does nothing to a terminal, and what may hold a
//! secret is printed without it.

use ensync_sdk::core::{EventName, Redact, is_unprintable};

pub(crate) use ensync_sdk::core::{perhaps_secret_in, printable, secret_in};

use crate::hints;

/// JSON, for a terminal too: what would do something there is escaped, which changes no value. Such characters are in strings
/// only, but for white space, which stays.
pub(crate) fn json(text: &str) -> String {
    let unsafe_here = |c: char| is_unprintable(c) && !matches!(c, '\n' | '\r' | '\t');
    if !text.contains(unsafe_here) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if unsafe_here(c) { safe.push_str(&format!("\\u{:04x}", u32::from(c))) } else { safe.push(c) }
    }
    safe
}

/// An error or a warning as it is printed: in the tool's words, each line [`printable`], and without secrets.
pub(crate) fn message(text: &str) -> String {
    let text = hints::reworded(text);
    let clean = ensync_sdk::core::redacted(&text, Redact::Hex);
    clean.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// White space and byte order marks around a value, which editors and shells leave, left out.
pub(crate) fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

/// A text without the secrets in it.
pub(crate) fn redacted(text: &str) -> String {
    ensync_sdk::core::redacted(text, Redact::Secrets).into_owned()
}

/// A text without anything that could be a key, public ones and those that are not whole included: for what somebody typed where it has
/// no meaning.
pub(crate) fn redacted_strictly(text: &str) -> String {
    let clean = ensync_sdk::core::redacted(text, Redact::Keys).into_owned();
    let words = text.split(|c: char| c.is_whitespace() || "'\"`".contains(c)).filter(|word| word.len() >= 42);
    // What is nearly a key is no name, and says so.
    let is_nearly = |word: &&str| EventName::parse(word).is_err_and(|why| why.to_string().contains("could be a key"));
    words.filter(is_nearly).fold(clean, |clean, word| clean.replace(word, "(not shown: a key)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_does_nothing_to_a_terminal() {
        assert_eq!(json("{\"a\":\"\u{202e}\u{9b}\u{7f}é\"}\n"), "{\"a\":\"\\u202e\\u009b\\u007fé\"}\n");
        assert_eq!(message("a\u{1b}[2J\nb\u{2028}c"), "a\u{fffd}[2J\nb\u{fffd}c");
    }

    #[test]
    fn messages_hold_no_keys_of_any_writing() {
        let hex = "5a".repeat(32);
        for text in ["no app has the name \"ensync_key_q83v\"".to_owned(), format!("cannot dial ws://h/{hex}/message")]
        {
            assert!(message(&text).contains("(not shown: a key)"), "{text}");
        }
        // A directory may be called by its checksum.
        assert_eq!(redacted(&hex), hex);
    }
}
