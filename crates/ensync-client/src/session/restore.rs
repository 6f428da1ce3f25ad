//! What a new link is told of what was before.

use std::sync::atomic::Ordering;

use ensync_core::{Command, Error, ErrorKind, Result};
use futures::StreamExt;

use super::registry::Restore;
use super::{Live, Shared, State};
use crate::ConnectionEvent;

/// How many subscriptions are restored at a time.
const AT_A_TIME: usize = 64;

/// Subscribes again, and then lets calls use the link. Returns only if the link fails meanwhile.
pub(super) async fn restore(shared: &Shared, live: &Live, attempt: u32) -> Error {
    let restoring = |route: Restore| async move { one(shared, live, &route).await };
    let mut restored = futures::stream::iter(shared.registry.to_restore()).map(restoring).buffer_unordered(AT_A_TIME);
    while let Some(outcome) = restored.next().await {
        if let Err(error) = outcome {
            return error;
        }
    }
    drop(restored);
    let first = !shared.was_live.swap(true, Ordering::Relaxed);
    let is_known = |state: &_| matches!(state, State::Live(known) if known.epoch == live.epoch);
    if !shared.state.read(is_known) {
        let event = if first { ConnectionEvent::Connected } else { ConnectionEvent::Reconnected { attempt } };
        shared.change(State::Live(live.clone()), event);
    }
    std::future::pending().await
}

/// Fails if the link does, or the engine is not ready: then the next link is asked.
async fn one(shared: &Shared, live: &Live, route: &Restore) -> Result<()> {
    let limit = shared.options.request_timeout;
    let error = match tokio::time::timeout(limit, tell(shared, live, route)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error,
        Err(_) => {
            let text = format!("no answer to a subscription from {} within {limit:?}", shared.endpoint);
            return Err(Error::new(ErrorKind::Timeout, text));
        }
    };
    if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Interrupted | ErrorKind::Protocol | ErrorKind::Unavailable)
    {
        return Err(error);
    }
    // The engine refuses this one: its reader must know, the others go on.
    let event = route.subscribe.event.clone();
    let error = error.context(format_args!("subscribe again to {event}"));
    shared.registry.close(&event, Some(error.clone()));
    shared.tell(ConnectionEvent::SubscriptionRefused { event, cause: error });
    Ok(())
}

async fn tell(shared: &Shared, live: &Live, route: &Restore) -> Result<()> {
    let event = &route.subscribe.event;
    if !shared.registry.is_open(event, &route.end) {
        return Ok(());
    }
    live.transport.call(Command::Subscribe(route.subscribe.clone())).await?;
    if !shared.registry.is_open(event, &route.end) {
        // It was left meanwhile, and the word of that may have come before this one. A new subscription to the name waits until
        // all are restored.
        return live.transport.call(Command::Unsubscribe { event: event.clone() }).await.map(drop);
    }
    if let Some(reason) = route.paused.clone() {
        live.transport.call(Command::Pause { event: event.clone(), reason }).await?;
    }
    shared.registry.set_subscribed(event, live.epoch);
    tracing::info!(%event, "subscribed again");
    Ok(())
}
