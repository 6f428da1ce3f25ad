//! One live link: calls, streams, and its end.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ensync_core::{
    Command, Delivery, Endpoint, Error, ErrorKind, EventName, Link, Reply, Result, Settle, Settlement, Subscribe,
    Timestamp, Transport, Welcome,
};
use futures::future::{self, Either};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

use super::http2::Connection;
use super::rpc::Rpc;
use super::tap::Seen;
use super::{At, Options, inbox, read, write};
use crate::generated::*;
use crate::status;

/// Deliveries between the streams and the inbox. Few: what nobody takes stays in HTTP/2's flow control, and so with the engine.
const BUFFER: usize = 16;

/// How a link ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    Closed,
    Lost(Error),
}

/// Waits for a link's end.
pub(super) async fn ended(end: &mut watch::Receiver<Option<End>>) -> End {
    match end.wait_for(Option::is_some).await {
        Ok(end) => end.clone().unwrap_or(End::Closed),
        Err(_) => End::Closed,
    }
}

/// What keeps the link alive: the transport and the inbox. Tasks hold [`Shared`] alone.
pub(super) struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.end(End::Closed);
    }
}

struct Shared {
    endpoint: Endpoint,
    client_id: String,
    rpc: Rpc,
    options: Options,
    end: watch::Sender<Option<End>>,
    /// The engine takes no more calls, but still answers those under way.
    going: AtomicBool,
    calls: TaskTracker,
    deliveries: mpsc::Sender<Delivery>,
    streams: Mutex<HashMap<EventName, Stream>>,
}

/// A subscription's stream and the task that reads it, which ends with this.
struct Stream {
    reader: AbortHandle,
    /// Its end is expected, and no failure of the link.
    leaving: Arc<AtomicBool>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

pub(super) fn start(
    rpc: Rpc,
    connection: Connection,
    seen: Seen,
    to: &Endpoint,
    welcome: Welcome,
    options: &Options,
) -> Link {
    let (deliveries, received) = mpsc::channel(BUFFER);
    let (end, ended) = watch::channel(None);
    let shared = Arc::new(Shared {
        endpoint: to.clone(),
        client_id: welcome.client_id.to_string(),
        rpc,
        options: *options,
        end,
        going: AtomicBool::new(false),
        calls: TaskTracker::new(),
        deliveries,
        streams: Mutex::default(),
    });
    tokio::spawn(drive(shared.clone(), connection, seen));
    let handle = Arc::new(Handle(shared));
    let inbox = inbox::inbox(handle.clone(), received, ended);
    Link { transport: Arc::new(GrpcTransport(handle)), inbox, welcome }
}

struct GrpcTransport(Arc<Handle>);

#[async_trait]
impl Transport for GrpcTransport {
    async fn call(&self, command: Command) -> Result<Reply> {
        let shared = self.0.0.clone();
        let name = command.name();
        if shared.going.load(Ordering::Acquire) || shared.end.borrow().is_some() {
            let at = At(name, &shared.endpoint);
            return Err(Error::new(ErrorKind::Closed, format!("{at}: the connection has ended; it was not sent")));
        }
        // A task of its own: a caller that gives up abandons the answer, not the command.
        let mut end = shared.end.subscribe();
        let call = shared.calls.spawn({
            let shared = shared.clone();
            async move {
                tokio::select! {
                    biased;
                    answer = shared.perform(command) => answer,
                    _ = ended(&mut end) => Err(shared.interrupted(name)),
                }
            }
        });
        match call.await {
            Ok(answer) => answer,
            Err(cause) => {
                Err(Error::new(ErrorKind::Internal, format!("{name}: the call did not finish")).with_source(cause))
            }
        }
    }

    async fn close(&self) {
        self.0.0.end(End::Closed);
    }
}

impl fmt::Debug for GrpcTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTransport").field("endpoint", &self.0.0.endpoint).finish_non_exhaustive()
    }
}

/// Lives with the connection: tells the link of its end, and lets go of it at the link's end.
async fn drive(shared: Arc<Shared>, connection: Connection, seen: Seen) {
    let mut end = shared.end.subscribe();
    let outcome = tokio::select! {
        outcome = connection => outcome,
        _ = ended(&mut end) => return,
    };
    if outcome.is_ok() {
        // A goodbye (GOAWAY) lets calls under way finish. If the connection is gone already they fail by themselves.
        shared.going.store(true, Ordering::Release);
        shared.calls.close();
        tokio::select! {
            () = shared.calls.wait() => {}
            _ = ended(&mut end) => return,
        }
    }
    let error = shared.lost("the connection was lost");
    shared.end(End::Lost(match outcome {
        Ok(()) => error.with_source(seen.ending()),
        Err(cause) => error.with_source(cause),
    }));
}

impl Shared {
    async fn perform(self: &Arc<Self>, command: Command) -> Result<Reply> {
        let name = command.name();
        let id = || self.client_id.clone();
        let rpc = &self.rpc;
        let answered = |answer: std::result::Result<(bool, String), Status>| match answer {
            Ok((true, _)) => Ok(Reply::Done),
            Ok((false, why)) => Err(status::refusal(&why).context(name)),
            Err(status) => Err(self.failed(name, &status)),
        };
        match command {
            Command::Heartbeat => match rpc.heartbeat(HeartbeatRequest { client_id: id() }).await {
                Ok(answer) if answer.success => Ok(Reply::Done),
                Ok(_) => Err(Error::new(
                    ErrorKind::Unauthenticated,
                    format!("{}: the engine no longer knows this session", At(name, &self.endpoint)),
                )),
                Err(status) => Err(self.failed(name, &status)),
            },
            Command::Publish(publish) => {
                write::check_size(&publish, self.options.max_message_bytes)?;
                let request = || write::publish(&self.client_id, &publish);
                let answer = rpc.publish_message(request).await.map_err(|status| self.failed(name, &status))?;
                read::published(answer).map_err(|error| error.context(name))
            }
            Command::Subscribe(subscribe) => self.subscribe(subscribe).await,
            Command::Unsubscribe { event } => self.unsubscribe(event).await,
            Command::Settle(settle) => self.settle(settle).await,
            Command::Replay { id: event_id, event } => {
                let request = || ReplayRequest {
                    client_id: id(),
                    message_idem: event_id.to_string(),
                    message_name: event.to_string(),
                };
                let answer = rpc.replay_message(request).await.map_err(|status| self.failed(name, &status))?;
                read::replayed(answer, &event_id, &event).map_err(|error| error.context(name))
            }
            Command::Pause { event, reason } => {
                let request =
                    || PauseRequest { client_id: id(), message_name: event.to_string(), reason: reason.clone() };
                answered(rpc.pause_messages(request).await.map(|answer| (answer.success, answer.message)))
            }
            Command::Continue { event } => {
                let request = || ContinueRequest { client_id: id(), message_name: event.to_string() };
                answered(rpc.continue_messages(request).await.map(|answer| (answer.success, answer.message)))
            }
            other => Err(Error::new(
                ErrorKind::Internal,
                format!("the gRPC transport does not know the command {}", other.name()),
            )),
        }
    }

    async fn settle(&self, settle: Settle) -> Result<Reply> {
        let name = settle.how.name();
        let id = &self.client_id;
        let answer = match &settle.how {
            Settlement::Ack => self
                .rpc
                .acknowledge_message(|| write::ack(id, &settle))
                .await
                .map(|answer| (answer.success, answer.message, Reply::Done)),
            Settlement::Discard { reason } => self
                .rpc
                .discard_message(|| write::discard(id, &settle, reason))
                .await
                .map(|answer| (answer.success, answer.message, Reply::Done)),
            Settlement::Defer { delay, priority, reason } => {
                settle.how.check()?;
                let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
                self.rpc.defer_message(|| write::defer(id, &settle, delay_ms, *priority, reason)).await.map(|answer| {
                    let until = u64::try_from(answer.delivery_time).ok().filter(|&at| at > 0);
                    (answer.success, answer.message, Reply::Deferred { until: until.map(Timestamp::from_millis) })
                })
            }
            // gRPC has no call for it; a defer by 0 also redelivers at once.
            Settlement::Rollback => self
                .rpc
                .defer_message(|| write::defer(id, &settle, 0, 0, ""))
                .await
                .map(|answer| (answer.success, answer.message, Reply::Done)),
            other => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!("the gRPC transport does not know the settlement {}", other.name()),
                ));
            }
        };
        match answer {
            Ok((true, _, reply)) => Ok(reply),
            Ok((false, why, _)) => Err(status::refusal(&why).context(name)),
            Err(status) => Err(self.failed(name, &status)),
        }
    }

    async fn subscribe(self: &Arc<Self>, subscribe: Subscribe) -> Result<Reply> {
        let event = subscribe.event.clone();
        // An engine that starts a new stream for the same name ends the one of before.
        let before = self.lock().get(&event).map(|stream| stream.leaving.clone());
        let set_before = |leaving| {
            if let Some(flag) = &before {
                flag.store(leaving, Ordering::Release);
            }
        };
        set_before(true);
        let mut head = Box::pin(self.rpc.subscribe(write::subscribe(&self.client_id, &subscribe)));
        let stream = match tokio::time::timeout(self.options.subscribe_grace, &mut head).await {
            Ok(Ok(stream)) => Either::Left(future::ready(Ok(stream))),
            Ok(Err(status)) => {
                set_before(false);
                return Err(self.failed("subscribe", &status));
            }
            Err(_) => Either::Right(head),
        };
        let leaving = Arc::new(AtomicBool::new(false));
        let mut streams = self.lock();
        // Under the lock: `end` clears the map under it, so no stream outlives the link.
        if self.end.borrow().is_some() {
            return Err(self.interrupted("subscribe"));
        }
        let reader = tokio::spawn(self.clone().read(event.clone(), stream, leaving.clone())).abort_handle();
        streams.insert(event, Stream { reader, leaving });
        Ok(Reply::Done)
    }

    async fn unsubscribe(&self, event: EventName) -> Result<Reply> {
        let stream = self.lock().get(&event).map(|stream| stream.leaving.clone());
        let set = |leaving| {
            if let Some(flag) = &stream {
                flag.store(leaving, Ordering::Release);
            }
        };
        set(true);
        let request = UnsubscribeRequest { client_id: self.client_id.clone(), message_name: event.to_string() };
        let answer = self.rpc.unsubscribe(request).await;
        let error = match answer {
            Ok(answer) if answer.success => {
                let mut streams = self.lock();
                // A later subscription may have taken the name.
                if let Some(flag) = &stream
                    && streams.get(&event).is_some_and(|current| Arc::ptr_eq(&current.leaving, flag))
                {
                    streams.remove(&event);
                }
                return Ok(Reply::Done);
            }
            Ok(answer) => status::refusal(&answer.message).context("unsubscribe"),
            Err(status) => self.failed("unsubscribe", &status),
        };
        set(false);
        Err(error)
    }

    /// Reads one subscription's stream into the inbox. If it ends unasked, so does the link.
    async fn read(
        self: Arc<Self>,
        event: EventName,
        stream: impl Future<Output = std::result::Result<Streaming<StreamResponse>, Status>>,
        leaving: Arc<AtomicBool>,
    ) {
        let why = async {
            let mut stream = stream.await?;
            while let Some(record) = stream.message().await? {
                match read::delivery(record) {
                    Ok(delivery) => {
                        if self.deliveries.send(delivery).await.is_err() {
                            return Ok(());
                        }
                    }
                    Err(error) => tracing::warn!(
                        endpoint = %self.endpoint, %event, %error, "an event that cannot be understood was skipped"
                    ),
                }
            }
            Ok(())
        };
        let why: std::result::Result<(), Status> = why.await;
        if leaving.load(Ordering::Acquire) {
            return;
        }
        let error = self.lost(format_args!("the stream of {event} ended"));
        self.end(End::Lost(match why {
            Ok(()) => error,
            Err(status) if status::is_local(&status) => error.with_source(status),
            Err(status) => error.with_source(status::from_status(&status)),
        }));
    }

    /// The error of a call that was answered by a status.
    fn failed(&self, name: &str, status: &Status) -> Error {
        if !status::is_local(status) {
            return status::from_status(status).context(At(name, &self.endpoint));
        }
        let error = self.interrupted(name);
        if std::error::Error::source(&error).is_some() { error } else { error.with_source(status.clone()) }
    }

    /// The error of a call that the link's end cut short.
    fn interrupted(&self, name: &str) -> Error {
        let at = At(name, &self.endpoint);
        let error = Error::new(
            ErrorKind::Interrupted,
            format!("{at}: the connection ended before the answer; it may or may not have been carried out"),
        );
        match &*self.end.borrow() {
            Some(End::Lost(cause)) => error.with_source(cause.clone()),
            _ => error,
        }
    }

    fn lost(&self, what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Interrupted, format!("{}: {what}", self.endpoint))
    }

    /// The first end counts.
    fn end(&self, end: End) {
        self.end.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(end);
            }
            first
        });
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EventName, Stream>> {
        // Nothing panics while it is held, and a map is whole after every call anyway.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
