//! The leases of what waits for its reader.

use std::convert::Infallible;
use std::sync::Arc;

use ensync_core::{Command, ErrorKind, Extension, Reply, Settle, Settlement};
use futures::StreamExt;
use tokio::time::Instant;

use super::Shared;
use super::buffer::DeliveryBuffer;
use super::link::LiveLink;
use super::link_command::HandBack;

/// How many are extended at a time.
const AT_A_TIME: usize = 32;

/// Looks after what waits for its reader and would run out of its lease soon.
///
/// What waits behind a handler is extended: it is worked off, one after the other. What waits for a reader of a stream, which may
/// never come, is handed back. The engine gives it to whoever is free, this client too, and does not count it as a delivery, which a
/// lease that ran out is: else what waits would end up with the dead letters without anybody having seen it.
pub(super) async fn keep_waiting(shared: &Shared, live: &LiveLink) -> Infallible {
    if !live.welcome.config.has(Extension::Leases) {
        return std::future::pending().await;
    }
    loop {
        let lease = shared.shortest_lease.wait(|lease| *lease).await;
        tokio::time::sleep(lease / 8).await;
        for routed in shared.registry.take_ending(Instant::now() + lease / 4) {
            if shared.may_log("unread") {
                tracing::warn!(event = %routed.delivery.event, "events wait for most of their lease and nobody reads them; they go back, and others may follow unlogged for a minute");
            }
            tracing::debug!(event = %routed.delivery.event, id = %routed.delivery.id, "not read for most of its lease; handed back");
            shared.hand_back(routed.into());
        }
        let due = shared.registry.kept_ending(Instant::now() + lease / 2);
        futures::stream::iter(due)
            .for_each_concurrent(AT_A_TIME, |(buffer, which)| async move { extend(shared, live, &buffer, which).await })
            .await;
    }
}

async fn extend(shared: &Shared, live: &LiveLink, buffer: &Arc<DeliveryBuffer>, which: HandBack) {
    let HandBack { event, id, block, .. } = which;
    let settle = Settle { id: id.clone(), event: Some(event), block: Some(block), how: Settlement::Extend };
    match live.call(Command::Settle(settle), shared.options.request_timeout).await {
        Ok(Reply::Extended { lease: Some(lease) }) => buffer.extended(&id, block, Instant::now() + lease),
        Ok(_) => {}
        // Somebody else has it, or will.
        Err(error) if matches!(error.kind(), ErrorKind::StaleDelivery | ErrorKind::NotFound) => {
            buffer.remove(&id, block);
        }
        // It is tried again before the lease is over.
        Err(error) => tracing::debug!(%id, %error, "the lease of what waits could not be extended"),
    }
}
