//! The server half: a tower service for a gRPC request of any connection.

mod handler;
mod read;
mod replay;
mod session;
mod sessions;
mod streams;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ensync_core::Service;
use futures::future::BoxFuture;
use http_body::Body as HttpBody;
use tonic::body::Body;

use crate::generated::en_sync_service_server::EnSyncServiceServer;
use handler::Handler;
use sessions::Sessions;

/// The gRPC service of an engine, for any hyper HTTP/2 server.
///
/// All connections of an engine share one: clone it for each. Sessions are named in the requests and are not bound to a connection.
///
/// The server around it should put a [`Remote`] into every request's extensions, ping idle connections (HTTP/2 keep-alive) so
/// that the streams of clients that are gone end, and allow more concurrent streams a connection than hyper's 200: every
/// subscription is one.
pub fn server(service: Arc<dyn Service>, options: ServerOptions) -> GrpcServer {
    let sessions = Arc::new(Sessions::new(service, options.session_timeout));
    let server = EnSyncServiceServer::new(Handler::new(sessions)).max_decoding_message_size(options.max_message_bytes);
    GrpcServer(server)
}

/// Settings of the gRPC service.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// How long a session may have no stream and send nothing before it is logged out. Default: 90 s, three missed heartbeats.
    pub session_timeout: Duration,
    /// The largest protobuf message that is taken, in bytes. Default: 16 MiB.
    pub max_message_bytes: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { session_timeout: Duration::from_secs(90), max_message_bytes: 16 * 1024 * 1024 }
    }
}

/// Where a request came from: an extension of the request, which the listener inserts. Without it a login has no remote address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote(pub SocketAddr);

/// The gRPC service of an engine: see [`server`].
#[derive(Clone)]
pub struct GrpcServer(EnSyncServiceServer<Handler>);

impl<B> tower_service::Service<http::Request<B>> for GrpcServer
where
    B: HttpBody + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        tower_service::Service::call(&mut self.0, request)
    }
}

impl fmt::Debug for GrpcServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcServer").finish_non_exhaustive()
    }
}
