//! Subscriptions that an engine ends by themselves, or refuses in the words of a session that it does not know.

use std::collections::BTreeMap;
use std::time::Duration;

use ensync_core::{Command, Error, ErrorKind, EventName, Result, report};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::Shared;
use super::link::LiveLink;
use super::registry::Restore;
use super::restore::{self, WAITS};
use super::retry::{jittered, passes};
use super::watch::PROBE_WITHIN;
use crate::ConnectionEvent;

/// For how long a subscription must have held for its next end to be the first.
const HELD: Duration = Duration::from_secs(60);

/// Looks after subscriptions that ended while the link goes on: what passes is asked for again, over the same link and with waits that
/// grow; of the others the stream ends, with the reason. Returns if the link fails.
pub(super) async fn ended_subscriptions(shared: &Shared, live: &LiveLink) -> Error {
    let (mut waits, mut again) = (BTreeMap::<EventName, (Duration, Instant)>::new(), FuturesUnordered::new());
    loop {
        let (event, error) = tokio::select! {
            biased;
            Some(outcome) = again.next(), if !again.is_empty() => match outcome {
                Ok(()) => continue,
                Err(error) => return error,
            },
            ended = live.ended_subscription() => ended,
        };
        let error = match error.kind() {
            ErrorKind::Unauthenticated => refused_subscribe(shared, live, &event, error).await,
            _ => error,
        };
        if error.kind() == ErrorKind::Unauthenticated {
            return error;
        }
        if !may_come_again(&error) {
            tracing::warn!(%event, error = %report(&error), "a subscription ended");
            shared.registry.close(&event, Some(error.clone()));
            shared.tell(ConnectionEvent::SubscriptionRefused { event, cause: error });
            continue;
        }
        let Some(slot) = shared.registry.to_restore_again(&event, None) else { continue };
        tracing::warn!(%event, error = %report(&error), "a subscription ended; asking for it again");
        waits.retain(|event, (_, since)| since.elapsed() < HELD && shared.registry.subscribed_epoch(event).is_some());
        let ceiling = waits.get(&event).map_or(WAITS.0, |(last, _)| (*last * 2).min(WAITS.1));
        waits.insert(event.clone(), (ceiling, Instant::now() + ceiling));
        again.push(subscribe_again(shared, live, slot, ceiling));
    }
}

async fn subscribe_again(shared: &Shared, live: &LiveLink, mut slot: Restore, mut ceiling: Duration) -> Result<()> {
    loop {
        tokio::time::sleep(jittered(ceiling, ErrorKind::Unavailable, shared.random())).await;
        match restore::one(shared, live, slot).await? {
            Some(later) => slot = later,
            None => return Ok(()),
        }
        ceiling = (ceiling * 2).min(WAITS.1);
    }
}

/// Whether what ended a subscription passes. A refusal without a code that may have been carried out is a stream that was cancelled.
fn may_come_again(error: &Error) -> bool {
    passes(error)
        || matches!(error.kind(), ErrorKind::Closed | ErrorKind::Connect | ErrorKind::Protocol | ErrorKind::Internal)
        || (error.kind() == ErrorKind::Refused && error.may_have_happened())
}

/// What the refusal of a subscription means. One that says that the engine does not know the session ends the link, as any such answer
/// does; but if an earlier link was told the same of this subscription lately, and the engine knows the session by any other word, it is
/// about the subscription, which is asked for again later: one bad subscription must not end each link anew. It is not final, for an
/// engine that restarts in between says the same.
pub(super) async fn refused_subscribe(shared: &Shared, live: &LiveLink, event: &EventName, error: Error) -> Error {
    if error.kind() != ErrorKind::Unauthenticated {
        return error;
    }
    if shared.registry.said_unknown(event, live.epoch()) && knows_the_session(live).await {
        let text = "the engine refuses this subscription as if it did not know the session, which it does; a new login changed nothing";
        return Error::new(ErrorKind::Unavailable, text).with_source(error);
    }
    live.declare_dead(error.clone());
    error
}

/// Whether the engine itself says so. That something cannot be done now may be a proxy's word, whose engine has just been restarted.
async fn knows_the_session(live: &LiveLink) -> bool {
    let answer = tokio::time::timeout(PROBE_WITHIN, live.call(Command::Heartbeat, PROBE_WITHIN)).await;
    matches!(answer, Ok(Ok(_)))
}
