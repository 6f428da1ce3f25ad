use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::heard::Heard;
use super::tls::rustls_error;

pub(super) type Tcp = Heard<TcpStream>;

/// What leads to an engine: TCP, or TLS to a proxy.
pub(super) type Carrier = Either<Tcp, Box<TlsStream<Tcp>>>;

/// An open connection: plain, or TLS; direct, or through a proxy's tunnel.
pub struct Stream(Kind);

enum Kind {
    Plain(Carrier),
    Tls(Box<TlsStream<Carrier>>),
}

impl Stream {
    pub(super) fn plain(carrier: Carrier) -> Self {
        Self(Kind::Plain(carrier))
    }

    pub(super) fn tls(tls: TlsStream<Carrier>) -> Self {
        Self(Kind::Tls(Box::new(tls)))
    }

    /// The protocol that TLS agreed on (ALPN, RFC 7301), if any.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.0 {
            Kind::Plain(_) => None,
            Kind::Tls(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Plain(_) => "Stream(plain)",
            Kind::Tls(_) => "Stream(tls)",
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Kind::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Kind::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Kind::Tls(tls) => Pin::new(&mut *tls).poll_write(cx, buf).map_err(|error| last_word(tls, cx, error)),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Kind::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Kind::Tls(tls) => {
                Pin::new(&mut *tls).poll_write_vectored(cx, bufs).map_err(|error| last_word(tls, cx, error))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Kind::Plain(tcp) => tcp.is_write_vectored(),
            Kind::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Kind::Tls(tls) => Pin::new(&mut *tls).poll_flush(cx).map_err(|error| last_word(tls, cx, error)),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Kind::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// What a failed write means: the other side's alert, if one has come and was not read yet, else `error`. Who sends an alert closes
/// at once, so a write may meet the closed connection before a read meets the alert.
fn last_word(tls: &mut TlsStream<Carrier>, cx: &mut Context<'_>, error: io::Error) -> io::Error {
    let mut byte = [0];
    match Pin::new(tls).poll_read(cx, &mut ReadBuf::new(&mut byte)) {
        Poll::Ready(Err(alert)) if rustls_error(&alert).is_some() => alert,
        _ => error,
    }
}
