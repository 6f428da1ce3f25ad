//! What the handles of a session and its supervisor share, and the path of a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ensync_core::{
    AppKey, Command, Connector, Endpoint, Error, ErrorKind, EventName, Reply, Result, Transport, Welcome,
};
use tokio::sync::{Semaphore, broadcast};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::buffer::Routed;
use super::link_command::{LinkCommand, LinkCommands};
use super::registry::SubscriptionRegistry;
use super::state_cell::StateCell;
use crate::ConnectionEvent;
use crate::options::Options;

/// Leases below this are left to run out: to look after them would be all that a client does.
pub(crate) const SHORTEST_LEASE: Duration = Duration::from_millis(30);

pub(super) struct Shared {
    pub(super) endpoint: Endpoint,
    pub(super) connector: Arc<dyn Connector>,
    pub(super) app_key: AppKey,
    pub(super) options: Options,
    pub(super) state: Arc<StateCell<State>>,
    /// What happened, for who listens. Sent while `state` is locked.
    pub(super) events: broadcast::Sender<ConnectionEvent>,
    /// Whether there ever was a connection.
    pub(super) was_live: AtomicBool,
    pub(super) registry: SubscriptionRegistry,
    /// The shortest lease that an event came with.
    pub(super) shortest_lease: StateCell<Option<Duration>>,
    /// Room for publishes.
    pub(super) publishes: Semaphore,
    /// Calls, publishes and handlers under way, which `close` waits for.
    pub(super) work: TaskTracker,
    pub(super) commands: LinkCommands,
    pub(super) draining: AtomicBool,
    /// The number of the link that is up, logged in and maybe not yet restored; 0 while there is none. What came over another is
    /// no longer this client's.
    pub(super) link: AtomicU64,
    pub(super) stop: CancellationToken,
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
    Live(Live),
    /// There never will be one again.
    Closed(Error),
}

#[derive(Clone)]
pub(crate) struct Live {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) welcome: Arc<Welcome>,
    pub(super) epoch: u64,
}

impl Shared {
    /// The answer, and the link that brought it.
    pub(super) async fn call(&self, command: Command, limit: Option<Duration>) -> (Result<Reply>, u64) {
        let _busy = self.work.token();
        let limit = limit.unwrap_or(self.options.request_timeout);
        let mut link = 0;
        let answer = async {
            loop {
                let live = self.live().await?;
                link = live.epoch;
                match live.transport.call(command.clone()).await {
                    // The link ended before the command went out: the next one carries it.
                    Err(error) if error.kind() == ErrorKind::Closed => {
                        link = 0;
                        self.link_other_than(live.epoch).await;
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
        match self.state.read(|state| match state {
            State::Lost { cause, .. } => Some(cause.clone()),
            _ => None,
        }) {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }

    /// The live link, once there is one.
    pub(super) async fn live(&self) -> Result<Live> {
        self.state
            .wait(|state| match state {
                State::Live(live) => Some(Ok(live.clone())),
                State::Closed(error) => Some(Err(error.clone())),
                State::Connecting | State::Lost { .. } => None,
            })
            .await
    }

    async fn link_other_than(&self, epoch: u64) {
        self.state
            .wait(|state| match state {
                State::Live(live) if live.epoch == epoch => None,
                _ => Some(()),
            })
            .await;
    }

    /// Tells the engine of a route that is leaving, if it can know of it.
    pub(super) fn leave(&self, event: &EventName, unread: Vec<Routed>) {
        match self.link.load(Ordering::Acquire) {
            // The next link is not told of it in the first place.
            0 => self.registry.left(event),
            epoch => {
                let unread = unread.into_iter().map(Into::into).collect();
                self.command(LinkCommand::Leave { event: event.clone(), unread, epoch });
            }
        }
    }

    pub(super) fn command(&self, command: LinkCommand) {
        if self.commands.send(command).is_err() {
            // The session has ended: the engine takes back what was unsettled by itself.
            self.registry.all_left();
        }
    }

    /// An event came with this lease.
    pub(super) fn leased(&self, lease: Option<Duration>) {
        let Some(lease) = lease.filter(|lease| *lease >= SHORTEST_LEASE) else { return };
        self.shortest_lease.change(|shortest| {
            let shorter = shortest.is_none_or(|shortest| lease < shortest);
            if shorter {
                *shortest = Some(lease);
            }
            shorter
        });
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
        self.link.store(0, Ordering::Release);
        self.registry.close_all(streams);
        self.change(State::Closed(error.clone()), ConnectionEvent::Closed { why: error });
    }

    pub(super) fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("the client of {} is closed", self.endpoint))
    }
}
