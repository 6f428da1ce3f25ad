//! How long to wait before an attempt to reconnect.

use std::time::Duration;

use ensync_core::ErrorKind;

use crate::Attempts;

/// The longest wait.
const CAP: Duration = Duration::from_secs(60);
/// The longest while a call waits for the connection: a small part of what calls have by default, 30 s.
const AWAITED: Duration = Duration::from_secs(2);
/// The same in an outage that has lasted. Calls that begin late in it have their time too, and there may be many who wait for days.
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
    /// If a call does; never more than that.
    pub(super) awaited: Duration,
}

impl Wait {
    /// The same, of which so much is over.
    pub(super) fn less(self, over: Duration) -> Self {
        Self { usual: self.usual.saturating_sub(over), awaited: self.awaited.saturating_sub(over) }
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
        let awaited = match self.hurries && cause != ErrorKind::LimitExceeded {
            true if self.attempt > LONG => ceiling.min(AWAITED_LONG),
            true => ceiling.min(AWAITED),
            false => ceiling,
        };
        let random = self.random.f64().clamp(0.0, 1.0);
        let part = if asks_for_time(cause) { 0.5 + random / 2.0 } else { random };
        Wait { usual: ceiling.mul_f64(part), awaited: awaited.mul_f64(part) }
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
        assert!(waits.iter().all(|wait| wait.awaited <= wait.usual));
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
                assert_eq!(wait.awaited, wait.usual);
            }
        }
    }
}
