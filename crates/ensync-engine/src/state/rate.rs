//! How fast an app may publish.

use std::collections::HashMap;
use std::time::Duration;

use ensync_core::{AppId, Timestamp};

use crate::model::Rate;

/// Who published how much lately. The generic cell rate algorithm: for each app one time, in nanoseconds, at which it would have
/// its whole burst again. And at how many of them it is looked who is of no use any more.
#[derive(Debug, Default)]
pub(super) struct Rates(HashMap<AppId, u64>, usize);

/// How many apps are remembered before it is looked who need not be.
const MANY: usize = 1_024;

impl Rates {
    /// Counts one event, or says how long to wait for it.
    pub(super) fn take(&mut self, app: AppId, rate: Rate, now: Timestamp) -> Result<(), Duration> {
        let one = 1_000_000_000 / u64::from(rate.per_second.get());
        let burst = one.saturating_mul(u64::from(rate.burst.get() - 1));
        let now = now.as_millis().saturating_mul(1_000_000);
        if self.0.len() >= self.1 {
            // Whoever has its whole burst again needs no entry.
            self.0.retain(|_, full| *full > now);
            self.1 = MANY.max(2 * self.0.len());
        }
        let full = self.0.entry(app).or_default();
        let ahead = full.saturating_sub(now);
        if ahead > burst {
            return Err(Duration::from_nanos(ahead - burst));
        }
        *full = (*full).max(now).saturating_add(one);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const START: u64 = 1_700_000_000_000;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: NonZeroU32::new(per_second).unwrap(), burst: NonZeroU32::new(burst).unwrap() }
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (app, other) = (AppId::from_bytes([1; 32]), AppId::from_bytes([2; 32]));
        let mut rates = Rates::default();
        let at = Timestamp::from_millis;
        for _ in 0..5 {
            rates.take(app, rate(10, 5), at(START)).unwrap();
        }
        assert_eq!(rates.take(app, rate(10, 5), at(START)), Err(Duration::from_millis(100)));
        assert_eq!(
            rates.take(app, rate(10, 5), at(START + 40)),
            Err(Duration::from_millis(60)),
            "refusals cost nothing"
        );
        rates.take(other, rate(10, 5), at(START)).unwrap();
        rates.take(app, rate(10, 5), at(START + 100)).unwrap();
        rates.take(app, rate(10, 5), at(START + 100)).unwrap_err();
        // After a long pause: the burst, and no more.
        let taken = (0..100).take_while(|_| rates.take(app, rate(10, 5), at(START + 60_000)).is_ok()).count();
        assert_eq!(taken, 5);
    }

    #[test]
    fn apps_that_do_not_publish_any_more_are_forgotten() {
        let mut rates = Rates::default();
        let app = |n: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            AppId::from_bytes(bytes)
        };
        for n in 0..100_000 {
            rates.take(app(n), rate(10, 5), Timestamp::from_millis(START + n)).unwrap();
        }
        assert!(rates.0.len() < 2 * MANY, "{}", rates.0.len());
        // Nobody gains by it.
        let now = Timestamp::from_millis(START + 100_000);
        for _ in 0..5 {
            rates.take(app(7), rate(10, 5), now).unwrap();
        }
        (0..2_000).for_each(|n| rates.take(app(n + 200_000), rate(10, 5), now).unwrap());
        rates.take(app(7), rate(10, 5), now).unwrap_err();
    }

    #[test]
    fn the_rate_holds_over_time() {
        let app = AppId::from_bytes([1; 32]);
        for per_second in [1, 7, 1_000] {
            let mut rates = Rates::default();
            let taken = (0..10_000)
                .map(|ms| Timestamp::from_millis(START + ms))
                .map(|now| (0..2_001).take_while(|_| rates.take(app, rate(per_second, 2_000), now).is_ok()).count())
                .sum::<usize>();
            let allowed = 10 * u64::from(per_second) + 2_000;
            assert!((taken as u64) <= allowed + 1, "{per_second}: {taken}");
            assert!(taken as u64 >= allowed * 9 / 10, "{per_second}: {taken}");
        }
        assert_eq!(Rate::per_second(NonZeroU32::MAX).burst, NonZeroU32::MAX);
    }
}
