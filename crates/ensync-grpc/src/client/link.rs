//! One live link: calls, streams, and its end.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::{
    Command, Delivery, Endpoint, Error, ErrorKind, EventName, Extension, Link, Reply, Result, Transport, Welcome,
};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::connection::{Connection, Current, Redial, drive};
use super::http2::Driver;
use super::outcome::{self, Failure, Outcome};
use super::streams::{Gates, Stream};
use super::{Options, inbox};

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

/// What the transport, the streams and the connections' tasks share.
pub(super) struct Shared {
    pub(super) endpoint: Endpoint,
    pub(super) client_id: String,
    /// The engine has [`Extension::Leases`].
    pub(super) leases: bool,
    /// The engine is one of this project's, which sends the head of a stream at once.
    pub(super) prompt: bool,
    pub(super) max_message_bytes: usize,
    pub(super) options: Options,
    pub(super) redial: Option<Redial>,
    pub(super) current: watch::Sender<Current>,
    /// The bytes that came over all its connections.
    pub(super) received: Arc<AtomicU64>,
    /// How many connections were made since the last answer.
    pub(super) moves: AtomicU32,
    pub(super) end: watch::Sender<Option<End>>,
    /// The connections' tasks.
    pub(super) drivers: TaskTracker,
    pub(super) deliveries: mpsc::Sender<Delivery>,
    /// Subscriptions that ended by themselves. Each was in `streams`, so there are no more than that.
    pub(super) ended_subscriptions: mpsc::UnboundedSender<(EventName, Error)>,
    streams: Mutex<HashMap<EventName, Stream>>,
    pub(super) gates: Gates,
}

/// Begins a link over a connection that has logged in.
pub(super) fn start(
    connection: Connection,
    driver: Driver,
    redial: Option<Redial>,
    to: &Endpoint,
    welcome: Welcome,
    options: &Options,
) -> Link {
    let (deliveries, received) = mpsc::channel(BUFFER);
    let (ended_subscriptions, to_tell) = mpsc::unbounded_channel();
    let (end, ended) = watch::channel(None);
    let connection = Arc::new(connection);
    let shared = Arc::new(Shared {
        endpoint: to.clone(),
        client_id: welcome.client_id.expose().to_owned(),
        leases: welcome.config.has(Extension::Leases),
        prompt: Extension::ALL.iter().any(|&extension| welcome.config.has(extension)),
        max_message_bytes: options.max_message(&welcome.config),
        options: *options,
        redial,
        current: watch::Sender::new(Current::Open(connection.clone())),
        received: Arc::default(),
        moves: AtomicU32::new(0),
        end,
        drivers: TaskTracker::new(),
        deliveries,
        ended_subscriptions,
        streams: Mutex::default(),
        gates: Gates::default(),
    });
    connection.seen.count_in(&shared.received);
    shared.drivers.spawn(drive(shared.clone(), connection, driver));
    let handle = Arc::new(Handle(shared));
    let inbox = inbox::inbox(handle.clone(), received, ended);
    let transport = GrpcTransport { handle, to_tell: tokio::sync::Mutex::new(to_tell) };
    Link { transport: Arc::new(transport), inbox, welcome }
}

struct GrpcTransport {
    handle: Arc<Handle>,
    to_tell: tokio::sync::Mutex<mpsc::UnboundedReceiver<(EventName, Error)>>,
}

impl GrpcTransport {
    fn shared(&self) -> &Arc<Shared> {
        &self.handle.0
    }
}

#[async_trait]
impl Transport for GrpcTransport {
    async fn call(&self, command: Command) -> Result<Reply> {
        self.shared().perform(&command, None).await
    }

    async fn call_within(&self, command: Command, limit: Duration) -> Result<Reply> {
        self.shared().perform(&command, Some(limit)).await
    }

    fn abort(&self, cause: Error) {
        self.shared().end(End::Lost(cause));
    }

    async fn ended_subscription(&self) -> (EventName, Error) {
        match self.to_tell.lock().await.recv().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    fn silent_for(&self) -> Option<Duration> {
        match &*self.shared().current.borrow() {
            Current::Open(connection) => Some(connection.seen.silent_for()),
            // There is none to be silent; how long that lasts is bounded.
            Current::Moving | Current::Ending => None,
        }
    }

    fn bytes_received(&self) -> Option<u64> {
        Some(self.shared().received.load(Ordering::Relaxed))
    }

    async fn close(&self) {
        let shared = self.shared();
        shared.end(End::Closed);
        shared.drivers.close();
        shared.drivers.wait().await;
    }
}

impl fmt::Debug for GrpcTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTransport").field("endpoint", &self.shared().endpoint).finish_non_exhaustive()
    }
}

impl Shared {
    /// Asks over the connection of the moment, and again over the next one where nobody looked at the request because the
    /// connection takes no more: it was not processed then (RFC 9113 section 6.8). An engine that does not know the session has ended
    /// it, and so the link.
    pub(super) async fn carry<T, F, A>(&self, ask: F) -> Result<T>
    where
        F: Fn(Arc<Connection>) -> A,
        A: Future<Output = Result<T, Failure>>,
    {
        self.ask(ask).await.map_err(|error| self.refused(error))
    }

    /// The same without an end of the link.
    pub(super) async fn ask<T, F, A>(&self, ask: F) -> Result<T>
    where
        F: Fn(Arc<Connection>) -> A,
        A: Future<Output = Result<T, Failure>>,
    {
        let mut end = self.end.subscribe();
        let mut not_over = None;
        loop {
            let connection = self.connection(not_over.as_ref()).await?;
            let _under_way = connection.calls.token();
            let answer = tokio::select! {
                biased;
                answer = ask(connection.clone()) => answer,
                () = connection.cut.cancelled() => return Err(self.interrupted()),
                _ = ended(&mut end) => return Err(self.interrupted()),
            };
            let status = match answer {
                Ok(answer) => {
                    self.answered();
                    return Ok(answer);
                }
                Err(Failure::Refused(error)) => {
                    self.answered();
                    return Err(error);
                }
                Err(Failure::Status(status)) => status,
            };
            match outcome::of(&status) {
                Outcome::Answered(error) => {
                    self.answered();
                    return Err(error);
                }
                Outcome::NotSent if connection.seen.is_leaving() => not_over = Some(connection),
                Outcome::NotSent => return Err(self.closed().with_source(status)),
                Outcome::GivenBack => {
                    let text = format!(
                        "{} gave the request back (REFUSED_STREAM); a proxy says so also of what its engine may have carried out",
                        self.endpoint
                    );
                    return Err(Error::new(ErrorKind::Unavailable, text).perhaps_done().with_source(status));
                }
                Outcome::Unknown => {
                    let error = self.interrupted();
                    let explained = std::error::Error::source(&error).is_some();
                    return Err(if explained { error } else { error.with_source(status) });
                }
            }
        }
    }

    /// Waits for a connection that new calls go over.
    pub(super) async fn next_connection(&self) -> Result<()> {
        self.connection(None).await.map(drop)
    }

    /// The connection that new calls go over, once there is one, but not this one.
    async fn connection(&self, not_over: Option<&Arc<Connection>>) -> Result<Arc<Connection>> {
        let other = |current: &Current| match current {
            Current::Open(open) => not_over.is_none_or(|not_over| !Arc::ptr_eq(open, not_over)),
            Current::Moving => false,
            Current::Ending => true,
        };
        let mut end = self.end.subscribe();
        let mut current = self.current.subscribe();
        let current = tokio::select! {
            biased;
            _ = ended(&mut end) => return Err(self.closed()),
            current = current.wait_for(other) => current.map(|current| current.clone()),
        };
        match current {
            Ok(Current::Open(connection)) => Ok(connection),
            _ => Err(self.closed()),
        }
    }

    /// The error of a call that the engine refused. One that does not know the session has ended it: so ends the link, and the
    /// command, which the engine did not look at, can go over the next one.
    fn refused(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Unauthenticated {
            return error;
        }
        self.end(End::Lost(self.lost("the engine no longer knows the session").with_source(error.clone())));
        self.closed().with_source(error)
    }

    /// The error of a call that came too late.
    pub(super) fn closed(&self) -> Error {
        Error::new(
            ErrorKind::Closed,
            format!("the link to {} has ended; the command was not carried out", self.endpoint),
        )
    }

    /// The error of a call that the link's end cut short.
    pub(super) fn interrupted(&self) -> Error {
        let error = Error::new(
            ErrorKind::Interrupted,
            format!(
                "the link to {} ended while the answer was awaited; the command may or may not have been carried out",
                self.endpoint
            ),
        );
        match &*self.end.borrow() {
            Some(End::Lost(cause)) => error.with_source(cause.clone()),
            _ => error,
        }
    }

    pub(super) fn lost(&self, what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Interrupted, format!("{}: {what}", self.endpoint))
    }

    /// The first end counts.
    pub(super) fn end(&self, end: End) {
        self.end.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(end);
            }
            first
        });
        self.lock().clear();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<EventName, Stream>> {
        // Nothing panics while it is held, and a map is whole after every call anyway.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
