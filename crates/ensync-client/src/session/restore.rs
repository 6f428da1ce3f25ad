//! What a new link is told of what was before.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ensync_core::{Command, Error, ErrorKind, Extension, Result, Subscribe};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::ended::{Meaning, meaning, say_that_it_lives};
use super::link::LiveLink;
use super::retry::{jittered, passes};
use super::{Shared, State};
use crate::ConnectionEvent;

/// How many subscriptions are restored at a time.
const AT_A_TIME: usize = 64;
/// The waits before a subscription that was refused in passing is asked for again.
pub(super) const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long an engine may take to answer before the link is used without waiting for it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// The longest wait before one is asked for that went unanswered over the links before. Its silence ends each link in the end, for an
/// answer that is too old does; between, the link is there for everything else.
const LONGEST_SILENCE: Duration = Duration::from_secs(300);

/// How often an engine may refuse one over the same link in words that do not say whether that passes. With the waits between, five to
/// eight minutes.
const PATIENCE_WITH_WORDS: u32 = 20;

/// A subscription that the next link must be told of.
#[derive(Debug)]
pub(crate) struct Restore {
    pub(crate) subscribe: Subscribe,
    /// How often in a row that was not answered in time.
    pub(crate) unanswered: u32,
    /// How often this link's engine refused it in words of its own.
    pub(super) in_words: u32,
    /// Whether this link's engine was told to pause its stream because the reader was slow, and not yet that it may go on.
    pub(super) was_paced: bool,
    /// Which subscription to the name it is.
    pub(crate) end: Arc<OnceLock<Error>>,
}

/// Subscribes again, and then lets calls use the link. Subscriptions that the engine cannot take now are asked for until it does;
/// nothing else waits for them, nor for one that it does not answer. Returns only if the link fails meanwhile.
pub(super) async fn restore(shared: &Shared, live: &Arc<LiveLink>, attempt: u32) -> Error {
    let all = shared.registry.to_restore(live.epoch());
    let (unanswered, all): (Vec<_>, Vec<_>) = all.into_iter().partition(|slot| slot.unanswered > 0);
    let mut restoring = pin!(restore_all(shared, live, all));
    let restored = tokio::select! {
        biased;
        restored = &mut restoring => Some(restored),
        () = tokio::time::sleep(ANSWERED_WITHIN) => None,
    };
    if let Some(Err(error)) = restored {
        return error;
    }
    let first = !shared.was_live.swap(true, Ordering::Relaxed);
    let is_known = |state: &_| matches!(state, State::Live(known) if known.epoch() == live.epoch());
    if !shared.state.read(is_known) {
        let event = if first { ConnectionEvent::Connected } else { ConnectionEvent::Reconnected { attempt } };
        shared.change(State::Live(live.clone()), event);
    }
    let refused = async {
        let later = match restored {
            Some(later) => later,
            None => restoring.await,
        };
        match later {
            Ok(later) => ask_later(shared, live, later).await,
            Err(error) => error,
        }
    };
    tokio::select! {
        biased;
        error = refused => error,
        error = ask_at_last(shared, live, unanswered) => error,
    }
}

/// Asks for what was refused in passing until it is taken. Returns only if the link fails.
async fn ask_later(shared: &Shared, live: &Arc<LiveLink>, mut later: Vec<Restore>) -> Error {
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

/// Asks for what the engine did not answer over the links before, each the later the more often that was. Returns only if the link fails.
async fn ask_at_last(shared: &Shared, live: &Arc<LiveLink>, unanswered: Vec<Restore>) -> Error {
    let asking = |slot: Restore| async move {
        let (event, doubled) = (&slot.subscribe.event, 1u32.checked_shl(slot.unanswered).unwrap_or(u32::MAX));
        let wait = WAITS.0.saturating_mul(doubled).min(LONGEST_SILENCE);
        tracing::warn!(%event, times = slot.unanswered, ?wait, "the engine did not answer a subscription; asking for it after a wait");
        ask_again(shared, live, slot, wait).await
    };
    let mut asking: FuturesUnordered<_> = unanswered.into_iter().map(asking).collect();
    while let Some(outcome) = asking.next().await {
        if let Err(error) = outcome {
            return error;
        }
    }
    std::future::pending().await
}

/// Asks for one subscription again and again, each time after a wait, until it is taken, refused for good, or left. Fails if the link
/// does.
pub(super) async fn ask_again(
    shared: &Shared,
    live: &LiveLink,
    mut slot: Restore,
    mut ceiling: Duration,
) -> Result<()> {
    loop {
        let wait = jittered(ceiling, ErrorKind::Unavailable, shared.random());
        tokio::select! {
            biased;
            () = tokio::time::sleep(wait) => {}
            () = say_that_it_lives(live) => {}
        }
        match one(shared, live, slot).await? {
            Some(later) => slot = later,
            None => return Ok(()),
        }
        ceiling = (ceiling * 2).min(WAITS.1);
    }
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
    let Restore { in_words, was_paced, .. } = slot;
    // Left meanwhile.
    let Some(slot) = shared.registry.to_restore_again(&slot.subscribe.event, &slot.end) else { return Ok(None) };
    let slot = Restore { in_words, was_paced, ..slot };
    let event = &slot.subscribe.event;
    let told = tell_in_time(shared, live, &slot).await;
    if told.is_ok() || live.is_usable() {
        shared.registry.answered(event, &slot.end, true);
    }
    let Err(error) = told else { return Ok(None) };
    match meaning(live, error).await {
        Meaning::LinkEnded(error) => Err(error),
        // That it failed to subscribe says an engine of what passes, and of a name that it does not know.
        Meaning::Passes(error) if !(is_vague(&error) && in_words + 1 >= PATIENCE_WITH_WORDS) => {
            tracing::warn!(%event, %error, "not subscribed again yet; trying again");
            Ok(Some(Restore { in_words: in_words + u32::from(is_vague(&error)), ..slot }))
        }
        Meaning::Passes(error) | Meaning::Stays(error) => {
            refuse(shared, &slot, error.context(format_args!("subscribe again to {event}")));
            Ok(None)
        }
    }
}

/// Whether it is a refusal of which nobody can tell whether it passes.
fn is_vague(error: &Error) -> bool {
    error.kind() == ErrorKind::Refused && error.is_read_from_words()
}

/// The engine refuses this one for good: its reader must know, the others go on.
pub(super) fn refuse(shared: &Shared, slot: &Restore, cause: Error) {
    let event = slot.subscribe.event.clone();
    if shared.registry.close(&event, &slot.end, Some(cause.clone())) {
        shared.tell(ConnectionEvent::SubscriptionRefused { event, cause });
    }
}

/// Tells the engine, and notes if it does not answer in time.
async fn tell_in_time(shared: &Shared, live: &LiveLink, slot: &Restore) -> Result<()> {
    let mut telling = pin!(tell(shared, live, slot));
    tokio::select! {
        biased;
        told = &mut telling => told,
        () = tokio::time::sleep(ANSWERED_WITHIN) => {
            shared.registry.answered(&slot.subscribe.event, &slot.end, false);
            telling.await
        }
    }
}

async fn tell(shared: &Shared, live: &LiveLink, slot: &Restore) -> Result<()> {
    let (event, limit) = (&slot.subscribe.event, shared.options.request_timeout);
    // Until all is said: whoever leaves it meanwhile, pauses it or goes on with it says so after this. No limit of its own: an answer
    // that is too old ends the link.
    let Some(turn) = shared.registry.turn(event, &slot.end) else { return Ok(()) };
    let _turn = turn.lock().await;
    if !shared.registry.is_open(event, &slot.end) {
        return Ok(());
    }
    // As it is now, and until this turn is over.
    let pause = shared.registry.paused(event, &slot.end);
    let pause = pause.map(|reason| Command::Pause { event: event.clone(), reason });
    // First, so that nothing is sent in between.
    let told = match pause.clone() {
        Some(pause) => live.call(pause, limit).await.is_ok(),
        None => true,
    };
    if !shared.registry.begin_stream(event, &slot.end) {
        return Ok(());
    }
    live.call(Command::Subscribe(slot.subscribe.clone()), limit).await?;
    // An engine that takes it only after the subscription is told again, and so is one that is not ours: it may begin each subscription
    // without a pause.
    let again = !told || !live.welcome.config.has(Extension::FlowControl);
    if slot.was_paced && pause.is_none() && !shared.registry.is_full(event, &slot.end, live.epoch()) {
        // It may keep a pause by the name, and what paced it is gone.
        match live.call(Command::Continue { event: event.clone() }, limit).await {
            Err(error) if !live.is_usable() || passes(&error, false) => return Err(error),
            _ => {}
        }
    }
    if let Some(pause) = pause.filter(|_| again) {
        match live.call(pause, limit).await {
            // What passes is said again. Else, where the first was taken, a refusal of this one says that it holds.
            Err(error) if !told || !live.is_usable() || passes(&error, false) => return Err(error),
            _ => {}
        }
    }
    shared.registry.set_subscribed(event, &slot.end, live.epoch());
    tracing::info!(%event, "subscribed again");
    Ok(())
}
