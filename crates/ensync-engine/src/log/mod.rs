//! The log: the truth of which the engine's state is a fold. It stores and knows nothing of what it stores.

#[cfg(test)]
mod conformance;
pub(crate) mod disk;
mod failure;
#[cfg(feature = "cluster")]
mod jetstream;
mod logs;
mod memory;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::{Error, Result, Timestamp};
use futures::stream::BoxStream;

#[doc = include_str!("disk/format.md")]
pub mod format {
    #[cfg(feature = "cluster")]
    #[doc = include_str!("jetstream/format.md")]
    pub mod jetstream {}
}

pub use disk::{DiskLog, DiskOptions, ReadProgress};
#[cfg(feature = "cluster")]
pub use jetstream::{JetStreamLog, JetStreamOptions, Nats};
pub use logs::Logs;
pub use memory::MemoryLog;

use crate::model::{Encoded, Position};

/// What a log takes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogUsage {
    /// Its segments, in bytes; space that is kept ready included.
    pub bytes: u64,
    /// How many they are.
    pub segments: u64,
    /// What is free where it is, in bytes.
    pub free_bytes: u64,
    /// What is kept of it for acknowledgements, checkpoints and the like, in bytes: not free, and not in the segments.
    pub reserved_bytes: u64,
    /// The newest checkpoint, in bytes; 0 without one. Of several logs, those of all.
    pub checkpoint_bytes: u64,
    /// When it was saved.
    pub checkpoint_at: Option<Timestamp>,
}

impl LogUsage {
    /// What two logs on one disk take up together.
    pub(crate) fn and(self, other: &Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            segments: self.segments + other.segments,
            free_bytes: self.free_bytes.min(other.free_bytes),
            reserved_bytes: self.reserved_bytes + other.reserved_bytes,
            checkpoint_bytes: self.checkpoint_bytes + other.checkpoint_bytes,
            // Of the one that was saved longest ago: it says how much a start has to read.
            checkpoint_at: [self.checkpoint_at, other.checkpoint_at].into_iter().flatten().min(),
        }
    }
}

/// A part of a log that can be dropped as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogPart {
    /// Where it begins.
    pub from: Position,
    /// Where the next one begins.
    pub to: Position,
    /// What it takes, in bytes.
    pub bytes: u64,
    /// When something was last stored in it.
    pub written: Timestamp,
}

/// The space that a log takes, and has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogSpace {
    /// The parts that a start does not need, in their order.
    pub parts: Vec<LogPart>,
    /// What all of it takes, checkpoints apart, in bytes.
    pub used: u64,
    /// What is free for more.
    pub free: u64,
    /// What it keeps less than it has to, for what makes space, in bytes: as long as that is so, it refuses what
    /// [grows](crate::model::Need::Grows).
    pub lacking: u64,
    /// What there is for this log and whatever shares its place.
    pub total: u64,
    /// What it takes at a time.
    pub segment_bytes: u64,
}

/// An append-only list of records, which are bytes to it.
///
/// One broker writes; reads may come from any task at any time. The broker asks for nothing but what is here, so a log on a
/// disk, one in memory, and one that a cluster replicates (a stream of JetStream, say, where a position is a stream sequence, an
/// epoch is a term of ownership, a checkpoint is an object beside the stream, and losing the ownership is a
/// [`failure`](Log::failure)) are the same to it. What an implementation keeps:
///
/// 1. a batch is appended whole or not at all, in its order, and `append` returns only once it is durable;
/// 2. positions ascend strictly, over batches and over restarts;
/// 3. a record is read back equal to what was appended, at its position, until [`drop_range`](Log::drop_range) takes it away;
/// 4. any position may be asked for, also one that a client forged: what is not the start of a record is `None`;
/// 5. a batch is appended under this run's epoch or not at all: once a later run has opened the log, this one appends nothing.
#[async_trait]
pub trait Log: fmt::Debug + Send + Sync + 'static {
    /// How often this log has been opened, this time included: from 1. It makes the fencing tokens of one run larger than those
    /// of the runs before.
    fn epoch(&self) -> u64;

    /// Appends a batch and returns the position of each record, once all are durable.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the batch was not stored; none of it will be read back.
    /// [`Interrupted`](ensync_core::ErrorKind::Interrupted) if that is not known: the batch is there when the log is opened again, or
    /// it is not. [`failure`](Log::failure) says why then, and later batches are not stored.
    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>>;

    /// The record at a position, or `None` if none starts there (any more).
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the record is there and cannot be read.
    async fn read(&self, at: Position) -> Result<Option<Bytes>>;

    /// Reads several records, in the order in which they are asked for: each as [`read`](Log::read) does, so that one that cannot be
    /// read is no loss of the others. Cheaper than to read them one by one, above all if they lie near each other in ascending order.
    ///
    /// It ends early after the record with which it has `max_bytes`: the first is always read, and whoever wants the others asks
    /// again from there on. At most `max_bytes` and one record are in memory.
    async fn read_many(&self, at: &[Position], max_bytes: usize) -> Vec<Result<Option<Bytes>>> {
        let (mut read, mut bytes) = (Vec::with_capacity(at.len()), 0);
        for at in at {
            if bytes >= max_bytes && !read.is_empty() {
                break;
            }
            let found = self.read(*at).await;
            bytes += found.as_ref().map_or(0, |found| found.as_ref().map_or(0, Bytes::len));
            read.push(found);
        }
        read
    }

    /// Every record from a position on, in order. Ends at the end the log had when this was called, or after an error.
    fn scan(&self, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>>;

    /// Where it begins: of what was stored before, nothing is there any more.
    fn begins(&self) -> Position {
        Position::START
    }

    /// Where a position is, in words that help whoever looks after the log.
    fn place(&self, at: Position) -> String {
        format!("position {at} of the log")
    }

    /// Gives up what lies between two positions, as far as whole parts of it can go. It may stay readable for a while.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if it cannot now; nothing is lost by trying again.
    async fn drop_range(&self, from: Position, to: Position) -> Result<()>;

    /// Whether [`save_checkpoint`](Log::save_checkpoint) is of any use.
    fn keeps_checkpoints(&self) -> bool {
        false
    }

    /// Keeps what the records up to and including the one at a position come to, so that a later start need not read them: bytes, in
    /// pieces that belong together.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if it cannot now; earlier checkpoints are still there then.
    async fn save_checkpoint(&self, _at: Position, _state: Vec<Bytes>) -> Result<()> {
        Ok(())
    }

    /// Takes note of how many bytes the next checkpoint will take, about: a log whose disk is nearly full leaves them room, for without a new
    /// checkpoint nothing can be dropped.
    fn expect_checkpoint(&self, _bytes: u64) {}

    /// The newest checkpoint, if there is one.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if it is there and cannot be read.
    async fn load_checkpoint(&self) -> Result<Option<(Position, Bytes)>> {
        Ok(None)
    }

    /// Forgets all checkpoints but the newest that can be read, and with them what keeps their parts of the log from being dropped: for a disk without
    /// space.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if it cannot now; nothing is lost by trying again.
    async fn drop_older_checkpoints(&self) -> Result<()> {
        Ok(())
    }

    /// What can be dropped, and how much space there is; `None` if that is no question.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if that cannot be found out.
    async fn space(&self) -> Result<Option<LogSpace>> {
        Ok(None)
    }

    /// What it takes up; `None` if it takes up nothing but memory.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if that cannot be found out.
    async fn usage(&self) -> Result<Option<LogUsage>> {
        Ok(None)
    }

    /// For how long something that the broker waits for has been waiting for its disk, if that is so long that the disk has to be taken for
    /// hanging.
    fn hangs(&self) -> Option<Duration> {
        None
    }

    /// Why nothing more is stored until the log is opened again, if that is so: its disk failed, or another engine has taken it
    /// over. What was stored can be read on.
    fn failure(&self) -> Option<Error> {
        None
    }

    /// Waits until [`failure`](Log::failure) has something to say. Never returns if it does not.
    async fn failed(&self) -> Error {
        std::future::pending().await
    }

    /// Finishes. Later appends are refused; another process may open the log.
    async fn close(&self) {}
}
