//! One authenticated session that outlives its connections.
//!
//! The supervisor task owns the connection: it connects, logs in, heartbeats, subscribes again. It is not on the path of a call:
//! a change of connection swaps one `watch` value, from which each call takes the live transport.

mod backoff;
mod routes;
mod supervisor;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ensync_core::{
    AppKey, Command, Connector, Endpoint, Error, ErrorKind, EventName, Extension, Link, Reply, Result, Settle,
    Subscribe, Transport, Welcome,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::options::Options;
pub(crate) use routes::{Lane, Routed, Routes};

/// A handle to a session. When the last one is dropped, the session ends by itself.
#[derive(Clone)]
pub(crate) struct Session(Arc<Handle>);

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        let busy = self.0.work.len();
        if busy > 0 && !self.0.stop.is_cancelled() {
            tracing::warn!(endpoint = %self.0.endpoint, busy, "a client was dropped with calls under way; close() waits for them");
        }
        self.0.stop.cancel();
    }
}

/// What the handles and the supervisor share.
struct Shared {
    endpoint: Endpoint,
    connector: Arc<dyn Connector>,
    app_key: AppKey,
    options: Options,
    state: watch::Sender<State>,
    routes: Routes,
    /// Calls and handlers under way, which `close` waits for.
    work: TaskTracker,
    /// What nobody waits for: the supervisor does it.
    errands: mpsc::UnboundedSender<Errand>,
    draining: AtomicBool,
    /// The number of the link that is up, logged in and maybe not yet restored; 0 while there is none. What came over another is
    /// no longer this client's.
    link: AtomicU64,
    stop: CancellationToken,
}

#[derive(Clone)]
pub(crate) enum State {
    /// There is no connection: which attempt to reconnect is next, and the cause of the last failure.
    Connecting(u32, Error),
    Live(Live),
    /// There never will be one again.
    Closed(Error),
}

/// Something to tell the engine that nobody waits for. It is about one link: what it would say over a later one is wrong.
enum Errand {
    /// A delivery that nobody will take.
    HandBack(Routed),
    /// What became of a delivery.
    Settle { settle: Settle, generation: u64 },
    /// A subscription that was left, and what it had not read.
    Leave { event: EventName, unread: Vec<Routed>, generation: u64 },
}

#[derive(Clone)]
pub(crate) struct Live {
    transport: Arc<dyn Transport>,
    welcome: Arc<Welcome>,
    generation: u64,
}

impl Session {
    /// Connects and logs in once, and keeps the session from then on.
    pub(crate) async fn open(
        connector: Arc<dyn Connector>,
        endpoint: Endpoint,
        app_key: AppKey,
        options: Options,
    ) -> Result<Self> {
        let link = connect(&*connector, &endpoint, &app_key, options.connect_timeout).await?;
        let (errands, to_run) = mpsc::unbounded_channel();
        let live = Live { transport: link.transport.clone(), welcome: Arc::new(link.welcome.clone()), generation: 1 };
        let shared = Arc::new(Shared {
            endpoint,
            connector,
            app_key,
            options,
            state: watch::Sender::new(State::Live(live)),
            routes: Routes::default(),
            work: TaskTracker::new(),
            errands,
            draining: AtomicBool::new(false),
            link: AtomicU64::new(1),
            stop: CancellationToken::new(),
        });
        tokio::spawn(supervisor::supervise(supervisor::Ended(shared.clone()), link, to_run));
        Ok(Self(Arc::new(Handle(shared))))
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.shared().endpoint
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.shared().routes
    }

    /// What the engine said at the last login; `None` while there is no connection.
    pub(crate) fn welcome(&self) -> Option<Arc<Welcome>> {
        match &*self.shared().state.borrow() {
            State::Live(live) => Some(live.welcome.clone()),
            _ => None,
        }
    }

    /// How long a call may take unless it says otherwise.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.shared().options.request_timeout
    }

    /// Whether the engine deduplicates, once there is a connection; false if there is none in time.
    pub(crate) async fn deduplicates(&self, deadline: Instant) -> bool {
        match tokio::time::timeout_at(deadline, self.shared().live()).await {
            Ok(Ok(live)) => live.welcome.config.has(Extension::Deduplication),
            _ => false,
        }
    }

    /// The state of the connection, now and as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.shared().state.subscribe()
    }

    /// The number of the link that is up, 0 while there is none.
    pub(crate) fn generation(&self) -> u64 {
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
    pub(crate) async fn subscribe(&self, subscribe: Subscribe, buffer: usize) -> Result<Lane> {
        if self.is_draining() {
            return Err(self.shared().closed());
        }
        let limit = self.request_timeout();
        match tokio::time::timeout(limit, self.open_lane(&subscribe, buffer)).await {
            Ok(lane) => lane,
            Err(_) => {
                Err(Error::new(ErrorKind::Timeout, format!("no answer from {} within {limit:?}", self.endpoint())))
            }
        }
    }

    async fn open_lane(&self, subscribe: &Subscribe, buffer: usize) -> Result<Lane> {
        let event = &subscribe.event;
        let lane = loop {
            match self.routes().open(subscribe, buffer)? {
                Ok(lane) => break lane,
                Err(left) => left.cancelled().await,
            }
        };
        // If the caller gives up, the route must not stay behind, here or at the engine.
        let guard = OnDrop(Some(|| self.leave(event, &lane.end)));
        loop {
            let (answer, generation) = self.shared().call(Command::Subscribe(subscribe.clone()), None).await;
            match answer {
                Ok(_) => self.routes().set_told(event, generation),
                // To subscribe twice does no harm, so the next link is asked.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // The engine may have subscribed: the guard tells it otherwise.
                Err(error) if error.kind() == ErrorKind::Timeout => return Err(error),
                Err(error) => {
                    guard.disarm();
                    self.routes().close(event, None);
                    return Err(error);
                }
            }
            // Another link may have come up in between, without the supervisor having known of this subscription.
            let live = self.shared().live().await?.generation;
            if self.routes().told(event).is_none_or(|told| told == live) {
                break;
            }
        }
        guard.disarm();
        Ok(lane)
    }

    /// Ends a subscription's stream and tells the engine in the background; what was not read is handed back after that.
    pub(crate) fn leave(&self, event: &EventName, end: &Arc<OnceLock<Error>>) {
        let shared = self.shared();
        if let Some(unread) = shared.routes.leave(event, end) {
            shared.leave(event, unread);
        }
    }

    /// Ends a subscription's stream, and waits until the engine knows.
    pub(crate) async fn unsubscribe(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> Result<()> {
        let Some(unread) = self.routes().leave(event, end) else { return Ok(()) };
        // Handed back after the engine knows, or it would send them here again; or if the caller gives up.
        let _left = OnDrop(Some(|| {
            self.routes().left(event);
            unread.iter().for_each(|routed| self.shared().errand(Errand::HandBack(routed.clone())));
        }));
        self.call(Command::Unsubscribe { event: event.clone() }).await.map(drop)
    }

    /// Settles a delivery of a link in the background.
    pub(crate) fn settle_later(&self, settle: Settle, generation: u64) {
        self.shared().errand(Errand::Settle { settle, generation });
    }

    /// Stops taking events, waits for calls and handlers under way, says goodbye.
    pub(crate) async fn close(&self) -> Result<()> {
        let shared = self.shared();
        shared.draining.store(true, Ordering::Release);
        for (event, unread) in shared.routes.leave_all() {
            shared.leave(&event, unread);
        }
        shared.work.close();
        let drained = tokio::time::timeout(shared.options.close_timeout, shared.work.wait()).await;
        let abandoned = shared.work.len();
        shared.stop.cancel();
        let mut state = shared.state.subscribe();
        // The supervisor ends after the goodbye, within its own deadline.
        let _ = state.wait_for(|state| matches!(state, State::Closed(_))).await;
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

impl Shared {
    /// The answer, and the link that brought it.
    async fn call(&self, command: Command, limit: Option<Duration>) -> (Result<Reply>, u64) {
        let _busy = self.work.token();
        let limit = limit.unwrap_or(self.options.request_timeout);
        let mut link = 0;
        let answer = async {
            loop {
                let live = self.live().await?;
                link = live.generation;
                match live.transport.call(command.clone()).await {
                    // The link ended before the command went out: the next one carries it.
                    Err(error) if error.kind() == ErrorKind::Closed => {
                        link = 0;
                        self.link_other_than(live.generation).await;
                    }
                    answer => return answer,
                }
            }
        };
        let answer = match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer,
            Err(_) if link > 0 => Err(Error::new(
                ErrorKind::Timeout,
                format!("no answer from {} within {limit:?}; it may or may not have been carried out", self.endpoint),
            )),
            Err(_) => Err(self.no_connection(limit)),
        };
        (answer, link)
    }

    fn no_connection(&self, limit: Duration) -> Error {
        let error = Error::new(
            ErrorKind::Connect,
            format!("no connection to {} within {limit:?}; it was not sent", self.endpoint),
        );
        match &*self.state.borrow() {
            State::Connecting(_, cause) => error.with_source(cause.clone()),
            _ => error,
        }
    }

    /// The live link, once there is one.
    async fn live(&self) -> Result<Live> {
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| !matches!(state, State::Connecting(..))).await;
        match state.as_deref() {
            Ok(State::Live(live)) => Ok(live.clone()),
            Ok(State::Closed(error)) => Err(error.clone()),
            // The sender lives in `self`.
            Ok(State::Connecting(..)) | Err(_) => Err(self.closed()),
        }
    }

    async fn link_other_than(&self, generation: u64) {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| !matches!(state, State::Live(live) if live.generation == generation)).await;
    }

    /// Tells the engine of a route that is leaving, if it can know of it.
    fn leave(&self, event: &EventName, unread: Vec<Routed>) {
        match self.link.load(Ordering::Acquire) {
            // The next link is not told of it in the first place.
            0 => self.routes.left(event),
            generation => self.errand(Errand::Leave { event: event.clone(), unread, generation }),
        }
    }

    fn errand(&self, errand: Errand) {
        if self.errands.send(errand).is_err() {
            // The session has ended: the engine takes back what was unsettled by itself.
            self.routes.all_left();
        }
    }

    /// The end, if it is not ended yet: every call gets `error`, and every stream `streams`.
    fn end(&self, error: Error, streams: Option<&Error>) {
        self.draining.store(true, Ordering::Release);
        self.link.store(0, Ordering::Release);
        self.routes.close_all(streams);
        self.state.send_if_modified(|state| {
            let news = !matches!(state, State::Closed(_));
            if news {
                *state = State::Closed(error);
            }
            news
        });
    }

    fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("the client of {} is closed", self.endpoint))
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
