//! Repeats are paid for, so that they never multiply the load of an engine that is in trouble.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Repeats that may go out at once after a time without any.
const MOST: f64 = 256.0;
/// Repeats a second that are always allowed.
const RATE: f64 = 100.0;

/// The repeats that a session may send. Each answer that says done pays for one, and time for some.
#[derive(Debug)]
pub(super) struct Budget(Mutex<(f64, Instant)>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Mutex::new((MOST, Instant::now())))
    }

    /// A command was carried out.
    pub(super) fn pay(&self) {
        self.change(1.0);
    }

    /// Takes one repeat, and says how long to wait for it.
    pub(super) fn take(&self) -> Duration {
        let left = self.change(-1.0);
        if left >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-left / RATE) }
    }

    fn change(&self, by: f64) -> f64 {
        let now = Instant::now();
        let mut budget = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = now.saturating_duration_since(budget.1).as_secs_f64() * RATE;
        *budget = (((budget.0 + earned).min(MOST) + by).min(MOST), now);
        budget.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_over_it_waits_and_answers_pay() {
        let budget = Budget::new();
        assert!((0..256).all(|_| budget.take().is_zero()));
        assert_eq!(budget.take(), Duration::from_millis(10));
        assert_eq!(budget.take(), Duration::from_millis(20));
        (0..3).for_each(|_| budget.pay());
        assert!(budget.take().is_zero());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!((0..256).all(|_| budget.take().is_zero()));
        assert!(!budget.take().is_zero());
    }
}
