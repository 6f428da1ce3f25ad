//! The one thread that writes: takes all that waits, writes once, syncs once, answers.

use std::fs::{File, OpenOptions};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use ensync_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::format::{self, Frame, HEADER, MAX_SEGMENT, position};
use super::io::is_full;
use super::record::{self, OPENED};
use super::{Shared, failed, lock};
use crate::log::{Position, Record};

/// The most records of a commit, and the bytes after which no more are taken in.
const COMMIT: (usize, usize) = (2_048, 8 << 20);

/// A batch, and who waits for its positions.
pub(super) struct Append {
    pub(super) batch: Vec<Arc<Record>>,
    pub(super) answer: oneshot::Sender<Result<Vec<Position>>>,
}

/// Where the log ends.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    segment: u32,
    file: File,
    offset: u32,
    capacity: u64,
    /// The last commit.
    commit: u64,
    epoch: u32,
    /// The next segment, made ahead.
    spare: Option<(File, u64)>,
    /// After a failed sync: nobody knows what is on the disk, and asking again would only hide it.
    poison: Option<Error>,
    buffer: Vec<u8>,
}

impl Writer {
    /// Goes on at the end of a segment.
    pub(super) fn open(shared: Arc<Shared>, segment: u32, offset: u32, (commit, epoch): (u64, u32)) -> Result<Self> {
        let path = shared.directory.segment(segment);
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(|cause| failed("open", &path, cause))?;
        let capacity = file.metadata().map_err(|cause| failed("open", &path, cause))?.len().min(MAX_SEGMENT);
        let (spare, poison, buffer) = (None, None, Vec::new());
        Ok(Self { shared, segment, file, offset, capacity, commit, epoch, spare, poison, buffer })
    }

    /// Stores that a run begins.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.store(&[]).map(drop)
    }

    /// Serves appends until nobody can send any more.
    pub(super) fn run(mut self, jobs: Receiver<Append>) {
        while let Ok(first) = jobs.recv() {
            let (mut records, mut bytes) = (first.batch.len(), size(&first.batch));
            let mut appends = vec![first];
            while records < COMMIT.0 && bytes < COMMIT.1 {
                match jobs.try_recv() {
                    Ok(next) => {
                        records += next.batch.len();
                        bytes += size(&next.batch);
                        appends.push(next);
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            self.commit(appends);
            self.prepare();
        }
    }

    fn commit(&mut self, appends: Vec<Append>) {
        let batches: Vec<&[Arc<Record>]> = appends.iter().map(|append| &append.batch[..]).collect();
        let stored = self.store(&batches);
        for (index, append) in appends.into_iter().enumerate() {
            let answer = match &stored {
                Ok(positions) => Ok(positions.get(index).cloned().unwrap_or_default()),
                Err(error) => Err(error.clone()),
            };
            _ = append.answer.send(answer);
        }
    }

    /// Stores batches as one commit; none: the mark that a run begins.
    fn store(&mut self, batches: &[&[Arc<Record>]]) -> Result<Vec<Vec<Position>>> {
        if let Some(poison) = &self.poison {
            return Err(poison.clone());
        }
        let publishes = batches.iter().flat_map(|batch| batch.iter()).any(|r| matches!(**r, Record::Publish(_)));
        let mut positions = self.encode(batches)?;
        let mut end = u64::from(self.offset) + self.buffer.len() as u64;
        if end > self.capacity {
            self.roll(self.buffer.len() as u64)?;
            positions = self.encode(batches)?;
            end = u64::from(self.offset) + self.buffer.len() as u64;
        } else if publishes && end > self.capacity - self.capacity / 8 && self.spare.is_none() {
            // What is left is for acknowledgements, which are what makes space again.
            self.make_spare(0).map_err(|cause| self.full(cause))?;
        }
        let written = self.shared.directory.io.write(&self.file, &self.buffer, u64::from(self.offset));
        if let Err(cause) = written {
            // The same place is written over next time, under the same commit number.
            return Err(if is_full(&cause) { self.full(cause) } else { self.poisoned("write", cause) });
        }
        self.shared.directory.io.sync(&self.file).map_err(|cause| self.poisoned("sync", cause))?;
        self.commit += 1;
        self.offset = end as u32;
        lock(&self.shared.segments).insert(self.segment, self.offset);
        let mut recent = lock(&self.shared.recent);
        for (positions, batch) in positions.iter().zip(batches) {
            for (at, record) in positions.iter().zip(batch.iter()) {
                recent.insert(*at, record);
            }
        }
        Ok(positions)
    }

    /// Lays out a commit as it will be at the end of the segment.
    fn encode(&mut self, batches: &[&[Arc<Record>]]) -> Result<Vec<Vec<Position>>> {
        let (id, base) = (self.shared.id, position(self.segment, self.offset));
        let (commit, epoch) = (self.commit + 1, self.epoch);
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.shrink_to(2 * COMMIT.1);
        let mut last = None;
        let mut frame = |kind, write: &dyn Fn(&mut Vec<u8>)| {
            last = Some((buffer.len(), Frame::write(buffer, &id, base, (commit, epoch, kind), write)));
            last.map_or(base, |(_, at)| at)
        };
        if batches.is_empty() {
            frame(OPENED, &|_| ());
        }
        let place = |record: &Arc<Record>| frame(record::kind(record), &|out| record::encode(record, out));
        let mut place = place;
        let positions = batches.iter().map(|batch| batch.iter().map(&mut place).collect()).collect();
        if let Some((start, at)) = last {
            Frame::end_commit(&mut self.buffer, start, &id, at);
        }
        if self.buffer.len() as u64 > MAX_SEGMENT - u64::from(HEADER) {
            let message = format!("a batch of {} bytes is larger than the log takes", self.buffer.len());
            self.buffer = Vec::new();
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        Ok(positions)
    }

    /// Goes on in the next segment, which has room for a commit of `length` bytes.
    fn roll(&mut self, length: u64) -> Result<()> {
        let needed = length + u64::from(HEADER);
        if self.spare.as_ref().is_none_or(|(_, capacity)| *capacity < needed) {
            self.spare = None;
            self.make_spare(needed).map_err(|cause| self.full(cause))?;
        }
        let Some((file, capacity)) = self.spare.take() else { return Ok(()) };
        // Only gives space back. If it fails, it is not given back.
        _ = self.file.set_len(self.offset.into());
        (self.segment, self.file, self.capacity, self.offset) = (self.segment + 1, file, capacity, HEADER);
        lock(&self.shared.segments).insert(self.segment, HEADER);
        Ok(())
    }

    /// Makes the next segment once half of this one is used.
    fn prepare(&mut self) {
        if self.spare.is_none()
            && self.poison.is_none()
            && u64::from(self.offset) > self.capacity / 2
            && let Err(cause) = self.make_spare(0)
        {
            tracing::warn!(%cause, "cannot make the next segment of the log yet");
        }
    }

    fn make_spare(&mut self, needed: u64) -> io::Result<()> {
        let number = self.segment.checked_add(1).ok_or(io::ErrorKind::StorageFull)?;
        let length = self.shared.segment_bytes.max(needed).min(MAX_SEGMENT);
        let file = self.shared.directory.create_segment(&self.shared.id, number, length)?;
        self.spare = Some((file, length));
        Ok(())
    }

    fn full(&self, cause: io::Error) -> Error {
        let path = self.shared.directory.path.display();
        let message = if is_full(&cause) {
            format!("no space for the log in {path}; make some, the engine goes on by itself then")
        } else {
            format!("cannot make the next segment of the log in {path}")
        };
        Error::new(ErrorKind::Unavailable, message).with_source(cause)
    }

    fn poisoned(&mut self, what: &str, cause: io::Error) -> Error {
        let path = self.shared.directory.segment(self.segment);
        let message = format!(
            "the disk failed to {what} {}: nothing more is stored; look after the disk, then start the engine again",
            path.display()
        );
        let error = Error::new(ErrorKind::Unavailable, message).with_source(cause);
        tracing::error!(error = %ensync_core::report(&error), "the log has failed");
        self.poison = Some(error.clone());
        error
    }
}

fn size(batch: &[Arc<Record>]) -> usize {
    let size = |record: &Arc<Record>| match &**record {
        Record::Publish(publish) => publish.size(),
        _ => format::FRAME,
    };
    batch.iter().map(size).sum()
}
