use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use ensync_core::crypto::{Expected, Opened, SealedId, SenderProof, Senders, Suite};
use ensync_core::{
    AppId, Block, Delivery, Error, ErrorKind, EventId, EventName, Metadata, Result, Timestamp, WirePayload,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::observe::handling;
use crate::reading::{Reading, is_unopenable};
use crate::{Acker, Client, Publish, Sender, acker};

/// One event that was delivered to this client, or replayed.
///
/// It must be settled: [`ack`](Event::ack), [`defer`](Event::defer), [`discard`](Event::discard) or
/// [`rollback`](Event::rollback). Dropping the future of one of these gives up the answer, not the settlement, which goes on in the
/// background within its deadline. Another settlement of the same delivery does not take it back, but from then on it is not sent again.
/// [`for_each`](crate::Subscription::for_each) settles by itself. One that is dropped unsettled, by a task that panics or is cancelled
/// too, is rolled back in the background and so delivered again at once, unless it was
/// [left](Event::leave); one that is kept unsettled is delivered again when its lease runs out or the session ends. (An engine
/// without the extension "fencing" is not told of the drop: there the lease's end does it.)
#[derive(Debug)]
pub struct Event {
    timestamp: Option<Timestamp>,
    metadata: Metadata,
    recipient: Option<AppId>,
    attempt: Option<u32>,
    payload: Payload,
    acker: Acker,
}

impl Event {
    /// `expected` is the name that was subscribed to, or asked to replay: not the engine's word.
    /// `from` is what brought it; nothing did a replay.
    pub(crate) fn new(
        delivery: Delivery,
        expected: EventName,
        reading: Reading,
        client: Client,
        from: Option<acker::From>,
    ) -> Self {
        let Delivery { event, id, block, payload, metadata, sender, recipient, timestamp, attempt, lease } = delivery;
        Self {
            timestamp,
            metadata,
            recipient,
            attempt,
            payload: Payload {
                event: expected,
                id: id.clone(),
                sealed: payload,
                sender,
                reading,
                opened: OnceLock::new(),
            },
            acker: Acker::new(client, (event, id, block), (lease, attempt), from),
        }
    }

    /// The event's name.
    pub fn name(&self) -> &EventName {
        self.acker.event()
    }

    /// The event's id, the same in every delivery of it ("idem" in the peers).
    pub fn id(&self) -> &EventId {
        self.acker.id()
    }

    /// This delivery's number: it changes when the event is delivered again.
    pub fn block(&self) -> Block {
        self.acker.block()
    }

    /// When the engine accepted it, if it said.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// What travelled in clear.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Who sent it: proven, if the envelope proves it (which is found by opening it, on first use), otherwise as the engine says.
    pub fn sender(&self) -> Sender {
        self.payload.sender()
    }

    /// The name that the sender gave the payload, if it is of the suite "aes-256-gcm" and opens: the same in every copy, retry and
    /// replay, so that the app can tell what it has seen.
    pub fn sealed_id(&self) -> Option<SealedId> {
        self.payload.opened().ok()?.id.clone()
    }

    /// When the payload was sealed, by the sender's clock, if it is of the suite "aes-256-gcm" and opens.
    pub fn sealed_at(&self) -> Option<Timestamp> {
        self.payload.opened().ok()?.created
    }

    /// Whom it was sent to, if the engine said.
    pub fn recipient(&self) -> Option<&AppId> {
        self.recipient.as_ref()
    }

    /// How often it was delivered, this time included, if the engine said.
    pub fn attempt(&self) -> Option<u32> {
        self.attempt
    }

    /// The decrypted payload as a `T`.
    ///
    /// Decrypts on first use, in the caller's task.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, which of these it is: [`MalformedEnvelope`](ErrorKind::MalformedEnvelope),
    /// [`UnsupportedEnvelope`](ErrorKind::UnsupportedEnvelope), [`NotForMe`](ErrorKind::NotForMe),
    /// [`Misdirected`](ErrorKind::Misdirected), [`SenderNotVerified`](ErrorKind::SenderNotVerified),
    /// [`DoesNotOpen`](ErrorKind::DoesNotOpen), [`BadSignature`](ErrorKind::BadSignature). If it opens and is no `T`:
    /// [`Decode`](ErrorKind::Decode). The event can be settled all the same.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T> {
        self.payload.decode()
    }

    /// The decrypted payload as JSON. A whole number of 64 bits is exact, any other number is the nearest double; a larger type of
    /// [`payload`](Event::payload)'s, or [`text`](Event::text), has all its digits.
    ///
    /// # Errors
    ///
    /// As [`payload`](Event::payload).
    pub fn json(&self) -> Result<serde_json::Value> {
        self.payload.json()
    }

    /// The decrypted payload's JSON text, as its sender wrote it.
    ///
    /// # Errors
    ///
    /// As [`payload`](Event::payload).
    pub fn text(&self) -> Result<&str> {
        self.payload.text()
    }

    /// Done: never delivered again.
    ///
    /// # Errors
    ///
    /// [`StaleDelivery`](ErrorKind::StaleDelivery) if the lease ran out before, so that somebody else has it or will; otherwise
    /// what [`Client::publish`] can fail with on the way.
    pub async fn ack(&self) -> Result<()> {
        self.acker.ack().await
    }

    /// Not now: delivered again after `delay`, which is zero (at once) or 1 second to 24 hours. Tells when, if the engine says. Engines show
    /// the reason to whoever looks after them: keys and tokens are left out of it.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for another delay; otherwise as [`ack`](Event::ack).
    pub async fn defer(&self, delay: Duration, reason: impl Into<String>) -> Result<Option<Timestamp>> {
        self.acker.defer(delay, reason).await
    }

    /// Never: goes to the engine's dead letters, which keep the reason. Keys and tokens are left out of it.
    ///
    /// # Errors
    ///
    /// As [`ack`](Event::ack).
    pub async fn discard(&self, reason: impl Into<String>) -> Result<()> {
        self.acker.discard(reason).await
    }

    /// Not by me: delivered again at once, to whoever is free.
    ///
    /// # Errors
    ///
    /// As [`ack`](Event::ack).
    pub async fn rollback(&self) -> Result<()> {
        self.acker.rollback().await
    }

    /// Leaves it to whoever gets it next: it is delivered again when its lease would have run out, not at once as one that is dropped,
    /// and counts as delivered. Until then it takes no place in the window ([`max_in_flight`](crate::Subscribe::max_in_flight)), here or
    /// at the engine, which is told to defer it by what is left of the lease; so it stays away for that time also if this client's
    /// session ends before. This delivery is over: [`is_lease_lost`](Self::is_lease_lost), and another settlement is refused. In the
    /// last second of its lease nothing is said, and so it is with an engine that does not say how long a lease is: there the event
    /// waits for its lease's end, or the session's, and takes a place in the engine's window if that has one.
    ///
    /// A deferred event makes no dead letter, so one that everybody leaves would come for as long as it lives. Therefore each 16th
    /// delivery of an event that is left is rolled back instead, and delivered again at once: by then the engine puts one that was
    /// delivered `max_deliveries` times with the dead letters.
    pub fn leave(self) {
        self.acker.leave();
    }

    /// How long this client may take to settle it, from when the engine sent it, if the engine said; a replay has no lease. Whoever
    /// needs longer says so with [`extend`](Event::extend).
    pub fn lease(&self) -> Option<Duration> {
        self.acker.lasts()
    }

    /// Whether this delivery is no longer this client's: its lease ran out, its connection ended, or the engine said so. Somebody else
    /// has the event or will, and settling it is refused; work that is not done yet had better stop. Always false for a replay.
    pub fn is_lease_lost(&self) -> bool {
        self.acker.is_lease_lost()
    }

    /// Waits until [`is_lease_lost`](Self::is_lease_lost). Never resolves for a replay.
    ///
    /// ```no_run
    /// # use ensync_client::{Event, core::Result};
    /// # async fn work(_: &Event) {}
    /// async fn handle(event: Event) -> Result<()> {
    ///     tokio::select! {
    ///         () = work(&event) => event.ack().await,
    ///         () = event.lease_lost() => Ok(()), // done by whoever gets it next
    ///     }
    /// }
    /// ```
    pub async fn lease_lost(&self) {
        self.acker.lease_lost().await;
    }

    /// Not yet: the lease starts anew, so that the event stays with this client. Tells how long it lasts from now, if the engine
    /// says. It settles nothing, and can be repeated: an event is held for as long as its holder lives and says so in time.
    ///
    /// ```no_run
    /// # use ensync_client::{Event, core::Result};
    /// # async fn next_part() -> bool { false }
    /// async fn handle(event: Event) -> Result<()> {
    ///     while next_part().await {
    ///         event.extend().await?;
    ///     }
    ///     event.ack().await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StaleDelivery`](ErrorKind::StaleDelivery) if it came too late: somebody else has the event or will, and what was done with
    /// it may be done twice; [`Unsupported`](ErrorKind::Unsupported) if the engine does not have the extension "leases"; otherwise
    /// as [`ack`](Event::ack).
    pub async fn extend(&self) -> Result<Option<Duration>> {
        self.acker.extend().await
    }

    /// A publish of the same event name to the one who sent this: the verified sender, or where nothing is verified, the one that
    /// the engine claims.
    ///
    /// Awaiting it fails with [`InvalidInput`](ErrorKind::InvalidInput) if the engine did not say who that was. It fails with
    /// [`SenderNotVerified`](ErrorKind::SenderNotVerified) if nothing proves it and the client writes the suite "aes-256-gcm", or
    /// the subscription demands verified senders: the engine could have named a key of its own.
    pub fn reply(&self, payload: &(impl Serialize + ?Sized)) -> Publish {
        let publish = self.acker.client().publish(self.acker.event(), payload);
        publish.to_all([ReplyTo(self.reply_to())])
    }

    fn reply_to(&self) -> Result<AppId> {
        let strict = self.acker.client().crypto.suite != Suite::Nacl || self.payload.reading.senders != Senders::Any;
        match self.sender() {
            Sender::Verified { key, .. } => Ok(key),
            Sender::Unverified { .. } if strict => Err(Error::new(
                ErrorKind::SenderNotVerified,
                "reply: nothing proves who sent this event; name the recipient yourself if you know better",
            )),
            Sender::Unverified { claimed: Some(key) } => Ok(key),
            Sender::Unverified { claimed: None } => {
                Err(Error::new(ErrorKind::InvalidInput, "reply: the engine did not say who sent this event"))
            }
        }
    }

    /// The payload and the means to settle, to go separate ways. The duty to settle goes with the [`Acker`].
    pub fn split(self) -> (Payload, Acker) {
        (self.payload, self.acker)
    }

    /// Why it cannot be opened, if it cannot.
    pub(crate) fn unopenable(&self) -> Option<Error> {
        self.payload.opened().err().filter(|error| is_unopenable(error.kind()))
    }

    /// A span for what is done with this event: `ensync.handle`, which [observability](crate::observability) describes.
    /// [`for_each`](crate::Subscription::for_each) runs its handlers in one by itself.
    ///
    /// ```no_run
    /// use tracing::Instrument;
    /// # async fn work(_: &ensync_client::Event) {}
    /// # async fn example(event: ensync_client::Event) -> ensync_client::core::Result<()> {
    /// async {
    ///     work(&event).await;
    ///     event.ack().await
    /// }
    /// .instrument(event.span())
    /// .await
    /// # }
    /// ```
    pub fn span(&self) -> tracing::Span {
        handling(self)
    }

    /// Whether the sender's trace is looked for in the metadata.
    #[cfg(feature = "opentelemetry")]
    pub(crate) fn is_traced(&self) -> bool {
        self.acker.client().traced
    }

    pub(crate) fn acker(&self) -> &Acker {
        &self.acker
    }
}

/// Lets a missing sender be told where the publish is awaited.
struct ReplyTo(Result<AppId>);

impl TryFrom<ReplyTo> for AppId {
    type Error = Error;
    fn try_from(to: ReplyTo) -> Result<Self> {
        to.0
    }
}

/// An event's payload: sealed, and once asked for, open.
pub struct Payload {
    event: EventName,
    id: EventId,
    sealed: WirePayload,
    /// Who the engine says sent it.
    sender: Option<AppId>,
    reading: Reading,
    opened: OnceLock<Result<Opened>>,
}

impl Payload {
    /// The payload as a `T`. See [`Event::payload`].
    ///
    /// # Errors
    ///
    /// As [`Event::payload`].
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        self.opened()?.decode().map_err(|error| self.named(error))
    }

    /// The payload as JSON. See [`Event::json`].
    ///
    /// # Errors
    ///
    /// As [`Event::payload`].
    pub fn json(&self) -> Result<serde_json::Value> {
        self.opened()?.json().map_err(|error| self.named(error))
    }

    /// The payload's JSON text, as its sender wrote it.
    ///
    /// # Errors
    ///
    /// As [`Event::payload`].
    pub fn text(&self) -> Result<&str> {
        self.opened()?.text().map_err(|error| self.named(error))
    }

    fn named(&self, error: Error) -> Error {
        error.context(format_args!("event {} {}", self.event, self.id))
    }

    /// Who sealed it. See [`Event::sender`].
    pub fn sender(&self) -> Sender {
        match self.opened() {
            Ok(Opened { sender: SenderProof::Verified { key, signed }, .. }) => {
                Sender::Verified { key: *key, signed: *signed }
            }
            _ => Sender::Unverified { claimed: self.sender },
        }
    }

    /// As it was on the wire.
    pub fn sealed(&self) -> &WirePayload {
        &self.sealed
    }

    /// Opens it, the first time.
    pub(crate) fn opened(&self) -> Result<&Opened> {
        let open = || {
            let expected = Expected::event(&self.event).engine_sender(self.sender).senders(&self.reading.senders);
            let opened = self.reading.opener.open(&self.sealed, &expected);
            opened.map_err(|error| error.context(format_args!("event {} {}", self.event, self.id)))
        };
        self.opened.get_or_init(open).as_ref().map_err(Clone::clone)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Payload").field(&self.sealed).finish()
    }
}
