//! What is known of the connection that a call came on.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::budget::{Pool, Taken};

/// What requests under way may hold on a connection that has used no session: a few thousand logins.
const STRANGER_BYTES: usize = 1 << 20;
/// The same once it has used one.
const KNOWN_BYTES: usize = 64 << 20;

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
    stranger: Arc<Pool>,
    known: Arc<Pool>,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(remote: Option<SocketAddr>) -> Self {
        Self(Arc::new(State {
            remote,
            start: Instant::now(),
            used: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
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

    /// Takes what a request holds, in bytes, if there is so much. `strangers` is what connections that have used no session share
    /// for what is not small.
    pub(super) fn take(&self, bytes: usize, strangers: &Arc<Pool>) -> Option<Taken> {
        const SMALL: usize = 64 << 10;
        let pool = match self.is_known() {
            true => &self.0.known,
            false if bytes <= SMALL => &self.0.stranger,
            false => strangers,
        };
        Pool::take(pool, bytes)
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

    #[test]
    fn a_stranger_may_hold_less() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _enter = runtime.enter();
        let (connection, strangers) = (Connection::new(None), Pool::new(10 << 20));
        let large = connection.take(8 << 20, &strangers).unwrap();
        assert!(Connection::new(None).take(8 << 20, &strangers).is_none(), "all strangers share it");
        let small: Vec<_> = std::iter::from_fn(|| connection.take(64 << 10, &strangers)).collect();
        assert_eq!(small.len(), 16);
        drop(large);
        assert!(Connection::new(None).take(8 << 20, &strangers).is_some(), "it is given back");
        connection.used();
        let known: Vec<_> = std::iter::from_fn(|| connection.take(8 << 20, &strangers)).collect();
        assert_eq!(known.len(), 8);
        drop((small, known));
        assert!(connection.take(64 << 20, &strangers).is_some());
        assert!(connection.take((64 << 20) + 1, &strangers).is_none());
    }
}
