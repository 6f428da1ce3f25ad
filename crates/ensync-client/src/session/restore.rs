//! What a new link is told of what was before.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensync_core::{Command, Error, ErrorKind, Result};
use futures::StreamExt;

use super::ended::{Meaning, meaning};
use super::link::LiveLink;
use super::registry::Restore;
use super::retry::jittered;
use super::{Shared, State};
use crate::ConnectionEvent;

/// How many subscriptions are restored at a time.
const AT_A_TIME: usize = 64;
/// The waits before a subscription that was refused in passing is asked for again.
pub(super) const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Subscribes again, and then lets calls use the link. Subscriptions that the engine cannot take now are asked for until it does;
/// nothing else waits for them. Returns only if the link fails meanwhile.
pub(super) async fn restore(shared: &Shared, live: &Arc<LiveLink>, attempt: u32) -> Error {
    let mut later = match restore_all(shared, live, shared.registry.to_restore(live.epoch())).await {
        Ok(later) => later,
        Err(error) => return error,
    };
    let first = !shared.was_live.swap(true, Ordering::Relaxed);
    let is_known = |state: &_| matches!(state, State::Live(known) if known.epoch() == live.epoch());
    if !shared.state.read(is_known) {
        let event = if first { ConnectionEvent::Connected } else { ConnectionEvent::Reconnected { attempt } };
        shared.change(State::Live(live.clone()), event);
    }
    let mut ceiling = WAITS.0;
    while !later.is_empty() {
        tokio::time::sleep(jittered(ceiling, ErrorKind::Unavailable, shared.random())).await;
        ceiling = (ceiling * 2).min(WAITS.1);
        later = match restore_all(shared, live, later).await {
            Ok(later) => later,
            Err(error) => return error,
        };
    }
    std::future::pending().await
}

/// Gives those that are to be asked for again. Fails if the link does.
async fn restore_all(shared: &Shared, live: &Arc<LiveLink>, which: Vec<Restore>) -> Result<Vec<Restore>> {
    let restoring = |slot: Restore| async move { one(shared, live, slot).await };
    let mut restored = futures::stream::iter(which).map(restoring).buffer_unordered(AT_A_TIME);
    let mut later = Vec::new();
    while let Some(outcome) = restored.next().await {
        later.extend(outcome?);
    }
    Ok(later)
}

/// Asks for one subscription again. Fails if the link does; gives it back if it is to be asked for later.
pub(super) async fn one(shared: &Shared, live: &LiveLink, slot: Restore) -> Result<Option<Restore>> {
    // Left meanwhile; or paused, or gone on with.
    let Some(slot) = shared.registry.to_restore_again(&slot.subscribe.event, &slot.end) else { return Ok(None) };
    let Err(error) = tell(shared, live, &slot).await else { return Ok(None) };
    let event = &slot.subscribe.event;
    match meaning(live, error).await {
        Meaning::LinkEnded(error) => Err(error),
        Meaning::Passes(error) => {
            tracing::warn!(%event, %error, "not subscribed again yet; trying again");
            Ok(Some(slot))
        }
        Meaning::Stays(error) => {
            refuse(shared, &slot, error.context(format_args!("subscribe again to {event}")));
            Ok(None)
        }
    }
}

/// The engine refuses this one for good: its reader must know, the others go on.
pub(super) fn refuse(shared: &Shared, slot: &Restore, cause: Error) {
    let event = slot.subscribe.event.clone();
    if shared.registry.close(&event, &slot.end, Some(cause.clone())) {
        shared.tell(ConnectionEvent::SubscriptionRefused { event, cause });
    }
}

async fn tell(shared: &Shared, live: &LiveLink, slot: &Restore) -> Result<()> {
    let (event, limit) = (&slot.subscribe.event, shared.options.request_timeout);
    let pause = slot.paused.clone().map(|reason| Command::Pause { event: event.clone(), reason });
    // Until all is said: if it is left meanwhile, the word of that comes after this. No limit of its own: an answer that is too old ends
    // the link.
    let Some(telling) = shared.registry.telling(event, &slot.end) else { return Ok(()) };
    let _turn = telling.lock().await;
    if !shared.registry.is_open(event, &slot.end) {
        return Ok(());
    }
    // First, so that nothing is sent in between; an engine that takes it only after the subscription is told again.
    let paused = match pause.clone() {
        Some(pause) => live.call(pause, limit).await.is_ok(),
        None => true,
    };
    if !shared.registry.begin_stream(event, &slot.end) {
        return Ok(());
    }
    live.call(Command::Subscribe(slot.subscribe.clone()), limit).await?;
    if let Some(pause) = pause.filter(|_| !paused) {
        live.call(pause, limit).await?;
    }
    shared.registry.set_subscribed(event, &slot.end, live.epoch());
    tracing::info!(%event, "subscribed again");
    Ok(())
}
