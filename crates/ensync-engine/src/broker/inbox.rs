//! What goes to a session. The broker leaves references there; whoever takes deliveries reads and makes them, in his own task, so that a
//! read which takes long holds up nobody else.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};

use ensync_core::Delivery;
use futures::future::{BoxFuture, Either, Ready, ready as at_hand};
use futures::stream::FuturesOrdered;
use futures::{FutureExt, Stream, StreamExt};
use tokio::time::Instant;

use super::records::Records;
use crate::model::Record;
use crate::state::Outgoing;

/// How many deliveries a session reads at a time, and how many bytes; a single one may be larger.
const READS: (usize, u64) = (32, 1 << 20);
/// From how many references on those whose leases have ended are looked for.
const MANY: usize = 256;
/// And from how many bytes of payload and metadata on.
const HEAVY: u64 = 4 << 20;

/// Both ends of a session's inbox.
pub(super) fn channel(records: &Arc<Records>) -> (Sender, Inbox) {
    let shared = Arc::<Shared>::default();
    let (records, reading) = (Arc::downgrade(records), FuturesOrdered::new());
    (Sender(shared.clone()), Inbox { shared, records, reading, bytes: 0 })
}

#[derive(Default)]
struct Shared(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// With the time at which each lease began.
    deliveries: VecDeque<(Instant, Outgoing)>,
    /// How many may be there before those whose leases have ended are taken out: so they are as many as twice the session's leases.
    room: usize,
    /// What they weigh, and how much they may before the same: what is in memory only is held by them.
    bytes: u64,
    room_bytes: u64,
    /// Nothing more comes.
    ended: bool,
    /// Nobody takes anything more.
    unread: bool,
    waker: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No code that holds the lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a partition's task puts deliveries. Dropping it ends the inbox.
pub(super) struct Sender(Arc<Shared>);

impl Sender {
    /// Whether somebody may still take it.
    pub(super) fn send(&self, delivery: Outgoing) -> bool {
        // Until it is taken nobody has seen it.
        delivery.wait();
        let mut waiting = self.0.lock();
        if waiting.unread {
            return false;
        }
        if waiting.deliveries.len() >= waiting.room.max(MANY) || waiting.bytes >= waiting.room_bytes.max(HEAVY) {
            waiting.deliveries.retain(|(_, delivery)| delivery.is_live());
            waiting.room = 2 * waiting.deliveries.len();
            waiting.bytes = waiting.deliveries.iter().map(|(_, delivery)| delivery.size()).sum();
            waiting.room_bytes = waiting.bytes.saturating_mul(2);
        }
        waiting.bytes = waiting.bytes.saturating_add(delivery.size());
        waiting.deliveries.push_back((Instant::now(), delivery));
        let waker = waiting.waker.take();
        drop(waiting);
        waker.into_iter().for_each(Waker::wake);
        true
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.ended = true;
        let waker = waiting.waker.take();
        drop(waiting);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("waiting", &self.0.lock().deliveries.len()).finish_non_exhaustive()
    }
}

/// A delivery whose payload is being read.
struct Read {
    since: Instant,
    outgoing: Outgoing,
    record: Option<Arc<Record>>,
}

/// Where a transport takes deliveries.
pub(super) struct Inbox {
    shared: Arc<Shared>,
    /// Weak: a session that nobody ended does not keep a log open.
    records: Weak<Records>,
    /// In order, for a queue's events are to come so.
    reading: FuturesOrdered<Either<Ready<Read>, BoxFuture<'static, Read>>>,
    /// What these weigh.
    bytes: u64,
}

impl Inbox {
    /// Begins to read what waits, as far as there is room.
    fn begin(&mut self, context: &Context<'_>) {
        while self.reading.len() < READS.0 {
            let mut waiting = self.shared.lock();
            let Some((_, next)) = waiting.deliveries.front() else {
                waiting.waker = Some(context.waker().clone());
                return;
            };
            let size = next.size();
            if !self.reading.is_empty() && self.bytes.saturating_add(size) > READS.1 {
                return;
            }
            waiting.bytes = waiting.bytes.saturating_sub(size);
            let next = waiting.deliveries.pop_front();
            drop(waiting);
            let Some((since, outgoing)) = next.filter(|(_, next)| next.is_live()) else { continue };
            let Some(records) = self.records.upgrade() else { continue };
            self.bytes = self.bytes.saturating_add(size);
            self.reading.push_back(match records.at_hand(outgoing.source()) {
                Some(record) => Either::Left(at_hand(Read { since, outgoing, record: Some(record) })),
                None => Either::Right(read(records, since, outgoing).boxed()),
            });
        }
    }
}

/// Reads a payload. If that fails the lease runs out, and it was no delivery; an event that the log does not have is a dead letter soon.
async fn read(records: Arc<Records>, since: Instant, outgoing: Outgoing) -> Read {
    let record = match records.read(outgoing.source()).await {
        Ok(Some(record)) if outgoing.delivery(&record).is_some() => Some(record),
        Ok(record) => {
            if record.is_some() {
                tracing::error!(event = %outgoing.id, "the log has another record in the place of an event that waits");
            }
            records.lose(&outgoing);
            None
        }
        Err(error) => {
            let error = ensync_core::report(&error);
            tracing::error!(error, event = %outgoing.id, "cannot read an event; it is tried again when its lease ends");
            None
        }
    };
    Read { since, outgoing, record }
}

impl Read {
    /// What there is to send: its lease begins now. Nothing, if it is somebody else's by now, or will be in a moment: whoever got it could
    /// not settle it.
    fn delivery(&self) -> Option<Delivery> {
        let record = self.record.as_ref()?;
        let delivery = self.outgoing.delivery(record)?;
        let waited = self.since.elapsed();
        let lease =
            if delivery.lease.is_some_and(|lease| lease <= waited) { None } else { self.outgoing.hand_over(waited) };
        if lease.is_none() {
            tracing::debug!(event = %delivery.event, id = %delivery.id, "not sent: it waited for as long as a lease lasts");
            return None;
        }
        Some(Delivery { lease, ..delivery })
    }
}

impl Stream for Inbox {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            self.begin(context);
            if self.reading.is_empty() {
                return if self.shared.lock().ended { Poll::Ready(None) } else { Poll::Pending };
            }
            let Some(read) = ready!(self.reading.poll_next_unpin(context)) else { continue };
            self.bytes = self.bytes.saturating_sub(read.outgoing.size());
            if let Some(delivery) = read.delivery() {
                return Poll::Ready(Some(delivery));
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut waiting = self.shared.lock();
        waiting.unread = true;
        waiting.deliveries.clear();
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("reading", &self.reading.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
