//! A log in a directory: [`format`](crate::log::format) says what the files hold.

pub(crate) mod checkpoint;
pub(crate) mod directory;

mod files;
pub(crate) mod folder;
pub(crate) mod format;
pub(crate) mod io;
pub(crate) mod layout;
mod progress;
mod read;
mod records;
pub(crate) mod recover;
mod reserve;
pub(crate) mod segment;
mod shared;
mod space;
#[cfg(test)]
mod tests;

mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result};
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, oneshot};

use super::failure::Failure;
use super::{Log, LogSpace, LogUsage};
use crate::model::{Encoded, Position};
use directory::{Directory, failed, unusable};

use files::OpenFiles;
use format::{HEADER, split};
use io::{Io, SystemIo};
pub use progress::ReadProgress;
use reserve::Reserve;
use shared::{Shared, Visits};
use writer::{Append, Writer};

/// A log in a directory, which is one of those that [a data directory](super::Logs::open) holds: what is stored survives the process and, as far as the disk keeps its word, the power.
///
/// One engine uses a directory at a time. [`log::format`](crate::log::format) describes the files, byte by byte, and says what is
/// done about damage; [`store`](crate::store) has what can be done with a directory while no engine uses it.
pub struct DiskLog {
    shared: Arc<Shared>,
    /// Who may be at the disk to read: a disk that hangs must not take every thread there is for such work.
    readers: Arc<Semaphore>,
    /// `None` once it is closed.
    running: Mutex<Option<Running>>,
}

/// How a [`DiskLog`] uses its directory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiskOptions {
    /// The length of new segments, in bytes: 64 KiB to 1 GiB. It is taken from the disk ahead. 64 MiB.
    pub segment_bytes: u64,
    /// How many partitions the store has: 1 to 64, fixed when it is made. `None`: as many as there are, and 1 in a new store. A
    /// single [`DiskLog`] has nothing to do with it.
    pub partitions: Option<NonZeroU32>,
    /// How long after the last commit a mark is written behind it, with which damage to that commit is told from an unfinished
    /// write. 1 s.
    pub mark_after: Duration,
    /// Told how far the log has been read.
    pub progress: ReadProgress,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            partitions: None,
            mark_after: Duration::from_secs(1),
            progress: ReadProgress::default(),
        }
    }
}

/// How many reads are at the disk at a time.
const READERS: usize = 16;

/// The length of the first segment of all, at most.
const FIRST: u64 = 1 << 20;

#[derive(Debug)]
struct Running {
    jobs: Sender<Append>,
    writer: JoinHandle<()>,
    /// Ends when its sender is gone.
    watch: (Sender<()>, JoinHandle<()>),
    /// Released last: the directory's own, and that of the store around it, which all of its logs hold.
    locks: (File, Option<Arc<File>>),
}

impl DiskLog {
    /// Opens the log in a directory, and makes both if they are not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if another engine uses the directory, or the operating system refuses;
    /// [`ErrorKind::InvalidInput`] if the directory is of a later format, damaged, or lacks a part. The message says where.
    pub async fn open(path: impl Into<PathBuf>, options: DiskOptions) -> Result<Self> {
        Self::open_below(path.into(), options, None).await
    }

    /// The same, and keeps something locked until it is closed.
    async fn open_below(path: PathBuf, options: DiskOptions, around: Option<Arc<File>>) -> Result<Self> {
        let log = blocking(move || Self::open_with(path, &options, Arc::new(SystemIo))).await?;
        if let Some(running) = &mut *lock(&log.running) {
            running.locks.1 = around;
        }
        Ok(log)
    }

    fn open_with(path: PathBuf, options: &DiskOptions, io: Arc<dyn Io>) -> Result<Self> {
        let segment_bytes = options.segment_bytes;
        if !(64 << 10..=format::MAX_SEGMENT).contains(&segment_bytes) {
            return Err(unusable(format!("segments of {segment_bytes} bytes: they must have 64 KiB to 1 GiB")));
        }
        let mut directory = Directory::new(path, io);
        directory.progress = options.progress.clone();
        let lock_file = directory.enter()?;
        let found = match recover::find(&directory)? {
            Some(found) => found,
            None => {
                let id = crate::random::random()?;
                // A small one: what makes it large is made while the engine is at work already.
                let length = space::segment_length(&directory, segment_bytes).min(FIRST);
                let made = directory.create_segment(&id, 1, length);
                made.map_err(|cause| failed("make the log in", &directory.path, cause))?;
                let segments = BTreeMap::from([(1, HEADER)]);
                recover::Found { id, segments, segment: 1, spare: None, commit: 0, epoch: 0, mark: None }
            }
        };
        let recover::Found { id, segments, segment, spare, commit, epoch, mark } = found;
        let epoch = epoch.checked_add(1).ok_or_else(|| unusable("the log was opened too often".into()))?;
        let offset = segments.get(&segment).copied().unwrap_or(HEADER);
        let (segments, failure, busy) = (Mutex::new(segments), Failure::default(), Mutex::default());
        let files = OpenFiles::default();
        let visits = Visits::default();
        let reserve = Reserve::open(&directory);
        let shared =
            Arc::new(Shared { directory, id, epoch, segment_bytes, segments, files, failure, busy, visits, reserve });
        shared.measure_checkpoints();
        let mut writer = Writer::open(shared.clone(), segment, offset, (commit, epoch))?;
        writer.adopt(spare);
        writer.begin(mark).map_err(|error| error.context("start"))?;
        shared.is_reserve_whole();
        let (jobs, waiting) = std::sync::mpsc::channel();
        let mark_after = options.mark_after;
        let (end, ended) = std::sync::mpsc::channel();
        let watched = shared.clone();
        let watch = thread("ensync-log-watch", move || watched.watch(&ended))?;
        let writer = thread("ensync-log", move || writer.run(&waiting, mark_after))?;
        let running = Running { jobs, writer, watch: (end, watch), locks: (lock_file, None) };
        let readers = Arc::new(Semaphore::new(READERS));
        Ok(Self { shared, readers, running: Mutex::new(Some(running)) })
    }

    /// Does what the broker may wait for, on a thread for that.
    async fn visit<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> Result<T> + Send + 'static) -> Result<T> {
        let shared = self.shared.clone();
        blocking(move || shared.visits.during(|| work(&shared))).await
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.shared.directory.path
    }
}

#[async_trait]
impl Log for DiskLog {
    fn epoch(&self) -> u64 {
        self.shared.epoch.into()
    }

    fn begins(&self) -> Position {
        lock(&self.shared.segments).keys().next().map_or(Position::START, |first| format::position(*first, 0))
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let closed = || Error::new(ErrorKind::Unavailable, "the log is closed");
        let (answer, answered) = oneshot::channel();
        let append = Append { batch, answer };
        lock(&self.running).as_ref().and_then(|running| running.jobs.send(append).ok()).ok_or_else(closed)?;
        answered.await.map_err(|_| closed())?
    }

    async fn read(&self, at: Position) -> Result<Option<Bytes>> {
        self.read_many(&[at], 0).await.pop().unwrap_or(Ok(None))
    }

    async fn read_many(&self, at: &[Position], max_bytes: usize) -> Vec<Result<Option<Bytes>>> {
        let (shared, at) = (self.shared.clone(), Vec::from(at));
        let first = at.len().min(1);
        // Nobody closes it.
        let turn = self.readers.clone().acquire_owned().await;
        let read = blocking(move || {
            let read = shared.read(&at, max_bytes);
            drop(turn);
            Ok(read)
        });
        read.await.unwrap_or_else(|error| vec![Err(error); first])
    }

    fn scan(&self, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>> {
        records::scan(&self.shared, from)
    }

    fn place(&self, at: Position) -> String {
        let (number, offset) = split(at);
        format!("byte {offset} of {}", self.shared.directory.segment(number).display())
    }

    async fn drop_range(&self, from: Position, to: Position) -> Result<()> {
        self.visit(move |shared| shared.drop_range(from, to)).await
    }

    fn keeps_checkpoints(&self) -> bool {
        true
    }

    async fn save_checkpoint(&self, at: Position, state: Vec<Bytes>) -> Result<()> {
        // No visit: the broker goes on meanwhile, and says itself when it does not.
        let shared = self.shared.clone();
        blocking(move || shared.save_checkpoint(at, &state)).await
    }

    async fn load_checkpoint(&self) -> Result<Option<(Position, Bytes)>> {
        let shared = self.shared.clone();
        blocking(move || {
            let Some(at) = checkpoint::newest(&shared.directory, &shared.id)? else { return Ok(None) };
            Ok(Some((at, checkpoint::load(&shared.directory, &shared.id, at)?)))
        })
        .await
    }

    async fn drop_older_checkpoints(&self) -> Result<()> {
        self.visit(Shared::drop_older_checkpoints).await
    }

    fn expect_checkpoint(&self, bytes: u64) {
        self.shared.reserve_for_checkpoint(bytes);
    }

    async fn space(&self) -> Result<Option<LogSpace>> {
        self.visit(|shared| shared.space().map(Some)).await
    }

    fn hangs(&self) -> Option<Duration> {
        Some(self.shared.waits_since()?.elapsed()).filter(|busy| *busy >= shared::HANGS)
    }

    fn failure(&self) -> Option<Error> {
        self.shared.failure.get().cloned()
    }

    async fn failed(&self) -> Error {
        self.shared.failure.happened().await
    }

    async fn usage(&self) -> Result<Option<LogUsage>> {
        let shared = self.shared.clone();
        blocking(move || shared.usage().map(Some)).await
    }

    async fn close(&self) {
        let Some(running) = lock(&self.running).take() else { return };
        // Nobody else can fail here: the thread has no code that panics.
        _ = blocking(move || {
            running.stop();
            Ok(())
        })
        .await;
    }
}

impl Running {
    /// Finishes what waits, then lets others have the directory.
    fn stop(self) {
        drop(self.jobs);
        _ = self.writer.join();
        drop(self.watch.0);
        _ = self.watch.1.join();
        drop(self.locks);
    }
}

impl Drop for DiskLog {
    fn drop(&mut self) {
        if let Some(running) = lock(&self.running).take() {
            running.stop();
        }
    }
}

impl fmt::Debug for DiskLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.shared;
        f.debug_struct("DiskLog").field("path", &shared.directory.path).field("epoch", &shared.epoch).finish()
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|cause| {
        Error::new(ErrorKind::Unavailable, format!("cannot start the thread {name}")).with_source(cause)
    })
}

/// Runs what waits for the disk on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|cause| Err(Error::new(ErrorKind::Internal, "a task of the log failed").with_source(cause)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds a lock can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
