//! A log on a stream of NATS JetStream, which replicates it: [`format`](crate::log::format::jetstream) says what the stream holds, and why
//! nothing is stored twice, lost or guessed.

mod cache;
mod checkpoint;
mod message;
mod nats;
mod open;
mod read;
mod resolve;
mod settings;
mod space;
mod stream;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU8;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result, Timestamp};
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::{Log, LogSpace, LogUsage};
use crate::model::{Encoded, Position};
use crate::seldom::Seldom;
use cache::Cache;
use checkpoint::Checkpoints;
use message::{Id, split};
pub use nats::Nats;
use stream::Link;
use writer::Job;

/// How long a server may take before that is told.
const HANGS: Duration = Duration::from_secs(5);

/// How a [`JetStreamLog`] uses its stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JetStreamOptions {
    /// How many servers have a copy of the stream, if it has to be made: 1, 3 or 5. One that is there must have at least as many. 3.
    pub replicas: NonZeroU8,
    /// How large the stream may become, in bytes, if it has to be made. `None`: as large as the account or the disks allow.
    pub max_bytes: Option<u64>,
    /// About how long messages are, in bytes: what is more of a batch goes into another. 256 KiB.
    pub message_bytes: usize,
    /// How many bytes of the log are dropped at a time: 64 KiB at least. 64 MiB.
    pub part_bytes: u64,
    /// How many bytes of recent messages are kept in memory. 32 MiB.
    pub cache_bytes: usize,
    /// How long a server may take to answer before it is found out whether it did what it was asked for. 5 s.
    pub answer_within: Duration,
}

impl Default for JetStreamOptions {
    fn default() -> Self {
        Self {
            replicas: NonZeroU8::MIN.saturating_add(2),
            max_bytes: None,
            message_bytes: 256 << 10,
            part_bytes: 64 << 20,
            cache_bytes: 32 << 20,
            answer_within: Duration::from_secs(5),
        }
    }
}

/// A log on a stream of NATS JetStream. Several engines may know it; the one that opened it last writes.
pub struct JetStreamLog {
    shared: Arc<Shared>,
    checkpoints: Checkpoints,
    /// `None` once it is closed.
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    jobs: mpsc::Sender<Job>,
    writer: JoinHandle<()>,
}

/// What readers share with the task that writes.
#[derive(Debug)]
struct Shared {
    link: Link,
    id: Id,
    /// Of this run.
    run: Id,
    epoch: u64,
    cache: Cache,
    openings: Mutex<BTreeSet<u64>>,
    /// The last message that is known to be stored.
    last: AtomicU64,
    /// Each part of the log by the sequence with which it begins, and what is known of it.
    parts: Mutex<BTreeMap<u64, Option<Part>>>,
    /// How long messages are, and how long they may be.
    sizes: (usize, usize),
    part_bytes: u64,
    /// How large the stream may become.
    max_bytes: Option<u64>,
    /// About how large it is.
    used: AtomicU64,
    failure: Failure,
    foreign: Seldom,
    waits: Waits,
    /// Nobody waits for what no server answers any more.
    closing: CancellationToken,
}

/// A part of the log that is dropped as a whole.
#[derive(Clone, Copy, Debug)]
struct Part {
    bytes: u64,
    written: Timestamp,
}

impl Shared {
    fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    fn openings(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        lock(&self.openings)
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<u64, Option<Part>>> {
        lock(&self.parts)
    }
}

/// Who waits for the servers, and since when.
#[derive(Debug, Default)]
struct Waits(Mutex<BTreeMap<u64, Instant>>, AtomicU64);

/// Ends with a wait.
struct Wait<'a>(&'a Waits, u64);

impl Waits {
    fn begin(&self) -> Wait<'_> {
        let number = self.1.fetch_add(1, Ordering::Relaxed);
        lock(&self.0).insert(number, Instant::now());
        Wait(self, number)
    }

    fn longest(&self) -> Option<Duration> {
        lock(&self.0).values().next().map(Instant::elapsed)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).remove(&self.1);
    }
}

impl JetStreamLog {
    /// The name of the stream.
    pub fn name(&self) -> &str {
        &self.shared.link.name
    }

    /// Hands the writer something to do, and waits until it is done.
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T>>) -> Job) -> Result<T> {
        let ended = || {
            let closed = || Error::new(ErrorKind::Unavailable, format!("the log {} is closed", self.name()));
            self.failure().unwrap_or_else(closed)
        };
        let _wait = self.shared.waits.begin();
        let jobs = lock(&self.running).as_ref().map(|running| running.jobs.clone()).ok_or_else(ended)?;
        let (answer, answered) = oneshot::channel();
        jobs.send(job(answer)).await.map_err(|_| ended())?;
        drop(jobs);
        answered.await.map_err(|_| ended())?
    }
}

#[async_trait]
impl Log for JetStreamLog {
    fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.shared.admit(&batch)?;
        self.ask(|answer| Job::Append { batch, answer }).await
    }

    async fn read(&self, at: Position) -> Result<Option<Bytes>> {
        self.shared.read(at).await
    }

    async fn read_many(&self, at: &[Position], max_bytes: usize) -> Vec<Result<Option<Bytes>>> {
        self.shared.prepare(at, max_bytes).await;
        let (mut read, mut bytes) = (Vec::with_capacity(at.len()), 0);
        for at in at {
            if bytes >= max_bytes && !read.is_empty() {
                break;
            }
            let found = self.shared.read(*at).await;
            bytes += found.as_ref().map_or(0, |found| found.as_ref().map_or(0, Bytes::len));
            read.push(found);
        }
        read
    }

    fn scan(&self, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>> {
        self.shared.scan(from)
    }

    fn place(&self, at: Position) -> String {
        let (sequence, index) = split(at);
        format!("record {index} of message {sequence} of the stream {}", self.name())
    }

    async fn drop_range(&self, from: Position, to: Position) -> Result<()> {
        let oldest = self.checkpoints.oldest().await?;
        for first in self.shared.parts_between(from, to, oldest) {
            self.ask(|answer| Job::Drop { first, answer }).await?;
        }
        self.shared.forget_openings().await
    }

    fn keeps_checkpoints(&self) -> bool {
        true
    }

    async fn save_checkpoint(&self, at: Position, state: Vec<Bytes>) -> Result<()> {
        self.checkpoints.save(at, state).await
    }

    async fn load_checkpoint(&self) -> Result<Option<(Position, Bytes)>> {
        self.checkpoints.newest().await
    }

    async fn drop_older_checkpoints(&self) -> Result<()> {
        self.checkpoints.keep_newest().await
    }

    async fn space(&self) -> Result<Option<LogSpace>> {
        let _wait = self.shared.waits.begin();
        let oldest = self.checkpoints.oldest().await?;
        self.shared.space(oldest).await.map(Some)
    }

    async fn usage(&self) -> Result<Option<LogUsage>> {
        let (bytes, at) = self.checkpoints.last_saved().await?;
        self.shared.usage(bytes, at).await.map(Some)
    }

    fn hangs(&self) -> Option<Duration> {
        self.shared.waits.longest().filter(|waited| *waited >= HANGS)
    }

    fn failure(&self) -> Option<Error> {
        self.shared.failure.get().cloned()
    }

    async fn failed(&self) -> Error {
        self.shared.failure.happened().await
    }

    async fn close(&self) {
        let Some(Running { jobs, writer }) = lock(&self.running).take() else { return };
        drop(jobs);
        self.shared.closing.cancel();
        // It has no code that panics.
        _ = writer.await;
    }
}

impl Drop for JetStreamLog {
    fn drop(&mut self) {
        self.shared.closing.cancel();
    }
}

impl fmt::Debug for JetStreamLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStreamLog")
            .field("stream", &self.name())
            .field("epoch", &self.shared.epoch)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds a lock can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
