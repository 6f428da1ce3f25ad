//! The records of a log, in order.

use std::sync::Arc;

use bytes::Bytes;
use ensync_core::Result;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::directory::unusable;
use super::format::{Frame, RECORD, position};
use super::shared::Shared;
use crate::model::Position;

/// The records of a segment.
pub(super) struct Records {
    pub(super) shared: Arc<Shared>,
    pub(super) bytes: Bytes,
    pub(super) number: u32,
    pub(super) offset: usize,
    /// `u32::MAX` if nobody looked it up.
    pub(super) end: u32,
}

impl Records {
    /// Those from a position on.
    pub(super) fn left_from(self, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>> {
        stream::iter(self.skip_while(move |read| read.as_ref().is_ok_and(|(at, _)| *at < from))).boxed()
    }
}

impl Iterator for Records {
    type Item = Result<(Position, Bytes)>;

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
            if frame.kind == RECORD {
                return Some(Ok((at, frame.body_of(&self.bytes, offset))));
            }
        }
        None
    }
}
