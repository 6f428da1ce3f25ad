//! How long to wait before an attempt to reconnect.

use std::time::Duration;

use ensync_core::ErrorKind;
use tokio::time::Instant;

use crate::Attempts;

/// The longest wait.
const CAP: Duration = Duration::from_secs(60);
/// The longest while a call waits for the connection: a small part of what calls have by default, 30 s.
const AWAITED: Duration = Duration::from_secs(2);
/// The longest while somebody is subscribed, or an outbox has something to send. Nobody's deadline runs out, but what waits for them is as
/// late as they are: a minute would be the longest of all that they see after a short outage. It is longer than for a call, for there are
/// far more readers than callers, and they dial for as long as the outage lasts.
const LISTENED: Duration = Duration::from_secs(10);
/// The same for a call in an outage that has lasted. Calls that begin late in it have their time too, and there may be many who wait for days.
const AWAITED_LONG: Duration = Duration::from_secs(6);
/// After so many attempts it has: with the defaults half a minute or more.
const LONG: u32 = 30;
/// What each further attempt multiplies the wait by; the peers' factor.
pub(crate) const FACTOR: f64 = 1.5;

/// The waits of one session: exponential with full jitter, so that clients cut off together do not come back together.
pub(super) struct Backoff {
    interval: Duration,
    factor: f64,
    /// Whether it matters who waits: if attempts are counted, sooner ones would only be used up sooner.
    hurries: bool,
    random: fastrand::Rng,
    /// Attempts in a row that came to nothing.
    pub(super) attempt: u32,
}

/// How long to wait before an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wait {
    /// If nobody waits for the connection.
    pub(super) usual: Duration,
    /// If a reader does, or an outbox that has something to send; never more than that.
    pub(super) listened: Duration,
    /// If a call does; never more than that.
    pub(super) awaited: Duration,
}

impl Wait {
    /// The same, of which so much is over.
    pub(super) fn less(self, over: Duration) -> Self {
        let Self { usual, listened, awaited } = self;
        let less = |wait: Duration| wait.saturating_sub(over);
        Self { usual: less(usual), listened: less(listened), awaited: less(awaited) }
    }
}

impl Backoff {
    pub(super) fn new(interval: Duration, factor: f64, attempts: Attempts, seed: Option<u64>) -> Self {
        let random = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Self { interval, factor, hurries: attempts == Attempts::Unlimited, random, attempt: 0 }
    }

    /// The wait before the next attempt, given why the last one failed.
    pub(super) fn next(&mut self, cause: ErrorKind) -> Wait {
        self.attempt = self.attempt.saturating_add(1);
        let ceiling = ceiling(self.interval, self.factor, self.attempt);
        // An engine that is full has no room for whoever hurries.
        let hurries = self.hurries && cause != ErrorKind::LimitExceeded;
        let longest = |longest| if hurries { ceiling.min(longest) } else { ceiling };
        let awaited = longest(if self.attempt > LONG { AWAITED_LONG } else { AWAITED });
        let random = self.random.f64().clamp(0.0, 1.0);
        let part = if asks_for_time(cause) { 0.5 + random / 2.0 } else { random };
        // One that forgets its sessions is no better off for those who come back sooner.
        let listened = if cause == ErrorKind::Unauthenticated { ceiling } else { longest(LISTENED) };
        let [usual, listened, awaited] = [ceiling, listened, awaited].map(|ceiling| ceiling.mul_f64(part));
        Wait { usual, listened, awaited }
    }
}

/// How often a link that ended in order is followed without a wait.
///
/// That is what an engine that restarts wants, or a proxy that ends connections that are old. One that serves something over each link, and
/// then ends it, would be stormed: so each costs one of a few that come back with time. To have forgotten the session costs all of them: two
/// clients that drive each other out each serve something first.
#[derive(Debug)]
pub(super) struct AtOnce {
    interval: Duration,
    left: f64,
    since: Instant,
}

impl AtOnce {
    /// How many there are at most.
    const MOST: f64 = 8.0;

    /// One comes back in each interval.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval: interval.max(Duration::from_millis(1)), left: Self::MOST, since: Instant::now() }
    }

    /// Takes what it costs, if that is there.
    pub(super) fn take(&mut self, ended: ErrorKind) -> bool {
        let cost = match ended {
            ErrorKind::Closed => 1.0,
            ErrorKind::Unauthenticated => Self::MOST,
            _ => return false,
        };
        let now = Instant::now();
        let back = now.saturating_duration_since(self.since).as_secs_f64() / self.interval.as_secs_f64();
        (self.left, self.since) = ((self.left + back).min(Self::MOST), now);
        let enough = self.left >= cost;
        if enough {
            self.left -= cost;
        }
        enough
    }
}

/// Whether the engine itself said that this is not the moment: then nobody comes back at once.
pub(super) fn asks_for_time(cause: ErrorKind) -> bool {
    matches!(cause, ErrorKind::LimitExceeded | ErrorKind::Unavailable)
}

/// The longest wait before attempt number `attempt`, counted from 1.
fn ceiling(interval: Duration, factor: f64, attempt: u32) -> Duration {
    let exponent = i32::try_from(attempt.saturating_sub(1).min(1_024)).unwrap_or(1_024);
    Duration::try_from_secs_f64(interval.as_secs_f64() * factor.powi(exponent)).unwrap_or(CAP).min(CAP.max(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Duration = Duration::from_secs(5);

    fn backoff(factor: f64, seed: Option<u64>) -> Backoff {
        Backoff::new(FIVE, factor, Attempts::Unlimited, seed)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_followed_at_once_is_bounded() {
        let mut at_once = AtOnce::new(FIVE);
        assert!(!at_once.take(ErrorKind::Interrupted), "that is no end in order");
        assert!((0..8).all(|_| at_once.take(ErrorKind::Closed)) && !at_once.take(ErrorKind::Closed));
        tokio::time::advance(FIVE).await;
        assert!(at_once.take(ErrorKind::Closed) && !at_once.take(ErrorKind::Closed));
        tokio::time::advance(7 * FIVE).await;
        assert!(!at_once.take(ErrorKind::Unauthenticated));
        tokio::time::advance(FIVE).await;
        assert!(at_once.take(ErrorKind::Unauthenticated) && !at_once.take(ErrorKind::Closed));
    }

    #[test]
    fn the_ceiling_grows_and_stops() {
        assert_eq!(ceiling(FIVE, FACTOR, 1), FIVE);
        assert_eq!(ceiling(FIVE, FACTOR, 2), Duration::from_millis(7_500));
        assert_eq!(ceiling(FIVE, FACTOR, 7), Duration::from_secs_f64(5.0 * 1.5f64.powi(6)));
        assert_eq!(ceiling(FIVE, FACTOR, 8), CAP);
        assert_eq!(ceiling(FIVE, FACTOR, u32::MAX), CAP);
        assert_eq!(ceiling(FIVE, 1.0, u32::MAX), FIVE);
        assert_eq!(ceiling(Duration::from_secs(90), FACTOR, 3), Duration::from_secs(90));
        assert_eq!(ceiling(Duration::ZERO, FACTOR, u32::MAX), Duration::ZERO);
    }

    #[test]
    fn jitter_takes_any_part_of_it() {
        let mut some = backoff(1.0, Some(7));
        let waits: Vec<_> = (0..1_000).map(|_| some.next(ErrorKind::Connect)).collect();
        let usual = || waits.iter().map(|wait| wait.usual);
        assert!(usual().all(|wait| wait <= FIVE));
        assert!(usual().any(|wait| wait < FIVE / 20) && usual().any(|wait| wait > FIVE * 19 / 20));
        let mut again = backoff(1.0, Some(7));
        assert!(waits.iter().all(|wait| *wait == again.next(ErrorKind::Connect)), "a seed repeats");
    }

    #[test]
    fn an_engine_that_asks_for_time_gets_it() {
        let mut backoff = backoff(1.0, None);
        for kind in [ErrorKind::LimitExceeded, ErrorKind::Unavailable] {
            assert!((0..1_000).all(|_| (FIVE / 2..=FIVE).contains(&backoff.next(kind).usual)));
        }
    }

    #[test]
    fn whoever_waits_waits_a_short_part_of_his_time() {
        let mut some = backoff(FACTOR, Some(3));
        let waits: Vec<_> = (0..200).map(|_| some.next(ErrorKind::Connect)).collect();
        assert!(waits.iter().all(|wait| wait.awaited <= wait.listened && wait.listened <= wait.usual));
        assert!(waits.iter().all(|wait| wait.listened <= LISTENED));
        assert!(waits.iter().any(|wait| wait.listened > LISTENED * 9 / 10));
        let (early, late) = waits.split_at(30);
        assert!(
            early.iter().all(|wait| wait.awaited <= AWAITED) && late.iter().all(|wait| wait.awaited <= AWAITED_LONG)
        );
        // What is usual grows all the same, and a short interval stays one.
        assert!(late.iter().any(|wait| wait.usual > CAP / 2) && late.iter().any(|wait| wait.awaited > AWAITED));
        let mut short = Backoff::new(FIVE / 1_000, 1.0, Attempts::Unlimited, None);
        assert!((0..100).all(|_| short.next(ErrorKind::Connect).awaited <= FIVE / 1_000));
        // The engine starts or stops: a moment between, however little there is to lose.
        let mut not_ready = backoff(FACTOR, None);
        assert!((0..30).all(|_| (AWAITED / 2..=AWAITED).contains(&not_ready.next(ErrorKind::Unavailable).awaited)));
    }

    #[test]
    fn nobody_hurries_to_an_engine_that_is_full_or_uses_up_attempts_that_are_counted() {
        let mut full = backoff(FACTOR, None);
        let mut counted = Backoff::new(FIVE, FACTOR, Attempts::AtMost(10), None);
        for _ in 0..20 {
            for wait in [full.next(ErrorKind::LimitExceeded), counted.next(ErrorKind::Connect)] {
                assert_eq!((wait.awaited, wait.listened), (wait.usual, wait.usual));
            }
        }
    }
}
