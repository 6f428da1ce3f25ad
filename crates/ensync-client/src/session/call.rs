//! The path of a call: the link it goes over, its deadline, its repeats.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ensync_core::{Command, Error, ErrorKind, Reply, Result};
use tokio::time::Instant;

use super::budget::{LATER, Paid};
use super::ended::{about_a_refusal, about_the_session};
use super::link::{LinkLife, LiveLink, size};
use super::retry::{Attempts, Next, RetryPolicy, Sent};
use super::room::Place;
use super::vitals::takes;
use super::watch::ANSWER_WITHIN;
use super::{Shared, State};

/// A command to carry out, and what its caller said about it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) deadline: Instant,
    pub(crate) retry: RetryPolicy,
    /// The only link that it may go over, because it is about something that came over that.
    pub(crate) bound: Option<Arc<LinkLife>>,
    /// Whether it is still what is meant; if not it is not sent again.
    pub(crate) meant: Option<Meant>,
    /// Of a publish that takes up room while it is on its way: its bytes, and its place among the copies of it.
    pub(crate) room: Option<(usize, Place)>,
}

/// One of several commands about the same thing, of which the last is what is meant.
#[derive(Debug)]
pub(crate) struct Meant {
    last: Arc<AtomicUsize>,
    this: usize,
}

impl Meant {
    /// The next, which is what is meant from now on.
    pub(crate) fn next(last: &Arc<AtomicUsize>) -> Self {
        Self { last: last.clone(), this: last.fetch_add(1, Ordering::AcqRel).wrapping_add(1) }
    }

    fn is_over(&self) -> bool {
        self.last.load(Ordering::Acquire) != self.this
    }
}

impl Request {
    pub(crate) fn new(command: Command, limit: Duration) -> Self {
        Self::until(command, Instant::now() + limit)
    }

    pub(crate) fn until(command: Command, deadline: Instant) -> Self {
        Self { command, deadline, retry: RetryPolicy::default(), bound: None, meant: None, room: None }
    }

    /// With a policy of its own.
    pub(crate) fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Only when there is room for so many bytes, as one of the copies of a publish.
    pub(crate) fn with_room(mut self, bytes: usize, place: Place) -> Self {
        self.room = Some((bytes, place));
        self
    }

    /// Over this link or none.
    pub(crate) fn bound_to(mut self, link: Option<Arc<LinkLife>>) -> Self {
        self.bound = link;
        self
    }

    /// As long as it is meant.
    pub(crate) fn meant(mut self, meant: Option<Meant>) -> Self {
        self.meant = meant;
        self
    }
}

impl Shared {
    /// The answer, and the link that brought it; 0 if none did.
    pub(super) async fn call(&self, request: Request) -> (Result<Reply>, u64) {
        let _busy = self.work.token();
        let Request { command, deadline, retry, bound, meant, mut room } = request;
        let begun = Instant::now();
        let mut attempts = Attempts::new(retry);
        let (mut epoch, mut turned_away, mut refused, mut closed) = (0, None, None::<Error>, false);
        let failed = loop {
            let link = match tokio::time::timeout_at(deadline, self.link(bound.as_deref())).await {
                Ok(Ok(link)) => link,
                Ok(Err(error)) => {
                    closed = true;
                    break error;
                }
                Err(_) => break self.no_connection(begun.elapsed(), turned_away.as_ref()),
            };
            let taken = match &room {
                Some((bytes, _)) => match self.room(*bytes, deadline).await {
                    Ok(taken) => Some(taken),
                    // What the engine said says more.
                    Err(error) => break refused.unwrap_or(error),
                },
                None => None,
            };
            if taken.is_some() && !link.is_usable() {
                // It ended while room was waited for.
                continue;
            }
            let engine = &link.welcome.config;
            if !attempts.may_send(&command, engine) {
                break Error::new(ErrorKind::Connect, "the engine may not know the first attempt any more");
            }
            let sent = Sent::now();
            if sent.at() >= deadline {
                break Error::new(ErrorKind::Unavailable, "there was no time left to send it; it was not sent");
            }
            epoch = link.epoch();
            // What the engine is told. No answer is waited for as long as that: see `watch`.
            let most = (2 * ANSWER_WITHIN).saturating_add(takes(size(&command)));
            let left = deadline.saturating_duration_since(sent.at()).min(most);
            let answer = tokio::time::timeout_at(deadline, link.call(command.clone(), left)).await;
            // What waits for another attempt takes no room from what is answered.
            drop(taken);
            let error = match answer {
                Ok(Ok(reply)) => {
                    self.budget.pay();
                    link.vitals.serve();
                    return (Ok(reply), epoch);
                }
                Ok(Err(error)) => {
                    let error = match &command {
                        Command::Subscribe(_) => about_the_session(&link, error).await,
                        _ => error,
                    };
                    let meant = about_a_refusal(self, &link, &command, error.clone());
                    tokio::time::timeout_at(deadline, meant).await.unwrap_or(error)
                }
                Err(_) => break self.no_answer(begun.elapsed()),
            };
            let over_its_link = bound.is_none();
            match attempts.failed(&command, engine, sent, &error, self.random()) {
                Next::Tell => break error,
                Next::OtherLink if over_its_link => turned_away = Some(error),
                Next::OtherLink => break ended(&link.life),
                // The link did the waiting.
                Next::After(_) if link.is_dead() && over_its_link => {}
                Next::After(wait) => {
                    if let Some((bytes, place)) = &mut room {
                        place.leave(*bytes);
                    }
                    let pays = matches!(command, Command::Publish(_)) && !attempts.is_first_repeat();
                    let Some((again, paid)) = self.repeat(wait, pays, deadline).await else { break error };
                    tracing::debug!(command = command.name(), %error, ?wait, "trying again");
                    refused = Some(error.clone());
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep_until(again) => {}
                        // The next link is waited for instead, or there is none that it may go over.
                        _ = link.life.ended() => {}
                    }
                    if let Some(paid) = paid {
                        paid.spend();
                    }
                    if meant.as_ref().is_some_and(Meant::is_over) {
                        break error;
                    }
                }
            }
        };
        (Err(attempts.told(failed, closed)), epoch)
    }

    /// When a command may be repeated after a wait, and what it paid for that; `None` if that is too late.
    async fn repeat(&self, wait: Duration, pays: bool, deadline: Instant) -> Option<(Instant, Option<Paid<'_>>)> {
        loop {
            let again = Instant::now() + wait;
            if again >= deadline {
                return None;
            }
            if !pays {
                return Some((again, None));
            }
            if let Some(paid) = self.budget.take() {
                let again = again.max(Instant::now() + paid.wait);
                return (again < deadline).then_some((again, Some(paid)));
            }
            let (least, most) = LATER;
            tokio::time::sleep(least + (most - least).mul_f64(self.random())).await;
        }
    }

    /// The link that is live, once there is one; with `bound` that link, or an error once it has ended.
    async fn link(&self, bound: Option<&LinkLife>) -> Result<Arc<LiveLink>> {
        let Some(bound) = bound else { return self.live().await };
        let known = |state: &State| match state {
            State::Closed(error) => Some(Err(error.clone())),
            State::Live(link) if link.epoch() == bound.epoch() && link.is_usable() => Some(Ok(link.clone())),
            _ => None,
        };
        tokio::select! {
            biased;
            link = self.state.wait(known) => link,
            _ = bound.ended() => Err(ended(bound)),
        }
    }

    /// The live link, once there is one. Who waits for it is known to whoever makes the next.
    pub(super) async fn live(&self) -> Result<Arc<LiveLink>> {
        match self.state.read(live_or_closed) {
            Some(known) => known,
            None => {
                let _waits = self.waits_for_link.begin();
                self.becomes_live().await
            }
        }
    }

    /// The same without a hurry.
    pub(super) async fn becomes_live(&self) -> Result<Arc<LiveLink>> {
        self.state.wait(live_or_closed).await
    }

    fn no_answer(&self, took: Duration) -> Error {
        let text =
            format!("no answer from {} within {took:?}; it may or may not have been carried out", self.endpoint());
        Error::new(ErrorKind::Timeout, text)
    }

    /// No connection until the deadline; after a link, or an engine that did not know the session, had turned the command away.
    pub(super) fn no_connection(&self, took: Duration, turned_away: Option<&Error>) -> Error {
        let (to, kind) = (self.endpoint(), ErrorKind::Connect);
        if let Some(last) = turned_away.filter(|error| says_unknown(error)) {
            let text = format!(
                "the engine at {to} did not know the session, over each connection within {took:?}; it was not carried out"
            );
            return Error::new(kind, text).with_source(last.clone());
        }
        let error = Error::new(kind, format!("no connection to {to} within {took:?}; it was not sent"));
        match self.state.read(|state| match state {
            State::Lost { cause, .. } => Some(cause.clone()),
            _ => None,
        }) {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }
}

fn live_or_closed(state: &State) -> Option<Result<Arc<LiveLink>>> {
    match state {
        State::Live(link) if link.is_usable() => Some(Ok(link.clone())),
        State::Closed(error) => Some(Err(error.clone())),
        _ => None,
    }
}

/// Whether an engine said that it does not know the session. A transport may say it as a link that ended for that reason.
fn says_unknown(error: &Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::Unauthenticated) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The answer to a settlement of what an earlier link brought.
fn ended(link: &LinkLife) -> Error {
    let text = "the connection that brought the delivery has ended, so the engine has it back; it is delivered again";
    Error::new(ErrorKind::StaleDelivery, text).with_source(link.cause())
}
