//! The task that owns a client's socket.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use ensync_core::{Error, ErrorKind, Reply, Result};
use futures::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Sleep;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message, Utf8Bytes};

use super::broken;
use super::link::{Unread, closed, interrupted};
use crate::frame::{self, Expect, Pushed};
use crate::socket::{BATCH, GOODBYE, ROUNDS, hang_up};

/// How many requests may be under way before the next ones wait. More than an engine works on at a time.
const PIPELINE: usize = 4096;

/// Where a call waits for its answer. Its caller may have given up; its place is kept all the same, for answers carry no id.
type Waiter = oneshot::Sender<Result<Reply>>;

/// What a call asks of the pump.
pub(super) enum Request {
    /// Send this frame.
    Call { frame: String, expect: Expect, answer: Waiter },
    /// See whether the other side is there.
    Ping { answer: Waiter },
}

/// Owns the socket: writes what is queued, always reads, and matches answers to requests, first in, first out.
///
/// Nothing here waits for anything but the socket. Reading goes on while writing is blocked, or two sides that both wait for room
/// would wait for ever.
pub(super) struct Pump<S> {
    socket: WebSocketStream<S>,
    place: String,
    requests: mpsc::Receiver<Request>,
    close_asked: Option<oneshot::Receiver<()>>,
    records: mpsc::UnboundedSender<Result<Utf8Bytes>>,
    unread: Unread,
    waiters: VecDeque<(Expect, Waiter)>,
    pings: VecDeque<(u64, Waiter)>,
    last_ping: u64,
    /// A text `PONG` is due.
    owes_pong: bool,
    unflushed: bool,
    /// The socket took nothing more when last asked.
    blocked: bool,
    /// When to stop waiting for the other side's goodbye, once ours is due.
    leaving: Option<Pin<Box<Sleep>>>,
    /// Our close frame is yet to be written.
    goodbye_due: bool,
}

/// Why a pump stops.
enum End {
    /// Our side wanted it.
    Closed,
    /// It was not wanted.
    Failed(Error),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pump<S> {
    pub(super) fn new(
        socket: WebSocketStream<S>,
        place: String,
        requests: mpsc::Receiver<Request>,
        close_asked: oneshot::Receiver<()>,
        records: mpsc::UnboundedSender<Result<Utf8Bytes>>,
        unread: Unread,
    ) -> Self {
        Self {
            socket,
            place,
            requests,
            close_asked: Some(close_asked),
            records,
            unread,
            waiters: VecDeque::new(),
            pings: VecDeque::new(),
            last_ping: 0,
            owes_pong: false,
            unflushed: false,
            blocked: false,
            leaving: None,
            goodbye_due: false,
        }
    }

    /// Runs until the link ends. `ended` is dropped when there is nothing more to wait for.
    pub(super) async fn run(mut self, ended: watch::Sender<()>) {
        let end = poll_fn(|cx| self.poll(cx)).await;
        let Self { mut socket, place, mut requests, records, waiters, pings, .. } = self;
        let failure = match end {
            End::Closed => None,
            End::Failed(error) => Some(error),
        };
        // Calls are closed from here on, before any of them learns that the link has ended.
        requests.close();
        for waiter in waiters.into_iter().map(|(_, waiter)| waiter).chain(pings.into_iter().map(|(_, waiter)| waiter)) {
            let error = interrupted(&place);
            let _ = waiter.send(Err(match &failure {
                Some(cause) => error.with_source(cause.clone()),
                None => error,
            }));
        }
        while let Some(Request::Call { answer, .. } | Request::Ping { answer }) = requests.recv().await {
            let _ = answer.send(Err(closed(&place)));
        }
        if let Some(error) = failure {
            let code = match error.kind() {
                ErrorKind::Protocol => CloseCode::Protocol,
                ErrorKind::LimitExceeded => CloseCode::Policy,
                _ => CloseCode::Normal,
            };
            let _ = records.send(Err(error));
            drop((records, ended));
            let goodbye = async {
                // Fails where the engine said goodbye first; then its frame's answer is what is left to flush.
                let _ = socket.send(close_frame(code)).await;
                let _ = socket.flush().await;
                hang_up(&mut socket).await;
            };
            let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        } else {
            drop(socket);
            drop(ended);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        for _ in 0..ROUNDS {
            match self.round(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Moves a batch each way, or flushes if there was nothing to move. Says whether there may be more.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        self.look_for_goodbye(cx)?;
        let moved = self.read(cx)? | self.write(cx)?;
        if moved || !self.unflushed {
            return Ok(moved);
        }
        match self.socket.poll_flush_unpin(cx) {
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                // Whoever was blocked has room now, and nobody else would wake it.
                Ok(std::mem::take(&mut self.blocked))
            }
            Poll::Ready(Err(cause)) => Err(self.broken(cause)),
            Poll::Pending => Ok(false),
        }
    }

    fn look_for_goodbye(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if let Some(asked) = &mut self.close_asked
            && let Poll::Ready(asked) = asked.poll_unpin(cx)
        {
            self.close_asked = None;
            if asked.is_ok() && self.leaving.is_none() {
                self.leave();
            }
        }
        match self.leaving.as_mut().map(|deadline| deadline.poll_unpin(cx)) {
            Some(Poll::Ready(())) => Err(End::Closed),
            _ => Ok(()),
        }
    }

    /// Begins to leave: nothing more is taken from callers, and the close frame goes out as soon as the socket takes it.
    fn leave(&mut self) {
        self.requests.close();
        self.leaving = Some(Box::pin(tokio::time::sleep(GOODBYE)));
        self.goodbye_due = true;
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        for nth in 0..BATCH {
            match self.socket.poll_next_unpin(cx) {
                Poll::Pending => return Ok(nth > 0),
                Poll::Ready(Some(Ok(message))) => self.take(message)?,
                Poll::Ready(Some(Err(cause))) => return Err(self.broken(cause)),
                Poll::Ready(None) => return Err(self.broken(WsError::ConnectionClosed)),
            }
        }
        Ok(true)
    }

    fn take(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Text(text) => self.take_text(text),
            // The WebSocket layer has queued the pong already; the next read writes it.
            Message::Ping(_) => Ok(()),
            Message::Pong(payload) => {
                self.take_pong(&payload);
                Ok(())
            }
            // Expected once we said goodbye; the end of the stream follows.
            Message::Close(_) if self.leaving.is_some() => Ok(()),
            Message::Close(frame) => {
                let why = match frame {
                    Some(CloseFrame { code, reason }) => {
                        format!("{} {:?}", u16::from(code), reason.chars().take(120).collect::<String>())
                    }
                    None => "no reason given".to_owned(),
                };
                Err(self.failed(ErrorKind::Interrupted, format_args!("the engine closed the connection: {why}")))
            }
            Message::Binary(_) | Message::Frame(_) => {
                Err(self.failed(ErrorKind::Protocol, format_args!("the engine sent a binary frame; frames are text")))
            }
        }
    }

    fn take_text(&mut self, text: Utf8Bytes) -> Result<(), End> {
        match Pushed::parse(&text) {
            Ok(Pushed::Answer(answer)) => match self.waiters.pop_front() {
                Some((expect, waiter)) if answer.fits(expect) => {
                    let _ = waiter.send(answer.read(expect));
                    Ok(())
                }
                Some(waiter) => {
                    self.waiters.push_front(waiter);
                    Err(self.failed(ErrorKind::Protocol, format_args!("an answer is not of its request's kind")))
                }
                None => Err(self.failed(ErrorKind::Protocol, format_args!("an answer came that no request waits for"))),
            },
            // The inbox was dropped: nobody wants events.
            Ok(Pushed::Record(_)) if self.records.is_closed() => Ok(()),
            Ok(Pushed::Record(_)) => {
                if self.unread.enter(&text) {
                    let _ = self.records.send(Ok(text));
                    return Ok(());
                }
                let max = self.unread.max;
                Err(self.failed(
                    ErrorKind::LimitExceeded,
                    format_args!(
                        "the engine pushed {max} bytes of events that nobody took; see WsConnector::max_unread_bytes"
                    ),
                ))
            }
            Ok(Pushed::Ping) => {
                self.owes_pong = true;
                Ok(())
            }
            Ok(Pushed::Pong) => Ok(()),
            Err(error) => Err(self.failed(ErrorKind::Protocol, format_args!("{error}"))),
        }
    }

    /// A pong answers its ping and, because a peer may answer only the latest of several (RFC 6455 section 5.5.3), all before it.
    fn take_pong(&mut self, payload: &[u8]) {
        let Ok(number) = <[u8; 8]>::try_from(payload).map(u64::from_be_bytes) else { return };
        if number > self.last_ping {
            return;
        }
        while let Some((_, waiter)) = self.pings.pop_front_if(|(ping, _)| *ping <= number) {
            let _ = waiter.send(Ok(Reply::Done));
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        for nth in 0..BATCH {
            match self.socket.poll_ready_unpin(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(cause)) => return Err(self.broken(cause)),
                Poll::Pending => {
                    self.blocked = true;
                    return Ok(nth > 0);
                }
            }
            let Some(message) = self.next_message(cx) else { return Ok(nth > 0) };
            self.socket.start_send_unpin(message).map_err(|cause| self.broken(cause))?;
            self.unflushed = true;
        }
        Ok(true)
    }

    fn next_message(&mut self, cx: &mut Context<'_>) -> Option<Message> {
        if self.leaving.is_some() {
            return std::mem::take(&mut self.goodbye_due).then(|| close_frame(CloseCode::Normal));
        }
        if std::mem::take(&mut self.owes_pong) {
            return Some(Message::Text(Utf8Bytes::from_static(frame::PONG)));
        }
        if self.waiters.len() >= PIPELINE {
            return None;
        }
        match self.requests.poll_recv(cx) {
            Poll::Ready(Some(Request::Call { frame, expect, answer })) => {
                self.waiters.push_back((expect, answer));
                Some(Message::text(frame))
            }
            Poll::Ready(Some(Request::Ping { answer })) => {
                self.pings.retain(|(_, waiter)| !waiter.is_closed());
                self.last_ping += 1;
                self.pings.push_back((self.last_ping, answer));
                Some(Message::Ping(Bytes::copy_from_slice(&self.last_ping.to_be_bytes())))
            }
            Poll::Ready(None) => {
                // Both ends of the link were dropped.
                self.leave();
                self.next_message(cx)
            }
            Poll::Pending => None,
        }
    }

    fn broken(&self, cause: WsError) -> End {
        if self.leaving.is_some() { End::Closed } else { End::Failed(broken(cause, &self.place)) }
    }

    fn failed(&self, kind: ErrorKind, why: std::fmt::Arguments<'_>) -> End {
        if self.leaving.is_some() {
            End::Closed
        } else {
            End::Failed(Error::new(kind, format!("{}: {why}", self.place)))
        }
    }
}

fn close_frame(code: CloseCode) -> Message {
    Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() }))
}
