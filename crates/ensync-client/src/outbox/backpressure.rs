//! Keeping who queues from outrunning an engine that is there.
//!
//! Events of one lane are sent one after the other's answer, so a program that queues without a pause may well be faster than its engine
//! answers. Without an engine that fills the outbox, which is what it is for. With one it need not.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::OutboxOptions;
use super::store::Now;

/// How long a publish waits at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// For how long none waits after one that waited while nothing went: what is there may be for recipients in trouble.
const IN_VAIN: Duration = Duration::from_secs(10);

/// Lets publishes wait, one after the other.
#[derive(Debug, Default)]
pub(super) struct Backpressure {
    /// None waits before that.
    not_before: tokio::sync::Mutex<Option<Instant>>,
}

impl Backpressure {
    /// If more than half of what the outbox takes is there, waits until as many have gone as are to be put in.
    pub(super) async fn wait(&self, now: &watch::Receiver<Now>, options: &OutboxOptions, events: usize) {
        let mut now = now.clone();
        if !is_half_full(&now.borrow(), options) {
            return;
        }
        let mut not_before = self.not_before.lock().await;
        if not_before.is_some_and(|not_before| Instant::now() < not_before) {
            return;
        }
        let before = gone(&now.borrow());
        let enough = before.saturating_add(u64::try_from(events).unwrap_or(u64::MAX));
        let room = now.wait_for(|now| gone(now) >= enough || !is_half_full(now, options));
        let in_vain = tokio::time::timeout(PATIENCE, room).await.is_err();
        if in_vain && gone(&now.borrow()) == before {
            *not_before = Some(Instant::now() + IN_VAIN);
        }
    }
}

fn is_half_full(now: &Now, options: &OutboxOptions) -> bool {
    let status = now.status;
    status.waiting > 0 && (status.waiting > options.max_events / 2 || status.bytes > options.max_bytes / 2)
}

/// How many of those that were ever put in wait no more.
fn gone(now: &Now) -> u64 {
    now.next.saturating_sub(now.status.waiting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OutboxStatus;

    fn now(next: u64, waiting: u64) -> Now {
        Now { status: OutboxStatus { waiting, ..OutboxStatus::default() }, next, ..Now::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_as_many_as_are_put_in_and_seldom_in_vain() {
        let (tell, watched) = watch::channel(now(100, 50));
        let (pressure, options) = (Backpressure::default(), OutboxOptions::new().max_events(100));
        let took = async |events| {
            let begun = Instant::now();
            pressure.wait(&watched, &options, events).await;
            begun.elapsed()
        };
        assert_eq!(took(1).await, Duration::ZERO, "half full is not more than half");
        tell.send_replace(now(101, 51));
        let goes = async {
            for waiting in [50, 51, 50] {
                tokio::time::sleep(Duration::from_millis(100)).await;
                // One goes, another comes by somebody else.
                tell.send_modify(|known| *known = now(known.next + u64::from(waiting == 51), waiting));
            }
        };
        let (waited, ()) = tokio::join!(took(2), goes);
        assert_eq!(waited, Duration::from_millis(100), "it is half full only");
        tell.send_replace(now(200, 90));
        let goes = async {
            for waiting in [89, 88, 87] {
                tokio::time::sleep(Duration::from_millis(100)).await;
                tell.send_replace(now(200, waiting));
            }
        };
        let (waited, ()) = tokio::join!(took(2), goes);
        assert_eq!(waited, Duration::from_millis(200));
        assert_eq!(took(1).await, PATIENCE);
        // What goes is what was put in just now, behind what is in trouble.
        tell.send_replace(now(201, 87));
        assert_eq!(took(1).await, Duration::ZERO);
        tokio::time::advance(IN_VAIN).await;
        assert_eq!(took(1).await, PATIENCE);
    }
}
