//! What a log takes of its disk, and how it gives that back.

use std::io::{self, Read};
use std::time::SystemTime;

use bytes::Bytes;
use ensync_core::{Error, Result, Timestamp};

use super::checkpoint;
use super::directory::{Directory, failed, unusable};
use super::folder::Open;
use super::format::{self, DROPPED, FRAME, Frame, HEADER, position, split};
use super::io::is_full;
use super::lock;
use super::shared::Shared;
use crate::log::{LogPart, LogSpace};
use crate::model::Position;

/// The length of a segment of which nothing is kept: its header, and a frame that says so.
const EMPTY: u64 = HEADER as u64 + FRAME as u64;
/// Which part of its disk a segment takes at most.
const SHARE: u64 = 16;
/// The shortest there are.
pub(super) const SHORTEST: u64 = 64 << 10;

/// How long a new segment is made: as long as it was said, unless the disk is too small for some of that length.
pub(super) fn segment_length(directory: &Directory, wanted: u64) -> u64 {
    let total = directory.space().map_or(u64::MAX, |(total, _)| total);
    wanted.min((total / SHARE).max(SHORTEST) / 4096 * 4096)
}

/// What a checkpoint's file has around the state at most, in bytes.
const AROUND: u64 = 4_096;

impl Shared {
    pub(super) fn space(&self) -> Result<LogSpace> {
        let (total, free) =
            self.directory.space().map_err(|cause| failed("look at the space of", &self.directory.path, cause))?;
        // What the older checkpoint needs stays, for when the newer cannot be read.
        let needed = self.directory.checkpoints()?.first().map_or(0, |oldest| split(*oldest).0);
        let numbers: Vec<u32> = lock(&self.segments).keys().copied().collect();
        let (mut parts, mut used) = (Vec::new(), 0);
        for number in numbers {
            let path = self.directory.segment(number);
            let metadata = self.directory.metadata(&path).map_err(|cause| failed("read", &path, cause))?;
            let (bytes, written) = (metadata.len(), metadata.modified().unwrap_or_else(|_| SystemTime::now()));
            used += bytes;
            if number < needed && bytes > EMPTY {
                let (from, to) = (position(number, 0), position(number + 1, 0));
                parts.push(LogPart { from, to, bytes, written: Timestamp::from(written) });
            }
        }
        let segment_bytes = segment_length(&self.directory, self.segment_bytes);
        let lacking = self.lacks_reserve();
        Ok(LogSpace { parts, used, free, lacking, total, segment_bytes })
    }

    /// Saves a checkpoint, if need be with space that is kept for it.
    pub(super) fn save_checkpoint(&self, at: Position, state: &[Bytes]) -> Result<()> {
        let save = || checkpoint::save(&self.directory, &self.id, at, state);
        let bytes = state.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let saved = match save() {
            Err(error) if lacks_space(&error) && self.room_for_checkpoint(bytes + AROUND) => save(),
            saved => saved,
        };
        self.measure_checkpoints();
        self.fill_reserve();
        saved
    }

    /// Removes the checkpoints that the next start does not need.
    pub(super) fn drop_older_checkpoints(&self) -> Result<()> {
        let done = checkpoint::keep_readable(&self.directory, &self.id);
        self.measure_checkpoints();
        self.fill_reserve();
        done
    }

    /// Drops the segments that lie between two positions and that no checkpoint needs. Those at the beginning are removed; one between
    /// others is emptied, so that a missing file is still told from a dropped one.
    pub(super) fn drop_range(&self, from: Position, to: Position) -> Result<()> {
        let done = self.drop_segments(from, to);
        self.fill_reserve();
        done
    }

    fn drop_segments(&self, from: Position, to: Position) -> Result<()> {
        let Some(oldest) = self.directory.checkpoints()?.first().copied() else { return Ok(()) };
        let end = split(to.min(oldest)).0;
        let begin = if split(from).1 == 0 { split(from).0 } else { split(from).0 + 1 };
        let mut gone: Vec<u32> = lock(&self.segments).keys().copied().filter(|n| (begin..end).contains(n)).collect();
        // From the first on: the numbers have no gap, whenever this is interrupted.
        let needed = split(oldest).0;
        loop {
            let Some(first) = lock(&self.segments).keys().next().copied().filter(|first| *first < needed) else {
                break;
            };
            if !gone.contains(&first) && !self.is_empty(first)? {
                break;
            }
            self.directory.remove(&self.directory.segment(first))?;
            lock(&self.segments).remove(&first);
            // A file that is held open keeps its space.
            self.files.forget(first);
            gone.retain(|number| *number != first);
        }
        // From the last on: each is emptied by what the one after it says.
        for number in gone.into_iter().rev() {
            if !self.is_empty(number)? {
                lock(&self.segments).insert(number, HEADER);
                let emptied = self.empty(number);
                self.files.forget(number);
                emptied?;
            }
        }
        self.directory.sync().map_err(|cause| failed("sync", &self.directory.path, cause))
    }

    fn is_empty(&self, number: u32) -> Result<bool> {
        let path = self.directory.segment(number);
        let metadata = self.directory.metadata(&path).map_err(|cause| failed("read", &path, cause))?;
        Ok(metadata.len() <= EMPTY)
    }

    /// Leaves of a segment that its commits are gone: a frame with the number before the next segment's first.
    fn empty(&self, number: u32) -> Result<()> {
        let path = self.directory.segment(number);
        let (commit, epoch) = self.first_commit(number + 1)?;
        let at = position(number, HEADER);
        let mut frame = Vec::with_capacity(FRAME);
        Frame::write(&mut frame, &self.id, at, (commit.saturating_sub(1), epoch, DROPPED), |_| ());
        Frame::end_commit(&mut frame, 0, &self.id, at);
        let bytes = [&format::header(&self.id, number)[..], &frame].concat();
        let made = self.directory.create(&path, [&bytes[..]], None);
        let done = match made {
            Err(cause) if is_full(&cause) => {
                // Not even for this is there space, but for its beginning it has some of its own.
                self.directory.open(&path, Open::Write).and_then(|file| {
                    self.directory.io.truncate(&file, HEADER.into())?;
                    self.directory.io.write(&file, &frame, HEADER.into())?;
                    self.directory.io.sync_all(&file)
                })
            }
            made => made.map(drop),
        };
        done.map_err(|cause| failed("drop what is in", &path, cause))
    }

    /// The number and the epoch of the first commit in a segment.
    fn first_commit(&self, number: u32) -> Result<(u64, u32)> {
        let path = self.directory.segment(number);
        let read = || {
            let mut file = self.directory.open(&path, Open::Read)?;
            let mut bytes = vec![0; HEADER as usize + FRAME];
            file.read_exact(&mut bytes)?;
            let size = bytes.get(HEADER as usize..).and_then(Frame::announced).map_or(FRAME, Frame::size);
            let mut rest = Vec::new();
            file.take((size - FRAME) as u64).read_to_end(&mut rest)?;
            bytes.extend_from_slice(&rest);
            Ok(bytes)
        };
        let bytes = read().map_err(|cause| failed("read", &path, cause))?;
        let frame = Frame::read(&bytes, HEADER as usize, &self.id, position(number, 0));
        let damaged = || unusable(format!("the log is damaged at byte {HEADER} of {}", path.display()));
        frame.map(|frame| (frame.commit, frame.epoch)).ok_or_else(damaged)
    }
}

/// Whether a file could not be written for want of space.
fn lacks_space(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(is_full)
}
