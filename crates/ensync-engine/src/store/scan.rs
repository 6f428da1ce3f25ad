//! Everything in a data directory, as it was found.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ensync_core::Result;

use super::pieces::{Piece, Pieces};
use super::scanner::open_segment;
use crate::log::disk::directory::Directory;
use crate::log::disk::format::{ALIGN, FRAME, Frame, HEADER, LOST, LogId, RECORD, position, split};
use crate::log::disk::recover::is_needed;
use crate::model::codec::record::{decode, is_publish};
use crate::model::{Position, Record};

/// What was found.
#[derive(Debug)]
pub(super) struct LogScan {
    pub(super) id: LogId,
    /// From the first that is there to the last that is there, or that a checkpoint speaks of.
    pub(super) segments: BTreeMap<u32, Segment>,
    /// The state that each checkpoint holds, or why it cannot be read.
    pub(super) checkpoints: BTreeMap<Position, Option<Bytes>>,
    /// What cannot be read, in order.
    pub(super) gaps: Vec<Gap>,
    /// Where a commit that was not finished lies: from, to. An engine cuts it off when it starts.
    pub(super) unfinished: Option<(Position, Position)>,
    /// After the last whole commit.
    pub(super) end: Position,
    /// What an earlier repair found lost, or the engine dropped: from, to.
    pub(super) lost: Vec<(Position, Position)>,
    /// What of it the engine dropped for its space, between others that were needed.
    pub(super) dropped: Vec<Gap>,
    /// Whether the log says that what was before it is lost.
    pub(super) begins_lost: bool,
    /// The number of the first commit that is there.
    pub(super) first_commit: u64,
}

/// A segment.
#[derive(Debug, Default)]
pub(super) struct Segment {
    /// In bytes; `None` if it is missing.
    pub(super) length: Option<u64>,
    /// Whether its first bytes are what they should be.
    pub(super) header: bool,
    pub(super) records: u64,
    pub(super) commits: u64,
    /// Where its last frame ends.
    pub(super) end: u32,
}

/// A part of a segment that holds no frames any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) segment: u32,
    pub(super) from: u32,
    pub(super) to: u32,
    /// The number and the epoch that a frame in its place must have for the log to go on.
    pub(super) commit: u64,
    pub(super) epoch: u32,
    /// How many records were in it, as far as the lengths in it can be followed.
    pub(super) records: Option<u64>,
}

impl Gap {
    pub(super) fn new(segment: u32, from: usize, to: usize) -> Self {
        let to = to.max(from + FRAME).next_multiple_of(ALIGN);
        Self { segment, from: from as u32, to: to as u32, commit: 0, epoch: 0, records: None }
    }

    /// Where all of a segment was dropped.
    pub(super) fn dropped(segment: u32, frame: &Frame) -> Self {
        Self { commit: frame.commit, epoch: frame.epoch, ..Self::new(segment, HEADER as usize, 0) }
    }

    pub(super) fn start(&self) -> Position {
        position(self.segment, self.from)
    }

    fn end(&self) -> Position {
        position(self.segment, self.to)
    }
}

impl LogScan {
    /// Calls `found` with every record from a segment on that lies before the end, with the number of every gap, and with
    /// what is known to be lost.
    pub(super) fn each(
        &self,
        directory: &Directory,
        from: u32,
        mut found: impl FnMut(Found) -> Result<()>,
    ) -> Result<()> {
        for (&number, segment) in self.segments.range(from..) {
            let mut gaps: Vec<(usize, &Gap)> =
                self.gaps.iter().enumerate().filter(|(_, gap)| gap.segment == number).collect();
            gaps.reverse();
            if segment.length.is_some() {
                let mut pieces = Pieces::of(open_segment(directory, number)?, self.id);
                while let Some(piece) = pieces.next()? {
                    let Piece::Frame(offset, frame) = piece else { continue };
                    let at = position(number, offset as u32);
                    if at >= self.end {
                        break;
                    }
                    while let Some((index, _)) = gaps.pop_if(|(_, gap)| (gap.from as usize) < offset) {
                        found(Found::Gap(index))?;
                    }
                    if frame.is_gap() {
                        let end = self.lost_until(position(number, (offset + Frame::size(frame.body)) as u32));
                        found(if frame.kind == LOST { Found::Lost(at, end) } else { Found::Dropped(at, end) })?;
                    } else if frame.kind == RECORD {
                        let body = pieces.segment().body(offset, &frame)?;
                        let publish = is_publish(&body);
                        found(Found::Record(at, publish, decode(body).ok().map(Arc::new)))?;
                    }
                }
            }
            for (index, _) in gaps.into_iter().rev() {
                found(Found::Gap(index))?;
            }
        }
        Ok(())
    }

    /// The first segment, if the log does not say what was before it.
    pub(super) fn unexplained(&self) -> Option<u32> {
        self.segments.keys().next().copied().filter(|first| *first > 1 && !self.begins_lost)
    }

    /// The first segment of which a checkpoint has to say what was there or before it, if none can be read that does.
    pub(super) fn lacks_checkpoint(&self) -> Option<u32> {
        let unexplained = self.unexplained().filter(|_| self.checkpoint().is_none());
        unexplained.or(self.needed().next().map(|gap| gap.segment))
    }

    /// What was dropped and is in no checkpoint that can be read.
    pub(super) fn needed(&self) -> impl Iterator<Item = &Gap> {
        let checkpoint = self.checkpoint().map(|(at, _)| at);
        self.dropped.iter().filter(move |gap| is_needed(gap.segment, checkpoint))
    }

    /// The newest checkpoint that can be read.
    pub(super) fn checkpoint(&self) -> Option<(Position, Bytes)> {
        self.checkpoints.iter().rev().find_map(|(at, state)| Some((*at, state.clone()?)))
    }

    /// Where the part ends of which nothing is known, if a gap ends at `end`: where no frame follows in the segment, there may have
    /// been more.
    fn lost_until(&self, end: Position) -> Position {
        let (number, offset) = split(end);
        let last = self.segments.get(&number).is_none_or(|segment| segment.end <= offset);
        if last { position(number + 1, 0) } else { end }
    }

    /// Where a gap begins and ends.
    pub(super) fn bounds(&self, gap: usize) -> (Position, Position) {
        let bounds = self.gaps.get(gap).map(|gap| (gap.start(), self.lost_until(gap.end())));
        bounds.unwrap_or((Position::START, Position::START))
    }

    /// Whether what lies at a position can be read, if anything did.
    pub(super) fn has(&self, at: Position) -> bool {
        let there = self.segments.get(&split(at).0).is_some_and(|segment| split(at).1 < segment.end);
        let lost = self.lost.iter().any(|(from, to)| (*from..*to).contains(&at));
        there && at < self.end && !lost && !self.gaps.iter().any(|gap| (gap.start()..gap.end()).contains(&at))
    }
}

/// What [`LogScan::each`] finds.
pub(super) enum Found {
    /// A record; `None` if its kind or its layout has no meaning here. The flag says whether it is a publish.
    Record(Position, bool, Option<Arc<Record>>),
    Gap(usize),
    /// What an earlier repair found lost: from, to.
    Lost(Position, Position),
    /// What the engine dropped for its space: from, to.
    Dropped(Position, Position),
}
