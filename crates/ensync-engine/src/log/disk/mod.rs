//! A log in a directory.
//!
//! # What a directory holds
//!
//! | file | what |
//! |---|---|
//! | `lock` | locked by the engine that uses the directory |
//! | `0000000001.log` … | the log, in segments that are numbered without a gap |
//! | `00000000004294968360.checkpoint` … | the state after the record at that position; at most two |
//! | `*.unfinished` | what was being made when an engine stopped; of no use |
//!
//! This is format 1. Numbers are little-endian. CRC-32C is the one of RFC 3720, appendix B.4. A *position* is a segment's number
//! × 2³² + a byte offset in it. An engine refuses a directory of a later format and leaves it as it is.
//!
//! ## Segment
//!
//! ```text
//!  0  8  "ENSYNLOG"
//!  8  4  format: 1
//! 12  4  the segment's number, from 1
//! 16 16  the log's id: random, the same in all of its files
//! 32  4  CRC-32C of bytes 0 to 31
//! 36 28  zero
//! 64     frames, one after the other; then zeros, to the end of the space that is kept ready
//! ```
//!
//! ## Frame
//!
//! ```text
//!  0  4  length of the body
//!  4  4  CRC-32C of: the log's id (16), the frame's position (8), bytes 0 to 3 of the frame, its bytes from 8 to the body's end
//!  8  8  number of the commit, from 1
//! 16  4  epoch: how often the log had been opened when this was written
//! 20  1  kind
//! 21  1  1: the last frame of its commit; else 0
//! 22  2  e5 c1
//! 24     body; then zeros to a multiple of 8
//! ```
//!
//! A commit is what was written and synced at once. It lies in one segment, and counts whole or not at all. Each run begins with a
//! commit of one frame of kind 0, without a body. That the checksum covers the id, which no client ever sees, and the position,
//! keeps a client from having a text of its own taken for a frame.
//!
//! ## Bodies
//!
//! `text` and `bytes` are a length (4) and the bytes; `T?` is one byte, 0 or 1, and after a 1 the T; `time` is 8 bytes of
//! milliseconds since the Unix epoch; `event` is the number of a queue (4) and a sequence number (8); `app` is 32 bytes, a public
//! key; `rights` is a byte: bit 0 to publish, bit 1 to subscribe; `duration` is seconds (8) and nanoseconds (4).
//!
//! | kind | | body |
//! |---|---|---|
//! | 0 | a run begins | |
//! | 1 | publish | event, tag (4), recipient app, sender app, accepted time, expires time?, idempotency key text?, event name text, metadata text, payload bytes |
//! | 2 | ack | event, block (8) |
//! | 3 | defer | event, until time, deliveries (4) |
//! | 4 | discard | event, at time, deliveries (4), reason text |
//! | 5 | requeue | event, expires time? |
//! | 6 | drop | event |
//! | 7 | app | app, SHA-256 of its key (32), rights, at time, name text |
//! | 8 | event name | name text, registered by first use (1), options |
//! | 9 | grant | app, event name text?, rights |
//! | 10 | access key | app, SHA-256 of the new key (32), at time, until when the old one works time? |
//! | 11 | key pair | app, its new public key app |
//! | 12 | public key given up | app, the key app |
//! | 13 | may log in | app, whether (1) |
//! | 14 | app deleted | app |
//! | 15 | grant taken back | app, event name text |
//! | 16 | event name deleted | name text |
//!
//! Options: schema text? (JSON), time to live duration?, max deliveries (4)?, ack timeout duration?.
//!
//! ## Checkpoint
//!
//! ```text
//!  0  8  "ENSYNCKP"
//!  8  4  format: 1
//! 12  4  zero
//! 16 16  the log's id
//! 32  8  position of the last record that it covers
//! 40  8  length of the state
//! 48  4  CRC-32C of bytes 0 to 47 and the state
//! 52 12  zero
//! 64     the state, as the broker lays it out
//! ```
//!
//! # What happens at the start
//!
//! The newest checkpoint that can be read says where to begin; without one, the log is read from its start. From the segment of
//! that place on, every frame is checked. Where the frames stop following one another, the log ends: what lies there is a commit that was being written when
//! the engine stopped, nobody was told that it is stored, and it is overwritten with zeros. But if a frame of a later commit is found
//! behind it, or the checkpoint lies there, the disk lost what it had promised to keep: then the engine refuses to start, says
//! where, and changes nothing. A commit that is damaged with nothing after it looks like an unfinished one; a checkpoint at every orderly stop
//! narrows that.
//!
//! A failed sync is final: the operating system may have dropped what it could not write, and would report success the next time.
//! The log stores nothing more until the engine is started again. A disk without space is not final: publishes are refused while
//! the last eighth of a segment is left to acknowledgements, and go on when there is space.

pub(crate) mod bytes;
mod checkpoint;
mod directory;
mod format;
mod io;
mod recent;
pub(crate) mod record;
mod recover;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use ::bytes::Bytes;
use async_trait::async_trait;
use ensync_core::{Error, ErrorKind, Result, Timestamp};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::oneshot;

use super::{Log, Position, Record};
use directory::{Directory, failed, unusable};
use format::{ALIGN, Frame, HEADER, LogId, position, split};
use io::{Io, SystemIo};
use recent::Recent;
use record::OPENED;
use writer::{Append, Writer};

/// A log in a directory: what is stored survives the process and, as far as the disk keeps its word, the power.
///
/// One engine uses a directory at a time. See the source of this module for the format of the files, byte by byte.
pub struct DiskLog {
    shared: Arc<Shared>,
    /// `None` once it is closed.
    running: Mutex<Option<Running>>,
}

/// How a [`DiskLog`] uses its directory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiskOptions {
    /// The length of new segments, in bytes: 64 KiB to 1 GiB. It is taken from the disk ahead. 64 MiB.
    pub segment_bytes: u64,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20 }
    }
}

/// What readers share with the thread that writes.
#[derive(Debug)]
struct Shared {
    directory: Directory,
    id: LogId,
    epoch: u32,
    segment_bytes: u64,
    /// Each segment, and where what is durable of it ends; `u32::MAX` if that was never looked up.
    segments: Mutex<BTreeMap<u32, u32>>,
    recent: Mutex<Recent>,
}

#[derive(Debug)]
struct Running {
    jobs: Sender<Append>,
    thread: JoinHandle<()>,
    /// Released last.
    lock: File,
}

impl DiskLog {
    /// Opens the log in a directory, and makes both if they are not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if another engine uses the directory, or the operating system refuses;
    /// [`ErrorKind::InvalidInput`] if the directory is of a later format, damaged, or lacks a part. The message says where.
    pub async fn open(path: impl Into<PathBuf>, options: DiskOptions) -> Result<Self> {
        let path = path.into();
        blocking(move || Self::open_with(path, &options, Arc::new(SystemIo))).await
    }

    fn open_with(path: PathBuf, options: &DiskOptions, io: Arc<dyn Io>) -> Result<Self> {
        let segment_bytes = options.segment_bytes;
        if !(64 << 10..=format::MAX_SEGMENT).contains(&segment_bytes) {
            return Err(unusable(format!("segments of {segment_bytes} bytes: they must have 64 KiB to 1 GiB")));
        }
        let directory = Directory { path, io };
        let lock_file = directory.enter()?;
        let found = match recover::find(&directory)? {
            Some(found) => found,
            None => {
                let id = crate::broker::random()?;
                let made = directory.create_segment(&id, 1, segment_bytes);
                made.map_err(|cause| failed("make the log in", &directory.path, cause))?;
                let segments = BTreeMap::from([(1, HEADER)]);
                recover::Found { id, segments, segment: 1, commit: 0, epoch: 0 }
            }
        };
        let recover::Found { id, segments, segment, commit, epoch } = found;
        let epoch = epoch.checked_add(1).ok_or_else(|| unusable("the log was opened too often".into()))?;
        let offset = segments.get(&segment).copied().unwrap_or(HEADER);
        let (segments, recent) = (Mutex::new(segments), Mutex::default());
        let shared = Arc::new(Shared { directory, id, epoch, segment_bytes, segments, recent });
        let mut writer = Writer::open(shared.clone(), segment, offset, (commit, epoch))?;
        writer.begin()?;
        let (jobs, waiting) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("ensync-log".into()).spawn(move || writer.run(waiting));
        let thread = thread.map_err(|cause| {
            Error::new(ErrorKind::Unavailable, "cannot start the thread that writes the log").with_source(cause)
        })?;
        Ok(Self { shared, running: Mutex::new(Some(Running { jobs, thread, lock: lock_file })) })
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

    async fn append(&self, batch: &[Arc<Record>]) -> Result<Vec<Position>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let closed = || Error::new(ErrorKind::Unavailable, "the log is closed");
        let (answer, answered) = oneshot::channel();
        let append = Append { batch: batch.to_vec(), answer };
        lock(&self.running).as_ref().and_then(|running| running.jobs.send(append).ok()).ok_or_else(closed)?;
        answered.await.map_err(|_| closed())?
    }

    async fn read(&self, at: Position) -> Result<Option<Arc<Record>>> {
        if let Some(record) = lock(&self.shared.recent).find(at) {
            return Ok(Some(record));
        }
        let shared = self.shared.clone();
        blocking(move || shared.read(at)).await
    }

    fn scan(&self, from: Position) -> BoxStream<'static, Result<(Position, Arc<Record>)>> {
        let shared = self.shared.clone();
        let segments: Vec<_> = lock(&shared.segments).range(split(from).0..).map(|(n, end)| (*n, *end)).collect();
        let read = move |(number, end)| {
            let shared = shared.clone();
            async move {
                let opened = shared.clone();
                match blocking(move || opened.directory.read_segment(number)).await {
                    Ok((bytes, _)) => {
                        let bytes = bytes.slice(..bytes.len().min(end as usize));
                        Records { shared, bytes, number, offset: HEADER as usize, end }.left_from(from)
                    }
                    Err(error) => stream::iter([Err(error)]).boxed(),
                }
            }
        };
        let mut failed = false;
        stream::iter(segments)
            .then(read)
            .flatten()
            .take_while(move |read| {
                let goes_on = !failed;
                failed |= read.is_err();
                std::future::ready(goes_on)
            })
            .boxed()
    }

    async fn drop_before(&self, position: Position) -> Result<()> {
        let shared = self.shared.clone();
        blocking(move || shared.drop_before(position)).await
    }

    fn keeps_checkpoints(&self) -> bool {
        true
    }

    async fn save_checkpoint(&self, at: Position, state: Bytes) -> Result<()> {
        let shared = self.shared.clone();
        blocking(move || checkpoint::save(&shared.directory, &shared.id, at, &state)).await
    }

    async fn load_checkpoint(&self) -> Result<Option<(Position, Bytes)>> {
        let shared = self.shared.clone();
        blocking(move || {
            let Some(at) = checkpoint::newest(&shared.directory, &shared.id)? else { return Ok(None) };
            Ok(Some((at, checkpoint::load(&shared.directory, &shared.id, at)?)))
        })
        .await
    }

    async fn expendable(&self, written_before: Timestamp, max_bytes: u64) -> Result<Vec<(Position, u64)>> {
        let shared = self.shared.clone();
        blocking(move || shared.expendable(written_before, max_bytes)).await
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
        _ = self.thread.join();
        drop(self.lock);
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

impl Shared {
    fn read(&self, at: Position) -> Result<Option<Arc<Record>>> {
        let (number, offset) = split(at);
        let end = lock(&self.segments).get(&number).copied();
        let in_place = offset >= HEADER && (offset as usize).is_multiple_of(ALIGN);
        let Some(end) = end.filter(|end| in_place && offset < *end) else { return Ok(None) };
        let path = self.directory.segment(number);
        let read = || {
            let mut file = match File::open(&path) {
                // Retention was faster.
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            file.seek(SeekFrom::Start(offset.into()))?;
            let mut bytes = Vec::with_capacity(4096);
            (&file).take(4096).read_to_end(&mut bytes)?;
            let left = u64::from(end - offset);
            let size = Frame::announced(&bytes).map(Frame::size).filter(|size| *size as u64 <= left);
            let Some(size) = size else { return Ok(None) };
            if size > bytes.len() {
                (&file).take((size - bytes.len()) as u64).read_to_end(&mut bytes)?;
            }
            Ok(Some(Bytes::from(bytes)))
        };
        let Some(bytes) = read().map_err(|cause| failed("read", &path, cause))? else { return Ok(None) };
        let Some(frame) = Frame::read(&bytes, 0, &self.id, at).filter(|frame| frame.kind != OPENED) else {
            return Ok(None);
        };
        self.decode(at, &frame, frame.body_of(&bytes, 0)).map(Some)
    }

    fn decode(&self, at: Position, frame: &Frame, body: Bytes) -> Result<Arc<Record>> {
        record::decode(frame.kind, body).map(Arc::new).map_err(|_| {
            let (number, offset) = split(at);
            unusable(format!(
                "the record at byte {offset} of {} has no meaning here (its checksum is right): a later engine wrote it; \
                 use that, or a later one",
                self.directory.segment(number).display()
            ))
        })
    }

    fn drop_before(&self, position: Position) -> Result<()> {
        // What the older checkpoint needs stays, for when the newer cannot be read.
        let Some(oldest) = self.directory.checkpoints()?.first().copied() else { return Ok(()) };
        let keep = split(position.min(oldest)).0;
        let gone: Vec<u32> = lock(&self.segments).range(..keep).map(|(number, _)| *number).collect();
        // From the first on: the numbers have no gap, whenever this is interrupted.
        for number in gone {
            self.directory.remove(&self.directory.segment(number))?;
            lock(&self.segments).remove(&number);
        }
        self.directory.sync().map_err(|cause| failed("sync", &self.directory.path, cause))
    }

    fn expendable(&self, written_before: Timestamp, max_bytes: u64) -> Result<Vec<(Position, u64)>> {
        let Some(oldest) = self.directory.checkpoints()?.first().copied() else { return Ok(Vec::new()) };
        let numbers: Vec<u32> = lock(&self.segments).keys().copied().collect();
        let mut found = Vec::new();
        for number in numbers {
            let path = self.directory.segment(number);
            let metadata = std::fs::metadata(&path).map_err(|cause| failed("read", &path, cause))?;
            let written = metadata.modified().unwrap_or_else(|_| SystemTime::now());
            found.push((number, metadata.len(), Timestamp::from(written)));
        }
        let mut total: u64 = found.iter().map(|(_, length, _)| length).sum();
        let mut expendable = Vec::new();
        for (number, length, written) in found {
            if number >= split(oldest).0 || (total <= max_bytes && written >= written_before) {
                break;
            }
            total -= length;
            expendable.push((position(number + 1, 0), length));
        }
        Ok(expendable)
    }
}

/// The records of a segment.
struct Records {
    shared: Arc<Shared>,
    bytes: Bytes,
    number: u32,
    offset: usize,
    /// `u32::MAX` if nobody looked it up.
    end: u32,
}

impl Records {
    /// Those from a position on.
    fn left_from(self, from: Position) -> BoxStream<'static, Result<(Position, Arc<Record>)>> {
        stream::iter(self.skip_while(move |read| read.as_ref().is_ok_and(|(at, _)| *at < from))).boxed()
    }
}

impl Iterator for Records {
    type Item = Result<(Position, Arc<Record>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let base = position(self.number, 0);
        while self.offset < self.bytes.len() {
            let Some(frame) = Frame::read(&self.bytes, self.offset, &self.shared.id, base) else {
                let offset = std::mem::replace(&mut self.offset, usize::MAX);
                let path = self.shared.directory.segment(self.number);
                let damaged = || unusable(format!("the log is damaged at byte {offset} of {}", path.display()));
                return (self.end != u32::MAX).then(|| Err(damaged()));
            };
            let (at, offset) = (Position::new(base.as_u64() + self.offset as u64), self.offset);
            self.offset += Frame::size(frame.body);
            if frame.kind != OPENED {
                let decoded = self.shared.decode(at, &frame, frame.body_of(&self.bytes, offset));
                return Some(decoded.map(|record| (at, record)));
            }
        }
        None
    }
}

/// Runs what waits for the disk on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|cause| Err(Error::new(ErrorKind::Internal, "a task of the log failed").with_source(cause)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds a lock can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
