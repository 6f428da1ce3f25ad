//! When a connection last showed that the other side is there.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The last sign of life on a connection. Cheap to clone: clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    /// In microseconds since `start`.
    last: AtomicU64,
    /// The bytes that came.
    received: AtomicU64,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { start: Instant::now(), last: AtomicU64::new(0), received: AtomicU64::new(0) }))
    }

    fn touch(&self) {
        let now = u64::try_from(self.0.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0.last.store(now, Ordering::Relaxed);
    }

    /// So many bytes came.
    pub(crate) fn came(&self, bytes: usize) {
        self.touch();
        self.0.received.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many there were.
    pub(crate) fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// A number that changes with each.
    #[cfg(feature = "server")]
    pub(crate) fn mark(&self) -> u64 {
        self.0.last.load(Ordering::Relaxed)
    }

    /// For how long there was none.
    pub(crate) fn silent_for(&self) -> Duration {
        self.0.start.elapsed().saturating_sub(Duration::from_micros(self.0.last.load(Ordering::Relaxed)))
    }
}

/// A stream that notes each sign of life of the other side. That is any byte that arrives, be it a part of a frame; and that a
/// write which had to wait goes on, for the room it goes on in is made by the other side's acknowledgements (RFC 9293 section 3.8).
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    activity: Activity,
    /// The stream took nothing more when last asked.
    blocked: bool,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, activity: Activity::new(), blocked: false }
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    #[cfg(feature = "server")]
    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    #[cfg(feature = "server")]
    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let came = buf.filled().len().saturating_sub(before);
        if came > 0 {
            self.activity.came(came);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        match &written {
            Poll::Pending => self.blocked = true,
            Poll::Ready(Ok(1..)) if std::mem::take(&mut self.blocked) => self.activity.touch(),
            Poll::Ready(_) => {}
        }
        written
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_byte_that_comes_and_a_byte_that_is_taken_are_signs_of_life() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut ours = Watched::new(ours);
        let activity = ours.activity().clone();
        let wait = || tokio::time::sleep(Duration::from_secs(10));
        wait().await;
        assert_eq!(activity.silent_for(), Duration::from_secs(10));
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), b'x');
        assert_eq!((activity.silent_for(), activity.received()), (Duration::ZERO, 1));
        // What the network takes at once proves nothing.
        wait().await;
        ours.write_all(b"1234").await.unwrap();
        assert_eq!(activity.silent_for(), Duration::from_secs(10));
        let blocked = tokio::spawn(async move { ours.write_all(b"5").await });
        wait().await;
        assert_eq!(activity.silent_for(), Duration::from_secs(20));
        theirs.read_u8().await.unwrap();
        blocked.await.unwrap().unwrap();
        assert_eq!(activity.silent_for(), Duration::ZERO);
    }
}
