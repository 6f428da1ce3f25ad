//! How long to wait before an attempt to reconnect.

use std::time::Duration;

use ensync_core::ErrorKind;

/// The longest wait.
const CAP: Duration = Duration::from_secs(60);
/// What each further attempt multiplies the wait by; the peers' factor.
pub(crate) const FACTOR: f64 = 1.5;

/// The waits of one session: exponential with full jitter, so that clients cut off together do not come back together.
pub(super) struct Backoff {
    interval: Duration,
    factor: f64,
    random: fastrand::Rng,
    /// Attempts in a row that came to nothing.
    pub(super) attempt: u32,
}

impl Backoff {
    pub(super) fn new(interval: Duration, factor: f64, seed: Option<u64>) -> Self {
        let random = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Self { interval, factor, random, attempt: 0 }
    }

    /// The wait before the next attempt, given why the last one failed.
    pub(super) fn next(&mut self, cause: ErrorKind) -> Duration {
        self.attempt = self.attempt.saturating_add(1);
        let ceiling = ceiling(self.interval, self.factor, self.attempt);
        let random = self.random.f64().clamp(0.0, 1.0);
        if asks_for_time(cause) { ceiling.mul_f64(0.5 + random / 2.0) } else { ceiling.mul_f64(random) }
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
        let mut backoff = Backoff::new(FIVE, 1.0, Some(7));
        let waits: Vec<_> = (0..1_000).map(|_| backoff.next(ErrorKind::Connect)).collect();
        assert!(waits.iter().all(|wait| *wait <= FIVE));
        assert!(waits.iter().any(|wait| *wait < FIVE / 20) && waits.iter().any(|wait| *wait > FIVE * 19 / 20));
        let mut again = Backoff::new(FIVE, 1.0, Some(7));
        assert!(waits.iter().all(|wait| *wait == again.next(ErrorKind::Connect)), "a seed repeats");
    }

    #[test]
    fn an_engine_that_asks_for_time_gets_it() {
        let mut backoff = Backoff::new(FIVE, 1.0, None);
        for kind in [ErrorKind::LimitExceeded, ErrorKind::Unavailable] {
            assert!((0..1_000).all(|_| (FIVE / 2..=FIVE).contains(&backoff.next(kind))));
        }
    }
}
