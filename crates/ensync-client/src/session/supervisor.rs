//! The task that owns the connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensync_core::{
    Command, Delivery, Error, ErrorKind, Extension, Link, Reply, Result, Settle, Settlement, Transport, report,
};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::routes::Restore;
use super::{Errand, Live, Routed, Shared, State, backoff, connect};

/// How long the goodbye may take: commands that nobody waits for, and the close.
const GOODBYE: Duration = Duration::from_secs(5);

type Queue = mpsc::UnboundedReceiver<Errand>;

/// Why a link's run ended.
enum End {
    /// The client is closed, or dropped.
    Stopped,
    Lost(Error),
}

/// Keeps the session alive, from its first link to its end.
///
/// `ended` ends it also if the runtime goes before this task was ever polled: nobody must wait for what will not come.
pub(super) async fn supervise(ended: Ended, mut link: Link, mut errands: Queue) {
    let shared = ended.0.clone();
    let mut generation = 1;
    let mut attempt = 0;
    loop {
        let since = Instant::now();
        let lost = match run(&shared, link, generation, &mut errands).await {
            End::Stopped => return shared.end(shared.closed(), None),
            End::Lost(error) => error,
        };
        shared.link.store(0, Ordering::Release);
        shared.routes.all_left();
        shared.routes.empty_all();
        tracing::warn!(endpoint = %shared.endpoint, error = %report(&lost), "connection lost");
        // A login that did not hold is one more failed attempt, or an engine that accepts and drops would be stormed.
        if since.elapsed() >= shared.options.reconnect_interval {
            attempt = 0;
        }
        link = match reconnect(&shared, lost, &mut attempt).await {
            Ok(Some(link)) => link,
            Ok(None) => return shared.end(shared.closed(), None),
            Err(error) => return shared.end(error.clone(), Some(&error)),
        };
        generation += 1;
    }
}

/// Ends the session when dropped, if nothing else has.
pub(super) struct Ended(pub(super) Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end(self.0.closed(), None);
    }
}

/// Tries until there is a link (`Some`), the client is closed (`None`), or it is no use.
async fn reconnect(shared: &Shared, mut last: Error, attempt: &mut u32) -> Result<Option<Link>> {
    loop {
        *attempt = attempt.saturating_add(1);
        shared.state.send_replace(State::Connecting(*attempt, last.clone()));
        if !shared.options.max_reconnect_attempts.allow(*attempt) {
            let tried = *attempt - 1;
            return Err(Error::new(
                last.kind(),
                format!("the connection to {} was lost; gave up after {tried} attempts to reconnect", shared.endpoint),
            )
            .with_source(last));
        }
        let wait = backoff::delay(shared.options.reconnect_interval, *attempt, fastrand::f64());
        tracing::info!(endpoint = %shared.endpoint, attempt = *attempt, ?wait, "reconnecting");
        let link = async {
            tokio::time::sleep(wait).await;
            connect(&*shared.connector, &shared.endpoint, &shared.app_key, shared.options.connect_timeout).await
        };
        let link = tokio::select! {
            link = link => link,
            () = shared.stop.cancelled() => return Ok(None),
        };
        last = match link {
            Ok(link) => return Ok(Some(link)),
            // Trying again changes nothing: the key was revoked.
            Err(error) if matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Forbidden) => {
                return Err(error);
            }
            Err(error) => error,
        };
        tracing::warn!(endpoint = %shared.endpoint, attempt = *attempt, error = %report(&last), "reconnect failed");
    }
}

/// Lives with one link until it ends.
async fn run(shared: &Shared, link: Link, generation: u64, queue: &mut Queue) -> End {
    let Link { transport, inbox, welcome } = link;
    let live = Live { transport: transport.clone(), welcome: Arc::new(welcome), generation };
    shared.link.store(generation, Ordering::Release);
    let mut errands = Errands { shared, live: &live, queue, running: FuturesUnordered::new() };
    let lost = tokio::select! {
        // Routing runs while subscriptions are restored: what they bring must not fill the inbox.
        lost = route(shared, inbox, generation) => lost,
        lost = heartbeat(&*transport, shared.options.heartbeat_interval) => lost,
        lost = restore(shared, &*transport, &live) => lost,
        () = errands.run() => shared.closed(),
        () = shared.stop.cancelled() => {
            errands.say_goodbye().await;
            return End::Stopped;
        }
    };
    End::Lost(lost)
}

/// Takes events off the link and hands each to its subscription's buffer.
///
/// A full buffer holds up the link. An engine with flow control never fills one, for the buffer is as large as the window.
async fn route(shared: &Shared, mut inbox: BoxStream<'static, Result<Delivery>>, generation: u64) -> Error {
    while let Some(item) = inbox.next().await {
        let delivery = match item {
            Ok(delivery) => delivery,
            Err(error) => return error,
        };
        let sender = shared.routes.sender(&delivery.event);
        let routed = Routed { delivery, generation };
        let left = match sender {
            Some(sender) => match sender.send(routed).await {
                Ok(()) => continue,
                Err(async_channel::SendError(left)) => left,
            },
            None => routed,
        };
        let event = &left.delivery.event;
        tracing::debug!(%event, id = %left.delivery.id, "nobody takes this event; handed back");
        // First the word that nobody does, or the engine would send it straight back here.
        let errand = if shared.routes.leave_unknown(event) {
            Errand::Leave { event: event.clone(), unread: vec![left], generation }
        } else {
            Errand::HandBack(left)
        };
        shared.errand(errand);
    }
    Error::new(ErrorKind::Closed, format!("{} closed the connection", shared.endpoint))
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

/// Subscribes again, and then lets calls use the link. Returns only if the link fails meanwhile.
async fn restore(shared: &Shared, transport: &dyn Transport, live: &Live) -> Error {
    for route in shared.routes.to_restore() {
        let limit = shared.options.request_timeout;
        match tokio::time::timeout(limit, restore_one(shared, transport, live, &route)).await {
            Ok(Ok(())) => {}
            Ok(Err(error))
                if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Interrupted | ErrorKind::Protocol) =>
            {
                return error;
            }
            // The engine refuses this one: its reader must know, the others go on.
            Ok(Err(error)) => {
                let event = &route.subscribe.event;
                shared.routes.close(event, Some(error.context(format_args!("subscribe again to {event}"))));
            }
            Err(_) => {
                let text = format!("no answer to a subscription from {} within {limit:?}", shared.endpoint);
                return Error::new(ErrorKind::Timeout, text);
            }
        }
    }
    shared.state.send_if_modified(|state| {
        let news = !matches!(state, State::Live(known) if known.generation == live.generation);
        if news {
            *state = State::Live(live.clone());
        }
        news
    });
    std::future::pending().await
}

async fn restore_one(shared: &Shared, transport: &dyn Transport, live: &Live, route: &Restore) -> Result<()> {
    let event = &route.subscribe.event;
    if !shared.routes.is_open(event, &route.end) {
        return Ok(());
    }
    transport.call(Command::Subscribe(route.subscribe.clone())).await?;
    if !shared.routes.is_open(event, &route.end) {
        // It was left meanwhile, and the word of that may have come before this one. A new subscription to the name waits until
        // all are restored.
        return transport.call(Command::Unsubscribe { event: event.clone() }).await.map(drop);
    }
    if let Some(reason) = route.paused.clone() {
        transport.call(Command::Pause { event: event.clone(), reason }).await?;
    }
    shared.routes.set_told(event, live.generation);
    tracing::info!(%event, "subscribed again");
    Ok(())
}

/// What nobody waits for, over one link.
struct Errands<'a> {
    shared: &'a Shared,
    live: &'a Live,
    queue: &'a mut Queue,
    running: FuturesUnordered<BoxFuture<'a, ()>>,
}

impl Errands<'_> {
    /// Runs errands as they come. What is under way when this is dropped goes on in [`say_goodbye`](Self::say_goodbye).
    async fn run(&mut self) {
        loop {
            tokio::select! {
                errand = self.queue.recv() => match errand {
                    Some(errand) => self.start(errand),
                    None => return,
                },
                Some(()) = self.running.next() => {}
            }
        }
    }

    /// Does what is left to do, and closes.
    async fn say_goodbye(&mut self) {
        let last_words = async {
            while let Ok(errand) = self.queue.try_recv() {
                self.start(errand);
            }
            while self.running.next().await.is_some() {}
            self.live.transport.close().await;
        };
        if tokio::time::timeout(GOODBYE, last_words).await.is_err() {
            tracing::debug!("the engine did not answer the goodbye in time");
        }
    }

    fn start(&mut self, errand: Errand) {
        self.running.push(run_errand(self.shared, self.live, errand).boxed());
    }
}

async fn run_errand(shared: &Shared, live: &Live, errand: Errand) {
    match errand {
        Errand::HandBack(routed) => hand_back(live, routed).await,
        Errand::Settle { settle, generation } => {
            if generation == live.generation {
                told(live.transport.call(Command::Settle(settle)).await);
            }
        }
        Errand::Leave { event, unread, generation } => {
            if generation == live.generation {
                told(live.transport.call(Command::Unsubscribe { event: event.clone() }).await);
            }
            shared.routes.left(&event);
            futures::future::join_all(unread.into_iter().map(|routed| hand_back(live, routed))).await;
        }
    }
}

/// Releases a delivery, which does not count for nobody looked at it; rolls it back where the engine knows only that. One that knows
/// neither might send it straight back; there its ack timeout does the same in its own time.
async fn hand_back(live: &Live, Routed { delivery, generation }: Routed) {
    let config = &live.welcome.config;
    let how = if config.has(Extension::Leases) {
        Settlement::Release
    } else if config.has(Extension::Fencing) {
        Settlement::Rollback
    } else {
        return;
    };
    if generation == live.generation {
        let Delivery { id, event, block, .. } = delivery;
        let settle = Settle { id, event: Some(event), block: Some(block), how };
        told(live.transport.call(Command::Settle(settle)).await);
    }
}

fn told(answer: Result<Reply>) {
    if let Err(error) = answer {
        tracing::debug!(%error, "refused, and nobody waits for it");
    }
}
