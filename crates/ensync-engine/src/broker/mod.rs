//! The broker: registry and partitions, driven. Each has a task and a log of its own; before them stands the session layer, in the tasks of
//! whoever calls.

mod admin;
mod administer;
mod backoff;
mod clock;
mod copying;
mod inbox;
mod lines;
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
mod registrar;
mod request;
mod running;
mod saving;
mod service;
mod session_layer;
mod start;
mod task;
mod upkeep;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ensync_core::{AppId, Error, ErrorKind, Result, ServerConfig};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use administer::new_access_key;
pub use clock::{Clock, SystemClock, TokioClock};
pub use options::{BrokerOptions, Retention};

use crate::counters::ConnectionCounters;
use crate::log::LogUsage;
use crate::metrics::{Metrics, Reading};
use crate::partition::Partition;
use crate::random::random;
use crate::state::{Access, Census, Count, Limits};
use clock::Time;
use lines::{Lines, Turn};
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
/// How long a stop waits for what apps have asked for to be taken in, before what is left is refused.
const LINES: std::time::Duration = std::time::Duration::from_secs(5);
/// How many queues are counted at a time.
const QUEUES: usize = 1_024;
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

impl Handle {
    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl Broker {
    /// Stops: new commands are refused, those that wait are finished, then every session's inbox ends.
    pub async fn shutdown(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        _ = self.0.registrar.send(Ask::Shutdown).await;
        // What administrators asked for before needs the partitions.
        self.0.registrar.closed().await;
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

    /// Whether commands are carried out: the broker answers, is not stopping, and its log takes what it is given.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] says why not.
    pub async fn ready(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::new(ErrorKind::Unavailable, why));
        if self.is_stopping() {
            return refuse("the engine is stopping".into());
        }
        if let Some(error) = self.failure() {
            return refuse(ensync_core::report(&error));
        }
        if let Some(why) = self.0.metrics.trouble() {
            return refuse(why);
        }
        match tokio::time::timeout(UNANSWERED, self.answer()).await {
            Ok(answer) => answer,
            Err(_) => refuse(match self.hangs() {
                Some(hangs) => format!("the disk has not answered for {} s", hangs.as_secs()),
                None => format!("the broker has not answered for {} s", UNANSWERED.as_secs()),
            }),
        }
    }

    /// Whether a restart would be of no use: it answers, or waits for a disk that does not. A watchdog ends it otherwise.
    pub async fn is_alive(&self) -> bool {
        let answers = tokio::time::timeout(UNANSWERED, self.answer()).await.is_ok_and(|answer| answer.is_ok());
        answers || self.is_stopping() || self.hangs().is_some()
    }

    /// Waits until every partition's task has answered.
    async fn answer(&self) -> Result<()> {
        if *self.0.running.borrow() {
            return Err(Error::new(ErrorKind::Unavailable, "a task of the engine has failed; start the engine again"));
        }
        let all = (0..self.0.partitions.len()).map(|index| self.look(index, |_| ()));
        futures::future::try_join_all(all).await.map(drop)
    }

    /// For how long a disk has not answered.
    fn hangs(&self) -> Option<std::time::Duration> {
        self.logs().filter_map(|records| records.hangs()).max()
    }

    /// All logs: the registry's, then the partitions'.
    fn logs(&self) -> impl Iterator<Item = &Arc<Records>> {
        [&self.0.registry].into_iter().chain(self.0.partitions.iter().map(|partition| &partition.records))
    }

    /// What there is to see of it, in the text format of OpenMetrics: what the admin listener serves at `/metrics` to who asks for that.
    ///
    /// Costs each partition one look at each of its queues, some of them at a time.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the broker has stopped.
    pub async fn metrics(&self) -> Result<String> {
        // Who watches an engine wants to know most when it hangs: what does not come in time is left out.
        // Both at once, for he does not wait for ever either.
        let census = tokio::time::timeout(UNANSWERED, self.census());
        let (census, rest) = tokio::join!(census, self.rest());
        let census = census.ok().transpose()?;
        let ready = census.is_some() && self.failure().is_none() && self.0.metrics.trouble().is_none();
        self.0.metrics.encode(Reading { census, ready, ..rest })
    }

    async fn census(&self) -> Result<Census> {
        let mut census = Census::new(&self.0.layer.read().access, self.0.time.now());
        for index in 0..self.0.partitions.len() {
            let mut count = Count::default();
            loop {
                let look = move |partition: &Partition| {
                    let done = partition.count(&mut count, QUEUES);
                    (done, count, partition.queues.len())
                };
                let (done, counted, queues) = self.look(index, look).await?;
                count = counted;
                if done {
                    census.add(count, queues);
                    break;
                }
            }
        }
        Ok(census)
    }

    /// What the logs take up, if that can be told. One look at a time: on a disk that hangs each would hold a thread.
    async fn usage(&self) -> Option<LogUsage> {
        let turn = self.0.looking.clone().lock_owned().await;
        let logs: Vec<_> = self.logs().map(|records| records.log.clone()).collect();
        // It goes on when nobody waits for it any more, and keeps its turn until then.
        let looked = tokio::spawn(async move {
            let mut all: Option<LogUsage> = None;
            for log in logs {
                if let Some(usage) = log.usage().await? {
                    all = Some(all.map_or(usage, |all| all.and(&usage)));
                }
            }
            drop(turn);
            Ok::<_, Error>(all)
        });
        looked.await.ok()?.unwrap_or_else(|error| {
            tracing::warn!(error = %ensync_core::report(&error), "cannot tell what the log takes up");
            None
        })
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
        self.handle(partition)?.ask(request).await
    }

    /// The same for a client, in the line of its app. What waits there when the broker stops is carried out.
    async fn ask_in_turn<T>(
        &self,
        partition: usize,
        app: AppId,
        request: impl FnOnce(Answer<T>, Turn) -> Request,
    ) -> Result<T> {
        self.check_running()?;
        let partition = self.handle(partition)?;
        let turn = partition.lines.turn(app).await;
        partition.ask(|answer| request(answer, turn)).await
    }

    fn handle(&self, partition: usize) -> Result<&Handle> {
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
