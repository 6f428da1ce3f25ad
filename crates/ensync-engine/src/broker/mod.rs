//! The broker: registry and partitions, driven. Each has a task and a log of its own; before them stands the session layer, in the tasks of
//! whoever calls.

mod admin;
mod administer;
mod backoff;
mod clock;
mod commit;
mod copying;
mod health;
mod inbox;
mod lines;
mod lists;
mod login_throttle;
mod look;
mod maintenance;
mod options;
#[cfg(test)]
mod pauses;
mod pending;
mod recent;
mod reclaim;
mod records;
mod recover;
mod registrar;
mod registry_log;
mod request;
mod running;
mod saving;
mod service;
mod session_layer;
mod start;
mod task;
mod together;
mod upkeep;
mod waiting;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ensync_core::{AppId, Error, ErrorKind, Result, ServerConfig};
use futures::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use administer::new_access_key;
pub use clock::{Clock, SystemClock, TokioClock};
pub use options::{BrokerOptions, Retention};

use crate::counters::ConnectionCounters;
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::random::random;
use crate::state::{Access, Counted, Limits};
use clock::Time;
use lines::{Lines, Turn};
pub(crate) use lists::List;
pub(crate) use login_throttle::LoginThrottle;
pub(crate) use look::{Figures, Gauge, Partly, Seen};
use records::Records;
use registrar::Ask;
pub(crate) use request::Origin;
use request::{Answer, Request};
use session_layer::SessionLayer;
use waiting::Waiting;

/// Requests that may wait for a task; who sends more waits himself.
const WAITING: usize = 4_096;
/// How many sessions that are over may wait for their partition: a task each, of some hundred bytes.
const LEAVING: usize = 65_536;
/// How long a stop waits for what administrators have asked for, before it goes on beside that.
const REGISTRAR: std::time::Duration = std::time::Duration::from_secs(2);
/// How long a stop waits for what apps have asked for to be taken in, before what is left is refused.
const LINES: std::time::Duration = std::time::Duration::from_secs(5);
/// How long a task may take to answer before the engine counts as not ready.
const UNANSWERED: std::time::Duration = std::time::Duration::from_secs(5);

/// A message broker: queues, their clients, and what both may do. It is an EnSync engine but for the wire, which transports add:
/// they call it as a [`Service`](ensync_core::Service).
///
/// A handle, cheap to clone. The broker stops when [`shutdown`](Broker::shutdown) is called or the last handle is gone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ensync_core::Result<()> {
/// use ensync_core::{AppId, Login, Service};
/// use ensync_engine::{Broker, BrokerOptions, MemoryLog};
///
/// let broker = Broker::start(BrokerOptions::dev(), MemoryLog::new()).await?;
/// let app_key = broker.create_app("warehouse", AppId::parse("oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=")?).await?;
/// let session = broker.login(Login { app_key, transport: "local", remote: None }).await?;
/// broker.logout(&session.peer).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

struct Shared {
    layer: Arc<SessionLayer>,
    registrar: mpsc::Sender<Ask>,
    registry: Arc<Records>,
    partitions: Vec<Handle>,
    time: Time,
    limits: Limits,
    config: ServerConfig,
    counters: Arc<ConnectionCounters>,
    metrics: Arc<Metrics>,
    waiting: Arc<Waiting>,
    stopping: Arc<AtomicBool>,
    /// What each partition counted last.
    counted: Mutex<Vec<Option<Counted>>>,
    /// Places for sessions that are over and wait for their partition to take note.
    leaving: Arc<tokio::sync::Semaphore>,
    /// Held by whoever looks at what the logs take up.
    looking: Arc<tokio::sync::Mutex<()>>,
    /// `true` once a task has failed; without senders when all have ended.
    running: watch::Receiver<bool>,
    failure: watch::Receiver<Option<Error>>,
}

/// A partition's task, and its log.
struct Handle {
    requests: mpsc::Sender<Request>,
    lines: Arc<Lines>,
    records: Arc<Records>,
}

impl Broker {
    /// Stops: new commands are refused, those that wait are finished, then every session's inbox ends. A partition whose disk hangs keeps the
    /// others from nothing that they have to store.
    pub async fn shutdown(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        let registrar = self.0.registrar.clone();
        let told = tokio::spawn(async move {
            _ = registrar.send(Ask::Shutdown).await;
            registrar.closed().await;
        });
        // What administrators asked for before needs the partitions; but one of them may hang.
        _ = tokio::time::timeout(REGISTRAR, told).await;
        // Each by itself: one whose disk hangs is no reason for the others to wait.
        let told = self.0.partitions.iter().map(async |partition| {
            _ = tokio::time::timeout(LINES, partition.lines.empty()).await;
            _ = partition.requests.send(Request::Shutdown).await;
        });
        futures::future::join_all(told).await;
        // The tasks drop the sender when they end, those that are left too if one has failed.
        let mut running = self.0.running.clone();
        while running.changed().await.is_ok() {}
    }

    /// Returns when the broker has stopped: after a [`shutdown`](Broker::shutdown), or because one of its tasks failed.
    pub async fn stopped(&self) {
        _ = self.0.running.clone().wait_for(|failed| *failed).await;
    }

    pub(crate) fn counters(&self) -> Arc<ConnectionCounters> {
        self.0.counters.clone()
    }

    /// All logs: the registry's, then the partitions'.
    fn logs(&self) -> impl Iterator<Item = &Arc<Records>> {
        [&self.0.registry].into_iter().chain(self.0.partitions.iter().map(|partition| &partition.records))
    }

    /// Why nothing is stored any more, if the log has failed for good. Commands that have to store something are refused from then
    /// on; deliveries, replays and whatever else only reads go on. Only a start on the log again tells what of the last commands was
    /// stored.
    pub fn failure(&self) -> Option<Error> {
        self.0.failure.borrow().clone().or_else(|| self.logs().find_map(|records| records.log.failure()))
    }

    /// Waits until the log has failed for good, and says why: see [`failure`](Broker::failure). Never returns if it does not.
    ///
    /// A program that serves others ends then, so that what supervises it starts it again.
    pub async fn failed(&self) -> Error {
        let mut failure = self.0.failure.clone();
        let logs = self.logs().map(|records| records.log.failed());
        let failed = tokio::select! {
            failed = failure.wait_for(Option::is_some) => failed.ok().and_then(|failure| failure.clone()),
            (failed, ..) = futures::future::select_all(logs) => Some(failed),
        };
        match failed {
            Some(error) => error,
            // The broker has stopped.
            None => std::future::pending().await,
        }
    }

    /// Whether the broker has stopped, or is about to.
    fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// Refuses what comes when the broker has stopped, or is about to.
    fn check_running(&self) -> Result<()> {
        if self.is_stopping() { Err(stopped()) } else { Ok(()) }
    }

    /// Sends a request to a partition's task and waits for its answer.
    async fn ask<T>(&self, partition: usize, request: impl FnOnce(Answer<T>) -> Request) -> Result<T> {
        self.check_running()?;
        self.ask_of(self.of_partition(partition)?, request).await
    }

    async fn ask_of<T>(&self, partition: &Handle, request: impl FnOnce(Answer<T>) -> Request) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        partition.requests.send(request(answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| self.unanswered())?
    }

    /// Why a request that was sent has no answer.
    fn unanswered(&self) -> Error {
        if self.is_stopping() {
            return stopped();
        }
        let message = "a task of the engine failed; whether this is done shows when the engine is started again";
        Error::new(ErrorKind::Interrupted, message)
    }

    /// The same for a client, in the line of its app. What waits there when the broker stops is carried out.
    async fn ask_in_turn<T>(
        &self,
        partition: usize,
        app: AppId,
        request: impl FnOnce(Answer<T>, Turn) -> Request,
    ) -> Result<T> {
        self.check_running()?;
        let partition = self.of_partition(partition)?;
        let turn = partition.lines.turn(app).await;
        self.ask_of(partition, |answer| request(answer, turn)).await
    }

    fn of_partition(&self, partition: usize) -> Result<&Handle> {
        self.0.partitions.get(partition).ok_or_else(stopped)
    }

    /// Looks at a partition.
    async fn look<T: Send + 'static>(
        &self,
        partition: usize,
        look: impl FnOnce(&Partition) -> T + Send + 'static,
    ) -> Result<T> {
        let inspect = |answer: Answer<T>| Request::Inspect(Box::new(move |found| _ = answer.send(Ok(look(found)))));
        self.ask(partition, inspect).await
    }

    /// Looks at who may do what, and who is logged in.
    pub(crate) fn access<T>(&self, look: impl FnOnce(&Access) -> T) -> Result<T> {
        self.check_running()?;
        Ok(look(&self.0.layer.read().access))
    }

    /// Has a partition know, behind what the session sent, that one of its apps' is over. Nobody waits for that: a connection that is closed
    /// takes no place of one that is open, however long the partition's disk hangs.
    async fn leave_later(&self, session: crate::state::SessionOf) {
        let index = self.0.layer.read().access.partition_of(&session.app);
        let Some(partition) = self.0.partitions.get(index) else { return };
        let (lines, requests) = (partition.lines.clone(), partition.requests.clone());
        let mut leaves = Box::pin(async move {
            let turn = lines.turn(session.app).await;
            // Who had the turn before is at the queue, or about to be: he goes first.
            tokio::task::yield_now().await;
            let (answer, _) = oneshot::channel();
            _ = requests.send(Request::Leave { session: session.number, answer }).await;
            drop(turn);
        });
        if leaves.as_mut().now_or_never().is_some() {
            return;
        }
        match self.0.leaving.clone().try_acquire_owned() {
            Ok(place) => drop(tokio::spawn(async move {
                leaves.await;
                drop(place);
            })),
            // There is a bound for everything.
            Err(_) => leaves.await,
        }
    }

    /// Has a partition know that a session of one of its apps is over.
    async fn leave(&self, session: crate::state::SessionOf) {
        let index = self.0.layer.read().access.partition_of(&session.app);
        let Some(partition) = self.0.partitions.get(index) else { return };
        _ = registrar::ask(&partition.requests, |answer| Request::Leave { session: session.number, answer }).await;
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable, "the engine is stopping; try again later")
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("registry", &self.0.registry.log)
            .field("partitions", &self.0.partitions.len())
            .field("stopping", &self.is_stopping())
            .finish_non_exhaustive()
    }
}
