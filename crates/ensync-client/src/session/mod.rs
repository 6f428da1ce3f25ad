//! One authenticated session that outlives its connections.
//!
//! The supervisor task owns the connection: it connects, logs in, heartbeats, subscribes again. It is not on the path of a call:
//! a change of connection swaps one `watch` value, from which each call takes the live transport.

mod backoff;
mod buffer;
mod flow;
mod link_command;
mod registry;
mod restore;
mod shared;
mod state_cell;
mod supervisor;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ensync_core::{
    AppKey, Command, Connector, Endpoint, Error, ErrorKind, EventName, Link, Reply, Result, ServerConfig, Settle,
    Subscribe, Welcome,
};
use tokio::sync::{Semaphore, SemaphorePermit, broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::ConnectionEvent;
use crate::options::Options;
pub(crate) use backoff::FACTOR;
pub(crate) use buffer::{DeliveryBuffer, Routed};
pub(crate) use flow::Credit;
pub(crate) use link_command::HandBack;
use link_command::LinkCommand;
pub(crate) use registry::{Opened, SubscriptionRegistry};
use shared::Shared;
pub(crate) use shared::{Live, SHORTEST_LEASE, State};
pub(crate) use state_cell::StateCell;

/// How many events a listener may be behind before it misses some.
const EVENTS: usize = 64;

/// A handle to a session. When the last one is dropped, the session ends by itself.
#[derive(Clone)]
pub(crate) struct Session(Arc<Handle>);

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        let (busy, unread) = (self.0.work.len(), self.0.registry.unread());
        if busy + unread > 0 && !self.0.stop.is_cancelled() {
            tracing::warn!(
                endpoint = %self.0.endpoint, busy, unread,
                "a client was dropped: calls under way are abandoned, events that nobody read will be delivered again; close() waits"
            );
        }
        self.0.stop.cancel();
    }
}

impl Session {
    /// Connects and logs in once, unless the options leave that to the supervisor, and keeps the session from then on.
    pub(crate) async fn open(
        connector: Arc<dyn Connector>,
        endpoint: Endpoint,
        app_key: AppKey,
        options: Options,
    ) -> Result<Self> {
        let first = match options.retry_first_connect {
            true => None,
            false => Some(connect(&*connector, &endpoint, &app_key, options.connect_timeout).await?),
        };
        let live = |link: &Link| {
            State::Live(Live { transport: link.transport.clone(), welcome: Arc::new(link.welcome.clone()), epoch: 1 })
        };
        let (commands, to_run) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            endpoint,
            connector,
            app_key,
            state: Arc::new(StateCell::new(first.as_ref().map_or(State::Connecting, live))),
            events: broadcast::Sender::new(EVENTS),
            was_live: AtomicBool::new(false),
            registry: SubscriptionRegistry::default(),
            shortest_lease: StateCell::new(None),
            publishes: Semaphore::new(usize::try_from(options.max_publishes_in_flight.get()).unwrap_or(usize::MAX)),
            work: TaskTracker::new(),
            commands,
            draining: AtomicBool::new(false),
            link: AtomicU64::new(first.is_some().into()),
            stop: CancellationToken::new(),
            options,
        });
        tokio::spawn(supervisor::supervise(supervisor::Ended(shared.clone()), first, to_run));
        Ok(Self(Arc::new(Handle(shared))))
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.shared().endpoint
    }

    pub(crate) fn registry(&self) -> &SubscriptionRegistry {
        &self.shared().registry
    }

    /// What the engine said at the last login; `None` while there is no connection.
    pub(crate) fn welcome(&self) -> Option<Arc<Welcome>> {
        self.shared().state.read(|state| match state {
            State::Live(live) => Some(live.welcome.clone()),
            _ => None,
        })
    }

    /// How long a call may take unless it says otherwise.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.shared().options.request_timeout
    }

    /// What the engine announced, once there is a connection; `None` if there is none in time, or never again.
    pub(crate) async fn announced(&self, deadline: Instant) -> Option<ServerConfig> {
        match tokio::time::timeout_at(deadline, self.shared().live()).await {
            Ok(Ok(live)) => Some(live.welcome.config.clone()),
            _ => None,
        }
    }

    /// Waits for a connection.
    pub(crate) async fn wait_until_live(&self) -> Result<()> {
        self.shared().live().await.map(drop)
    }

    /// Waits for room for one publish more.
    pub(crate) async fn room_to_publish(&self, deadline: Instant) -> Result<SemaphorePermit<'_>> {
        let shared = self.shared();
        match tokio::time::timeout_at(deadline, shared.publishes.acquire()).await {
            Ok(Ok(permit)) if Instant::now() < deadline => Ok(permit),
            Ok(Err(_)) => Err(shared.closed()),
            Ok(Ok(_)) | Err(_) => Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "there was no room for it until the deadline, for others were under way (see Engine::max_publishes_in_flight, \
                     which is {}); it was not sent",
                    shared.options.max_publishes_in_flight
                ),
            )),
        }
    }

    /// Something that `close` waits for, while it is kept.
    pub(crate) fn busy(&self) -> TaskTrackerToken {
        self.shared().work.token()
    }

    /// What happens to the connection from now on; first that it is live or ended, if it is.
    pub(crate) fn listen(&self) -> (Option<ConnectionEvent>, broadcast::Receiver<ConnectionEvent>) {
        let shared = self.shared();
        // Both at once: see `Shared::change`.
        shared.state.read(|state| {
            let first = match state {
                State::Live(_) => Some(ConnectionEvent::Connected),
                State::Closed(why) => Some(ConnectionEvent::Closed { why: why.clone() }),
                State::Connecting | State::Lost { .. } => None,
            };
            (first, shared.events.subscribe())
        })
    }

    /// The state of the connection, now and as it changes.
    pub(crate) fn state(&self) -> &Arc<StateCell<State>> {
        &self.shared().state
    }

    /// The number of the link that is up, 0 while there is none.
    pub(crate) fn epoch(&self) -> u64 {
        self.shared().link.load(Ordering::Acquire)
    }

    /// Whether `close` was called.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared().draining.load(Ordering::Acquire)
    }

    /// Runs a task that `close` waits for.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.shared().work.spawn(work)
    }

    /// Sends a command over the live link, waiting for one if there is none, and waits for the answer.
    pub(crate) async fn call(&self, command: Command) -> Result<Reply> {
        self.shared().call(command, None).await.0
    }

    /// The same with a deadline other than the engine's option.
    pub(crate) async fn call_within(&self, command: Command, limit: Duration) -> Result<Reply> {
        self.shared().call(command, Some(limit)).await.0
    }

    /// Opens a route and subscribes. The route outlives the link: from then on the supervisor restores it.
    pub(crate) async fn subscribe(&self, subscribe: Subscribe) -> Result<Opened> {
        if self.is_draining() {
            return Err(self.shared().closed());
        }
        let limit = self.request_timeout();
        match tokio::time::timeout(limit, self.open_buffer(&subscribe)).await {
            Ok(buffer) => buffer,
            Err(_) => {
                Err(Error::new(ErrorKind::Timeout, format!("no answer from {} within {limit:?}", self.endpoint())))
            }
        }
    }

    async fn open_buffer(&self, subscribe: &Subscribe) -> Result<Opened> {
        let event = &subscribe.event;
        let buffer = loop {
            match self.registry().open(subscribe)? {
                Ok(buffer) => break buffer,
                Err(left) => left.cancelled().await,
            }
        };
        // If the caller gives up, the route must not stay behind, here or at the engine.
        let guard = OnDrop(Some(|| self.leave(event, &buffer.end)));
        loop {
            let (answer, epoch) = self.shared().call(Command::Subscribe(subscribe.clone()), None).await;
            match answer {
                Ok(_) => self.registry().set_subscribed(event, epoch),
                // To subscribe twice does no harm, so the next link is asked.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // The engine may have subscribed: the guard tells it otherwise.
                Err(error) if error.kind() == ErrorKind::Timeout => return Err(error),
                Err(error) => {
                    guard.disarm();
                    self.registry().close(event, None);
                    return Err(error);
                }
            }
            // Another link may have come up in between, without the supervisor having known of this subscription.
            let live = self.shared().live().await?.epoch;
            if self.registry().subscribed_epoch(event).is_none_or(|told| told == live) {
                break;
            }
        }
        guard.disarm();
        Ok(buffer)
    }

    /// Ends a subscription's stream and tells the engine in the background; what was not read is handed back after that.
    pub(crate) fn leave(&self, event: &EventName, end: &Arc<OnceLock<Error>>) {
        let shared = self.shared();
        if let Some(unread) = shared.registry.leave(event, end) {
            shared.leave(event, unread);
        }
    }

    /// Ends a subscription's stream, and waits until the engine knows.
    pub(crate) async fn unsubscribe(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> Result<()> {
        let Some(mut unread) = self.registry().leave(event, end) else { return Ok(()) };
        // Handed back after the engine knows, or it would send them here again; or if the caller gives up.
        let _left = OnDrop(Some(|| {
            self.registry().left(event);
            unread.drain(..).for_each(|routed| self.hand_back(routed.into()));
        }));
        self.call(Command::Unsubscribe { event: event.clone() }).await.map(drop)
    }

    /// Hands a delivery back in the background, if its link is still up; if not, the engine has it back already.
    pub(crate) fn hand_back(&self, which: HandBack) {
        if which.epoch == self.epoch() {
            self.shared().command(LinkCommand::HandBack(which));
        }
    }

    /// Whether the engine is paused because the reader of this subscription is slow.
    pub(crate) fn is_full(&self, event: &EventName) -> bool {
        self.registry().is_full(event, self.epoch())
    }

    /// Settles a delivery of a link in the background.
    pub(crate) fn settle_later(&self, settle: Settle, epoch: u64) {
        self.shared().command(LinkCommand::Settle { settle, epoch });
    }

    /// Stops taking events, waits for calls and handlers under way, says goodbye.
    pub(crate) async fn close(&self) -> Result<()> {
        let shared = self.shared();
        shared.draining.store(true, Ordering::Release);
        for (event, unread) in shared.registry.leave_all() {
            shared.leave(&event, unread);
        }
        shared.work.close();
        let drained = tokio::time::timeout(shared.options.close_timeout, shared.work.wait()).await;
        let abandoned = shared.work.len();
        shared.stop.cancel();
        // The supervisor ends after the goodbye, within its own deadline.
        shared.state.wait(|state| matches!(state, State::Closed(_)).then_some(())).await;
        match drained {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "close: {abandoned} calls or handlers were still running after {:?} and are abandoned; what they had not settled \
                     will be delivered again",
                    shared.options.close_timeout
                ),
            )),
        }
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }
}

async fn connect(connector: &dyn Connector, to: &Endpoint, app_key: &AppKey, limit: Duration) -> Result<Link> {
    match tokio::time::timeout(limit, connector.connect(to, app_key)).await {
        Ok(link) => link,
        Err(_) => Err(Error::new(
            ErrorKind::Connect,
            format!("cannot connect to {to}: not connected and logged in within {limit:?}"),
        )),
    }
}

struct OnDrop<F: FnMut()>(Option<F>);

impl<F: FnMut()> OnDrop<F> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(action) = &mut self.0 {
            action();
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("endpoint", self.endpoint()).finish_non_exhaustive()
    }
}
