//! What goes to a session: deliveries that wait until its transport takes them, and then bear what is left of their leases.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ensync_core::Delivery;
use futures::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Both ends of a session's inbox.
pub(super) fn channel() -> (Sender, Inbox) {
    let (deliveries, waiting) = mpsc::unbounded_channel();
    (Sender(deliveries), Inbox(waiting))
}

/// Where the broker puts deliveries. Dropping it ends the inbox.
pub(super) struct Sender(mpsc::UnboundedSender<(Instant, Delivery)>);

impl Sender {
    /// Whether somebody may still take it.
    pub(super) fn send(&self, delivery: Delivery) -> bool {
        self.0.send((Instant::now(), delivery)).is_ok()
    }
}

/// Where a transport takes deliveries.
pub(super) struct Inbox(mpsc::UnboundedReceiver<(Instant, Delivery)>);

impl Stream for Inbox {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            let Some((since, mut delivery)) = ready!(self.0.poll_recv(context)) else { return Poll::Ready(None) };
            if let Some(lease) = &mut delivery.lease {
                *lease = lease.saturating_sub(since.elapsed());
                if *lease == Duration::ZERO {
                    // It is somebody else's by now, or will be in a moment: whoever got it could not settle it.
                    tracing::debug!(event = %delivery.event, id = %delivery.id, "not sent: it waited for longer than its lease");
                    continue;
                }
            }
            return Poll::Ready(Some(delivery));
        }
    }
}

#[cfg(test)]
mod tests {
    use ensync_core::{Block, Metadata, WirePayload};
    use futures::StreamExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_lease_travels() {
        let (sender, mut inbox) = channel();
        let delivery = |lease| Delivery {
            event: "a".parse().unwrap(),
            id: "e".parse().unwrap(),
            block: Block::new(1).unwrap(),
            payload: WirePayload::from_wire("e30="),
            metadata: Metadata::default(),
            sender: None,
            recipient: None,
            timestamp: None,
            attempt: None,
            lease,
        };
        let seconds = |n| Some(Duration::from_secs(n));
        for lease in [seconds(60), None, seconds(30), seconds(45)] {
            assert!(sender.send(delivery(lease)));
        }
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(inbox.next().await.unwrap().lease, seconds(40));
        assert_eq!(inbox.next().await.unwrap().lease, None);
        // The next could not be settled any more.
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(inbox.next().await.unwrap().lease, seconds(15));
        drop(sender);
        assert!(inbox.next().await.is_none());
    }
}
