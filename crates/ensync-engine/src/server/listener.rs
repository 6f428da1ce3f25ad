//! Accepting connections.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ServerTls;
use super::http::Front;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client that was refused may take to read why.
const LINGER: Duration = Duration::from_secs(2);
/// How long to wait after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound address, and what to speak there.
pub(super) struct Listener {
    pub(super) tcp: TcpListener,
    pub(super) tls: Option<ServerTls>,
}

impl Listener {
    /// Accepts until `stop`; each connection is a task of `connections`.
    pub(super) async fn run(self, front: Front, connections: TaskTracker, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((tcp, remote)) => {
                    let connection = serve(front.clone(), tcp, remote, self.tls.clone(), stop.clone());
                    connections.spawn(connection);
                }
                Err(cause) => {
                    tracing::warn!(%cause, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve(front: Front, tcp: TcpStream, remote: SocketAddr, tls: Option<ServerTls>, stop: CancellationToken) {
    if let Err(cause) = tcp.set_nodelay(true) {
        tracing::debug!(%remote, %cause, "TCP_NODELAY is not to be had");
    }
    let Some(tls) = tls else { return front.serve(tcp, remote, stop).await };
    let handshake = TlsAcceptor::from(tls.config).accept(tcp).into_fallible();
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake);
    let handshake = tokio::select! {
        handshake = handshake => handshake,
        () = stop.cancelled() => return,
    };
    match handshake {
        Ok(Ok(stream)) => front.serve(stream, remote, stop).await,
        Ok(Err((cause, tcp))) => {
            tracing::debug!(%remote, %cause, "TLS handshake failed");
            let _ = tokio::time::timeout(LINGER, hang_up(tcp)).await;
        }
        Err(_) => tracing::debug!(%remote, "TLS handshake took too long"),
    }
}

/// Closes a connection on which the last word, a TLS alert, was said. Closing at once, with input unread, would make TCP drop what
/// the client has not read yet.
async fn hang_up(mut tcp: TcpStream) -> io::Result<()> {
    poll_fn(|cx| Pin::new(&mut tcp).poll_shutdown(cx)).await?;
    let mut rest = vec![0; 1024];
    loop {
        tcp.readable().await?;
        match tcp.try_read(&mut rest) {
            Ok(0) => return Ok(()),
            Err(cause) if cause.kind() != io::ErrorKind::WouldBlock => return Err(cause),
            _ => {}
        }
    }
}
