use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use ensync_core::{Endpoint, Error, ErrorKind};
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frames::Frames;

/// A stream that remembers how the other side began, when it was last heard of, and how it ended; and that can be ended from
/// outside. HTTP/2 libraries keep all of that to themselves.
#[derive(Debug)]
pub(super) struct ObservedIo<S> {
    stream: S,
    /// The first bytes, enough to know an HTTP/1 answer or a TLS record by.
    first: Vec<u8>,
    frames: Frames,
    seen: Observation,
}

/// What a [`ObservedIo`] saw.
#[derive(Clone, Debug)]
pub(super) struct Observation(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    /// Milliseconds from `start` to the last byte that came.
    heard: AtomicU64,
    /// Where the link counts the bytes that come over all its connections.
    received: OnceLock<Arc<AtomicU64>>,
    /// The other side said goodbye, and for no error of ours.
    leaving: CancellationToken,
    /// It said goodbye for an error.
    failed: CancellationToken,
    /// The stream was let go of.
    closed: CancellationToken,
    cut: AtomicBool,
    /// The task that reads and writes: HTTP/2 has one.
    task: AtomicWaker,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    first: Vec<u8>,
    /// The code of a goodbye that was about an error.
    code: Option<u32>,
    end: Option<End>,
}

#[derive(Clone, Debug)]
enum End {
    Eof,
    Broken(Arc<io::Error>),
}

const FIRST: usize = 5;

impl<S> ObservedIo<S> {
    pub(super) fn new(stream: S) -> (Self, Observation) {
        let shared = Shared {
            start: Instant::now(),
            heard: AtomicU64::new(0),
            received: OnceLock::new(),
            leaving: CancellationToken::new(),
            failed: CancellationToken::new(),
            closed: CancellationToken::new(),
            cut: AtomicBool::new(false),
            task: AtomicWaker::new(),
            state: Mutex::default(),
        };
        let seen = Observation(Arc::new(shared));
        (Self { stream, first: Vec::new(), frames: Frames::default(), seen: seen.clone() }, seen)
    }

    /// Looks at what came.
    fn read(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.seen.lock().end.get_or_insert(End::Eof);
            return;
        }
        self.seen.hear(bytes.len());
        if self.first.len() < FIRST {
            let missing = FIRST - self.first.len();
            self.first.extend(bytes.iter().take(missing));
            self.seen.lock().first.clone_from(&self.first);
        }
        match self.frames.next(bytes) {
            None => {}
            Some(goaway) if goaway.code == 0 => self.seen.0.leaving.cancel(),
            Some(goaway) => {
                self.seen.lock().code = Some(goaway.code);
                self.seen.0.failed.cancel();
            }
        }
    }

    /// Fails once the stream was cut.
    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.seen.0.task.register(cx.waker());
        match self.seen.0.cut.load(Ordering::Acquire) {
            true => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the link was given up on this side")),
            false => Ok(()),
        }
    }
}

impl<S> Drop for ObservedIo<S> {
    fn drop(&mut self) {
        self.seen.0.closed.cancel();
    }
}

impl Observation {
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
        let state = self.lock();
        if let Some(code) = state.code {
            return io::Error::other(format!("the engine ended the HTTP/2 connection for an error (code {code})"));
        }
        match &state.end {
            Some(End::Broken(broken)) => io::Error::new(broken.kind(), broken.clone()),
            Some(End::Eof) => io::Error::new(io::ErrorKind::UnexpectedEof, "the engine closed the connection"),
            None => io::Error::other("the engine ended the HTTP/2 connection, or no longer answers on it"),
        }
    }

    /// For how long nothing came.
    pub(super) fn silent_for(&self) -> Duration {
        self.0.start.elapsed().saturating_sub(Duration::from_millis(self.0.heard.load(Ordering::Relaxed)))
    }

    /// Resolves when the other side says goodbye in good order: it takes no more requests, and finishes what it took.
    pub(super) async fn leaving(&self) {
        self.0.leaving.cancelled().await;
    }

    /// Whether it did, and nothing else.
    pub(super) fn is_leaving(&self) -> bool {
        self.0.leaving.is_cancelled() && !self.0.failed.is_cancelled()
    }

    /// Resolves when the other side says goodbye for an error.
    pub(super) async fn failed(&self) {
        self.0.failed.cancelled().await;
    }

    /// Ends the stream, whatever is under way on it.
    pub(super) fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
        self.0.task.wake();
    }

    /// Resolves when the stream was let go of, and so is closed.
    pub(super) async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    /// Bytes are counted here from now on.
    pub(super) fn count_in(&self, received: &Arc<AtomicU64>) {
        // Once for each connection.
        let _ = self.0.received.set(received.clone());
    }

    fn hear(&self, bytes: usize) {
        let since = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.heard.store(since, Ordering::Relaxed);
        if let Some(received) = self.0.received.get() {
            received.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Keeps a failure, and hands on one that says the same.
    fn broke(&self, error: io::Error) -> io::Error {
        let error = Arc::new(error);
        self.lock().end.get_or_insert(End::Broken(error.clone()));
        io::Error::new(error.kind(), error)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ObservedIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        let before = buf.filled().len();
        Pin::new(&mut this.stream).poll_read(cx, buf).map(|read| match read {
            Ok(()) => {
                this.read(buf.filled().get(before..).unwrap_or_default());
                Ok(())
            }
            Err(error) => Err(this.seen.broke(error)),
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ObservedIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(cx)?;
        Pin::new(&mut this.stream).poll_write(cx, buf).map_err(|error| this.seen.broke(error))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(cx)?;
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs).map_err(|error| this.seen.broke(error))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        Pin::new(&mut this.stream).poll_flush(cx).map_err(|error| this.seen.broke(error))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
