//! The engine as a server: listeners for gRPC and WebSocket around a broker, or a broker alone in a process.

mod gate;
mod http;
mod limits;
mod listener;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ensync_core::{AppId, AppKey, Error, ErrorKind, EventName, Result, SecretKey, Service};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, AdminListener, AdminToken};
use crate::counters::ConnectionCounts;
use crate::in_process::InProcess;
use crate::{Broker, BrokerOptions, DiskLog, DiskOptions, EventOptions, Limits, Log, MemoryLog, QueueStats};
use gate::Gate;
use http::Front;
use listener::{Listener, check_plaintext};

pub(crate) use gate::network;
pub use limits::ConnectionLimits;
pub use tls::{ClientCertificates, ServerTls, TlsFiles};

/// How long a shutdown waits, if it is not told.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// What a message holds beside payload and metadata, in bytes: names, ids, keys, the skeleton.
const FRAME: usize = 64 << 10;

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
    config_manager: Option<(SocketAddr, bool)>,
    token: Option<AdminToken>,
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

    /// The base URL of the [Config Manager API](ServerBuilder::config_manager), if it is served.
    pub fn config_manager_url(&self) -> Option<String> {
        self.config_manager.map(|bound| http_url(bound) + admin::CONFIG_MANAGER_BASE)
    }

    /// The token of the admin API, and of the Config Manager API, if it serves one of them.
    pub fn admin_token(&self) -> Option<&AdminToken> {
        self.token.as_ref()
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

/// An engine about to start.
#[derive(Debug)]
#[must_use = "nothing runs until it is started"]
pub struct ServerBuilder {
    broker: BrokerOptions,
    log: Arc<dyn Log>,
    data_dir: Option<PathBuf>,
    disk: DiskOptions,
    shutdown_timeout: Duration,
    listen: Vec<(SocketAddr, Option<ServerTls>)>,
    around: Option<Around>,
    admin: Option<(SocketAddr, Option<ServerTls>)>,
    config_manager: Option<(SocketAddr, Option<ServerTls>)>,
    admin_token: Option<AdminToken>,
    open_metrics: bool,
    plaintext: bool,
    limits: ConnectionLimits,
}

/// Puts something between the transports and the broker.
struct Around(Box<Wrap>);

type Wrap = dyn FnOnce(Arc<dyn Service>) -> Arc<dyn Service> + Send;

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Around(..)")
    }
}

impl ServerBuilder {
    fn new(broker: BrokerOptions) -> Self {
        Self {
            broker,
            log: Arc::new(MemoryLog::new()),
            data_dir: None,
            disk: DiskOptions::default(),
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            listen: Vec::new(),
            around: None,
            admin: None,
            config_manager: None,
            admin_token: None,
            open_metrics: true,
            plaintext: false,
            limits: ConnectionLimits::default(),
        }
    }

    /// Puts something between the transports and the broker.
    pub(crate) fn around(mut self, around: impl FnOnce(Arc<dyn Service>) -> Arc<dyn Service> + Send + 'static) -> Self {
        self.around = Some(Around(Box::new(around)));
        self
    }

    /// Keeps everything in a directory, which is made if it is not there, and goes on with what is in it: see [`DiskLog`]. Default:
    /// in memory.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// How the files in [`data_dir`](Self::data_dir) are written.
    pub fn disk_options(mut self, options: DiskOptions) -> Self {
        self.disk = options;
        self
    }

    /// How long [`Server::shutdown`] waits for connections to finish what they are at. 10 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Goes on with what a log holds, and writes to it. Default: a new log in memory.
    pub fn log(mut self, log: Arc<dyn Log>) -> Self {
        (self.log, self.data_dir) = (log, None);
        self
    }

    /// Listens on an address in plaintext; port 0 takes a free one. May be called several times. Where others can listen too, app
    /// keys could be read off the network, so an address that is not a loopback one must be [allowed](Self::allow_plaintext).
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push((address, None));
        self
    }

    /// Listens on an address with TLS; port 0 takes a free one. May be called several times.
    pub fn listen_tls(mut self, address: SocketAddr, tls: ServerTls) -> Self {
        self.listen.push((address, Some(tls)));
        self
    }

    /// Serves the admin API at an address, in plaintext; port 0 takes a free one. Default: nowhere.
    ///
    /// Whoever asks there shows a token: see [`admin_token`](ServerBuilder::admin_token).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> ensync_core::Result<()> {
    /// let server = ensync_engine::Server::dev().admin(([127, 0, 0, 1], 0)).start().await?;
    /// let (url, token) = (server.admin_url(), server.admin_token());
    /// # assert!(url.unwrap().starts_with("http://127.0.0.1:") && token.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn admin(mut self, address: impl Into<SocketAddr>) -> Self {
        self.admin = Some((address.into(), None));
        self
    }

    /// Serves the admin API at an address, with TLS; port 0 takes a free one.
    pub fn admin_tls(mut self, address: impl Into<SocketAddr>, tls: ServerTls) -> Self {
        self.admin = Some((address.into(), Some(tls)));
        self
    }

    /// Serves the API of the makers' Config Manager at an address, in plaintext, for their command line and programs that speak to it;
    /// port 0 takes a free one. Default: nowhere. It is another face of what the [admin API](Self::admin) does, with the same token.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> ensync_core::Result<()> {
    /// let server = ensync_engine::Server::dev().config_manager(([127, 0, 0, 1], 0)).start().await?;
    /// let (base_url, access_key) = (server.config_manager_url(), server.admin_token());
    /// # assert!(base_url.unwrap().ends_with("/api/v1/ensync") && access_key.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn config_manager(mut self, address: impl Into<SocketAddr>) -> Self {
        self.config_manager = Some((address.into(), None));
        self
    }

    /// The same, with TLS.
    pub fn config_manager_tls(mut self, address: impl Into<SocketAddr>, tls: ServerTls) -> Self {
        self.config_manager = Some((address.into(), Some(tls)));
        self
    }

    /// The token that the admin API asks for. Default: the one in the file `admin.token` of the data directory, which is made by
    /// the first start, readable by its owner only; without a data directory, one that is made for this run:
    /// [`Server::admin_token`] says it.
    pub fn admin_token(mut self, token: AdminToken) -> Self {
        self.admin_token = Some(token);
        self
    }

    /// Asks for the token at `/metrics` as well. Default: `/healthz`, `/readyz` and `/metrics` are open.
    pub fn guard_metrics(mut self) -> Self {
        self.open_metrics = false;
        self
    }

    /// Allows plaintext on every address: where something in front of the engine does TLS, or the network is trusted.
    pub fn allow_plaintext(mut self) -> Self {
        self.plaintext = true;
        self
    }

    /// What connections may use up.
    pub fn connection_limits(mut self, limits: ConnectionLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Limits and defaults of the broker. Call it before anything of it is changed otherwise.
    pub fn options(mut self, options: BrokerOptions) -> Self {
        self.broker = options;
        self
    }

    /// Whether an engine with these options could start, as far as can be told without starting one: no address is bound, no
    /// directory opened.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if an option is out of its range, or contradicts another.
    pub fn check(&self) -> Result<()> {
        self.limits.check()?;
        check(&self.broker.limits, self.limits.max_message_bytes)?;
        let plain = self.listen.iter().filter(|(_, tls)| tls.is_none());
        plain.into_iter().try_for_each(|(address, _)| check_plaintext("the engine", *address, self.plaintext))?;
        for (what, listener) in [("the admin API", &self.admin), ("the Config Manager API", &self.config_manager)] {
            if let Some((address, None)) = listener {
                check_plaintext(what, *address, self.plaintext)?;
            }
        }
        Ok(())
    }

    /// Binds the addresses and starts.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if an address cannot be bound, or is one for which plaintext must be
    /// [allowed](Self::allow_plaintext); if an option is out of its range, or the data directory is damaged;
    /// [`ErrorKind::Unavailable`] if the log cannot be read, or another engine uses the directory.
    pub async fn start(mut self) -> Result<Server> {
        if self.listen.is_empty() {
            self.listen.push((SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None));
        }
        self.check()?;
        let max_message_bytes = self.limits.max_message_bytes;
        let grpc = ensync_grpc::ServerOptions { max_message_bytes, ..ensync_grpc::ServerOptions::default() };
        let (connections, stop, admin_stop) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let ws = ensync_ws::ServerOptions::default();
        let ws = ensync_ws::ServerOptions {
            login_timeout: ws.login_timeout.min(self.limits.login_timeout),
            max_frame_bytes: max_message_bytes,
            stop: stop.clone(),
            connections: connections.clone(),
            ..ws
        };
        let (mut addresses, mut bound) = (Vec::new(), Vec::new());
        for (address, tls) in self.listen {
            let (tcp, address) = bind(address).await?;
            addresses.push((address, tls.is_some()));
            bound.push((tcp, tls));
        }
        let (admin, config_manager) = (bind_if(self.admin).await?, bind_if(self.config_manager).await?);
        let limits = self.broker.limits.clone();
        let log = match &self.data_dir {
            Some(path) => Arc::new(DiskLog::open(path, self.disk).await?) as Arc<dyn Log>,
            None => self.log,
        };
        let broker = Broker::start(self.broker, log).await?;
        let mut followed: Vec<ServerTls> = Vec::new();
        let mut follow = |tls: &ServerTls| {
            if !followed.iter().any(|other| other.is(tls)) {
                tokio::spawn(stop.clone().run_until_cancelled_owned(tls.clone().follow()));
                followed.push(tls.clone());
            }
        };
        let token = match (self.admin_token, &self.data_dir) {
            _ if admin.is_none() && config_manager.is_none() => None,
            (Some(token), _) => Some(token),
            // The log has the directory's lock.
            (None, Some(path)) => Some(AdminToken::of_directory(path)?),
            (None, None) => Some(AdminToken::generate()?),
        };
        // Until the very end, so that they can say that the engine is stopping.
        let mut administer = |(tcp, bound, tls): Bound, router| {
            tls.as_ref().inspect(|tls| follow(tls));
            let with_tls = tls.is_some();
            tokio::spawn(AdminListener { tcp, tls, router }.run(TaskTracker::new(), admin_stop.clone()));
            (bound, with_tls)
        };
        let admin = match admin.zip(token.clone()) {
            None => None,
            Some((bound, token)) => Some(administer(bound, admin::router(broker.clone(), token, self.open_metrics)?)),
        };
        let config_manager = match config_manager.zip(token.clone()) {
            None => None,
            Some((bound, token)) => {
                Some(administer(bound, admin::config_manager_router(broker.clone(), token, &limits)?))
            }
        };
        let counters = broker.counters();
        let gate = Arc::new(Gate::new(&self.limits, counters.clone()));
        let tls_timeout = self.limits.tls_timeout;
        let service = Arc::new(broker.clone()) as Arc<dyn Service>;
        let service = match self.around {
            Some(Around(around)) => around(service),
            None => service,
        };
        let front = Front::new(service, grpc, ws, self.limits, counters);
        for (tcp, tls) in bound {
            tls.as_ref().inspect(|tls| follow(tls));
            let listener = Listener { tcp, tls, gate: gate.clone(), tls_timeout };
            tokio::spawn(listener.run(front.clone(), connections.clone(), stop.clone()));
        }
        let shutdown_timeout = self.shutdown_timeout;
        for (address, with_tls) in &addresses {
            tracing::info!(%address, tls = *with_tls, "listening");
        }
        if let Some((address, tls)) = admin {
            tracing::info!(%address, tls, "listening for administrators");
        }
        if let Some((address, tls)) = config_manager {
            tracing::info!(%address, tls, "listening for the Config Manager API");
        }
        let runtime = Handle::current();
        Ok(Server {
            broker,
            addresses,
            connections,
            stop,
            admin_stop,
            shutdown_timeout,
            admin,
            config_manager,
            token,
            runtime,
        })
    }
}

/// Refuses to promise a payload that no client could send or receive. `carried` is the longest message of the transports.
fn check(limits: &Limits, carried: usize) -> Result<()> {
    // A byte of metadata may be escaped to six (`\u003b`).
    let rest = limits.max_metadata_bytes.saturating_mul(6).saturating_add(FRAME);
    let most = carried.saturating_sub(rest);
    if limits.max_payload_bytes <= most {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!(
            "max_payload_bytes is {}, but gRPC and WebSocket carry messages of {carried} bytes, which, beside metadata of up to {} \
             bytes, leaves {most} bytes for a payload; lower the limit, and let large data travel as references",
            limits.max_payload_bytes, limits.max_metadata_bytes
        ),
    ))
}

/// An address that is listened on, and what is shown there.
type Bound = (TcpListener, SocketAddr, Option<ServerTls>);

async fn bind_if(listener: Option<(SocketAddr, Option<ServerTls>)>) -> Result<Option<Bound>> {
    let Some((address, tls)) = listener else { return Ok(None) };
    let (tcp, bound) = bind(address).await?;
    Ok(Some((tcp, bound, tls)))
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let refuse = |cause: std::io::Error| {
        let why = match cause.kind() {
            std::io::ErrorKind::AddrInUse => "another program listens there; stop it, or choose another port",
            std::io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 need a privilege",
            std::io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            _ => "not possible",
        };
        Error::new(ErrorKind::InvalidInput, format!("cannot listen on {address}: {why}")).with_source(cause)
    };
    let tcp = TcpListener::bind(address).await.map_err(refuse)?;
    let bound = tcp.local_addr().map_err(refuse)?;
    Ok((tcp, bound))
}
