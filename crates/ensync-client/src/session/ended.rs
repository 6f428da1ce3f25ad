//! Streams of subscriptions that end by themselves, and what an engine's word of refusal means for a subscription.

use std::collections::BTreeMap;
use std::time::Duration;

use ensync_core::{Command, Error, ErrorKind, EventName, Result, report};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::Shared;
use super::link::LiveLink;
use super::restore::{self, Restore, WAITS};
use super::retry::passes;
use super::watch::PROBE_WITHIN;

/// For how long a subscription must have held for its next end to be the first.
const HELD: Duration = Duration::from_secs(60);
/// How often a refusal is a reason to ask an engine whether it knows the session.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// How often an engine hears of the client while a stream is out. Ours ends a session that lost its streams and says nothing for 5 s.
const SAY_THAT_IT_LIVES: Duration = Duration::from_secs(2);

/// Looks after subscriptions whose stream ended while the link goes on: what passes is asked for again, over the same link and with waits
/// that grow; of the others the reader's stream ends, with the reason. Returns if the link fails.
pub(super) async fn ended_subscriptions(shared: &Shared, live: &LiveLink) -> Error {
    let (mut waits, mut looked_after) = (BTreeMap::<EventName, (Duration, Instant)>::new(), FuturesUnordered::new());
    loop {
        let (event, error) = tokio::select! {
            biased;
            Some(outcome) = looked_after.next(), if !looked_after.is_empty() => match outcome {
                Ok(()) => continue,
                Err(error) => return error,
            },
            ended = live.ended_subscription() => ended,
        };
        // At once, while the name is that of the subscription that ended.
        let Some((slot, unread)) = shared.registry.end_stream(&event, live.epoch()) else { continue };
        // An engine that has taken it back already refuses the word as stale.
        for routed in unread {
            shared.hand_back(routed.into());
        }
        waits.retain(|_, (_, since)| since.elapsed() < HELD);
        let ceiling = waits.get(&event).map_or(WAITS.0, |(last, _)| (*last * 2).min(WAITS.1));
        waits.insert(event, (ceiling, Instant::now() + ceiling));
        looked_after.push(look_after(shared, live, slot, error, ceiling));
    }
}

async fn look_after(shared: &Shared, live: &LiveLink, slot: Restore, error: Error, ceiling: Duration) -> Result<()> {
    let event = slot.subscribe.event.clone();
    match meaning(live, error).await {
        Meaning::LinkEnded(error) => return Err(error),
        Meaning::Stays(error) => {
            tracing::warn!(%event, error = %report(&error), "a subscription ended");
            restore::refuse(shared, &slot, error);
            return Ok(());
        }
        Meaning::Passes(error) => {
            tracing::warn!(%event, error = %report(&error), "a subscription ended; asking for it again");
        }
    }
    restore::ask_again(shared, live, slot, ceiling).await
}

/// Keeps the session known while it has a stream less. Never ends: that the session is gone ends the link.
pub(super) async fn say_that_it_lives(live: &LiveLink) {
    loop {
        tokio::time::sleep(SAY_THAT_IT_LIVES).await;
        if live.vitals.heard().elapsed() >= SAY_THAT_IT_LIVES {
            let _answer = live.call(Command::Heartbeat, PROBE_WITHIN).await;
        }
    }
}

/// What the word means with which an engine refused a subscription, or its stream ended.
pub(super) enum Meaning {
    /// It may be asked for again, over the same link.
    Passes(Error),
    /// The link is gone, and with it every stream.
    LinkEnded(Error),
    /// It would be refused again.
    Stays(Error),
}

/// The one place where that is decided. Whether the link is gone is not for a subscription's error to say: the link knows. A refusal
/// without a code that may have been carried out is a stream that was cancelled. No engine says of a subscription that a delivery is
/// stale: over WebSocket, where answers bear no id, that is the answer to another command, behind one that was never answered.
pub(super) async fn meaning(live: &LiveLink, error: Error) -> Meaning {
    let error = about_the_session(live, error).await;
    let outlasted = matches!(
        error.kind(),
        ErrorKind::Closed | ErrorKind::Connect | ErrorKind::Protocol | ErrorKind::Internal | ErrorKind::StaleDelivery
    ) || (error.kind() == ErrorKind::Refused && error.may_have_happened());
    if !live.is_usable() {
        Meaning::LinkEnded(error)
    } else if outlasted || passes(&error, true) {
        Meaning::Passes(error)
    } else {
        Meaning::Stays(error)
    }
}

/// What it means that an engine refuses a subscription as if it did not know the session. The heartbeat says: where that is answered, it
/// is about the subscription alone, which is asked for again later, for an engine that restarts in between says the same; where it is
/// not, the link is over.
pub(super) async fn about_the_session(live: &LiveLink, error: Error) -> Error {
    if error.kind() != ErrorKind::Unauthenticated {
        return error;
    }
    if knows_the_session(live).await {
        let text = "the engine refuses this subscription as if it did not know the session, but answers its heartbeat";
        return Error::new(ErrorKind::Unavailable, text).with_source(error);
    }
    live.declare_dead(error.clone());
    error
}

/// What it means that an engine refuses a command in words of its own, which may say that it does not know the session. Its heartbeat
/// tells, if it was not asked a moment ago. Where that is answered by whoever is next on the way, words that speak of a session or a client
/// are put to the test by a new login, now and then. Where the session is not known the link is over, and the command goes over the next.
pub(super) async fn about_a_refusal(shared: &Shared, live: &LiveLink, command: &Command, error: Error) -> Error {
    if error.kind() != ErrorKind::Refused || !error.is_read_from_words() {
        return error;
    }
    if live.heartbeat_reaches_the_engine() {
        // Those that are refused meanwhile wait for the same answer.
        let mut asked = live.asked.lock().await;
        if !live.is_dead() && asked.is_none_or(|last| last.elapsed() >= ASKED_EVERY) {
            let _said = knows_the_session(live).await;
            *asked = Some(Instant::now());
        }
    } else if live.is_usable()
        && live.vitals.carried()
        && error.may_be_of_the_session(command)
        && shared.questions.may_ask()
    {
        let text = "the engine refused a command as if it did not know the session; a new login shows whether it does";
        live.declare_dead(Error::new(ErrorKind::Unauthenticated, text).with_source(error.clone()));
    }
    if !live.is_dead() {
        return error;
    }
    // One that failed in the middle may have carried it out.
    let (kind, what) = match error.may_have_happened() {
        true => (ErrorKind::Interrupted, "it may have been carried out"),
        false => (ErrorKind::Closed, "it was not carried out"),
    };
    Error::new(kind, format!("the engine refused the command, and its link is over; {what}")).with_source(error)
}

/// Whether the engine itself says so. That something cannot be done now may be a proxy's word, whose engine has just been restarted.
async fn knows_the_session(live: &LiveLink) -> bool {
    let answer = tokio::time::timeout(PROBE_WITHIN, live.call(Command::Heartbeat, PROBE_WITHIN)).await;
    matches!(answer, Ok(Ok(_)))
}
