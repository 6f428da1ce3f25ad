//! The task that owns a client's socket.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

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
use super::waiters::{Waiter, Waiters};
use crate::frame::{self, Expect, Pushed};
use crate::socket::{GOODBYE, PIPELINE, hang_up};
use crate::wire::{Condition, Half, Source, Wire};

/// A frame to be sent, and who waits for the answer.
pub(super) struct Call {
    pub(super) frame: String,
    pub(super) expect: Expect,
    pub(super) answer: Waiter,
}

/// What the user's ends of a link ask of the pump.
pub(super) struct Asks {
    pub(super) calls: mpsc::Receiver<Call>,
    /// To see whether the other side is there. Apart from calls, for those may have to wait.
    pub(super) pings: mpsc::Receiver<Waiter>,
    pub(super) close: oneshot::Receiver<()>,
    pub(super) abort: oneshot::Receiver<Error>,
}

/// The client's half of a connection: writes what is queued, always reads, and matches answers to requests, first in, first out.
pub(super) struct Pump {
    place: String,
    asks: Asks,
    records: mpsc::UnboundedSender<Result<Utf8Bytes>>,
    unread: Unread,
    /// A call that cannot be sent yet.
    held: Option<Call>,
    waiters: Waiters,
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
    /// Our side knows that it is dead.
    Aborted(Error),
}

impl Pump {
    pub(super) fn new(
        place: String,
        asks: Asks,
        records: mpsc::UnboundedSender<Result<Utf8Bytes>>,
        unread: Unread,
        answer_timeout: Duration,
    ) -> Self {
        Self {
            place,
            asks,
            records,
            unread,
            held: None,
            waiters: Waiters::new(answer_timeout),
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
        let Self { place, asks, records, held, waiters, pings, .. } = self;
        let Asks { mut calls, pings: mut asked, mut abort, .. } = asks;
        let (failure, mut socket) = match end {
            End::Closed => (None, None),
            End::Failed(error) => (Some(error), Some(wire.into_socket())),
            End::Aborted(error) => (Some(error), None),
        };
        // Calls are closed from here on, before any of them learns that the link has ended.
        calls.close();
        asked.close();
        for waiter in waiters.into_waiters().chain(pings.into_iter().map(|(_, waiter)| waiter)) {
            let error = interrupted(&place);
            let _ = waiter.send(Err(match &failure {
                Some(cause) => error.with_source(cause.clone()),
                None => error,
            }));
        }
        if let Some(Call { answer, .. }) = held {
            let _ = answer.send(Err(closed(&place)));
        }
        while let Some(Call { answer, .. }) = calls.recv().await {
            let _ = answer.send(Err(closed(&place)));
        }
        while let Some(answer) = asked.recv().await {
            let _ = answer.send(Err(closed(&place)));
        }
        let code = match failure.as_ref().map(Error::kind) {
            Some(ErrorKind::Protocol) => CloseCode::Protocol,
            Some(ErrorKind::LimitExceeded) => CloseCode::Policy,
            _ => CloseCode::Normal,
        };
        if let Some(error) = failure {
            let _ = records.send(Err(error));
        }
        drop((records, ended));
        if let Some(socket) = &mut socket {
            let goodbye = async {
                // Fails where the engine said goodbye first; then its frame's answer is what is left to flush.
                let _ = socket.send(close_frame(code)).await;
                let _ = socket.flush().await;
                hang_up(socket).await;
            };
            tokio::select! {
                _ = tokio::time::timeout(GOODBYE, goodbye) => {}
                Ok(_) = &mut abort, if !abort.is_terminated() => {}
            }
        }
    }

    /// Begins to leave: nothing more is taken from callers, and the close frame goes out as soon as the socket takes it.
    fn leave(&mut self) {
        self.asks.calls.close();
        self.leaving = Some(Box::pin(tokio::time::sleep(GOODBYE)));
        self.goodbye_due = true;
    }

    fn take_text(&mut self, text: Utf8Bytes) -> Result<(), End> {
        match Pushed::parse(&text) {
            Ok(Pushed::Answer(answer)) => {
                let Some(expect) = self.waiters.expects() else {
                    return Err(
                        self.failed(ErrorKind::Protocol, format_args!("an answer came that no request waits for"))
                    );
                };
                if !answer.fits(expect) {
                    return Err(
                        self.failed(ErrorKind::Protocol, format_args!("an answer is not of its request's kind"))
                    );
                }
                if let Some(waiter) = self.waiters.pop() {
                    let _ = waiter.send(answer.read(expect));
                }
                Ok(())
            }
            // The inbox was dropped: nobody wants events.
            Ok(Pushed::Record(_)) if self.records.is_closed() => Ok(()),
            Ok(Pushed::Record(_)) => {
                self.waiters.event(text.len());
                if self.unread.enter(&text) {
                    let _ = self.records.send(Ok(text));
                    return Ok(());
                }
                let max = self.unread.max;
                Err(self.failed(
                    ErrorKind::LimitExceeded,
                    format_args!("the engine pushed {max} bytes of events that nobody took (max_unread_bytes)"),
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

    fn next_pong(&mut self, _: &mut Context<'_>) -> Option<Message> {
        (self.leaving.is_none() && std::mem::take(&mut self.owes_pong))
            .then(|| Message::Text(Utf8Bytes::from_static(frame::PONG)))
    }

    fn next_ping(&mut self, cx: &mut Context<'_>) -> Option<Message> {
        if self.leaving.is_some() {
            return None;
        }
        let Poll::Ready(Some(answer)) = self.asks.pings.poll_recv(cx) else { return None };
        self.pings.retain(|(_, waiter)| !waiter.is_closed());
        self.last_ping += 1;
        self.pings.push_back((self.last_ping, answer));
        Some(Message::Ping(Bytes::copy_from_slice(&self.last_ping.to_be_bytes())))
    }

    fn next_call(&mut self, cx: &mut Context<'_>) -> Option<Message> {
        if self.leaving.is_some() {
            return None;
        }
        loop {
            if self.held.is_none() {
                match self.asks.calls.poll_recv(cx) {
                    Poll::Ready(Some(call)) => self.held = Some(call),
                    // Both ends of the link were dropped.
                    Poll::Ready(None) => self.leave(),
                    Poll::Pending => {}
                }
            }
            if self.waiters.is_paused() || self.waiters.len() >= PIPELINE {
                return None;
            }
            let Call { frame, expect, answer } = self.held.take()?;
            // Whoever waited has given up: nobody expects that it is carried out later.
            if !answer.is_closed() {
                self.waiters.push(expect, frame.len(), answer);
                return Some(Message::text(frame));
            }
        }
    }

    fn next_goodbye(&mut self, _: &mut Context<'_>) -> Option<Message> {
        std::mem::take(&mut self.goodbye_due).then(|| close_frame(CloseCode::Normal))
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

    const SOURCES: &'static [Source<Self>] = &[Self::next_pong, Self::next_ping, Self::next_call, Self::next_goodbye];

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

    fn attend(&mut self, wire: Condition, cx: &mut Context<'_>) -> Result<bool, End> {
        if !self.asks.abort.is_terminated()
            && let Poll::Ready(Ok(cause)) = self.asks.abort.poll_unpin(cx)
        {
            return Err(End::Aborted(cause));
        }
        if !self.asks.close.is_terminated()
            && let Poll::Ready(Ok(())) = self.asks.close.poll_unpin(cx)
            && self.leaving.is_none()
        {
            self.leave();
            return Ok(true);
        }
        if let Some(deadline) = &mut self.leaving {
            return if deadline.poll_unpin(cx).is_ready() { Err(End::Closed) } else { Ok(false) };
        }
        match self.waiters.poll(wire.blocked, cx) {
            Ok(()) => Ok(false),
            Err(silent) => Err(self.failed(
                ErrorKind::Interrupted,
                format_args!(
                    "the engine owes an answer and has sent none for {silent:?}; answers carry no id, so the next would be taken for \
                     that one's (see WsConnector::answer_timeout)"
                ),
            )),
        }
    }

    fn broken(&self, cause: WsError) -> End {
        if self.leaving.is_some() { End::Closed } else { End::Failed(broken(cause, &self.place)) }
    }
}

fn close_frame(code: CloseCode) -> Message {
    Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() }))
}
