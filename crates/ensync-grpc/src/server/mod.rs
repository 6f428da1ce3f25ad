//! The server half: a tower service for a gRPC request of any connection.

mod budget;
mod connection;
mod handler;
mod read;
mod replay;
mod room;
mod session;
mod sessions;
mod streams;

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use ensync_core::{Error, ErrorKind, Service};
use futures::future::BoxFuture;
use http_body::Body as HttpBody;
use tonic::body::Body;

use crate::generated::en_sync_service_server::EnSyncServiceServer;
use crate::status;
use budget::{Answer, Charged, Memory, OneMessage, Pool, over_budget, request_bytes};
pub use connection::Connection;
use handler::Handler;
use sessions::Sessions;

/// The gRPC service of an engine, for any hyper HTTP/2 server.
///
/// All connections of an engine share one: clone it for each. Sessions are named in the requests and are not bound to a connection.
///
/// The server around it should put a [`Connection`] into every request's extensions, end connections that are
/// [idle](Connection::idle), ping the others (HTTP/2 keep-alive) so that the streams of clients that are gone end, and allow more
/// concurrent streams a connection than hyper's 200: every subscription is one.
///
/// A session belongs to whoever knows its id, 192 random bits that the engine gave to one login, until it is ended or silent for
/// [`session_timeout`](ServerOptions::session_timeout). It is not bound to the connection, the address or the client's certificate:
/// gRPC libraries open a new connection under a running session as they see fit, over another address family or through another
/// node of a load balancer, and the published clients would lose their sessions by it.
///
/// Of a client that is gone without a word the session ends sooner, 35 to 45 s after the last connection that carried a call of it,
/// where the listener says which one that was.
///
/// What requests that are under way hold is limited, 16 KiB for the stream of each included, from its head until the client has
/// taken the answer: on a connection to 64 MiB once one of its calls used a session, and to
/// [`memory_bytes`](ServerOptions::memory_bytes) on all of those; before that to 64 KiB, and what goes beyond it, such as a large
/// publish as the first call of a connection, to [`strangers_bytes`](ServerOptions::strangers_bytes) on all. The stream of a
/// subscription counts towards the former only. A call that would hold more is refused with [`ErrorKind::LimitExceeded`].
pub fn server(service: Arc<dyn Service>, options: ServerOptions) -> GrpcServer {
    let sessions = Arc::new(Sessions::new(service, options.session_timeout));
    let memory = Memory { known: Pool::new(options.memory_bytes), strangers: Pool::new(options.strangers_bytes) };
    let handler = Handler::new(sessions, memory.clone(), options.max_metadata_bytes);
    let server = EnSyncServiceServer::new(handler).max_decoding_message_size(options.max_message_bytes);
    GrpcServer { server, memory, options }
}

/// The answer to a gRPC request that is not looked at: [`ErrorKind::LimitExceeded`], with a text that says what to do.
pub fn refusal(text: &'static str) -> http::Response<Body> {
    status::to_status(&Error::new(ErrorKind::LimitExceeded, text)).into_http()
}

/// Settings of the gRPC service.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// How long a session may have no stream and send nothing before it is logged out. Default: 90 s, three missed heartbeats.
    pub session_timeout: Duration,
    /// The largest protobuf message that is taken, in bytes. Default: 16 MiB.
    pub max_message_bytes: usize,
    /// The longest metadata of an event that is read, in bytes: longer is refused unread. Default: any that a message has room for.
    pub max_metadata_bytes: usize,
    /// How long a call's message may take to arrive. Default: 2 minutes.
    pub message_timeout: Duration,
    /// What requests may hold, in bytes, on connections that have used no session, all of them together, beside 64 KiB of each.
    /// Default: 128 MiB.
    pub strangers_bytes: usize,
    /// What requests may hold, in bytes, on connections that have used a session, all of them together. Default: 1 GiB, which is room
    /// for 65,536 subscriptions.
    pub memory_bytes: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(90),
            max_message_bytes: 16 * 1024 * 1024,
            max_metadata_bytes: usize::MAX,
            message_timeout: Duration::from_secs(120),
            strangers_bytes: 128 * 1024 * 1024,
            memory_bytes: 1024 * 1024 * 1024,
        }
    }
}

/// The gRPC service of an engine: see [`server`].
#[derive(Clone)]
pub struct GrpcServer {
    server: EnSyncServiceServer<Handler>,
    memory: Memory,
    options: ServerOptions,
}

impl<B> tower_service::Service<http::Request<B>> for GrpcServer
where
    B: HttpBody<Data: AsRef<[u8]>> + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let extensions = request.extensions_mut();
        let connection = extensions.get_or_insert_with(Connection::unknown).clone();
        let Some(head) = connection.take(request_bytes(request.uri(), request.headers()), &self.memory) else {
            return Box::pin(std::future::ready(Ok(over_budget().into_http())));
        };
        let stream = request.uri().path().ends_with("/Subscribe");
        let held = Arc::new(OnceLock::new());
        let (of, memory) = (connection.clone(), self.memory.clone());
        let request = request.map(|body| {
            let ServerOptions { max_message_bytes, message_timeout, .. } = self.options;
            OneMessage::new(body, connection, self.memory.clone(), held.clone(), max_message_bytes, message_timeout)
        });
        let answer = tower_service::Service::call(&mut self.server, request);
        Box::pin(async move {
            let mut answer = answer.await?;
            // What the message holds is in the command as long as that is under way.
            drop(held);
            let bytes = answer.extensions_mut().remove::<Answer>();
            let head = if stream { head.for_long(&of, &memory) } else { head };
            Ok(answer.map(|body| Body::new(Charged::new(body, head, bytes))))
        })
    }
}

impl fmt::Debug for GrpcServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcServer").finish_non_exhaustive()
    }
}
