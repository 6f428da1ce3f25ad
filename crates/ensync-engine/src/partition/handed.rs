//! Whether a delivery was ever given to a transport. One that waits in its session's inbox until the lease ends, or whose payload could
//! not be read, is none: its client saw nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Outgoing, Partition};
use crate::model::EventRef;

/// Goes with a lease: whoever is about to send the delivery sees that it has ended, and the lease sees whether it was sent.
#[derive(Debug, Default)]
pub(crate) struct Handing {
    waits: AtomicBool,
}

impl Outgoing {
    /// It waits somewhere to be given to a transport: until it is [handed over](Self::hand_over), an end of its lease is no delivery.
    pub fn wait(&self) {
        self.set_waits(true);
    }

    /// It is given to a transport.
    pub fn hand_over(&self) {
        self.set_waits(false);
    }

    fn set_waits(&self, waits: bool) {
        if let Some(handing) = self.live.upgrade() {
            handing.waits.store(waits, Ordering::Release);
        }
    }
}

impl Partition {
    /// Takes a delivery back that was never made, as if the lease had not been given. Whether that was so.
    pub(super) fn take_back_unmade(&mut self, event: EventRef) -> bool {
        let lease = self.queues.get(&event.queue).and_then(|queue| queue.leases.get(&event.seq));
        if !lease.is_some_and(|lease| lease.handing.waits.load(Ordering::Acquire)) {
            return false;
        }
        if let Some(entry) = self.lift(event) {
            // The log knows nothing of it.
            entry.deliveries = entry.deliveries.saturating_sub(1);
            self.wait_again(event);
        }
        true
    }
}
