use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result};
use futures::stream::BoxStream;
use tokio::sync::watch;

use super::Fault;
use crate::log::{Log, LogSpace};
use crate::model::{Encoded, Position};

/// What is wrong with a test engine's log. Cheap to clone; outlives restarts.
#[derive(Clone, Debug, Default)]
pub struct LogFaults(Arc<Faults>);

#[derive(Debug, Default)]
struct Faults {
    refuse_appends: AtomicU64,
    fail_reads: AtomicU64,
    full: watch::Sender<u32>,
    held: watch::Sender<u32>,
    held_reads: watch::Sender<u32>,
    /// How many reads are under way.
    reading: watch::Sender<u32>,
}

impl LogFaults {
    /// Has the next appends fail. What would have been stored is refused as [`Unavailable`](ErrorKind::Unavailable), and is not there.
    ///
    /// After a batch that fails the engine tries once more without its publishes, which counts as another append.
    pub fn refuse_appends(&self, next: u64) {
        self.0.refuse_appends.store(next, Ordering::SeqCst);
    }

    /// Has the disk be full until the fault is dropped: publishes are refused, acknowledgements and the like go on.
    #[must_use = "the log is full until this is dropped"]
    pub fn fill(&self) -> Fault {
        Fault::begin(&self.0.full)
    }

    /// Has appends hang until the fault is dropped, and with them the engine, which waits: nothing is answered meanwhile, nor
    /// delivered, and it cannot be restarted in order.
    #[must_use = "the log hangs until this is dropped"]
    pub fn hold(&self) -> Fault {
        Fault::begin(&self.0.held)
    }

    /// Has reads of payloads hang until the fault is dropped. Whoever waits for one waits; all else goes on.
    #[must_use = "reads hang until this is dropped"]
    pub fn hold_reads(&self) -> Fault {
        Fault::begin(&self.0.held_reads)
    }

    /// How many reads of payloads are under way; those that [`hold_reads`](Self::hold_reads) holds are not. A client may be about to get
    /// what they read.
    pub fn reads(&self) -> u32 {
        *self.0.reading.borrow()
    }

    /// Waits until no read of a payload is under way.
    pub async fn reads_end(&self) {
        // The sender lives in `self`.
        let _ = self.0.reading.subscribe().wait_for(|reading| *reading == 0).await;
    }

    /// Lets what hangs see that it has crashed.
    pub(super) fn wake(&self) {
        self.0.held.send_modify(|_| {});
        self.0.held_reads.send_modify(|_| {});
    }

    /// Has the next reads of a payload fail. The delivery that needed one does not happen, and does not count: the event comes again when
    /// its lease runs out.
    pub fn fail_reads(&self, next: u64) {
        self.0.fail_reads.store(next, Ordering::SeqCst);
    }
}

/// Takes one of the faults that are left.
fn take(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// A log with faults.
pub(crate) struct FaultyLog {
    pub(crate) inner: Arc<dyn Log>,
    pub(crate) faults: LogFaults,
    /// The engine has crashed: nothing it does from now on reaches the disk.
    pub(crate) crashed: Arc<AtomicBool>,
}

impl FaultyLog {
    fn is_crashed(&self) -> bool {
        self.crashed.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for FaultyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyLog").field("inner", &self.inner).field("faults", &self.faults).finish_non_exhaustive()
    }
}

#[async_trait]
impl Log for FaultyLog {
    fn epoch(&self) -> u64 {
        self.inner.epoch()
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        let faults = &self.faults.0;
        // The sender lives in `self`.
        let _ = faults.held.subscribe().wait_for(|held| *held == 0 || self.is_crashed()).await;
        let refuse = |why: &'static str| Err(Error::new(ErrorKind::Unavailable, why));
        if self.is_crashed() {
            return refuse("the engine has crashed");
        }
        if *faults.full.borrow() > 0 && batch.iter().any(Encoded::grows) {
            return refuse("the disk is full, as the test wants it");
        }
        if take(&faults.refuse_appends) {
            return refuse("the log refuses, as the test wants it");
        }
        self.inner.append(batch).await
    }

    async fn read(&self, at: Position) -> Result<Option<Bytes>> {
        let held = &self.faults.0.held_reads;
        let _ = held.subscribe().wait_for(|held| *held == 0 || self.is_crashed()).await;
        if take(&self.faults.0.fail_reads) {
            return Err(Error::new(ErrorKind::Unavailable, "the log cannot be read, as the test wants it"));
        }
        let (inner, reading) = (self.inner.clone(), Fault::begin(&self.faults.0.reading));
        // It ends, also when whoever wants it goes.
        let read = tokio::spawn(async move {
            let read = inner.read(at).await;
            drop(reading);
            read
        });
        read.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "a read of the test's log failed")))
    }

    fn scan(&self, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>> {
        self.inner.scan(from)
    }

    fn place(&self, at: Position) -> String {
        self.inner.place(at)
    }

    async fn drop_range(&self, from: Position, to: Position) -> Result<()> {
        self.inner.drop_range(from, to).await
    }

    fn keeps_checkpoints(&self) -> bool {
        !self.is_crashed() && self.inner.keeps_checkpoints()
    }

    async fn save_checkpoint(&self, at: Position, state: Vec<Bytes>) -> Result<()> {
        if self.is_crashed() { Ok(()) } else { self.inner.save_checkpoint(at, state).await }
    }

    fn expect_checkpoint(&self, bytes: u64) {
        self.inner.expect_checkpoint(bytes);
    }

    async fn load_checkpoint(&self) -> Result<Option<(Position, Bytes)>> {
        self.inner.load_checkpoint().await
    }

    async fn drop_older_checkpoints(&self) -> Result<()> {
        self.inner.drop_older_checkpoints().await
    }

    async fn space(&self) -> Result<Option<LogSpace>> {
        self.inner.space().await
    }

    fn hangs(&self) -> Option<Duration> {
        self.inner.hangs()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
