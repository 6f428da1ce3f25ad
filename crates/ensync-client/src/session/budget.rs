//! Repeats are paid for, so that they never multiply the load of an engine that is in trouble.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Repeats that may go out at once after a time without any.
const MOST: f64 = 256.0;
/// Repeats a second that are always allowed.
const RATE: f64 = 100.0;
/// How many may be owed at most. Who comes when that is so asks again later: else one kind of publish that is refused all the time would
/// take from all others what comes in for minutes.
const OWED: f64 = RATE;
/// How much later, and at most.
pub(super) const LATER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(1));

/// The repeats that a session may send. Each answer that says done pays for one, and time for some.
#[derive(Debug)]
pub(super) struct Budget(Mutex<(f64, Instant)>);

/// A repeat that is paid for. One that does not go out is given back.
#[derive(Debug)]
pub(super) struct Paid<'a> {
    budget: Option<&'a Budget>,
    /// How long to wait for it.
    pub(super) wait: Duration,
}

impl Paid<'_> {
    /// It goes out.
    pub(super) fn spend(mut self) {
        self.budget = None;
    }
}

impl Drop for Paid<'_> {
    fn drop(&mut self) {
        if let Some(budget) = self.budget {
            budget.pay();
        }
    }
}

impl Budget {
    pub(super) fn new() -> Self {
        Self(Mutex::new((MOST, Instant::now())))
    }

    /// A command was carried out.
    pub(super) fn pay(&self) {
        self.change(|left| left + 1.0);
    }

    /// Takes one repeat. `None` if too many are owed already.
    pub(super) fn take(&self) -> Option<Paid<'_>> {
        let mut owed = false;
        let left = self.change(|left| {
            owed = left <= -OWED;
            if owed { left } else { left - 1.0 }
        });
        let wait = if left >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-left / RATE) };
        // Made only then: one that is dropped is given back.
        (!owed).then(|| Paid { budget: Some(self), wait })
    }

    fn change(&self, change: impl FnOnce(f64) -> f64) -> f64 {
        let now = Instant::now();
        let mut budget = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = now.saturating_duration_since(budget.1).as_secs_f64() * RATE;
        *budget = (change((budget.0 + earned).min(MOST)).min(MOST), now);
        budget.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a repeat waits that goes out.
    fn take(budget: &Budget) -> Duration {
        let paid = budget.take().unwrap();
        let wait = paid.wait;
        paid.spend();
        wait
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_it_waits_and_answers_pay() {
        let budget = Budget::new();
        assert!((0..256).all(|_| take(&budget).is_zero()));
        assert_eq!(take(&budget), Duration::from_millis(10));
        assert_eq!(take(&budget), Duration::from_millis(20));
        (0..3).for_each(|_| budget.pay());
        assert!(take(&budget).is_zero());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!((0..256).all(|_| take(&budget).is_zero()));
        assert!(!take(&budget).is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_owes_much_or_pays_for_what_is_not_sent() {
        let budget = Budget::new();
        assert!((0..1_000).all(|_| budget.take().unwrap().wait.is_zero()), "each is given back");
        (0..356).for_each(|_| _ = take(&budget));
        assert!(budget.take().is_none());
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!((0..20).filter(|_| budget.take().map(Paid::spend).is_some()).count(), 10);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(take(&budget).is_zero());
    }
}
