//! What a request changed: its handler says so, and the audit has a line of it.

use std::sync::{Arc, Mutex, PoisonError};

use ensync_core::{Error, ErrorKind};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use crate::admin::audit::{Caller, Was};

/// What the handler of a request says of it. A handle, cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    change: Option<(&'static str, String)>,
    was: (Option<Value>, Option<Value>),
}

impl Changes {
    /// A change is about to be made: which, and to what.
    pub(super) fn begins(&self, action: &'static str, subject: impl ToString) {
        self.told(|told| told.change = Some((action, subject.to_string())));
    }

    /// It was made, or a part of it: what was so before, and after.
    pub(super) fn made(&self, before: Option<impl Serialize>, after: Option<impl Serialize>) {
        // Nothing here is a map with keys that are no text.
        let before = before.and_then(|before| serde_json::to_value(before).ok());
        let after = after.and_then(|after| serde_json::to_value(after).ok());
        self.told(|told| told.was = (before, after));
    }

    /// Writes the line. `path` stands for the change if no handler got so far as to say which it is.
    pub(super) fn audit(self, caller: &Caller, path: &str, status: StatusCode) {
        let Told { change, was: (before, after) } = self.told(std::mem::take);
        let (action, subject) = change.unwrap_or_else(|| ("config-manager", without_ids(path)));
        let refused = (!status.is_success()).then(|| Error::new(kind(status), format!("answered with {status}")));
        caller.tell(action, subject, &Was { before, after }, refused.as_ref());
    }

    fn told<T>(&self, what: impl FnOnce(&mut Told) -> T) -> T {
        // Nothing panics while it is held.
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A path without what may be a key: the id of an access key can be asked for by the key itself.
fn without_ids(path: &str) -> String {
    const OURS: [&str; 10] =
        ["", "api", "v1", "ensync", "event", "access-key", "access", "permissions", "service-key-pair", "workspace"];
    let parts = path.split('/').map(|part| if OURS.contains(&part) { part } else { "…" });
    parts.collect::<Vec<_>>().join("/")
}

fn kind(status: StatusCode) -> ErrorKind {
    match status {
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::CONFLICT => ErrorKind::Conflict,
        StatusCode::FORBIDDEN => ErrorKind::Forbidden,
        StatusCode::TOO_MANY_REQUESTS => ErrorKind::LimitExceeded,
        StatusCode::SERVICE_UNAVAILABLE => ErrorKind::Unavailable,
        status if status.is_server_error() => ErrorKind::Internal,
        _ => ErrorKind::InvalidInput,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_in_the_line_of_a_change() {
        assert_eq!(
            without_ids("/api/v1/ensync/access-key/sk_1234/permissions"),
            "/api/v1/ensync/access-key/…/permissions"
        );
        assert_eq!(without_ids("/api/v1/ensync/event"), "/api/v1/ensync/event");
        assert_eq!(without_ids("/x"), "/…");
    }
}
