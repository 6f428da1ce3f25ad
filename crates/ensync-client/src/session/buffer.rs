//! The buffer between the connection and a subscription's reader.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ensync_core::{Block, Delivery, EventId};
use tokio::time::Instant;

use super::SHORTEST_LEASE;
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
    /// By the place of each in the order they came.
    events: BTreeMap<u64, Waiting>,
    places: HashMap<EventId, u64>,
    next: u64,
    /// When the leases of what waits are to be looked after next.
    look: Option<Instant>,
    /// They are being looked after.
    cared_for: bool,
    closed: bool,
    reader: Option<Waker>,
}

/// An event that waits for its reader.
#[derive(Debug)]
struct Waiting {
    routed: Routed,
    /// How long its lease was when it was last told.
    lease: Option<Duration>,
}

impl Waiting {
    fn new(routed: Routed) -> Self {
        Self { lease: routed.delivery.lease, routed }
    }

    /// When its lease is to be looked after: it is extended when half of it is left, or the event handed back when a quarter is. Each
    /// event has its own: that of another name, or one that was on its way for long, may be far shorter.
    fn due(&self, kept: bool) -> Option<Instant> {
        let (until, lease) = self.routed.until.zip(self.lease.filter(|lease| *lease >= SHORTEST_LEASE))?;
        until.checked_sub(lease / if kept { 2 } else { 4 })
    }
}

impl Inner {
    /// One that was not read yet and comes again takes the place of the other, which the engine has taken back; that is given.
    fn put(&mut self, routed: Routed, kept: bool) -> Option<Waiting> {
        let place = *self.places.entry(routed.delivery.id.clone()).or_insert(self.next);
        self.next += u64::from(place == self.next);
        let waiting = Waiting::new(routed);
        self.look = [self.look, waiting.due(kept)].into_iter().flatten().min();
        self.events.insert(place, waiting)
    }

    fn first(&self) -> Option<&Routed> {
        self.events.first_key_value().map(|(_, waiting)| &waiting.routed)
    }

    fn pop(&mut self) -> Option<Routed> {
        let (_, Waiting { routed, .. }) = self.events.pop_first()?;
        self.places.remove(&routed.delivery.id);
        Some(routed)
    }

    /// The place of a delivery that waits.
    fn place(&self, id: &EventId, block: Block) -> Option<u64> {
        let place = *self.places.get(id)?;
        self.events.get(&place).filter(|waiting| waiting.routed.delivery.block == block).map(|_| place)
    }

    fn remove(&mut self, place: u64) -> Option<Routed> {
        let Waiting { routed, .. } = self.events.remove(&place)?;
        self.places.remove(&routed.delivery.id);
        Some(routed)
    }

    fn take(&mut self) -> Vec<Routed> {
        self.places.clear();
        self.look = None;
        std::mem::take(&mut self.events).into_values().map(|waiting| waiting.routed).collect()
    }

    /// Whether it is time to look. Not sooner, or what is looked at all the time would be put off all the time.
    fn is_time(&self, now: Instant) -> bool {
        !self.cared_for && self.look.is_some_and(|look| look <= now)
    }

    /// The places of what is due.
    fn due(&self, now: Instant, kept: bool) -> Vec<u64> {
        let due = |waiting: &Waiting| waiting.due(kept).is_some_and(|due| due <= now);
        self.events.iter().filter(|(_, waiting)| due(waiting)).map(|(place, _)| *place).collect()
    }

    /// They were looked after: what could not be extended is tried again soon, and all that is due by then at one time.
    fn looked(&mut self, now: Instant, kept: bool) {
        let next =
            |waiting: &Waiting| waiting.due(kept).map(|due| due.max(now + waiting.lease.unwrap_or_default() / 8));
        self.look = self.events.values().filter_map(next).min();
    }
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
        let replaced = inner.put(routed, self.is_kept());
        wake(inner);
        // Dropped after the lock is free: it makes room.
        drop(replaced);
        None
    }

    /// The next event whose lease has not run out; `None` after the end.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Routed>> {
        let mut inner = self.lock();
        self.drop_run_out(&mut inner);
        match inner.pop() {
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
        let unread = inner.take();
        wake(inner);
        unread
    }

    /// From now on what waits is extended instead of handed back.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
        // What came before is due sooner now; who looks is awake by then.
        let mut inner = self.lock();
        inner.look = inner.events.values().filter_map(|waiting| waiting.due(true)).min();
    }

    fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    /// When what waits is to be looked after next, if not at the moment.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let inner = self.lock();
        inner.look.filter(|_| !inner.cared_for)
    }

    /// What is to be extended: kept, not read, and half of its lease is over. It is looked after until [`cared_for`](Self::cared_for).
    pub(super) fn kept_ending(&self, now: Instant) -> Vec<HandBack> {
        if !self.is_kept() {
            return Vec::new();
        }
        let mut inner = self.lock();
        if !inner.is_time(now) {
            return Vec::new();
        }
        let due = inner.due(now, true);
        let due: Vec<_> =
            due.iter().filter_map(|place| inner.events.get(place)).map(|one| HandBack::of(&one.routed)).collect();
        match due.is_empty() {
            true => inner.looked(now, true),
            false => inner.cared_for = true,
        }
        due
    }

    /// What was to be extended is, or could not be.
    pub(super) fn cared_for(&self) {
        let mut inner = self.lock();
        inner.cared_for = false;
        inner.looked(Instant::now(), self.is_kept());
    }

    /// The lease of one that waits was extended.
    pub(super) fn extended(&self, id: &EventId, block: Block, (asked, lease): (Instant, Duration)) {
        let mut inner = self.lock();
        if let Some(place) = inner.place(id, block)
            && let Some(waiting) = inner.events.get_mut(&place)
        {
            waiting.routed.until = asked.checked_add(lease);
            waiting.lease = Some(lease);
        }
    }

    /// One that waits is no longer this client's.
    pub(super) fn remove(&self, id: &EventId, block: Block) {
        let mut inner = self.lock();
        let _gone = inner.place(id, block).and_then(|place| inner.remove(place));
        drop(inner);
    }

    /// Takes out what was not read and has a quarter of its lease left.
    pub(super) fn take_ending(&self, now: Instant) -> Vec<Routed> {
        if self.is_kept() {
            return Vec::new();
        }
        let mut inner = self.lock();
        if !inner.is_time(now) {
            return Vec::new();
        }
        self.drop_run_out(&mut inner);
        let due = inner.due(now, false);
        self.unread(due.len());
        let ending = due.into_iter().filter_map(|place| inner.remove(place)).collect();
        inner.looked(now, false);
        ending
    }

    /// Takes out what was not read.
    pub(super) fn take_unread(&self) -> Vec<Routed> {
        self.lock().take()
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

    /// Somebody else has them, or will. What came first ends first; of others that end before, it is noticed when it is their turn.
    fn drop_run_out(&self, inner: &mut Inner) {
        let now = Instant::now();
        let at_most = self.observed.at_most(now);
        while inner.first().is_some_and(|first| first.has_run_out(now) || first.is_too_old(now, at_most)) {
            if let Some(Routed { delivery, .. }) = inner.pop() {
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
