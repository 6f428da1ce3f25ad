//! Sessions that nobody took: whoever asked for one was gone when the answer came, and will never log out.

use std::sync::{Arc, Mutex, PoisonError};

use ensync_core::ClientId;

/// Those that are to be ended.
#[derive(Debug, Default)]
pub(super) struct Unclaimed(Mutex<Vec<ClientId>>);

impl Unclaimed {
    /// Those that were left since this was asked last.
    pub(super) fn take(&self) -> Vec<ClientId> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A session on its way to who asked for it. Dropped before it is claimed, it is one of the [unclaimed](Unclaimed).
#[derive(Debug)]
pub(super) struct Claim(Option<(Arc<Unclaimed>, ClientId)>);

impl Claim {
    pub(super) fn new(unclaimed: &Arc<Unclaimed>, client_id: ClientId) -> Self {
        Self(Some((unclaimed.clone(), client_id)))
    }

    /// Somebody has it, and will log out.
    pub(super) fn claim(mut self) {
        self.0 = None;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some((unclaimed, client_id)) = self.0.take() {
            unclaimed.0.lock().unwrap_or_else(PoisonError::into_inner).push(client_id);
        }
    }
}
