//! Accepting connections.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ensync_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection_limiter::{ConnectionLimiter, Refusal};
use super::http::Front;
use super::stream::Admitted;
use crate::seldom::Seldom;
use crate::tls::ServerTls;

/// How long a client that was refused may take to read why.
const LINGER: Duration = Duration::from_secs(2);
/// How long to wait after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many clients are told at a time why they are refused. Further ones just see their connection end.
pub(super) const REFUSALS: usize = 64;

static FAILED: Seldom = Seldom::new();

/// A bound address, and what to speak there.
pub(super) struct Listener {
    pub(super) tcp: TcpListener,
    pub(super) tls: Option<ServerTls>,
    pub(super) limiter: Arc<ConnectionLimiter>,
    pub(super) tls_timeout: Duration,
}

/// Refuses to listen where others hear, without TLS, unless that was asked for. `what` is what would listen there.
pub(crate) fn check_plaintext(what: &str, address: SocketAddr, allowed: bool) -> Result<()> {
    if allowed || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!(
            "{what} would listen on {address} without TLS, where keys can be read off the network; give it a certificate, listen on \
             a loopback address, or allow plaintext (--insecure) if something in front does TLS"
        ),
    ))
}

impl Listener {
    /// Accepts until `stop`; each connection is a task of `connections`.
    pub(super) async fn run(self, front: Front, connections: TaskTracker, stop: CancellationToken) {
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        loop {
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let (tcp, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(cause) => {
                    if let Some(times) = FAILED.due() {
                        tracing::warn!(%cause, times, "cannot accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match self.limiter.admit(remote) {
                Ok(permit) => {
                    let (front, stop) = (front.clone(), stop.clone());
                    let (limiter, timeout) = (self.limiter.clone(), self.tls_timeout);
                    let tls = self.tls.clone();
                    connections.spawn(async move {
                        let permit = Arc::new(permit);
                        let tcp = Admitted::new(no_delay(tcp, remote), permit.clone());
                        let Some(tls) = tls else { return front.serve(tcp, remote, permit, stop).await };
                        match handshake(&tls, tcp, remote, timeout, &stop).await {
                            Some(stream) => front.serve(stream, remote, permit, stop).await,
                            None => limiter.counters().tls_failed.up(),
                        }
                    });
                }
                Err(refusal) => {
                    tracing::debug!(%remote, refusal = refusal.text(), "connection refused");
                    if let Ok(turn) = refusals.clone().try_acquire_owned() {
                        let (front, stop) = (front.clone(), stop.clone());
                        let tls = self.tls.clone();
                        connections.spawn(async move {
                            _ = tokio::time::timeout(LINGER, refuse(front, tcp, remote, tls, refusal, stop)).await;
                            drop(turn);
                        });
                    }
                }
            }
        }
    }
}

async fn refuse(
    front: Front,
    tcp: TcpStream,
    remote: SocketAddr,
    tls: Option<ServerTls>,
    refusal: Refusal,
    stop: CancellationToken,
) {
    match tls {
        None => front.refuse(tcp, refusal).await,
        Some(tls) => {
            if let Some(stream) = handshake(&tls, tcp, remote, LINGER, &stop).await {
                front.refuse(stream, refusal).await;
            }
        }
    }
}

fn no_delay(tcp: TcpStream, remote: SocketAddr) -> TcpStream {
    if let Err(cause) = tcp.set_nodelay(true) {
        tracing::debug!(%remote, %cause, "TCP_NODELAY is not to be had");
    }
    tcp
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &ServerTls,
    tcp: S,
    remote: SocketAddr,
    within: Duration,
    stop: &CancellationToken,
) -> Option<tokio_rustls::server::TlsStream<S>> {
    let handshake = TlsAcceptor::from(tls.config()).accept(tcp).into_fallible();
    let handshake = tokio::time::timeout(within, handshake);
    let handshake = tokio::select! {
        handshake = handshake => handshake,
        () = stop.cancelled() => return None,
    };
    match handshake {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err((cause, tcp))) => {
            tracing::debug!(%remote, %cause, "TLS handshake failed");
            _ = tokio::time::timeout(LINGER, hang_up(tcp)).await;
        }
        Err(_) => tracing::debug!(%remote, "TLS handshake took too long"),
    }
    None
}

/// Closes a connection on which the last word, a TLS alert, was said. Closing at once, with input unread, would make TCP drop what
/// the client has not read yet.
async fn hang_up<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    use tokio::io::AsyncReadExt as _;
    poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await?;
    let mut rest = vec![0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_is_for_this_machine() {
        for (address, good) in [
            ("127.0.0.1:80", true),
            ("127.8.0.1:80", true),
            ("[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("0.0.0.0:80", false),
            ("[::]:80", false),
            ("192.168.0.1:80", false),
            ("[fe80::1]:80", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            check_plaintext("the engine", address, true).unwrap();
            let checked = check_plaintext("the engine", address, false);
            assert_eq!(checked.is_ok(), good, "{address}");
            if let Err(error) = checked {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains(&address.to_string()), "{error}");
            }
        }
    }
}
