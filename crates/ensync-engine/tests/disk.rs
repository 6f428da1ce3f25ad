//! The broker over a log on a disk: restarts, checkpoints, retention.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a panic here is a failed test")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::{
    AppId, AppKey, Command, Delay, Delivery, ErrorKind, EventId, EventName, Login, Metadata, Peer, Publish, Reply,
    Service, Session, Settle, Settlement, Subscribe, Timestamp, WirePayload,
};
use ensync_engine::{Broker, BrokerOptions, Clock, DiskOptions, EventOptions, Logs, Retention, Server};
use futures::StreamExt;
use tempfile::TempDir;

const SHOP: AppId = AppId::from_bytes([6; 32]);
const WAREHOUSE: AppId = AppId::from_bytes([25; 32]);

/// Where the log of the only partition is.
const PARTITION: &str = "partition-0";

fn event() -> EventName {
    EventName::parse("orders/status/updated").unwrap()
}

fn key(app: AppId) -> AppKey {
    AppKey::parse(&format!("key-{}", app.as_bytes()[0])).unwrap()
}

async fn start(path: &Path) -> Broker {
    start_with(path, |_| ()).await
}

async fn start_with(path: &Path, change: impl FnOnce(&mut BrokerOptions)) -> Broker {
    let mut disk = DiskOptions::default();
    disk.segment_bytes = 64 << 10;
    let log = Logs::open(path, disk).await.unwrap();
    let mut options = BrokerOptions::default();
    change(&mut options);
    Broker::start(options, log).await.unwrap()
}

async fn provision(broker: &Broker) {
    for (name, app) in [("shop", SHOP), ("warehouse", WAREHOUSE)] {
        broker.create_app_with_key(name, app, &key(app)).await.unwrap();
    }
    broker.register_event(event(), EventOptions::default()).await.unwrap();
}

async fn login(broker: &Broker, app: AppId) -> Session {
    broker.login(Login { app_key: key(app), transport: "local", remote: None }).await.unwrap()
}

async fn consumer(broker: &Broker) -> Session {
    let session = login(broker, WAREHOUSE).await;
    let subscribe = Command::Subscribe(Subscribe { event: event(), max_in_flight: None, max_bytes_in_flight: None });
    broker.handle(&session.peer, subscribe).await.unwrap();
    session
}

async fn publish(broker: &Broker, peer: &Peer, text: String) -> EventId {
    let publish = Publish {
        event: event(),
        recipient: WAREHOUSE,
        payload: WirePayload::from_wire(text),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: None,
    };
    match broker.handle(peer, Command::Publish(publish)).await.unwrap() {
        Reply::Published { id } => id,
        other => panic!("{other:?}"),
    }
}

async fn settle(broker: &Broker, peer: &Peer, delivery: &Delivery, how: Settlement) {
    let settle = Settle { id: delivery.id.clone(), event: None, block: Some(delivery.block), how };
    broker.handle(peer, Command::Settle(settle)).await.unwrap();
}

fn names(path: &Path, extension: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(extension))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_was_stored_outlives_the_broker_with_and_without_a_checkpoint() {
    let place = TempDir::new().unwrap();
    let broker = start(place.path()).await;
    provision(&broker).await;
    let shop = login(&broker, SHOP).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(publish(&broker, &shop.peer, format!("b25{n}")).await);
    }
    let mut warehouse = consumer(&broker).await;
    let mut deliveries = Vec::new();
    for _ in 0..5 {
        deliveries.push(warehouse.inbox.next().await.unwrap());
    }
    settle(&broker, &warehouse.peer, &deliveries[0], Settlement::Ack).await;
    settle(&broker, &warehouse.peer, &deliveries[1], Settlement::Discard { reason: "no".into() }).await;
    let defer = Settlement::Defer { delay: Delay::from_millis(3_600_000).unwrap(), priority: 0, reason: String::new() };
    settle(&broker, &warehouse.peer, &deliveries[2], defer).await;

    // As a crash would leave it, and as an orderly stop does.
    let crashed = TempDir::new().unwrap();
    fs::copy(place.path().join("store"), crashed.path().join("store")).unwrap();
    for folder in [PARTITION, "registry"] {
        fs::create_dir(crashed.path().join(folder)).unwrap();
        for name in names(&place.path().join(folder), ".log") {
            let name = Path::new(folder).join(name);
            fs::copy(place.path().join(&name), crashed.path().join(&name)).unwrap();
        }
    }
    broker.shutdown().await;
    assert_eq!(
        (
            names(&place.path().join(PARTITION), ".checkpoint").len(),
            names(&crashed.path().join(PARTITION), ".checkpoint").len()
        ),
        (1, 0)
    );

    for place in [place, crashed] {
        let broker = start(place.path()).await;
        let stats = broker.queue(event(), WAREHOUSE).await.unwrap().unwrap();
        assert_eq!((stats.ready, stats.deferred, stats.dead), (2, 1, 1));
        let letters = broker.dead_letters(None, None, 9).await.unwrap();
        assert_eq!((letters[0].id.clone(), letters[0].reason.as_str()), (ids[1].clone(), "no"));
        let mut warehouse = consumer(&broker).await;
        for n in [3, 4] {
            let delivery = warehouse.inbox.next().await.unwrap();
            assert_eq!((&delivery.id, delivery.payload.as_str().unwrap()), (&ids[n], format!("b25{n}").as_str()));
            assert!(delivery.block > deliveries[n].block, "blocks of a later run are larger");
            settle(&broker, &warehouse.peer, &delivery, Settlement::Ack).await;
        }
        let replay = Command::Replay { id: ids[0].clone(), event: event() };
        let Reply::Replayed(replayed) = broker.handle(&warehouse.peer, replay).await.unwrap() else { panic!() };
        assert_eq!(replayed.payload.as_str().unwrap(), "b250");
        broker.shutdown().await;
        // The second start reads the checkpoint of the first, and what came after.
        let broker = start(place.path()).await;
        let stats = broker.queue(event(), WAREHOUSE).await.unwrap().unwrap();
        assert_eq!((stats.ready, stats.deferred, stats.dead), (0, 1, 1));
    }
}

/// Time is paused: a minute in which retention looks at the log passes at once.
#[tokio::test(start_paused = true)]
async fn the_log_is_dropped_but_for_what_waits() {
    let place = TempDir::new().unwrap();
    let broker = start(place.path()).await;
    provision(&broker).await;
    let shop = login(&broker, SHOP).await;
    let mut warehouse = consumer(&broker).await;
    let mut ids = Vec::new();
    for n in 0..200 {
        ids.push(publish(&broker, &shop.peer, format!("{n:0>4000}")).await);
        let delivery = warehouse.inbox.next().await.unwrap();
        match n {
            3 => settle(&broker, &warehouse.peer, &delivery, Settlement::Discard { reason: "later".into() }).await,
            // Left with the client.
            7 => (),
            _ => settle(&broker, &warehouse.peer, &delivery, Settlement::Ack).await,
        }
    }
    broker.shutdown().await;
    let before = names(&place.path().join(PARTITION), ".log").len();
    assert!(before > 10);

    let broker = start_with(place.path(), |options| options.retention.max_bytes = 200 << 10).await;
    let mut looked = 0;
    while names(&place.path().join(PARTITION), ".log").len() > 4 {
        looked += 1;
        assert!(looked < 100, "{:?}", names(&place.path().join(PARTITION), ".log"));
        tokio::time::sleep(Duration::from_secs(61)).await;
        // A disk takes its own time over what was looked for.
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(50))).await.unwrap();
    }
    broker.shutdown().await;

    let broker = start(place.path()).await;
    let mut warehouse = consumer(&broker).await;
    let delivery = warehouse.inbox.next().await.unwrap();
    assert_eq!((&delivery.id, delivery.payload.as_str().unwrap()), (&ids[7], format!("{:0>4000}", 7).as_str()));
    let letters = broker.dead_letters(None, None, 9).await.unwrap();
    assert_eq!((letters.len(), &letters[0].id), (1, &ids[3]));
    broker.requeue_dead_letter(ids[3].clone()).await.unwrap();
    assert_eq!(warehouse.inbox.next().await.unwrap().payload.as_str().unwrap(), format!("{:0>4000}", 3));
    let replay = |n: usize| broker.handle(&warehouse.peer, Command::Replay { id: ids[n].clone(), event: event() });
    assert_eq!(replay(1).await.unwrap_err().kind(), ErrorKind::NotFound, "dropped");
    assert!(replay(199).await.is_ok());
}

/// The system's clock, which somebody sets ahead.
#[derive(Debug)]
struct Ahead {
    days: AtomicU64,
    begun: tokio::time::Instant,
}

#[async_trait]
impl Clock for Ahead {
    fn wall(&self) -> Timestamp {
        let days = Duration::from_secs(24 * 3_600 * self.days.load(Ordering::SeqCst));
        Timestamp::now().after(days + self.begun.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_makes_nothing_old() {
    let place = TempDir::new().unwrap();
    let broker = start(place.path()).await;
    provision(&broker).await;
    let shop = login(&broker, SHOP).await;
    let mut warehouse = consumer(&broker).await;
    for n in 0..60 {
        publish(&broker, &shop.peer, format!("{n:0>4000}")).await;
        let delivery = warehouse.inbox.next().await.unwrap();
        settle(&broker, &warehouse.peer, &delivery, Settlement::Ack).await;
    }
    broker.shutdown().await;
    let before = names(&place.path().join(PARTITION), ".log");
    assert!(before.len() > 3);
    let clock = Arc::new(Ahead { days: AtomicU64::new(0), begun: tokio::time::Instant::now() });
    let broker = start_with(place.path(), |options| options.clock = clock.clone()).await;
    clock.days.store(30, Ordering::SeqCst);
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(61)).await;
        broker.sessions().await.unwrap();
    }
    assert!(names(&place.path().join(PARTITION), ".log").starts_with(&before), "what is kept for replays is there");
    // A week that passes does.
    clock.days.store(0, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(8 * 24 * 3_600)).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(61)).await;
        broker.sessions().await.unwrap();
    }
    assert!(names(&place.path().join(PARTITION), ".log").len() < before.len());
}

/// Who opens logs without knowing what is to be kept of them takes nothing away.
#[tokio::test(start_paused = true)]
async fn without_limits_nothing_is_too_old() {
    let place = TempDir::new().unwrap();
    let broker = start(place.path()).await;
    provision(&broker).await;
    let shop = login(&broker, SHOP).await;
    let mut warehouse = consumer(&broker).await;
    for n in 0..60 {
        publish(&broker, &shop.peer, format!("{n:0>4000}")).await;
        let delivery = warehouse.inbox.next().await.unwrap();
        let how = if n == 0 { Settlement::Discard { reason: "address".into() } } else { Settlement::Ack };
        settle(&broker, &warehouse.peer, &delivery, how).await;
    }
    broker.shutdown().await;
    let before = names(&place.path().join(PARTITION), ".log");
    assert!(before.len() > 3);
    let clock = Arc::new(Ahead { days: AtomicU64::new(400), begun: tokio::time::Instant::now() });
    for (retention, kept) in [(Retention::unlimited(), true), (Retention::default(), false)] {
        let change = |options: &mut BrokerOptions| (options.clock, options.retention) = (clock.clone(), retention);
        let broker = start_with(place.path(), change).await;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(61)).await;
            broker.sessions().await.unwrap();
        }
        assert_eq!(broker.dead_letters(None, None, 10).await.unwrap().len(), usize::from(kept));
        broker.shutdown().await;
        assert_eq!(names(&place.path().join(PARTITION), ".log").starts_with(&before), kept);
    }
}

/// What is wrong with one part is no reason to keep the others.
#[tokio::test(start_paused = true)]
async fn a_part_that_cannot_be_dropped_keeps_no_other() {
    let place = TempDir::new().unwrap();
    let broker = start(place.path()).await;
    provision(&broker).await;
    let shop = login(&broker, SHOP).await;
    let mut warehouse = consumer(&broker).await;
    for n in 0..200 {
        publish(&broker, &shop.peer, format!("{n:0>4000}")).await;
        let delivery = warehouse.inbox.next().await.unwrap();
        // The first part stays, for most of it waits; so what is dropped of the others is told by the part behind it.
        if n > 12 {
            settle(&broker, &warehouse.peer, &delivery, Settlement::Ack).await;
        }
    }
    broker.shutdown().await;
    let third = place.path().join(PARTITION).join("0000000003.log");
    let mut bytes = fs::read(&third).unwrap();
    bytes[64 + 30] ^= 1;
    fs::write(&third, bytes).unwrap();

    let broker = start_with(place.path(), |options| options.retention.max_bytes = 200 << 10).await;
    let size = |name: &String| fs::metadata(place.path().join(PARTITION).join(name)).unwrap().len();
    let used = || names(&place.path().join(PARTITION), ".log").iter().map(size).sum::<u64>();
    let before = used();
    assert!(before > 600 << 10, "{before}");
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(61)).await;
        broker.sessions().await.unwrap();
    }
    assert!(used() < 400 << 10, "{}", used());
    assert!(size(&"0000000002.log".to_owned()) > 0);
}

#[tokio::test]
async fn a_server_keeps_what_it_has_in_a_directory() {
    let place = TempDir::new().unwrap();
    let server = Server::dev().data_dir(place.path()).start().await.unwrap();
    let app = server.create_app("warehouse").await.unwrap();
    let error = Server::dev().data_dir(place.path()).start().await.unwrap_err();
    assert!(error.to_string().contains("in use by another engine"), "{error}");
    server.shutdown().await;

    let server = Server::builder().data_dir(place.path()).start().await.unwrap();
    let apps = server.broker().apps().await.unwrap();
    assert_eq!((apps.len(), apps[0].id, apps[0].name.as_str()), (1, app.app_id, "warehouse"));
}

async fn dead_letters_come(broker: &Broker) {
    let come = async {
        while broker.dead_letters(None, None, 10).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), come).await.unwrap();
}

/// Damage that a checkpoint covers keeps no engine from starting; the event that is lost is a dead letter that says so.
#[tokio::test]
async fn an_event_that_cannot_be_read_any_more_is_a_dead_letter_with_a_reason() {
    let place = TempDir::new().unwrap();
    let broker = start(place.path()).await;
    provision(&broker).await;
    let shop = login(&broker, SHOP).await;
    let lost = publish(&broker, &shop.peer, "bG9zdGxvc3Q=".into()).await;
    let kept = publish(&broker, &shop.peer, "a2VwdGtlcHQ=".into()).await;
    // The checkpoint is in a later segment: a start looks at all of the one that it is in.
    let mut fill = consumer(&broker).await;
    for _ in 0..2 {
        publish(&broker, &shop.peer, "A".repeat(60_000)).await;
    }
    for _ in 0..4 {
        let delivery = fill.inbox.next().await.unwrap();
        if delivery.id != lost && delivery.id != kept {
            settle(&broker, &fill.peer, &delivery, Settlement::Ack).await;
        }
    }
    broker.shutdown().await;
    assert!(names(&place.path().join(PARTITION), ".log").len() > 1);
    let path = place.path().join(PARTITION).join("0000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(12).position(|part| part == b"bG9zdGxvc3Q=").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();

    let broker = start(place.path()).await;
    let mut warehouse = consumer(&broker).await;
    assert_eq!(warehouse.inbox.next().await.unwrap().id, kept, "what comes after it is not held up");
    dead_letters_come(&broker).await;
    let dead = broker.dead_letters(None, None, 10).await.unwrap();
    let told: Vec<_> = dead.iter().map(|letter| (&letter.id, letter.reason.as_str())).collect();
    assert_eq!(told, [(&lost, "the log is damaged where this event was stored")]);
    let stats = broker.queue(event(), WAREHOUSE).await.unwrap().unwrap();
    assert_eq!((stats.ready, stats.in_flight, stats.dead), (0, 1, 1));
    // It stays one, also over a restart, and goes as others do.
    broker.shutdown().await;
    let broker = start(place.path()).await;
    assert_eq!(broker.dead_letters(None, None, 10).await.unwrap(), dead);
    broker.requeue_dead_letter(lost.clone()).await.unwrap();
    // It is read by whoever takes what comes.
    let mut warehouse = consumer(&broker).await;
    assert_eq!(warehouse.inbox.next().await.unwrap().id, kept);
    dead_letters_come(&broker).await;
    broker.drop_dead_letter(lost).await.unwrap();
    assert!(broker.dead_letters(None, None, 10).await.unwrap().is_empty());
}
