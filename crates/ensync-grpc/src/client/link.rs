//! One live link: calls, streams, and its end.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::{
    Command, Delivery, Endpoint, Error, ErrorKind, EventName, Extension, Link, Reply, Result, Transport, Welcome,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::http2::Connection;
use super::rpc::Rpc;
use super::streams::{Gates, Stream};
use super::tap::Seen;
use super::{Options, inbox};
use crate::generated::DisconnectRequest;
use crate::status;

/// Deliveries between the streams and the inbox. Few: what nobody takes stays in HTTP/2's flow control, and so with the engine.
const BUFFER: usize = 16;

/// How long the goodbye of a link that is closed may take.
const GOODBYE: Duration = Duration::from_secs(2);

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

/// What the transport, the streams and the connection's task share.
pub(super) struct Shared {
    pub(super) endpoint: Endpoint,
    pub(super) client_id: String,
    /// The engine has [`Extension::Leases`].
    pub(super) leases: bool,
    pub(super) rpc: Rpc,
    pub(super) options: Options,
    pub(super) end: watch::Sender<Option<End>>,
    /// The engine takes no more calls, but still answers those under way.
    going: AtomicBool,
    calls: TaskTracker,
    /// The connection is let go of.
    gone: CancellationToken,
    pub(super) deliveries: mpsc::Sender<Delivery>,
    streams: Mutex<HashMap<EventName, Stream>>,
    pub(super) gates: Gates,
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
        client_id: welcome.client_id.expose().to_owned(),
        leases: welcome.config.has(Extension::Leases),
        rpc,
        options: *options,
        end,
        going: AtomicBool::new(false),
        calls: TaskTracker::new(),
        gone: CancellationToken::new(),
        deliveries,
        streams: Mutex::default(),
        gates: Gates::default(),
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
            return Err(shared.closed());
        }
        // A task of its own: a caller that gives up abandons the answer, not the command.
        let mut end = shared.end.subscribe();
        let call = shared.calls.spawn({
            let shared = shared.clone();
            async move {
                tokio::select! {
                    biased;
                    answer = shared.perform(command) => answer,
                    _ = ended(&mut end) => Err(shared.interrupted()),
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
        self.0.0.gone.cancelled().await;
    }
}

impl fmt::Debug for GrpcTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTransport").field("endpoint", &self.0.0.endpoint).finish_non_exhaustive()
    }
}

/// Lives with the connection: tells the link of its end, and at the link's end says goodbye and lets go of it.
async fn drive(shared: Arc<Shared>, mut connection: Connection, seen: Seen) {
    let _gone = shared.gone.clone().drop_guard();
    let mut end = shared.end.subscribe();
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        end = ended(&mut end) => {
            if matches!(end, End::Closed) {
                let request = DisconnectRequest { client_id: shared.client_id.clone() };
                let goodbye = tokio::time::timeout(GOODBYE, shared.rpc.disconnect(request));
                // Engines that do not serve it find out by themselves. Only the connection's task moves the request.
                tokio::select! {
                    _ = connection => {}
                    _ = goodbye => {}
                }
            }
            return;
        }
    };
    // A request that came too late must fail, not wait in here.
    drop(connection);
    if outcome.is_ok() {
        // A goodbye of the engine (GOAWAY) lets calls under way finish. If the connection is gone already they fail by themselves.
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
    /// The error of a call that was answered by a status. The operation is the caller's to name, as with every error of a call.
    pub(super) fn failed(&self, status: &Status) -> Error {
        if !status::is_local(status) {
            return status::from_status(status);
        }
        if status::was_not_sent(status) {
            return self.closed().with_source(status.clone());
        }
        let error = self.interrupted();
        if std::error::Error::source(&error).is_some() { error } else { error.with_source(status.clone()) }
    }

    /// The error of a call that came too late.
    fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("the link to {} has ended; the command was not sent", self.endpoint))
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
