//! What is in a segment, whether it can be read or not.

use bytes::Bytes;

use super::super::format::{ALIGN, Frame, HEADER, LogId, position};
use super::super::recover::used;
use crate::model::Position;

/// What follows in a segment.
pub(super) enum Piece {
    Frame(usize, Frame),
    Unreadable(usize, usize),
}

/// The pieces of a segment, one after the other, up to the zeros at its end.
pub(super) struct Pieces<'a> {
    bytes: &'a Bytes,
    id: LogId,
    base: Position,
    offset: usize,
}

impl<'a> Pieces<'a> {
    pub(super) fn of(bytes: &'a Bytes, id: LogId, number: u32) -> Self {
        Self { bytes, id, base: position(number, 0), offset: HEADER as usize }
    }

    fn frame(&self, at: usize) -> Option<Frame> {
        let frame = Frame::read(self.bytes, at, &self.id, self.base)?;
        (at + Frame::size(frame.body) <= self.bytes.len()).then_some(frame)
    }
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let from = self.offset;
        if let Some(frame) = self.frame(from) {
            self.offset += Frame::size(frame.body);
            return Some(Piece::Frame(from, frame));
        }
        let used = used(self.bytes, from);
        if used <= from {
            return None;
        }
        let near = self.bytes.len().min(used + 64);
        let next = (from..near).step_by(ALIGN).find(|at| self.frame(*at).is_some());
        self.offset = next.unwrap_or(self.bytes.len());
        Some(Piece::Unreadable(from, next.unwrap_or(used)))
    }
}
