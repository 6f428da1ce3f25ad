use std::error::Error as StdError;
use std::future::IntoFuture;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ensync_core::{Delay, Error, ErrorKind, Result, Settlement};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{Control, Subscription};
use crate::lease::Renewal;
use crate::{Acker, Event};

/// How long a settlement that is not answered, or refused in passing, keeps its handler's place.
const KEEPS_ITS_PLACE: Duration = Duration::from_secs(1);
/// For how long a lease is still extended while the engine does not take the settlement.
const SETTLED_WITHIN: Duration = Duration::from_secs(300);

/// What becomes of an event whose handler failed or panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnError {
    /// Deferred by this long: zero, or 1 second to 24 hours.
    Defer(Duration),
    /// [Left](crate::Event::leave): delivered again when its lease would have run out.
    Leave,
    /// Delivered again at once.
    Rollback,
    /// Given up: it goes to the dead letters. The reason is a fixed text, so that nothing of the payload leaks into it.
    Discard,
}

impl Default for OnError {
    /// Deferred by 5 seconds.
    fn default() -> Self {
        Self::Defer(Duration::from_secs(5))
    }
}

/// A loop over a subscription: await it, or [`spawn`](ForEach::spawn) it.
///
/// While a handler runs, its event's lease is extended in a task of its own, so that it may take as long as it needs; what waits for
/// its handler is extended too, and so stays with this client: set [`max_in_flight`](crate::Subscribe::max_in_flight) to little more
/// than the handlers at work if other clients of the app are to have their share. A settlement that the engine cannot take now is
/// repeated for as long as the lease lasts, which is extended for five minutes more at most; where no lease is known, and once the
/// subscription has ended, for as long as a call may take ([`request_timeout`](crate::Engine::request_timeout)). After a second of that
/// the next event is handled: what is not settled takes a place of the window, and none of the handlers'. An engine that does not announce the extension "leases" cannot extend: there an event
/// whose handler takes longer than the engine's ack timeout is delivered again meanwhile, to this client or another, the late
/// acknowledgement is refused, and what waited for too long is not handed to the handler, for somebody else has it or will.
///
/// A handler that **blocks** its thread (computes for long, calls what does not await) takes a worker of the runtime for that time. Its
/// lease is extended as long as another worker is free, for that is what sends the word: a runtime needs one worker more than handlers
/// that may block at a time ([`concurrency`](Self::concurrency) of each such subscription, together). On a runtime of one thread, or
/// with `worker_threads = 1`, everything stands still meanwhile, the connection included: the lease is lost, and the event delivered
/// again. `tokio::task::spawn_blocking`, awaited in the handler, needs no such count. A handler learns that its lease is lost by
/// [`Event::lease_lost`].
///
/// A handler that **hangs** takes up one of [`concurrency`](Self::concurrency) for good, and keeps its event: with the default of 1
/// its subscription stands still, and what waits in its window stays with this client. Other subscriptions of the client go on.
/// There is no time limit but the one that the handler sets itself, `tokio::time::timeout` for one.
///
/// ```no_run
/// # async fn example(client: ensync_client::Client) -> ensync_client::core::Result<()> {
/// let orders = client.subscribe("orders/status/updated").await?;
/// orders
///     .for_each(|event| async move {
///         println!("{}", event.json()?);
///         Ok::<_, ensync_client::core::Error>(())
///     })
///     .concurrency(16)
///     .await
/// # }
/// ```
#[must_use = "nothing is handled until it is awaited or spawned"]
#[derive(Debug)]
pub struct ForEach<H> {
    subscription: Subscription,
    handler: H,
    concurrency: usize,
    auto_ack: bool,
    on_error: OnError,
    max_attempts: u32,
}

impl<H> ForEach<H> {
    pub(crate) fn new(subscription: Subscription, handler: H) -> Self {
        Self { subscription, handler, concurrency: 1, auto_ack: true, on_error: OnError::default(), max_attempts: 16 }
    }

    /// How many handlers run at a time. Default: 1, which keeps the order of delivery.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers.max(1);
        self
    }

    /// Whether to ack an event after its handler's `Ok`. Default: true. An event that its handler left, or settled itself, is left
    /// alone either way, also where that settlement is not answered yet or was refused; and so is one whose lease was lost. If not, the handler settles it, or keeps it for somebody who does: dropped unsettled it is handed back.
    pub fn auto_ack(mut self, auto_ack: bool) -> Self {
        self.auto_ack = auto_ack;
        self
    }

    /// What to do after a handler's `Err`, or panic. Default: defer by 5 s.
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// After how many deliveries an event whose handler fails is discarded, to the dead letters, so that one that always fails does
    /// not come for ever. An engine that does not say how often it delivered an event is not subject to it. Default: 16.
    pub fn max_attempts(mut self, deliveries: u32) -> Self {
        self.max_attempts = deliveries;
        self
    }
}

impl<H, F, E> ForEach<H>
where
    H: FnMut(Event) -> F + Send + 'static,
    F: Future<Output = std::result::Result<(), E>> + Send + 'static,
    E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
{
    /// Runs the loop in a task of its own, which goes on if the [`Handler`] is dropped.
    pub fn spawn(self) -> Handler {
        Handler { control: self.subscription.control(), task: tokio::spawn(self.run()) }
    }

    async fn run(self) -> Result<()> {
        let Self { mut subscription, mut handler, concurrency, auto_ack, on_error, max_attempts } = self;
        let session = subscription.client().session.clone();
        subscription.keep_waiting();
        let mut running = FuturesUnordered::new();
        let (places, ending) =
            (Arc::new(Semaphore::new(concurrency.min(Semaphore::MAX_PERMITS))), CancellationToken::new());
        let _ended_when_dropped = ending.clone().drop_guard();
        let outcome = loop {
            let placed = async {
                let place = places.clone().acquire_owned().await;
                (place, subscription.next().await)
            };
            tokio::select! {
                biased;
                Some(_) = running.next(), if !running.is_empty() => {}
                (place, item) = placed => match item {
                    Some(Ok(event)) => {
                        let acker = event.acker().clone();
                        // Begun before the handler is: that may block its thread from its first line on.
                        let renewal = acker.renew_lease();
                        let last = event.attempt().is_some_and(|attempt| attempt >= max_attempts);
                        let on_error = if last { OnError::Discard } else { on_error };
                        // The handler is called here, in order; only its future runs beside others. Its task outlives this loop, if
                        // that is dropped: what is begun is finished and settled, and `close` waits for it.
                        let span = event.span();
                        let called = span.in_scope(|| catch_unwind(AssertUnwindSafe(|| handler(event))));
                        let settling = Settling { acker, renewal, place: place.ok(), ending: ending.clone() };
                        running.push(session.spawn(settle(called, settling, auto_ack, on_error).instrument(span)));
                    }
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                },
            }
        };
        ending.cancel();
        while running.next().await.is_some() {}
        outcome
    }
}

impl<H, F, E> IntoFuture for ForEach<H>
where
    H: FnMut(Event) -> F + Send + 'static,
    F: Future<Output = std::result::Result<(), E>> + Send + 'static,
    E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
{
    type Output = Result<()>;
    type IntoFuture = BoxFuture<'static, Result<()>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What is left to do for an event once it was handled.
struct Settling {
    acker: Acker,
    renewal: Renewal,
    /// Among the handlers that may run at a time.
    place: Option<OwnedSemaphorePermit>,
    /// Cancelled when the loop takes no more events.
    ending: CancellationToken,
}

/// Waits for a handler and settles its event.
async fn settle<F, E>(called: thread::Result<F>, settling: Settling, auto_ack: bool, on_error: OnError)
where
    F: Future<Output = std::result::Result<(), E>>,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    let handled = match called {
        Ok(handling) => AssertUnwindSafe(handling).catch_unwind().await,
        Err(panic) => Err(panic),
    };
    let acker = &settling.acker;
    let failed: Box<dyn StdError + Send + Sync> = match handled {
        Ok(Ok(())) => {
            if auto_ack && acker.is_untouched() {
                settling.settle(Settlement::Ack).await;
            } else if auto_ack && acker.is_open() && acker.is_lease_lost() {
                // Somebody else has it, or will: to hand it back could take it from him.
                acker.let_go();
                tracing::warn!(event = %acker.event(), id = %acker.id(), "its lease was lost before its handler was done; it is delivered again");
            }
            return;
        }
        Ok(Err(error)) => error.into(),
        // The panic's message went to the panic hook.
        Err(_) => "the handler panicked".into(),
    };
    tracing::warn!(event = %acker.event(), id = %acker.id(), error = %failed, ?on_error, "the handler failed");
    if !acker.is_open() {
        return;
    }
    match on_error {
        OnError::Leave => acker.leave(),
        OnError::Defer(delay) => match Delay::new(delay) {
            Ok(delay) => {
                let reason = "the handler failed".into();
                settling.settle(Settlement::Defer { delay, priority: 0, reason }).await;
            }
            Err(error) => report(acker, Err(error)),
        },
        OnError::Rollback => settling.settle(Settlement::Rollback).await,
        OnError::Discard => settling.settle(Settlement::Discard { reason: "the handler failed".into() }).await,
    }
}

impl Settling {
    async fn settle(self, how: Settlement) {
        let Self { acker, renewal, place, ending } = self;
        let session = &acker.client().session;
        let mut settling = pin!(acker.settle_at_last(how));
        let in_time = tokio::time::timeout(KEEPS_ITS_PLACE, &mut settling).await;
        let settled = match in_time {
            Ok(settled) => settled,
            Err(_) => {
                if session.may_log("unsettled") {
                    tracing::warn!(event = %acker.event(), id = %acker.id(), "the engine does not take a settlement yet; it is repeated while others are handled, and others may follow unlogged for a minute");
                }
                drop(place);
                let renewed = async {
                    tokio::time::sleep(SETTLED_WITHIN).await;
                    drop(renewal);
                    std::future::pending::<()>().await;
                };
                let ended = async {
                    ending.cancelled().await;
                    tokio::time::sleep(session.request_timeout()).await;
                };
                tokio::select! {
                    biased;
                    settled = settling => settled,
                    () = renewed => return,
                    () = ended => Err(Error::new(ErrorKind::Timeout, "the subscription ended before the engine took the settlement")),
                }
            }
        };
        report(&acker, settled);
    }
}

fn report(acker: &Acker, settled: Result<()>) {
    if let Err(error) = settled {
        tracing::warn!(event = %acker.event(), id = %acker.id(), %error, "not settled; it will be delivered again");
    }
}

/// A handler at work in a task of its own. Its [`Control`] methods are at hand; dropping it leaves the task running.
#[derive(Debug)]
pub struct Handler {
    control: Control,
    task: JoinHandle<Result<()>>,
}

impl Handler {
    /// Ends the subscription, waits for the handlers under way, and for their settlements.
    ///
    /// # Errors
    ///
    /// What ended the loop before, if it had ended; otherwise what [`unsubscribe`](Control::unsubscribe) can fail with.
    pub async fn stop(self) -> Result<()> {
        let unsubscribed = self.control.unsubscribe().await;
        self.join().await.and(unsubscribed)
    }

    /// Waits until the subscription ends.
    ///
    /// # Errors
    ///
    /// What ended it, if not [`unsubscribe`](Control::unsubscribe) or [`close`](crate::Client::close).
    pub async fn join(self) -> Result<()> {
        self.task.await.unwrap_or_else(|cause| {
            Err(Error::new(ErrorKind::Internal, "the loop over the subscription was cancelled or panicked")
                .with_source(cause))
        })
    }
}

impl Deref for Handler {
    type Target = Control;
    fn deref(&self) -> &Control {
        &self.control
    }
}
