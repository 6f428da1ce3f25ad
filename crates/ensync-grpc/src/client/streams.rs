//! The streams of a link's subscriptions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ensync_core::{Error, ErrorKind, EventName, Reply, Result, Subscribe};
use futures::future::{BoxFuture, FutureExt, ready};
use tokio::sync::OwnedMutexGuard;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tonic::{Status, Streaming};

use super::link::{End, Shared, ended};
use super::outcome::{self, Failure, Outcome};
use super::{read, write};
use crate::generated::*;

/// How long the engine may take to hear that a subscription has ended on this side.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long the engine may take to say whether it knows the session.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// How often events of a stream that cannot be understood are a warning: whoever sends them may send them without end.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// A subscription's stream and the task that reads it, which ends with this.
pub(super) struct Stream {
    reader: AbortHandle,
    /// Its end is expected, and no failure of the link.
    leaving: Arc<AtomicBool>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// One lock for each event name, held over a subscribe or an unsubscribe. Of two that overlap, the stream that one starts must be
/// known to the other, or its end would look like the link's.
#[derive(Default)]
pub(super) struct Gates(Mutex<HashMap<EventName, Arc<tokio::sync::Mutex<()>>>>);

impl Gates {
    fn of(&self, event: &EventName) -> Arc<tokio::sync::Mutex<()>> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        gates.entry(event.clone()).or_default().clone()
    }
}

/// A stream, once its head has come.
type Head = BoxFuture<'static, std::result::Result<Streaming<StreamResponse>, Status>>;

impl Shared {
    pub(super) async fn subscribe(self: &Arc<Self>, subscribe: Subscribe) -> Result<Reply> {
        let gate = self.enter(&subscribe.event).await?;
        let shared = self.clone();
        alone(async move {
            let _gate = gate;
            shared.open(subscribe).await
        })
        .await
    }

    pub(super) async fn unsubscribe(self: &Arc<Self>, event: EventName) -> Result<Reply> {
        let gate = self.enter(&event).await?;
        let shared = self.clone();
        alone(async move {
            let _gate = gate;
            shared.leave(event).await
        })
        .await
    }

    async fn enter(&self, event: &EventName) -> Result<OwnedMutexGuard<()>> {
        let mut end = self.end.subscribe();
        tokio::select! {
            biased;
            gate = self.gates.of(event).lock_owned() => Ok(gate),
            _ = ended(&mut end) => Err(self.closed()),
        }
    }

    async fn open(self: &Arc<Self>, subscribe: Subscribe) -> Result<Reply> {
        let event = subscribe.event.clone();
        // An engine that starts a new stream for the same name ends the one of before.
        let before = self.lock().get(&event).map(|stream| stream.leaving.clone());
        let set_before = |leaving| {
            if let Some(flag) = &before {
                flag.store(leaving, Ordering::Release);
            }
        };
        set_before(true);
        let head = self.begin(&subscribe).await.inspect_err(|_| set_before(false))?;
        let leaving = Arc::new(AtomicBool::new(false));
        let mut streams = self.lock();
        // Under the lock: `end` clears the map under it, so no stream outlives the link.
        if self.end.borrow().is_some() {
            return Err(self.interrupted());
        }
        let reader = tokio::spawn(self.clone().read(event.clone(), head, leaving.clone())).abort_handle();
        streams.insert(event, Stream { reader, leaving });
        Ok(Reply::Done)
    }

    /// Begins a stream. A refusal may be about this subscription alone, whatever it says, so it
    /// ends no link: whoever asked finds out. Engines of this project send its head at once; others may send it
    /// with the first event, so their silence for [`subscribe_grace`](super::GrpcConnector::subscribe_grace) is taken as consent.
    async fn begin(&self, subscribe: &Subscribe) -> Result<Head> {
        self.ask(|over| async move {
            let request = write::subscribe(&self.client_id, subscribe);
            let mut head = over.rpc.subscribe(request).boxed();
            let opened = match self.prompt {
                true => Some(head.as_mut().await?),
                false => timeout(self.options.subscribe_grace, &mut head).await.ok().transpose()?,
            };
            Ok(opened.map_or(head, |stream| ready(Ok(stream)).boxed()))
        })
        .await
    }

    async fn leave(&self, event: EventName) -> Result<Reply> {
        let stream = self.lock().get(&event).map(|stream| stream.leaving.clone());
        let set = |leaving| {
            if let Some(flag) = &stream {
                flag.store(leaving, Ordering::Release);
            }
        };
        set(true);
        self.tell_left(&event).await.inspect_err(|_| set(false))?;
        self.lock().remove(&event);
        Ok(Reply::Done)
    }

    async fn tell_left(&self, event: &EventName) -> Result<()> {
        self.carry(|over| async move {
            let request = UnsubscribeRequest { client_id: self.client_id.clone(), message_name: event.to_string() };
            let answer = over.rpc.unsubscribe(request).await?;
            if answer.success { Ok(()) } else { Err(Failure::Refused(Error::from_refusal(&answer.message))) }
        })
        .await
    }

    /// Reads one subscription's stream into the inbox. If it ends unasked, so has the session, or this subscription alone: the engine is
    /// asked. So also where its connection was closed in good order: the engine takes back what a stream had brought, so whoever
    /// holds it must know, and asks for the stream again.
    async fn read(self: Arc<Self>, event: EventName, head: Head, leaving: Arc<AtomicBool>) {
        // Kept until the engine knows: to let go of it is to reset it.
        let (_stream, ended) = self.take(&event, head).await;
        if leaving.load(Ordering::Acquire) {
            return;
        }
        let error = match ended.map_err(|status| (outcome::of_stream(&status), status)) {
            Err((Outcome::Answered(error), _)) => error,
            Err((_, status)) => self.lost("the stream ended").with_source(status),
            Ok(()) => self.lost("the engine ended the stream"),
        };
        if (passes(&error) || error.kind() == ErrorKind::Unauthenticated) && !self.is_known().await {
            let lost = self.lost(format_args!("the stream of {event} ended"));
            return self.end(End::Lost(lost.with_source(error)));
        }
        self.end_subscription(event, error, &leaving).await;
    }

    /// Whether the engine still knows the session. Any answer will do but that it does not.
    async fn is_known(&self) -> bool {
        use ErrorKind::{Closed, Interrupted, Timeout, Unauthenticated};
        // Where the next connection is being made, that takes its own time, and ends the link if it cannot be made.
        if self.next_connection().await.is_err() {
            return false;
        }
        let asked = self.ask(|over| async move {
            let request = HeartbeatRequest { client_id: self.client_id.clone() };
            Ok(over.rpc.heartbeat(request, Some(KNOWN_WITHIN)).await?.success)
        });
        match timeout(KNOWN_WITHIN, asked).await {
            Ok(Ok(known)) => known,
            Ok(Err(error)) => !matches!(error.kind(), Closed | Interrupted | Timeout | Unauthenticated),
            Err(_) => false,
        }
    }

    /// Takes what a stream brings, to its end.
    async fn take(
        &self,
        event: &EventName,
        head: Head,
    ) -> (Option<Streaming<StreamResponse>>, std::result::Result<(), Status>) {
        let mut stream = match head.await {
            Ok(stream) => stream,
            Err(status) => return (None, Err(status)),
        };
        let mut warned = None::<Instant>;
        loop {
            let delivery = match stream.message().await {
                Ok(Some(record)) => read::delivery(record),
                Ok(None) => return (Some(stream), Ok(())),
                Err(status) => return (Some(stream), Err(status)),
            };
            match delivery {
                Ok(delivery) => {
                    if self.deliveries.send(delivery).await.is_err() {
                        return (Some(stream), Ok(()));
                    }
                }
                Err(error) if warned.is_none_or(|last| last.elapsed() >= WARN_EVERY) => {
                    warned = Some(Instant::now());
                    tracing::warn!(
                        endpoint = %self.endpoint, %event, %error,
                        "an event that cannot be understood was skipped; others may follow unlogged for a minute"
                    );
                }
                Err(error) => tracing::debug!(%event, %error, "an event that cannot be understood was skipped"),
            }
        }
    }

    /// Ends one subscription.
    async fn end_subscription(&self, event: EventName, error: Error, leaving: &Arc<AtomicBool>) {
        let Ok(_gate) = self.enter(&event).await else { return };
        // Left meanwhile, or subscribed to anew.
        if leaving.load(Ordering::Acquire) {
            return;
        }
        if matches!(error.kind(), ErrorKind::PayloadTooLarge | ErrorKind::Protocol) {
            // It ended on this side: an engine that is not told would take the client for gone.
            let _ = timeout(GOODBYE, self.tell_left(&event)).await;
        }
        let error = error.context(format_args!("the subscription to {event} ended"));
        // Nobody listens once the link has ended.
        let _ = self.ended_subscriptions.send((event.clone(), error));
        // Last, for it ends this task.
        self.lock().remove(&event);
    }
}

/// Whether the end of a stream may be that of its connection, or of the session.
fn passes(error: &Error) -> bool {
    use ErrorKind::{Closed, Connect, Interrupted, Refused, Timeout, Unavailable};
    match error.kind() {
        Unavailable | Timeout | Interrupted | Closed | Connect => true,
        Refused => error.may_have_happened(),
        _ => false,
    }
}

/// Runs to its end even if its caller gives up: a stream that is let go of halfway looks to the engine like a client that is gone.
/// There is one at a time for each event name.
async fn alone(work: impl Future<Output = Result<Reply>> + Send + 'static) -> Result<Reply> {
    match tokio::spawn(work).await {
        Ok(answer) => answer,
        Err(cause) => Err(Error::new(ErrorKind::Internal, "the call did not finish").with_source(cause)),
    }
}
