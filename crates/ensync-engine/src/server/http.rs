//! One HTTP front door: gRPC and WebSocket share every port, told apart by the request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use ensync_core::{Service, report};
use ensync_grpc::{Connection, GrpcServer};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use super::ConnectionLimits;
use super::connection_limiter::{Kind, Permit, Refusal};
use crate::counters::ConnectionCounters;

/// How often HTTP/2 asks a silent client whether it is alive, and how long that may take: the PING stands behind what is delivered, some
/// MiB, which a slow network takes a minute for.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(90));
/// How long a client may take over the head of an HTTP/1 request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// When the engine stops: how long a connection may stay on which nothing is under way. It was told, and there is nothing to wait for.
const FAREWELL: Duration = Duration::from_millis(500);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long requests under way may take when their connection is ended for its idleness.
const GRACE: Duration = Duration::from_secs(2);
/// The longest head of a request, in bytes. What our clients and the peers send has a few hundred.
const MAX_HEAD: u32 = 8 << 10;
/// What HTTP/1 reads at a time, in bytes: the head has to fit.
const READ_BUFFER: usize = 16 << 10;
/// Streams that may be open on a connection: every subscription is one, and behind a proxy those of several clients. What they hold
/// in all is the gRPC service's to limit.
const STREAMS: u32 = 4_096;
/// What may be under way to us, in bytes: on a connection, and on a stream.
const WINDOWS: (u32, u32) = (4 << 20, 1 << 20);
/// How many streams a client may have reset before we looked at them, and have made us reset. One more ends the connection
/// (CVE-2023-44487 and CVE-2025-8671). An honest client resets some when its user gives up on calls.
const RESETS: (usize, usize) = (64, 256);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Answers the requests of every connection.
#[derive(Clone)]
pub(super) struct Front {
    service: Arc<dyn Service>,
    grpc: GrpcServer,
    ws: ensync_ws::ServerOptions,
    limits: ConnectionLimits,
    counters: Arc<ConnectionCounters>,
}

impl Front {
    pub(super) fn new(
        service: Arc<dyn Service>,
        grpc: ensync_grpc::ServerOptions,
        ws: ensync_ws::ServerOptions,
        limits: ConnectionLimits,
        counters: Arc<ConnectionCounters>,
    ) -> Self {
        Self { grpc: ensync_grpc::server(service.clone(), grpc), service, ws, limits, counters }
    }

    /// Serves one connection until it ends, or until `stop`, when requests under way are finished first; or until nobody uses it.
    pub(super) async fn serve<S>(self, stream: S, remote: SocketAddr, permit: Arc<Permit>, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let client = Connection::new(Some(remote));
        let idle = client.idle(self.limits.login_timeout, self.limits.idle_timeout);
        let counters = self.counters.clone();
        let under_way = Arc::<AtomicUsize>::default();
        let count = under_way.clone();
        let answer = service_fn(move |request| {
            let (front, client, permit) = (self.clone(), client.clone(), permit.clone());
            let begun = UnderWay::new(&count);
            async move {
                let response = front.answer(request, remote, client, &permit).await;
                Ok::<_, Infallible>(response.map(|body| Counted { body, _under_way: begun }))
            }
        });
        let builder = builder();
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
        tokio::pin!(connection, idle);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    served = connection => served,
                    () = farewell(&under_way) => Ok(()),
                }
            }
            () = idle => {
                counters.timed_out.up();
                tracing::debug!(%remote, "connection ended: no request used a session in time");
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(cause) = served {
            tracing::debug!(%remote, cause = %report(&*cause), "connection ended");
        }
    }

    /// Answers each request of a connection with why there is no place for it. Ends when the client does.
    pub(super) async fn refuse<S>(self, stream: S, refusal: Refusal)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let answer = service_fn(move |request: Request<Incoming>| async move {
            Ok::<_, Infallible>(if is_grpc(&request) {
                ensync_grpc::refusal(refusal.text()).map(|body| body.map_err(BoxError::from).boxed_unsync())
            } else {
                say(StatusCode::SERVICE_UNAVAILABLE, refusal.text())
            })
        });
        if let Err(cause) = builder().serve_connection(TokioIo::new(stream), answer).await {
            tracing::debug!(cause = %report(&*cause), "refused connection ended");
        }
    }

    async fn answer(
        mut self,
        mut request: Request<Incoming>,
        remote: SocketAddr,
        client: Connection,
        permit: &Permit,
    ) -> Response<Body> {
        if is_grpc(&request) {
            permit.speaks(Kind::Grpc);
            request.extensions_mut().insert(client);
            let Ok(response) = self.grpc.call(request).await;
            return response.map(|body| body.map_err(BoxError::from).boxed_unsync());
        }
        if asks_for_web_socket(&request) {
            let response = ensync_ws::upgrade(request, Some(remote), self.service, self.ws);
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                permit.speaks(Kind::WebSocket);
            }
            return response.map(full);
        }
        let status =
            if request.method() == Method::GET { StatusCode::NOT_FOUND } else { StatusCode::METHOD_NOT_ALLOWED };
        say(status, "This is an EnSync engine: gRPC at /ensync.EnSyncService/, WebSocket at /message and at /.")
    }
}

/// Returns when nothing was under way on a connection for a while.
async fn farewell(under_way: &AtomicUsize) {
    let mut quiet = Duration::ZERO;
    while quiet < FAREWELL {
        tokio::time::sleep(LOOK).await;
        quiet = if under_way.load(Ordering::Relaxed) == 0 { quiet + LOOK } else { Duration::ZERO };
    }
}

/// A request that was begun, until its answer is sent.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer.
struct Counted {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// HTTP/1 and HTTP/2, with what a stranger may make us do.
fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(READ_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(MAX_HEAD)
        .max_pending_accept_reset_streams(RESETS.0)
        .max_local_error_reset_streams(RESETS.1)
        .initial_connection_window_size(WINDOWS.0)
        .initial_stream_window_size(WINDOWS.1);
    builder
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Whether it is for the WebSocket half: at `/message`, behind whatever a proxy puts before it, or at `/`, where the Go client dials.
/// At `/` only what asks for an upgrade counts; whoever looks there with a browser is told what this is.
fn asks_for_web_socket<B>(request: &Request<B>) -> bool {
    let path = request.uri().path().trim_end_matches('/');
    path.ends_with("/message") || (path.is_empty() && request.headers().contains_key(header::UPGRADE))
}

fn say(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(Full::new(Bytes::from(format!("{text}\n")))));
    *response.status_mut() = status;
    response
}

fn full(body: Full<Bytes>) -> Body {
    body.map_err(|never| match never {}).boxed_unsync()
}
