//! The task that owns the connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensync_core::{Command, Delivery, Error, ErrorKind, Extension, Link, Result, Transport, report};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::backoff::Backoff;
use super::errand::{Errand, HandBack, Runner};
use super::lane::Routed;
use super::restore::restore;
use super::window::Window;
use super::{Live, Shared, State, connect};
use crate::ConnectionEvent;

type Queue = mpsc::UnboundedReceiver<Errand>;

/// Why a link's run ended.
enum End {
    /// The client is closed, or dropped.
    Stopped,
    Lost(Error),
}

/// A link, or the client is closed (`None`), or it is no use to try further.
type Next = Result<Option<Link>>;

/// Keeps the session alive, from its first link to its end. Without a first link it makes one.
///
/// `ended` ends it also if the runtime goes before this task was ever polled: nobody must wait for what will not come.
pub(super) async fn supervise(ended: Ended, first: Option<Link>, mut errands: Queue) {
    let shared = ended.0.clone();
    let options = &shared.options;
    let mut backoff = Backoff::new(options.reconnect_interval, options.reconnect_factor, options.jitter_seed);
    let mut next = match first {
        Some(link) => Ok(Some(link)),
        None => first_link(&shared, &mut backoff).await,
    };
    let mut generation = 0;
    loop {
        let link = match next {
            Ok(Some(link)) => link,
            Ok(None) => return shared.end(shared.closed(), None),
            Err(error) => return shared.end(error.clone(), Some(&error)),
        };
        generation += 1;
        let since = Instant::now();
        let lost = match run(&shared, link, generation, backoff.attempt, &mut errands).await {
            End::Stopped => return shared.end(shared.closed(), None),
            End::Lost(error) => error,
        };
        shared.link.store(0, Ordering::Release);
        shared.routes.all_left();
        shared.routes.empty_all();
        tracing::warn!(endpoint = %shared.endpoint, error = %report(&lost), "connection lost");
        shared.tell(ConnectionEvent::Disconnected { cause: lost.clone() });
        // A login that did not hold is one more failed attempt, or an engine that accepts and drops would be stormed.
        if since.elapsed() >= options.reconnect_interval {
            backoff.attempt = 0;
        }
        next = reconnect(&shared, lost, &mut backoff).await;
    }
}

/// Ends the session when dropped, if nothing else has.
pub(super) struct Ended(pub(super) Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end(self.0.closed(), None);
    }
}

/// The first attempt is made at once.
async fn first_link(shared: &Shared, backoff: &mut Backoff) -> Next {
    match attempt(shared, 0, Duration::ZERO).await {
        Err(error) if !is_final(&error) => reconnect(shared, error, backoff).await,
        next => next,
    }
}

/// Tries until there is a link, the client is closed, or it is no use.
async fn reconnect(shared: &Shared, mut last: Error, backoff: &mut Backoff) -> Next {
    loop {
        if !shared.options.max_reconnect_attempts.allow(backoff.attempt) {
            return Err(gave_up(shared, backoff.attempt, last));
        }
        let wait = backoff.next(last.kind());
        let attempted = backoff.attempt;
        tracing::info!(endpoint = %shared.endpoint, attempt = attempted, ?wait, "reconnecting");
        shared.change(
            State::Lost { attempt: attempted, next_try: Instant::now() + wait, cause: last },
            ConnectionEvent::Reconnecting { attempt: attempted, wait },
        );
        last = match attempt(shared, attempted, wait).await {
            Err(error) if !is_final(&error) => error,
            next => return next,
        };
    }
}

/// One attempt, after a wait.
async fn attempt(shared: &Shared, number: u32, wait: Duration) -> Next {
    let link = async {
        tokio::time::sleep(wait).await;
        connect(&*shared.connector, &shared.endpoint, &shared.app_key, shared.options.connect_timeout).await
    };
    let link = tokio::select! {
        biased;
        () = shared.stop.cancelled() => return Ok(None),
        link = link => link,
    };
    if let Err(error) = &link {
        tracing::warn!(endpoint = %shared.endpoint, attempt = number, error = %report(error), "no connection");
        shared.tell(ConnectionEvent::Failed { attempt: number, cause: error.clone() });
    }
    link.map(Some)
}

/// Trying again changes nothing: the key was revoked.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Forbidden)
}

/// Its kind says that nothing is sent any more; what was the matter is its source.
fn gave_up(shared: &Shared, attempts: u32, last: Error) -> Error {
    let what = if shared.was_live.load(Ordering::Relaxed) {
        format!("the connection to {} was lost; gave up after {attempts} attempts to reconnect", shared.endpoint)
    } else {
        format!("there is no connection to {}; gave up after {attempts} attempts more than the first", shared.endpoint)
    };
    Error::new(ErrorKind::Closed, what).with_source(last)
}

/// Lives with one link until it ends. `attempt` is the one that made it.
async fn run(shared: &Shared, link: Link, generation: u64, attempt: u32, queue: &mut Queue) -> End {
    let Link { transport, inbox, welcome } = link;
    let live = Live { transport: transport.clone(), welcome: Arc::new(welcome), generation };
    shared.link.store(generation, Ordering::Release);
    let mut runner = Runner::new(shared, &live, queue);
    let lost = tokio::select! {
        // In this order, for a test must repeat; and routing, which may always have something to do, comes last.
        biased;
        () = shared.stop.cancelled() => {
            runner.say_goodbye().await;
            return End::Stopped;
        }
        lost = heartbeat(&*transport, shared.options.heartbeat_interval) => lost,
        lost = restore(shared, &live, attempt) => lost,
        never = give_back(shared, &live) => match never {},
        never = ended_subscriptions(shared, &live) => match never {},
        () = runner.run() => shared.closed(),
        // Runs while subscriptions are restored: what they bring must not fill the inbox.
        lost = route(shared, &live, inbox) => lost,
    };
    End::Lost(lost)
}

/// Takes events off the link and hands each to its subscription's lane. A slow reader holds up nobody else.
async fn route(shared: &Shared, live: &Live, mut inbox: BoxStream<'static, Result<Delivery>>) -> Error {
    let generation = live.generation;
    let asks = !live.welcome.config.has(Extension::FlowControl);
    while let Some(item) = inbox.next().await {
        let delivery = match item {
            Ok(delivery) => delivery,
            Err(error) => return error,
        };
        let event = delivery.event.clone();
        let window = |subscribe: &_| Window::new(subscribe, generation, asks, shared.errands.clone());
        let hand_back = match shared.routes.lane(&event, generation, window) {
            Some((lane, window)) => {
                window.room().await;
                let until = delivery.lease.and_then(|lease| Instant::now().checked_add(lease));
                shared.leased(delivery.lease);
                let held = window.enter(&delivery);
                match lane.push(Routed { delivery, generation, until, held }) {
                    None => continue,
                    Some(left) => left.into(),
                }
            }
            None => HandBack { event: event.clone(), id: delivery.id, block: delivery.block, generation, seen: false },
        };
        tracing::debug!(%event, id = %hand_back.id, "nobody takes this event; handed back");
        // First the word that nobody does, or the engine would send it straight back here.
        if shared.routes.leave_unknown(&event) {
            shared.errand(Errand::Leave { event, unread: vec![hand_back], generation });
        } else {
            shared.errand(Errand::HandBack(hand_back));
        }
    }
    Error::new(ErrorKind::Closed, format!("{} closed the connection", shared.endpoint))
}

/// Ends the streams of subscriptions that ended by themselves, each with the reason.
async fn ended_subscriptions(shared: &Shared, live: &Live) -> Infallible {
    loop {
        let (event, error) = live.transport.ended_subscription().await;
        tracing::warn!(%event, error = %report(&error), "a subscription ended");
        shared.routes.close(&event, Some(error.clone()));
        shared.tell(ConnectionEvent::SubscriptionRefused { event, cause: error });
    }
}

/// Hands back what waits for its reader and would run out of its lease soon. The engine gives it to whoever is free, this client
/// too, and does not count it as a delivery, which a lease that ran out is: else what waits behind a slow handler would end up with
/// the dead letters without anybody having seen it.
async fn give_back(shared: &Shared, live: &Live) -> Infallible {
    if !live.welcome.config.has(Extension::Leases) {
        return std::future::pending().await;
    }
    loop {
        let lease = shared.shortest_lease.wait(|lease| *lease).await;
        tokio::time::sleep(lease / 8).await;
        for routed in shared.routes.take_ending(Instant::now() + lease / 4) {
            tracing::debug!(event = %routed.delivery.event, id = %routed.delivery.id, "not read for most of its lease; handed back");
            shared.errand(Errand::HandBack(routed.into()));
        }
    }
}

/// Returns when the link has stopped answering.
async fn heartbeat(transport: &dyn Transport, every: Duration) -> Error {
    let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match tokio::time::timeout(every, transport.call(Command::Heartbeat)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error,
            Err(_) => return Error::new(ErrorKind::Timeout, format!("no answer to a heartbeat within {every:?}")),
        }
    }
}
