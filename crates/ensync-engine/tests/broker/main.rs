//! The broker over a log in memory, with paused time.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a panic here is a failed test")]

mod ends;
mod failing;
mod fair;
mod hanging;
mod partitions;
mod time;
mod together;

use std::num::NonZeroU32;
use std::pin::pin;
use std::time::Duration;

use ensync_core::{
    AppId, AppKey, Command, Delay, Delivery, ErrorKind, EventName, Extension, IdempotencyKey, Login, Metadata, Peer,
    Publish, Reply, Result, Service, Session, Settle, Settlement, Subscribe, WirePayload,
};
use ensync_engine::{Broker, BrokerOptions, EventOptions, Logs, MemoryLog, Rights};
use futures::{FutureExt, StreamExt};

const SHOP: AppId = AppId::from_bytes([6; 32]);
const WAREHOUSE: AppId = AppId::from_bytes([25; 32]);

fn event() -> EventName {
    EventName::parse("orders/status/updated").unwrap()
}

fn key(app: AppId) -> AppKey {
    AppKey::parse(&format!("key-{}", app.as_bytes()[0])).unwrap()
}

async fn start(logs: impl Into<Logs>) -> Broker {
    // Nothing is kept beside the log, so that it is the log that is read.
    let options = BrokerOptions { recent_bytes: 0, ..BrokerOptions::dev() };
    Broker::start(options, logs).await.unwrap()
}

/// A broker with two apps.
async fn broker() -> Broker {
    let broker = start(MemoryLog::new()).await;
    create_apps(&broker).await;
    broker
}

async fn create_apps(broker: &Broker) {
    for (name, app) in [("shop", SHOP), ("warehouse", WAREHOUSE)] {
        broker.create_app_with_key(name, app, &key(app)).await.unwrap();
    }
}

async fn login(broker: &Broker, app: AppId) -> Session {
    broker.login(Login { app_key: key(app), transport: "local", remote: None }).await.unwrap()
}

async fn consumer(broker: &Broker, max_in_flight: Option<u32>) -> Session {
    let session = login(broker, WAREHOUSE).await;
    let max_in_flight = max_in_flight.and_then(NonZeroU32::new);
    let subscribe = Command::Subscribe(Subscribe { event: event(), max_in_flight, max_bytes_in_flight: None });
    assert_eq!(broker.handle(&session.peer, subscribe).await.unwrap(), Reply::Done);
    session
}

fn publish(text: &str) -> Publish {
    Publish {
        event: event(),
        recipient: WAREHOUSE,
        payload: WirePayload::from_wire(text.to_owned()),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: None,
    }
}

async fn send(broker: &Broker, peer: &Peer, text: &str) -> Result<Reply> {
    broker.handle(peer, Command::Publish(publish(text))).await
}

async fn settle(broker: &Broker, peer: &Peer, delivery: &Delivery, how: Settlement) -> Result<Reply> {
    let settle = Settle { id: delivery.id.clone(), event: None, block: Some(delivery.block), how };
    broker.handle(peer, Command::Settle(settle)).await
}

/// What is in the inbox once the broker has nothing more to do: it answers in order, so an answered question is the proof.
async fn waiting(broker: &Broker, session: &mut Session) -> Vec<Delivery> {
    broker.handle(&session.peer, Command::Heartbeat).await.unwrap();
    broker.handle(&session.peer, Command::Heartbeat).await.unwrap();
    std::iter::from_fn(|| session.inbox.next().now_or_never().flatten()).collect()
}

#[tokio::test(start_paused = true)]
async fn consumers_compete() {
    let broker = broker().await;
    let shop = login(&broker, SHOP).await;
    let mut consumers = [consumer(&broker, None).await, consumer(&broker, None).await];
    let publishes = (0..10).map(|_| send(&broker, &shop.peer, "b25l"));
    assert!(futures::future::join_all(publishes).await.iter().all(Result::is_ok));
    let mut ids = Vec::new();
    for consumer in &mut consumers {
        let found = waiting(&broker, consumer).await;
        assert_eq!(found.len(), 5);
        ids.extend(found.into_iter().map(|delivery| delivery.id));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_lease_runs_out_and_the_event_comes_again() {
    let broker = broker().await;
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    send(&broker, &shop.peer, "b25l").await.unwrap();
    let first = warehouse.inbox.next().await.unwrap();
    let before = tokio::time::Instant::now();
    let second = warehouse.inbox.next().await.unwrap();
    assert_eq!((second.id.clone(), second.attempt), (first.id.clone(), Some(2)));
    assert_eq!(before.elapsed().as_secs(), 60);
    let error = settle(&broker, &warehouse.peer, &first, Settlement::Ack).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StaleDelivery);
    settle(&broker, &warehouse.peer, &second, Settlement::Ack).await.unwrap();
    let stats = broker.queue(event(), WAREHOUSE).await.unwrap().unwrap();
    assert_eq!((stats.ready, stats.in_flight, stats.counters.acked), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_deferred_event_comes_in_its_time() {
    let broker = broker().await;
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    send(&broker, &shop.peer, "b25l").await.unwrap();
    let delivery = warehouse.inbox.next().await.unwrap();
    let how = Settlement::Defer { delay: Delay::from_millis(3_600_000).unwrap(), priority: 0, reason: String::new() };
    let before = tokio::time::Instant::now();
    let reply = settle(&broker, &warehouse.peer, &delivery, how).await.unwrap();
    let until = delivery.timestamp.unwrap().after(Duration::from_secs(3_600));
    assert!(matches!(reply, Reply::Deferred { until: Some(at) } if at >= until));
    assert_eq!(warehouse.inbox.next().await.unwrap().attempt, Some(2));
    assert_eq!(before.elapsed().as_secs(), 3_600);
}

#[tokio::test(start_paused = true)]
async fn a_logout_hands_back_what_was_unsettled() {
    let broker = broker().await;
    let (shop, mut one) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    send(&broker, &shop.peer, "b25l").await.unwrap();
    one.inbox.next().await.unwrap();
    let mut two = consumer(&broker, None).await;
    broker.logout(&one.peer).await;
    assert_eq!(two.inbox.next().await.unwrap().attempt, Some(2));
    assert!(one.inbox.next().await.is_none());
    let error = broker.handle(&one.peer, Command::Heartbeat).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    broker.logout(&one.peer).await;
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_was_let_go_ends_its_session_at_the_first_delivery() {
    let broker = broker().await;
    let (shop, one) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    drop(one.inbox);
    send(&broker, &shop.peer, "b25l").await.unwrap();
    let mut two = consumer(&broker, None).await;
    assert_eq!(two.inbox.next().await.unwrap().attempt, Some(1), "nobody has seen it");
}

#[tokio::test(start_paused = true)]
async fn the_inbox_never_holds_more_than_the_window() {
    let broker = broker().await;
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, Some(3)).await);
    for _ in 0..10 {
        send(&broker, &shop.peer, "b25l").await.unwrap();
    }
    let mut seen = 0;
    while seen < 10 {
        let found = waiting(&broker, &mut warehouse).await;
        assert!((1..=3).contains(&found.len()));
        seen += found.len();
        for delivery in found {
            settle(&broker, &warehouse.peer, &delivery, Settlement::Ack).await.unwrap();
        }
    }
    assert_eq!(waiting(&broker, &mut warehouse).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_login_needs_a_key_and_gets_an_id_of_its_own() {
    let broker = broker().await;
    let login = |app_key| broker.login(Login { app_key, transport: "local", remote: None });
    let error = login(AppKey::parse("guessed").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(!error.to_string().contains("guessed"));
    let (one, two) = (login(key(SHOP)).await.unwrap(), login(key(SHOP)).await.unwrap());
    assert_eq!((one.peer.app_id, one.welcome.app_id), (SHOP, Some(SHOP)));
    assert_ne!(one.peer.client_id, two.peer.client_id);
    // 256 bits in base64.
    let random = one.peer.client_id.expose().strip_prefix(ensync_core::ClientId::PREFIX).unwrap();
    assert_eq!(random.len(), 43);
    assert_eq!(one.welcome.client_id, one.peer.client_id);
    assert!(Extension::ALL.iter().all(|&extension| one.welcome.config.has(extension)));
    assert_eq!(one.welcome.config.max_payload_bytes(), Some(4 << 20));
    assert_eq!(broker.sessions().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn app_keys_are_made_once_and_differ() {
    let broker = start(MemoryLog::new()).await;
    let one = broker.create_app("one", SHOP).await.unwrap();
    let two = broker.create_app("two", WAREHOUSE).await.unwrap();
    assert!(one.expose().starts_with("ensync_key_") && one.expose().len() == 54);
    assert_ne!(one, two);
    broker.login(Login { app_key: one, transport: "local", remote: None }).await.unwrap();
    assert_eq!(broker.create_app("again", SHOP).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(broker.apps().await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn everything_survives_a_restart_but_sessions() {
    let log = MemoryLog::new();
    let broker = start(log.clone()).await;
    create_apps(&broker).await;
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    let keyed = Publish { idempotency_key: IdempotencyKey::parse("k").ok(), ..publish("b25l") };
    let first = broker.handle(&shop.peer, Command::Publish(keyed.clone())).await.unwrap();
    send(&broker, &shop.peer, "dHdv").await.unwrap();
    let [one, _] = waiting(&broker, &mut warehouse).await.try_into().unwrap();
    settle(&broker, &warehouse.peer, &one, Settlement::Ack).await.unwrap();
    broker.shutdown().await;

    let broker = start(log.reopen()).await;
    let error = broker.handle(&shop.peer, Command::Heartbeat).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    assert_eq!(broker.handle(&shop.peer, Command::Publish(keyed)).await.unwrap(), first);
    let found = waiting(&broker, &mut warehouse).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].payload.as_str().unwrap(), "dHdv");
    let replay = Command::Replay { id: one.id, event: event() };
    let Reply::Replayed(replayed) = broker.handle(&warehouse.peer, replay).await.unwrap() else { panic!() };
    assert_eq!(
        (replayed.payload.as_str().unwrap(), replayed.metadata.replay_info().unwrap().is_replayed),
        ("b25l", true)
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_finishes_what_waits_and_ends_every_inbox() {
    let broker = broker().await;
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    let publishes: Vec<_> = (0..20).map(|_| send(&broker, &shop.peer, "b25l")).collect();
    let publishes = futures::future::join_all(publishes);
    let mut publishes = pin!(publishes);
    // All are on their way before the shutdown is.
    assert!(publishes.as_mut().now_or_never().is_none());
    let (answers, ()) = futures::join!(publishes, broker.shutdown());
    assert!(answers.iter().all(Result::is_ok));
    // They wait for the next start: nobody could settle them now.
    assert_eq!(warehouse.inbox.by_ref().count().await, 0);

    for error in [
        send(&broker, &shop.peer, "b25l").await.map(drop).unwrap_err(),
        broker.login(Login { app_key: key(SHOP), transport: "local", remote: None }).await.map(drop).unwrap_err(),
        broker.queues().await.map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    broker.logout(&shop.peer).await;
    broker.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_broker_ends_with_its_last_handle() {
    let broker = broker().await;
    let mut warehouse = consumer(&broker, None).await;
    drop(broker);
    assert!(warehouse.inbox.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn provisioning_goes_through_the_log() {
    let log = MemoryLog::new();
    let broker = Broker::start(BrokerOptions::default(), log.clone()).await.unwrap();
    create_apps(&broker).await;
    let shop = login(&broker, SHOP).await;
    assert_eq!(send(&broker, &shop.peer, "b25l").await.unwrap_err().kind(), ErrorKind::UnknownEvent);
    let options = EventOptions { ttl: Some(Duration::from_secs(60)), ..EventOptions::default() };
    broker.register_event(event(), options.clone()).await.unwrap();
    send(&broker, &shop.peer, "b25l").await.unwrap();
    broker.grant(SHOP, Some(event()), Rights::NONE).await.unwrap();
    assert_eq!(send(&broker, &shop.peer, "b25l").await.unwrap_err().kind(), ErrorKind::Forbidden);
    broker.shutdown().await;

    let broker = Broker::start(BrokerOptions::default(), log.reopen()).await.unwrap();
    assert_eq!(broker.events().await.unwrap(), [(event(), options)]);
    assert_eq!(broker.apps().await.unwrap()[0].grants, [(event(), Rights::NONE)]);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_listed_put_back_and_given_up() {
    let broker = broker().await;
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    send(&broker, &shop.peer, "b25l").await.unwrap();
    for _ in 0..2 {
        let delivery = warehouse.inbox.next().await.unwrap();
        assert_eq!(delivery.attempt, Some(1));
        let how = Settlement::Discard { reason: "no".into() };
        settle(&broker, &warehouse.peer, &delivery, how).await.unwrap();
        let letters = broker.dead_letters(Some(event()), Some(WAREHOUSE), 10).await.unwrap();
        assert_eq!((letters.len(), letters[0].reason.as_str(), &letters[0].id), (1, "no", &delivery.id));
        broker.requeue_dead_letter(delivery.id).await.unwrap();
    }
    let delivery = warehouse.inbox.next().await.unwrap();
    let how = Settlement::Discard { reason: "no".into() };
    settle(&broker, &warehouse.peer, &delivery, how).await.unwrap();
    broker.drop_dead_letter(delivery.id.clone()).await.unwrap();
    assert_eq!(broker.drop_dead_letter(delivery.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(broker.dead_letters(None, None, 10).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_disturbs_nobody() {
    let broker = broker().await;
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    // Polled once: the command is on its way, the answer goes nowhere.
    assert!(send(&broker, &shop.peer, "b25l").now_or_never().is_none());
    assert_eq!(warehouse.inbox.next().await.unwrap().payload.as_str().unwrap(), "b25l");
    assert_eq!(broker.sessions().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn large_events_fill_the_window_by_their_bytes() {
    let broker = broker().await;
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    let text = "A".repeat(3 << 20);
    let publishes = (0..8).map(|_| send(&broker, &shop.peer, &text));
    assert!(futures::future::join_all(publishes).await.iter().all(Result::is_ok));
    // Two fit in the window of 8 MiB.
    assert_eq!(waiting(&broker, &mut warehouse).await.len(), 2);
    let error = send(&broker, &shop.peer, &"A".repeat((4 << 20) + 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PayloadTooLarge);
}
