//! One session: its streams, its sign of life, and the task that feeds the streams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ensync_core::{
    Command, Delivery, Error, ErrorKind, EventName, Peer, Reply, Result, Service, Settle, Settlement, Subscribe,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Connection;
use super::connection::Remembered;
use super::room::SessionRoom;
use super::streams::{Broken, Deliveries, Late, Routed, Streams};

/// A session as the calls see it.
pub(super) struct Session {
    peer: Peer,
    service: Arc<dyn Service>,
    streams: Mutex<Streams>,
    room: Arc<SessionRoom>,
    seen: Mutex<Seen>,
    /// Held while the engine subscribes or unsubscribes, so that the end of an old stream cannot undo a new subscription.
    gate: tokio::sync::Mutex<()>,
    traits: Traits,
    left: CancellationToken,
    ended: CancellationToken,
}

/// What kind of client it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    /// It reads only its first stream.
    pub(super) multiplexed: bool,
    /// It opens a lost stream again at once, on another connection of the session, or it opens a new session.
    pub(super) ends_with_streams: bool,
    /// The largest message that it takes, in bytes.
    pub(super) max_message: usize,
}

/// When a session was last heard of, and over what.
#[derive(Debug)]
struct Seen {
    last: Instant,
    /// The connections that carried calls of it, as far as they were open at the last look; behind a proxy these may be several.
    connections: Vec<Remembered>,
    /// There were calls of which nobody knows the connection.
    unbound: bool,
}

/// How long a session may have no connection. Clients that lost theirs open another with their next call, which is a heartbeat
/// after 30 s at the latest.
const GRACE: Duration = Duration::from_secs(35);
/// How often that is looked at; and how long a client that lost its streams has to open one again, if it is one that does so at once.
const LOOK: Duration = Duration::from_secs(5);
/// How long a stream may take nothing until the others of its session do not wait for it any more.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many deliveries are handed back at a time.
const BACK: usize = 64;
/// What a message to a client has beside payload and metadata: names, ids, keys, framing.
const OVERHEAD: usize = 1_024;

/// Refuses what a client's gRPC library would break off the stream for.
pub(super) fn check_fits(bytes: usize, max_message: usize) -> Result<()> {
    let whole = bytes.saturating_add(OVERHEAD);
    if whole <= max_message {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::PayloadTooLarge,
        format!(
            "the event makes a message of {whole} bytes, more than this gRPC client takes ({max_message}); read it with another"
        ),
    ))
}

/// A delivery that waits for room in its stream.
struct Next {
    delivery: Delivery,
    since: Instant,
    /// Until when.
    until: Instant,
}

/// What the session's task reads.
pub(super) struct Feed {
    pub(super) inbox: BoxStream<'static, Delivery>,
    broken: mpsc::UnboundedReceiver<Broken>,
}

/// Why a session's task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The engine ended the session.
    Engine,
    /// The client has been silent for too long.
    Silence,
    /// Its last connection has been gone for too long.
    Gone,
    /// The client lost its streams, and opened none again.
    Lost,
    /// The client said goodbye.
    Left,
}

impl Session {
    pub(super) fn new(
        peer: Peer,
        service: Arc<dyn Service>,
        inbox: BoxStream<'static, Delivery>,
        traits: Traits,
    ) -> (Arc<Self>, Feed) {
        let (streams, broken) = Streams::new(traits.multiplexed);
        let session = Self {
            peer,
            service,
            room: streams.room(),
            streams: Mutex::new(streams),
            seen: Mutex::new(Seen { last: Instant::now(), connections: Vec::new(), unbound: false }),
            gate: tokio::sync::Mutex::default(),
            traits,
            left: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        (Arc::new(session), Feed { inbox, broken })
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The client was heard of, over this connection.
    pub(super) fn touch(&self, over: &Connection) {
        let mut seen = self.seen();
        seen.last = Instant::now();
        if seen.connections.iter().any(|known| known.is(over)) {
            return;
        }
        match over.remember() {
            Some(connection) => {
                seen.connections.retain(Remembered::is_open);
                seen.connections.push(connection);
            }
            None => seen.unbound = true,
        }
    }

    /// Whether every connection that carried it is known to be gone.
    fn is_cut_off(&self) -> bool {
        let mut seen = self.seen();
        seen.connections.retain(Remembered::is_open);
        seen.connections.is_empty() && !seen.unbound
    }

    pub(super) async fn handle(&self, command: Command) -> Result<Reply> {
        self.service.handle(&self.peer, command).await
    }

    /// The client says goodbye.
    pub(super) fn leave(&self) {
        self.left.cancel();
    }

    /// The engine knows it no more.
    pub(super) fn set_ended(&self) {
        self.ended.cancel();
    }

    /// Waits for [`set_ended`](Self::set_ended).
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(super) async fn subscribe(&self, subscribe: Subscribe) -> Result<Deliveries> {
        let event = subscribe.event.clone();
        let _gate = self.gate.lock().await;
        // Opened first: the engine may deliver before it answers. If this call is abandoned, the stream counts as broken.
        let stream = self.streams().open(&event)?;
        match self.handle(Command::Subscribe(subscribe)).await {
            Ok(_) => {
                self.streams().retire(&event, Some(stream.number()));
                Ok(stream)
            }
            Err(error) => {
                self.streams().remove(stream.number());
                Err(error)
            }
        }
    }

    pub(super) async fn unsubscribe(&self, event: EventName) -> Result<Reply> {
        let _gate = self.gate.lock().await;
        let reply = self.handle(Command::Unsubscribe { event: event.clone() }).await?;
        self.streams().retire(&event, None);
        Ok(reply)
    }

    /// Feeds the streams until the session ends. What they have no room for stays with the engine; but a stream of which the client takes
    /// nothing holds up the others for a moment only.
    pub(super) async fn feed(&self, mut feed: Feed, timeout: Duration) -> End {
        let silence = tokio::time::sleep(timeout);
        tokio::pin!(silence);
        let mut look = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut cut_off, mut lost) = (None, None);
        let mut next: Option<Next> = None;
        loop {
            let (waited, due) = (next.as_ref().map(|next| next.until), self.streams().due());
            let wake = waited.into_iter().chain(due).min();
            tokio::select! {
                biased;
                () = self.left.cancelled() => return End::Left,
                Some(broken) = feed.broken.recv() => {
                    // Before the engine is told, which may take long: a call that comes meanwhile is a later sign of life.
                    let since = Instant::now();
                    self.seen().last = since;
                    silence.as_mut().reset(since + timeout);
                    if self.mend(broken).await && self.traits.ends_with_streams {
                        lost = Some(since);
                    }
                }
                () = self.room.changed() => {
                    self.hand_back().await;
                    if let Some(Next { delivery, since, .. }) = next.take() {
                        next = self.deliver(delivery, since, waited).await;
                    }
                }
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    if let Some(Next { delivery, since, .. }) = next.take() {
                        next = self.deliver(delivery, since, waited).await;
                    }
                    self.hand_back().await;
                }
                delivery = feed.inbox.next(), if next.is_none() => match delivery {
                    Some(delivery) => next = self.deliver(delivery, Instant::now(), None).await,
                    None => return End::Engine,
                },
                now = look.tick(), if lost.is_some() || !self.seen().unbound => {
                    lost = lost.filter(|since| self.streams().is_empty() && self.seen().last <= *since);
                    if lost.is_some_and(|since| now.duration_since(since) >= LOOK) {
                        return End::Lost;
                    }
                    cut_off = self.is_cut_off().then(|| cut_off.unwrap_or(now));
                    if cut_off.is_some_and(|since| now.duration_since(since) >= GRACE) {
                        return End::Gone;
                    }
                }
                () = &mut silence => {
                    let last_seen = self.seen().last;
                    let streaming = !self.streams().is_empty();
                    if !streaming && last_seen.elapsed() >= timeout {
                        return End::Silence;
                    }
                    // While it streams its end is reported, and the clock starts anew.
                    let from = if streaming { Instant::now() } else { last_seen };
                    silence.as_mut().reset(from + timeout);
                }
            }
        }
    }

    /// Ends the streams.
    pub(super) fn end(&self, why: End) {
        let (kind, text) = match why {
            End::Engine => (ErrorKind::Unavailable, "the engine ended the session; log in again"),
            End::Silence => (ErrorKind::Unauthenticated, "the session has timed out; log in again"),
            End::Gone => (ErrorKind::Unauthenticated, "the session ended with its connections; log in again"),
            End::Left => (ErrorKind::Unauthenticated, "the client ended the session"),
            End::Lost => (ErrorKind::Unauthenticated, "the session ended when it lost its streams; log in again"),
        };
        self.streams().end(Error::new(kind, text));
    }

    /// Puts a broken stream's affairs in order. True if the client broke it, false if this side had ended it.
    async fn mend(&self, broken: Broken) -> bool {
        let removed = self.streams().remove(broken.number);
        let lost = removed.is_some();
        if let Some(Some(event)) = removed {
            self.unsubscribe_orphan(&event).await;
            // What the client had of it must not wait for its leases: whoever loses a stream takes its events from another.
            if let Err(error) = self.handle(Command::Release { event }).await {
                tracing::debug!(%error, "what a lost stream had delivered was not taken back");
            }
        }
        for delivery in broken.unsent {
            let now = Instant::now();
            self.deliver(delivery, now, Some(now)).await;
        }
        lost
    }

    /// Has a delivery sent. Gives it back if there is no room for it yet, and it may wait for some: until `until`, if that is known.
    async fn deliver(&self, delivery: Delivery, since: Instant, until: Option<Instant>) -> Option<Next> {
        let bytes = delivery.payload.len() + delivery.metadata.as_str().len();
        if let Err(error) = check_fits(bytes, self.traits.max_message) {
            self.give_up(delivery, &error).await;
            return None;
        }
        let waited = until.is_some_and(|until| until <= Instant::now());
        let routed = self.streams().route(delivery, since, waited);
        let delivery = match routed {
            Routed::Done => return None,
            Routed::Full(delivery) => {
                let patience = delivery.lease.map_or(PATIENCE, |lease| PATIENCE.min(lease / 2));
                return Some(Next { delivery: *delivery, since, until: until.unwrap_or(since + patience) });
            }
            Routed::Nobody(delivery) => delivery,
        };
        // First the subscription, or the engine would send it straight back here.
        self.unsubscribe_orphan(&delivery.event).await;
        let release = Settle {
            id: delivery.id,
            event: Some(delivery.event),
            block: Some(delivery.block),
            how: Settlement::Release,
        };
        if let Err(error) = self.handle(Command::Settle(release)).await {
            tracing::debug!(%error, "a delivery without a stream was not taken back");
        }
        None
    }

    /// Hands back what found no room, where its time has come or there is room now.
    async fn hand_back(&self) {
        let late = self.streams().take_late(Instant::now());
        let release = |Late { event, id, block, .. }| {
            self.handle(Command::Settle(Settle {
                id,
                event: Some(event),
                block: Some(block),
                how: Settlement::Release,
            }))
        };
        let mut released = futures::stream::iter(late).map(release).buffered(BACK);
        while let Some(done) = released.next().await {
            if let Err(error) = done {
                tracing::debug!(%error, "a delivery that found no room was not taken back");
            }
        }
    }

    /// Puts an event with the dead letters that would end its stream whenever it is sent: whoever reads it can take what came
    /// behind it.
    async fn give_up(&self, delivery: Delivery, error: &Error) {
        tracing::warn!(app = %self.peer.app_id, event = %delivery.event, id = %delivery.id, %error, "an event was given up");
        let discard = Settle {
            id: delivery.id,
            event: Some(delivery.event),
            block: Some(delivery.block),
            how: Settlement::Discard { reason: error.to_string() },
        };
        if let Err(error) = self.handle(Command::Settle(discard)).await {
            tracing::debug!(%error, "an event that is too large was not given up");
        }
    }

    /// Unsubscribes what has no stream any more.
    async fn unsubscribe_orphan(&self, event: &EventName) {
        let _gate = self.gate.lock().await;
        let has_stream = self.streams().has(event);
        if has_stream {
            return;
        }
        if let Err(error) = self.handle(Command::Unsubscribe { event: event.clone() }).await {
            tracing::debug!(%event, %error, "a subscription without a stream was not ended");
        }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        // Nothing panics while it is held.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
