//! Asking an engine by a new login whether it knows the session.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The waits between two questions: after the first, and at most.
const WAITS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3_600));

/// How often a new login is the question. It costs every delivery that is unsettled, so it is asked seldom, and the more seldom the oftener
/// the words turned out to mean something else.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<Option<Asked>>);

#[derive(Clone, Copy, Debug)]
struct Asked {
    last: Instant,
    /// How long none is asked after that.
    wait: Duration,
}

impl Questions {
    /// Whether it may be asked now; if so it counts as asked.
    pub(super) fn may_ask(&self) -> bool {
        let now = Instant::now();
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = match *asked {
            Some(Asked { last, wait }) if now.saturating_duration_since(last) < wait => return false,
            // As soon again as it may be: the last login did not help for long.
            Some(Asked { last, wait }) if now.saturating_duration_since(last) < wait * 2 => (wait * 2).min(WAITS.1),
            _ => WAITS.0,
        };
        *asked = Some(Asked { last: now, wait });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oftener_it_is_asked_in_vain_the_more_seldom_it_is() {
        let (questions, begun) = (Questions::default(), Instant::now());
        let mut asked = Vec::new();
        while begun.elapsed() < Duration::from_secs(4 * 3_600) {
            if questions.may_ask() {
                asked.push(begun.elapsed().as_secs());
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(asked, [0, 60, 180, 420, 900, 1_860, 3_780, 7_380, 10_980]);
        tokio::time::advance(Duration::from_secs(3 * 3_600)).await;
        assert!(questions.may_ask());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(questions.may_ask(), "after a long time without a question it begins anew");
    }
}
