//! Over a log that fails now and then.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::{Command, Error, ErrorKind, Publish, Reply, Result, Service, Settlement, Subscribe};
use ensync_engine::log::LogUsage;
use ensync_engine::model::{Encoded, Position};
use ensync_engine::{Broker, BrokerOptions, EventOptions, Log, Logs, MemoryLog};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::{SHOP, WAREHOUSE, consumer, create_apps, event, login, publish, send, settle, start, waiting};

/// A log that refuses when it is told to.
#[derive(Debug)]
pub(super) struct Failing {
    log: MemoryLog,
    append: Arc<AtomicBool>,
    read: Arc<AtomicBool>,
}

impl Failing {
    fn refuse(when: &AtomicBool) -> Result<()> {
        if when.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Unavailable, "the disk is full"));
        }
        Ok(())
    }
}

#[async_trait]
impl Log for Failing {
    fn epoch(&self) -> u64 {
        self.log.epoch()
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        Self::refuse(&self.append)?;
        self.log.append(batch).await
    }

    async fn read(&self, at: Position) -> Result<Option<Bytes>> {
        Self::refuse(&self.read)?;
        self.log.read(at).await
    }

    fn scan(&self, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>> {
        if let Err(error) = Self::refuse(&self.read) {
            return futures::stream::iter([Err(error)]).boxed();
        }
        self.log.scan(from)
    }

    async fn drop_range(&self, from: Position, to: Position) -> Result<()> {
        self.log.drop_range(from, to).await
    }
}

/// That of the only partition is as it is; the registry's is sound.
fn before(registry: MemoryLog, log: impl Log) -> Logs {
    Logs::new(Arc::new(registry), vec![Arc::new(log)])
}

impl From<Failing> for Logs {
    fn from(log: Failing) -> Self {
        before(log.log.registry(), log)
    }
}

impl From<Hanging> for Logs {
    fn from(log: Hanging) -> Self {
        before(log.log.registry(), log)
    }
}

impl From<Silent> for Logs {
    fn from(log: Silent) -> Self {
        before(log.0.registry(), log)
    }
}

pub(super) fn failing() -> (Failing, Arc<AtomicBool>, Arc<AtomicBool>) {
    let (append, read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    (Failing { log: MemoryLog::new(), append: append.clone(), read: read.clone() }, append, read)
}

#[tokio::test(start_paused = true)]
async fn what_the_log_refuses_is_refused_and_nothing_is_lost() {
    let (log, append, _) = failing();
    let broker = start(log).await;
    create_apps(&broker).await;
    let options = EventOptions { max_deliveries: NonZeroU32::new(1), ..EventOptions::default() };
    broker.register_event(event(), options).await.unwrap();
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    send(&broker, &shop.peer, "b25l").await.unwrap();
    send(&broker, &shop.peer, "dHdv").await.unwrap();
    let [one, two] = waiting(&broker, &mut warehouse).await.try_into().unwrap();

    append.store(true, Ordering::Relaxed);
    let error = send(&broker, &shop.peer, "b25l").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_retryable());
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the disk is full");
    let error = settle(&broker, &warehouse.peer, &one, Settlement::Ack).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // The second one was delivered as often as it may be; it cannot be a dead letter yet.
    settle(&broker, &warehouse.peer, &two, Settlement::Rollback).await.unwrap();
    assert_eq!(broker.dead_letters(None, None, 10).await.unwrap(), []);
    broker.handle(&shop.peer, Command::Heartbeat).await.unwrap();

    append.store(false, Ordering::Relaxed);
    settle(&broker, &warehouse.peer, &one, Settlement::Ack).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let letters = broker.dead_letters(None, None, 10).await.unwrap();
    assert_eq!((letters.len(), &letters[0].id), (1, &two.id));
    let stats = broker.queue(event(), WAREHOUSE).await.unwrap().unwrap();
    assert_eq!((stats.counters.published, stats.counters.acked, stats.ready), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_now_comes_later() {
    let (log, _, read) = failing();
    let broker = start(log).await;
    create_apps(&broker).await;
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    read.store(true, Ordering::Relaxed);
    let Reply::Published { id } = send(&broker, &shop.peer, "b25l").await.unwrap() else { panic!() };
    assert_eq!(waiting(&broker, &mut warehouse).await, []);
    let replay = Command::Replay { id, event: event() };
    let error = broker.handle(&warehouse.peer, replay).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    read.store(false, Ordering::Relaxed);
    assert_eq!(warehouse.inbox.next().await.unwrap().attempt, Some(1), "that was no delivery");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_back_stops_the_start() {
    let (log, _, read) = failing();
    read.store(true, Ordering::Relaxed);
    let error = Broker::start(BrokerOptions::dev(), log).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), "read the log back: the disk is full");
}

/// A log whose reads hang for as long as they are told to.
#[derive(Debug)]
struct Hanging {
    log: MemoryLog,
    held: tokio::sync::watch::Receiver<bool>,
}

#[async_trait]
impl Log for Hanging {
    fn epoch(&self) -> u64 {
        self.log.epoch()
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        self.log.append(batch).await
    }

    async fn read(&self, at: Position) -> Result<Option<Bytes>> {
        self.held.clone().wait_for(|held| !held).await.unwrap();
        self.log.read(at).await
    }

    fn scan(&self, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>> {
        self.log.scan(from)
    }

    async fn drop_range(&self, from: Position, to: Position) -> Result<()> {
        self.log.drop_range(from, to).await
    }
}

/// Reads of old events once happened in the broker's task, one at a time, and nobody was served meanwhile.
#[tokio::test(start_paused = true)]
async fn a_read_that_hangs_holds_up_nobody_else() {
    let (hold, held) = tokio::sync::watch::channel(true);
    let log = Hanging { log: MemoryLog::new(), held };
    // As much is kept in memory as the second app needs.
    let options = BrokerOptions { recent_bytes: 8 << 10, ..BrokerOptions::dev() };
    let broker = Broker::start(options, log).await.unwrap();
    create_apps(&broker).await;
    let (mut shop, mut warehouse) = (login(&broker, SHOP).await, login(&broker, WAREHOUSE).await);
    // What the warehouse has waiting lies far back.
    for _ in 0..40 {
        send(&broker, &shop.peer, &"b25l".repeat(100)).await.unwrap();
    }
    for session in [&warehouse, &shop] {
        let subscribe = Subscribe { event: event(), max_in_flight: None, max_bytes_in_flight: None };
        assert_eq!(broker.handle(&session.peer, Command::Subscribe(subscribe)).await.unwrap(), Reply::Done);
    }
    assert!(warehouse.inbox.next().now_or_never().is_none(), "its read hangs");

    let within = Duration::from_millis(1);
    for _ in 0..20 {
        let publish = Publish { recipient: SHOP, ..publish("b25l") };
        let sent = broker.handle(&warehouse.peer, Command::Publish(publish));
        tokio::time::timeout(within, sent).await.expect("a publish is answered").unwrap();
        let delivery = tokio::time::timeout(within, shop.inbox.next()).await.expect("it is delivered").unwrap();
        let acked = settle(&broker, &shop.peer, &delivery, Settlement::Ack);
        tokio::time::timeout(within, acked).await.expect("an acknowledgement is answered").unwrap();
    }
    assert!(warehouse.inbox.next().now_or_never().is_none());

    hold.send_replace(false);
    for n in 0..40 {
        let delivery = warehouse.inbox.next().await.unwrap();
        assert_eq!((delivery.payload.len(), delivery.attempt), (400, Some(1)), "{n}");
    }
}

/// A log that answers nothing at all, once it is told so.
#[derive(Debug)]
struct Silent(MemoryLog, Arc<AtomicBool>);

impl Silent {
    async fn answers(&self) {
        if self.1.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Log for Silent {
    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        self.answers().await;
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

    async fn usage(&self) -> Result<Option<LogUsage>> {
        self.answers().await;
        self.0.usage().await
    }
}

/// What asks for metrics gives up after 10 s, as its listener does.
#[tokio::test(start_paused = true)]
async fn metrics_are_told_in_time_though_neither_the_broker_nor_its_disk_answers() {
    let silent = Arc::new(AtomicBool::new(false));
    let broker = start(Silent(MemoryLog::new(), silent.clone())).await;
    create_apps(&broker).await;
    let shop = login(&broker, SHOP).await;
    broker.register_event(event(), EventOptions::default()).await.unwrap();
    silent.store(true, Ordering::Relaxed);
    assert!(send(&broker, &shop.peer, "b25l").now_or_never().is_none());
    // The broker waits for its log then, and answers nothing.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let begun = tokio::time::Instant::now();
    let text = broker.metrics().await.unwrap();
    assert!(text.contains("ensync_ready 0.0"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}
