//! What the handles of a session and its supervisor share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ensync_core::{AppId, AppKey, Connector as _, Endpoint, Error, ErrorKind, EventName, Link, Result, Settle};
use tokio::sync::{Semaphore, broadcast, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::budget::Budget;
use super::flow::Credit;
use super::link::LiveLink;
use super::link_command::{HandBack, Left, LinkCommand, LinkCommands};
use super::questions::Questions;
use super::registry::SubscriptionRegistry;
use super::state_cell::StateCell;
use super::waiting::WaitsForLink;
use crate::ConnectionEvent;
use crate::failover::Failover;
use crate::options::Options;

/// Leases below this are left to run out: to look after them would be all that a client does.
pub(crate) const SHORTEST_LEASE: Duration = Duration::from_millis(30);
/// How many commands that may be left out wait to be said. What is not handed back comes again when its lease runs out.
const MOST_HAND_BACKS: usize = 4_096;

pub(super) struct Shared {
    pub(super) failover: Arc<Failover>,
    pub(super) app_key: AppKey,
    pub(super) options: Options,
    pub(super) state: Arc<StateCell<State>>,
    /// What happened, for who listens. Sent while `state` is locked.
    pub(super) events: broadcast::Sender<ConnectionEvent>,
    /// Whether there ever was a connection.
    pub(super) was_live: AtomicBool,
    pub(super) registry: SubscriptionRegistry,
    /// When the leases of what waits for its reader are to be looked after next, as far as is known.
    pub(super) next_look: StateCell<Option<Instant>>,
    /// Room for publishes, and for their kibibytes.
    pub(super) publishes: Semaphore,
    pub(super) publish_kibibytes: Semaphore,
    pub(super) budget: Budget,
    /// Calls, publishes and handlers under way, which `close` waits for.
    pub(super) work: TaskTracker,
    pub(super) commands: LinkCommands,
    /// Calls that wait for a link.
    pub(super) waits_for_link: WaitsForLink,
    /// Outboxes that do, with something to send.
    pub(super) outboxes: WaitsForLink,
    /// How often a new login is the question whether the engine knows the session.
    pub(super) questions: Questions,
    /// How many words about deliveries wait to be said.
    pub(super) hand_backs: AtomicUsize,
    pub(super) draining: AtomicBool,
    /// When `close` is to be done, once it was called.
    pub(super) close_until: OnceLock<Instant>,
    /// The number of the link that is up, logged in and maybe not yet restored; 0 while there is none. What came over another is
    /// no longer this client's.
    pub(super) epoch: AtomicU64,
    pub(super) stop: CancellationToken,
    /// Which app the engine said this is, at the last login.
    pub(super) app: Mutex<Option<AppId>>,
    /// What waits are made of.
    pub(super) random: Mutex<fastrand::Rng>,
    /// When repeated lines of the log were last written, by what they are about.
    pub(super) logged: Mutex<BTreeMap<&'static str, Instant>>,
}

#[derive(Clone)]
pub(crate) enum State {
    /// The first connection is being made.
    Connecting,
    /// There is no connection: which attempt to make one is next, when, and the cause of the last failure.
    Lost {
        attempt: u32,
        next_try: Instant,
        cause: Error,
    },
    Live(Arc<LiveLink>),
    /// There never will be one again.
    Closed(Error),
}

impl Shared {
    /// Where the last connection led, or the first is tried.
    pub(super) fn endpoint(&self) -> &Endpoint {
        self.failover.endpoint()
    }

    /// Connects and logs in, once.
    pub(super) async fn connect(&self) -> Result<Link> {
        self.failover.connect(self.endpoint(), &self.app_key).await
    }

    /// Ends a subscription's stream, and tells the engine in the background, if it can know of it; says `said` what came of that.
    pub(super) fn leave(
        &self,
        event: &EventName,
        end: &Arc<OnceLock<Error>>,
        said: Option<oneshot::Sender<Result<()>>>,
    ) {
        if let Some(left) = self.registry.leave(event, end, &self.epoch) {
            self.tell_left(event.clone(), left, said);
        }
    }

    /// Ends every subscription.
    pub(super) fn leave_all(&self) {
        for (event, left) in self.registry.leave_all(&self.epoch) {
            self.tell_left(event, left, None);
        }
    }

    fn tell_left(&self, event: EventName, left: Left, said: Option<oneshot::Sender<Result<()>>>) {
        if left.epoch > 0 {
            self.command(LinkCommand::Leave { event, left, said });
        }
    }

    /// Hands a delivery back in the background, if its link is still up; if not, the engine has it back already.
    pub(super) fn hand_back(&self, which: HandBack) {
        let (event, id) = (which.event.clone(), which.id.clone());
        if !self.say_later(which.epoch, LinkCommand::HandBack(which)) {
            tracing::debug!(%event, %id, "it is not handed back: its link has ended, or too much waits to be said; its lease runs out instead");
        }
    }

    /// Settles a delivery in the background; the same holds.
    pub(super) fn settle_later(&self, settle: Settle, epoch: u64, place: Option<Credit>) {
        let id = settle.id.clone();
        if !self.say_later(epoch, LinkCommand::Settle { settle, epoch, place }) {
            tracing::debug!(%id, "it is not settled: its link has ended, or too much waits to be said; its lease runs out instead");
        }
    }

    /// False if it is left out.
    fn say_later(&self, epoch: u64, command: LinkCommand) -> bool {
        if epoch != self.epoch.load(Ordering::Acquire) {
            return false;
        }
        if self.hand_backs.fetch_add(1, Ordering::AcqRel) >= MOST_HAND_BACKS {
            self.hand_backs.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        self.command(command);
        true
    }

    pub(super) fn command(&self, command: LinkCommand) {
        if self.commands.send(command).is_err() {
            // The session has ended: the engine takes back what was unsettled by itself.
            self.registry.all_left();
        }
    }

    /// The lease of what waits is to be looked after at this time.
    pub(super) fn look_at(&self, due: Instant) {
        self.next_look.change(|planned| {
            let sooner = planned.is_none_or(|planned| due < planned);
            if sooner {
                *planned = Some(due);
            }
            sooner
        });
    }

    /// From 0 to 1; the same again in a client of the same seed.
    pub(super) fn random(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }

    /// Whether what repeats itself may be written to the log at its level: once a minute for each topic.
    pub(super) fn may_log(&self, topic: &'static str) -> bool {
        const EVERY: Duration = Duration::from_secs(60);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let due = logged.get(topic).is_none_or(|last| last.elapsed() >= EVERY);
        if due {
            logged.insert(topic, Instant::now());
        }
        due
    }

    /// Something happened that changes no state.
    pub(super) fn tell(&self, event: ConnectionEvent) {
        let _ = self.events.send(event);
    }

    /// The state changes, and whoever listens is told why. After the end nothing does.
    pub(super) fn change(&self, to: State, event: ConnectionEvent) {
        self.state.change(|state| {
            let news = !matches!(state, State::Closed(_));
            if news {
                *state = to;
                // While it is locked: who begins to listen finds it in the state or hears it, not both.
                self.tell(event);
            }
            news
        });
    }

    /// The end, if it is not ended yet: every call gets `error`, and every stream `streams`.
    pub(super) fn end(&self, error: Error, streams: Option<&Error>) {
        self.draining.store(true, Ordering::Release);
        self.epoch.store(0, Ordering::Release);
        self.registry.close_all(streams);
        self.state.read(|state| {
            if let State::Live(link) = state {
                link.declare_dead(error.clone());
            }
        });
        self.change(State::Closed(error.clone()), ConnectionEvent::Closed { why: error });
    }

    pub(super) fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("the client of {} is closed", self.endpoint()))
    }
}
