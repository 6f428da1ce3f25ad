//! One HTTP front door: gRPC and WebSocket share every port, told apart by the request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensync_core::{Service, report};
use ensync_grpc::{GrpcServer, Remote};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

/// How often HTTP/2 asks a silent client whether it is alive, and how long that may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// How long a client may take over the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Answers the requests of every connection.
#[derive(Clone)]
pub(super) struct Front {
    service: Arc<dyn Service>,
    grpc: GrpcServer,
    ws: ensync_ws::ServerOptions,
}

impl Front {
    pub(super) fn new(
        service: Arc<dyn Service>,
        grpc: ensync_grpc::ServerOptions,
        ws: ensync_ws::ServerOptions,
    ) -> Self {
        Self { grpc: ensync_grpc::server(service.clone(), grpc), service, ws }
    }

    /// Serves one connection until it ends, or until `stop`, when requests under way are finished first.
    pub(super) async fn serve<S>(self, stream: S, remote: SocketAddr, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .max_concurrent_streams(16_384)
            .initial_connection_window_size(4 << 20)
            .initial_stream_window_size(1 << 20);
        let answer = service_fn(move |request| {
            let front = self.clone();
            async move { Ok::<_, Infallible>(front.answer(request, remote).await) }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
        tokio::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(cause) = served {
            tracing::debug!(%remote, cause = %report(&*cause), "connection ended");
        }
    }

    async fn answer(mut self, mut request: Request<Incoming>, remote: SocketAddr) -> Response<Body> {
        let grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if grpc {
            request.extensions_mut().insert(Remote(remote));
            let Ok(response) = self.grpc.call(request).await;
            return response.map(|body| body.map_err(BoxError::from).boxed_unsync());
        }
        if request.uri().path().trim_end_matches('/').ends_with("/message") {
            return ensync_ws::upgrade(request, Some(remote), self.service, self.ws).map(full);
        }
        let status =
            if request.method() == Method::GET { StatusCode::NOT_FOUND } else { StatusCode::METHOD_NOT_ALLOWED };
        let text = "This is an EnSync engine: gRPC at /ensync.EnSyncService/, WebSocket at /message.\n";
        let mut response = Response::new(full(Full::new(Bytes::from_static(text.as_bytes()))));
        *response.status_mut() = status;
        response
    }
}

fn full(body: Full<Bytes>) -> Body {
    body.map_err(|never| match never {}).boxed_unsync()
}
