//! Lines of the log that would come too often.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lets a line through once per while, and counts those between.
#[derive(Debug)]
pub(crate) struct Seldom {
    every: Duration,
    told: Mutex<Option<(Instant, u64)>>,
}

impl Seldom {
    /// Once in 10 s.
    pub(crate) const fn new() -> Self {
        Self { every: Duration::from_secs(10), told: Mutex::new(None) }
    }

    /// Whether to tell it now; if so, how often it happened since the last time, this time included.
    pub(crate) fn due(&self) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *told {
            Some((last, left_out)) if last.elapsed() < self.every => {
                *left_out += 1;
                None
            }
            before => {
                let times = before.map_or(0, |(_, left_out)| left_out) + 1;
                *before = Some((Instant::now(), 0));
                Some(times)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_out_is_counted() {
        let seldom = Seldom::new();
        assert_eq!([seldom.due(), seldom.due(), seldom.due()], [Some(1), None, None]);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!([seldom.due(), seldom.due()], [Some(3), None]);
    }
}
