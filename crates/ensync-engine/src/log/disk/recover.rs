//! What is in a data directory, checked: the end found, a torn commit cut off, damage refused.

use std::collections::BTreeMap;

use ensync_core::Result;

use super::checkpoint;
use super::directory::{ADVICE, Directory, failed, unusable};
use super::folder::Open;
use super::format::{ALIGN, DROPPED, Frame, HEADER, LOST, LogId, MARK, position};
use super::segment::{PIECE, SegmentReader};
use crate::model::Position;

/// What disks write whole or not at all.
const SECTOR: usize = 512;

const NO_CHECKPOINT: &str = "has no checkpoint to go with its log, of which a part was dropped";

/// Whether nobody knows what a segment held that was dropped: a log goes on from its newest checkpoint, and has to have everything
/// from the segment on in which that lies.
pub(crate) fn is_needed(dropped: u32, checkpoint: Option<Position>) -> bool {
    checkpoint.is_none_or(|at| dropped >= super::format::split(at).0)
}

/// A log as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: LogId,
    /// Each segment and where it ends; `u32::MAX` for those before the checkpoint, which were not read.
    pub(crate) segments: BTreeMap<u32, u32>,
    /// The last segment.
    pub(crate) segment: u32,
    /// The next one, made ahead.
    pub(crate) spare: Option<u32>,
    /// The number of the last commit.
    pub(crate) commit: u64,
    /// The last run that wrote.
    pub(crate) epoch: u32,
    /// Where the last commit is, if it is a mark.
    pub(crate) mark: Option<u32>,
}

/// Finds a log in a directory; `None` if there is none.
///
/// Frames count as far as they follow one another: each commit has the number after the one before, ends with a frame that says
/// so, and is whole. What comes after is a commit that was being written when the engine stopped, unless a later commit is found
/// behind it, which would have been written only once this one was on the disk: then it is damage.
pub(crate) fn find(directory: &Directory) -> Result<Option<Found>> {
    let segments = directory.segments()?;
    let checkpoints = directory.checkpoints()?;
    let (Some(&first), Some(&last)) = (segments.first(), segments.last()) else {
        return match checkpoints.last() {
            None => Ok(None),
            Some(_) => Err(missing(directory, "has checkpoints but no log")),
        };
    };
    if (last - first) as usize + 1 != segments.len() {
        return Err(missing(directory, "lacks a part of its log (the numbers of the .log files have a gap)"));
    }
    let id = SegmentReader::open(directory, first)?.id()?;
    let checkpoint = checkpoint::newest(directory, &id)?;
    let start = match checkpoint {
        None if first > 1 && !begins_lost(directory, first)? => {
            return Err(missing(directory, NO_CHECKPOINT));
        }
        None => first,
        Some(at) => super::format::split(at).0,
    };
    if !(first..=last).contains(&start) {
        return Err(missing(directory, "lacks the part of its log that comes after its checkpoint"));
    }
    let mut walk = Walk::new(directory, id);
    let mut found: BTreeMap<u32, u32> = (first..start).map(|number| (number, u32::MAX)).collect();
    let mut segment = start;
    for number in start..=last {
        let mut reader = SegmentReader::open(directory, number)?;
        if reader.id()? != id {
            return Err(missing(directory, "holds files of two logs"));
        }
        let end = walk.segment(number, &mut reader)?;
        found.insert(number, end);
        if end > HEADER {
            segment = number;
        }
    }
    if walk.dropped.is_some_and(|dropped| is_needed(dropped, checkpoint)) {
        // What was dropped made a part of the state: that settled events are settled, say.
        return Err(missing(directory, NO_CHECKPOINT));
    }
    let end = found.get(&segment).copied().unwrap_or(HEADER);
    if checkpoint.is_some_and(|at| at >= position(segment, end)) || (walk.start.is_none() && start > 1) {
        let whole = directory.segment(segment);
        return Err(unusable(format!(
            "the log ends at byte {end} of {}, before its own checkpoint: what was stored after that is damaged or missing; \
             nothing was changed; {ADVICE}",
            whole.display()
        )));
    }
    cut(directory, segment, end)?;
    let spare = (segment < last).then_some(segment + 1);
    if let Some(spare) = spare {
        cut(directory, spare, HEADER)?;
    }
    for number in segment + 1..=last {
        if spare != Some(number) {
            directory.remove(&directory.segment(number))?;
        }
        found.remove(&number);
    }
    for path in directory.unfinished()? {
        tracing::debug!(file = %path.display(), "removed a file that was not finished");
        directory.remove(&path)?;
    }
    // One that is damaged is good for nothing, and is not to count as one of those that are kept.
    for at in checkpoints.into_iter().filter(|at| checkpoint.is_none_or(|newest| *at > newest)) {
        let path = directory.checkpoint(at);
        tracing::warn!(file = %path.display(), "removed a checkpoint that is damaged");
        directory.remove(&path)?;
    }
    directory.sync().map_err(|cause| failed("sync", &directory.path, cause))?;
    let mark = walk.mark.filter(|(number, _)| *number == segment).map(|(_, offset)| offset);
    Ok(Some(Found { id, segments: found, segment, spare, commit: walk.commit, epoch: walk.epoch, mark }))
}

/// Goes through segments, strictly.
#[derive(Clone, Debug)]
pub(crate) struct Walk<'a> {
    directory: &'a Directory,
    id: LogId,
    /// The first commit seen.
    pub(crate) start: Option<u64>,
    /// The last whole commit.
    pub(crate) commit: u64,
    pub(crate) epoch: u32,
    /// Where the last whole commit is, if it is a mark.
    mark: Option<(u32, u32)>,
    /// The last segment that was dropped, of those that were gone through.
    pub(crate) dropped: Option<u32>,
    /// Where frames first did not follow one another.
    damage: Option<(u32, usize)>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(directory: &'a Directory, id: LogId) -> Self {
        Self { directory, id, start: None, commit: 0, epoch: 0, mark: None, dropped: None, damage: None }
    }

    /// Goes through a segment; where its last whole commit ends.
    pub(crate) fn segment(&mut self, number: u32, segment: &mut SegmentReader) -> Result<u32> {
        let (mut offset, mut end, mut epoch) = (HEADER as usize, HEADER as usize, self.epoch);
        while let Some(frame) = segment.frame(offset, &self.id)? {
            let follows = self.start.is_none() || frame.is_gap() || frame.commit == self.commit + 1;
            if !follows || frame.epoch < epoch || offset + Frame::size(frame.body) > segment.len() {
                break;
            }
            if self.start.is_none() {
                (self.start, self.commit) = (Some(frame.commit), frame.commit.saturating_sub(1));
            }
            epoch = frame.epoch;
            if frame.kind == DROPPED {
                self.dropped = Some(number);
            }
            if frame.last {
                self.mark = (frame.kind == MARK && offset == end).then_some((number, offset as u32));
            }
            offset += Frame::size(frame.body);
            if frame.last {
                (self.commit, self.epoch, end) = (frame.commit, epoch, offset);
            }
        }
        let used = segment.used(offset)?;
        if self.damage.is_none() && (used > offset || offset > end) {
            self.damage = Some((number, offset));
        }
        // Numbers at the end of a body may end in zeros.
        let near = segment.len().min(used + 64);
        let later = later(segment, (offset, near), &self.id, self.start.map_or(0, |_| self.commit + 1))?;
        let overwritten = overwritten(segment, (offset, near), &self.id)?;
        if later > 0 || overwritten > 0 {
            let (number, at) = self.damage.unwrap_or((number, offset));
            let after = later.max(overwritten);
            return Err(unusable(format!(
                "the log is damaged at byte {at} of {}: at least {after} whole records come after it, so the engine did not \
                 just stop while writing; nothing was changed; {ADVICE}",
                self.directory.segment(number).display(),
            )));
        }
        Ok(end as u32)
    }
}

/// How many frames of commits after `commit` begin anywhere from an offset to another.
fn later(segment: &mut SegmentReader, (from, to): (usize, usize), id: &LogId, commit: u64) -> Result<usize> {
    let (mut offset, mut count) = (from, 0);
    while let Some((at, frame)) = segment.find(offset, to, id)? {
        count += usize::from(frame.commit > commit);
        offset = at + ALIGN;
    }
    Ok(count)
}

/// How many whole frames follow something at `from` that no interrupted write leaves: one loses sectors of 512 bytes, which are
/// zeros then, or everything from some byte on.
fn overwritten(segment: &mut SegmentReader, (from, to): (usize, usize), id: &LogId) -> Result<usize> {
    // A frame right here is part of an unfinished commit.
    let Some((next, _)) = segment.find(from, to, id)?.filter(|(next, _)| *next > from) else { return Ok(0) };
    let mut offset = from;
    while offset < next {
        let end = (offset / SECTOR + 1) * SECTOR;
        if segment.is_zero(offset, end.min(next))? {
            return Ok(0);
        }
        offset = end;
    }
    let (mut offset, mut count) = (next, 0);
    while let Some((at, _)) = segment.find(offset, to, id)? {
        count += 1;
        offset = at + ALIGN;
    }
    Ok(count)
}

/// Whether a segment says that what was before it is lost.
fn begins_lost(directory: &Directory, number: u32) -> Result<bool> {
    let mut segment = SegmentReader::open(directory, number)?;
    let id = segment.id()?;
    Ok(segment.frame(HEADER as usize, &id)?.is_some_and(|frame| frame.kind == LOST))
}

/// Overwrites what comes after the end with zeros: the space stays taken, and no frame of the past lies where one will be looked
/// for.
fn cut(directory: &Directory, segment: u32, end: u32) -> Result<()> {
    let path = directory.segment(segment);
    let end = end as usize;
    let used = SegmentReader::open(directory, segment)?.used(end)?;
    let cut = || {
        let file = directory.open(&path, Open::Write)?;
        if used > end {
            tracing::warn!(file = %path.display(), at = end, bytes = used - end, "cut off a commit that was not finished");
            let zeros = vec![0; PIECE.min(used - end)];
            for from in (end..used).step_by(PIECE) {
                let part = zeros.get(..used - from).unwrap_or(&zeros);
                directory.io.write(&file, part, from as u64)?;
            }
        }
        // Also what a process that was killed has written and not synced.
        directory.io.sync(&file)
    };
    cut().map_err(|cause| failed("cut off the unfinished end of", &path, cause))
}

fn missing(directory: &Directory, what: &str) -> ensync_core::Error {
    unusable(format!("the data directory {} {what}; nothing was changed; {ADVICE}", directory.path.display()))
}
