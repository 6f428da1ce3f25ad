//! How many connections there are, and which of them does something.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::context::Access;

/// How long a connection may be open until its first request is whole, and how long after a request until the next is.
const IDLE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(90));
/// How long nothing of an answer may be taken until its connection ends.
pub(super) const STILL: Duration = Duration::from_secs(30);

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
    /// The requests that are under way, by numbers of their own.
    requests: BTreeMap<u64, Stage>,
    last: u64,
    /// Whether there ever was one.
    used: bool,
    /// The most that was shown on it.
    shown: Option<Access>,
    /// Since when there is no request.
    since: Instant,
    out: CancellationToken,
}

/// How far a request is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// There is no answer yet.
    Asked,
    /// The answer is being sent; when some of it was taken last.
    Answered(Instant),
}

impl Connection {
    /// Who has to go first: whoever does nothing, one that never asked anything before the others; then whoever is busy and has shown
    /// no token; then whoever may only look. `None`: it stays.
    fn rank(&self) -> Option<(u8, Instant)> {
        let rank = match (self.requests.is_empty(), self.used, self.shown) {
            (true, false, _) => 0,
            (true, true, _) => 1,
            (false, _, None) => 2,
            (false, _, Some(Access::Read)) => 3,
            (false, _, Some(Access::Full)) => return None,
        };
        Some((rank, self.since))
    }

    /// When it has been idle, or stood still, for too long; `None` while it works.
    fn ends(&self) -> Option<Instant> {
        if self.requests.is_empty() {
            return Some(self.since + if self.used { IDLE.1 } else { IDLE.0 });
        }
        let moved = self.requests.values().filter_map(|stage| match stage {
            Stage::Asked => None,
            Stage::Answered(moved) => Some(*moved),
        });
        moved.min().map(|moved| moved + STILL)
    }
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::default() })
    }

    /// A place for one more. If all are taken somebody loses his own, the one that has been there for the longest time of those that have
    /// to go first; `None` if all of them are busy with what somebody asked who may do everything.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.lock();
        if taken.connections.len() >= self.max {
            let ranks = taken.connections.iter().filter_map(|(number, connection)| Some((connection.rank()?, *number)));
            let (_, number) = ranks.min()?;
            taken.connections.remove(&number)?.out.cancel();
        }
        taken.last += 1;
        let (number, out) = (taken.last, CancellationToken::new());
        let connection = Connection {
            requests: BTreeMap::new(),
            last: 0,
            used: false,
            shown: None,
            since: Instant::now(),
            out: out.clone(),
        };
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
        let mut number = 0;
        self.change(|connection| {
            connection.last += 1;
            number = connection.last;
            connection.used = true;
            connection.requests.insert(number, Stage::Asked);
        });
        UnderWay { place: self.clone(), number }
    }

    /// Notes what was shown on it.
    pub(super) fn shown(&self, access: Access) {
        self.change(|connection| {
            if connection.shown != Some(Access::Full) {
                connection.shown = Some(access);
            }
        });
    }

    /// Returns when there was no request for too long, or nothing was taken of an answer.
    pub(super) async fn idle(&self) {
        loop {
            let ends = {
                let taken = self.places.lock();
                let Some(connection) = taken.connections.get(&self.number) else { return };
                connection.ends()
            };
            match ends {
                Some(until) if until <= Instant::now() => return,
                // What begins meanwhile may end before that.
                Some(until) => sleep_until(until.min(Instant::now() + IDLE.0)).await,
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
pub(super) struct UnderWay {
    place: Arc<Place>,
    number: u64,
}

impl UnderWay {
    /// Notes that some of the answer was taken.
    pub(super) fn moved(&self) {
        self.place.change(|connection| {
            connection.requests.insert(self.number, Stage::Answered(Instant::now()));
        });
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.place.change(|connection| {
            connection.requests.remove(&self.number);
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
        for place in [&worker, &more, &again] {
            place.shown(Access::Full);
        }
        assert!(places.take().is_none(), "all of them work");
        drop((under_way, busy_too));
        assert!(places.take().is_some() && worker.out().is_cancelled(), "idle for the longest time");
        drop((busy, more, again, silent, user, worker));
        assert!(places.lock().connections.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_that_are_busy_strangers_make_room_first_and_whoever_may_do_everything_stays() {
        let places = Places::new(3);
        let [full, reader, stranger] = [(); 3].map(|()| Arc::new(places.take().unwrap()));
        let busy = [&full, &reader, &stranger].map(Place::begin);
        full.shown(Access::Full);
        full.shown(Access::Read);
        reader.shown(Access::Read);
        let first = Arc::new(places.take().unwrap());
        assert!(stranger.out().is_cancelled() && !reader.out().is_cancelled());
        let more = first.begin();
        first.shown(Access::Full);
        let second = Arc::new(places.take().unwrap());
        assert!(reader.out().is_cancelled() && !full.out().is_cancelled() && !first.out().is_cancelled());
        drop((busy, more, second));
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

    #[tokio::test(start_paused = true)]
    async fn one_answer_of_which_nothing_is_taken_ends_its_connection() {
        let places = Places::new(3);
        let (place, begun) = (Arc::new(places.take().unwrap()), Instant::now());
        let [still, moving] = [(); 2].map(|()| place.begin());
        for request in [&still, &moving] {
            request.moved();
        }
        let going_on = tokio::spawn(async move {
            loop {
                sleep(Duration::from_secs(1)).await;
                moving.moved();
            }
        });
        place.idle().await;
        assert_eq!(begun.elapsed(), STILL);
        going_on.abort();
    }
}
