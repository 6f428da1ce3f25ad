//! The task that owns a client's socket.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use ensync_core::{Error, ErrorKind, Reply, Result};
use futures::{FutureExt, SinkExt};
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
use crate::socket::{GOODBYE, hang_up};
use crate::wire::{Condition, Half, Source, Wire};

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

/// The client's half of a connection: writes what is queued, always reads, and matches answers to requests, first in, first out.
pub(super) struct Pump {
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
    /// When to stop waiting for the other side's goodbye, once ours is due.
    leaving: Option<Pin<Box<Sleep>>>,
    /// Our close frame is yet to be written.
    goodbye_due: bool,
}

/// Why a pump stops.
pub(super) enum End {
    /// Our side wanted it.
    Closed,
    /// It was not wanted.
    Failed(Error),
}

impl Pump {
    pub(super) fn new(
        place: String,
        requests: mpsc::Receiver<Request>,
        close_asked: oneshot::Receiver<()>,
        records: mpsc::UnboundedSender<Result<Utf8Bytes>>,
        unread: Unread,
    ) -> Self {
        Self {
            place,
            requests,
            close_asked: Some(close_asked),
            records,
            unread,
            waiters: VecDeque::new(),
            pings: VecDeque::new(),
            last_ping: 0,
            owes_pong: false,
            leaving: None,
            goodbye_due: false,
        }
    }

    /// Serves the socket until the link ends. `ended` is dropped when there is nothing more to wait for.
    pub(super) async fn run<S>(mut self, socket: WebSocketStream<S>, ended: watch::Sender<()>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut wire = Wire::new(socket);
        let end = poll_fn(|cx| wire.poll(&mut self, cx)).await;
        let mut socket = wire.into_socket();
        let Self { place, mut requests, records, waiters, pings, .. } = self;
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

    /// Begins to leave: nothing more is taken from callers, and the close frame goes out as soon as the socket takes it.
    fn leave(&mut self) {
        self.requests.close();
        self.leaving = Some(Box::pin(tokio::time::sleep(GOODBYE)));
        self.goodbye_due = true;
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

    fn failed(&self, kind: ErrorKind, why: std::fmt::Arguments<'_>) -> End {
        if self.leaving.is_some() {
            End::Closed
        } else {
            End::Failed(Error::new(kind, format!("{}: {why}", self.place)))
        }
    }
}

impl Half for Pump {
    type End = End;

    const SOURCES: &'static [Source<Self>] = &[Self::next_message];

    fn reads(&self) -> bool {
        true
    }

    fn take(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Text(text) => self.take_text(text),
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

    fn attend(&mut self, _: Condition, cx: &mut Context<'_>) -> Result<bool, End> {
        if let Some(asked) = &mut self.close_asked
            && let Poll::Ready(asked) = asked.poll_unpin(cx)
        {
            self.close_asked = None;
            if asked.is_ok() && self.leaving.is_none() {
                self.leave();
                return Ok(true);
            }
        }
        match self.leaving.as_mut().map(|deadline| deadline.poll_unpin(cx)) {
            Some(Poll::Ready(())) => Err(End::Closed),
            _ => Ok(false),
        }
    }

    fn broken(&self, cause: WsError) -> End {
        if self.leaving.is_some() { End::Closed } else { End::Failed(broken(cause, &self.place)) }
    }
}

fn close_frame(code: CloseCode) -> Message {
    Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() }))
}
