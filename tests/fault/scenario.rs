//! One fault over one transport.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ensync_client::{Attempts, Client, Custom, Dialer, Transports};
use ensync_core::{Endpoint, ErrorKind};
use ensync_engine::NewApp;
use tokio::task::JoinSet;

use crate::engine::{Apps, Engine};
use crate::liar::Word;
use crate::proxy::{Proxy, Weather};
use crate::traffic::{self, EVENTS, Ledger};

/// A bound against hanging, not a measurement.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long nothing may come, once all is published, before what is missing counts as lost.
const SILENCE: Duration = Duration::from_secs(60);
/// How often a fault strikes in a scenario.
const STRIKES: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    Cut,
    Reset,
    Stall,
    Delay,
    Mute,
    Kill,
}

impl Fault {
    pub const ALL: &'static [Self] =
        &[Self::None, Self::Cut, Self::Reset, Self::Stall, Self::Delay, Self::Mute, Self::Kill];

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cut => "cut",
            Self::Reset => "reset mid-frame",
            Self::Stall => "stalled (half-open)",
            Self::Delay => "delayed",
            Self::Mute => "accepted, never answered",
            Self::Kill => "engine killed (-9)",
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Row {
    fault: Fault,
    transport: &'static str,
    sent: usize,
    unknown: usize,
    received: usize,
    duplicates: u64,
    longest_gap: Duration,
}

impl Row {
    pub const HEAD: &'static str = "| fault | transport | accepted | unknown | received | delivered again | longest gap |\n\
                                    |---|---|---|---|---|---|---|";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, transport, sent, unknown, received, duplicates, longest_gap } = self;
        let (fault, gap) = (fault.name(), longest_gap.as_millis());
        write!(f, "| {fault} | {transport} | {sent} | {unknown} | {received} | {duplicates} | {gap} ms |")
    }
}

/// A scenario: one fault over one transport, and how far the engine is to be trusted.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub fault: Fault,
    pub transport: &'static str,
    pub word: Word,
    /// See [`SILENCE`].
    pub silence: Duration,
}

impl Scenario {
    pub fn new(fault: Fault, transport: &'static str) -> Self {
        Self { fault, transport, word: Word::Kept, silence: SILENCE }
    }
}

/// An engine, and the way to it.
struct World {
    engine: tokio::sync::Mutex<Engine>,
    proxy: Proxy,
    transport: &'static str,
    word: Word,
}

impl World {
    async fn client(&self, app: &NewApp) -> Client {
        let endpoint: Endpoint = format!("{}://{}", self.transport, self.proxy.address).parse().unwrap();
        let connector = match self.transport {
            "grpc" => ensync_grpc::Grpc::connector(&endpoint, Dialer::default()),
            _ => ensync_ws::Ws::connector(&endpoint, Dialer::default()),
        };
        let connector = self.word.through(connector.unwrap());
        let engine = ensync_client::Engine::<Custom>::with_connector(endpoint, connector)
            .heartbeat_interval(Duration::from_millis(400))
            .reconnect_interval(Duration::from_millis(100))
            .max_reconnect_attempts(Attempts::Unlimited)
            .retry_first_connect(true)
            .connect_timeout(Duration::from_secs(1))
            .close_timeout(Duration::from_secs(2));
        engine.create_client(&app.app_key).app_secret_key(&app.secret_key).await.unwrap()
    }

    /// The fault comes, and goes.
    async fn strike(&self, fault: Fault) {
        let (weather, lasts) = match fault {
            Fault::None => return,
            Fault::Cut => (Weather::Cut, 50),
            Fault::Reset => (Weather::Reset, 100),
            Fault::Stall => (Weather::Still, 1_200),
            Fault::Delay => (Weather::Slow(Duration::from_millis(40)), 500),
            Fault::Mute => (Weather::Mute, 1_200),
            Fault::Kill => {
                let mut engine = self.engine.lock().await;
                if let Engine::Apart(process) = &mut *engine {
                    process.kill_and_restart().await;
                }
                return self.proxy.lead_to(engine.address());
            }
        };
        self.proxy.set(weather);
        tokio::time::sleep(Duration::from_millis(lasts)).await;
        self.proxy.set(Weather::Fair);
    }
}

pub async fn run(scenario: Scenario) -> Row {
    tokio::time::timeout(PATIENCE, live(scenario)).await.unwrap_or_else(|_| panic!("{scenario:?} hangs"))
}

async fn live(scenario: Scenario) -> Row {
    let Scenario { fault, transport, word, silence } = scenario;
    let names = ["stream", "handler", "slow"].map(|kind| format!("fault/test/{kind}"));
    let directory = tempfile::tempdir().unwrap();
    let (engine, apps) = match fault {
        Fault::Kill => Engine::apart(&directory.path().join("data"), &names).await,
        _ => Engine::here(&names).await,
    };
    let proxy = Proxy::to(engine.address()).await;
    let world = World { engine: tokio::sync::Mutex::new(engine), proxy, transport, word };
    let (till, stock) = (world.client(&apps.shop).await, world.client(&apps.warehouse).await);
    let (mut publishers, mut readers, mut ledgers) = (JoinSet::new(), JoinSet::new(), Vec::new());
    for (name, each) in names.iter().zip([Some(Duration::ZERO), None, Some(Duration::from_millis(10))]) {
        let ledger = Arc::new(Ledger::default());
        match each {
            Some(each) => readers.spawn(traffic::take(stock.clone(), name.clone(), (8, each), ledger.clone())),
            None => readers.spawn(traffic::handle(stock.clone(), name.clone(), ledger.clone())),
        };
        let to = apps.warehouse.app_id;
        publishers.spawn(traffic::publish(till.clone(), name.clone(), to, ledger.clone()));
        ledgers.push(ledger);
    }
    for strike in 0..STRIKES {
        // In the midst of the traffic: not before the last one is over, not after all is said.
        let seen = (strike + 1) * EVENTS / (STRIKES + 2);
        ledgers[0].wait(|book| (book.accepted.len() + book.unknown.len() + book.refused.len()) as u64 >= seen).await;
        world.strike(fault).await;
    }
    while let Some(ended) = publishers.join_next().await {
        ended.unwrap();
    }
    for (name, ledger) in names.iter().zip(&ledgers) {
        let all = ledger.wait_unless_silent(silence, |book| book.accepted.is_subset(&book.acked));
        tokio::select! {
            missing = all => assert!(missing.is_empty(), "{fault:?} over {transport}, {name}: lost: {missing:?}"),
            Some(ended) = readers.join_next() => panic!("a reader ended: {ended:?}"),
        }
    }
    close_in_the_midst(&world, fault, &apps).await;
    for client in [till, stock] {
        client.close().await.unwrap();
    }
    while let Some(ended) = readers.join_next().await {
        ended.unwrap();
    }
    ledgers.iter().for_each(|ledger| ledger.book().check());
    check_store(&world, &names, &apps, &ledgers).await;
    let mut row =
        Row { fault, transport, sent: 0, unknown: 0, received: 0, duplicates: 0, longest_gap: Duration::ZERO };
    for ledger in &ledgers {
        let book = ledger.book();
        row.sent += book.accepted.len();
        row.unknown += book.unknown.len();
        row.received += book.ids.len();
        row.duplicates += book.deliveries - book.ids.len() as u64;
        row.longest_gap = row.longest_gap.max(book.longest_gap);
    }
    // What is refused or unknown is told, and is no loss; but an engine that takes nothing passes no test of what it took.
    let published = ledgers.len() * usize::try_from(EVENTS).unwrap();
    assert!(row.sent * 4 >= published * 3, "{fault:?} over {transport}: {} of {published} were accepted", row.sent);
    assert!(row.received >= row.sent, "{fault:?} over {transport}: {} accepted, {} received", row.sent, row.received);
    row
}

/// A client that closes while the fault is on, with a handler at work and a publish under way, comes to its end.
async fn close_in_the_midst(world: &World, fault: Fault, apps: &Apps) {
    let leaving = world.client(&apps.shop).await;
    leaving.wait_until_live().await.unwrap();
    let events = leaving.subscribe("fault/test/stream").await.unwrap();
    let struck = world.strike(fault);
    let closed = async {
        tokio::task::yield_now().await;
        let publishing = tokio::spawn(leaving.publish("fault/test/stream", &0).to(apps.shop.app_id).into_future());
        tokio::task::yield_now().await;
        let closed = leaving.close().await;
        assert!(closed.is_ok() || closed.is_err_and(|error| error.kind() == ErrorKind::Timeout));
        // It is told what became of it, whatever that is.
        let _ = publishing.await.unwrap();
    };
    tokio::join!(struck, closed);
    drop(events);
}

/// The engine has what was accepted, once each, and nothing that waits.
async fn check_store(world: &World, names: &[String], apps: &Apps, ledgers: &[Arc<Ledger>]) {
    let Engine::Here(server) = &*world.engine.lock().await else { return };
    for (name, ledger) in names.iter().zip(ledgers) {
        let queue = server.queue(name.as_str(), apps.warehouse.app_id).await.unwrap().unwrap();
        let book = ledger.book();
        let stored = queue.counters.published as usize;
        assert!(
            (book.accepted.len()..=book.accepted.len() + book.unknown.len()).contains(&stored),
            "{name}: stored twice, or not at all: {queue:?}"
        );
        assert_eq!((queue.dead, queue.counters.expired), (0, 0));
    }
}
