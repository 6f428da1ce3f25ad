//! The client half: one HTTP/2 connection a link.

mod answers;
mod calls;
mod connection;
mod frames;
mod gateway;
mod http2;
mod inbox;
mod link;
mod observed;
mod outcome;
mod read;
mod rpc;
mod streams;
mod write;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ensync_client::{Dialer, Transports};
use ensync_core::{
    AppId, AppKey, ClientId, Connector, Endpoint, Error, ErrorKind, Link, Result, Scheme, ServerConfig, Welcome,
};
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::generated::{ConnectRequest, ConnectResponse};
use crate::status;
use connection::{Connection, Redial};
use http2::Http2;
use observed::{Observation, ObservedIo};
use rpc::Rpc;

/// The transports of this crate's [`Engine`](crate::Engine): gRPC alone.
#[derive(Debug)]
pub enum Grpc {}

impl Transports for Grpc {
    fn connector(to: &Endpoint, dialer: Dialer) -> Result<Arc<dyn Connector>> {
        served(to)?;
        Ok(Arc::new(GrpcConnector::new(dialer)))
    }
}

/// Makes gRPC links: each has an HTTP/2 connection of its own, which closes when the link is dropped. Where the server ends that in
/// good order (GOAWAY without an error, as proxies do from time to time), the link makes the next one at once and goes on.
///
/// Most programs never name it: [`Engine`](crate::Engine) uses one with the defaults.
#[derive(Clone, Debug)]
pub struct GrpcConnector {
    dialer: Dialer,
    options: Options,
}

#[derive(Clone, Copy, Debug)]
struct Options {
    /// What the program asked for.
    max_message_bytes: Option<usize>,
    keep_alive_interval: Duration,
    keep_alive_timeout: Duration,
    subscribe_grace: Duration,
}

/// The largest message that is taken whatever the engine announces: as much as any published client takes.
const LEAST_MESSAGE: usize = 6 << 20;
/// The same where it announces nothing.
const USUAL_MESSAGE: usize = 16 << 20;
/// What no announcement goes beyond: a message is in memory as a whole.
const MOST_MESSAGE: usize = 64 << 20;
/// What a message has beside the payload: metadata, which a replay carries as text within text, names, keys.
const MESSAGE_OVERHEAD: usize = 1 << 20;

/// How long the answer to a PING may take: 10 s, and what the windows of HTTP/2 and the system's buffers hold, 5 MiB, at 64 KiB/s.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10 + (5 << 20) / (64 << 10));

impl Options {
    /// The largest message for an engine with these announcements.
    fn max_message(&self, config: &ServerConfig) -> usize {
        self.max_message_bytes.unwrap_or_else(|| match config.max_payload_bytes() {
            Some(payload) => payload.saturating_add(MESSAGE_OVERHEAD).clamp(LEAST_MESSAGE, MOST_MESSAGE),
            None => USUAL_MESSAGE,
        })
    }
}

impl GrpcConnector {
    /// A connector that dials with `dialer`.
    pub fn new(dialer: Dialer) -> Self {
        let options = Options {
            max_message_bytes: None,
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: KEEP_ALIVE_TIMEOUT,
            subscribe_grace: Duration::from_secs(2),
        };
        Self { dialer, options }
    }

    /// The largest protobuf message that is sent or taken, in bytes. Default: what the engine announces as its largest payload and
    /// 1 MiB more, within 6 MiB and 64 MiB; 16 MiB for an engine that announces nothing.
    #[must_use]
    pub fn max_message_bytes(mut self, limit: usize) -> Self {
        self.options.max_message_bytes = Some(limit);
        self
    }

    /// How long the connection may be silent before an HTTP/2 PING asks whether it is alive, and how long the answer may take
    /// before it counts as lost. Default: 30 s and 90 s: a PING stands behind what is being uploaded, and this is only the last
    /// resort for connections that nobody else looks after. The client's session notices a dead link far sooner, by what it
    /// asks and by what is on its way.
    #[must_use]
    pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.options.keep_alive_interval = interval;
        self.options.keep_alive_timeout = timeout;
        self
    }

    /// How long to wait for the word on a subscription of an engine that announces no extension. Many gRPC servers send the head of a
    /// stream only with its first event, so silence beyond this is taken as consent; a refusal that comes later ends the
    /// subscription. Default: 2 s.
    #[must_use]
    pub fn subscribe_grace(mut self, grace: Duration) -> Self {
        self.options.subscribe_grace = grace;
        self
    }

    /// Logs in over a stream that is open already: a proxy's tunnel, a test's pipe. `to` gives the name to ask for. A link over it
    /// cannot open another, and so ends when the server says goodbye to the connection.
    ///
    /// # Errors
    ///
    /// As [`Connector::connect`], [`ErrorKind::Tls`] excepted.
    pub async fn connect_over<S>(&self, stream: S, to: &Endpoint, app_key: &AppKey) -> Result<Link>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        served(to)?;
        let opened = open(stream, to, &self.options).await?;
        self.log_in(opened, to, app_key, None).await
    }

    async fn log_in(
        &self,
        (http2, seen): (Http2, Observation),
        to: &Endpoint,
        app_key: &AppKey,
        redial: Option<Redial>,
    ) -> Result<Link> {
        let rpc = Rpc::new(http2.channel.clone(), to, LEAST_MESSAGE)?;
        let request = ConnectRequest { access_key: app_key.expose().to_owned(), ends_with_streams: true };
        // Nothing drives the connection yet but this: dropping the future closes it.
        let mut driver = http2.driver;
        let answer = tokio::select! {
            biased;
            answer = rpc.connect(request) => answer,
            ended = &mut driver => return Err(seen.explain(to, ended.err())),
        };
        let welcome = match answer {
            Ok(answer) => read_welcome(answer).map_err(|error| error.context(format_args!("log in to {to}")))?,
            Err(status) => return Err(explain(to, &seen, status)),
        };
        let rpc = rpc.taking(http2.channel, self.options.max_message(&welcome.config));
        Ok(link::start(Connection::new(rpc, seen), driver, redial, to, welcome, &self.options))
    }
}

async fn open<S>(stream: S, to: &Endpoint, options: &Options) -> Result<(Http2, Observation)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (io, seen) = ObservedIo::new(stream);
    let http2 = Http2::open(io, to, options).await.map_err(|cause| seen.explain(to, Some(cause)))?;
    Ok((http2, seen))
}

#[async_trait]
impl Connector for GrpcConnector {
    async fn connect(&self, to: &Endpoint, app_key: &AppKey) -> Result<Link> {
        served(to)?;
        let (dialer, options, endpoint) = (self.dialer.clone().of_this_attempt(), self.options, to.clone());
        let dial: Redial = Arc::new(move || {
            let (dialer, endpoint) = (dialer.clone(), endpoint.clone());
            async move {
                let stream = dialer.dial(&endpoint, &[b"h2"]).await?;
                open(stream, &endpoint, &options).await
            }
            .boxed()
        });
        self.log_in(dial().await?, to, app_key, Some(dial)).await
    }
}

fn served(to: &Endpoint) -> Result<()> {
    match to.scheme() {
        Scheme::Grpc => Ok(()),
        Scheme::WebSocket => Err(Error::new(
            ErrorKind::InvalidUrl,
            format!(
                "{to} is a WebSocket URL and ensync-grpc speaks gRPC; use grpcs:// or grpc://, the crate ensync-ws, or ensync-sdk \
                 with its feature `ws`"
            ),
        )),
    }
}

fn read_welcome(answer: ConnectResponse) -> Result<Welcome> {
    if !answer.success {
        return Err(Error::from_login_refusal(&answer.error_message));
    }
    let client_id = ClientId::parse(&answer.client_id)
        .map_err(|cause| Error::new(ErrorKind::Protocol, "client_id is not one").with_source(cause))?;
    let app_id = AppId::parse(&answer.client_hash).ok();
    Ok(Welcome { client_id, app_id, config: answer.server_config.into_iter().collect() })
}

/// A status instead of an answer to the login.
fn explain(to: &Endpoint, seen: &Observation, status: tonic::Status) -> Error {
    if let Some(page) = outcome::page(&status) {
        return page.error_of_login().context(format_args!("log in to {to}"));
    }
    if let Some(error) = outcome::unreadable(&status) {
        return error.context(format_args!("log in to {to}"));
    }
    if status::is_local(&status) {
        return seen.explain(to, Some(status));
    }
    let error = status::from_status(&status);
    match error.kind() {
        ErrorKind::Protocol | ErrorKind::Unsupported => Error::new(
            ErrorKind::Protocol,
            format!("log in to {to}: what answers speaks HTTP/2 but is no EnSync engine (ensync.EnSyncService)"),
        )
        .said_on_the_way()
        .with_source(error),
        _ => error.context(format_args!("log in to {to}")),
    }
}

/// The generated client over a stream, for tests that speak as a peer does.
#[cfg(test)]
#[cfg(feature = "server")]
pub(crate) type RawClient = crate::generated::en_sync_service_client::EnSyncServiceClient<http2::Channel>;

/// Such a client. It has our user agent where a request names none.
#[cfg(test)]
#[cfg(feature = "server")]
pub(crate) async fn raw<S>(stream: S) -> RawClient
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let options = GrpcConnector::new(Dialer::default()).options;
    let http2 = Http2::open(stream, &Endpoint::parse("grpc://test").unwrap(), &options).await.unwrap();
    tokio::spawn(http2.driver);
    RawClient::with_origin(http2.channel, http::Uri::from_static("http://test"))
}
