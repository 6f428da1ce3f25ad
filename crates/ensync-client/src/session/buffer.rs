//! The buffer between the connection and a subscription's reader.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ensync_core::{Block, Delivery, EventId};
use tokio::time::Instant;

use super::flow::Credit;
use super::link_command::HandBack;
use super::observed_lease::ObservedLease;
use super::stream::StreamLife;
use crate::observe::metrics::{UNREAD, count};

/// An event on its way to a subscription.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) delivery: Delivery,
    /// The stream it came by. What that brought is no longer this client's once it has ended: the engine takes it back.
    pub(crate) stream: Arc<StreamLife>,
    pub(crate) arrived: Instant,
    /// When its lease runs out, if the engine said.
    pub(crate) until: Option<Instant>,
    pub(crate) held: Credit,
}

impl Routed {
    fn is(&self, id: &EventId, block: Block) -> bool {
        self.delivery.id == *id && self.delivery.block == block
    }

    fn has_run_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// The same where the engine tells no leases, as far as it showed how long they are.
    fn is_too_old(&self, now: Instant, at_most: Option<Duration>) -> bool {
        self.until.is_none() && at_most.is_some_and(|at_most| now.saturating_duration_since(self.arrived) >= at_most)
    }
}

/// Events for one reader, in the order they came. How many there may be is the [`FlowControl`](super::flow::FlowControl)'s business.
#[derive(Debug, Default)]
pub(crate) struct DeliveryBuffer {
    inner: Mutex<Inner>,
    /// Events that were not read in their lease.
    ran_out: AtomicU64,
    observed: Arc<ObservedLease>,
    /// Whether what waits is extended instead of handed back, because a handler works it off.
    kept: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Routed>,
    closed: bool,
    reader: Option<Waker>,
}

impl DeliveryBuffer {
    /// Adds an event; gives it back if nobody reads any more.
    pub(super) fn push(&self, routed: Routed) -> Option<Routed> {
        let mut inner = self.lock();
        if inner.closed {
            return Some(routed);
        }
        // A reader that never comes must not pile up what the engine sends again each time.
        self.drop_run_out(&mut inner);
        // One that was not read yet and comes again takes the place of the other, which the engine has taken back.
        let id = &routed.delivery.id;
        let replaced = match inner.events.iter_mut().find(|known| known.delivery.id == *id) {
            Some(known) => Some(std::mem::replace(known, routed)),
            None => {
                inner.events.push_back(routed);
                None
            }
        };
        wake(inner);
        // Dropped after the lock is free: it makes room.
        drop(replaced);
        None
    }

    /// The next event whose lease has not run out; `None` after the end.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Routed>> {
        let mut inner = self.lock();
        self.drop_run_out(&mut inner);
        match inner.events.pop_front() {
            Some(routed) => Poll::Ready(Some(routed)),
            None if inner.closed => Poll::Ready(None),
            None => {
                if !inner.reader.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                    inner.reader = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Ends the reader's stream, and gives what was not read.
    pub(super) fn close(&self) -> Vec<Routed> {
        let mut inner = self.lock();
        inner.closed = true;
        let unread = std::mem::take(&mut inner.events);
        wake(inner);
        unread.into()
    }

    /// From now on what waits is extended instead of handed back.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }

    /// What is to be extended: kept, not read, and its lease runs out before `limit`.
    pub(super) fn kept_ending(&self, limit: Instant) -> Vec<HandBack> {
        if !self.kept.load(Ordering::Acquire) {
            return Vec::new();
        }
        let inner = self.lock();
        inner.events.iter().filter(|routed| routed.has_run_out(limit)).map(HandBack::of).collect()
    }

    /// The lease of one that waits was extended.
    pub(super) fn extended(&self, id: &EventId, block: Block, until: Instant) {
        let mut inner = self.lock();
        if let Some(routed) = inner.events.iter_mut().find(|routed| routed.is(id, block)) {
            routed.until = Some(until);
        }
    }

    /// One that waits is no longer this client's.
    pub(super) fn remove(&self, id: &EventId, block: Block) {
        let mut inner = self.lock();
        let place = inner.events.iter().position(|routed| routed.is(id, block));
        let _gone = place.and_then(|place| inner.events.remove(place));
        drop(inner);
    }

    /// Takes out what was not read and whose lease runs out before `limit`.
    pub(super) fn take_ending(&self, limit: Instant) -> Vec<Routed> {
        if self.kept.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut inner = self.lock();
        self.drop_run_out(&mut inner);
        let ending = inner.events.iter().take_while(|first| first.has_run_out(limit)).count();
        self.unread(ending);
        inner.events.drain(..ending).collect()
    }

    /// Takes out what was not read.
    pub(super) fn take_unread(&self) -> VecDeque<Routed> {
        std::mem::take(&mut self.lock().events)
    }

    /// What the leases of an engine that tells none are seen to be.
    pub(crate) fn observed(&self) -> &Arc<ObservedLease> {
        &self.observed
    }

    /// How many events were not read.
    pub(super) fn len(&self) -> usize {
        self.lock().events.len()
    }

    /// How many events were not read in their lease.
    pub(crate) fn ran_out(&self) -> u64 {
        self.ran_out.load(Ordering::Relaxed)
    }

    /// Somebody else has them, or will. All leases of a name are as long, so the first ends first.
    fn drop_run_out(&self, inner: &mut Inner) {
        let now = Instant::now();
        let at_most = self.observed.at_most(now);
        while inner.events.front().is_some_and(|first| first.has_run_out(now) || first.is_too_old(now, at_most)) {
            if let Some(Routed { delivery, .. }) = inner.events.pop_front() {
                self.unread(1);
                tracing::debug!(event = %delivery.event, id = %delivery.id, "the lease ran out before the event was read; it will come again");
            }
        }
    }

    /// So many were not read in time.
    fn unread(&self, events: usize) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        if events > 0 {
            self.ran_out.fetch_add(events, Ordering::Relaxed);
            count(UNREAD, events, None);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut inner: MutexGuard<'_, Inner>) {
    let reader = inner.reader.take();
    drop(inner);
    if let Some(reader) = reader {
        reader.wake();
    }
}
