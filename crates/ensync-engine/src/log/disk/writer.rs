//! The one thread that writes: takes all that waits, writes once, syncs once, answers.

mod next;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use ensync_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::directory::failed;
use super::folder::Open;
use super::format::{self, Frame, HEADER, MARK, MARKS, MAX_SEGMENT, RECORD, position};
use super::io::is_full;
use super::lock;
use super::shared::Shared;
use crate::model::{Encoded, Need, Position};
use crate::seldom::Seldom;

/// The most records of a commit, and the bytes after which no more are taken in.
const COMMIT: (usize, usize) = (2_048, 8 << 20);

/// How far zeros are written ahead of a small commit, in bytes, and how many times its own length at most.
///
/// Space that was only allocated is unwritten to the file system: to use it changes the file's map, which goes through the file system's
/// journal at each sync. Over zeros that were written before, a sync has nothing to store but the data. (PostgreSQL's `wal_init_zero` is
/// for the same.) No byte is written more than twice; a large commit is worth its own change of the map, and gets no zeros.
const AHEAD: (u64, u64) = (1 << 20, 16);

/// How often the directory is looked for.
const LOOK: Duration = Duration::from_secs(1);

static UNMADE: Seldom = Seldom::new();

/// A batch, and who waits for its positions.
pub(super) struct Append {
    pub(super) batch: Vec<Encoded>,
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
    /// The next segment, made ahead; and where it comes from while it is being made.
    spare: Option<(File, u64)>,
    making: Option<Receiver<io::Result<(File, u64)>>>,
    /// When that failed last.
    unmade: Option<Instant>,
    /// How far a write that found no space may have come: zeros go there before anything else, for recovery counts on a commit
    /// being written over zeros.
    dirty: u64,
    /// How far zeros were written in this segment.
    zeroed: u64,
    /// Whether something was stored since the last mark.
    unmarked: bool,
    buffer: Vec<u8>,
    /// When the directory was last looked for, and how often in a row there was nothing else to do.
    looked: Instant,
    idle: u32,
}

/// The writer is at the disk, whatever for, until this is dropped: who appends waits for it.
struct Busy(Arc<Shared>);

impl Busy {
    fn begin(shared: &Arc<Shared>) -> Self {
        *lock(&shared.busy) = Some(Instant::now());
        Self(shared.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *lock(&self.0.busy) = None;
    }
}

impl Writer {
    /// Goes on at the end of a segment.
    pub(super) fn open(shared: Arc<Shared>, segment: u32, offset: u32, (commit, epoch): (u64, u32)) -> Result<Self> {
        let path = shared.directory.segment(segment);
        let file = shared.directory.open(&path, Open::Write).map_err(|cause| failed("open", &path, cause))?;
        let capacity = file.metadata().map_err(|cause| failed("open", &path, cause))?.len().min(MAX_SEGMENT);
        let (spare, making, unmade) = (None, None, None);
        let (dirty, zeroed, unmarked, buffer) = (0, 0, false, Vec::new());
        let (looked, idle) = (Instant::now(), 0);
        shared.reserve_for(capacity);
        Ok(Self {
            shared,
            segment,
            file,
            offset,
            capacity,
            commit,
            epoch,
            spare,
            making,
            unmade,
            dirty,
            zeroed,
            unmarked,
            buffer,
            looked,
            idle,
        })
    }

    /// Takes a next segment that was made ahead in an earlier run. If that fails, another is made.
    pub(super) fn adopt(&mut self, spare: Option<u32>) {
        let Some(number) = spare else { return };
        let open = || {
            let path = self.shared.directory.segment(number);
            let file = self.shared.directory.open(&path, Open::Write)?;
            let length = file.metadata()?.len().min(MAX_SEGMENT);
            Ok::<_, io::Error>((file, length))
        };
        self.spare = open().ok();
    }

    /// Stores that a run begins. `mark`: where the log ends with a mark.
    ///
    /// A disk without space has room for some runs only, so this one takes the place of one in which nothing was stored: however often a
    /// supervisor starts an engine there, it starts. Should the power fail in the middle of that, the log ends before the mark.
    pub(super) fn begin(&mut self, mark: Option<u32>) -> Result<()> {
        let room = u64::from(self.offset) + format::FRAME as u64 <= self.capacity || self.spare.is_some();
        if let Some(mark) = mark.filter(|_| !room) {
            // What is kept of the disk is not for this, where there is another place.
            (self.offset, self.commit) = (mark, self.commit.saturating_sub(1));
            return self.store(&[]).map(drop);
        }
        let begun = self.store(&[]).map(drop);
        let Some(mark) = mark.filter(|_| begun.is_err() && self.shared.failure.get().is_none()) else { return begun };
        (self.offset, self.commit) = (mark, self.commit.saturating_sub(1));
        self.store(&[]).map(drop)
    }

    /// Serves appends until nobody can send any more. `mark_after` a commit that nothing follows comes a mark.
    pub(super) fn run(mut self, jobs: &Receiver<Append>, mark_after: Duration) {
        loop {
            let mark = self.unmarked && mark_after <= LOOK;
            let first = match jobs.recv_timeout(if mark { mark_after } else { LOOK }) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    let _busy = Busy::begin(&self.shared);
                    self.look();
                    self.idle += 1;
                    if mark || self.unmarked && LOOK * self.idle >= mark_after {
                        self.mark();
                    }
                    continue;
                }
                // Nobody else may use the directory before that.
                Err(RecvTimeoutError::Disconnected) => return self.finish_making(),
            };
            self.idle = 0;
            let _busy = Busy::begin(&self.shared);
            if self.looked.elapsed() >= LOOK {
                self.look();
            }
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

    /// Sees that the path of the directory still leads to it. Else nobody would find what is stored, and another engine may be there.
    fn look(&mut self) {
        self.looked = Instant::now();
        let directory = &self.shared.directory;
        if self.shared.failure.get().is_some() || directory.is_in_place().unwrap_or(true) {
            return;
        }
        let message = format!(
            "the data directory {} is not where it was: it was moved or removed, or something else is mounted there; nothing more is \
             stored; put it back, then start the engine again",
            directory.path.display()
        );
        self.shared.failure.set(Error::new(ErrorKind::Unavailable, message));
    }

    /// Stores a mark, unless that would take what the next runs need.
    fn mark(&mut self) {
        self.unmarked = false;
        let room = u64::from(self.offset) + 2 * format::FRAME as u64 + MARKS < self.capacity;
        if room && let Err(error) = self.store(&[]) {
            tracing::warn!(error = %ensync_core::report(&error), "cannot mark the end of the log");
        }
    }

    fn commit(&mut self, appends: Vec<Append>) {
        let batches: Vec<&[Encoded]> = appends.iter().map(|append| &append.batch[..]).collect();
        let stored = self.store(&batches);
        for (index, append) in appends.into_iter().enumerate() {
            let answer = match &stored {
                Ok(positions) => Ok(positions.get(index).cloned().unwrap_or_default()),
                Err(error) => Err(error.clone()),
            };
            _ = append.answer.send(answer);
        }
    }

    /// Stores batches as one commit; none: a mark.
    fn store(&mut self, batches: &[&[Encoded]]) -> Result<Vec<Vec<Position>>> {
        if let Some(failure) = self.shared.failure.get() {
            return Err(failure.clone());
        }
        self.clean()?;
        let need = batches.iter().flat_map(|batch| batch.iter()).map(Encoded::need).max().unwrap_or(Need::Frees);
        if need == Need::Grows && !self.shared.is_reserve_whole() {
            return Err(self.full(io::ErrorKind::StorageFull.into(), need));
        }
        let mut positions = self.encode(batches)?;
        let mut end = u64::from(self.offset) + self.buffer.len() as u64;
        let limit = if batches.is_empty() { self.capacity } else { self.capacity.saturating_sub(MARKS) };
        if end > limit {
            self.roll(self.buffer.len() as u64, need)?;
            positions = self.encode(batches)?;
            end = u64::from(self.offset) + self.buffer.len() as u64;
        }
        if let Err(cause) = self.write(end) {
            // The same place is written over next time, under the same commit number.
            self.dirty = end;
            return Err(if is_full(&cause) { self.full(cause, need) } else { self.failed("write", cause) });
        }
        self.shared.directory.io.sync(&self.file).map_err(|cause| self.failed("sync", cause))?;
        self.unmarked = !batches.is_empty();
        self.commit += 1;
        self.offset = end as u32;
        lock(&self.shared.segments).insert(self.segment, self.offset);
        self.shared.directory.commits.fetch_add(1, Relaxed);
        Ok(positions)
    }

    /// Writes the commit in the buffer, which ends at `end`, and zeros behind it where there are none yet.
    fn write(&mut self, end: u64) -> io::Result<()> {
        let io = &self.shared.directory.io;
        io.write(&self.file, &self.buffer, self.offset.into())?;
        let length = self.buffer.len() as u64;
        if end <= self.zeroed || length > AHEAD.0 / AHEAD.1 {
            return Ok(());
        }
        let zeros = AHEAD.0.min((AHEAD.1 - 1) * length).min(self.capacity.saturating_sub(end));
        // By themselves: else a write that finds no space for the zeros may leave the whole commit there, which is refused then.
        match io.write(&self.file, &vec![0; zeros as usize], end) {
            Ok(()) => self.zeroed = end + zeros,
            Err(cause) if is_full(&cause) => {}
            Err(cause) => return Err(cause),
        }
        Ok(())
    }

    /// Overwrites what a write left that found no space.
    fn clean(&mut self) -> Result<()> {
        let length = self.dirty.saturating_sub(self.offset.into());
        if length == 0 {
            return Ok(());
        }
        let zeros = vec![0; usize::try_from(length).unwrap_or_default()];
        let io = &self.shared.directory.io;
        if let Err(cause) = io.write(&self.file, &zeros, self.offset.into()) {
            return Err(if is_full(&cause) { self.full(cause, Need::Frees) } else { self.failed("write", cause) });
        }
        io.sync(&self.file).map_err(|cause| self.failed("sync", cause))?;
        self.dirty = 0;
        Ok(())
    }

    /// Lays out a commit as it will be at the end of the segment.
    fn encode(&mut self, batches: &[&[Encoded]]) -> Result<Vec<Vec<Position>>> {
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
            frame(MARK, &|_| ());
        }
        let mut place = |record: &Encoded| {
            frame(RECORD, &|out| record.parts().into_iter().for_each(|part| out.extend_from_slice(part)))
        };
        let positions = batches.iter().map(|batch| batch.iter().map(&mut place).collect()).collect();
        if let Some((start, at)) = last {
            Frame::end_commit(&mut self.buffer, start, &id, at);
        }
        if self.buffer.len() as u64 > MAX_SEGMENT - u64::from(HEADER) - MARKS {
            let message = format!("a batch of {} bytes is larger than the log takes", self.buffer.len());
            self.buffer = Vec::new();
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        Ok(positions)
    }

    fn full(&self, cause: io::Error, need: Need) -> Error {
        let path = self.shared.directory.path.display();
        let message = if !is_full(&cause) {
            format!("cannot make the next segment of the log in {path}")
        } else if need == Need::Grows {
            format!(
                "no space for the log in {path}: what is left is kept for acknowledgements and the like; make some, or have events that \
                 wait taken, and the engine goes on by itself"
            )
        } else {
            format!("no space for the log in {path}; make some, the engine goes on by itself then")
        };
        Error::new(ErrorKind::Unavailable, message).with_source(cause)
    }

    /// Nobody knows what is on the disk now, and asking again would only hide it.
    fn failed(&self, what: &str, cause: io::Error) -> Error {
        let path = self.shared.directory.segment(self.segment);
        let message = format!("the disk failed to {what} {}", path.display());
        let cause = Arc::new(cause);
        let later = format!("{message}: nothing more is stored; look after the disk, then start the engine again");
        let later = Error::new(ErrorKind::Unavailable, later).with_source(cause.clone());
        self.shared.failure.set(later);
        let message = format!("{message}: whether this is stored shows when the engine is started again");
        Error::new(ErrorKind::Interrupted, message).with_source(cause)
    }
}

fn size(batch: &[Encoded]) -> usize {
    batch.iter().map(|record| record.len() + format::FRAME).sum()
}
