//! What is known of the connection that a call came on.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::budget::{Held, Memory, Pool};

/// What requests under way may hold on a connection that has used no session, of its own: room for a login, whatever others hold.
const STRANGER_BYTES: usize = 64 << 10;
/// What they may hold once it has used one.
const KNOWN_BYTES: usize = 64 << 20;
/// How many replays may be under way on a connection, from the reading of the event until the client has taken it. More wait.
const REPLAYS: usize = 4;

/// One connection: an extension of its requests, which the listener inserts, so that the engine knows where a login came from, how
/// much the requests of the connection hold, and whether it is used at all. Without it a call is one of an unknown connection of
/// its own.
///
/// A handle, cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection(Arc<State>);

#[derive(Debug)]
struct State {
    remote: Option<SocketAddr>,
    start: Instant,
    /// Milliseconds from `start` to the last use of a session, and 1; 0 if there was none.
    used: AtomicU64,
    streams: AtomicUsize,
    /// The listener made it: it ends with the connection.
    listened: bool,
    stranger: Arc<Pool>,
    known: Arc<Pool>,
    replays: Arc<Semaphore>,
}

/// A connection as its sessions remember it.
#[derive(Clone, Debug)]
pub(super) struct Remembered(Weak<State>);

impl Remembered {
    /// Whether it is still there.
    pub(super) fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }

    pub(super) fn is(&self, connection: &Connection) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&connection.0))
    }
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(remote: Option<SocketAddr>) -> Self {
        Self::with(remote, true)
    }

    /// The unknown connection of one call.
    pub(super) fn unknown() -> Self {
        Self::with(None, false)
    }

    fn with(remote: Option<SocketAddr>, listened: bool) -> Self {
        Self(Arc::new(State {
            remote,
            start: Instant::now(),
            used: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            listened,
            replays: Arc::new(Semaphore::new(REPLAYS)),
            stranger: Pool::new(STRANGER_BYTES),
            known: Pool::new(KNOWN_BYTES),
        }))
    }

    /// Where it came from.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.0.remote
    }

    /// Whether a call of it has logged in or used a session.
    pub fn is_known(&self) -> bool {
        self.0.used.load(Ordering::Relaxed) != 0
    }

    /// Resolves once nobody uses the connection: `login` after it was made if no call has used a session by then, or `idle` after
    /// the last one did and the last stream ended.
    pub fn idle(&self, login: Duration, idle: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (login, idle) = (crate::interval(login), crate::interval(idle));
        let state = self.0.clone();
        async move {
            sleep(login).await;
            loop {
                let Some(used) = state.used.load(Ordering::Relaxed).checked_sub(1) else { return };
                let left = if state.streams.load(Ordering::Relaxed) > 0 {
                    idle
                } else {
                    idle.saturating_sub((state.start + Duration::from_millis(used)).elapsed())
                };
                if left.is_zero() {
                    return;
                }
                sleep(left).await;
            }
        }
    }

    /// A call used a session.
    pub(super) fn used(&self) {
        let since = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.used.store(since.saturating_add(1), Ordering::Relaxed);
    }

    /// A stream of deliveries goes down it, until what is returned is dropped.
    pub(super) fn stream(&self) -> OpenStream {
        self.0.streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.clone())
    }

    /// For a session to remember; `None` if nobody can know when it ends.
    pub(super) fn remember(&self) -> Option<Remembered> {
        self.0.listened.then(|| Remembered(Arc::downgrade(&self.0)))
    }

    /// Waits for room for one replay more.
    pub(super) async fn replay(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.0.replays.clone().acquire_owned().await.ok()
    }

    /// Takes what a request holds, in bytes, if there is so much. A connection that has used no session has a little of its own,
    /// and shares more with others of that kind.
    pub(super) fn take(&self, bytes: usize, memory: &Memory) -> Option<Held> {
        if self.is_known() {
            let own = Pool::take(&self.0.known, bytes)?;
            return Some(Held { own: Some(own), shared: Some(Pool::take(&memory.known, bytes)?) });
        }
        match Pool::take(&self.0.stranger, bytes) {
            own @ Some(_) => Some(Held { own, shared: None }),
            None => Some(Held { own: None, shared: Some(Pool::take(&memory.strangers, bytes)?) }),
        }
    }
}

/// See [`Connection::stream`].
#[derive(Debug)]
pub(super) struct OpenStream(Connection);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.used();
        self.0.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: Duration = Duration::from_secs(30);
    const IDLE: Duration = Duration::from_secs(300);

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_uses_a_session_is_idle_after_the_time_for_a_login() {
        let since = Instant::now();
        Connection::new(None).idle(LOGIN, IDLE).await;
        assert_eq!(since.elapsed().as_secs(), LOGIN.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_and_streams_keep_a_connection() {
        let connection = Connection::new(None);
        let idle = tokio::spawn(connection.idle(LOGIN, IDLE));
        connection.used();
        for _ in 0..3 {
            tokio::time::advance(IDLE - Duration::from_secs(1)).await;
            assert!(!idle.is_finished());
            connection.used();
        }
        let stream = connection.stream();
        for _ in 0..5 {
            tokio::time::advance(IDLE).await;
            tokio::task::yield_now().await;
            assert!(!idle.is_finished());
        }
        drop(stream);
        let since = Instant::now();
        idle.await.unwrap();
        assert_eq!(since.elapsed().as_secs(), IDLE.as_secs());
    }

    #[tokio::test]
    async fn a_stranger_may_hold_less() {
        let memory = Memory { known: Pool::new(96 << 20), strangers: Pool::new(10 << 20) };
        let connection = Connection::new(None);
        let large = connection.take(8 << 20, &memory).unwrap();
        let full: Vec<_> = std::iter::from_fn(|| connection.take(32 << 10, &memory)).collect();
        // 64 KiB of its own, and 2 MiB that are left of what all strangers share.
        assert_eq!(full.len(), 2 + 64);
        let other = Connection::new(None);
        assert!(other.take(65 << 10, &memory).is_none(), "all strangers share it");
        assert!(other.take(20 << 10, &memory).is_some(), "nobody can take the room for a login away");
        drop((large, full));
        assert!(other.take(8 << 20, &memory).is_some(), "it is given back");

        connection.used();
        let known: Vec<_> = std::iter::from_fn(|| connection.take(8 << 20, &memory)).collect();
        assert_eq!(known.len(), 8);
        other.used();
        let others: Vec<_> = std::iter::from_fn(|| other.take(8 << 20, &memory)).collect();
        assert_eq!(others.len(), 4, "one pool for all");
        drop((known, others));
        assert!(connection.take(64 << 20, &memory).is_some());
        assert!(connection.take((64 << 20) + 1, &memory).is_none());
    }
}
