use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ensync_core::{
    Block, Command, Delay, ErrorKind, EventId, EventName, Extension, Reply, Result, Settle, Settlement, Timestamp,
};
use tokio::time::Instant;
use tracing::Instrument;

use crate::Client;
use crate::client::unexpected;
use crate::observe::Settling;
use crate::observe::metrics::{Counted, IN_FLIGHT};
use crate::session::{HandBack, Held, SHORTEST_LEASE};

/// The means to settle one delivery. Cheap to clone.
///
/// The delivery belongs to the [`Event`](crate::Event) it came from, this and its clones together. When the last of them is dropped
/// and it is neither settled nor [left](Acker::leave), it is handed back to the engine in the background, which delivers it again
/// at once.
#[derive(Clone, Debug)]
pub struct Acker(Arc<Owned>);

/// What brought a delivery: the link, until when its lease lasts, and its place in the window.
pub(crate) struct From {
    pub(crate) generation: u64,
    pub(crate) until: Option<Instant>,
    pub(crate) held: Held,
}

/// One delivery, and the duty to settle it.
struct Owned {
    client: Client,
    event: EventName,
    id: EventId,
    block: Block,
    /// The link it came over; `None` for a replay, which nobody owes anything.
    generation: Option<u64>,
    lease: Option<Duration>,
    /// When the lease it came with runs out.
    until: Option<Instant>,
    settled: AtomicBool,
    /// Nothing is owed any more: it was left on purpose, or it is no longer this client's.
    left: AtomicBool,
    /// Its place in the window, until it is settled.
    held: Mutex<Option<(Held, Counted)>>,
}

impl Acker {
    /// `from` is what brought it; nothing did a replay.
    pub(crate) fn new(
        client: Client,
        (event, id, block): (EventName, EventId, Block),
        lease: Option<Duration>,
        from: Option<From>,
    ) -> Self {
        let (generation, until, held) = match from {
            Some(From { generation, until, held }) => (Some(generation), until, Some(held)),
            None => (None, None, None),
        };
        Self(Arc::new(Owned {
            client,
            event,
            id,
            block,
            generation,
            lease,
            until,
            settled: AtomicBool::new(false),
            left: AtomicBool::new(false),
            held: Mutex::new(held.map(|held| (held, Counted::new(IN_FLIGHT)))),
        }))
    }

    /// See [`Event::ack`](crate::Event::ack).
    ///
    /// # Errors
    ///
    /// As [`Event::ack`](crate::Event::ack).
    pub async fn ack(&self) -> Result<()> {
        self.settle(Settlement::Ack).await.map(drop)
    }

    /// See [`Event::defer`](crate::Event::defer).
    ///
    /// # Errors
    ///
    /// As [`Event::defer`](crate::Event::defer).
    pub async fn defer(&self, delay: Duration, reason: impl Into<String>) -> Result<Option<Timestamp>> {
        let delay = Delay::new(delay)?;
        self.settle(Settlement::Defer { delay, priority: 0, reason: reason.into() }).await
    }

    /// See [`Event::discard`](crate::Event::discard).
    ///
    /// # Errors
    ///
    /// As [`Event::ack`](crate::Event::ack).
    pub async fn discard(&self, reason: impl Into<String>) -> Result<()> {
        self.settle(Settlement::Discard { reason: reason.into() }).await.map(drop)
    }

    /// See [`Event::rollback`](crate::Event::rollback).
    ///
    /// # Errors
    ///
    /// As [`Event::ack`](crate::Event::ack).
    pub async fn rollback(&self) -> Result<()> {
        self.settle(Settlement::Rollback).await.map(drop)
    }

    /// See [`Event::extend`](crate::Event::extend).
    ///
    /// # Errors
    ///
    /// As [`Event::extend`](crate::Event::extend).
    pub async fn extend(&self) -> Result<Option<Duration>> {
        let settle = self.settlement(Settlement::Extend);
        let context = format!("extend {} {} at {}", self.0.event, self.0.id, self.0.client.endpoint());
        let reply = self.0.client.session.call(Command::Settle(settle)).await;
        match reply.map_err(|error| self.note(error).context(&context))? {
            Reply::Extended { lease } => Ok(lease),
            other => Err(unexpected(&context, &other)),
        }
    }

    /// Leaves it unsettled on purpose: it is delivered again when its lease runs out, not before.
    pub fn leave(&self) {
        self.0.left.store(true, Ordering::Release);
        self.0.make_room();
    }

    /// Whether a settlement of this delivery succeeded, through this or a clone.
    pub fn is_settled(&self) -> bool {
        self.0.settled.load(Ordering::Acquire)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn event(&self) -> &EventName {
        &self.0.event
    }

    pub(crate) fn id(&self) -> &EventId {
        &self.0.id
    }

    pub(crate) fn block(&self) -> Block {
        self.0.block
    }

    pub(crate) fn lease(&self) -> Option<Duration> {
        self.0.lease
    }

    pub(crate) fn settlement(&self, how: Settlement) -> Settle {
        Settle { id: self.0.id.clone(), event: Some(self.0.event.clone()), block: Some(self.0.block), how }
    }

    /// Keeps the lease while `work` runs, if the engine can: asks for it anew when a third of what is left of it is over.
    pub(crate) async fn keeping<T>(&self, work: impl Future<Output = T>) -> T {
        let leases = self.0.client.session.welcome().is_some_and(|welcome| welcome.config.has(Extension::Leases));
        let long = self.0.lease.is_some_and(|lease| lease >= SHORTEST_LEASE);
        let Some(until) = self.0.until.filter(|_| leases && long) else { return work.await };
        tokio::select! {
            biased;
            done = work => done,
            never = self.keep(until.saturating_duration_since(Instant::now())) => match never {},
        }
    }

    /// `left` is what is left of the lease: a part of it went by while the event waited.
    async fn keep(&self, mut left: Duration) -> Infallible {
        loop {
            tokio::time::sleep(left / 3).await;
            // After a reconnect it is no longer this client's.
            let lost = self.0.generation != Some(self.0.client.session.generation());
            if lost || self.is_settled() || self.0.left.load(Ordering::Acquire) {
                return std::future::pending().await;
            }
            match self.extend().await {
                Ok(anew) => left = anew.or(self.0.lease).unwrap_or_default().max(SHORTEST_LEASE),
                Err(error) => {
                    // Not in a loop, if nothing is left.
                    left = left.max(SHORTEST_LEASE);
                    tracing::warn!(event = %self.0.event, id = %self.0.id, %error, "the lease could not be extended");
                }
            }
        }
    }

    async fn settle(&self, how: Settlement) -> Result<Option<Timestamp>> {
        let Owned { client, event, id, block, .. } = &*self.0;
        let until = settle(client, event.clone(), id.clone(), Some(*block), how).await;
        let until = until.map_err(|error| self.note(error))?;
        self.0.settled.store(true, Ordering::Release);
        self.0.make_room();
        Ok(until)
    }

    /// What the engine has taken back need not be handed back.
    fn note(&self, error: ensync_core::Error) -> ensync_core::Error {
        if matches!(error.kind(), ErrorKind::StaleDelivery | ErrorKind::NotFound) {
            self.leave();
        }
        error
    }
}

impl Owned {
    fn make_room(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let Some(generation) = self.generation else { return };
        if *self.settled.get_mut() || *self.left.get_mut() {
            return;
        }
        let (event, id) = (self.event.clone(), self.id.clone());
        self.client.session.hand_back(HandBack { event, id, block: self.block, generation, seen: true });
    }
}

impl fmt::Debug for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, id, block, settled, left, .. } = self;
        f.debug_struct("Delivery")
            .field("event", event)
            .field("id", id)
            .field("block", block)
            .field("settled", settled)
            .field("left", left)
            .finish_non_exhaustive()
    }
}

/// Settles a delivery; tells when it comes again if it was deferred and the engine said.
pub(crate) async fn settle(
    client: &Client,
    event: EventName,
    id: EventId,
    block: Option<Block>,
    how: Settlement,
) -> Result<Option<Timestamp>> {
    let settling = Settling::begin(&event, &id, &how);
    let settled = settle_now(client, event, id, block, how).instrument(settling.span()).await;
    settling.end(&settled);
    settled
}

async fn settle_now(
    client: &Client,
    event: EventName,
    id: EventId,
    block: Option<Block>,
    how: Settlement,
) -> Result<Option<Timestamp>> {
    let context = format!("{} {event} {id} at {}", how.name(), client.endpoint());
    let command = Command::Settle(Settle { id, event: Some(event), block, how });
    let reply = client.session.call(command).await;
    match reply.map_err(|error| error.context(&context))? {
        Reply::Done => Ok(None),
        Reply::Deferred { until } => Ok(until),
        other => Err(unexpected(&context, &other)),
    }
}
