//! One authenticated session that outlives its connections.
//!
//! The supervisor task owns the connection: it connects, logs in, heartbeats, subscribes again. It is not on the path of a call:
//! a change of connection swaps one value, from which each call takes the live [link](link). What is sent again, and when, is
//! decided by [retry].

mod backoff;
mod budget;
mod buffer;
mod call;
mod ended;
mod flow;
mod leases;
mod link;
mod link_command;
mod observed_lease;
mod pacing;
mod questions;
mod registry;
mod restore;
mod retry;
mod room;
mod route;
mod shared;
mod slot;
mod state_cell;
mod stream;
mod subscribe;
mod supervisor;
mod vitals;
mod waiting;
mod watch;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ensync_core::{
    AppId, AppKey, Command, Connector as _, Endpoint, Error, ErrorKind, EventName, Reply, Result, Settle, Welcome,
};
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::ConnectionEvent;
use crate::failover::Failover;
use crate::options::Options;
pub(crate) use backoff::FACTOR;
use budget::Budget;
pub(crate) use buffer::{DeliveryBuffer, Routed};
pub(crate) use call::{Meant, Request};
pub(crate) use flow::Credit;
pub(crate) use link::LinkLife;
use link::LiveLink;
pub(crate) use link_command::HandBack;
use link_command::LinkCommand;
pub(crate) use observed_lease::ObservedLease;
use questions::Questions;
pub(crate) use registry::{Opened, SubscriptionRegistry};
pub use retry::RetryPolicy;
pub(crate) use retry::WINDOW as DEDUP_WINDOW;
#[cfg(feature = "outbox")]
pub(crate) use retry::may_relent;
pub(crate) use room::{Place, Places};
use shared::Shared;
pub(crate) use shared::{SHORTEST_LEASE, State};
pub(crate) use state_cell::StateCell;
pub(crate) use stream::StreamLife;
use waiting::WaitsForLink;

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
                endpoint = %self.0.endpoint(), busy, unread,
                "a client was dropped: calls under way are abandoned, events that nobody read will be delivered again; close() waits"
            );
        }
        self.0.stop.cancel();
    }
}

impl Session {
    /// Connects and logs in once, unless the options leave that to the supervisor, and keeps the session from then on.
    pub(crate) async fn open(failover: Arc<Failover>, app_key: AppKey, options: Options) -> Result<Self> {
        let first = match options.retry_first_connect {
            true => None,
            false => Some(LiveLink::new(failover.connect(failover.endpoint(), &app_key).await?, 1)),
        };
        let state = first.as_ref().map_or(State::Connecting, |(link, _)| State::Live(link.clone()));
        let (commands, to_run) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            failover,
            app_key,
            state: Arc::new(StateCell::new(state)),
            events: broadcast::Sender::new(EVENTS),
            was_live: AtomicBool::new(false),
            registry: SubscriptionRegistry::default(),
            next_look: StateCell::new(None),
            publishes: Semaphore::new(usize::try_from(options.max_publishes_in_flight.get()).unwrap_or(usize::MAX)),
            publish_kibibytes: Semaphore::new(room::kibibytes(&options)),
            budget: Budget::new(),
            work: TaskTracker::new(),
            commands,
            waits_for_link: WaitsForLink::default(),
            outboxes: WaitsForLink::default(),
            questions: Questions::default(),
            hand_backs: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            close_until: OnceLock::new(),
            epoch: AtomicU64::new(first.is_some().into()),
            stop: CancellationToken::new(),
            app: Mutex::default(),
            random: Mutex::new(options.jitter_seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)),
            logged: Mutex::default(),
            options,
        });
        tokio::spawn(supervisor::supervise(supervisor::Ended(shared.clone()), first, to_run));
        Ok(Self(Arc::new(Handle(shared))))
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        self.shared().endpoint()
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

    /// Which app the engine said this is, now or at the last login.
    pub(crate) fn app_id(&self) -> Option<AppId> {
        let known = self.welcome().and_then(|welcome| welcome.app_id);
        known.or_else(|| *self.shared().app.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long a call may take unless it says otherwise.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.shared().options.request_timeout
    }

    /// Waits for a connection, as somebody who needs one.
    pub(crate) async fn wait_until_live(&self) -> Result<()> {
        self.shared().live().await.map(drop)
    }

    /// Waits for the connection that comes about in its own time.
    #[cfg(feature = "outbox")]
    pub(crate) async fn becomes_live(&self) -> Result<()> {
        self.shared().becomes_live().await.map(drop)
    }

    /// The same as an outbox that has something to send.
    #[cfg(feature = "outbox")]
    pub(crate) async fn becomes_live_to_send(&self) -> Result<()> {
        let _waits = self.shared().outboxes.begin();
        self.becomes_live().await
    }

    /// Whether a publish may begin: not once `close` was called. What it gives is kept until the publish ends.
    pub(crate) fn admit(&self) -> Result<TaskTrackerToken> {
        let token = self.busy();
        if !self.is_draining() {
            return Ok(token);
        }
        Err(self.shared().state.read(|state| match state {
            State::Closed(why) => why.clone(),
            _ => self.shared().closed(),
        }))
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
        self.shared().epoch.load(Ordering::Acquire)
    }

    /// Whether what repeats itself may be written to the log now.
    pub(crate) fn may_log(&self, topic: &'static str) -> bool {
        self.shared().may_log(topic)
    }

    /// Whether `close` was called.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared().draining.load(Ordering::Acquire)
    }

    /// Runs a task that `close` waits for.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.shared().work.spawn(work)
    }

    /// Sends a command over the live link, waiting for one if there is none, and waits for the answer: see [`retry`] for what is
    /// sent again.
    pub(crate) async fn call(&self, command: Command) -> Result<Reply> {
        self.request(Request::new(command, self.request_timeout())).await
    }

    /// The same in one attempt: a refusal is told at once.
    #[cfg(feature = "outbox")]
    pub(crate) async fn try_call(&self, command: Command) -> Result<Reply> {
        self.request(Request::new(command, self.request_timeout()).retry(RetryPolicy::never())).await
    }

    /// The link that is live, if one is.
    pub(crate) fn live_link(&self) -> Option<Arc<LiveLink>> {
        self.shared().state.read(|state| match state {
            State::Live(link) if link.is_usable() => Some(link.clone()),
            _ => None,
        })
    }

    /// Waits for a connection until a deadline.
    pub(crate) async fn live_until(&self, deadline: Instant) -> Result<()> {
        let begun = Instant::now();
        match tokio::time::timeout_at(deadline, self.wait_until_live()).await {
            Ok(live) => live,
            Err(_) => Err(self.shared().no_connection(begun.elapsed(), None)),
        }
    }

    /// Tells the engine over this link something that the next is told by itself, so that the link's end is no failure.
    pub(crate) async fn tell(&self, command: Command, live: &LiveLink, deadline: Instant) -> Result<()> {
        match self.request(Request::until(command, deadline).bound_to(Some(live.life.clone()))).await {
            Err(_) if !live.is_usable() && !self.shared().stop.is_cancelled() => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// The same with all that a caller may say.
    pub(crate) async fn request(&self, request: Request) -> Result<Reply> {
        self.shared().call(request).await.0
    }

    /// Hands a delivery back in the background, if its link is still up; if not, the engine has it back already.
    pub(crate) fn hand_back(&self, which: HandBack) {
        self.shared().hand_back(which);
    }

    /// Whether the engine is paused because the reader of this subscription is slow.
    pub(crate) fn is_full(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> bool {
        self.registry().is_full(event, end, self.epoch())
    }

    /// Settles a delivery of a link in the background, or lets its lease run out if too many such words wait already. Until it is said it
    /// keeps its place.
    pub(crate) fn settle_later(&self, settle: Settle, epoch: u64, place: Option<Credit>) {
        self.shared().settle_later(settle, epoch, place);
    }

    /// Stops taking events, waits for calls and handlers under way, says goodbye.
    pub(crate) async fn close(&self) -> Result<()> {
        let shared = self.shared();
        shared.draining.store(true, Ordering::Release);
        shared.leave_all();
        shared.work.close();
        let until = *shared.close_until.get_or_init(|| Instant::now() + shared.options.close_timeout);
        let drained = tokio::time::timeout_at(until, shared.work.wait()).await;
        shared.stop.cancel();
        // The supervisor ends after the goodbye, within its own deadline.
        shared.state.wait(|state| matches!(state, State::Closed(_)).then_some(())).await;
        match drained {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "close: calls or handlers were still running after {:?} and are abandoned; what they had not settled will be \
                     delivered again",
                    shared.options.close_timeout
                ),
            )),
        }
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("endpoint", self.endpoint()).finish_non_exhaustive()
    }
}
