//! The engine, its restarts, and what breaks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensync_client::{Attempts, Client, Engine};
use ensync_core::{AppKey, Endpoint, EventName, SecretKey, Timestamp};
use ensync_engine::{Broker, BrokerOptions, EventOptions, MemoryLog, TokioClock};
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ledger::Ledger;
use crate::network::{Door, Network, Wire};
use crate::people;

pub const NAMES: [&str; 2] = ["sim/orders/new", "sim/orders/paid"];
/// The lease of a delivery.
pub const LEASE: Duration = Duration::from_secs(5);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);
/// The client's own bound on its goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// How long everything may take once nothing breaks any more. Virtual.
const SETTLES: Duration = Duration::from_secs(3_600);

/// An app of the engine.
pub struct App {
    pub key: AppKey,
    pub secret: SecretKey,
}

pub struct World {
    pub network: Arc<Network>,
    pub ledger: Arc<Ledger>,
    log: std::sync::Mutex<MemoryLog>,
    clock: Arc<TokioClock>,
}

impl World {
    async fn start(ledger: Arc<Ledger>, random: &mut fastrand::Rng) -> Self {
        let (log, clock) =
            (MemoryLog::new(), Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_700_000_000_000))));
        let broker = broker(&log, &clock).await;
        for name in NAMES {
            let mut options = EventOptions::default();
            options.ack_timeout = Some(LEASE);
            options.max_deliveries = std::num::NonZeroU32::new(100_000);
            broker.register_event(EventName::parse(name).unwrap(), options).await.unwrap();
        }
        // Also clients of engines that lack an extension, or all of them.
        let hidden: &[&str] = match random.u8(0..10) {
            0 => &["deduplication", "flow-control", "fencing", "leases"],
            1 => &["deduplication"],
            2 => &["flow-control"],
            3 => &["leases"],
            _ => &[],
        };
        ledger.note(format_args!("the engine lacks {hidden:?}"));
        let network = Network::new(broker, random.fork(), hidden, ledger.clone());
        Self { network, ledger, log: std::sync::Mutex::new(log), clock }
    }

    async fn app(&self, name: &str) -> App {
        let secret = SecretKey::generate().unwrap();
        let key = self.network.broker().create_app(name, secret.app_id().unwrap()).await.unwrap();
        App { key, secret }
    }

    pub async fn client(&self, who: &'static str, app: &App, random: &mut fastrand::Rng) -> Client {
        let endpoint: Endpoint = "grpc://engine".parse().unwrap();
        let engine = Engine::with_connector(endpoint, Arc::new(Wire(self.network.clone())))
            .heartbeat_interval(Duration::from_secs(random.u64(1..30)))
            .reconnect_interval(Duration::from_millis(random.u64(50..5_000)))
            .max_reconnect_attempts(Attempts::Unlimited)
            .retry_first_connect(true)
            .connect_timeout(Duration::from_secs(random.u64(1..20)))
            .request_timeout(Duration::from_secs(random.u64(2..60)))
            .close_timeout(CLOSE_TIMEOUT)
            .jitter_seed(random.u64(..));
        let client = engine.create_client(&app.key).app_secret_key(&app.secret).await.unwrap();
        let (mut events, ledger) = (client.events(), self.ledger.clone());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                assert!(!matches!(event, ensync_client::ConnectionEvent::Missed { .. }));
                ledger.connection(who, &event);
            }
        });
        client
    }

    /// The engine dies and comes back with what its log has.
    async fn restart(&self, down: Duration) {
        *self.network.door.lock().unwrap() = Door::Shut;
        self.network.cut();
        self.network.broker().shutdown().await;
        tokio::time::sleep(down).await;
        let log = self.log.lock().unwrap().reopen();
        self.network.set_broker(broker(&log, &self.clock).await);
        *self.log.lock().unwrap() = log;
        *self.network.door.lock().unwrap() = Door::Open;
    }

    /// One fault, from its beginning to its end.
    async fn fault(&self, random: &mut fastrand::Rng) {
        let lasts = match random.u8(0..4) {
            0 => Duration::from_millis(random.u64(0..100)),
            1 | 2 => Duration::from_millis(random.u64(0..5_000)),
            _ => Duration::from_millis(random.u64(0..90_000)),
        };
        let which = random.u8(0..7);
        let name = ["cut", "stall", "shut", "mute", "slow", "restart", "full"][usize::from(which)];
        self.ledger.note(format_args!("fault: {name} for {lasts:?}"));
        let door = |door| *self.network.door.lock().unwrap() = door;
        match which {
            0 => self.network.cut(),
            1 => {
                self.network.stall(true);
                tokio::time::sleep(lasts).await;
                // What stood still goes on, or is lost.
                if random.bool() {
                    self.network.cut();
                }
                self.network.stall(false);
            }
            2 | 3 | 6 => {
                door(match which {
                    2 => Door::Shut,
                    3 => Door::Mute,
                    _ => Door::Full,
                });
                self.network.cut();
                tokio::time::sleep(lasts).await;
                door(Door::Open);
            }
            4 => {
                self.network.latency.store(random.u64(100..3_000), Ordering::Relaxed);
                tokio::time::sleep(lasts).await;
                self.network.latency.store(20, Ordering::Relaxed);
            }
            _ => self.restart(lasts).await,
        }
        self.ledger.note("healed");
    }
}

async fn broker(log: &MemoryLog, clock: &Arc<TokioClock>) -> Broker {
    let options = BrokerOptions { clock: clock.clone(), ..BrokerOptions::default() };
    Broker::start(options, Arc::new(log.clone())).await.unwrap()
}

/// The whole life of one seed.
pub async fn live(seed: u64, ledger: Arc<Ledger>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let world = Arc::new(World::start(ledger.clone(), &mut random).await);
    let (shop, warehouse) = (world.app("shop").await, world.app("warehouse").await);
    let till = world.client("till", &shop, &mut random).await;
    let (first, second) =
        (world.client("first", &warehouse, &mut random).await, world.client("second", &warehouse, &mut random).await);
    let to = warehouse.secret.app_id().unwrap();
    let mut readers = JoinSet::new();
    for name in 0..NAMES.len() {
        readers.spawn(people::read(world.clone(), ("first", first.clone()), name, random.fork()));
        if random.bool() {
            readers.spawn(people::read(world.clone(), ("second", second.clone()), name, random.fork()));
        }
    }
    let mut publishers = JoinSet::new();
    for name in 0..NAMES.len() {
        publishers.spawn(people::publish(world.clone(), till.clone(), to, name, random.fork()));
    }
    for _ in 0..random.u8(1..8) {
        tokio::time::sleep(Duration::from_millis(random.u64(0..4_000))).await;
        world.fault(&mut random).await;
    }
    // A reader may go before the end, with what it has in hand.
    if random.bool() {
        close(&world, "second", &second).await;
    }
    ledger.note("nothing breaks any more");
    let settled = async {
        while let Some(ended) = publishers.join_next().await {
            ended.unwrap();
        }
        while !is_settled(&world, to).await {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(readers.try_join_next().is_none_or(|ended| ended.is_ok()), "a reader failed");
        }
    };
    if tokio::time::timeout(SETTLES, settled).await.is_err() {
        panic!("not delivered and settled: {:?}", ledger.missing());
    }
    assert_eq!(ledger.missing(), [], "accepted and never delivered");
    for (who, client) in [("till", &till), ("second", &second), ("first", &first)] {
        close(&world, who, client).await;
    }
    while let Some(ended) = readers.join_next().await {
        ended.unwrap();
    }
}

/// Closes a client; that ends within its options' bounds.
async fn close(world: &World, who: &str, client: &Client) {
    let begun = Instant::now();
    let closed = client.close().await;
    world
        .ledger
        .note(format_args!("{who} closed: {}", if closed.is_ok() { "in order" } else { "in the middle of work" }));
    let took = begun.elapsed();
    assert!(took <= CLOSE_TIMEOUT + GOODBYE, "{who} took {took:?} to close");
}

/// Whether all that was accepted is acknowledged, and nothing else is there.
async fn is_settled(world: &World, to: ensync_core::AppId) -> bool {
    for (name, text) in NAMES.iter().enumerate() {
        let (least, most) = world.ledger.stored(name);
        let queue = world.network.broker().queue(EventName::parse(text).unwrap(), to).await.unwrap();
        let Some(queue) = queue else {
            if least > 0 {
                return false;
            }
            continue;
        };
        assert_eq!(queue.dead, 0, "{queue:?}");
        if queue.ready + queue.in_flight + queue.deferred > 0 {
            return false;
        }
        let seen = world.ledger.seen(name);
        assert!((least..=most).contains(&seen), "{text}: {least} to {most} published, {seen} seen");
    }
    true
}
