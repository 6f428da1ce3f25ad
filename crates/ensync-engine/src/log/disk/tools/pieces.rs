//! What is in a segment, whether it can be read or not.

use ensync_core::Result;

use super::super::format::{ALIGN, Frame, HEADER, LogId};
use super::super::segment::SegmentReader;

/// What follows in a segment.
pub(super) enum Piece {
    Frame(usize, Frame),
    Unreadable(usize, usize),
}

/// The pieces of a segment, one after the other, up to the zeros at its end.
pub(super) struct Pieces {
    segment: SegmentReader,
    id: LogId,
    offset: usize,
}

impl Pieces {
    pub(super) fn of(segment: SegmentReader, id: LogId) -> Self {
        Self { segment, id, offset: HEADER as usize }
    }

    /// What is read.
    pub(super) fn segment(&mut self) -> &mut SegmentReader {
        &mut self.segment
    }

    pub(super) fn next(&mut self) -> Result<Option<Piece>> {
        let from = self.offset;
        let end = self.segment.len();
        let is_whole = |at: usize, frame: &Frame| at + Frame::size(frame.body) <= end;
        if let Some(frame) = self.segment.frame(from, &self.id)?.filter(|frame| is_whole(from, frame)) {
            self.offset += Frame::size(frame.body);
            return Ok(Some(Piece::Frame(from, frame)));
        }
        let used = self.segment.used(from)?;
        if used <= from {
            return Ok(None);
        }
        let near = end.min(used + 64);
        let mut next = self.segment.find(from, near, &self.id)?;
        while let Some((at, _)) = next.filter(|(at, frame)| !is_whole(*at, frame)) {
            next = self.segment.find(at + ALIGN, near, &self.id)?;
        }
        let next = next.map(|(at, _)| at);
        self.offset = next.unwrap_or(end);
        Ok(Some(Piece::Unreadable(from, next.unwrap_or(used))))
    }
}
