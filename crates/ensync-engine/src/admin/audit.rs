//! The audit: one line of the log for each change that an administrator asked for, done or refused.
//!
//! The lines are structured: `action` says what, `subject` to what, `who` whose token it was (the first characters of its SHA-256: the
//! token itself is in no log), `from` the address, `before` and `after` what was so, as JSON, and `outcome` is `done` or the kind of the
//! refusal.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;

use ensync_core::Result;
use serde::Serialize;

/// Where the lines go: `RUST_LOG=ensync::audit=info` shows them alone.
const TARGET: &str = "ensync::audit";

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
        let who = self.who.as_deref().unwrap_or("this program");
        let from = self.from.map_or_else(|| "this process".to_owned(), |from| from.to_string());
        match done {
            Ok(Was { before, after }) => tracing::info!(
                target: TARGET,
                action,
                %subject,
                who,
                %from,
                outcome = "done",
                before = json(before.as_ref()),
                after = json(after.as_ref()),
                "change"
            ),
            Err(error) => tracing::info!(
                target: TARGET,
                action,
                %subject,
                who,
                %from,
                outcome = error.kind().code(),
                %error,
                "change refused"
            ),
        }
    }
}

fn json<T: Serialize>(value: Option<&T>) -> Option<String> {
    value.and_then(|value| serde_json::to_string(value).ok())
}
