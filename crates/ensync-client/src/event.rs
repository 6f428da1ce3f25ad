use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensync_core::{
    AppId, Block, Command, Delivery, Error, ErrorKind, EventId, EventName, Keyring, Metadata, Reply, Result, Sealed,
    Settle, Settlement, Timestamp, crypto,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::unexpected;
use crate::{Client, Publish};

/// One event that was delivered to this client, or replayed.
///
/// It must be settled: [`ack`](Event::ack), [`defer`](Event::defer), [`discard`](Event::discard) or
/// [`rollback`](Event::rollback). One that is not is delivered again when its lease runs out or the session ends.
/// [`for_each`](crate::Subscription::for_each) does it by itself.
#[derive(Debug)]
pub struct Event {
    timestamp: Option<Timestamp>,
    metadata: Metadata,
    sender: Option<AppId>,
    recipient: Option<AppId>,
    attempt: Option<u32>,
    payload: Payload,
    acker: Acker,
}

impl Event {
    pub(crate) fn new(delivery: Delivery, keys: Keyring, client: Client) -> Self {
        let Delivery { event, id, block, payload, metadata, sender, recipient, timestamp, attempt } = delivery;
        Self {
            timestamp,
            metadata,
            sender,
            recipient,
            attempt,
            payload: Payload { event: event.clone(), id: id.clone(), sealed: payload, keys, opened: OnceLock::new() },
            acker: Acker { client, event, id, block, settled: Arc::default() },
        }
    }

    /// The event's name.
    pub fn name(&self) -> &EventName {
        &self.acker.event
    }

    /// The event's id, the same in every delivery of it ("idem" in the peers).
    pub fn id(&self) -> &EventId {
        &self.acker.id
    }

    /// This delivery's number: it changes when the event is delivered again.
    pub fn block(&self) -> Block {
        self.acker.block
    }

    /// When the engine accepted it, if it said.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// What travelled in clear.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Who the engine says sent it. Nothing proves it.
    pub fn sender(&self) -> Option<&AppId> {
        self.sender.as_ref()
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
    /// [`DoesNotOpen`](ErrorKind::DoesNotOpen), [`NotForMe`](ErrorKind::NotForMe),
    /// [`MalformedEnvelope`](ErrorKind::MalformedEnvelope) or [`UnsupportedEnvelope`](ErrorKind::UnsupportedEnvelope) if it
    /// cannot be opened, [`Decode`](ErrorKind::Decode) if it is no `T`. The event can be settled all the same.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T> {
        self.payload.decode()
    }

    /// The decrypted payload as JSON. Fails like [`payload`](Event::payload).
    ///
    /// # Errors
    ///
    /// As [`payload`](Event::payload).
    pub fn json(&self) -> Result<serde_json::Value> {
        self.payload.decode()
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

    /// Not now: delivered again after `delay`, which is zero (at once) or 1 second to 24 hours. Tells when, if the engine says.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for another delay; otherwise as [`ack`](Event::ack).
    pub async fn defer(&self, delay: Duration, reason: impl Into<String>) -> Result<Option<Timestamp>> {
        self.acker.defer(delay, reason).await
    }

    /// Never: goes to the engine's dead letters.
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

    /// A publish of the same event name to the one who sent this. Awaiting it fails with
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the engine did not say who that was.
    pub fn reply(&self, payload: &(impl Serialize + ?Sized)) -> Publish {
        let publish = self.acker.client.publish(&self.acker.event, payload);
        let unknown = || Error::new(ErrorKind::InvalidInput, "reply: the engine did not say who sent this event");
        publish.to_all([Sender(self.sender.ok_or_else(unknown))])
    }

    /// The payload and the means to settle, to go separate ways.
    pub fn split(self) -> (Payload, Acker) {
        (self.payload, self.acker)
    }

    pub(crate) fn acker(&self) -> &Acker {
        &self.acker
    }
}

/// Lets a missing sender be told where the publish is awaited.
struct Sender(Result<AppId>);

impl TryFrom<Sender> for AppId {
    type Error = Error;
    fn try_from(sender: Sender) -> Result<Self> {
        sender.0
    }
}

/// An event's payload: sealed, and once asked for, open.
pub struct Payload {
    event: EventName,
    id: EventId,
    sealed: Sealed,
    keys: Keyring,
    opened: OnceLock<Result<Plain>>,
}

type Plain = Arc<dyn AsRef<[u8]> + Send + Sync>;

impl Payload {
    /// The payload as a `T`. See [`Event::payload`].
    ///
    /// # Errors
    ///
    /// As [`Event::payload`].
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        let plain = self.open()?;
        serde_json::from_slice((*plain).as_ref()).map_err(|cause| {
            let what = std::any::type_name::<T>();
            Error::new(ErrorKind::Decode, format!("event {} {}: the payload is no {what}", self.event, self.id))
                .with_source(cause)
        })
    }

    /// As it was on the wire.
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    fn open(&self) -> Result<Plain> {
        let open = || match crypto::open(&self.sealed, &self.keys) {
            Ok(plain) => Ok(Arc::new(Wiped(plain)) as Plain),
            Err(error) => Err(error.context(format_args!("event {} {}", self.event, self.id))),
        };
        self.opened.get_or_init(open).clone()
    }
}

/// Plaintext, wiped when dropped.
struct Wiped<B>(B);

impl<B: std::ops::Deref<Target = Vec<u8>>> AsRef<[u8]> for Wiped<B> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Payload").field(&self.sealed).finish()
    }
}

/// The means to settle one delivery. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Acker {
    client: Client,
    event: EventName,
    id: EventId,
    block: Block,
    settled: Arc<AtomicBool>,
}

impl Acker {
    /// See [`Event::ack`].
    ///
    /// # Errors
    ///
    /// As [`Event::ack`].
    pub async fn ack(&self) -> Result<()> {
        self.settle(Settlement::Ack).await.map(drop)
    }

    /// See [`Event::defer`].
    ///
    /// # Errors
    ///
    /// As [`Event::defer`].
    pub async fn defer(&self, delay: Duration, reason: impl Into<String>) -> Result<Option<Timestamp>> {
        self.settle(Settlement::Defer { delay, priority: 0, reason: reason.into() }).await
    }

    /// See [`Event::discard`].
    ///
    /// # Errors
    ///
    /// As [`Event::ack`].
    pub async fn discard(&self, reason: impl Into<String>) -> Result<()> {
        self.settle(Settlement::Discard { reason: reason.into() }).await.map(drop)
    }

    /// See [`Event::rollback`].
    ///
    /// # Errors
    ///
    /// As [`Event::ack`].
    pub async fn rollback(&self) -> Result<()> {
        self.settle(Settlement::Rollback).await.map(drop)
    }

    /// Whether a settlement of this delivery succeeded, through this or a clone.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    pub(crate) fn event(&self) -> &EventName {
        &self.event
    }

    pub(crate) fn id(&self) -> &EventId {
        &self.id
    }

    async fn settle(&self, how: Settlement) -> Result<Option<Timestamp>> {
        let until = settle(&self.client, self.event.clone(), self.id.clone(), Some(self.block), how).await?;
        self.settled.store(true, Ordering::Release);
        Ok(until)
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
    let context = format!("{} {event} {id}", how.name());
    let command = Command::Settle(Settle { id, event: Some(event), block, how: how.clone() });
    let reply = match how.check() {
        Ok(()) => client.session.call(command).await,
        Err(error) => Err(error),
    };
    match reply.map_err(|error| error.context(&context))? {
        Reply::Done => Ok(None),
        Reply::Deferred { until } => Ok(until),
        other => Err(unexpected(&context, &other)),
    }
}
