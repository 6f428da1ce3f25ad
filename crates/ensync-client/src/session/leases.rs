//! The leases of what waits for its reader.

use std::convert::Infallible;
use std::sync::Arc;

use ensync_core::{Command, ErrorKind, Extension, Reply, Settle, Settlement};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::buffer::DeliveryBuffer;
use super::link::LiveLink;
use super::link_command::HandBack;
use super::{SHORTEST_LEASE, Shared};

/// How many of a subscription are extended at a time.
const AT_A_TIME: usize = 32;

/// Looks after what waits for its reader and would run out of its lease soon.
///
/// What waits behind a handler is extended: it is worked off, one after the other. What waits for a reader of a stream, which may
/// never come, is handed back. The engine gives it to whoever is free, this client too, and does not count it as a delivery, which a
/// lease that ran out is: else what waits would end up with the dead letters without anybody having seen it.
///
/// Each subscription is looked after when its own leases want it, and waits for the answers to no other's extensions.
pub(super) async fn keep_waiting(shared: &Shared, live: &LiveLink) -> Infallible {
    if !live.welcome.config.has(Extension::Leases) {
        return std::future::pending().await;
    }
    let mut extending = FuturesUnordered::new();
    loop {
        let now = Instant::now();
        for routed in shared.registry.take_ending(now) {
            if shared.may_log("unread") {
                tracing::warn!(event = %routed.delivery.event, "events wait for most of their lease and nobody reads them; they go back, and others may follow unlogged for a minute");
            }
            tracing::debug!(event = %routed.delivery.event, id = %routed.delivery.id, "not read for most of its lease; handed back");
            shared.hand_back(routed.into());
        }
        extending.extend(
            shared.registry.kept_ending(now).into_iter().map(|(buffer, due)| extend_all(shared, live, buffer, due)),
        );
        let next = shared.registry.next_look().map(|next| next.max(now + SHORTEST_LEASE / 8));
        shared.next_look.change(|planned| {
            *planned = next;
            false
        });
        tokio::select! {
            biased;
            Some(()) = extending.next(), if !extending.is_empty() => {}
            () = shared.next_look.wait(|planned| (*planned != next).then_some(())) => {}
            () = at(next) => {}
        }
    }
}

async fn at(next: Option<Instant>) {
    match next {
        Some(next) => tokio::time::sleep_until(next).await,
        None => std::future::pending().await,
    }
}

/// What of a subscription is being extended, until it is dropped; also with the link.
struct Caring(Arc<DeliveryBuffer>);

impl Drop for Caring {
    fn drop(&mut self) {
        self.0.cared_for();
    }
}

async fn extend_all(shared: &Shared, live: &LiveLink, buffer: Arc<DeliveryBuffer>, due: Vec<HandBack>) {
    let caring = Caring(buffer);
    futures::stream::iter(due).for_each_concurrent(AT_A_TIME, |which| extend(shared, live, &caring.0, which)).await;
}

async fn extend(shared: &Shared, live: &LiveLink, buffer: &DeliveryBuffer, which: HandBack) {
    let HandBack { event, id, block, .. } = which;
    let settle = Settle { id: id.clone(), event: Some(event), block: Some(block), how: Settlement::Extend };
    // The engine counts from a little later.
    let asked = Instant::now();
    match live.call(Command::Settle(settle), shared.options.request_timeout).await {
        Ok(Reply::Extended { lease: Some(lease) }) => buffer.extended(&id, block, (asked, lease)),
        Ok(_) => {}
        // Somebody else has it, or will.
        Err(error) if matches!(error.kind(), ErrorKind::StaleDelivery | ErrorKind::NotFound) => {
            buffer.remove(&id, block);
        }
        // It is tried again before the lease is over.
        Err(error) => tracing::debug!(%id, %error, "the lease of what waits could not be extended"),
    }
}
