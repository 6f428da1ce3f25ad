use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use ensync_core::{Endpoint, Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that remembers how the other side began and how it ended. HTTP/2 libraries keep that to themselves, and it is what
/// tells a wrong port from a lost connection.
#[derive(Debug)]
pub(super) struct Tap<S> {
    stream: S,
    seen: Seen,
}

/// What a [`Tap`] saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The first bytes, enough to know an HTTP/1 answer or a TLS record by.
    first: Vec<u8>,
    end: Option<End>,
}

#[derive(Clone, Debug)]
enum End {
    Eof,
    Broken(Arc<io::Error>),
}

const FIRST: usize = 5;

impl<S> Tap<S> {
    pub(super) fn new(stream: S) -> (Self, Seen) {
        let seen = Seen::default();
        (Self { stream, seen: seen.clone() }, seen)
    }
}

impl Seen {
    /// The error of a connection that failed before the login was answered. `cause` is what the HTTP/2 library said, if anything.
    pub(super) fn explain<E>(&self, to: &Endpoint, cause: Option<E>) -> Error
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let state = self.lock();
        if let Some(End::Broken(broken)) = &state.end
            && let Some(refusal) = ensync_client::tls_refusal(to, broken)
        {
            return refusal;
        }
        let why = match (state.first.as_slice(), &state.end) {
            (b"HTTP/", _) => {
                "the server answers in HTTP/1, not HTTP/2; is this a gRPC port? (a WebSocket engine is wss:// or ws://)"
            }
            // RFC 8446 §5.1: an alert or handshake record of TLS.
            ([0x15 | 0x16, 3, ..], _) => "the port speaks TLS; use grpcs://",
            ([], Some(End::Eof | End::Broken(_))) if to.tls() => {
                "the server closed the connection during the HTTP/2 handshake; is this a gRPC port?"
            }
            ([], Some(End::Eof | End::Broken(_))) => {
                "the server closed the connection during the HTTP/2 handshake; is this a gRPC port? does it want TLS (grpcs://)?"
            }
            // RFC 9113 §3.4: the first frame is SETTINGS, type 4.
            ([_, _, _, 4, ..], Some(End::Eof | End::Broken(_))) => "the connection was lost during the login",
            ([_, _, _, 4, ..], None) => "the HTTP/2 connection failed during the login",
            _ => "the server does not speak HTTP/2; is this a gRPC port?",
        };
        let error = Error::new(ErrorKind::Connect, format!("cannot connect to {to}: {why}"));
        match (&state.end, cause) {
            (Some(End::Broken(broken)), _) => error.with_source(broken.clone()),
            (_, Some(cause)) => error.with_source(cause),
            _ => error,
        }
    }

    /// Why a connection that had worked is gone.
    pub(super) fn ending(&self) -> io::Error {
        match &self.lock().end {
            Some(End::Broken(broken)) => io::Error::new(broken.kind(), broken.clone()),
            Some(End::Eof) => io::Error::new(io::ErrorKind::UnexpectedEof, "the engine closed the connection"),
            None => io::Error::other("the engine ended the HTTP/2 connection, or no longer answers on it"),
        }
    }

    fn read(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if bytes.is_empty() {
            state.end.get_or_insert(End::Eof);
        } else if state.first.len() < FIRST {
            let missing = FIRST - state.first.len();
            state.first.extend(bytes.iter().take(missing));
        }
    }

    /// Keeps a failure, and hands on one that says the same.
    fn broke(&self, error: io::Error) -> io::Error {
        let error = Arc::new(error);
        self.lock().end.get_or_insert(End::Broken(error.clone()));
        io::Error::new(error.kind(), error)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        Poll::Ready(match ready!(Pin::new(&mut this.stream).poll_read(cx, buf)) {
            Ok(()) => {
                this.seen.read(buf.filled().get(before..).unwrap_or_default());
                Ok(())
            }
            Err(error) => Err(this.seen.broke(error)),
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        Pin::new(&mut this.stream).poll_write(cx, buf).map_err(|error| this.seen.broke(error))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs).map_err(|error| this.seen.broke(error))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        Pin::new(&mut this.stream).poll_flush(cx).map_err(|error| this.seen.broke(error))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
