//! Whether the words of a refusal say that its reason passes.

use crate::ErrorKind;

/// The words of a refusal, in lower case, a space before and behind each.
pub(super) struct Words(String);

impl Words {
    /// Those of a text but for what is in `without`, and for names in quotes.
    pub(super) fn of(text: &str, without: &[&str]) -> Self {
        let mut text = text.to_owned();
        for part in without {
            take_out(&mut text, part);
        }
        take_out_quoted(&mut text);
        let (mut words, mut before, mut next) = (String::from(" "), ' ', text.chars().skip(1));
        for c in text.chars() {
            // One written as "RateLimitExceeded" has three words, and "MiB" is one.
            let camel = next.next().is_some_and(char::is_lowercase) && before.is_lowercase() && c.is_uppercase();
            let begins = !c.is_alphanumeric() || camel;
            if begins && !words.ends_with(' ') {
                words.push(' ');
            }
            if c.is_alphanumeric() {
                words.extend(c.to_lowercase());
            }
            before = c;
        }
        words.push(' ');
        Self(words)
    }

    pub(super) fn say(&self, any: &[&str]) -> bool {
        any.iter().any(|word| self.0.contains(&format!(" {word} ")))
    }

    /// Whether what they say passes. Of anything but a limit on the size of what was sent: that stays.
    pub(super) fn meaning(&self) -> ErrorKind {
        if self.say(PASSING) {
            ErrorKind::Unavailable
        } else if self.say(LIMIT) && !self.say(SIZE) {
            ErrorKind::LimitExceeded
        } else {
            ErrorKind::Refused
        }
    }
}

const LIMIT: &[&str] = &[
    "limit",
    "limited",
    "limits",
    "quota",
    "quotas",
    "ratelimit",
    "ratelimited",
    "throttle",
    "throttled",
    "throttling",
    "too many",
];

const SIZE: &[&str] = &[
    "byte",
    "bytes",
    "characters",
    "gb",
    "gib",
    "header",
    "headers",
    "kb",
    "kib",
    "large",
    "larger",
    "length",
    "long",
    "longer",
    "mb",
    "mib",
    "oversized",
    "payload",
    "payloads",
    "size",
    "sizes",
];

const PASSING: &[&str] = &[
    "again later",
    "busy",
    "draining",
    "later again",
    "maintenance",
    "moment",
    "not ready",
    "overload",
    "overloaded",
    "restart",
    "restarted",
    "restarting",
    "restarts",
    "retry later",
    "shut down",
    "shutdown",
    "shutting down",
    "starting",
    "stopping",
    "temporarily",
    "temporary",
    "try again",
    "try later",
    "unavailable",
];

/// Takes a part out of a text wherever it stands by itself, that is not within a longer word.
fn take_out(text: &mut String, part: &str) {
    let part = part.trim();
    if part.is_empty() {
        return;
    }
    let (mut from, mut kept) = (text.as_str(), String::with_capacity(text.len()));
    while let Some((before, behind)) = from.split_once(part) {
        let inside = before.chars().next_back().or(kept.chars().next_back()).is_some_and(char::is_alphanumeric)
            || behind.starts_with(char::is_alphanumeric);
        kept.push_str(before);
        kept.push_str(if inside { part } else { " " });
        from = behind;
    }
    kept.push_str(from);
    *text = kept;
}

/// Takes out what stands in quotes without a space in it: a name, an id, a field.
fn take_out_quoted(text: &mut String) {
    const QUOTES: &[(char, char)] =
        &[('\'', '\''), ('"', '"'), ('`', '`'), ('\u{2018}', '\u{2019}'), ('\u{201c}', '\u{201d}'), ('«', '»')];
    let (mut from, mut kept, mut before) = (text.as_str(), String::with_capacity(text.len()), ' ');
    while let Some(c) = from.chars().next() {
        let behind = from.get(c.len_utf8()..).unwrap_or_default();
        // Not of "the engine's".
        let opened = QUOTES.iter().find(|(open, _)| *open == c && !before.is_alphanumeric());
        let quoted = opened.and_then(|(_, close)| behind.split_once(*close));
        match quoted {
            Some((quoted, rest)) if !quoted.contains(char::is_whitespace) => {
                kept.push(' ');
                (from, before) = (rest, ' ');
            }
            _ => {
                kept.push(c);
                (from, before) = (behind, c);
            }
        }
    }
    *text = kept;
}
