use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ensync_core::{
    Block, Command, Delay, Error, ErrorKind, EventId, EventName, Reply, Result, Settle, Settlement, Timestamp,
};
use tokio::time::Instant;

use crate::Client;
use crate::client::unexpected;
use crate::finished::Finished;
use crate::lease::{Lease, Renewal};
use crate::observe::metrics::{Counted, IN_FLIGHT};
use crate::options::bounded;
use crate::session::{Credit, HandBack, LinkLife, Meant, Request, SHORTEST_LEASE};
use crate::settle::{Within, settle};

/// The reason of what was left.
const LEFT: &str = "left until its lease ends";
/// Of so many deliveries of an event that is left each time, the last is rolled back: by that the engine counts, and not by a defer, so
/// that what nobody ever takes ends up with the dead letters, where it is seen.
const ROLLED_BACK: u32 = 16;

/// The means to settle one delivery. Cheap to clone.
///
/// The delivery belongs to the [`Event`](crate::Event) it came from, this and its clones together. When the last of them is dropped
/// and it is neither settled nor [left](Acker::leave), it is handed back to the engine in the background, which delivers it again
/// at once.
#[derive(Clone, Debug)]
pub struct Acker(Arc<Owned>);

/// What brought a delivery: its lease, and its place in what may be unsettled.
pub(crate) struct From {
    pub(crate) lease: Lease,
    pub(crate) held: Credit,
}

/// One delivery, and the duty to settle it.
struct Owned {
    client: Client,
    event: EventName,
    id: EventId,
    block: Block,
    /// How long it lasts each time, as the engine said.
    lasts: Option<Duration>,
    /// How often the event was delivered, as the engine said.
    attempt: Option<u32>,
    /// For how long it is this client's; `None` for a replay, which nobody owes anything.
    lease: Option<Lease>,
    settled: AtomicBool,
    /// Nothing is owed any more: it was left on purpose, or it is no longer this client's.
    left: AtomicBool,
    /// How many settlements are under way.
    under_way: AtomicUsize,
    /// How many there were: the last is what is meant.
    last: Arc<AtomicUsize>,
    /// A settlement went out whose answer is not known: to hand it back could undo it.
    unsure: AtomicBool,
    /// A settlement was refused for now: somebody dealt with it, so to hand it back is not to count.
    refused: AtomicBool,
    /// Its place in what may be unsettled, until it is settled.
    held: Mutex<Option<(Credit, Counted)>>,
}

impl Acker {
    /// `from` is what brought it; nothing did a replay.
    pub(crate) fn new(
        client: Client,
        (event, id, block): (EventName, EventId, Block),
        (lasts, attempt): (Option<Duration>, Option<u32>),
        from: Option<From>,
    ) -> Self {
        let (lease, held) = match from {
            Some(From { lease, held }) => (Some(lease), Some(held)),
            None => (None, None),
        };
        Self(Arc::new(Owned {
            client,
            event,
            id,
            block,
            lasts,
            attempt,
            lease,
            settled: AtomicBool::new(false),
            left: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            last: Arc::default(),
            unsure: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            held: Mutex::new(held.map(|held| (held, Counted::new(IN_FLIGHT)))),
        }))
    }

    /// See [`Event::ack`](crate::Event::ack), also of a future that is dropped: it gives up the answer, not the settlement.
    ///
    /// # Errors
    ///
    /// As [`Event::ack`](crate::Event::ack).
    pub async fn ack(&self) -> Result<()> {
        self.settle(Settlement::Ack, Patience::OfACall).await.map(drop)
    }

    /// See [`Event::defer`](crate::Event::defer).
    ///
    /// # Errors
    ///
    /// As [`Event::defer`](crate::Event::defer).
    pub async fn defer(&self, delay: Duration, reason: impl Into<String>) -> Result<Option<Timestamp>> {
        let named = |error: Error| error.context(format_args!("defer {} {}", self.0.event, self.0.id));
        let delay = Delay::new(delay).map_err(named)?;
        self.settle(Settlement::Defer { delay, priority: 0, reason: reason.into() }, Patience::OfACall).await
    }

    /// See [`Event::discard`](crate::Event::discard).
    ///
    /// # Errors
    ///
    /// As [`Event::ack`](crate::Event::ack).
    pub async fn discard(&self, reason: impl Into<String>) -> Result<()> {
        self.settle(Settlement::Discard { reason: reason.into() }, Patience::OfACall).await.map(drop)
    }

    /// See [`Event::rollback`](crate::Event::rollback).
    ///
    /// # Errors
    ///
    /// As [`Event::ack`](crate::Event::ack).
    pub async fn rollback(&self) -> Result<()> {
        self.settle(Settlement::Rollback, Patience::OfACall).await.map(drop)
    }

    /// See [`Event::extend`](crate::Event::extend).
    ///
    /// # Errors
    ///
    /// As [`Event::extend`](crate::Event::extend).
    pub async fn extend(&self) -> Result<Option<Duration>> {
        let settle = self.settlement(Settlement::Extend);
        let context = format!("extend {} {} at {}", self.0.event, self.0.id, self.0.client.endpoint());
        let limit = self.0.client.session.request_timeout();
        let request = Request::new(Command::Settle(settle), limit).bound_to(self.link());
        let asked = Instant::now();
        let reply = self.0.client.session.request(request).await;
        match reply.map_err(|error| self.note(error).context(&context))? {
            Reply::Extended { lease: anew } => {
                // From when it was asked for: the engine counts from a little later.
                if let Some((lease, lasts)) = self.0.lease.as_ref().zip(anew.or(self.0.lasts)) {
                    lease.extend(asked + lasts);
                }
                Ok(anew)
            }
            other => Err(unexpected(&context, &other)),
        }
    }

    /// See [`Event::leave`](crate::Event::leave).
    pub fn leave(&self) {
        let (owed, place) = (self.0.let_go(), self.0.place());
        // Not in the way of a settlement that is under way.
        if owed && self.0.under_way.load(Ordering::Acquire) == 0 {
            self.put_off(place);
        }
    }

    /// Nothing is owed any more: it was dealt with, or somebody else has it.
    pub(crate) fn let_go(&self) {
        self.0.let_go();
        drop(self.0.place());
    }

    /// Settles it in the background. It keeps its place until the engine knows.
    pub(crate) fn settle_later(&self, how: Settlement) {
        self.0.let_go();
        if let Some(lease) = &self.0.lease {
            self.0.client.session.settle_later(self.settlement(how), lease.link().epoch(), self.0.place());
        }
    }

    /// Has the engine deliver it again when its lease would run out, and think no more of it until then: what is left must take no
    /// place in the engine's window.
    fn put_off(&self, place: Option<Credit>) {
        let Some((lease, until)) = self.0.lease.as_ref().and_then(|lease| Some((lease, lease.until()?))) else {
            return;
        };
        let left = until.saturating_duration_since(Instant::now());
        if left < Delay::MIN.get() {
            // It is soon back by itself.
            return;
        }
        let Ok(delay) = Delay::new(left.min(Delay::MAX.get())) else { return };
        let how = match self.0.attempt {
            Some(attempt) if attempt % ROLLED_BACK == 0 => Settlement::Rollback,
            _ => Settlement::Defer { delay, priority: 0, reason: LEFT.into() },
        };
        self.0.client.session.settle_later(self.settlement(how), lease.link().epoch(), place);
        lease.lose();
    }

    /// Whether a settlement of this delivery succeeded, through this or a clone.
    pub fn is_settled(&self) -> bool {
        self.0.settled.load(Ordering::Acquire)
    }

    /// Whether it is still this client's, and nobody has said, or begun to say, what becomes of it.
    pub(crate) fn is_untouched(&self) -> bool {
        self.is_open() && !self.is_lease_lost() && self.0.last.load(Ordering::Acquire) == 0
    }

    /// Whether something may still be said of it: nothing was that held, and nothing is under way.
    pub(crate) fn is_open(&self) -> bool {
        let done = self.is_settled() || self.0.left.load(Ordering::Acquire);
        !done && self.0.under_way.load(Ordering::Acquire) == 0
    }

    /// See [`Event::is_lease_lost`](crate::Event::is_lease_lost).
    pub fn is_lease_lost(&self) -> bool {
        self.0.lease.as_ref().is_some_and(Lease::is_lost)
    }

    /// See [`Event::lease_lost`](crate::Event::lease_lost).
    pub async fn lease_lost(&self) {
        match &self.0.lease {
            Some(lease) => lease.lost().await,
            None => std::future::pending().await,
        }
    }

    fn link(&self) -> Option<Arc<LinkLife>> {
        self.0.lease.as_ref().map(|lease| lease.link().clone())
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

    pub(crate) fn lasts(&self) -> Option<Duration> {
        self.0.lasts
    }

    pub(crate) fn settlement(&self, how: Settlement) -> Settle {
        Settle { id: self.0.id.clone(), event: Some(self.0.event.clone()), block: Some(self.0.block), how }
    }

    /// Keeps the lease until what this returns is dropped, if the engine can: asks for it anew when a third of what is left of it is
    /// over. In a task of its own, so that it does not depend on the task of who works with the event.
    pub(crate) fn renew_lease(&self) -> Renewal {
        let leases = self.0.lease.as_ref().is_some_and(|lease| lease.link().has_leases());
        let long = self.0.lasts.is_some_and(|lasts| lasts >= SHORTEST_LEASE);
        Renewal((leases && long).then(|| tokio::spawn(self.clone().keep()).abort_handle()))
    }

    async fn keep(self) {
        loop {
            let Some(lease) = &self.0.lease else { return };
            // A part of it went by while the event waited. Not in a loop, if nothing is left.
            let left = lease.until().map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            tokio::time::sleep((left / 3).max(SHORTEST_LEASE / 3)).await;
            if self.is_lease_lost() || self.is_settled() || self.0.left.load(Ordering::Acquire) {
                return;
            }
            let extended = tokio::select! {
                biased;
                extended = self.extend() => extended,
                () = lease.lost() => return,
            };
            if let Err(error) = extended {
                tracing::warn!(event = %self.0.event, id = %self.0.id, %error, "the lease could not be extended");
            }
        }
    }

    /// Settles it, and if the engine cannot now, tries for as long as the lease lasts; as long as any call if that is not known.
    pub(crate) async fn settle_at_last(&self, how: Settlement) -> Result<()> {
        self.settle(how, Patience::OfTheLease).await.map(drop)
    }

    /// Settles it. A caller who gives up waiting gives up the answer, not the settlement: whether the engine carried that out would not
    /// be known, and until its lease is over the event would be nobody's, and take a place in the window.
    async fn settle(&self, how: Settlement, patience: Patience) -> Result<Option<Timestamp>> {
        let acker = self.clone();
        let settling = async move { acker.settle_to_the_end(how, patience).await };
        Finished::new(self.0.client.session.clone(), settling).await
    }

    async fn settle_to_the_end(&self, how: Settlement, patience: Patience) -> Result<Option<Timestamp>> {
        let Owned { client, event, id, block, .. } = &*self.0;
        let limit = match patience {
            Patience::OfTheLease if self.0.lease.as_ref().is_some_and(|lease| lease.until().is_some()) => {
                Some(bounded(Duration::MAX))
            }
            _ => None,
        };
        if self.0.left.load(Ordering::Acquire) {
            let text = format!("{event} {id}: it was left, or the engine has it back; it is delivered again");
            return Err(Error::new(ErrorKind::StaleDelivery, text));
        }
        let sent = Instant::now();
        // If it is abandoned from here on, by a runtime that ends, it stays under way: nobody knows what became of it.
        self.0.under_way.fetch_add(1, Ordering::AcqRel);
        let within = Within { limit, bound: self.link(), meant: Some(Meant::next(&self.0.last)) };
        let settling = settle(client, event.clone(), id.clone(), Some(*block), how, within);
        let outcome = match limit {
            None => settling.await,
            Some(_) => tokio::select! {
                biased;
                outcome = settling => outcome,
                () = self.lease_lost() => Err(Error::new(
                    ErrorKind::StaleDelivery,
                    format!("{event} {id}: its lease was lost before the engine took the settlement; it is delivered again"),
                )),
            },
        };
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
        match outcome {
            Ok(until) => {
                self.0.settled.store(true, Ordering::Release);
                if let Some(lease) = &self.0.lease {
                    lease.settled(sent);
                }
                drop(self.0.place());
                Ok(until)
            }
            Err(error) => {
                // What a later one is told does not unmake it.
                self.0.unsure.fetch_or(error.may_have_happened(), Ordering::AcqRel);
                let passes = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::LimitExceeded);
                self.0.refused.store(passes, Ordering::Release);
                Err(self.note(error))
            }
        }
    }

    /// What the engine has taken back need not be handed back.
    fn note(&self, error: Error) -> Error {
        if matches!(error.kind(), ErrorKind::StaleDelivery | ErrorKind::NotFound) {
            if let Some(lease) = &self.0.lease {
                // One that was settled already may be refused as late for that.
                if error.kind() == ErrorKind::StaleDelivery && !self.is_settled() {
                    lease.was_over();
                }
                lease.lose();
            }
            self.let_go();
        }
        error
    }
}

impl Owned {
    /// False if nothing was owed before.
    fn let_go(&self) -> bool {
        !self.left.swap(true, Ordering::AcqRel) && !self.settled.load(Ordering::Acquire)
    }

    /// Gives its place in what may be unsettled. Dropping that makes room.
    fn place(&self) -> Option<Credit> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.map(|(place, _)| place)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let Some(epoch) = self.lease.as_ref().map(|lease| lease.link().epoch()) else { return };
        let unsure = *self.unsure.get_mut() || *self.under_way.get_mut() > 0;
        if *self.settled.get_mut() || *self.left.get_mut() || unsure {
            return;
        }
        let seen = !*self.refused.get_mut();
        let (event, id) = (self.event.clone(), self.id.clone());
        self.client.session.hand_back(HandBack { event, id, block: self.block, epoch, seen });
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

/// For how long a settlement that is refused in passing is tried again.
#[derive(Clone, Copy)]
enum Patience {
    OfACall,
    OfTheLease,
}
