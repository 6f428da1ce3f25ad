//! The client half: one HTTP/2 connection a link.

mod calls;
mod http2;
mod inbox;
mod link;
mod read;
mod rpc;
mod streams;
mod tap;
mod write;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ensync_client::{Dialer, Transports};
use ensync_core::{AppId, AppKey, ClientId, Connector, Endpoint, Error, ErrorKind, Link, Result, Scheme, Welcome};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::generated::{ConnectRequest, ConnectResponse};
use crate::status;
use http2::Http2;
use rpc::Rpc;
use tap::Tap;

/// The transports of this crate's [`Engine`](crate::Engine): gRPC alone.
#[derive(Debug)]
pub enum Grpc {}

impl Transports for Grpc {
    fn connector(to: &Endpoint, dialer: Dialer) -> Result<Arc<dyn Connector>> {
        served(to)?;
        Ok(Arc::new(GrpcConnector::new(dialer)))
    }
}

/// Makes gRPC links: each has an HTTP/2 connection of its own, which closes when the link is dropped.
///
/// Most programs never name it: [`Engine`](crate::Engine) uses one with the defaults.
#[derive(Clone, Debug)]
pub struct GrpcConnector {
    dialer: Dialer,
    options: Options,
}

#[derive(Clone, Copy, Debug)]
struct Options {
    max_message_bytes: usize,
    keep_alive_interval: Duration,
    keep_alive_timeout: Duration,
    subscribe_grace: Duration,
}

impl GrpcConnector {
    /// A connector that dials with `dialer`.
    pub fn new(dialer: Dialer) -> Self {
        let options = Options {
            max_message_bytes: 16 * 1024 * 1024,
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(10),
            subscribe_grace: Duration::from_secs(2),
        };
        Self { dialer, options }
    }

    /// The largest protobuf message that is sent or taken, in bytes. Default: 16 MiB.
    #[must_use]
    pub fn max_message_bytes(mut self, limit: usize) -> Self {
        self.options.max_message_bytes = limit;
        self
    }

    /// How long the connection may be silent before an HTTP/2 PING asks whether it is alive, and how long the answer may take
    /// before it counts as lost. Default: 30 s and 10 s.
    #[must_use]
    pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.options.keep_alive_interval = interval;
        self.options.keep_alive_timeout = timeout;
        self
    }

    /// How long to wait for the engine's word on a subscription. Many gRPC servers send the head of a stream only with its first
    /// event, so silence beyond this is taken as acceptance; a refusal that comes later ends the link. Default: 2 s.
    #[must_use]
    pub fn subscribe_grace(mut self, grace: Duration) -> Self {
        self.options.subscribe_grace = grace;
        self
    }

    /// Logs in over a stream that is open already: a proxy's tunnel, a test's pipe. `to` gives the name to ask for.
    ///
    /// # Errors
    ///
    /// As [`Connector::connect`], [`ErrorKind::Tls`] excepted.
    pub async fn connect_over<S>(&self, stream: S, to: &Endpoint, app_key: &AppKey) -> Result<Link>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        served(to)?;
        let (tap, seen) = Tap::new(stream);
        let http2 = Http2::open(tap, to, &self.options).await.map_err(|cause| seen.explain(to, Some(cause)))?;
        let rpc = Rpc::new(http2.channel.clone(), to, &self.options)?;
        let request = ConnectRequest { access_key: app_key.expose().to_owned(), ends_with_streams: true };
        // Nothing drives the connection yet but this: dropping the future closes it.
        let mut connection = http2.connection;
        let answer = tokio::select! {
            biased;
            answer = rpc.connect(request) => answer,
            ended = &mut connection => return Err(seen.explain(to, ended.err())),
        };
        let welcome = match answer {
            Ok(answer) => read_welcome(answer).map_err(|error| error.context(format_args!("log in to {to}")))?,
            Err(cause) if status::is_local(&cause) => return Err(seen.explain(to, Some(cause))),
            Err(refusal) => return Err(explain_refusal(to, &refusal)),
        };
        Ok(link::start(rpc, connection, seen, to, welcome, &self.options))
    }
}

#[async_trait]
impl Connector for GrpcConnector {
    async fn connect(&self, to: &Endpoint, app_key: &AppKey) -> Result<Link> {
        served(to)?;
        let stream = self.dialer.dial(to, &[b"h2"]).await?;
        self.connect_over(stream, to, app_key).await
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
        let refusal = Error::from_refusal(&answer.error_message);
        return Err(match refusal.kind() {
            // Another engine's words: at login they are about the key.
            ErrorKind::Refused => Error::new(ErrorKind::Unauthenticated, refusal.to_string()),
            _ => refusal,
        });
    }
    let client_id = ClientId::parse(&answer.client_id)
        .map_err(|cause| Error::new(ErrorKind::Protocol, "client_id is not one").with_source(cause))?;
    let app_id = AppId::parse(&answer.client_hash).ok();
    Ok(Welcome { client_id, app_id, config: answer.server_config.into_iter().collect() })
}

/// A gRPC status instead of an answer to the login.
fn explain_refusal(to: &Endpoint, refusal: &tonic::Status) -> Error {
    let error = status::from_status(refusal);
    match error.kind() {
        ErrorKind::Protocol => Error::new(
            ErrorKind::Protocol,
            format!("log in to {to}: what answers speaks HTTP/2 but is no EnSync engine (ensync.EnSyncService)"),
        )
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
    tokio::spawn(http2.connection);
    RawClient::with_origin(http2.channel, http::Uri::from_static("http://test"))
}
