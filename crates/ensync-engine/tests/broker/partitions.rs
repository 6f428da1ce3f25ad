//! Several partitions: each app's queues are in one, and nobody needs to know.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::{
    AppId, Command, Delivery, ErrorKind, EventId, Metadata, Publish, Reply, Result, Service, Session, Settlement,
    Subscribe, Timestamp,
};
use ensync_engine::model::{AdminCommand, Encoded, Position, Record};
use ensync_engine::{Broker, BrokerOptions, EventOptions, Log, Logs, MemoryLog, Rights};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;

use super::{SHOP, WAREHOUSE, consumer, create_apps, event, key, login, publish, send, settle, start, waiting};

const FOUR: NonZeroU32 = NonZeroU32::new(4).unwrap();
pub(super) const TWO: NonZeroU32 = NonZeroU32::new(2).unwrap();

/// Apps of which each partition of four has some.
fn apps() -> [AppId; 12] {
    [26, 29, 53, 76, 123, 129, 131, 143, 151, 167, 214, 226].map(|n| AppId::from_bytes([n; 32]))
}

async fn publish_to(broker: &Broker, from: &Session, recipient: AppId) -> EventId {
    let publish = Publish { recipient, ..publish("b25l") };
    match broker.handle(&from.peer, Command::Publish(publish)).await.unwrap() {
        Reply::Published { id } => id,
        other => panic!("{other:?}"),
    }
}

pub(super) async fn reader(broker: &Broker, app: AppId) -> Session {
    let session = login(broker, app).await;
    let subscribe = Subscribe { event: event(), max_in_flight: None, max_bytes_in_flight: None };
    broker.handle(&session.peer, Command::Subscribe(subscribe)).await.unwrap();
    session
}

#[tokio::test(start_paused = true)]
async fn each_app_has_its_events_and_administrators_see_all_of_them() {
    let log = MemoryLog::with_partitions(FOUR);
    let mut broker = start(log.clone()).await;
    create_apps(&broker).await;
    for app in apps() {
        let name = format!("app {}", app.as_bytes()[0]);
        broker.create_app_with_key(&name, app, &key(app)).await.unwrap();
    }
    let shop = login(&broker, SHOP).await;
    let mut ids = BTreeSet::new();
    for app in apps() {
        for _ in 0..3 {
            assert!(ids.insert(publish_to(&broker, &shop, app).await), "an id twice");
        }
    }
    let logs = Logs::from(log.clone());
    for partition in logs.partitions() {
        let records = partition.scan(Position::START).count().await;
        assert!(records >= 3 && records.is_multiple_of(3), "{records}");
    }
    let stats = broker.queues().await.unwrap();
    assert_eq!((stats.len(), stats.iter().map(|queue| queue.ready).sum::<usize>()), (12, 36));

    for app in apps() {
        let mut reader = reader(&broker, app).await;
        let [ack, discard, again]: [Delivery; 3] = waiting(&broker, &mut reader).await.try_into().unwrap();
        settle(&broker, &reader.peer, &ack, Settlement::Ack).await.unwrap();
        settle(&broker, &reader.peer, &discard, Settlement::Discard { reason: "no".into() }).await.unwrap();
        settle(&broker, &reader.peer, &again, Settlement::Rollback).await.unwrap();
        let replay = Command::Replay { id: ack.id, event: event() };
        assert!(matches!(broker.handle(&reader.peer, replay).await, Ok(Reply::Replayed(_))));
        broker.logout(&reader.peer).await;
    }
    // What is another partition's is as little an app's as what is its neighbour's.
    let (mine, mut other) = (reader(&broker, apps()[0]).await, reader(&broker, apps()[1]).await);
    let [delivery]: [Delivery; 1] = waiting(&broker, &mut other).await.try_into().unwrap();
    let error = settle(&broker, &mine.peer, &delivery, Settlement::Ack).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);

    for restart in [false, true] {
        if restart {
            broker.shutdown().await;
            broker = start(log.reopen()).await;
        }
        let letters = broker.dead_letters(None, None, 100).await.unwrap();
        let recipients: BTreeSet<_> = letters.iter().map(|letter| letter.recipient).collect();
        assert_eq!((letters.len(), recipients.len()), (12, 12));
        assert_eq!(broker.dead_letters(None, None, 7).await.unwrap(), letters[..7]);
        let [one] = &broker.dead_letters(None, Some(apps()[5]), 100).await.unwrap()[..] else { panic!() };
        assert_eq!(one.recipient, apps()[5]);
        assert_eq!(broker.sessions().await.unwrap(), if restart { 0 } else { 3 });
    }
    let letters = broker.dead_letters(None, None, 100).await.unwrap();
    broker.requeue_dead_letter(letters[0].id.clone()).await.unwrap();
    broker.drop_dead_letter(letters[11].id.clone()).await.unwrap();
    assert_eq!(broker.drop_dead_letters(Some(event()), None).await.unwrap(), 10);
    let stats = broker.queues().await.unwrap();
    assert_eq!(
        stats.iter().map(|queue| (queue.ready, queue.dead)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (13, 0)
    );
    let text = broker.metrics().await.unwrap();
    assert!(text.contains("ensync_queues 12") && text.contains("ensync_ready 1"), "{text}");
}

/// A partition's log that takes nothing while it is held.
#[derive(Debug)]
pub(super) struct Held(pub(super) Arc<dyn Log>, pub(super) watch::Receiver<bool>);

#[async_trait]
impl Log for Held {
    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        self.1.clone().wait_for(|held| !held).await.unwrap();
        self.0.append(batch).await
    }

    async fn read(&self, at: Position) -> Result<Option<Bytes>> {
        self.0.read(at).await
    }

    fn scan(&self, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>> {
        self.0.scan(from)
    }

    async fn drop_range(&self, from: Position, to: Position) -> Result<()> {
        self.0.drop_range(from, to).await
    }
}

/// A broker of two partitions. The log of the first, which has the warehouse's queues and not the shop's, can be held.
pub(super) async fn broker_with_held() -> (Broker, watch::Sender<bool>) {
    let (hold, held) = watch::channel(false);
    let logs = Logs::from(MemoryLog::with_partitions(TWO));
    let [first, second] = logs.partitions() else { panic!() };
    let held = Arc::new(Held(first.clone(), held));
    let logs = Logs::new(logs.registry().clone(), vec![held, second.clone()]);
    let broker = Broker::start(BrokerOptions::dev(), logs).await.unwrap();
    create_apps(&broker).await;
    broker.register_event(event(), EventOptions::default()).await.unwrap();
    (broker, hold)
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_disk_hangs_holds_up_no_other() {
    let (broker, hold) = broker_with_held().await;
    let (mut shop, warehouse) = (reader(&broker, SHOP).await, consumer(&broker, None).await);
    hold.send_replace(true);
    let mut stuck = std::pin::pin!(send(&broker, &shop.peer, "b25l"));
    assert!(stuck.as_mut().now_or_never().is_none());
    for _ in 0..10 {
        let within = Duration::from_millis(1);
        let sent = tokio::time::timeout(within, publish_to(&broker, &warehouse, SHOP)).await.expect("it is answered");
        let delivery = tokio::time::timeout(within, shop.inbox.next()).await.expect("it is delivered").unwrap();
        assert_eq!(delivery.id, sent);
        let acked = settle(&broker, &shop.peer, &delivery, Settlement::Ack);
        tokio::time::timeout(within, acked).await.expect("it is acknowledged").unwrap();
    }
    assert!(stuck.as_mut().now_or_never().is_none());
    hold.send_replace(false);
    stuck.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_under_rights_that_are_gone_is_stored_before_their_end_is_answered() {
    let (broker, hold) = broker_with_held().await;
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    hold.send_replace(true);
    let mut before = std::pin::pin!(send(&broker, &shop.peer, "b25l"));
    assert!(before.as_mut().now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut after = std::pin::pin!(send(&broker, &shop.peer, "dHdv"));
    assert!(after.as_mut().now_or_never().is_none());
    let mut revoke = std::pin::pin!(broker.grant(SHOP, None, Rights::NONE));
    assert!(tokio::time::timeout(Duration::from_secs(9), revoke.as_mut()).await.is_err(), "it waits for the first");
    hold.send_replace(false);
    revoke.await.unwrap();
    // The first was decided, and is stored. The other waited for its turn, and had no right to it then.
    assert!(before.now_or_never().expect("it was answered before").is_ok());
    assert_eq!(after.await.unwrap_err().kind(), ErrorKind::Forbidden);
    let texts: Vec<_> = waiting(&broker, &mut warehouse).await.iter().map(|event| event.payload.clone()).collect();
    assert_eq!(texts.len(), 1);
    assert_eq!(send(&broker, &shop.peer, "b25l").await.unwrap_err().kind(), ErrorKind::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_about_to_go_is_used_by_nobody_meanwhile() {
    let (broker, hold) = broker_with_held().await;
    let (shop, warehouse) = (login(&broker, SHOP).await, login(&broker, WAREHOUSE).await);
    hold.send_replace(true);
    let mut stuck = std::pin::pin!(send(&broker, &shop.peer, "b25l"));
    assert!(stuck.as_mut().now_or_never().is_none());
    let mut delete = std::pin::pin!(broker.delete_event(event()));
    assert!(tokio::time::timeout(Duration::from_millis(9), delete.as_mut()).await.is_err());
    let publish = Command::Publish(Publish { recipient: SHOP, ..publish("b25l") });
    let error = broker.handle(&warehouse.peer, publish).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error}");
    hold.send_replace(false);
    // Something is under it in one of the partitions: it stays, and goes on.
    stuck.await.unwrap();
    assert_eq!(delete.await.unwrap_err().kind(), ErrorKind::Conflict);
    publish_to(&broker, &warehouse, SHOP).await;
}

/// It is not kept from everybody for as long as one disk hangs.
#[tokio::test(start_paused = true)]
async fn a_name_is_used_again_if_nobody_can_tell_what_is_under_it() {
    let (broker, hold) = broker_with_held().await;
    let (shop, warehouse) = (login(&broker, SHOP).await, login(&broker, WAREHOUSE).await);
    hold.send_replace(true);
    let mut stuck = std::pin::pin!(send(&broker, &shop.peer, "b25l"));
    assert!(stuck.as_mut().now_or_never().is_none());
    let deleted = tokio::time::timeout(Duration::from_secs(6), broker.delete_event(event())).await;
    assert_eq!(deleted.expect("it is answered").unwrap_err().kind(), ErrorKind::Unavailable);
    publish_to(&broker, &warehouse, SHOP).await;
    hold.send_replace(false);
    stuck.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sessions_that_may_not_go_on_end_wherever_their_queues_are() {
    for app in [SHOP, WAREHOUSE] {
        let broker = start(MemoryLog::with_partitions(TWO)).await;
        create_apps(&broker).await;
        broker.register_event(event(), EventOptions::default()).await.unwrap();
        let (mut gone, mut stays) = (reader(&broker, app).await, login(&broker, app).await);
        let may = Rights { publish: true, subscribe: false };
        broker.grant(app, Some(event()), may).await.unwrap();
        assert!(gone.inbox.next().now_or_never().expect("it has ended").is_none());
        assert!(stays.inbox.next().now_or_never().is_none(), "it took nothing, and goes on");
        assert_eq!(broker.queue(event(), app).await.unwrap().unwrap().consumers, 0);
        broker.enable_app(app, false).await.unwrap();
        assert!(stays.inbox.next().now_or_never().expect("it has ended").is_none());
        assert_eq!(broker.sessions().await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_app_took_with_it_is_gone_though_the_engine_ended_in_between() {
    let log = MemoryLog::with_partitions(TWO);
    let broker = start(log.clone()).await;
    create_apps(&broker).await;
    broker.register_event(event(), EventOptions::default()).await.unwrap();
    let shop = login(&broker, SHOP).await;
    send(&broker, &shop.peer, "b25l").await.unwrap();
    broker.shutdown().await;
    // The registry has it, and the partition does not: an engine that was killed after the one and before the other.
    let gone = Record::Admin { at: Timestamp::now(), command: AdminCommand::DeleteApp { app: WAREHOUSE } };
    log.registry().append(vec![Encoded::from(&gone)]).await.unwrap();
    let broker = start(log.reopen()).await;
    assert_eq!(broker.queues().await.unwrap(), []);
    broker.create_app_with_key("warehouse", WAREHOUSE, &key(WAREHOUSE)).await.unwrap();
    let mut warehouse = consumer(&broker, None).await;
    assert_eq!(waiting(&broker, &mut warehouse).await, []);
    // Nor does it come back later.
    broker.shutdown().await;
    let broker = start(log.reopen().reopen()).await;
    let mut warehouse = consumer(&broker, None).await;
    assert_eq!(waiting(&broker, &mut warehouse).await, []);
}

#[tokio::test(start_paused = true)]
async fn logs_that_were_mixed_up_are_refused() {
    let log = MemoryLog::with_partitions(TWO);
    let broker = start(log.clone()).await;
    create_apps(&broker).await;
    broker.register_event(event(), EventOptions::default()).await.unwrap();
    let shop = login(&broker, SHOP).await;
    send(&broker, &shop.peer, "b25l").await.unwrap();
    broker.shutdown().await;
    let logs = Logs::from(log.reopen());
    let [first, second] = logs.partitions() else { panic!() };
    let (registry, first, second) = (logs.registry().clone(), first.clone(), second.clone());
    let new = Logs::from(MemoryLog::with_partitions(TWO));
    for (logs, words) in [
        (Logs::new(registry.clone(), vec![second.clone(), first.clone()]), "partition 1 of 2"),
        (Logs::new(first.clone(), vec![registry.clone(), second.clone()]), "no record of the registry"),
        (Logs::new(registry.clone(), vec![]), "at least one partition"),
        (Logs::new(new.registry().clone(), vec![first.clone(), second.clone()]), "the registry's log is new"),
        (Logs::new(registry.clone(), vec![first.clone(), new.partitions()[1].clone()]), "partition 1 is new"),
    ] {
        let error = Broker::start(BrokerOptions::dev(), logs).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(words), "{error}");
    }
    Broker::start(BrokerOptions::dev(), Logs::new(registry, vec![first, second])).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_in_memory_only_is_held_against_one_quota() {
    let mut options = BrokerOptions::dev();
    options.limits.quotas.memory = 2_000;
    let broker = Broker::start(options, MemoryLog::with_partitions(TWO)).await.unwrap();
    create_apps(&broker).await;
    let shop = login(&broker, SHOP).await;
    let metadata = Metadata::parse(r#"{"persist":false}"#).unwrap();
    let to = |recipient| Command::Publish(Publish { recipient, metadata: metadata.clone(), ..publish("b25l") });
    let mut taken = 0;
    let refused = loop {
        let recipient = if taken % 2 == 0 { SHOP } else { WAREHOUSE };
        match broker.handle(&shop.peer, to(recipient)).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((refused.kind(), taken), (ErrorKind::LimitExceeded, 3));
    assert!(refused.to_string().contains("quotas.memory"), "{refused}");
    // Room that is made in one partition is room in the other.
    broker.delete_app(WAREHOUSE).await.unwrap();
    broker.handle(&shop.peer, to(SHOP)).await.unwrap();
}

/// A client that sent something and goes at once has sent it, to whatever partition.
#[tokio::test(start_paused = true)]
async fn who_publishes_and_goes_has_published() {
    let broker = start(MemoryLog::with_partitions(TWO)).await;
    create_apps(&broker).await;
    broker.register_event(event(), EventOptions::default()).await.unwrap();
    let shop = login(&broker, SHOP).await;
    let mut sent = std::pin::pin!(send(&broker, &shop.peer, "b25l"));
    assert!(sent.as_mut().now_or_never().is_none());
    broker.logout(&shop.peer).await;
    sent.await.unwrap();
    assert_eq!(send(&broker, &shop.peer, "b25l").await.unwrap_err().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_fails_for_good_is_told_whichever_it_is() {
    let broken = Arc::new(AtomicBool::new(false));
    let logs = Logs::from(MemoryLog::with_partitions(TWO));
    let failing = |log: &Arc<dyn Log>| Arc::new(Failed(log.clone(), broken.clone())) as Arc<dyn Log>;
    let logs = Logs::new(logs.registry().clone(), logs.partitions().iter().map(failing).collect());
    let broker = Broker::start(BrokerOptions::dev(), logs).await.unwrap();
    broker.ready().await.unwrap();
    broken.store(true, Ordering::Relaxed);
    assert!(broker.failure().is_some() && broker.ready().await.is_err());
}

/// A log that has failed, once it is told so.
#[derive(Debug)]
struct Failed(Arc<dyn Log>, Arc<AtomicBool>);

#[async_trait]
impl Log for Failed {
    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        self.0.append(batch).await
    }

    async fn read(&self, at: Position) -> Result<Option<Bytes>> {
        self.0.read(at).await
    }

    fn scan(&self, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>> {
        self.0.scan(from)
    }

    async fn drop_range(&self, from: Position, to: Position) -> Result<()> {
        self.0.drop_range(from, to).await
    }

    fn failure(&self) -> Option<ensync_core::Error> {
        let failed = || ensync_core::Error::new(ErrorKind::Unavailable, "the disk failed");
        self.1.load(Ordering::Relaxed).then(failed)
    }
}
