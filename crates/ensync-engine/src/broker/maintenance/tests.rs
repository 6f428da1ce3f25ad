use std::io;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::{AppId, AppKey, Command, ErrorKind, Login, Metadata, Publish, Result, Service, Session, WirePayload};
use futures::stream::BoxStream;

use super::*;
use crate::EventOptions;
use crate::broker::{Broker, BrokerOptions};
use crate::log::{Log, LogSpace, Logs, MemoryLog};
use crate::model::Encoded;

/// A log on a disk without space. How often it was asked what it takes up is counted.
#[derive(Debug)]
struct Full(Arc<dyn Log>, Arc<AtomicUsize>);

#[async_trait]
impl Log for Full {
    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        if batch.iter().any(Encoded::grows) {
            let cause = io::Error::from(io::ErrorKind::StorageFull);
            return Err(Error::new(ErrorKind::Unavailable, "the log takes nothing").with_source(cause));
        }
        self.0.append(batch).await
    }

    async fn read(&self, at: Position) -> Result<Option<Bytes>> {
        self.0.read(at).await
    }

    fn scan(&self, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>> {
        self.0.scan(from)
    }

    async fn drop_range(&self, _from: Position, _to: Position) -> Result<()> {
        Ok(())
    }

    fn keeps_checkpoints(&self) -> bool {
        true
    }

    async fn space(&self) -> Result<Option<LogSpace>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok(Some(LogSpace {
            parts: Vec::new(),
            used: 1 << 20,
            free: 0,
            lacking: 0,
            total: 1 << 30,
            segment_bytes: 1 << 20,
        }))
    }
}

async fn publish(broker: &Broker, session: &Session, recipient: AppId) -> Result<()> {
    let publish = Publish {
        event: "a/b".parse().unwrap(),
        recipient,
        payload: WirePayload::from_wire("b25l"),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: None,
    };
    broker.handle(&session.peer, Command::Publish(publish)).await.map(drop)
}

/// All that it has waiting it would look at for it each second, for hours.
#[tokio::test(start_paused = true)]
async fn a_partition_that_has_nothing_to_give_is_asked_ever_more_seldom() {
    let looks = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let logs = Logs::from(MemoryLog::with_partitions(NonZeroU32::new(2).unwrap()));
    let full = logs.partitions().iter().zip(&looks);
    let full = full.map(|(log, looks)| Arc::new(Full(log.clone(), looks.clone())) as Arc<dyn Log>).collect();
    let broker = Broker::start(BrokerOptions::dev(), Logs::new(logs.registry().clone(), full)).await.unwrap();
    // Its queues are in the first of two.
    let (warehouse, app_key) = (AppId::from_bytes([25; 32]), AppKey::parse("key-of-the-warehouse").unwrap());
    broker.create_app_with_key("warehouse", warehouse, &app_key).await.unwrap();
    broker.register_event("a/b".parse().unwrap(), EventOptions::default()).await.unwrap();
    let session = broker.login(Login { app_key, transport: "local", remote: None }).await.unwrap();
    broker.ready().await.unwrap();
    let before = looks[1].load(Ordering::SeqCst);
    let mut refused = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        refused += usize::from(publish(&broker, &session, warehouse).await.is_err());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(refused > 500, "{refused}");
    let asked = looks[1].load(Ordering::SeqCst) - before;
    assert!((3..=12).contains(&asked), "{asked}");
}
