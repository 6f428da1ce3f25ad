//! Why nothing more is stored.

use std::sync::OnceLock;

use ensync_core::Error;
use tokio::sync::Notify;

/// Set once, for good.
#[derive(Debug, Default)]
pub(super) struct Failure {
    why: OnceLock<Error>,
    happened: Notify,
}

impl Failure {
    pub(super) fn get(&self) -> Option<&Error> {
        self.why.get()
    }

    pub(super) fn set(&self, why: Error) {
        tracing::error!(error = %ensync_core::report(&why), "the log has failed");
        if self.why.set(why).is_ok() {
            self.happened.notify_waiters();
        }
    }

    /// Waits until it is set.
    pub(super) async fn happened(&self) -> Error {
        loop {
            let happened = self.happened.notified();
            if let Some(why) = self.get() {
                return why.clone();
            }
            happened.await;
        }
    }
}
