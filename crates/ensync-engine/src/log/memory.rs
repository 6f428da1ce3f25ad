use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::Result;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::Log;
use crate::model::{Encoded, Position};

/// Logs in memory: for tests, and for engines that may forget. They are gone with the last handle. As a log it is the first partition's.
///
/// They keep everything until then, for nothing calls [`drop_range`](Log::drop_range) on it: events that are settled or expired
/// stay and can be replayed, and memory grows with each publish. An engine that runs for long has its log on a disk.
#[derive(Clone)]
pub struct MemoryLog {
    epoch: u64,
    /// Which of them this is.
    records: Arc<Mutex<Records>>,
    /// All of them: the registry's, and then those of the partitions.
    all: Arc<[Arc<Mutex<Records>>]>,
}

impl MemoryLog {
    /// Empty logs of an engine with one partition.
    pub fn new() -> Self {
        Self::with_partitions(NonZeroU32::MIN)
    }

    /// The same, of one with more.
    pub fn with_partitions(partitions: NonZeroU32) -> Self {
        let records = Arc::<Mutex<Records>>::default();
        let more = (1..partitions.get()).map(|_| Arc::default());
        let all = [Arc::default(), records.clone()].into_iter().chain(more).collect();
        Self { epoch: 1, records, all }
    }

    /// The same logs, opened once more: what a restart sees. They share their records with this handle.
    #[must_use]
    pub fn reopen(&self) -> Self {
        Self { epoch: self.epoch.saturating_add(1), ..self.clone() }
    }

    /// The log of the registry beside this one.
    #[must_use]
    pub fn registry(&self) -> Self {
        self.all.first().map_or_else(|| self.clone(), |records| self.of(records))
    }

    /// Those of the partitions.
    pub(super) fn partitions(&self) -> impl Iterator<Item = Self> {
        self.all.iter().skip(1).map(|records| self.of(records))
    }

    fn of(&self, records: &Arc<Mutex<Records>>) -> Self {
        Self { records: records.clone(), ..self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        // No code that holds the lock can panic half-way through a change.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = self.lock();
        f.debug_struct("MemoryLog")
            .field("epoch", &self.epoch)
            .field("dropped", &records.dropped)
            .field("records", &records.kept.len())
            .finish()
    }
}

#[async_trait]
impl Log for MemoryLog {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        let mut records = self.lock();
        let first = records.end();
        records.kept.extend(batch);
        Ok((first..records.end()).map(Position::new).collect())
    }

    async fn read(&self, at: Position) -> Result<Option<Bytes>> {
        let records = self.lock();
        Ok(records.index(at).and_then(|index| records.kept.get(index)).map(Encoded::to_bytes))
    }

    async fn read_many(&self, at: &[Position], max_bytes: usize) -> Vec<Result<Option<Bytes>>> {
        let (records, mut read, mut bytes) = (self.lock(), Vec::with_capacity(at.len()), 0);
        for at in at {
            if bytes >= max_bytes && !read.is_empty() {
                break;
            }
            let found = records.index(*at).and_then(|index| records.kept.get(index)).map(Encoded::to_bytes);
            bytes += found.as_ref().map_or(0, Bytes::len);
            read.push(Ok(found));
        }
        read
    }

    fn scan(&self, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>> {
        let records = self.lock();
        let first = from.as_u64().max(records.dropped + 1);
        let skipped = usize::try_from(first - records.dropped - 1).unwrap_or(usize::MAX);
        let found: Vec<_> =
            records.kept.iter().skip(skipped).zip(first..).map(|(r, at)| (Position::new(at), r.clone())).collect();
        stream::iter(found).map(|(at, record)| Ok((at, record.to_bytes()))).boxed()
    }

    async fn drop_range(&self, from: Position, to: Position) -> Result<()> {
        let mut records = self.lock();
        if from.as_u64() > records.dropped + 1 {
            // It drops from its beginning only.
            return Ok(());
        }
        let end = records.end();
        let gone = to.as_u64().min(end).saturating_sub(records.dropped + 1);
        let count = usize::try_from(gone).unwrap_or(usize::MAX).min(records.kept.len());
        records.kept.drain(..count);
        records.dropped += count as u64;
        Ok(())
    }
}

/// The record after the dropped ones has position `dropped + 1`.
#[derive(Default)]
struct Records {
    dropped: u64,
    kept: VecDeque<Encoded>,
}

impl Records {
    fn end(&self) -> u64 {
        self.dropped + 1 + self.kept.len() as u64
    }

    fn index(&self, at: Position) -> Option<usize> {
        usize::try_from(at.as_u64().checked_sub(self.dropped + 1)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64) -> Encoded {
        Encoded::new(vec![seq as u8], "payload", false)
    }

    async fn scanned(log: &MemoryLog, from: u64) -> Vec<u64> {
        log.scan(Position::new(from)).map(|found| found.unwrap().0.as_u64()).collect().await
    }

    #[tokio::test]
    async fn what_is_appended_is_read_until_it_is_dropped() {
        let log = MemoryLog::new();
        let positions = log.append(vec![record(1), record(2), record(3)]).await.unwrap();
        assert_eq!(log.append(vec![]).await.unwrap(), []);
        assert_eq!(positions.len(), 3);
        assert!(positions.is_sorted() && positions[0] > Position::START);
        assert_eq!(log.read(positions[1]).await.unwrap(), Some(record(2).to_bytes()));
        assert_eq!(scanned(&log, 0).await, [1, 2, 3]);
        assert_eq!(scanned(&log, 2).await, [2, 3]);
        assert!(scanned(&log, u64::MAX).await.is_empty());

        log.drop_range(Position::START, positions[1]).await.unwrap();
        log.drop_range(Position::START, Position::START).await.unwrap();
        assert_eq!(log.read(positions[0]).await.unwrap(), None);
        assert_eq!(log.read(positions[1]).await.unwrap(), Some(record(2).to_bytes()));
        assert_eq!(scanned(&log, 0).await, [2, 3]);

        log.drop_range(Position::START, Position::new(u64::MAX)).await.unwrap();
        assert!(scanned(&log, 0).await.is_empty());
        assert_eq!(log.append(vec![record(4)]).await.unwrap(), [Position::new(4)]);
    }

    #[tokio::test]
    async fn forged_positions_read_nothing() {
        let log = MemoryLog::new();
        log.append(vec![record(1)]).await.unwrap();
        for at in [0, 2, u64::MAX] {
            assert_eq!(log.read(Position::new(at)).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn reopening_keeps_the_records_and_raises_the_epoch() {
        let log = MemoryLog::new();
        log.append(vec![record(1)]).await.unwrap();
        let again = log.reopen();
        assert_eq!((log.epoch(), again.epoch()), (1, 2));
        assert_eq!(scanned(&again, 0).await, [1]);
    }
}
