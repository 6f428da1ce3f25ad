//! The engine as a server: listeners for gRPC and WebSocket around a broker, or a broker alone in a process.

mod administration;
mod builder;
mod connection_limiter;
mod descriptors;
mod http;
mod limits;
mod listener;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ensync_core::{AppId, AppKey, Error, ErrorKind, EventName, Result, SecretKey};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, AdminToken, Tokens};
use crate::counters::ConnectionCounts;
use crate::in_process::InProcess;
use crate::{Broker, BrokerOptions, EventOptions, QueueStats};

pub use builder::ServerBuilder;
pub use limits::ConnectionLimits;

/// A running engine. Dropping it stops it at once; [`shutdown`](Server::shutdown) stops it in order.
///
/// Every address serves both transports: what a connection's first bytes and its requests say decides.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ensync_core::Result<()> {
/// let server = ensync_engine::Server::dev().start().await?;
/// let app = server.create_app("warehouse").await?;
/// println!("{} {} {}", server.grpc_url(), app.app_id, app.app_key.expose());
/// # Ok(())
/// # }
/// ```
pub struct Server {
    broker: Broker,
    addresses: Vec<(SocketAddr, bool)>,
    connections: TaskTracker,
    stop: CancellationToken,
    admin_stop: CancellationToken,
    shutdown_timeout: Duration,
    admin: Option<(SocketAddr, bool)>,
    console: Option<(SocketAddr, bool)>,
    config_manager: Option<(SocketAddr, bool)>,
    tokens: Option<Tokens>,
    runtime: Handle,
}

impl Server {
    /// An engine whose event names must be registered.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new(BrokerOptions::default())
    }

    /// An engine for development and tests: event names are registered when they are first used, and it listens on a free port of
    /// the loopback interface unless it is told where. Unless it is given a log or a directory, it keeps everything in memory,
    /// settled events included, until it ends.
    pub fn dev() -> ServerBuilder {
        ServerBuilder::new(BrokerOptions::dev())
    }

    /// Makes an app with a new key pair, and gives its three keys. The engine keeps the public key, and a hash of the app key:
    /// this is the only time they are to be seen.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the name is not usable.
    pub async fn create_app(&self, name: &str) -> Result<NewApp> {
        let secret_key = SecretKey::generate()?;
        let app_id = secret_key
            .app_id()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a generated secret key has no public half"))?;
        let app_key = self.broker.create_app(name, app_id).await?;
        Ok(NewApp { app_id, app_key, secret_key })
    }

    /// Registers an event name, or changes what is registered.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidEventName`], or [`ErrorKind::InvalidInput`] if an option is out of its range.
    pub async fn register_event<N>(&self, event: N, options: EventOptions) -> Result<()>
    where
        N: TryInto<EventName, Error: Into<Error>>,
    {
        self.broker.register_event(event.try_into().map_err(Into::into)?, options).await
    }

    /// How a recipient's queue of an event name stands; `None` if there never was an event in it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidEventName`], or [`ErrorKind::Unavailable`] if the engine has stopped.
    pub async fn queue<N>(&self, event: N, recipient: AppId) -> Result<Option<QueueStats>>
    where
        N: TryInto<EventName, Error: Into<Error>>,
    {
        self.broker.queue(event.try_into().map_err(Into::into)?, recipient).await
    }

    /// The broker behind it: everything that can be provisioned and inspected.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// How many connections there are, and what was refused. Cheap: ask as often as you like.
    pub fn connection_counts(&self) -> ConnectionCounts {
        self.broker.counters().snapshot()
    }

    /// A connector for clients of the same process, which goes without sockets.
    pub fn in_process(&self) -> InProcess {
        InProcess::new(Arc::new(self.broker.clone()))
    }

    /// The URL of the first address, over gRPC.
    pub fn grpc_url(&self) -> String {
        self.grpc_urls().into_iter().next().unwrap_or_default()
    }

    /// The URL of the first address, over WebSocket.
    pub fn ws_url(&self) -> String {
        self.ws_urls().into_iter().next().unwrap_or_default()
    }

    /// The URL of each address, over gRPC.
    pub fn grpc_urls(&self) -> Vec<String> {
        self.urls("grpc", "grpcs")
    }

    /// The URL of each address, over WebSocket.
    pub fn ws_urls(&self) -> Vec<String> {
        self.urls("ws", "wss")
    }

    /// The URL of the admin API, if it has one.
    pub fn admin_url(&self) -> Option<String> {
        self.admin.map(http_url)
    }

    /// The URL of the [console](ServerBuilder::console), if it is served.
    pub fn console_url(&self) -> Option<String> {
        self.console.map(|bound| http_url(bound) + "/console")
    }

    /// The base URL of the [Config Manager API](ServerBuilder::config_manager), if it is served.
    pub fn config_manager_url(&self) -> Option<String> {
        self.config_manager.map(|bound| http_url(bound) + admin::CONFIG_MANAGER_BASE)
    }

    /// The token of the admin API, and of the Config Manager API, if it serves one of them: the present one, if it has changed.
    pub fn admin_token(&self) -> Option<AdminToken> {
        self.tokens.as_ref().map(Tokens::present)
    }

    /// The token of the admin API for those who may only look, if there is one: the present one, if it has changed.
    pub fn admin_read_token(&self) -> Option<AdminToken> {
        self.tokens.as_ref().and_then(Tokens::reader)
    }

    /// The addresses it listens on.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().map(|(address, _)| *address)
    }

    /// Returns when the engine has stopped, whoever stopped it.
    pub async fn stopped(&self) {
        self.broker.stopped().await;
    }

    /// Stops: says at `/readyz` that it does, accepts no more connections, refuses new commands, finishes those that wait, hands back
    /// what clients hold, saves the state and closes the log, tells clients (close code 1001, GOAWAY), and waits until they are
    /// gone; all of that up to [`shutdown_timeout`](ServerBuilder::shutdown_timeout). What was accepted is stored in any case.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> ensync_core::Result<()> {
    /// let server = ensync_engine::Server::dev().start().await?;
    /// let stopped = server.shutdown().await;
    /// assert!(stopped.in_order());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self) -> Shutdown {
        let deadline = Instant::now() + self.shutdown_timeout;
        self.stop.cancel();
        let saved = timeout_at(deadline, self.broker.shutdown()).await.is_ok();
        if !saved {
            tracing::warn!("the broker has not finished in time; the next start takes longer");
        }
        self.connections.close();
        let ended = timeout_at(deadline, self.connections.wait()).await.is_ok();
        let cut_off = if ended { 0 } else { self.connections.len() };
        if cut_off > 0 {
            tracing::warn!(connections = cut_off, "connections that are still open are cut off");
        }
        self.admin_stop.cancel();
        Shutdown { saved, cut_off }
    }

    /// Why nothing is stored any more, if the disk has failed: see [`Broker::failure`]. A health check says "not ready" then.
    pub fn failure(&self) -> Option<Error> {
        self.broker.failure()
    }

    /// Waits until the disk has failed, and says how: see [`Broker::failed`]. Never returns if it does not.
    pub async fn failed(&self) -> Error {
        self.broker.failed().await
    }

    fn urls(&self, plain: &str, tls: &str) -> Vec<String> {
        let url = |(address, with_tls): &(SocketAddr, bool)| {
            format!("{}://{}", if *with_tls { tls } else { plain }, reachable(*address))
        };
        self.addresses.iter().map(url).collect()
    }
}

fn http_url((address, tls): (SocketAddr, bool)) -> String {
    format!("{}://{}", if tls { "https" } else { "http" }, reachable(address))
}

/// The address to dial for an address that was bound: an unspecified one is reached over loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.admin_stop.cancel();
        // Sessions over WebSocket, and in the process, end with the broker.
        let broker = self.broker.clone();
        self.runtime.spawn(async move { broker.shutdown().await });
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// How an engine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Whether the broker finished, and the state was saved. If not the next start reads more of the log; nothing is lost.
    pub saved: bool,
    /// How many connections were still open at the deadline.
    pub cut_off: usize,
}

impl Shutdown {
    /// Whether everything was finished in time.
    pub fn in_order(&self) -> bool {
        self.saved && self.cut_off == 0
    }
}

/// The keys of an app that was just made.
#[derive(Clone, Debug)]
pub struct NewApp {
    /// Its public address, which others publish to.
    pub app_id: AppId,
    /// What it logs in with.
    pub app_key: AppKey,
    /// What opens the events that it receives.
    pub secret_key: SecretKey,
}
