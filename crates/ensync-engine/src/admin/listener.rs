//! Accepting connections of administrators.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ensync_core::report;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ServerTls;

/// How many connections may be open: administrators are few, and whatever scrapes metrics.
const CONNECTIONS: usize = 128;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take over the head of a request, and stay silent between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound address, and what to serve there.
pub(crate) struct AdminListener {
    pub(crate) tcp: TcpListener,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) router: Router,
}

impl AdminListener {
    /// Accepts until `stop`; each connection is a task of `connections`. When there are enough, others wait to be accepted.
    pub(crate) async fn run(self, connections: TaskTracker, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = async {
                // Nobody closes the semaphore.
                let permit = room.clone().acquire_owned().await.ok()?;
                Some((permit, self.tcp.accept().await))
            };
            let accepted = tokio::select! {
                accepted = accepted => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Some((permit, Ok((tcp, remote)))) => {
                    let (tls, router, stop) = (self.tls.clone(), self.router.clone(), stop.clone());
                    connections.spawn(async move {
                        accept(tcp, remote, tls, router, stop).await;
                        drop(permit);
                    });
                }
                Some((_, Err(cause))) => {
                    tracing::warn!(%cause, "cannot accept an admin connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                None => return,
            }
        }
    }
}

async fn accept(tcp: TcpStream, remote: SocketAddr, tls: Option<ServerTls>, router: Router, stop: CancellationToken) {
    let Some(tls) = tls else { return serve(tcp, remote, router, stop).await };
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls.config()).accept(tcp));
    let handshake = tokio::select! {
        handshake = handshake => handshake,
        () = stop.cancelled() => return,
    };
    match handshake {
        Ok(Ok(stream)) => serve(stream, remote, router, stop).await,
        Ok(Err(cause)) => tracing::debug!(%remote, %cause, "admin TLS handshake failed"),
        Err(_) => tracing::debug!(%remote, "admin TLS handshake took too long"),
    }
}

async fn serve<S>(stream: S, remote: SocketAddr, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_TIMEOUT).max_concurrent_streams(16);
    // Handlers may ask where a request comes from.
    let router = router.layer(axum::Extension(remote));
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(cause) = served {
        tracing::debug!(%remote, cause = %report(&*cause), "admin connection ended");
    }
}
