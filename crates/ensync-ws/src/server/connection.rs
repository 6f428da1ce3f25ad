//! One logged-in client.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ensync_core::{Command, Delivery, Error, ErrorKind, Peer, Reply, Result, Service};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesOrdered};
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

use super::ServerOptions;
use crate::activity::Activity;
use crate::frame::{self, Request};
use crate::socket::PIPELINE;
use crate::wire::{Condition, Half, Source};

/// How many text pongs may be due at once; a client that sends more pings reads none of the answers.
const MAX_PONGS: usize = 16;

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client left, or the network did.
    Gone,
    /// We end it, and say this.
    Says(CloseCode, &'static str),
}

impl End {
    pub(super) fn says(code: CloseCode, why: &'static str) -> Self {
        Self::Says(code, why)
    }

    /// For a message that is neither text nor a ping or pong.
    pub(super) fn of_message(message: &Message) -> Self {
        match message {
            Message::Close(_) => Self::Gone,
            _ => Self::says(CloseCode::Unsupported, "frames are text"),
        }
    }

    pub(super) fn of_error(cause: &WsError) -> Self {
        match cause {
            WsError::Capacity(_) => Self::says(CloseCode::Size, "the frame is too long"),
            WsError::Utf8(_) => Self::says(CloseCode::Invalid, "the frame is not UTF-8"),
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => {
                Self::Gone
            }
            WsError::Protocol(_) => Self::says(CloseCode::Protocol, "not WebSocket"),
            _ => Self::Gone,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the client left"),
            Self::Says(code, why) => write!(f, "{}: {why}", u16::from(*code)),
        }
    }
}

/// Reads commands, runs them side by side, and writes their answers in order, with records in between.
///
/// Nothing is buffered without bound: commands under way are limited in number and in bytes, records by the flow control of the
/// session's inbox, and neither moves while the client does not read.
pub(super) struct Connection {
    service: Arc<dyn Service>,
    peer: Arc<Peer>,
    inbox: BoxStream<'static, Delivery>,
    options: ServerOptions,
    running: FuturesOrdered<BoxFuture<'static, Answered>>,
    /// Frames that were read and wait for one of `running` to end: behind them may be a ping.
    waiting: VecDeque<Utf8Bytes>,
    /// The weights of `running` and `waiting`, in sum.
    weight: usize,
    pongs: usize,
    ping: Interval,
    /// Pings since the last sign of life.
    unanswered: u32,
    activity: Activity,
    /// The sign of life that was the last at the ping before.
    seen: u64,
    /// A ping is to be sent.
    ping_due: bool,
    /// The session's inbox has ended: no more commands, only the answers that are due.
    leaving: bool,
}

/// A command's outcome, and what it weighed while it ran.
struct Answered {
    weight: usize,
    result: Result<Reply>,
}

impl Connection {
    pub(super) fn new(
        service: Arc<dyn Service>,
        peer: Peer,
        inbox: BoxStream<'static, Delivery>,
        options: ServerOptions,
        activity: Activity,
    ) -> Self {
        // An interval of zero would panic, and so would one whose end is no instant.
        let every = options.ping_interval.clamp(Duration::from_millis(1), Duration::from_secs(365 * 24 * 60 * 60));
        let mut ping = interval_at(Instant::now() + every, every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            service,
            peer: Arc::new(peer),
            inbox,
            options,
            running: FuturesOrdered::new(),
            waiting: VecDeque::new(),
            weight: 0,
            pongs: 0,
            ping,
            unanswered: 0,
            seen: activity.mark(),
            activity,
            ping_due: false,
            leaving: false,
        }
    }

    /// Lets what is under way finish. Nobody hears the answers: where the session ended in order, they were written before.
    pub(super) async fn finish(mut self, within: Duration) {
        let all = async {
            while self.running.next().await.is_some() {
                self.start_what_waits();
            }
        };
        if timeout(within, all).await.is_err() {
            tracing::warn!("commands of a connection that ended did not finish and were dropped");
        }
    }

    /// Whether enough was read. In bytes that is one longest frame, and the one that exceeds it.
    fn is_full(&self) -> bool {
        self.waiting.len() >= PIPELINE || self.weight >= self.options.max_frame_bytes || self.pongs >= MAX_PONGS
    }

    fn take_text(&mut self, text: Utf8Bytes) {
        match text.as_str() {
            frame::PING => self.pongs += 1,
            frame::PONG => {}
            _ => {
                self.weight += weight(&text, 0);
                self.waiting.push_back(text);
                self.start_what_waits();
            }
        }
    }

    fn start_what_waits(&mut self) {
        while self.running.len() < self.options.max_in_flight.max(1)
            && let Some(text) = self.waiting.pop_front()
        {
            self.start(&text);
        }
    }

    /// Carries out a frame's command. A refusal takes its place in the queue like any other answer.
    fn start(&mut self, text: &str) {
        let refuse = |error| Answered { weight: weight(text, 0), result: Err(error) };
        let refusal = match Request::parse_within(text, self.options.max_metadata_bytes) {
            Ok(Request::Command { client_id, command }) if client_id == self.peer.client_id => {
                // A replay is a short question with a long answer.
                let answer =
                    if matches!(command, Command::Replay { .. }) { self.options.max_frame_bytes / 16 } else { 0 };
                self.weight += answer;
                let weight = weight(text, answer);
                let (service, peer) = (self.service.clone(), self.peer.clone());
                self.running.push_back(
                    async move { Answered { weight, result: service.handle(&peer, command).await } }.boxed(),
                );
                return;
            }
            Ok(Request::Command { .. }) => refuse(Error::new(
                ErrorKind::Unauthenticated,
                "CLIENT_ID is not what this connection's login was answered with",
            )),
            Ok(Request::Login(_)) => refuse(Error::new(
                ErrorKind::InvalidInput,
                "CONN: this connection is logged in already; open another one",
            )),
            Ok(Request::Ping | Request::Pong) => refuse(Error::new(ErrorKind::Protocol, "neither a verb nor a ping")),
            Err(error) => refuse(error),
        };
        self.running.push_back(futures::future::ready(refusal).boxed());
    }

    fn next_ping(&mut self, _: &mut Context<'_>) -> Option<Message> {
        std::mem::take(&mut self.ping_due).then(|| Message::Ping(Bytes::new()))
    }

    fn next_pong(&mut self, _: &mut Context<'_>) -> Option<Message> {
        self.pongs = self.pongs.checked_sub(1)?;
        Some(Message::Text(Utf8Bytes::from_static(frame::PONG)))
    }

    /// Answers go before records, so that a subscriber learns that it is one before its first event comes.
    fn next_answer(&mut self, cx: &mut Context<'_>) -> Option<Message> {
        match self.running.poll_next_unpin(cx) {
            Poll::Ready(Some(Answered { weight, result })) => {
                self.weight = self.weight.saturating_sub(weight);
                self.start_what_waits();
                Some(Message::text(frame::write_answer(&result)))
            }
            Poll::Ready(None) | Poll::Pending => None,
        }
    }

    fn next_record(&mut self, cx: &mut Context<'_>) -> Option<Message> {
        if self.leaving {
            return None;
        }
        match self.inbox.poll_next_unpin(cx) {
            Poll::Ready(Some(delivery)) => Some(Message::text(frame::write_record(&delivery))),
            Poll::Ready(None) => {
                self.leaving = true;
                None
            }
            Poll::Pending => None,
        }
    }
}

/// What a frame weighs while it waits and its command runs, with what its answer may need.
fn weight(text: &str, answer: usize) -> usize {
    text.len().saturating_add(answer)
}

impl Half for Connection {
    type End = End;

    const SOURCES: &'static [Source<Self>] = &[Self::next_ping, Self::next_pong, Self::next_answer, Self::next_record];

    fn reads(&self) -> bool {
        !(self.is_full() || self.leaving)
    }

    fn take(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Text(text) => self.take_text(text),
            Message::Ping(_) | Message::Pong(_) => {}
            other => return Err(End::of_message(&other)),
        }
        Ok(())
    }

    fn attend(&mut self, wire: Condition, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.leaving && self.running.is_empty() && self.waiting.is_empty() {
            return Err(End::says(CloseCode::Away, "the engine ended the session"));
        }
        if self.ping.poll_tick(cx).is_pending() {
            return Ok(false);
        }
        // A part of a frame will do; or it is we who do not read, for the service is slow, and the client waits for us.
        let mark = self.activity.mark();
        let alive = std::mem::replace(&mut self.seen, mark) != mark;
        if alive || (self.is_full() && !wire.blocked) {
            self.unanswered = 0;
        }
        if self.unanswered >= 2 {
            return Err(End::says(CloseCode::Policy, "no sign of life"));
        }
        self.unanswered += 1;
        self.ping_due = true;
        Ok(true)
    }

    fn broken(&self, cause: WsError) -> End {
        End::of_error(&cause)
    }
}
