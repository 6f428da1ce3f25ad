//! Accepting connections of administrators.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use ensync_core::report;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use super::answer::Answer;
use super::places::{Place, Places};
use crate::seldom::Seldom;
use crate::tls::ServerTls;

/// How many connections may be open: administrators are few, and whatever scrapes metrics.
pub(crate) const CONNECTIONS: usize = 128;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take over the head of an HTTP/1 request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How often HTTP/2 asks a silent client whether it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long what is under way may take when its connection ends.
const GRACE: Duration = Duration::from_secs(2);
/// How long to wait after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest head of a request over HTTP/2, what HTTP/1 reads at a time, and how many requests may be under way on a connection.
const LIMITS: (u32, usize, u32) = (16 << 10, 32 << 10, 16);

static FAILED: Seldom = Seldom::new();

/// A bound address, and what to serve there.
pub(crate) struct AdminListener {
    pub(crate) tcp: TcpListener,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) router: Router,
}

impl AdminListener {
    /// Accepts until `stop`. When there are as many connections as there may be, one makes room that does nothing, or that has shown no
    /// token: whoever opens connections shuts nobody out, whether he stays silent, sends slowly or takes no answer.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let places = Places::new(CONNECTIONS);
        loop {
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((tcp, remote)) => match places.take() {
                    Some(place) => {
                        let (tls, router, stop) = (self.tls.clone(), self.router.clone(), stop.clone());
                        tokio::spawn(async move {
                            let out = place.out();
                            tokio::select! {
                                () = accept(tcp, remote, tls, router, place, stop) => {}
                                () = out.cancelled() => tracing::debug!(%remote, "an admin connection made room"),
                            }
                        });
                    }
                    None => tracing::debug!(%remote, "admin connection refused: all are busy"),
                },
                Err(cause) => {
                    if let Some(times) = FAILED.due() {
                        tracing::warn!(%cause, times, "cannot accept an admin connection");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn accept(
    tcp: TcpStream,
    remote: SocketAddr,
    tls: Option<ServerTls>,
    router: Router,
    place: Place,
    stop: CancellationToken,
) {
    let Some(tls) = tls else { return serve(tcp, remote, router, place, stop).await };
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls.config()).accept(tcp));
    let handshake = tokio::select! {
        handshake = handshake => handshake,
        () = stop.cancelled() => return,
    };
    match handshake {
        Ok(Ok(stream)) => serve(stream, remote, router, place, stop).await,
        Ok(Err(cause)) => tracing::debug!(%remote, %cause, "admin TLS handshake failed"),
        Err(_) => tracing::debug!(%remote, "admin TLS handshake took too long"),
    }
}

async fn serve<S>(stream: S, remote: SocketAddr, router: Router, place: Place, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let place = Arc::new(place);
    let busy = place.clone();
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(remote);
        request.extensions_mut().insert(busy.clone());
        let (mut router, under_way) = (router.clone(), busy.begin());
        async move {
            let answer = router.call(request.map(Body::new)).await;
            // It is under way until the answer is sent: some answers last.
            answer.map(|response| response.map(|body| Answer::new(body, under_way)))
        }
    });
    let builder = builder();
    let connection = builder.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
        () = place.idle() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(cause) = served {
        tracing::debug!(%remote, cause = %report(&*cause), "admin connection ended");
    }
}

/// HTTP/1 and HTTP/2, with what a stranger may make us do.
fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(LIMITS.1);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .max_concurrent_streams(LIMITS.2)
        .max_header_list_size(LIMITS.0);
    builder
}
