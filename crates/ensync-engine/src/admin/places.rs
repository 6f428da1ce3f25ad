//! How many connections there are, and which of them does something.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long a connection may be open until its first request is whole, and how long after a request until the next is.
const IDLE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(90));

/// The places of connections.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    last: u64,
    connections: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    /// How many requests are under way.
    requests: usize,
    /// Whether there ever was one.
    used: bool,
    /// Since when there is none.
    since: Instant,
    out: CancellationToken,
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::default() })
    }

    /// A place for one more. If all are taken, the connection that has been idle for the longest time loses its own, one that never
    /// asked anything before the others; `None` if none is idle.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.lock();
        if taken.connections.len() >= self.max {
            let idle = taken.connections.iter().filter(|(_, connection)| connection.requests == 0);
            let number = idle.min_by_key(|(_, connection)| (connection.used, connection.since)).map(|(n, _)| *n)?;
            taken.connections.remove(&number)?.out.cancel();
        }
        taken.last += 1;
        let (number, out) = (taken.last, CancellationToken::new());
        let connection = Connection { requests: 0, used: false, since: Instant::now(), out: out.clone() };
        taken.connections.insert(number, connection);
        Some(Place { places: self.clone(), number, out })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing panics while it is held.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    out: CancellationToken,
}

impl Place {
    /// Cancelled when the connection has to make room.
    pub(super) fn out(&self) -> CancellationToken {
        self.out.clone()
    }

    /// Notes that a request is under way while what is returned lives.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.change(|connection| (connection.requests, connection.used) = (connection.requests + 1, true));
        UnderWay(self.clone())
    }

    /// Returns when there was no request for too long.
    pub(super) async fn idle(&self) {
        loop {
            let now = Instant::now();
            let idle = {
                let taken = self.places.lock();
                let Some(connection) = taken.connections.get(&self.number) else { return };
                let most = if connection.used { IDLE.1 } else { IDLE.0 };
                (connection.requests == 0).then(|| connection.since + most)
            };
            match idle {
                Some(until) if until <= now => return,
                Some(until) => sleep_until(until).await,
                None => sleep(IDLE.0).await,
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.places.lock().connections.get_mut(&self.number) {
            change(connection);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().connections.remove(&self.number);
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Place>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.change(|connection| {
            connection.requests = connection.requests.saturating_sub(1);
            connection.since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_idle_makes_room_and_who_works_does_not() {
        let places = Places::new(3);
        let [worker, user, silent] = [(); 3].map(|()| Arc::new(places.take().unwrap()));
        let under_way = worker.begin();
        drop(user.begin());
        let more = Arc::new(places.take().unwrap());
        assert!(silent.out().is_cancelled() && !user.out().is_cancelled(), "it never asked anything");
        let busy = more.begin();
        let again = Arc::new(places.take().unwrap());
        assert!(user.out().is_cancelled() && !worker.out().is_cancelled());
        let busy_too = again.begin();
        assert!(places.take().is_none(), "all of them work");
        drop((under_way, busy_too));
        assert!(places.take().is_some() && worker.out().is_cancelled(), "idle for the longest time");
        drop((busy, more, again, silent, user, worker));
        assert!(places.lock().connections.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn idleness_ends() {
        let places = Places::new(3);
        let (place, begun) = (Arc::new(places.take().unwrap()), Instant::now());
        place.idle().await;
        assert_eq!(begun.elapsed(), IDLE.0);
        let (used, begun) = (Arc::new(places.take().unwrap()), Instant::now());
        let under_way = used.begin();
        tokio::spawn(async move {
            sleep(Duration::from_secs(1_000)).await;
            drop(under_way);
        });
        used.idle().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1_000) + IDLE.1);
    }
}
