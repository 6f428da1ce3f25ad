//! The broker: the state machine, driven.

mod admin;
mod backoff;
mod clock;
mod copying;
mod inbox;
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
mod request;
mod task;
mod unclaimed;
mod upkeep;
mod waiting;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ensync_core::{
    ClientId, Command, Error, ErrorKind, Extension, Login, Peer, Reply, Result, ServerConfig, Service, Session,
    Timestamp, Welcome,
};
use futures::StreamExt;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use admin::new_access_key;
pub use clock::{Clock, SystemClock, TokioClock};
pub use options::{BrokerOptions, Retention};

use crate::address::network;
use crate::counters::ConnectionCounters;
use crate::log::{Log, LogUsage};
use crate::metrics::{Metrics, Reading};
use crate::model::KeyHash;
use crate::partition::Totals;
use crate::random::random;
use crate::seldom::Seldom;
use crate::state::{Admitted, Census, Count, Limits, Settings};
use clock::Time;
pub(crate) use login_throttle::LoginThrottle;
pub(crate) use look::{Figures, Gauge, Partly, Seen};
use records::Records;
pub(crate) use request::Origin;
use request::{Answer, Caller, Outcome, Request, brief};
use task::Task;
use waiting::Waiting;

/// Requests that may wait for the task; who sends more waits himself.
const WAITING: usize = 4_096;
/// How many queues are counted at a time.
const QUEUES: usize = 1_024;
/// How long the task may take to answer before the engine counts as not ready.
const UNANSWERED: std::time::Duration = std::time::Duration::from_secs(5);

/// A message broker: queues, their clients, and what both may do. It is an EnSync engine but for the wire, which transports add:
/// they call it as a [`Service`].
///
/// A handle, cheap to clone. The broker stops when [`shutdown`](Broker::shutdown) is called or the last handle is gone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ensync_core::Result<()> {
/// use std::sync::Arc;
/// use ensync_core::{AppId, Login, Service};
/// use ensync_engine::{Broker, BrokerOptions, MemoryLog};
///
/// let broker = Broker::start(BrokerOptions::dev(), Arc::new(MemoryLog::new())).await?;
/// let app_key = broker.create_app("warehouse", AppId::parse("oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=")?).await?;
/// let session = broker.login(Login { app_key, transport: "local", remote: None }).await?;
/// broker.logout(&session.peer).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

struct Shared {
    requests: mpsc::Sender<Request>,
    records: Arc<Records>,
    limits: Limits,
    config: ServerConfig,
    counters: Arc<ConnectionCounters>,
    metrics: Arc<Metrics>,
    waiting: Arc<Waiting>,
    stopping: AtomicBool,
    /// Held by whoever looks at what the log takes up.
    looking: Arc<tokio::sync::Mutex<()>>,
    running: watch::Receiver<()>,
    failure: watch::Receiver<Option<Error>>,
}

impl Broker {
    /// Reads a log back and starts on it. Must be called in a tokio runtime with time enabled.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the log cannot be read, [`ErrorKind::InvalidInput`] if it is damaged,
    /// [`ErrorKind::Internal`] if the system has no randomness.
    pub async fn start(options: BrokerOptions, log: Arc<dyn Log>) -> Result<Self> {
        let BrokerOptions {
            limits,
            defaults,
            dev,
            retention,
            checkpoint_bytes,
            recent_bytes,
            max_metric_events,
            clock,
        } = options;
        let begun = std::time::Instant::now();
        let tag = u32::from_be_bytes(random()?);
        let settings = Settings { epoch: log.epoch(), tag, dev, limits: limits.clone(), defaults };
        let records = Arc::new(Records::new(log.clone(), recent_bytes));
        let (mut state, maintenance) = maintenance::recover(&records, settings, (retention, checkpoint_bytes)).await?;
        let time = Time::anchored(clock, state.logged_at());
        state.recovered(time.now());
        let census = state.count(&mut Count::default(), usize::MAX);
        let totals = || census.iter().flat_map(|census| census.events.values());
        let count = |of: fn(&Totals) -> u64| totals().map(of).sum::<u64>();
        tracing::info!(
            epoch = log.epoch(),
            apps = census.as_ref().map(|census| census.apps),
            queues = census.as_ref().map(|census| census.queues),
            waiting = count(|totals| totals.ready + totals.in_flight + totals.deferred),
            dead = count(|totals| totals.dead),
            took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "log read back"
        );
        let (sender, requests) = mpsc::channel(WAITING);
        let (_running, running) = watch::channel(());
        let (failed, failure) = watch::channel(None);
        let (inboxes, (log_pause, complained)) = (HashMap::new(), (None, None));
        let metrics = Arc::new(Metrics::new(max_metric_events));
        let (login_throttle, counters) = (LoginThrottle::new(&limits), Arc::<ConnectionCounters>::default());
        let mut task = Task {
            state,
            records: records.clone(),
            time,
            requests,
            inboxes,
            log_pause,
            complained,
            standstill: Seldom::new(),
            failed,
            login_throttle,
            counters: counters.clone(),
            metrics: metrics.clone(),
            maintenance,
            unclaimed: Arc::default(),
            _running,
        };
        // What went with an app or a name, if the engine ended before that was stored.
        task.store(task.state.leftovers())
            .await
            .map_err(|error| error.context("remove the queues of apps that are gone"))?;
        tokio::spawn(task.run());
        let config = [
            (ServerConfig::EXTENSIONS, Extension::announcement()),
            (ServerConfig::MAX_PAYLOAD_BYTES, limits.max_payload_bytes.to_string()),
            (ServerConfig::DEDUP_WINDOW_MS, limits.dedup_window.as_millis().to_string()),
        ];
        let config = config.into_iter().collect();
        let stopping = AtomicBool::new(false);
        let (looking, waiting) = (Arc::default(), Arc::new(Waiting::new(&limits.quotas)));
        let shared = Shared {
            requests: sender,
            records,
            limits,
            config,
            counters,
            metrics,
            waiting,
            stopping,
            looking,
            running,
            failure,
        };
        Ok(Self(Arc::new(shared)))
    }

    /// Stops: new commands are refused, those that wait are finished, then every session's inbox ends.
    pub async fn shutdown(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        _ = self.0.requests.send(Request::Shutdown).await;
        // The task drops the sender when it ends, and sends nothing.
        self.stopped().await;
    }

    /// Returns when the broker has stopped: after a [`shutdown`](Broker::shutdown), or because its task failed.
    pub async fn stopped(&self) {
        _ = self.0.running.clone().changed().await;
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
        match tokio::time::timeout(UNANSWERED, self.sessions()).await {
            Ok(answer) => answer.map(drop),
            Err(_) => refuse(match self.0.records.hangs() {
                Some(hangs) => format!("the disk has not answered for {} s", hangs.as_secs()),
                None => format!("the broker has not answered for {} s", UNANSWERED.as_secs()),
            }),
        }
    }

    /// Whether a restart would be of no use: it answers, or waits for a disk that does not. A watchdog ends it otherwise.
    pub async fn is_alive(&self) -> bool {
        let answers = tokio::time::timeout(UNANSWERED, self.sessions()).await.is_ok_and(|answer| answer.is_ok());
        answers || self.is_stopping() || self.0.records.hangs().is_some()
    }

    /// What there is to see of it, in the text format of OpenMetrics: what the admin listener serves at `/metrics` to who asks for that.
    ///
    /// Costs the broker one look at each queue, some of them at a time.
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
        let mut count = Count::default();
        loop {
            let (found, counted) = self
                .inspect(move |state| {
                    let found = state.count(&mut count, QUEUES);
                    (found, count)
                })
                .await?;
            match found {
                Some(census) => return Ok(census),
                None => count = counted,
            }
        }
    }

    /// What the log takes up, if that can be told. One look at a time: on a disk that hangs each would hold a thread.
    async fn usage(&self) -> Option<LogUsage> {
        let turn = self.0.looking.clone().lock_owned().await;
        let log = self.0.records.log.clone();
        // It goes on when nobody waits for it any more, and keeps its turn until then.
        let looked = tokio::spawn(async move {
            let usage = log.usage().await;
            drop(turn);
            usage
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
        self.0.failure.borrow().clone().or_else(|| self.0.records.log.failure())
    }

    /// Waits until the log has failed for good, and says why: see [`failure`](Broker::failure). Never returns if it does not.
    ///
    /// A program that serves others ends then, so that what supervises it starts it again.
    pub async fn failed(&self) -> Error {
        let mut failure = self.0.failure.clone();
        let failed = tokio::select! {
            failed = failure.wait_for(Option::is_some) => failed.ok().and_then(|failure| failure.clone()),
            failed = self.0.records.log.failed() => Some(failed),
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

    /// Sends a request to the task and waits for its answer.
    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T> {
        let stopped = || Error::new(ErrorKind::Unavailable, "the engine is stopping; try again later");
        if self.is_stopping() {
            return Err(stopped());
        }
        let (answer, answered) = oneshot::channel();
        self.0.requests.send(request(answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

#[async_trait]
impl Service for Broker {
    async fn login(&self, login: Login) -> Result<Session> {
        let (key, client_id) = (KeyHash::of(&login.app_key), new_client_id()?);
        let id = client_id.clone();
        let from = login.remote.map(|remote| network(remote.ip()));
        let (transport, remote) = (login.transport, login.remote.map(tracing::field::display));
        let origin = Origin { transport: login.transport, remote: login.remote, since: Timestamp::default() };
        let opened = self.ask(|answer| Request::Login { key, from, origin, client_id: id, answer }).await;
        let opened = opened.inspect_err(|error| {
            // Who goes on trying while he has to wait must not fill the log.
            if error.kind() == ErrorKind::LimitExceeded {
                tracing::debug!(transport, remote, %error, "login refused");
            } else {
                tracing::info!(transport, remote, %error, "login refused");
            }
        })?;
        opened.unclaimed.claim();
        tracing::info!(session = opened.number, app = %opened.app, transport, remote, "login");
        Ok(Session {
            peer: Peer { client_id: client_id.clone(), app_id: opened.app },
            inbox: opened.inbox.boxed(),
            welcome: Welcome {
                client_id,
                app_id: Some(opened.public_key),
                config: self.0.config.clone().with_earlier_ids(&opened.earlier_keys),
            },
        })
    }

    async fn handle(&self, peer: &Peer, command: Command) -> Result<Reply> {
        let name = command.name();
        self.carry_out(peer, command).await.inspect_err(|error| self.0.metrics.refused(name, error))
    }

    async fn logout(&self, peer: &Peer) {
        let (answer, answered) = oneshot::channel();
        let request = Request::Logout { client_id: peer.client_id.clone(), answer };
        if self.0.requests.send(request).await.is_ok() {
            _ = answered.await;
        }
    }
}

impl Broker {
    async fn carry_out(&self, peer: &Peer, command: Command) -> Result<Reply> {
        let peer = peer.clone();
        let outcome = match command {
            Command::Publish(publish) => {
                let publish = Box::new(Admitted::new(publish, &self.0.limits)?);
                let charge = self.0.waiting.charge(peer.app_id, publish.size())?;
                self.ask(|answer| Request::Publish { peer, publish, caller: Caller::new(answer, charge) }).await?
            }
            command => {
                let command = Box::new(brief(command));
                self.ask(|answer| Request::Command { peer, command, answer }).await?
            }
        };
        match outcome {
            Outcome::Reply(reply) => Ok(reply),
            // Read here, so that a replay of an old event holds up nobody else.
            Outcome::Replay(replay) => replay.answer(self.0.records.read(&replay.source).await?.as_deref()),
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("log", &self.0.records.log)
            .field("stopping", &self.is_stopping())
            .finish_non_exhaustive()
    }
}

/// 256 random bits: whoever holds a client id may act as that session.
fn new_client_id() -> Result<ClientId> {
    ClientId::parse(&format!("{}{}", ClientId::PREFIX, URL_SAFE_NO_PAD.encode(random::<32>()?)))
}
