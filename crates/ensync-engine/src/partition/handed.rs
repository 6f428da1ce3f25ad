//! When a delivery was given to a transport, and whether it ever was. One that waits in its session's inbox, or whose payload could not be
//! read, is none yet: its client sees nothing. So its lease begins when it is handed over; until then there is another time after which it
//! is somebody else's to get, as long as a lease, that counts for nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::timers::Timer;
use super::{Outgoing, Partition};
use crate::model::EventRef;

/// Which part of a lease's time may pass before its delivery is handed over, without a word about it.
const LITTLE: u32 = 8;

/// Goes with a lease: whoever is about to send the delivery sees that it has ended, and the lease sees whether it was sent.
#[derive(Debug, Default)]
pub(crate) struct Handing {
    waits: AtomicBool,
    /// How long after the lease was given it was handed over, in milliseconds, until that is made good.
    after: AtomicU64,
}

impl Handing {
    fn waits(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// The lease goes on from now, whenever it began.
    pub(super) fn is_extended(&self) {
        self.after.store(0, Ordering::Relaxed);
    }
}

impl Outgoing {
    /// It waits somewhere to be given to a transport: until it is [handed over](Self::hand_over), an end of its lease is no delivery.
    pub fn wait(&self) {
        if let Some(handing) = self.live.upgrade() {
            handing.waits.store(true, Ordering::Release);
        }
    }

    /// It is given to a transport, so long after its lease was given: that begins now, unless so little is lost of it that it is not worth the
    /// effort. What there is of it; `None` if it is not the session's any more.
    pub fn hand_over(&self, after: Duration) -> Option<Duration> {
        let handing = self.live.upgrade()?;
        let begins = if after < self.lease / LITTLE { Duration::ZERO } else { after };
        handing.after.store(u64::try_from(begins.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        handing.waits.store(false, Ordering::Release);
        Some(if begins.is_zero() { self.lease.saturating_sub(after) } else { self.lease })
    }
}

impl Partition {
    /// Takes a delivery back that was never made, as if the lease had not been given. Whether that was so.
    pub(super) fn take_back_unmade(&mut self, event: EventRef) -> bool {
        let lease = self.queues.get(&event.queue).and_then(|queue| queue.leases.get(&event.seq));
        if !lease.is_some_and(|lease| lease.handing.waits()) {
            return false;
        }
        if let Some(entry) = self.lift(event) {
            // The log knows nothing of it.
            entry.deliveries = entry.deliveries.saturating_sub(1);
            self.wait_again(event);
        }
        true
    }

    /// Has a lease that seems to be over last until its whole time has passed since the delivery was handed over. Whether it does.
    pub(super) fn begins_later(&mut self, event: EventRef) -> bool {
        let Some(lease) = self.queues.get_mut(&event.queue).and_then(|queue| queue.leases.get_mut(&event.seq)) else {
            return false;
        };
        if lease.handing.waits() {
            return false;
        }
        let after = Duration::from_millis(lease.handing.after.swap(0, Ordering::Relaxed));
        if after.is_zero() {
            return false;
        }
        lease.until = lease.until.after(after);
        self.lease_ends.arm(lease.until, Timer::Lease(event));
        true
    }
}
