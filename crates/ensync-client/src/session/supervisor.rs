//! The task that owns the connection.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ensync_core::{Error, ErrorKind, Result, report};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::backoff::{AtOnce, Backoff, Wait, asks_for_time};
use super::ended::ended_subscriptions;
use super::leases::keep_waiting;
use super::link::{Inbox, LiveLink};
use super::link_command::{LinkCommand, Runner};
use super::restore::restore;
use super::retry::is_final_for_login;
use super::route::route;
use super::waiting::WaitsForLink;
use super::watch::{heartbeat, watch};
use super::{Shared, State};
use crate::ConnectionEvent;

type Queue = mpsc::UnboundedReceiver<LinkCommand>;

/// A link that has just logged in, and what it pushes.
pub(super) type Fresh = (Arc<LiveLink>, Inbox);

/// Why a link's run ended.
enum End {
    /// The client is closed, or dropped.
    Stopped,
    Lost(Error),
}

/// A link, or the client is closed (`None`), or it is no use to try further.
type Next = Result<Option<Fresh>>;

/// Keeps the session alive, from its first link to its end. Without a first link it makes one.
///
/// `ended` ends it also if the runtime goes before this task was ever polled: nobody must wait for what will not come.
pub(super) async fn supervise(ended: Ended, first: Option<Fresh>, mut commands: Queue) {
    let shared = ended.0.clone();
    let options = &shared.options;
    let (interval, factor) = (options.reconnect_interval, options.reconnect_factor);
    let backoff = Backoff::new(interval, factor, options.max_reconnect_attempts, options.jitter_seed);
    let epoch = first.as_ref().map_or(0, |(link, _)| link.epoch());
    let mut dialling = Dialling { shared: &shared, backoff, epoch, refused: 0, tried: Instant::now() };
    let mut followed = AtOnce::new(interval);
    let mut next = match first {
        Some(link) => Ok(Some(link)),
        None => dialling.first_link().await,
    };
    loop {
        let (link, inbox) = match next {
            Ok(Some(fresh)) => fresh,
            Ok(None) => return shared.end(shared.closed(), None),
            Err(error) => return shared.end(error.clone(), Some(&error)),
        };
        let since = Instant::now();
        let lost = match run(&shared, &link, inbox, dialling.backoff.attempt, &mut commands).await {
            End::Stopped => return shared.end(shared.closed(), None),
            End::Lost(error) => error,
        };
        // The one place where a link's end is acted upon, whoever learnt of it.
        link.declare_dead(lost.clone());
        shared.epoch.store(0, Ordering::Release);
        shared.registry.link_ended();
        let (lasted, served) = (since.elapsed() >= options.reconnect_interval, link.vitals.served());
        // An engine or a proxy that closes in order, and one that forgot the session, are there: nothing is to be waited for. A
        // login that did not hold is one more failed attempt all the same, or one that accepts and drops would be stormed.
        let at_once = (lasted || served) && followed.take(lost.kind());
        match at_once {
            true => tracing::info!(endpoint = %shared.endpoint(), cause = %report(&lost), "the connection has ended"),
            false => tracing::warn!(endpoint = %shared.endpoint(), error = %report(&lost), "connection lost"),
        }
        shared.tell(ConnectionEvent::Disconnected { cause: lost.clone() });
        // One that forgets each session after a moment is given more and more time, whatever it did before.
        if lasted || (served && lost.kind() != ErrorKind::Unauthenticated) {
            dialling.backoff.attempt = 0;
        }
        // One that accepts and does nothing is avoided for a while; one that worked until it broke is as good as any.
        if !at_once && !link.vitals.carried() {
            shared.failover.failed();
        }
        next = dialling.reconnect(lost, at_once).await;
    }
}

/// Ends the session when dropped, if nothing else has.
pub(super) struct Ended(pub(super) Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end(self.0.closed(), None);
    }
}

/// Making connections.
struct Dialling<'a> {
    shared: &'a Shared,
    backoff: Backoff,
    /// The number of the last link.
    epoch: u64,
    /// How often in an outage the engine refused the key in words of its own.
    refused: u32,
    /// When the last attempt began.
    tried: Instant,
}

impl Dialling<'_> {
    /// The first attempt is made at once.
    async fn first_link(&mut self) -> Next {
        match self.attempt(0, Wait::default()).await {
            Err(error) if !self.is_final(&error) => self.reconnect(error, false).await,
            next => next,
        }
    }

    /// Tries until there is a link, the client is closed, or it is no use.
    async fn reconnect(&mut self, mut last: Error, mut at_once: bool) -> Next {
        let shared = self.shared;
        let mut took = Duration::ZERO;
        loop {
            if !shared.options.max_reconnect_attempts.allow(self.backoff.attempt) {
                return Err(gave_up(shared, self.backoff.attempt, last));
            }
            let wait = self.backoff.next(last.kind());
            let wait = match std::mem::take(&mut at_once) {
                true => Wait::default(),
                // Counted from the last attempt's beginning: one that was waited for in vain was a wait. An engine that asked for time
                // gets it.
                false if asks_for_time(last.kind()) => wait,
                false => wait.less(took),
            };
            // As it is now: somebody may come.
            let planned = if shared.waits_for_link.any() {
                wait.awaited
            } else if shared.outboxes.any() || shared.registry.any_open() {
                wait.listened
            } else {
                wait.usual
            };
            let attempted = self.backoff.attempt;
            tracing::debug!(endpoint = %shared.endpoint(), attempt = attempted, wait = ?planned, "reconnecting");
            shared.change(
                State::Lost { attempt: attempted, next_try: Instant::now() + planned, cause: last },
                ConnectionEvent::Reconnecting { attempt: attempted, wait: planned },
            );
            last = match self.attempt(attempted, wait).await {
                Err(error) if !self.is_final(&error) => error,
                next => return next,
            };
            took = self.tried.elapsed();
        }
    }

    /// Whether there is no use in another attempt.
    fn is_final(&mut self, error: &Error) -> bool {
        let was_known = self.shared.was_live.load(Ordering::Relaxed);
        let is_final = is_final_for_login(error, was_known, self.refused);
        if error.kind() == ErrorKind::Unauthenticated && error.is_read_from_words() {
            self.refused = self.refused.saturating_add(1);
        }
        is_final
    }

    /// One attempt, after a wait.
    async fn attempt(&mut self, number: u32, wait: Wait) -> Next {
        let shared = self.shared;
        let link = async {
            until(wait, shared).await;
            self.tried = Instant::now();
            shared.connect().await
        };
        let link = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return Ok(None),
            link = link => link,
        };
        match link {
            Ok(link) => {
                self.epoch += 1;
                self.refused = 0;
                Ok(Some(LiveLink::new(link, self.epoch)))
            }
            Err(error) => {
                // It goes on for as long as the engine is away, so it says so now and then only.
                if shared.may_log("no connection") {
                    tracing::warn!(endpoint = %shared.endpoint(), attempt = number, error = %report(&error), "no connection; still trying");
                }
                shared.tell(ConnectionEvent::Failed { attempt: number, cause: error.clone() });
                Err(error)
            }
        }
    }
}

/// Waits as long as is usual, or as long as it takes while somebody waits for the link: from the beginning, or from when he comes. Who is
/// subscribed is so from the beginning, for to subscribe is a call.
async fn until(wait: Wait, shared: &Shared) {
    let after = |wait| Instant::now() + wait;
    let (listened, awaited) = (after(wait.listened), after(wait.awaited));
    let usual = if shared.registry.any_open() { listened } else { after(wait.usual) };
    tokio::select! {
        biased;
        () = tokio::time::sleep_until(usual) => {}
        () = somebody(&shared.waits_for_link, awaited) => {}
        () = somebody(&shared.outboxes, listened) => {}
    }
}

/// Waits until somebody does, and until then.
async fn somebody(waits: &WaitsForLink, until: Instant) {
    waits.until_any().await;
    tokio::time::sleep_until(until).await;
}

/// Its kind says that nothing is sent any more; what was the matter is its source.
fn gave_up(shared: &Shared, attempts: u32, last: Error) -> Error {
    let (what, to) = (shared.was_live.load(Ordering::Relaxed), shared.endpoint());
    let what = if what {
        format!("the connection to {to} was lost; gave up after {attempts} attempts to reconnect")
    } else {
        format!("there is no connection to {to}; gave up after {attempts} attempts more than the first")
    };
    Error::new(ErrorKind::Closed, what).with_source(last)
}

/// One link, from its login to its end.
async fn run(shared: &Shared, live: &Arc<LiveLink>, inbox: Inbox, attempt: u32, queue: &mut Queue) -> End {
    shared.epoch.store(live.epoch(), Ordering::Release);
    *shared.app.lock().unwrap_or_else(PoisonError::into_inner) = live.welcome.app_id;
    let mut runner = Runner::new(shared, live, queue);
    let lost = tokio::select! {
        // In this order, for a test must repeat; and routing, which may always have something to do, comes last.
        biased;
        () = shared.stop.cancelled() => {
            runner.say_goodbye().await;
            return End::Stopped;
        }
        // From whoever learnt it first.
        lost = live.life.ended() => lost,
        lost = live.said_to_have_ended() => lost,
        lost = heartbeat(live, shared.options.heartbeat_interval) => lost,
        lost = watch(live) => lost,
        lost = restore(shared, live, attempt) => lost,
        never = keep_waiting(shared, live) => match never {},
        lost = ended_subscriptions(shared, live) => lost,
        () = runner.run() => shared.closed(),
        // Runs while subscriptions are restored: what they bring must not fill the inbox.
        lost = route(shared, live, inbox) => lost,
    };
    End::Lost(lost)
}
