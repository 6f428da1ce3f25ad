//! When something is tried again that everybody waits for, and that came to nothing.

use std::time::Duration;

use tokio::time::Instant;

/// How long to wait at least before what failed, or was of no use, is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(1);
/// How long that grows while it goes on coming to nothing.
const LONGEST: Duration = Duration::from_secs(10);
/// How many times as long as an attempt took is waited after it: so that it costs others a small part of their time, however long it
/// takes.
const SHARE: u32 = 10;

/// Attempts, and the time between them.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    begun: Option<Instant>,
    pause: Duration,
    until: Option<Instant>,
}

impl Backoff {
    /// An attempt begins.
    pub(super) fn begin(&mut self) {
        self.begun = Some(Instant::now());
    }

    /// It ended, and came to something or not.
    pub(super) fn end(&mut self, came_to_something: bool) {
        let took = self.begun.take().map_or(Duration::ZERO, |begun| begun.elapsed());
        if came_to_something {
            (self.pause, self.until) = (Duration::ZERO, None);
        } else {
            self.pause = (self.pause * 2).clamp(AGAIN, LONGEST).max(took * SHARE);
            self.until = Some(Instant::now() + self.pause);
        }
    }

    /// The same, if one is under way.
    pub(super) fn end_begun(&mut self, came_to_something: bool) {
        if self.begun.is_some() {
            self.end(came_to_something);
        }
    }

    /// Whether one may begin now: none is under way.
    pub(super) fn may_begin(&self) -> bool {
        self.begun.is_none() && self.next().is_none()
    }

    /// When the next one may begin; `None` if it may now.
    pub(super) fn next(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long is waited after each of some attempts that take so long, and come to nothing.
    async fn pauses(took: Duration, count: usize) -> Vec<u64> {
        let (mut backoff, mut pauses) = (Backoff::default(), Vec::new());
        for _ in 0..count {
            assert!(backoff.next().is_none());
            backoff.begin();
            tokio::time::advance(took).await;
            backoff.end(false);
            let pause = backoff.next().unwrap() - Instant::now();
            pauses.push(pause.as_secs());
            tokio::time::advance(pause).await;
        }
        pauses
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_longer_the_longer_it_takes_and_the_oftener_it_fails() {
        assert_eq!(pauses(Duration::ZERO, 6).await, [1, 2, 4, 8, 10, 10]);
        assert_eq!(pauses(Duration::from_secs(2), 3).await, [20, 20, 20]);
        let mut backoff = Backoff::default();
        backoff.begin();
        assert!(!backoff.may_begin());
        backoff.end_begun(false);
        assert!(backoff.next().is_some() && !backoff.may_begin());
        // Nothing is under way.
        backoff.end_begun(true);
        assert!(backoff.next().is_some());
        backoff.end(true);
        assert!(backoff.next().is_none() && backoff.may_begin());
    }
}
