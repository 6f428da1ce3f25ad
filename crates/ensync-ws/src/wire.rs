//! What both halves do alike: reading, writing and flushing one socket, a batch each way at a time.

use std::task::{Context, Poll};

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

/// How many frames one direction moves before the other gets its turn.
const BATCH: usize = 64;

/// How many batches a task moves before it lets other tasks run.
const ROUNDS: usize = 16;

/// How many pings are answered before what was written so far must have gone out: to each the WebSocket layer writes a pong, and a
/// peer that reads none of them would make its buffer grow for ever.
const PONGS: usize = 256;

/// Where messages to be written come from. `None` if there is none now; the task is woken when there may be one.
pub(crate) type Source<H> = fn(&mut H, &mut Context<'_>) -> Option<Message>;

/// What one half makes of the messages on its socket.
pub(crate) trait Half: Sized + 'static {
    /// Why it ends the connection.
    type End;

    /// What it writes, the most urgent first. Each source may give a batch before the next is asked, so none starves.
    const SOURCES: &'static [Source<Self>];

    /// Whether it takes another message now.
    fn reads(&self) -> bool;

    /// Takes a message that was read.
    fn take(&mut self, message: Message) -> Result<(), Self::End>;

    /// Looks at clocks and at what others ask of it, after each batch. Says whether there is something to read or write by it.
    fn attend(&mut self, wire: Condition, cx: &mut Context<'_>) -> Result<bool, Self::End>;

    /// What it means that the socket failed, or ended.
    fn broken(&self, cause: WsError) -> Self::End;
}

/// How a socket is doing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condition {
    /// It took nothing more when last asked.
    pub(crate) blocked: bool,
}

/// A socket, and the loop that serves it.
///
/// Nothing in it waits for anything but the socket. Reading goes on while writing is blocked, or two sides that both wait for room
/// would wait for ever; it stops only for a peer that sends pings and reads nothing.
pub(crate) struct Wire<S> {
    socket: WebSocketStream<S>,
    unflushed: bool,
    /// The socket took nothing more when last asked.
    blocked: bool,
    /// Pings since the last flush.
    pings: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, unflushed: false, blocked: false, pings: 0 }
    }

    /// The socket alone, for a goodbye.
    pub(crate) fn into_socket(self) -> WebSocketStream<S> {
        self.socket
    }

    /// Serves `half` until it ends the connection.
    pub(crate) fn poll<H: Half>(&mut self, half: &mut H, cx: &mut Context<'_>) -> Poll<H::End> {
        for _ in 0..ROUNDS {
            match self.round(half, cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Moves a batch each way, or flushes if there was nothing to move. Says whether there may be more.
    fn round<H: Half>(&mut self, half: &mut H, cx: &mut Context<'_>) -> Result<bool, H::End> {
        let moved = self.read(half, cx)? | self.write(half, cx)?;
        let more = half.attend(Condition { blocked: self.blocked }, cx)?;
        if moved || more {
            return Ok(true);
        }
        if self.unflushed { self.flush(half, cx) } else { Ok(false) }
    }

    fn read<H: Half>(&mut self, half: &mut H, cx: &mut Context<'_>) -> Result<bool, H::End> {
        for nth in 0..BATCH {
            if !half.reads() || self.pings >= PONGS {
                return Ok(nth > 0);
            }
            match self.socket.poll_next_unpin(cx) {
                Poll::Pending => return Ok(nth > 0),
                // To a ping the WebSocket layer has queued the pong already; the next read writes it.
                Poll::Ready(Some(Ok(message))) => {
                    if message.is_ping() {
                        self.pings += 1;
                        self.unflushed = true;
                    }
                    half.take(message)?;
                }
                Poll::Ready(Some(Err(cause))) => return Err(half.broken(cause)),
                Poll::Ready(None) => return Err(half.broken(WsError::ConnectionClosed)),
            }
        }
        Ok(true)
    }

    fn write<H: Half>(&mut self, half: &mut H, cx: &mut Context<'_>) -> Result<bool, H::End> {
        let mut moved = false;
        for next in H::SOURCES {
            for _ in 0..BATCH {
                match self.socket.poll_ready_unpin(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(cause)) => return Err(half.broken(cause)),
                    Poll::Pending => {
                        self.blocked = true;
                        return Ok(moved);
                    }
                }
                let Some(message) = next(half, cx) else { break };
                self.socket.start_send_unpin(message).map_err(|cause| half.broken(cause))?;
                self.unflushed = true;
                moved = true;
            }
        }
        Ok(moved)
    }

    /// Writes out what is buffered. Says whether somebody who was blocked has room now, whom nobody else would wake.
    fn flush<H: Half>(&mut self, half: &mut H, cx: &mut Context<'_>) -> Result<bool, H::End> {
        match self.socket.poll_flush_unpin(cx) {
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                let waits = std::mem::take(&mut self.pings) >= PONGS;
                Ok(std::mem::take(&mut self.blocked) || waits)
            }
            Poll::Ready(Err(cause)) => Err(half.broken(cause)),
            Poll::Pending => {
                self.blocked = true;
                Ok(false)
            }
        }
    }
}
