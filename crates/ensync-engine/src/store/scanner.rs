//! Looks at everything in a data directory, whether an engine would start on it or not. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::Bytes;
use ensync_core::Result;

use super::pieces::{Piece, Pieces};
use super::scan::{Gap, LogScan, Segment};
use crate::log::disk::checkpoint;
use crate::log::disk::directory::{Directory, bad_header, failed, unusable};
use crate::log::disk::folder::Open;
use crate::log::disk::format::{
    self, ALIGN, BadHeader, DROPPED, FRAME, Frame, HEADER, LOST, LogId, RECORD, position, split,
};
use crate::log::disk::recover::Walk;
use crate::log::disk::segment::SegmentReader;
use crate::model::Position;

/// Looks at everything.
///
/// # Errors
///
/// If there is no log, if something is of a later format, or if the operating system refuses.
pub(super) fn scan_log(directory: &Directory) -> Result<LogScan> {
    let there: BTreeSet<u32> = directory.segments()?.into_iter().collect();
    let places = directory.checkpoints()?;
    let (Some(&first), Some(&last)) = (there.first(), there.last()) else {
        let path = directory.path.display();
        return Err(unusable(format!("the data directory {path} holds no log")));
    };
    let id = log_id(directory, &there, &places)?;
    let mut checkpoints = BTreeMap::new();
    for at in places {
        checkpoints.insert(at, checkpoint::load_if_whole(directory, &id, at)?);
    }
    let covered = checkpoints.iter().rev().find(|(_, state)| state.is_some()).map(|(at, _)| *at);
    let last = covered.map_or(last, |at| last.max(split(at).0));
    let whole = (position(first, HEADER), 0, 0);
    let mut look = Look {
        id,
        segments: BTreeMap::new(),
        gaps: Vec::new(),
        open: 0,
        last: None,
        whole,
        begins_lost: false,
        first_commit: 0,
        lost: Vec::new(),
        dropped: Vec::new(),
    };
    let mut tail = None;
    for number in first..=last {
        let before = look.last.filter(|_| look.open == look.gaps.len());
        let Some(segment) = there.contains(&number).then(|| open_segment(directory, number)).transpose()? else {
            look.segments.insert(number, Segment::default());
            look.gaps.push(Gap::new(number, HEADER as usize, 0));
            continue;
        };
        if look.segment(number, segment)? {
            tail = Some((number, before));
        }
    }
    look.finish(directory, covered, checkpoints, tail)
}

struct Look {
    id: LogId,
    segments: BTreeMap<u32, Segment>,
    gaps: Vec<Gap>,
    /// The first of the gaps that no frame follows yet.
    open: usize,
    last: Option<Last>,
    /// The end of the last commit whose end is there, its number and its epoch.
    whole: (Position, u64, u32),
    /// Whether the first frame of all says that what was before it is lost.
    begins_lost: bool,
    first_commit: u64,
    lost: Vec<(Position, Position)>,
    dropped: Vec<Gap>,
}

/// The last frame.
#[derive(Clone, Copy)]
struct Last {
    commit: u64,
    ended: bool,
    epoch: u32,
    /// Where it ends.
    end: Position,
}

impl Look {
    /// Whether there is any frame in it.
    fn segment(&mut self, number: u32, mut segment: SegmentReader) -> Result<bool> {
        let header = segment.header()?.is_ok_and(|id| id == self.id);
        let mut found = Segment { length: Some(segment.len() as u64), header, ..Segment::default() };
        let (mut any, mut pieces) = (false, Pieces::of(segment, self.id));
        while let Some(piece) = pieces.next()? {
            match piece {
                Piece::Unreadable(from, to) => {
                    let records = chain(pieces.segment(), from, to)?;
                    self.gaps.push(Gap { records, ..Gap::new(number, from, to) });
                }
                Piece::Frame(offset, frame) => {
                    self.frame(number, offset, &frame)?;
                    any = true;
                    found.records += u64::from(frame.kind == RECORD);
                    found.commits += u64::from(frame.last);
                    found.end = (offset + Frame::size(frame.body)) as u32;
                }
            }
        }
        self.segments.insert(number, found);
        Ok(any)
    }

    fn frame(&mut self, number: u32, offset: usize, frame: &Frame) -> Result<()> {
        if let Some(last) = self.last
            && self.open == self.gaps.len()
            && !frame.is_gap()
            && frame.commit != last.commit + u64::from(last.ended)
        {
            // The end of a segment is missing, cut off between two frames.
            let (segment, from) = split(last.end);
            if segment == number || frame.commit < last.commit {
                let message = format!("segment {number} goes on at byte {offset} with a commit that does not follow");
                return Err(unusable(message));
            }
            self.gaps.push(Gap::new(segment, from as usize, 0));
        }
        for gap in self.gaps.iter_mut().skip(self.open) {
            (gap.commit, gap.epoch) = (frame.commit.saturating_sub(1), frame.epoch);
        }
        self.open = self.gaps.len();
        let end = position(number, (offset + Frame::size(frame.body)) as u32);
        if frame.is_gap() {
            self.lost.push((position(number, offset as u32), end));
        }
        if frame.kind == DROPPED {
            self.dropped.push(Gap::dropped(number, frame));
        }
        if self.last.is_none() {
            self.first_commit = frame.commit;
        }
        self.begins_lost |= self.last.is_none() && frame.kind == LOST && offset == HEADER as usize;
        self.last = Some(Last { commit: frame.commit, ended: frame.last, epoch: frame.epoch, end });
        if frame.last {
            self.whole = (end, frame.commit, frame.epoch);
        }
        Ok(())
    }

    /// Judges the end of the log as a start judges it. `tail` is the last segment with a frame in it, and the frame before, if it
    /// goes on after that.
    fn finish(
        mut self,
        directory: &Directory,
        covered: Option<Position>,
        checkpoints: BTreeMap<Position, Option<Bytes>>,
        tail: Option<(u32, Option<Last>)>,
    ) -> Result<LogScan> {
        let (mut end, mut commit, mut epoch) = self.whole;
        let mut unfinished = None;
        if let Some((number, before)) = tail {
            let mut walk = Walk::new(directory, self.id);
            let mut segment = open_segment(directory, number)?;
            let first = segment.frame(HEADER as usize, &self.id)?;
            let goes_on = |last: &Last| last.ended && first.is_none_or(|first| first.commit == last.commit + 1);
            if let Some(last) = before.filter(goes_on) {
                (walk.start, walk.commit, walk.epoch) = (Some(0), last.commit, last.epoch);
            }
            if let Ok(whole) = walk.segment(number, &mut segment) {
                end = position(number, whole);
                // The first commit of a segment may be the unfinished one.
                (commit, epoch) = if walk.commit == 0 { (commit, epoch) } else { (walk.commit, walk.epoch) };
            } else if let Some(last) = self.last.filter(|last| last.end > end) {
                // Damage, and an unfinished commit behind it, whose beginning may be in the damage.
                let from = if split(end).0 == number { split(end).1 } else { HEADER };
                self.gaps.retain(|gap| gap.start() < position(number, from));
                let gap = Gap::new(number, from as usize, split(last.end).1 as usize);
                end = position(number, gap.to);
                self.gaps.push(Gap { commit, epoch, ..gap });
            }
            let used = segment.used(split(end).1 as usize)?;
            if used > split(end).1 as usize {
                unfinished = Some((end, position(number, used as u32)));
            }
        }
        // Nothing follows the others.
        self.gaps.retain(|gap| gap.start() < end);
        if let Some(at) = covered.filter(|at| *at >= end) {
            let ((number, from), (last, offset)) = (split(end), split(at));
            for segment in number..=last {
                let from = if segment == number { from } else { HEADER };
                let to = if segment == last { offset + FRAME as u32 } else { 0 };
                self.gaps.push(Gap { commit, epoch, ..Gap::new(segment, from as usize, to as usize) });
            }
            (unfinished, end) = (None, position(last, offset + FRAME as u32));
        }
        let Self { id, segments, gaps, lost, dropped, begins_lost, first_commit, .. } = self;
        Ok(LogScan { id, segments, checkpoints, gaps, unfinished, end, lost, dropped, begins_lost, first_commit })
    }
}

/// A segment, whatever is in it.
pub(super) fn open_segment(directory: &Directory, number: u32) -> Result<SegmentReader> {
    let mut segment = SegmentReader::open(directory, number)?;
    match segment.header()? {
        Err(bad @ BadHeader::Version(_)) if !torn_version(segment.at(0, HEADER as usize)?) => {
            Err(bad_header(&directory.segment(number), bad))
        }
        _ => Ok(segment),
    }
}

/// Whether a header that speaks of a later version is one of this version that was damaged: everything but the version is right.
fn torn_version(head: &[u8]) -> bool {
    let mut head = head.to_vec();
    if let Some(version) = head.get_mut(8..12) {
        version.copy_from_slice(&format::VERSION.to_le_bytes());
    }
    let number = format::u32_at(&head, 12).unwrap_or_default();
    format::read_header(&head, number).is_ok()
}

/// The id that most files of the log have.
fn log_id(directory: &Directory, segments: &BTreeSet<u32>, checkpoints: &[Position]) -> Result<LogId> {
    let mut votes: BTreeMap<LogId, usize> = BTreeMap::new();
    let mut vote = |path: PathBuf, read: &dyn Fn(&[u8]) -> Result<LogId, BadHeader>| -> Result<()> {
        let mut bytes = Vec::new();
        let head = directory
            .open(&path, Open::Read)
            .and_then(|file| std::io::Read::read_to_end(&mut std::io::Read::take(file, HEADER.into()), &mut bytes));
        head.map_err(|cause| failed("read", &path, cause))?;
        if let Ok(id) = read(&bytes) {
            *votes.entry(id).or_default() += 1;
        }
        Ok(())
    };
    for number in segments {
        vote(directory.segment(*number), &|bytes| format::read_header(bytes, *number))?;
    }
    for at in checkpoints {
        vote(directory.checkpoint(*at), &|bytes| checkpoint::id(bytes))?;
    }
    let most = votes.into_iter().max_by_key(|(_, count)| *count).map(|(id, _)| id);
    if let Some(id) = most {
        return Ok(id);
    }
    // None can be read: of a later format, perhaps.
    for number in segments {
        open_segment(directory, *number)?;
    }
    let path = directory.path.display();
    Err(unusable(format!("no file in {path} has a header that can be read; restore the data directory from a backup")))
}

/// How many records lie from one offset to another, if the lengths there lead from the one to the other.
fn chain(segment: &mut SegmentReader, from: usize, to: usize) -> Result<Option<u64>> {
    let (mut at, mut records) = (from, 0);
    while at < to {
        let head = segment.at(at, FRAME)?;
        let (Some(body), Some(&kind)) = (Frame::announced(head), head.get(20)) else { return Ok(None) };
        at += Frame::size(body);
        // Its kind may be what was damaged; but a mark has no body.
        records += u64::from(body > 0 && !matches!(kind, DROPPED | LOST));
    }
    Ok((at == to.next_multiple_of(ALIGN)).then_some(records))
}
