//! Who waits for a link: while somebody does, attempts to make one follow each other sooner.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// How many calls wait for a link.
#[derive(Debug, Default)]
pub(super) struct WaitsForLink {
    calls: AtomicUsize,
    first: Notify,
}

impl WaitsForLink {
    /// One more does, until what is returned is dropped.
    pub(super) fn begin(&self) -> Waits<'_> {
        if self.calls.fetch_add(1, Ordering::AcqRel) == 0 {
            self.first.notify_one();
        }
        Waits(self)
    }

    /// Whether somebody does.
    pub(super) fn any(&self) -> bool {
        self.calls.load(Ordering::Acquire) > 0
    }

    /// Waits until somebody does. For one task.
    pub(super) async fn until_any(&self) {
        while !self.any() {
            self.first.notified().await;
        }
    }
}

/// A call that waits for a link.
#[derive(Debug)]
pub(super) struct Waits<'a>(&'a WaitsForLink);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn somebody_who_gave_up_waits_no_more() {
        let waits = WaitsForLink::default();
        let never = timeout(Duration::from_secs(60), waits.until_any());
        assert!(never.await.is_err());
        drop(waits.begin());
        assert!(timeout(Duration::from_secs(60), waits.until_any()).await.is_err(), "it was there and left");
        let (first, second) = (waits.begin(), waits.begin());
        drop(first);
        timeout(Duration::from_secs(60), waits.until_any()).await.unwrap();
        drop(second);
        assert!(!waits.any());
    }
}
