//! The broker: the state machine, driven.

mod checkpoint;
mod clock;
mod keep;
mod options;
mod provision;
mod request;
mod task;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ensync_core::{
    ClientId, Command, Error, ErrorKind, Extension, Login, Peer, Reply, Result, ServerConfig, Service, Session, Welcome,
};
use futures::StreamExt;
use tokio::sync::{mpsc, oneshot, watch};

pub use clock::{Clock, SystemClock, TokioClock};
pub use options::{BrokerOptions, Retention};

use crate::log::{KeyHash, Log};
use crate::state::{Admitted, Limits, Settings};
use request::{Answer, Outcome, Request};
use task::Task;

/// Requests that may wait for the task; who sends more waits himself.
const WAITING: usize = 4_096;

/// A message broker: queues, their clients, and what both may do. It is an EnSync engine but for the wire, which transports add:
/// they call it as a [`Service`].
///
/// A handle, cheap to clone. The broker stops when [`shutdown`](Broker::shutdown) is called or the last handle is gone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ensync_core::Result<()> {
/// use std::sync::Arc;
/// use ensync_core::{AppId, Login, Service};
/// use ensync_engine::{Broker, BrokerOptions, MemoryLog};
///
/// let broker = Broker::start(BrokerOptions::dev(), Arc::new(MemoryLog::new())).await?;
/// let app_key = broker.create_app("warehouse", AppId::from_bytes([7; 32])).await?;
/// let session = broker.login(Login { app_key, transport: "local", remote: None }).await?;
/// broker.logout(&session.peer).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

struct Shared {
    requests: mpsc::Sender<Request>,
    log: Arc<dyn Log>,
    limits: Limits,
    config: ServerConfig,
    stopping: AtomicBool,
    running: watch::Receiver<()>,
}

impl Broker {
    /// Reads a log back and starts on it. Must be called in a tokio runtime with time enabled.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the log cannot be read, [`ErrorKind::InvalidInput`] if it is damaged,
    /// [`ErrorKind::Internal`] if the system has no randomness.
    pub async fn start(options: BrokerOptions, log: Arc<dyn Log>) -> Result<Self> {
        let BrokerOptions { limits, defaults, dev, retention, clock } = options;
        let tag = u32::from_be_bytes(random()?);
        let settings = Settings { epoch: log.epoch(), tag, dev, limits: limits.clone(), defaults };
        let (state, keeper) = keep::recover(&log, settings, retention, clock.now()).await?;
        let (sender, requests) = mpsc::channel(WAITING);
        let (_running, running) = watch::channel(());
        let inboxes = HashMap::new();
        tokio::spawn(
            Task { state, log: log.clone(), clock, requests, inboxes, log_pause: None, keeper, _running }.run(),
        );
        let config = [
            (ServerConfig::EXTENSIONS, Extension::announcement()),
            (ServerConfig::MAX_PAYLOAD_BYTES, limits.max_payload_bytes.to_string()),
            (ServerConfig::DEDUP_WINDOW_MS, limits.dedup_window.as_millis().to_string()),
        ];
        let config = config.into_iter().collect();
        let stopping = AtomicBool::new(false);
        Ok(Self(Arc::new(Shared { requests: sender, log, limits, config, stopping, running })))
    }

    /// Stops: new commands are refused, those that wait are finished, then every session's inbox ends.
    pub async fn shutdown(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        _ = self.0.requests.send(Request::Shutdown).await;
        // The task drops the sender when it ends, and sends nothing.
        _ = self.0.running.clone().changed().await;
    }

    /// Whether the broker has stopped, or is about to.
    fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// Sends a request to the task and waits for its answer.
    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T> {
        let stopped = || Error::new(ErrorKind::Unavailable, "the engine is stopping; try again later");
        if self.is_stopping() {
            return Err(stopped());
        }
        let (answer, answered) = oneshot::channel();
        self.0.requests.send(request(answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

#[async_trait]
impl Service for Broker {
    async fn login(&self, login: Login) -> Result<Session> {
        let (key, client_id) = (KeyHash::of(&login.app_key), new_client_id()?);
        let id = client_id.clone();
        let opened = self.ask(|answer| Request::Login { key, client_id: id, answer }).await;
        let opened = opened.inspect_err(|error| {
            tracing::info!(transport = login.transport, remote = ?login.remote, %error, "login refused");
        })?;
        let mut inbox = opened.inbox;
        Ok(Session {
            peer: Peer { client_id: client_id.clone(), app_id: opened.app },
            inbox: futures::stream::poll_fn(move |context| inbox.poll_recv(context)).boxed(),
            welcome: Welcome { client_id, app_id: Some(opened.app), config: self.0.config.clone() },
        })
    }

    async fn handle(&self, peer: &Peer, command: Command) -> Result<Reply> {
        let peer = peer.clone();
        let outcome = match command {
            Command::Publish(publish) => {
                let publish = Box::new(Admitted::new(publish, &self.0.limits)?);
                self.ask(|answer| Request::Publish { peer, publish, answer }).await?
            }
            command => {
                let command = Box::new(command);
                self.ask(|answer| Request::Command { peer, command, answer }).await?
            }
        };
        match outcome {
            Outcome::Reply(reply) => Ok(reply),
            // Read here, so that a replay of an old event holds up nobody else.
            Outcome::Replay(replay) => replay.answer(task::read(&*self.0.log, &replay.source).await?.as_deref()),
        }
    }

    async fn logout(&self, peer: &Peer) {
        let (answer, answered) = oneshot::channel();
        let request = Request::Logout { client_id: peer.client_id.clone(), answer };
        if self.0.requests.send(request).await.is_ok() {
            _ = answered.await;
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("log", &self.0.log)
            .field("stopping", &self.is_stopping())
            .finish_non_exhaustive()
    }
}

/// 192 random bits: whoever holds a client id may act as that session.
fn new_client_id() -> Result<ClientId> {
    ClientId::parse(&URL_SAFE_NO_PAD.encode(random::<24>()?))
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|cause| {
        Error::new(ErrorKind::Internal, "the operating system gives no random bytes")
            .with_source(std::io::Error::other(cause.to_string()))
    })?;
    Ok(bytes)
}
