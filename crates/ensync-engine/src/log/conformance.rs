//! What every log keeps, whatever it is on: one suite for all of them.

use std::sync::Arc;

use bytes::Bytes;
use ensync_core::Result;
use futures::StreamExt;

use super::Log;
use crate::model::{Encoded, Position};

/// A place for logs of one kind.
pub(super) trait Bench {
    /// Opens the log there, which is closed, or makes it.
    async fn open(&self) -> Result<Arc<dyn Log>>;

    /// Whether a log that was closed refuses to append, and is not only forgotten.
    fn closes(&self) -> bool {
        true
    }
}

/// Every case, each on a place of its own.
pub(super) async fn suite<B: Bench>(mut place: impl AsyncFnMut() -> B) {
    what_is_appended_is_read_back(&place().await).await;
    batches_of_any_size_are_whole(&place().await).await;
    forged_positions_read_nothing(&place().await).await;
    batches_that_come_together_are_all_answered(&place().await).await;
    restarts_keep_all_and_raise_the_epoch(&place().await).await;
    a_closed_log_takes_nothing(&place().await).await;
    the_newest_checkpoint_is_loaded(&place().await).await;
    what_is_dropped_goes_and_the_rest_stays(&place().await).await;
    for seed in 0..3 {
        random_histories_are_read_back(&place().await, seed).await;
    }
}

fn record(seq: u64, bytes: usize) -> Encoded {
    Encoded::new(seq.to_le_bytes().to_vec(), vec![seq as u8; bytes], true)
}

async fn scanned(log: &dyn Log, from: Position) -> Vec<(Position, Bytes)> {
    log.scan(from).map(|found| found.unwrap()).collect().await
}

/// Appends and gives each with its position.
async fn store(log: &dyn Log, batch: Vec<Encoded>) -> Vec<(Position, Bytes)> {
    let bytes: Vec<_> = batch.iter().map(Encoded::to_bytes).collect();
    let positions = log.append(batch).await.unwrap();
    assert_eq!(positions.len(), bytes.len());
    positions.into_iter().zip(bytes).collect()
}

async fn what_is_appended_is_read_back(bench: &impl Bench) {
    let log = bench.open().await.unwrap();
    assert!(log.epoch() >= 1 && log.failure().is_none() && log.hangs().is_none());
    assert_eq!(log.append(vec![]).await.unwrap(), []);
    assert_eq!(scanned(&*log, Position::START).await, []);
    let mut stored = store(&*log, vec![record(1, 0), record(2, 10), Encoded::new("", "", false)]).await;
    let end = log.scan(Position::START);
    stored.extend(store(&*log, vec![record(3, 5_000)]).await);
    assert!(stored.is_sorted_by(|a, b| a.0 < b.0) && stored[0].0 > Position::START);
    for (at, bytes) in &stored {
        assert_eq!(log.read(*at).await.unwrap().as_ref(), Some(bytes));
        assert!(!log.place(*at).is_empty());
    }
    assert_eq!(scanned(&*log, Position::START).await, stored);
    for (index, (at, _)) in stored.iter().enumerate() {
        assert_eq!(scanned(&*log, *at).await, stored[index..]);
    }
    assert_eq!(scanned(&*log, Position::new(u64::MAX)).await, []);
    assert_eq!(end.count().await, 3, "a scan ends where the log ended");

    let positions: Vec<_> = stored.iter().rev().map(|(at, _)| *at).chain([Position::START]).collect();
    let expected: Vec<_> = stored.iter().rev().map(|(_, bytes)| Some(bytes.clone())).chain([None]).collect();
    let many = log.read_many(&positions, usize::MAX).await;
    assert_eq!(many.into_iter().map(Result::unwrap).collect::<Vec<_>>(), expected);
    assert_eq!(log.read_many(&positions, 0).await.len(), 1, "the first is always read");
    assert!(log.read_many(&[], 0).await.is_empty());
}

async fn batches_of_any_size_are_whole(bench: &impl Bench) {
    let mut log = bench.open().await.unwrap();
    let mut stored = Vec::new();
    for sizes in [vec![3 << 20], vec![700 << 10; 5], vec![100; 2_000], vec![10, 1_200_000, 10, 5 << 20, 10]] {
        let batch = (0..).zip(sizes).map(|(seq, size)| record(seq, size)).collect();
        stored.extend(store(&*log, batch).await);
    }
    for reopened in [false, true] {
        if reopened {
            log.close().await;
            log = bench.open().await.unwrap();
        }
        assert!(scanned(&*log, Position::START).await == stored);
        let positions: Vec<_> = stored.iter().map(|(at, _)| *at).collect();
        let mut rest = &positions[..];
        let mut expected = stored.iter();
        while !rest.is_empty() {
            let read = log.read_many(rest, 2 << 20).await;
            assert!(!read.is_empty());
            rest = &rest[read.len()..];
            assert!(read.into_iter().all(|read| read.unwrap().as_ref() == expected.next().map(|(_, bytes)| bytes)));
        }
        // From within a batch.
        let (at, bytes) = &stored[stored.len() - 2];
        assert!(log.read(*at).await.unwrap().as_ref() == Some(bytes));
        assert!(scanned(&*log, *at).await == stored[stored.len() - 2..]);
    }
}

async fn forged_positions_read_nothing(bench: &impl Bench) {
    let log = bench.open().await.unwrap();
    let mut stored = Vec::new();
    for seq in 0..5 {
        stored.extend(store(&*log, vec![record(seq, 300), record(seq, 3)]).await);
    }
    let near = |number: u64| [number.wrapping_sub(1), number + 1, number + 7, number + 64, number << 1, number << 16];
    let forged = stored.iter().flat_map(|(at, _)| near(at.as_u64())).chain([0, 1, u64::MAX, 1 << 63, 9 << 32]);
    for number in forged {
        let read = log.read(Position::new(number)).await.unwrap();
        let there = stored.iter().find(|(at, _)| at.as_u64() == number).map(|(_, bytes)| bytes.clone());
        assert_eq!(read, there, "{number}");
    }
}

async fn batches_that_come_together_are_all_answered(bench: &impl Bench) {
    let log = bench.open().await.unwrap();
    let appends = (0..40).map(|n| {
        let log = log.clone();
        tokio::spawn(async move { store(&*log, (0..5).map(|seq| record(n * 5 + seq, 30_000)).collect()).await })
    });
    let mut stored = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        let batch = append.await.unwrap();
        assert!(batch.is_sorted_by(|a, b| a.0 < b.0));
        stored.push(batch);
    }
    // No batch has another one's records between its own.
    stored.sort_by_key(|batch| batch[0].0);
    assert!(scanned(&*log, Position::START).await == stored.concat());
}

async fn restarts_keep_all_and_raise_the_epoch(bench: &impl Bench) {
    let (mut stored, mut epoch) = (Vec::new(), 0);
    for seq in 0..4 {
        let log = bench.open().await.unwrap();
        assert!(log.epoch() > epoch);
        epoch = log.epoch();
        assert_eq!(scanned(&*log, Position::START).await, stored);
        let new = store(&*log, vec![record(seq, 2_000), record(seq + 100, 1)]).await;
        assert!(stored.last().is_none_or(|(last, _)| *last < new[0].0), "positions rise over restarts");
        stored.extend(new);
        log.close().await;
    }
}

async fn a_closed_log_takes_nothing(bench: &impl Bench) {
    let log = bench.open().await.unwrap();
    let stored = store(&*log, vec![record(1, 1)]).await;
    log.close().await;
    log.close().await;
    if bench.closes() {
        log.append(vec![record(2, 2)]).await.unwrap_err();
        let next = bench.open().await.unwrap();
        log.append(vec![record(2, 2)]).await.unwrap_err();
        assert_eq!(scanned(&*next, Position::START).await, stored);
    }
}

async fn the_newest_checkpoint_is_loaded(bench: &impl Bench) {
    let mut log = bench.open().await.unwrap();
    assert_eq!(log.load_checkpoint().await.unwrap(), None);
    if !log.keeps_checkpoints() {
        return;
    }
    let stored = store(&*log, (0..4).map(|seq| record(seq, 10)).collect()).await;
    for (index, (at, _)) in stored.iter().enumerate() {
        let large = Bytes::from(vec![index as u8; 400_000]);
        log.save_checkpoint(*at, vec![Bytes::from(format!("state {index}")), Bytes::new(), large.clone()])
            .await
            .unwrap();
        let expected = [format!("state {index}").as_bytes(), &large].concat();
        for reopened in [false, true] {
            if reopened {
                log.close().await;
                log = bench.open().await.unwrap();
            }
            let (place, state) = log.load_checkpoint().await.unwrap().unwrap();
            assert!(place == *at && state == expected);
        }
    }
    log.drop_older_checkpoints().await.unwrap();
    assert_eq!(log.load_checkpoint().await.unwrap().unwrap().0, stored[3].0);
    // An empty state is one, too.
    let at = store(&*log, vec![record(9, 9)]).await[0].0;
    log.save_checkpoint(at, vec![]).await.unwrap();
    assert_eq!(log.load_checkpoint().await.unwrap(), Some((at, Bytes::new())));
}

/// Segments of 64 KiB.
async fn what_is_dropped_goes_and_the_rest_stays(bench: &impl Bench) {
    let mut log = bench.open().await.unwrap();
    let mut stored = Vec::new();
    for seq in 0..60 {
        stored.extend(store(&*log, vec![record(seq, 10_000)]).await);
    }
    let last = stored.last().unwrap().0;
    if log.keeps_checkpoints() {
        log.drop_range(Position::START, last).await.unwrap();
        assert_eq!(scanned(&*log, Position::START).await.len(), 60, "without a checkpoint all of it is needed");
        log.save_checkpoint(last, vec![Bytes::from("state")]).await.unwrap();
    }
    if let Some(space) = log.space().await.unwrap() {
        let parts = space.parts;
        assert!(parts.len() > 4 && parts.is_sorted_by(|a, b| a.to <= b.from), "{parts:?}");
        assert!(
            parts.iter().all(|part| part.bytes > 50_000 && part.from < part.to && part.written.as_millis() > 0),
            "{parts:?}"
        );
        assert!(space.used >= parts.iter().map(|part| part.bytes).sum() && space.free <= space.total);
        // One between others.
        let middle = parts[2];
        log.drop_range(middle.from, middle.to).await.unwrap();
        stored.retain(|(at, _)| !(middle.from..middle.to).contains(at));
        for reopened in [false, true] {
            if reopened {
                log.close().await;
                log = bench.open().await.unwrap();
            }
            assert_eq!(scanned(&*log, Position::START).await, stored);
            assert_eq!(log.read(middle.from).await.unwrap(), None);
            let left = log.space().await.unwrap().unwrap().parts;
            assert_eq!(left.len(), parts.len() - 1, "{left:?}");
        }
        let usage = log.usage().await.unwrap().unwrap();
        assert!(
            usage.bytes > 300_000 && usage.segments > 4 && usage.checkpoint_bytes > 0 && usage.checkpoint_at.is_some()
        );
    }
    log.drop_range(Position::START, last).await.unwrap();
    let left = scanned(&*log, Position::START).await;
    assert!(left.len() < 15 && stored.ends_with(&left) && left.last().unwrap().0 == last, "{}", left.len());
    for (at, bytes) in &stored {
        let there = left.iter().any(|(left, _)| left == at);
        assert_eq!(log.read(*at).await.unwrap().as_ref(), there.then_some(bytes));
    }
    log.drop_range(Position::START, Position::new(u64::MAX)).await.unwrap();
    let new = store(&*log, vec![record(1, 1)]).await;
    assert!(new[0].0 > last);
    log.close().await;
    let log = bench.open().await.unwrap();
    assert_eq!(scanned(&*log, Position::START).await.last(), new.last());
}

async fn random_histories_are_read_back(bench: &impl Bench, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut stored: Vec<(Position, Bytes)> = Vec::new();
    let mut log = bench.open().await.unwrap();
    for seq in 0..60 {
        match random.u32(..12) {
            0 => {
                log.close().await;
                log = bench.open().await.unwrap();
            }
            1 if log.keeps_checkpoints() && !stored.is_empty() => {
                let at = stored[random.usize(..stored.len())].0;
                if log.load_checkpoint().await.unwrap().is_none_or(|(newest, _)| newest < at) {
                    log.save_checkpoint(at, vec![Bytes::from("state")]).await.unwrap();
                }
            }
            2 => {
                if let Some(space) = log.space().await.unwrap()
                    && let Some(part) = random.choice(space.parts)
                {
                    log.drop_range(part.from, part.to).await.unwrap();
                    stored.retain(|(at, _)| !(part.from..part.to).contains(at));
                }
            }
            _ => {
                let most = if random.u32(..10) == 0 { 200_000 } else { 8_000 };
                let batch = (0..random.usize(1..8)).map(|_| record(seq, random.usize(..most))).collect();
                stored.extend(store(&*log, batch).await);
            }
        }
        assert!(scanned(&*log, Position::START).await == stored, "seed {seed}, step {seq}");
        if let Some((at, bytes)) = random.choice(&stored) {
            assert_eq!(log.read(*at).await.unwrap().as_ref(), Some(bytes), "seed {seed}, step {seq}");
        }
    }
}

mod tests {
    use super::*;
    use crate::log::{DiskLog, DiskOptions, MemoryLog};
    use std::sync::Mutex;

    struct InMemory(Mutex<MemoryLog>);

    impl Bench for InMemory {
        async fn open(&self) -> Result<Arc<dyn Log>> {
            let mut log = self.0.lock().unwrap();
            *log = log.reopen();
            Ok(Arc::new(log.clone()))
        }

        fn closes(&self) -> bool {
            false
        }
    }

    struct OnDisk(tempfile::TempDir);

    impl Bench for OnDisk {
        async fn open(&self) -> Result<Arc<dyn Log>> {
            let options = DiskOptions { segment_bytes: 64 << 10, ..DiskOptions::default() };
            Ok(Arc::new(DiskLog::open(self.0.path().join("data"), options).await?))
        }
    }

    #[tokio::test]
    async fn a_log_in_memory_keeps_what_logs_keep() {
        suite(async || InMemory(Mutex::new(MemoryLog::new()))).await;
    }

    #[tokio::test]
    async fn a_log_on_a_disk_keeps_what_logs_keep() {
        suite(async || OnDisk(tempfile::tempdir().unwrap())).await;
    }
}
