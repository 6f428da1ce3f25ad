use std::io;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::{AppId, AppKey};
use futures::stream::BoxStream;

use super::*;
use crate::broker::{Broker, BrokerOptions};
use crate::log::{Log, LogPart, LogSpace, Logs, MemoryLog};
use crate::model::Encoded;
use crate::model::Position;

/// A log on a disk that has no space for the registry, until something of a partition is dropped that nobody needs.
#[derive(Debug)]
struct Full {
    log: Arc<dyn Log>,
    registry: bool,
    full: Arc<AtomicBool>,
    disk: u64,
}

#[async_trait]
impl Log for Full {
    fn epoch(&self) -> u64 {
        self.log.epoch()
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        if self.registry && self.full.load(Ordering::Relaxed) {
            let cause = io::Error::from(io::ErrorKind::StorageFull);
            return Err(Error::new(ErrorKind::Unavailable, "the log takes nothing").with_source(cause));
        }
        self.log.append(batch).await
    }

    async fn read(&self, at: Position) -> Result<Option<Bytes>> {
        self.log.read(at).await
    }

    fn scan(&self, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>> {
        self.log.scan(from)
    }

    async fn drop_range(&self, _from: Position, _to: Position) -> Result<()> {
        self.full.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn keeps_checkpoints(&self) -> bool {
        !self.registry
    }

    async fn space(&self) -> Result<Option<LogSpace>> {
        let (from, to) = (Position::START, Position::new(1_000));
        let part = LogPart { from, to, bytes: 1 << 20, written: Timestamp::now() };
        Ok(Some(LogSpace {
            parts: vec![part],
            used: 1 << 20,
            free: self.disk,
            lacking: 0,
            total: self.disk,
            segment_bytes: 1 << 20,
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_administrator_asks_for_is_not_refused_for_what_can_be_dropped() {
    change_on_a_full_disk(true).await.unwrap();
}

/// Whatever it dropped, the registry would have no more space.
#[tokio::test(start_paused = true)]
async fn a_partition_on_another_disk_drops_nothing_for_the_registry() {
    let error = change_on_a_full_disk(false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

/// What comes of a change while the registry has no space, which a partition has on the same disk or on another.
async fn change_on_a_full_disk(same: bool) -> Result<()> {
    let full = Arc::new(AtomicBool::new(false));
    let logs = Logs::from(MemoryLog::with_partitions(NonZeroU32::MIN));
    let with = |log: &Arc<dyn Log>, registry| {
        Arc::new(Full {
            log: log.clone(),
            registry,
            full: full.clone(),
            disk: if same || registry { 1 << 40 } else { 1 << 41 },
        }) as Arc<dyn Log>
    };
    let partitions = logs.partitions().iter().map(|log| with(log, false)).collect();
    let logs = Logs::new(with(logs.registry(), true), partitions);
    let broker = Broker::start(BrokerOptions::dev(), logs).await.unwrap();
    let (shop, key) = (AppId::from_bytes([6; 32]), AppKey::parse("key-of-the-shop").unwrap());
    broker.create_app_with_key("shop", shop, &key).await.unwrap();
    // What the task does at its start is done.
    broker.ready().await.unwrap();
    full.store(true, Ordering::Relaxed);
    let done = tokio::time::timeout(Duration::from_secs(1), broker.enable_app(shop, false)).await;
    let done = done.expect("it is answered");
    assert_eq!(full.load(Ordering::Relaxed), done.is_err(), "something was dropped for it, or nothing");
    done.map(drop)
}
