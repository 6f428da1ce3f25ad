//! What ends: keys, sessions, tasks, the engine; and disks on which something is still owed then.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result};
use ensync_engine::model::{Encoded, Position};
use ensync_engine::{Broker, BrokerOptions, EventOptions, Log, Logs, MemoryLog, Rights};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;

use super::partitions::{TWO, broker_with_held, reader};
use super::{SHOP, WAREHOUSE, consumer, create_apps, event, key, login, send, waiting};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn sessions_of_a_key_end_with_it_though_the_registrar_was_held_up_and_somebody_logged_in() {
    let (broker, hold) = broker_with_held().await;
    let (shop, mut old) = (login(&broker, SHOP).await, reader(&broker, SHOP).await);
    broker.rotate_key(SHOP, 5 * SECOND).await.unwrap();
    hold.send_replace(true);
    let mut stuck = std::pin::pin!(send(&broker, &shop.peer, "b25l"));
    assert!(stuck.as_mut().now_or_never().is_none());
    tokio::time::sleep(SECOND).await;
    let mut grant = std::pin::pin!(broker.grant(WAREHOUSE, None, Rights::ALL));
    assert!(tokio::time::timeout(6 * SECOND, grant.as_mut()).await.is_err(), "it waits for the disk");
    login(&broker, WAREHOUSE).await;
    assert!(old.inbox.next().now_or_never().is_none(), "the registrar is busy");
    hold.send_replace(false);
    grant.await.unwrap();
    stuck.await.unwrap();
    let end = tokio::time::timeout(SECOND, old.inbox.next()).await.expect("its key has ended, and it with that");
    assert_eq!(end, None);
    let error = send(&broker, &shop.peer, "b25l").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_finishes_publishes_that_wait_for_another_partition() {
    let (broker, hold) = broker_with_held().await;
    let mut shop = reader(&broker, SHOP).await;
    hold.send_replace(true);
    let mut first = std::pin::pin!(send(&broker, &shop.peer, "b25l"));
    assert!(first.as_mut().now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(1)).await;
    // It is not even decided while the first is stored.
    let mut second = std::pin::pin!(send(&broker, &shop.peer, "dHdv"));
    assert!(second.as_mut().now_or_never().is_none());
    let mut shutdown = std::pin::pin!(broker.shutdown());
    assert!(tokio::time::timeout(SECOND, shutdown.as_mut()).await.is_err(), "it waits for the disk");
    assert!(shop.inbox.next().now_or_never().is_none(), "there are answers that the session waits for");
    hold.send_replace(false);
    let (first, second, ()) = futures::join!(first, second, shutdown);
    first.unwrap();
    second.unwrap();
    assert_eq!(shop.inbox.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_hangs_keeps_the_others_from_their_end_for_a_while_only() {
    let (broker, hold) = broker_with_held().await;
    let mut shop = reader(&broker, SHOP).await;
    hold.send_replace(true);
    let mut first = std::pin::pin!(send(&broker, &shop.peer, "b25l"));
    assert!(first.as_mut().now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut second = std::pin::pin!(send(&broker, &shop.peer, "dHdv"));
    assert!(second.as_mut().now_or_never().is_none());
    let mut shutdown = std::pin::pin!(broker.shutdown());
    assert!(tokio::time::timeout(6 * SECOND, shutdown.as_mut()).await.is_err(), "it waits for the disk");
    assert_eq!(shop.inbox.next().now_or_never().expect("it has ended"), None);
    // Nothing was taken from the session: what it sent before is still carried out.
    hold.send_replace(false);
    let (first, second, ()) = futures::join!(first, second, shutdown);
    first.unwrap();
    second.unwrap();
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    Nothing,
    /// It refuses what is to be stored.
    Refuses,
    /// Its task fails.
    Panics,
}

/// A log in trouble.
#[derive(Debug)]
struct Troubled(Arc<dyn Log>, watch::Receiver<Trouble>);

#[async_trait]
impl Log for Troubled {
    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        let trouble = *self.1.borrow();
        match trouble {
            Trouble::Nothing => self.0.append(batch).await,
            Trouble::Refuses => Err(Error::new(ErrorKind::Unavailable, "the disk is full")),
            Trouble::Panics => panic!("a fault that a test made"),
        }
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

/// Logs of two partitions. What may be in trouble is the registry's, or that of the first, which has the warehouse's queues.
fn troubled(log: &MemoryLog, registry: bool, trouble: &watch::Sender<Trouble>) -> Logs {
    let logs = Logs::from(log.clone());
    let with = |log: &Arc<dyn Log>| Arc::new(Troubled(log.clone(), trouble.subscribe())) as Arc<dyn Log>;
    let [first, second] = logs.partitions() else { panic!() };
    let (all, first) =
        if registry { (with(logs.registry()), first.clone()) } else { (logs.registry().clone(), with(first)) };
    Logs::new(all, vec![first, second.clone()])
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_is_noticed_whichever_it_is() {
    for registry in [false, true] {
        let trouble = watch::Sender::new(Trouble::Nothing);
        let logs = troubled(&MemoryLog::with_partitions(TWO), registry, &trouble);
        let broker = Broker::start(BrokerOptions::dev(), logs).await.unwrap();
        create_apps(&broker).await;
        broker.register_event(event(), EventOptions::default()).await.unwrap();
        let shop = login(&broker, SHOP).await;
        assert!(tokio::time::timeout(SECOND, broker.stopped()).await.is_err(), "it runs");
        assert!(broker.ready().await.is_ok() && broker.is_alive().await);
        trouble.send_replace(Trouble::Panics);
        let failed = if registry {
            broker.enable_app(WAREHOUSE, true).await
        } else {
            send(&broker, &shop.peer, "b25l").await.map(drop)
        };
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Interrupted, "it may be stored");
        tokio::time::timeout(SECOND, broker.stopped()).await.expect("it has stopped by itself");
        let why = broker.ready().await.unwrap_err();
        assert!(why.to_string().contains("failed"), "{why}");
        assert!(!broker.is_alive().await);
        // The rest ends in order.
        tokio::time::timeout(SECOND, broker.shutdown()).await.expect("nobody waits for what is gone");
    }
}

#[tokio::test(start_paused = true)]
async fn an_app_is_deleted_though_its_partition_cannot_store_that() {
    for restart in [false, true] {
        let trouble = watch::Sender::new(Trouble::Nothing);
        let log = MemoryLog::with_partitions(TWO);
        let mut broker = Broker::start(BrokerOptions::dev(), troubled(&log, false, &trouble)).await.unwrap();
        create_apps(&broker).await;
        broker.register_event(event(), EventOptions::default()).await.unwrap();
        let shop = login(&broker, SHOP).await;
        send(&broker, &shop.peer, "b25l").await.unwrap();

        trouble.send_replace(Trouble::Refuses);
        let deleted = tokio::time::timeout(SECOND, broker.delete_app(WAREHOUSE)).await;
        deleted.expect("it is answered").unwrap();
        let another = tokio::time::timeout(SECOND, broker.enable_app(SHOP, false)).await;
        another.expect("it holds up nothing else").unwrap();
        if restart {
            broker.shutdown().await;
            let started = Broker::start(BrokerOptions::dev(), troubled(&log.reopen(), false, &trouble)).await;
            broker = started.expect("it starts on a disk that stores nothing");
        }
        // Whoever had the app's id now would get what is the other's.
        let access_key = key(WAREHOUSE);
        let create = || broker.create_app_with_key("warehouse", WAREHOUSE, &access_key);
        let error = create().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error}");
        assert_eq!(owed(&broker).await, 1);
        // What is left of it is in no list, and is no use of the name.
        assert_eq!(broker.queues().await.unwrap(), []);

        trouble.send_replace(Trouble::Nothing);
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(owed(&broker).await, 0);
        create().await.unwrap();
        let mut warehouse = consumer(&broker, None).await;
        assert_eq!(waiting(&broker, &mut warehouse).await, []);
    }
}

/// How many deletions are still to be stored.
async fn owed(broker: &Broker) -> u32 {
    let text = broker.metrics().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("ensync_removals_owed ")).unwrap();
    line.parse().unwrap()
}
