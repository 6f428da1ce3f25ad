//! How long to wait before an attempt to reconnect.

use std::time::Duration;

/// The longest wait.
const CAP: Duration = Duration::from_secs(60);
/// What each further attempt multiplies the wait by; the peers' factor.
const FACTOR: f64 = 1.5;

/// The longest wait before attempt number `attempt`, counted from 1.
fn ceiling(interval: Duration, attempt: u32) -> Duration {
    // 1.5^30 is beyond the cap for every interval of a millisecond or more.
    let exponent = i32::try_from(attempt.saturating_sub(1).min(64)).unwrap_or(64);
    Duration::try_from_secs_f64(interval.as_secs_f64() * FACTOR.powi(exponent)).unwrap_or(CAP).min(CAP.max(interval))
}

/// The wait before attempt number `attempt`: exponential with full jitter, so that clients cut off together do not come back
/// together. `random` is uniform in 0..1.
pub(super) fn delay(interval: Duration, attempt: u32, random: f64) -> Duration {
    ceiling(interval, attempt).mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_grows_and_stops() {
        let five = Duration::from_secs(5);
        assert_eq!(ceiling(five, 1), five);
        assert_eq!(ceiling(five, 2), Duration::from_millis(7_500));
        assert_eq!(ceiling(five, 7), Duration::from_secs_f64(5.0 * 1.5f64.powi(6)));
        assert_eq!(ceiling(five, 8), CAP);
        assert_eq!(ceiling(five, u32::MAX), CAP);
        assert_eq!(ceiling(Duration::from_secs(90), 3), Duration::from_secs(90));
    }

    #[test]
    fn jitter_takes_any_part_of_it() {
        let five = Duration::from_secs(5);
        assert_eq!(delay(five, 1, 0.0), Duration::ZERO);
        assert_eq!(delay(five, 1, 0.5), Duration::from_millis(2_500));
        assert_eq!(delay(five, 1, 1.0), five);
    }
}
