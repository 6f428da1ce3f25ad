//! How much of what goes to a session waits in its streams: HTTP/2 takes from a stream only what its client makes room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ensync_core::Delivery;
use tokio::sync::Notify;

/// How many bytes may wait in one stream, and in all of a session together. A single delivery may be larger.
pub(super) const STREAM: usize = 64 << 10;
pub(super) const SESSION: usize = 1 << 20;
/// What a delivery takes beside payload and metadata.
const BESIDE: usize = 512;

/// What all streams of a session hold.
#[derive(Debug, Default)]
pub(super) struct SessionRoom {
    held: AtomicUsize,
    changed: Notify,
}

impl SessionRoom {
    /// Waits until a stream held less than before, or something else is to be looked at.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn look(&self) {
        self.changed.notify_one();
    }
}

/// What one stream holds.
#[derive(Debug)]
pub(super) struct StreamRoom {
    session: Arc<SessionRoom>,
    held: AtomicUsize,
}

impl StreamRoom {
    pub(super) fn new(session: Arc<SessionRoom>) -> Arc<Self> {
        Arc::new(Self { session, held: AtomicUsize::new(0) })
    }

    /// Takes the room of a delivery, if there is some. Only one may ask at a time.
    pub(super) fn take(self: &Arc<Self>, delivery: &Delivery) -> Option<Held> {
        let bytes = BESIDE + delivery.payload.len() + delivery.metadata.as_str().len();
        let (mine, all) = (self.held.load(Ordering::Relaxed), self.session.held.load(Ordering::Relaxed));
        let fits = if mine == 0 { all < SESSION } else { mine + bytes <= STREAM && all + bytes <= SESSION };
        fits.then(|| {
            self.held.fetch_add(bytes, Ordering::Relaxed);
            self.session.held.fetch_add(bytes, Ordering::Relaxed);
            Held { of: self.clone(), bytes }
        })
    }

    /// Whether there is room for some deliveries, not only for one.
    pub(super) fn is_wide(&self) -> bool {
        self.held.load(Ordering::Relaxed) <= STREAM / 2
            && self.session.held.load(Ordering::Relaxed) <= SESSION - STREAM / 2
    }
}

/// The room of a delivery, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    of: Arc<StreamRoom>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.of.session.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.of.session.look();
    }
}
