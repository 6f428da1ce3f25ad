use std::num::NonZeroU32;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ensync_core::{AppId, Error, ErrorKind, EventName, Result, Timestamp};

use super::clock::KitClock;
use super::gate::{Gate, Orders};
use super::log::FaultyLog;
use super::network::Network;
use super::{Fault, LogFaults, ManualClock};
use crate::in_process::InProcess;
use crate::{Broker, BrokerOptions, DiskOptions, Logs, MemoryLog, QueueStats, Server};

/// How long a wait may take in real time, unless the builder says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a segment of a log on a disk is, in bytes: short, for tests begin many.
const SEGMENT: u64 = 1 << 20;
/// How long to wait before looking again.
const LOOK: Duration = Duration::from_millis(1);

/// A development engine on the loopback interface, with a clock of its own and faults to order. It derefs to its [`Server`].
///
/// See [the module](super) for what it is good for. Dropping it stops it at once.
#[derive(Debug)]
pub struct TestEngine {
    server: Server,
    network: Network,
    clock: ManualClock,
    holds_leases: Arc<AtomicBool>,
    log_faults: LogFaults,
    orders: Arc<Orders>,
    crashed: Arc<AtomicBool>,
    setup: Setup,
}

/// What a restart needs.
#[derive(Debug)]
struct Setup {
    options: BrokerOptions,
    partitions: NonZeroU32,
    place: Place,
    patience: Duration,
}

#[derive(Debug)]
enum Place {
    Memory(MemoryLog),
    Disk(PathBuf),
}

/// A test engine about to start.
#[derive(Debug)]
#[must_use = "nothing runs until it is started"]
pub struct TestEngineBuilder {
    clock: ManualClock,
    setup: Setup,
}

impl TestEngineBuilder {
    /// Changes limits and defaults. Event names are registered by first use unless `dev` is set to false; the clock is the builder's.
    pub fn options(mut self, change: impl FnOnce(&mut BrokerOptions)) -> Self {
        change(&mut self.setup.options);
        self
    }

    /// Keeps everything in a directory instead of in memory.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.setup.place = Place::Disk(path.into());
        self
    }

    /// Has so many partitions: 1 if it is not said.
    pub fn partitions(mut self, partitions: NonZeroU32) -> Self {
        self.setup.partitions = partitions;
        if let Place::Memory(log) = &mut self.setup.place {
            *log = MemoryLog::with_partitions(partitions);
        }
        self
    }

    /// Goes by this clock, which a test may share between engines.
    pub fn clock(mut self, clock: ManualClock) -> Self {
        self.clock = clock;
        self
    }

    /// How long waiting for a condition may take in real time before it fails. Default: 10 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.setup.patience = patience;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// As [`ServerBuilder::start`](crate::ServerBuilder::start).
    pub async fn start(self) -> Result<TestEngine> {
        let Self { clock, mut setup } = self;
        let holds_leases = Arc::<AtomicBool>::default();
        setup.options.clock = Arc::new(KitClock { time: clock.clone(), holds_leases: holds_leases.clone() });
        let (log_faults, orders, crashed) = (LogFaults::default(), Arc::<Orders>::default(), Arc::default());
        let server = setup.start(&log_faults, &orders, &crashed).await?;
        let network = Network::before(address(&server)?).await?;
        Ok(TestEngine { server, network, clock, holds_leases, log_faults, orders, crashed, setup })
    }
}

impl Setup {
    async fn start(&self, faults: &LogFaults, orders: &Arc<Orders>, crashed: &Arc<AtomicBool>) -> Result<Server> {
        let logs = match &self.place {
            Place::Memory(log) => log.clone().into(),
            Place::Disk(path) => {
                let partitions = Some(self.partitions);
                let options = DiskOptions { segment_bytes: SEGMENT, partitions, ..DiskOptions::default() };
                Logs::open(path, options).await?
            }
        };
        let faulty = |inner| Arc::new(FaultyLog { inner, faults: faults.clone(), crashed: crashed.clone() }) as _;
        let (logs, orders) = (logs.map(faulty), orders.clone());
        let gate = move |inner| Arc::new(Gate { inner, orders }) as _;
        Server::builder().options(self.options.clone()).logs(logs).around(gate).start().await
    }
}

impl TestEngine {
    /// Starts one that keeps everything in memory.
    ///
    /// # Errors
    ///
    /// As [`ServerBuilder::start`](crate::ServerBuilder::start).
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// One that is told more before it starts.
    pub fn builder() -> TestEngineBuilder {
        // Nothing is kept beside the log, so that a fault of the log is one for every reader.
        let options = BrokerOptions { recent_bytes: 0, ..BrokerOptions::dev() };
        let (partitions, place) = (NonZeroU32::MIN, Place::Memory(MemoryLog::new()));
        let setup = Setup { options, partitions, place, patience: PATIENCE };
        TestEngineBuilder { clock: ManualClock::new(), setup }
    }

    /// Its URL over gRPC, the same after a restart.
    pub fn grpc_url(&self) -> String {
        format!("grpc://{}", self.network.address)
    }

    /// Its URL over WebSocket, the same after a restart.
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.network.address)
    }

    /// A connector for clients of the same process, which goes without sockets. It belongs to this run of the engine.
    pub fn in_process(&self) -> InProcess {
        let inner = Arc::new(self.server.broker().clone());
        InProcess::new(Arc::new(Gate { inner, orders: self.orders.clone() }))
    }

    /// The time, as the engine sees it.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The clock, to be shared with what else should go by it.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Lets time pass, and returns when the engine has done all that became due meanwhile, each thing at its time, and has handed what
    /// it delivered to the connections.
    ///
    /// Leases end meanwhile, also of an event that a handler is at: it extends its lease by tokio's time, of which none passes here. Where
    /// handlers are at work use [`advance_while_handled`](Self::advance_while_handled), or an event is handed to several at once.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) if it does not come to an end, as when its log hangs;
    /// [`Unavailable`](ErrorKind::Unavailable) if the engine was shut down.
    pub async fn advance(&self, by: Duration) -> Result<()> {
        let end = self.now().after(by);
        while let Some(due) = self.idle().await?.filter(|due| *due <= end) {
            self.clock.advance_to(due);
        }
        self.clock.advance_to(end);
        self.idle().await.map(drop)
    }

    /// Lets time pass as [`advance`](Self::advance) does, and ends no lease: as in production, where the SDK's handlers extend theirs for as
    /// long as they are at work. What is deferred comes back, what expires goes.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub async fn advance_while_handled(&self, by: Duration) -> Result<()> {
        // What was delivered until now is looked at under the old rule.
        self.idle().await?;
        self.holds_leases.store(true, Ordering::SeqCst);
        let done = self.advance(by).await;
        self.holds_leases.store(false, Ordering::SeqCst);
        done
    }

    /// Returns when the engine has done all that it can do at this time. Tells when something will be due.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub async fn idle(&self) -> Result<Option<Timestamp>> {
        let started = Instant::now();
        loop {
            match self.asked(self.server.broker().is_idle()).await? {
                Some(idle) if idle.due.is_none_or(|due| due > self.now()) => return Ok(idle.due),
                _ if started.elapsed() > self.setup.patience => {
                    return Err(Error::new(ErrorKind::Timeout, "the test engine does not come to rest"));
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Waits until a queue is as `wanted`, and tells how that is. The clock stands still meanwhile.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) if it takes longer than the builder's [`patience`](TestEngineBuilder::patience); the message
    /// says how the queue stands. [`InvalidEventName`](ErrorKind::InvalidEventName).
    pub async fn wait_for<N>(
        &self,
        event: N,
        recipient: AppId,
        mut wanted: impl FnMut(&QueueStats) -> bool,
    ) -> Result<QueueStats>
    where
        N: TryInto<EventName, Error: Into<Error>>,
    {
        let event: EventName = event.try_into().map_err(Into::into)?;
        let started = Instant::now();
        loop {
            let stats = self.asked(self.server.broker().queue(event.clone(), recipient)).await?;
            match stats {
                Some(stats) if wanted(&stats) => return Ok(stats),
                stats if started.elapsed() > self.setup.patience => {
                    let found = stats.map_or("was never used".to_owned(), |stats| format!("stands at {stats:?}"));
                    let message = format!("the queue {event} of {recipient} is not as wanted: it {found}");
                    return Err(Error::new(ErrorKind::Timeout, message));
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Waits until exactly so many events of a queue wait for a client.
    ///
    /// # Errors
    ///
    /// As [`wait_for`](Self::wait_for).
    pub async fn wait_until_ready<N>(&self, event: N, recipient: AppId, events: usize) -> Result<QueueStats>
    where
        N: TryInto<EventName, Error: Into<Error>>,
    {
        self.wait_for(event, recipient, |stats| stats.ready == events).await
    }

    /// Waits until exactly so many events of a queue are with clients.
    ///
    /// # Errors
    ///
    /// As [`wait_for`](Self::wait_for).
    pub async fn wait_until_in_flight<N>(&self, event: N, recipient: AppId, events: usize) -> Result<QueueStats>
    where
        N: TryInto<EventName, Error: Into<Error>>,
    {
        self.wait_for(event, recipient, |stats| stats.in_flight == events).await
    }

    /// Waits until nothing is left in a queue but dead letters.
    ///
    /// # Errors
    ///
    /// As [`wait_for`](Self::wait_for).
    pub async fn wait_until_empty<N>(&self, event: N, recipient: AppId) -> Result<QueueStats>
    where
        N: TryInto<EventName, Error: Into<Error>>,
    {
        self.wait_for(event, recipient, |stats| stats.ready + stats.in_flight + stats.deferred == 0).await
    }

    /// Cuts every connection, without a word. Those over sockets the engine notices as in production: a session that has no stream
    /// open lives on for a while.
    pub fn cut(&self) {
        self.orders.cut(None);
        self.network.cut(None);
    }

    /// Cuts the connections of one app.
    pub fn cut_app(&self, app: AppId) {
        self.network.cut(Some(&self.orders.cut(Some(app))));
    }

    /// Has connections closed as soon as they are made, until the fault is dropped. Those that are open live on: see
    /// [`cut`](Self::cut).
    pub fn unreachable(&self) -> Fault {
        Fault::begin(self.network.unreachable())
    }

    /// Has nothing arrive, at either side, until the fault is dropped: connections are open, or can be made, and silent. Over sockets
    /// only.
    pub fn stall(&self) -> Fault {
        Fault::begin(self.network.stalled())
    }

    /// Has commands carried out and not answered, until the fault is dropped. Deliveries, and logins, go on.
    pub fn mute(&self) -> Fault {
        Fault::begin(&self.orders.mute)
    }

    /// Has the next logins refused, with an error of this kind.
    pub fn refuse_logins(&self, next: u64, kind: ErrorKind) {
        self.orders.refuse_logins(next, Error::new(kind, "the login is refused, as the test wants it"));
    }

    /// What to do to the log.
    pub fn log_faults(&self) -> &LogFaults {
        &self.log_faults
    }

    /// Stops in order and starts again on what the log holds, under the same URLs. Connections end.
    ///
    /// # Errors
    ///
    /// As [`ServerBuilder::start`](crate::ServerBuilder::start).
    pub async fn restart(&mut self) -> Result<()> {
        self.network.cut(None);
        self.orders.cut(None);
        self.server.shutdown().await;
        if let Place::Memory(log) = &mut self.setup.place {
            *log = log.reopen();
        }
        self.crashed = Arc::default();
        self.server = self.setup.start(&self.log_faults, &self.orders, &self.crashed).await?;
        self.network.set_engine(address(&self.server)?);
        Ok(())
    }

    /// The same, as after a crash: nothing more reaches the log, connections are cut, commands under way get no answer.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart).
    pub async fn crash(&mut self) -> Result<()> {
        self.network.cut(None);
        self.orders.cut(None);
        self.crashed.store(true, Ordering::SeqCst);
        self.log_faults.wake();
        self.restart().await
    }

    /// An answer of the engine's, which may hang with its log.
    async fn asked<T>(&self, question: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(self.setup.patience, question).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "the test engine does not answer; is a fault of its log still held?"))
        })
    }

    /// The broker behind it: everything that can be provisioned and inspected.
    pub fn broker(&self) -> &Broker {
        self.server.broker()
    }
}

impl Deref for TestEngine {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}

fn address(server: &Server) -> Result<std::net::SocketAddr> {
    server.addresses().next().ok_or_else(|| Error::new(ErrorKind::Internal, "the test engine listens nowhere"))
}
