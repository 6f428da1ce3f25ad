//! The audit: one line of the log for each change that an administrator asked for, done or refused.
//!
//! The lines are structured: `action` says what, `subject` to what, `who` whose token it was (the first characters of its SHA-256: the
//! token itself is in no log), `from` the address, `before` and `after` what was so, as JSON, and `outcome` is `done` or the kind of the
//! refusal. A change that failed when a part of it was made has both: an outcome other than `done`, and what is so now.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;

use ensync_core::{Error, Redact, Result, redacted, redacted_head};
use serde::Serialize;

/// Where the lines go: `RUST_LOG=ensync::audit=info` shows them alone.
const TARGET: &str = "ensync::audit";

/// The most that is told of a text, in characters.
const MAX_TEXT: usize = 1_024;

/// Who asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    /// `None`: the program that holds the broker.
    pub(super) who: Option<Arc<str>>,
    /// `None`: from this process.
    pub(super) from: Option<SocketAddr>,
}

/// What was so before a change, and after it.
#[derive(Debug)]
pub(super) struct Was<B, A = B> {
    pub(super) before: Option<B>,
    pub(super) after: Option<A>,
}

impl<B, A> Was<B, A> {
    /// A change of which only what came of it can be told.
    pub(super) fn only(after: A) -> Self {
        Self { before: None, after: Some(after) }
    }
}

impl Caller {
    /// Writes the line of a change.
    pub(super) fn audit<B: Serialize, A: Serialize>(
        &self,
        action: &'static str,
        subject: impl Display,
        done: &Result<Was<B, A>>,
    ) {
        match done {
            Ok(was) => self.tell(action, subject, was, None),
            Err(error) => self.tell(action, subject, &Was::<B, A> { before: None, after: None }, Some(error)),
        }
    }

    /// The same, of one that may have been made in part before it failed.
    pub(super) fn tell<B: Serialize, A: Serialize>(
        &self,
        action: &'static str,
        subject: impl Display,
        Was { before, after }: &Was<B, A>,
        error: Option<&Error>,
    ) {
        let who = self.who.as_deref().unwrap_or("this program");
        let from = self.from.map_or_else(|| "this process".to_owned(), |from| from.to_string());
        let subject = one_line(&subject.to_string());
        let (before, after) = (json(before.as_ref()), json(after.as_ref()));
        match error {
            None => {
                tracing::info!(target: TARGET, action, subject, who, %from, outcome = "done", before, after, "change")
            }
            Some(error) => {
                let (outcome, error) = (error.kind().code(), one_line(&error.to_string()));
                tracing::info!(target: TARGET, action, subject, who, %from, outcome, error, before, after, "change refused");
            }
        }
    }
}

/// A text as it can stand in a line: whoever asks for a change chooses what is in it, and must neither make lines of his own nor put keys
/// where they are kept.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let shown = text.char_indices().nth(MAX_TEXT).map_or(text.len(), |(end, _)| end);
    let text = redacted_head(text, Redact::Hex, shown);
    for c in text.chars().take(MAX_TEXT) {
        let escaped = c.escape_debug();
        if escaped.len() == 1 || matches!(c, '"' | '\'') { line.push(c) } else { line.extend(escaped) }
    }
    if text.chars().nth(MAX_TEXT).is_some() {
        line.push('…');
    }
    line
}

fn json<T: Serialize>(value: Option<&T>) -> Option<String> {
    value.and_then(|value| serde_json::to_string(value).ok()).map(|json| redacted(&json, Redact::Hex).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_line_and_has_an_end() {
        assert_eq!(one_line("the \"shop\", its 'queue' of orders/paid"), "the \"shop\", its 'queue' of orders/paid");
        assert_eq!(one_line("x\n2026-11-27 INFO\u{2028}\u{1b}[0m\\"), "x\\n2026-11-27 INFO\\u{2028}\\u{1b}[0m\\\\");
        assert_eq!(one_line(&"é".repeat(2_000)).chars().count(), MAX_TEXT + 1);
        let secret = ensync_core::SecretKey::from_seed([7; 32]).to_base64().unwrap().to_string();
        let line = one_line(&format!("{}{secret}", "é".repeat(MAX_TEXT - 20)));
        assert!(!line.contains(&secret[..12]), "{line}");
        let told = json(Some(&[&secret])).unwrap();
        assert!(!told.contains(&secret[..12]) && told.starts_with('['), "{told}");
        assert_eq!(one_line(&"é".repeat(20_000)).chars().count(), MAX_TEXT + 1);
    }
}
