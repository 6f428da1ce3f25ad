//! What requests under way may hold, and the body that keeps to it.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use ensync_core::{Error, ErrorKind};
use http::{HeaderMap, Uri};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::Connection;
use crate::status;

/// What a request that is under way holds beside the bytes that were sent: a stream of HTTP/2, its task, their buffers. 7 to 19 KB
/// were measured.
const STREAM_BYTES: usize = 16 << 10;
/// How much of an answer is handed to HTTP/2 at a time. It keeps what it was handed until the client takes it.
const PIECE: usize = 16 << 10;

/// A number of bytes that many may hold parts of.
#[derive(Debug)]
pub(super) struct Pool {
    size: usize,
    held: AtomicUsize,
}

/// A part of a [`Pool`], given back when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    pool: Arc<Pool>,
    bytes: usize,
}

impl Pool {
    pub(super) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { size, held: AtomicUsize::new(0) })
    }

    /// `None` if there is not so much left.
    pub(super) fn take(pool: &Arc<Self>, bytes: usize) -> Option<Taken> {
        let fits = |held: usize| held.checked_add(bytes).filter(|&sum| sum <= pool.size);
        pool.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Taken { pool: pool.clone(), bytes })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.pool.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What the requests of all connections share.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    /// Of connections that have used a session.
    pub(super) known: Arc<Pool>,
    /// Of those that have not.
    pub(super) strangers: Arc<Pool>,
}

/// What a request holds: of its connection's share, and of what all share.
#[derive(Debug)]
#[expect(dead_code, reason = "held, not read")]
pub(super) struct Held {
    pub(super) own: Option<Taken>,
    pub(super) shared: Option<Taken>,
}

impl Held {
    /// For a stream that is as long as its subscription: it takes nothing away from the calls of its connection.
    pub(super) fn for_long(self, connection: &Connection, memory: &Memory) -> Self {
        let stream = connection.is_known().then(|| Pool::take(&memory.known, STREAM_BYTES)).flatten();
        match stream {
            None => self,
            shared => Self { own: None, shared },
        }
    }
}

/// What a request holds before its message: its stream, and its head, counted as RFC 9113 section 6.5.2 does.
pub(super) fn request_bytes(uri: &Uri, headers: &HeaderMap) -> usize {
    let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    STREAM_BYTES + fields + uri.path().len() + 32
}

/// What a request with too much to hold is answered with. Trying later helps: others of the connection are done then.
pub(super) fn over_budget() -> Status {
    status::to_status(&Error::new(
        ErrorKind::LimitExceeded,
        "the requests under way on this connection, or on all, hold as many bytes as they may; wait for answers, then try again",
    ))
}

/// The body of a call that has one message. It lets the message's length through, for which the reader then reserves memory, only
/// if that much may be held; it ends after the message, and when that takes too long.
pub(super) struct OneMessage<B> {
    body: Pin<Box<B>>,
    connection: Connection,
    memory: Memory,
    /// The message's length, held until the call is done.
    held: Arc<OnceLock<Held>>,
    max_message: usize,
    within: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    prefix: [u8; 5],
    /// How many bytes there were: of the prefix, then of the message.
    read: usize,
}

impl<B> OneMessage<B> {
    pub(super) fn new(
        body: B,
        connection: Connection,
        memory: Memory,
        held: Arc<OnceLock<Held>>,
        max_message: usize,
        within: Duration,
    ) -> Self {
        let (deadline, prefix, read) = (None, [0; 5], 0);
        Self { body: Box::pin(body), connection, memory, held, max_message, within, deadline, prefix, read }
    }

    /// Looks at a part of the body before the reader does.
    fn check(&mut self, data: &[u8]) -> Result<(), Status> {
        let missing = self.prefix.len().saturating_sub(self.read);
        for (slot, byte) in self.prefix.iter_mut().skip(self.read).zip(data) {
            *slot = *byte;
        }
        let complete = missing > 0 && data.len() >= missing;
        self.read = self.read.saturating_add(data.len());
        let [_, length @ ..] = self.prefix;
        let length = u32::from_be_bytes(length) as usize;
        // A longer message is the reader's to refuse: it says how long one may be.
        if complete && length <= self.max_message {
            let taken = self.connection.take(length, &self.memory).ok_or_else(over_budget)?;
            _ = self.held.set(taken);
        }
        if self.read > self.prefix.len() && self.read - self.prefix.len() > length {
            return Err(Status::invalid_argument("a call of this service has one message; more came"));
        }
        Ok(())
    }
}

impl<B> Body for OneMessage<B>
where
    B: Body<Data: AsRef<[u8]>>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let polled = self.body.as_mut().poll_frame(cx);
        if polled.is_pending() {
            let within = self.within;
            let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(within)));
            ready!(deadline.as_mut().poll(cx));
            let late = Error::new(ErrorKind::Timeout, "the request's message took too long to arrive");
            return Poll::Ready(Some(Err(status::to_status(&late).into())));
        }
        Poll::Ready(match ready!(polled) {
            Some(Ok(frame)) => match frame.data_ref().map_or(Ok(()), |data| self.check(data.as_ref())) {
                Ok(()) => Some(Ok(frame)),
                Err(status) => Some(Err(status.into())),
            },
            Some(Err(cause)) => Some(Err(cause.into())),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the bytes of an answer hold, put into the extensions of a response by the call that made them.
#[derive(Clone, Debug)]
pub(super) struct Answer(
    #[expect(dead_code, reason = "held, not read")] pub(super) Arc<(Option<Taken>, OwnedSemaphorePermit)>,
);

/// The body of an answer: what its request holds is held until the client has taken all of it, or let go of it.
pub(super) struct Charged<B> {
    body: Pin<Box<B>>,
    /// Of the body's last part, what HTTP/2 was not handed yet.
    rest: Bytes,
    _held: (Held, Option<Answer>),
}

impl<B> Charged<B> {
    pub(super) fn new(body: B, held: Held, answer: Option<Answer>) -> Self {
        Self { body: Box::pin(body), rest: Bytes::new(), _held: (held, answer) }
    }
}

impl<B: Body<Data = Bytes>> Body for Charged<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            match ready!(self.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}
