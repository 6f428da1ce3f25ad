//! An engine about to start: what it is told, and the start itself.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ensync_core::{Error, ErrorKind, Result, Service};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection_limiter::ConnectionLimiter;
use super::http::Front;
use super::listener::{Listener, check_plaintext};
use super::{ConnectionLimits, Server};
use crate::admin::{self, AdminListener, AdminToken, Console, Served, SettingInForce, Tokens};
use crate::tls::ServerTls;
use crate::{Broker, BrokerOptions, DiskOptions, Limits, Logs, MemoryLog, ReadProgress};

/// How long a shutdown waits, if it is not told.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// What a message holds beside payload and metadata, in bytes: names, ids, keys, the skeleton.
const FRAME: usize = 64 << 10;

/// An engine about to start.
#[derive(Debug)]
#[must_use = "nothing runs until it is started"]
pub struct ServerBuilder {
    broker: BrokerOptions,
    logs: Logs,
    data_dir: Option<PathBuf>,
    disk: DiskOptions,
    shutdown_timeout: Duration,
    listen: Vec<(SocketAddr, Option<ServerTls>)>,
    around: Option<Around>,
    pub(super) admin: Option<(SocketAddr, Option<ServerTls>)>,
    pub(super) config_manager: Option<(SocketAddr, Option<ServerTls>)>,
    pub(super) admin_token: Option<AdminToken>,
    pub(super) admin_read_token: Option<AdminToken>,
    pub(super) settings: Vec<SettingInForce>,
    pub(super) console: Option<bool>,
    pub(super) admin_token_overlap: Duration,
    pub(super) admin_hosts: Vec<String>,
    pub(super) open_metrics: bool,
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
    pub(super) fn new(broker: BrokerOptions) -> Self {
        Self {
            broker,
            logs: MemoryLog::new().into(),
            data_dir: None,
            disk: DiskOptions::default(),
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            listen: Vec::new(),
            around: None,
            admin: None,
            config_manager: None,
            admin_token: None,
            admin_read_token: None,
            settings: Vec::new(),
            console: None,
            admin_token_overlap: admin::OVERLAP,
            admin_hosts: Vec::new(),
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

    /// Keeps everything in a directory, which is made if it is not there, and goes on with what is in it: see [`Logs::open`]. Default:
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

    /// How far [`start`](Self::start) has read the log in [`data_dir`](Self::data_dir): a start on a long log takes its time.
    pub fn progress(&self) -> ReadProgress {
        self.disk.progress.clone()
    }

    /// How long [`Server::shutdown`] waits for connections to finish what they are at. 10 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Goes on with what logs hold, and writes to them. Default: new logs in memory.
    pub fn logs(mut self, logs: impl Into<Logs>) -> Self {
        (self.logs, self.data_dir) = (logs.into(), None);
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
        self.limits.fit();
        let max_message_bytes = self.limits.max_message_bytes;
        let max_metadata_bytes = self.broker.limits.max_metadata_bytes;
        let grpc = ensync_grpc::ServerOptions {
            max_message_bytes,
            max_metadata_bytes,
            ..ensync_grpc::ServerOptions::default()
        };
        let (connections, stop, admin_stop) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let ws = ensync_ws::ServerOptions::default();
        let ws = ensync_ws::ServerOptions {
            login_timeout: ws.login_timeout.min(self.limits.login_timeout),
            max_frame_bytes: max_message_bytes,
            max_metadata_bytes,
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
        let logs = match &self.data_dir {
            Some(path) => Logs::open(path, self.disk).await?,
            None => self.logs,
        };
        let broker = Broker::start(self.broker, logs).await?;
        let mut followed: Vec<ServerTls> = Vec::new();
        let mut follow = |tls: &ServerTls| {
            if !followed.iter().any(|other| other.is(tls)) {
                tokio::spawn(stop.clone().run_until_cancelled_owned(tls.clone().follow()));
                followed.push(tls.clone());
            }
        };
        let tokens = match (self.admin_token, &self.data_dir) {
            _ if admin.is_none() && config_manager.is_none() => None,
            (Some(token), _) => Some(Tokens::fixed(token, self.admin_read_token)),
            // The log has the directory's lock.
            (None, Some(path)) => Some(Tokens::of_directory(path, self.admin_token_overlap)?),
            (None, None) => {
                let reader = self.admin_read_token.map_or_else(AdminToken::generate, Ok)?;
                Some(Tokens::fixed(AdminToken::generate()?, Some(reader)))
            }
        };
        if let Some(tokens) = &tokens {
            tokio::spawn(admin_stop.clone().run_until_cancelled_owned(tokens.clone().follow()));
        }
        // Until the very end, so that they can say that the engine is stopping.
        let mut administer = |(tcp, bound, tls): Bound, router| {
            tls.as_ref().inspect(|tls| follow(tls));
            let with_tls = tls.is_some();
            tokio::spawn(AdminListener { tcp, tls, router }.run(admin_stop.clone()));
            (bound, with_tls)
        };
        let hosts: Arc<[String]> = self.admin_hosts.into();
        let mut console_at = None;
        let admin = match admin.zip(tokens.clone()) {
            None => None,
            Some((bound, tokens)) => {
                // Over TLS its certificate says what it is called.
                let hosts = bound.2.is_none().then(|| hosts.clone());
                let (broker, open_metrics, settings) = (broker.clone(), self.open_metrics, self.settings);
                let (address, tls) = (bound.1, bound.2.is_some());
                let wanted = self.console.unwrap_or_else(|| address.ip().is_loopback());
                let console = wanted.then(|| Console { limits: limits.clone(), port: address.port(), tls });
                console_at = wanted.then_some((address, tls));
                let served = Served { broker, tokens, open_metrics, hosts, settings, console };
                Some(administer(bound, admin::router(served)?))
            }
        };
        let config_manager = match config_manager.zip(tokens.clone()) {
            None => None,
            Some((bound, tokens)) => {
                let hosts = bound.2.is_none().then(|| hosts.clone());
                Some(administer(bound, admin::config_manager_router(broker.clone(), tokens, &limits, hosts)?))
            }
        };
        let counters = broker.counters();
        let limiter = Arc::new(ConnectionLimiter::new(&self.limits, counters.clone()));
        let tls_timeout = self.limits.tls_timeout;
        let service = Arc::new(broker.clone()) as Arc<dyn Service>;
        let service = match self.around {
            Some(Around(around)) => around(service),
            None => service,
        };
        let front = Front::new(service, grpc, ws, self.limits, counters);
        for (tcp, tls) in bound {
            tls.as_ref().inspect(|tls| follow(tls));
            let listener = Listener { tcp, tls, limiter: limiter.clone(), tls_timeout };
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
            console: console_at,
            config_manager,
            tokens,
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
