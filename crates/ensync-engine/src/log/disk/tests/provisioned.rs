//! What administrators did, as the tools from outside see it.

use ensync_core::{AppId, Command, EventName, IdempotencyKey, Login, Metadata, Publish, Reply, Service, WirePayload};

use super::*;
use crate::model::{AdminCommand, EventOptions, Rights};
use crate::store::{assess, repair, verify};
use crate::testing::ManualClock;
use crate::{Broker, BrokerOptions, Logs};

const SHOP: AppId = AppId::from_bytes([6; 32]);
const STORE: AppId = AppId::from_bytes([25; 32]);
const GONE: AppId = AppId::from_bytes([26; 32]);

async fn start(place: &Place, clock: &ManualClock) -> Broker {
    let options = BrokerOptions { clock: Arc::new(clock.clone()), ..BrokerOptions::default() };
    Broker::start(options, Logs::open(place.path(), super::options()).await.unwrap()).await.unwrap()
}

async fn publish(broker: &Broker, key: &ensync_core::AppKey, to: AppId, event: &EventName, idempotency_key: &str) {
    let session = broker.login(Login { app_key: key.clone(), transport: "local", remote: None }).await.unwrap();
    let publish = Publish {
        event: event.clone(),
        recipient: to,
        payload: WirePayload::from_wire("cGF5bG9hZA==".to_owned()),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: Some(IdempotencyKey::parse(idempotency_key).unwrap()),
    };
    let reply = broker.handle(&session.peer, Command::Publish(publish)).await.unwrap();
    assert!(matches!(reply, Reply::Published { .. }));
    broker.logout(&session.peer).await;
}

/// Apps, names and events come, change and go, with a checkpoint after each of three runs.
async fn lived(place: &Place) {
    let clock = ManualClock::new();
    let [paid, gone] = ["orders/paid", "orders/gone"].map(|name| EventName::parse(name).unwrap());
    let broker = start(place, &clock).await;
    let first = broker.create_app("shop", SHOP).await.unwrap();
    broker.create_app("store", STORE).await.unwrap();
    broker.create_app("gone", GONE).await.unwrap();
    for name in [&paid, &gone] {
        broker.register_event(name.clone(), EventOptions::default()).await.unwrap();
    }
    publish(&broker, &first, STORE, &paid, "one").await;
    publish(&broker, &first, GONE, &paid, "three").await;
    broker.grant(STORE, Some(paid.clone()), Rights { publish: false, subscribe: true }).await.unwrap();
    let second = broker.rotate_key(SHOP, Duration::from_secs(60)).await.unwrap();
    broker.shutdown().await;

    // The first key ends, and nothing in the log says so.
    clock.advance(Duration::from_secs(200));
    let broker = start(place, &clock).await;
    publish(&broker, &second, STORE, &paid, "one").await;
    broker.rotate_key_pair(STORE, AppId::from_bytes([53; 32])).await.unwrap();
    broker.retire_key(STORE, STORE).await.unwrap();
    assert_eq!(broker.delete_event(paid.clone()).await.unwrap_err().kind(), ErrorKind::Conflict);
    broker.delete_event(gone).await.unwrap();
    broker.delete_app(GONE).await.unwrap();
    broker.shutdown().await;

    let broker = start(place, &clock).await;
    broker.enable_app(SHOP, false).await.unwrap();
    broker.revoke(STORE, paid).await.unwrap();
    broker.shutdown().await;
}

#[tokio::test]
async fn a_provisioned_directory_is_sound() {
    let place = Place::new();
    lived(&place).await;
    let report = verify(place.path()).await.unwrap();
    assert_eq!(report.damage, []);
    // Both checkpoints of each log.
    assert_eq!((report.compared, report.unsettled, report.dead), (4, 2, 0));
}

#[tokio::test]
async fn a_lost_app_costs_its_events_and_that_is_said() {
    let place = Place::new();
    let clock = ManualClock::new();
    let paid = EventName::parse("orders/paid").unwrap();
    let broker = start(&place, &clock).await;
    let key = broker.create_app("shop", SHOP).await.unwrap();
    broker.register_event(paid.clone(), EventOptions::default()).await.unwrap();
    broker.create_app("store", STORE).await.unwrap();
    publish(&broker, &key, STORE, &paid, "one").await;
    publish(&broker, &key, STORE, &paid, "two").await;
    broker.shutdown().await;
    for path in place.files_below().into_keys().filter(|path| path.extension() == Some("checkpoint".as_ref())) {
        fs::remove_file(path).unwrap();
    }
    let registry = place.path().join("registry");
    let log = DiskLog::open(&registry, options()).await.unwrap();
    let all = scanned(&log, Position::START).await;
    drop(log);
    let app = |record: &Record| matches!(record, Record::Admin { command: AdminCommand::CreateApp { id, .. }, .. } if *id == STORE);
    let (at, _) = all.iter().find(|(_, record)| app(record)).unwrap();
    let (segment, offset) = split(*at);
    place.alter(&registry.join(format!("{segment:010}.log")), |bytes| bytes[offset as usize + 30] ^= 1);
    let assessment = assess(place.path()).await.unwrap();
    let lost: Vec<_> =
        assessment.events.iter().map(|lost| (lost.recipient, lost.event.clone(), lost.waiting)).collect();
    assert_eq!(lost, [(STORE, paid, 2)], "{assessment:?}");
    // A repair that was interrupted after the registry: what that knows of it now is no damage any more.
    crate::store::one::repair(&registry).await.unwrap();
    assert_eq!(assess(place.path()).await.unwrap().events, assessment.events);
    assert_eq!(repair(place.path()).await.unwrap().events, assessment.events);
    assert_eq!(assess(place.path()).await.unwrap().damage, []);
}

#[tokio::test]
async fn a_registry_that_lost_its_beginning_costs_what_waits_and_that_is_said() {
    let place = Place::new();
    let paid = EventName::parse("orders/paid").unwrap();
    let broker = start(&place, &ManualClock::new()).await;
    let key = broker.create_app("shop", SHOP).await.unwrap();
    broker.register_event(paid.clone(), EventOptions::default()).await.unwrap();
    publish(&broker, &key, SHOP, &paid, "one").await;
    // More than a segment of it, of which the first is dropped with the checkpoint.
    for n in 0..400 {
        let name = EventName::parse(&format!("{}/{n}", "a".repeat(200))).unwrap();
        broker.register_event(name, EventOptions::default()).await.unwrap();
    }
    broker.shutdown().await;
    let registry = place.path().join("registry");
    assert!(!registry.join("0000000001.log").exists());
    for path in place.files_below().into_keys().filter(|path| path.starts_with(&registry)) {
        if path.extension() == Some("checkpoint".as_ref()) {
            place.alter(&path, |bytes| bytes[70] ^= 1);
        }
    }
    let assessment = assess(place.path()).await.unwrap();
    let lost: Vec<_> = assessment.events.iter().map(|lost| (lost.recipient, lost.waiting)).collect();
    assert!(assessment.beginning && lost == [(SHOP, 1)], "{assessment:?}");
}

/// A copy of it from before an app was made has the same id.
#[tokio::test]
async fn a_registry_that_is_older_than_what_waits_is_refused_and_costs_nothing() {
    let place = Place::new();
    let clock = ManualClock::new();
    let paid = EventName::parse("orders/paid").unwrap();
    let broker = start(&place, &clock).await;
    let key = broker.create_app("shop", SHOP).await.unwrap();
    broker.register_event(paid.clone(), EventOptions::default()).await.unwrap();
    broker.create_app("gone", GONE).await.unwrap();
    broker.shutdown().await;
    let (registry, before) = (place.path().join("registry"), place.path().join("before"));
    fs::create_dir(&before).unwrap();
    for file in fs::read_dir(&registry).unwrap().map(|file| file.unwrap()) {
        fs::copy(file.path(), before.join(file.file_name())).unwrap();
    }
    let broker = start(&place, &clock).await;
    broker.create_app("store", STORE).await.unwrap();
    publish(&broker, &key, STORE, &paid, "one").await;
    publish(&broker, &key, SHOP, &paid, "two").await;
    // What goes with an app that was deleted is nobody's loss.
    publish(&broker, &key, GONE, &paid, "three").await;
    broker.delete_app(GONE).await.unwrap();
    broker.shutdown().await;
    let right = place.path().join("right");
    fs::rename(&registry, &right).unwrap();
    fs::rename(&before, &registry).unwrap();
    let damage = verify(place.path()).await.unwrap().damage;
    assert!(damage.iter().any(|damage| damage.to_string().contains("neither knows nor deleted")), "{damage:?}");
    let lost: Vec<_> =
        assess(place.path()).await.unwrap().events.iter().map(|lost| (lost.recipient, lost.waiting)).collect();
    assert_eq!(lost, [(STORE, 1)]);
    for _ in 0..2 {
        let options = BrokerOptions { clock: Arc::new(clock.clone()), ..BrokerOptions::default() };
        let logs = Logs::open(place.path(), super::options()).await.unwrap();
        let error = Broker::start(options, logs.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("1 events wait in partition 0 for 1 apps"), "{error}");
        for log in logs.all() {
            log.close().await;
        }
    }
    fs::rename(&registry, &before).unwrap();
    fs::rename(&right, &registry).unwrap();
    let broker = start(&place, &clock).await;
    assert_eq!(broker.queue(paid.clone(), STORE).await.unwrap().unwrap().ready, 1);
    broker.shutdown().await;
    assert_eq!(verify(place.path()).await.unwrap().damage, []);
    // Without the right one it goes on, once somebody has said so.
    fs::rename(&registry, &right).unwrap();
    fs::rename(&before, &registry).unwrap();
    assert_eq!(repair(place.path()).await.unwrap().events.len(), 1);
    let broker = start(&place, &clock).await;
    assert_eq!(broker.queues().await.unwrap().iter().map(|queue| queue.ready).sum::<usize>(), 1);
}

/// What is over by the time of the start is nobody's loss, and no tool would find it.
#[tokio::test]
async fn what_has_expired_for_an_app_that_nobody_knows_keeps_no_engine_from_starting() {
    let place = Place::new();
    let clock = ManualClock::new();
    let short = EventName::parse("orders/short").unwrap();
    let broker = start(&place, &clock).await;
    let key = broker.create_app("shop", SHOP).await.unwrap();
    let ttl = Some(Duration::from_secs(60));
    broker.register_event(short.clone(), EventOptions { ttl, ..EventOptions::default() }).await.unwrap();
    broker.shutdown().await;
    let (registry, before) = (place.path().join("registry"), place.path().join("before"));
    fs::create_dir(&before).unwrap();
    for file in fs::read_dir(&registry).unwrap().map(|file| file.unwrap()) {
        fs::copy(file.path(), before.join(file.file_name())).unwrap();
    }
    let broker = start(&place, &clock).await;
    broker.create_app("store", STORE).await.unwrap();
    publish(&broker, &key, STORE, &short, "one").await;
    broker.shutdown().await;
    fs::remove_dir_all(&registry).unwrap();
    fs::rename(&before, &registry).unwrap();
    let options = BrokerOptions { clock: Arc::new(clock.clone()), ..BrokerOptions::default() };
    let logs = Logs::open(place.path(), super::options()).await.unwrap();
    Broker::start(options, logs.clone()).await.unwrap_err();
    for log in logs.all() {
        log.close().await;
    }
    clock.advance(Duration::from_secs(120));
    let broker = start(&place, &clock).await;
    assert_eq!(broker.queues().await.unwrap().iter().map(|queue| queue.ready).sum::<usize>(), 0);
    broker.shutdown().await;
}
