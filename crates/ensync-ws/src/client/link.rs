//! The two ends of a link that its user holds: the transport and the inbox.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::{ClientId, Command, Delivery, Error, ErrorKind, Link, Reply, Result, Transport, Welcome};
use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::Options;
use super::pump::{Asks, Call, Pump};
use super::waiters::{Waiter, Waiters};
use crate::activity::{Activity, Watched};
use crate::frame::{self, Dialect, Expect, Pushed};

/// How many calls may wait for the pump to take them; the next ones wait for room.
const QUEUE: usize = 256;

/// The same of pings.
const PINGS: usize = 16;

/// How often events that cannot be read are a warning: whoever sends them may send them without end.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Hands an open, logged-in socket to a pump, and gives back the link.
pub(super) fn start<S>(socket: WebSocketStream<Watched<S>>, welcome: Welcome, place: &str, options: Options) -> Link
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (calls, queue) = mpsc::channel(QUEUE);
    let (pings, asked) = mpsc::channel(PINGS);
    let ((close, close_asked), (abort, aborted)) = (oneshot::channel(), oneshot::channel());
    let (ended, end) = watch::channel(());
    let (records, inbox) = mpsc::unbounded_channel();
    let unread = Unread { bytes: Arc::default(), max: options.max_unread_bytes };
    let activity = socket.get_ref().activity().clone();
    let asks = Asks { calls: queue, pings: asked, close: close_asked, abort: aborted };
    let waiters = Waiters::new(options.answer_timeout, activity.clone());
    let pump = Pump::new(place.to_owned(), asks, records, unread.clone(), waiters);
    tokio::spawn(pump.run(socket, ended));
    let transport = WsTransport {
        place: place.to_owned(),
        client_id: welcome.client_id.clone(),
        dialect: Dialect::of(&welcome.config),
        max_frame_bytes: options.max_frame_bytes,
        calls: calls.clone(),
        pings,
        close: Mutex::new(Some(close)),
        abort: Mutex::new(Some(abort)),
        activity,
        end,
    };
    let inbox = Inbox { records: inbox, unread, warned: None, _pump: calls }.boxed();
    Link { transport: Arc::new(transport), inbox, welcome }
}

/// How many bytes of records wait in the inbox.
#[derive(Clone, Debug)]
pub(super) struct Unread {
    bytes: Arc<AtomicUsize>,
    pub(super) max: usize,
}

impl Unread {
    /// What a record costs beyond its text.
    const EACH: usize = 64;

    /// Counts a record in; `false` if there are too many.
    pub(super) fn enter(&self, record: &str) -> bool {
        let cost = record.len() + Self::EACH;
        self.bytes.fetch_add(cost, Ordering::Relaxed).saturating_add(cost) <= self.max
    }

    fn leave(&self, record: &str) {
        self.bytes.fetch_sub(record.len() + Self::EACH, Ordering::Relaxed);
    }
}

struct WsTransport {
    place: String,
    client_id: ClientId,
    dialect: Dialect,
    max_frame_bytes: usize,
    calls: mpsc::Sender<Call>,
    pings: mpsc::Sender<Waiter>,
    close: Mutex<Option<oneshot::Sender<()>>>,
    abort: Mutex<Option<oneshot::Sender<Error>>>,
    activity: Activity,
    /// Fails once the pump has ended.
    end: watch::Receiver<()>,
}

#[async_trait]
impl Transport for WsTransport {
    async fn call(&self, command: Command) -> Result<Reply> {
        let (answer, waiter) = oneshot::channel();
        let sent = if matches!(command, Command::Heartbeat) {
            self.pings.send(answer).await.is_ok()
        } else {
            let frame = frame::write_request(&self.client_id, &command, self.dialect)?;
            if frame.len() > self.max_frame_bytes {
                return Err(Error::new(
                    ErrorKind::PayloadTooLarge,
                    format!(
                        "the command makes a frame of {} bytes, this connection carries {} (max_frame_bytes); send a \
                         reference to the data instead",
                        frame.len(),
                        self.max_frame_bytes
                    ),
                ));
            }
            self.calls.send(Call { frame, expect: Expect::of(&command), answer }).await.is_ok()
        };
        if !sent {
            return Err(closed(&self.place));
        }
        let answer = waiter.await.unwrap_or_else(|_| Err(interrupted(&self.place)));
        answer.map_err(|error| error.in_answer_to(&command))
    }

    fn abort(&self, cause: Error) {
        if let Some(abort) = self.abort.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = abort.send(cause);
        }
    }

    fn heartbeat_reaches_the_engine(&self) -> bool {
        false
    }

    fn silent_for(&self) -> Option<Duration> {
        Some(self.activity.silent_for())
    }

    fn bytes_received(&self) -> Option<u64> {
        Some(self.activity.received())
    }

    async fn close(&self) {
        // Asked once; whoever calls after that waits with the first.
        if let Some(close) = self.close.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = close.send(());
        }
        let _ = self.end.clone().changed().await;
    }
}

impl fmt::Debug for WsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsTransport").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Records as the pump queued them, read where they are taken: it is this task that pays for it, not the one that owns the socket.
struct Inbox {
    records: mpsc::UnboundedReceiver<Result<Utf8Bytes>>,
    unread: Unread,
    /// When an event that cannot be read was last a warning.
    warned: Option<Instant>,
    /// The pump lives until both ends of the link are gone.
    _pump: mpsc::Sender<Call>,
}

impl Stream for Inbox {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let text = match ready!(self.records.poll_recv(cx)) {
                Some(Ok(text)) => text,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
            self.unread.leave(&text);
            let Ok(Pushed::Record(json)) = Pushed::parse(&text) else { continue };
            match frame::parse_record(json) {
                Ok(delivery) => return Poll::Ready(Some(Ok(delivery))),
                Err(error) => {
                    // The cause names a field and a place in the text, never what stands there.
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    if self.warned.is_none_or(|last| last.elapsed() >= WARN_EVERY) {
                        self.warned = Some(Instant::now());
                        tracing::warn!(%error, cause, bytes = text.len(), "an event that cannot be read was skipped; others may follow unlogged for a minute");
                    } else {
                        tracing::debug!(%error, cause, bytes = text.len(), "an event that cannot be read was skipped");
                    }
                }
            }
        }
    }
}

pub(super) fn closed(place: &str) -> Error {
    Error::new(ErrorKind::Closed, format!("the link to {place} has ended; the command was not sent"))
}

pub(super) fn interrupted(place: &str) -> Error {
    Error::new(
        ErrorKind::Interrupted,
        format!(
            "the link to {place} ended while the answer was awaited; the command may or may not have been carried out"
        ),
    )
}
