//! Over a log that fails now and then.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::{Command, Error, ErrorKind, Reply, Result, Service, Settlement};
use ensync_engine::model::{Encoded, Position};
use ensync_engine::{Broker, BrokerOptions, EventOptions, Log, MemoryLog};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::{SHOP, WAREHOUSE, consumer, create_apps, event, login, send, settle, start, waiting};

/// A log that refuses when it is told to.
#[derive(Debug)]
struct Failing {
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

fn failing() -> (Failing, Arc<AtomicBool>, Arc<AtomicBool>) {
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
    assert_eq!(warehouse.inbox.next().await.unwrap().attempt, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_back_stops_the_start() {
    let (log, _, read) = failing();
    read.store(true, Ordering::Relaxed);
    let error = Broker::start(BrokerOptions::dev(), Arc::new(log)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), "read the log back: the disk is full");
}
