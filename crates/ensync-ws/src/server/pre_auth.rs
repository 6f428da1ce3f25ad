//! What a client that has not logged in may send.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest frame before the login, in bytes of payload. A login has about 530 at most.
const MAX_FRAME: u64 = 4 << 10;
/// All bytes before the login.
const MAX_BYTES: u64 = 64 << 10;

/// A stream that ends with an error when it says that a longer frame comes, or goes on for too long, until it is
/// [opened](PreAuthLimit::open). The WebSocket above it reserves the length that a frame's header says, and its limit cannot be
/// changed later: so this reads the headers first (RFC 6455 section 5.2).
#[derive(Debug)]
pub(super) struct PreAuthLimit<S> {
    stream: S,
    watch: Option<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    header: Header,
    /// What is left of the frame's payload.
    payload: u64,
    bytes: u64,
    exceeded: bool,
}

#[derive(Debug, Default)]
struct Header {
    bytes: [u8; 14],
    read: usize,
}

impl<S> PreAuthLimit<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, watch: Some(Watch::default()) }
    }

    /// The client is logged in: what it sends is limited otherwise.
    pub(super) fn open(&mut self) {
        self.watch = None;
    }

    /// Whether the client sent more than it may.
    pub(super) fn is_exceeded(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.exceeded)
    }
}

impl Watch {
    /// Follows the frames. `false` if they are not what may come.
    fn take(&mut self, data: &[u8]) -> bool {
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        let mut data = data.iter();
        while !data.as_slice().is_empty() {
            if self.payload > 0 {
                let skipped = self.payload.min(data.as_slice().len() as u64);
                self.payload -= skipped;
                // At most the slice's length.
                data.nth((skipped - 1) as usize);
                continue;
            }
            for byte in data.by_ref() {
                if let Some(length) = self.header.push(*byte) {
                    self.payload = length;
                    break;
                }
            }
            if self.payload > MAX_FRAME {
                self.exceeded = true;
            }
        }
        self.exceeded |= self.bytes > MAX_BYTES;
        !self.exceeded
    }
}

impl Header {
    /// One more byte; the payload's length once the header is complete.
    fn push(&mut self, byte: u8) -> Option<u64> {
        *self.bytes.get_mut(self.read)? = byte;
        self.read += 1;
        let [_, second, ..] = self.bytes;
        let (short, mask) = (second & 0x7f, if second & 0x80 == 0 { 0 } else { 4 });
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.read < 2 || self.read < 2 + extended + mask {
            return None;
        }
        self.read = 0;
        let [_, _, a, b, c, d, e, f, g, h, ..] = self.bytes;
        Some(match extended {
            0 => short.into(),
            2 => u16::from_be_bytes([a, b]).into(),
            _ => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PreAuthLimit<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if self.watch.as_mut().is_none_or(|watch| watch.take(fresh)) {
            return Poll::Ready(Ok(()));
        }
        buf.set_filled(before);
        Poll::Ready(Err(io::Error::other("more than a login before the login")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PreAuthLimit<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u64, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = match length {
            0..126 => vec![0x81, length as u8 | mask],
            126..0x1_0000 => [&[0x81, 126 | mask], &(length as u16).to_be_bytes()[..]].concat(),
            _ => [&[0x81, 127 | mask], &length.to_be_bytes()[..]].concat(),
        };
        frame.extend([7; 4].iter().take(if masked { 4 } else { 0 }));
        frame
    }

    #[test]
    fn frames_are_followed_however_they_are_cut() {
        let mut wire = Vec::new();
        for length in [0, 1, 125, 126, 4_096] {
            wire.extend(frame(length, true));
            wire.extend(vec![0xff; length as usize]);
        }
        let good = wire.len();
        wire.extend(frame(4_097, true));
        for cut in [1, 2, 3, 7, 100, wire.len()] {
            let mut watch = Watch::default();
            assert!(wire[..good].chunks(cut).all(|part| watch.take(part)), "{cut}");
            assert!(!wire[good..].chunks(cut).all(|part| watch.take(part)), "{cut}");
        }
    }

    #[test]
    fn what_is_too_long_is_seen_by_its_header() {
        for length in [4_097, 0xffff, 0x1_0000, 1 << 24, u64::MAX] {
            for masked in [true, false] {
                assert!(!Watch::default().take(&frame(length, masked)), "{length}");
            }
        }
        let small = [frame(100, true), vec![0; 100]].concat();
        let mut watch = Watch::default();
        let taken = (0..10_000).take_while(|_| watch.take(&small)).count();
        assert_eq!(taken, (64 << 10) / small.len());
    }
}
