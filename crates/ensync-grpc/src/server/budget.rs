//! What requests under way may hold, and the body that keeps to it.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ensync_core::{Error, ErrorKind};
use http::{HeaderMap, Uri};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::Connection;
use crate::status;

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

/// What the head of a request weighs, counted as RFC 9113 section 6.5.2 does.
pub(super) fn head_bytes(uri: &Uri, headers: &HeaderMap) -> usize {
    let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    fields + uri.path().len() + 32
}

/// What a request with too much to hold is answered with. Trying later helps: others of the connection are done then.
pub(super) fn over_budget() -> Status {
    status::to_status(&Error::new(
        ErrorKind::LimitExceeded,
        "the requests under way on this connection hold as many bytes as they may; wait for answers, then try again",
    ))
}

/// The body of a call that has one message. It lets the message's length through, for which the reader then reserves memory, only
/// if that much may be held; it ends after the message, and when that takes too long.
pub(super) struct OneMessage<B> {
    body: Pin<Box<B>>,
    connection: Connection,
    strangers: Arc<Pool>,
    /// The message's length, held until the call is done.
    held: Arc<OnceLock<Taken>>,
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
        strangers: Arc<Pool>,
        held: Arc<OnceLock<Taken>>,
        max_message: usize,
        within: Duration,
    ) -> Self {
        let (deadline, prefix, read) = (None, [0; 5], 0);
        Self { body: Box::pin(body), connection, strangers, held, max_message, within, deadline, prefix, read }
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
            let taken = self.connection.take(length, &self.strangers).ok_or_else(over_budget)?;
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
