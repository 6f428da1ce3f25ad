//! For how long a delivery is this client's.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::session::{LinkLife, StreamLife};

/// The lease of one delivery. It is over with the stream that brought the delivery, or its link, when its time is up, or when the engine says so.
#[derive(Debug)]
pub(crate) struct Lease {
    stream: Arc<StreamLife>,
    /// When it runs out, if the engine said.
    until: Mutex<Option<Instant>>,
    lost: CancellationToken,
}

impl Lease {
    pub(crate) fn new(stream: Arc<StreamLife>, until: Option<Instant>) -> Self {
        Self { stream, until: Mutex::new(until), lost: CancellationToken::new() }
    }

    pub(crate) fn link(&self) -> &Arc<LinkLife> {
        self.stream.link()
    }

    /// When it runs out, if the engine said.
    pub(crate) fn until(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It was extended.
    pub(crate) fn extend(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// The engine says that it is over.
    pub(crate) fn lose(&self) {
        self.lost.cancel();
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled() || self.stream.has_ended() || self.until().is_some_and(|until| until <= Instant::now())
    }

    /// Waits until it is lost.
    pub(crate) async fn lost(&self) {
        while !self.is_lost() {
            let until = self.until();
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.stream.ended() => {}
                () = self.lost.cancelled() => {}
                // It may have been extended meanwhile.
                () = over => {}
            }
        }
    }
}

/// Keeps a lease until it is dropped.
pub(crate) struct Renewal(pub(crate) Option<AbortHandle>);

impl Drop for Renewal {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
