//! The engine, its restarts, and what breaks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensync_client::{Attempts, Client};
use ensync_core::{AppKey, Endpoint, ErrorKind, EventName, SecretKey, Timestamp};
use ensync_engine::{Broker, BrokerOptions, EventOptions, MemoryLog, TokioClock};
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::engine::{Engine, Odd};
use crate::ledger::{Ledger, SHIFTED};
use crate::network::{Door, Network, Over, Wire};
use crate::people::{self, Pace, Person};

pub const NAMES: [&str; 2] = ["sim/orders/new", "sim/orders/paid"];
/// The lease of a delivery.
pub const LEASE: Duration = Duration::from_secs(5);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);
/// What the client's goodbye may take beyond that.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long everything may take once nothing breaks any more. Virtual.
const SETTLES: Duration = Duration::from_secs(3_600);
/// How long a client's tasks may take to end once it is closed.
const TASKS_END: Duration = Duration::from_secs(120);

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
    /// For how long the engine remembers a publish.
    remembers: Duration,
}

impl World {
    async fn start(ledger: Arc<Ledger>, random: &mut fastrand::Rng) -> Self {
        let (log, clock) =
            (MemoryLog::new(), Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_700_000_000_000))));
        // Shorter than some outages, or longer than all.
        let remembers = Duration::from_secs(if random.bool() { 30 } else { 120 });
        let over = if random.u8(0..3) == 0 { Over::WebSocket } else { Over::Direct };
        ledger.note(format_args!("over {over:?}, publishes are remembered for {remembers:?}"));
        let broker = broker(&log, &clock, remembers).await;
        for name in NAMES {
            let max_deliveries = std::num::NonZeroU32::new(100_000);
            let options = EventOptions { ack_timeout: Some(LEASE), max_deliveries, ..EventOptions::default() };
            broker.register_event(EventName::parse(name).unwrap(), options).await.unwrap();
        }
        let engine = Engine::new(over == Over::Direct, random, ledger.clone());
        let network = Network::new(broker, engine, over, random.fork(), ledger.clone());
        Self { network, ledger, log: std::sync::Mutex::new(log), clock, remembers }
    }

    async fn app(&self, name: &str) -> App {
        let secret = SecretKey::generate().unwrap();
        let key = self.network.broker().create_app(name, secret.app_id().unwrap()).await.unwrap();
        App { key, secret }
    }

    async fn person(&self, who: &'static str, app: &App, random: &mut fastrand::Rng) -> Person {
        let endpoint: Endpoint = "ws://engine".parse().unwrap();
        let wire = Arc::new(Wire(self.network.clone(), who));
        let mut engine = ensync_client::Engine::with_connector(endpoint, wire);
        engine = engine.heartbeat_interval(Duration::from_secs(random.u64(1..30)));
        let limit = Duration::from_secs(random.u64(2..60));
        engine = engine
            .reconnect_interval(Duration::from_millis(random.u64(50..5_000)))
            .max_reconnect_attempts(Attempts::Unlimited)
            .retry_first_connect(true)
            .connect_timeout(Duration::from_secs(random.u64(1..20)))
            .request_timeout(limit)
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
        Person { who, client, limit }
    }

    /// The engine stops and comes back with what its log has. With its links cut first, or in order.
    async fn restart(&self, down: Duration, in_order: bool) {
        *self.network.door.lock().unwrap() = Door::Shut;
        if !in_order {
            self.network.cut();
        }
        self.network.broker().shutdown().await;
        tokio::time::sleep(down).await;
        let log = self.log.lock().unwrap().reopen();
        self.network.set_broker(broker(&log, &self.clock, self.remembers).await);
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
        const ALL: [&str; 17] = [
            "cut",
            "stall",
            "shut",
            "mute",
            "slow",
            "restart",
            "full",
            "restarting",
            "silent",
            "late",
            "reset",
            "refuses",
            "forget",
            "leave",
            "away",
            "parting",
            "ends",
        ];
        let name = ALL[random.usize(..ALL.len())];
        self.ledger.note(format_args!("fault: {name} for {lasts:?}"));
        self.ledger.troubled(true);
        let (network, engine) = (&self.network, &self.network.engine);
        let door = |door| *network.door.lock().unwrap() = door;
        match name {
            "cut" => network.cut(),
            "stall" => {
                network.stall(true);
                // What is on its way for longer than the engine remembers is no client's doing.
                tokio::time::sleep(lasts.min(self.remembers / 2 - Duration::from_secs(5))).await;
                // What stood still goes on, or is lost.
                if random.bool() {
                    network.cut();
                }
                network.stall(false);
            }
            "shut" | "mute" | "full" | "restarting" => {
                door(match name {
                    "shut" => Door::Shut,
                    "mute" => Door::Mute,
                    "full" => Door::Full,
                    _ => Door::Restarting,
                });
                // With much on its way when it breaks, or with what there is.
                if random.bool() {
                    network.stall(true);
                    tokio::time::sleep(Duration::from_millis(random.u64(0..3_000))).await;
                }
                network.cut();
                network.stall(false);
                tokio::time::sleep(lasts).await;
                door(Door::Open);
            }
            "slow" => {
                network.latency.store(random.u64(100..3_000), Ordering::Relaxed);
                tokio::time::sleep(lasts).await;
                network.latency.store(20, Ordering::Relaxed);
            }
            // To one request, whichever is next.
            "silent" => self.odd(Odd::Silent, 1, 30, lasts).await,
            "late" => self.odd(Odd::Late(Duration::from_millis(random.u64(100..40_000))), 1, 30, lasts).await,
            "reset" => self.odd(Odd::Resets, u32::MAX, random.u8(20..100), lasts).await,
            "refuses" => {
                let kind = if random.bool() { ErrorKind::LimitExceeded } else { ErrorKind::Unavailable };
                self.odd(Odd::Refuses(kind), u32::MAX, random.u8(20..100), lasts).await;
            }
            "forget" => network.forget(),
            "leave" => {
                self.ledger.met("left in order");
                network.leave();
            }
            // Links break while the engine hears that a subscription is left.
            "parting" => {
                engine.parts(true);
                tokio::time::sleep(lasts).await;
                engine.parts(false);
            }
            // Streams of subscriptions, and no link.
            "ends" => {
                let until = Instant::now() + lasts;
                loop {
                    network.end_streams();
                    tokio::time::sleep(Duration::from_millis(random.u64(0..3_000))).await;
                    if Instant::now() >= until {
                        break;
                    }
                }
            }
            // In order, with a call open, and for a while.
            "away" => {
                engine.set(Some((Odd::Silent, 1, 100)));
                tokio::time::sleep(Duration::from_millis(random.u64(0..2_000))).await;
                self.ledger.met("left in order");
                network.leave();
                engine.set(None);
            }
            _ => self.restart(lasts, random.bool()).await,
        }
        self.ledger.note("healed");
        self.ledger.troubled(false);
    }

    async fn odd(&self, odd: Odd, count: u32, percent: u8, lasts: Duration) {
        self.network.engine.set(Some((odd, count, percent)));
        tokio::time::sleep(lasts).await;
        self.network.engine.set(None);
    }
}

async fn broker(log: &MemoryLog, clock: &Arc<TokioClock>, remembers: Duration) -> Broker {
    let mut options = BrokerOptions { clock: clock.clone(), ..BrokerOptions::default() };
    options.limits.dedup_window = remembers;
    Broker::start(options, log.clone()).await.unwrap()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// The whole life of one seed.
pub async fn live(seed: u64, ledger: Arc<Ledger>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let world = Arc::new(World::start(ledger.clone(), &mut random).await);
    let (shop, warehouse) = (world.app("shop").await, world.app("warehouse").await);
    let before = tasks();
    let till = world.person("till", &shop, &mut random).await;
    let (first, second) =
        (world.person("first", &warehouse, &mut random).await, world.person("second", &warehouse, &mut random).await);
    let to = warehouse.secret.app_id().unwrap();
    // An app that the engine does not know.
    let nobody = SecretKey::generate().unwrap().app_id().unwrap();
    let mut readers = JoinSet::new();
    for name in 0..NAMES.len() {
        readers.spawn(people::read(world.clone(), first.clone(), name, random.fork()));
        if random.bool() {
            readers.spawn(people::read(world.clone(), second.clone(), name, random.fork()));
        }
    }
    let mut publishers = JoinSet::new();
    let steady = random.u8(0..10) == 0;
    if steady && world.network.engine.lacks("leases") {
        ledger.met("steady without leases");
    }
    for name in 0..NAMES.len() {
        let pace = if steady { Pace::Steady } else { Pace::Usual };
        publishers.spawn(people::publish(world.clone(), till.clone(), (to, nobody), (name, pace), random.fork()));
    }
    let restless = if random.bool() { random.u8(1..30) } else { 0 };
    ledger.note(format_args!("{restless} commands in a hundred are late or refused besides"));
    ledger.troubled(true);
    world.network.engine.restless(restless);
    for _ in 0..random.u8(1..8) {
        tokio::time::sleep(Duration::from_millis(random.u64(0..4_000))).await;
        world.fault(&mut random).await;
    }
    world.network.engine.restless(0);
    // Over WebSocket an engine may skip one publish of many that follow each other, when nothing else is wrong any more: nothing but that
    // ends the link, and it would be told wrong answers for as long as it lives.
    if world.network.over == Over::WebSocket && random.u8(0..4) == 0 {
        // What is published under a name is in one order.
        while let Some(ended) = publishers.join_next().await {
            ended.unwrap();
        }
        for name in 0..NAMES.len() {
            let late = (name, Pace::Late);
            publishers.spawn(people::publish(world.clone(), till.clone(), (to, nobody), late, random.fork()));
        }
        world.network.engine.set(Some((Odd::Skips, 1, 100)));
        tokio::time::sleep(SHIFTED).await;
        world.network.engine.set(None);
    }
    ledger.troubled(false);
    // A reader may go before the end, with what it has in hand.
    if random.bool() {
        close(&world, "second", &second.client).await;
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
    for Person { who, client, .. } in [&till, &second, &first] {
        close(&world, who, client).await;
    }
    while let Some(ended) = readers.join_next().await {
        ended.unwrap();
    }
    drop((till, first, second));
    let ended = async {
        while tasks() > before {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    if tokio::time::timeout(TASKS_END, ended).await.is_err() {
        panic!("{} tasks are left, there were {before} before the clients", tasks());
    }
}

/// Closes a client; that ends within its options' bounds.
async fn close(world: &World, who: &str, client: &Client) {
    let begun = Instant::now();
    let closed = client.close().await;
    world
        .ledger
        .note(format_args!("{who} closed: {}", if closed.is_ok() { "in order" } else { "in the middle of work" }));
    world.ledger.took("a close", begun, CLOSE_TIMEOUT + GOODBYE);
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
