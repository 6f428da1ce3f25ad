//! Room for publishes: how many are on their way to the engine, and with how many bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ensync_core::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::Shared;
use crate::options::Options;

/// The bytes of copies of one publish that may wait for another attempt beside those that have their place.
const WAITING: usize = 8 << 20;

/// How much may be under way to the engine, in the unit that is counted.
pub(super) fn kibibytes(options: &Options) -> usize {
    let kibibytes = (options.max_publish_bytes_in_flight / 1_024).max(1);
    usize::try_from(kibibytes).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

impl Shared {
    /// Waits for room for one publish more, of so many bytes. It is kept while an answer is awaited, and not between two attempts.
    pub(super) async fn room(
        &self,
        bytes: usize,
        deadline: Instant,
    ) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>)> {
        // One that is larger than all the room there is takes all of it.
        let size = (bytes / 1_024 + 1).min(kibibytes(&self.options));
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let room = async { (self.publishes.acquire().await, self.publish_kibibytes.acquire_many(size).await) };
        match tokio::time::timeout_at(deadline, room).await {
            // Not that which others make who give up at the same deadline.
            Ok((Ok(one), Ok(bytes))) if Instant::now() < deadline => Ok((one, bytes)),
            Ok((Err(_), _) | (_, Err(_))) => Err(self.closed()),
            Ok(_) | Err(_) => Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "there was no room for it until the deadline, for others were under way (max_publishes_in_flight, \
                     which is {}, and max_publish_bytes_in_flight, which is {}); it was not sent",
                    self.options.max_publishes_in_flight, self.options.max_publish_bytes_in_flight
                ),
            )),
        }
    }
}

/// The places of the copies of one publish: no more are sealed than there is a place for.
#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// The bytes of those that have left theirs, and wait.
    waiting: Arc<AtomicUsize>,
}

impl Places {
    pub(crate) fn new(places: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(places)), waiting: Arc::default() }
    }

    /// Waits for one.
    pub(crate) async fn take(&self) -> Place {
        // Nobody closes it.
        let permit = self.free.clone().acquire_owned().await.ok();
        Place { permit, bytes: 0, waiting: self.waiting.clone() }
    }
}

/// One copy's place, from before it is sealed.
#[derive(Debug)]
pub(crate) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    /// Those that count as waiting.
    bytes: usize,
    waiting: Arc<AtomicUsize>,
}

impl Place {
    /// It was refused in passing and waits: that holds up no other, unless what waits takes up too much already.
    pub(super) fn leave(&mut self, bytes: usize) {
        if self.permit.is_none() {
            return;
        }
        let before = self.waiting.fetch_add(bytes, Ordering::AcqRel);
        if before.saturating_add(bytes) > WAITING {
            self.waiting.fetch_sub(bytes, Ordering::AcqRel);
            return;
        }
        self.bytes = bytes;
        self.permit = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_leaves_his_place_while_few_bytes_do() {
        let places = Places::new(2);
        let (mut first, mut second) = (places.take().await, places.take().await);
        assert!(places.take().now_or_never().is_none());
        first.leave(WAITING);
        second.leave(1);
        let third = places.take().now_or_never().expect("the first has left its place");
        assert!(places.take().now_or_never().is_none(), "the second has not: too much waits");
        drop((first, third));
        second.leave(1);
        let both = (places.take().now_or_never(), places.take().now_or_never());
        assert!(both.0.is_some() && both.1.is_some());
        drop((second, both));
        assert_eq!(places.waiting.load(Ordering::Acquire), 0);
    }
}
