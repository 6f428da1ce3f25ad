//! Reading records at their positions, many in one call.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ensync_core::Result;

use super::directory::failed;
use super::folder::Open;
use super::format::{ALIGN, FRAME, Frame, HEADER, RECORD, split};
use super::lock;
use super::shared::Shared;
use crate::model::Position;

/// What is read for a record of which the length is not known yet.
const FIRST: u32 = 4 << 10;
/// The most that is read at once for records that lie near each other, and how far one may be from the next for that.
const TOGETHER: u32 = 256 << 10;
const NEAR: u32 = 32 << 10;

/// A part of a segment, as it was read.
#[derive(Default)]
struct Window {
    segment: u32,
    from: u32,
    bytes: Vec<u8>,
}

impl Window {
    /// What it has from an offset on.
    fn at(&self, segment: u32, offset: u32) -> Option<&[u8]> {
        let from = offset.checked_sub(self.from).filter(|_| segment == self.segment)?;
        self.bytes.get(from as usize..)
    }
}

impl Shared {
    /// Reads records, one after the other; stops after `max_bytes` of them.
    pub(super) fn read(&self, at: &[Position], max_bytes: usize) -> Vec<Result<Option<Bytes>>> {
        let (mut window, mut bytes, mut read) = (Window::default(), 0_usize, Vec::with_capacity(at.len()));
        for (index, &position) in at.iter().enumerate() {
            if index > 0 && bytes >= max_bytes {
                break;
            }
            let next = at.get(index + 1..).unwrap_or_default();
            let found = self.read_one(position, next, &mut window);
            bytes = bytes.saturating_add(found.as_ref().map_or(0, |found| found.as_ref().map_or(0, Bytes::len)));
            read.push(found);
        }
        read
    }

    fn read_one(&self, at: Position, next: &[Position], window: &mut Window) -> Result<Option<Bytes>> {
        let (number, offset) = split(at);
        let end = lock(&self.segments).get(&number).copied();
        let in_place = offset >= HEADER && (offset as usize).is_multiple_of(ALIGN);
        let Some(end) = end.filter(|end| in_place && offset < *end) else { return Ok(None) };
        let left = end - offset;
        let size = |bytes: &[u8]| {
            let size = Frame::announced(bytes).map(Frame::size)?;
            u32::try_from(size).ok().filter(|size| *size <= left)
        };
        // A frame that is whole in what was read for one before it.
        let whole = |bytes: &&[u8]| size(bytes).is_some_and(|size| size as usize <= bytes.len());
        if window.at(number, offset).filter(whole).is_none() {
            let length = reach(at, next).min(left);
            if !self.fill(window, (number, offset), length)? {
                return Ok(None);
            }
        }
        let Some(size) = window.at(number, offset).and_then(size) else { return Ok(None) };
        if window.at(number, offset).is_none_or(|bytes| (size as usize) > bytes.len()) {
            if size > TOGETHER {
                return self.read_large(at, size);
            }
            let length = reach(at, next).max(size).min(left);
            if !self.fill(window, (number, offset), length)? {
                return Ok(None);
            }
        }
        // A copy: else one small record would hold all that was read with it.
        let bytes = window.at(number, offset).unwrap_or_default();
        let frame = Frame::read(bytes, 0, &self.id, at).filter(|frame| frame.kind == RECORD);
        Ok(frame.and_then(|frame| bytes.get(frame.range(0))).map(Bytes::copy_from_slice))
    }

    /// A record that is read by itself. Its length is what the bytes there say, and these may be a client's: nothing is taken for a
    /// body before its checksum is known to be right.
    fn read_large(&self, at: Position, size: u32) -> Result<Option<Bytes>> {
        let (number, offset) = split(at);
        let failed = |cause| failed("read", &self.directory.segment(number), cause);
        let Some(file) = self.open(number).map_err(failed)? else { return Ok(None) };
        let length = file.metadata().map_err(failed)?.len();
        if u64::from(offset) + u64::from(size) > length {
            return Ok(None);
        }
        let mut piece = Window::default();
        if !self.fill(&mut piece, (number, offset), FRAME as u32)? {
            return Ok(None);
        }
        let head = Frame::read_head(&piece.bytes, &self.id, at).filter(|(frame, _)| frame.kind == RECORD);
        let Some((frame, mut sum)) = head else { return Ok(None) };
        let (mut from, mut left) = (offset + FRAME as u32, frame.body as u32);
        while left > 0 {
            if !self.fill(&mut piece, (number, from), left.min(TOGETHER))? || piece.bytes.is_empty() {
                return Ok(None);
            }
            sum.add(&piece.bytes);
            let read = piece.bytes.len() as u32;
            (from, left) = (from + read, left - read);
        }
        if !sum.is_right() || !self.fill(&mut piece, (number, offset), size)? {
            return Ok(None);
        }
        let bytes = Bytes::from(piece.bytes);
        let frame = Frame::read(&bytes, 0, &self.id, at).filter(|frame| frame.kind == RECORD);
        Ok(frame.map(|frame| frame.body_of(&bytes, 0)))
    }

    fn open(&self, number: u32) -> io::Result<Option<Arc<File>>> {
        self.files.open(number, || self.directory.open(&self.directory.segment(number), Open::Read))
    }

    /// Reads a part of a segment; `false` if that is not there any more.
    fn fill(&self, window: &mut Window, (number, offset): (u32, u32), length: u32) -> Result<bool> {
        let mut read = || {
            let Some(file) = self.open(number)? else { return Ok(false) };
            (window.segment, window.from) = (number, offset);
            window.bytes.resize(length as usize, 0);
            let read = self.directory.io.read(&file, &mut window.bytes, offset.into());
            window.bytes.truncate(read.as_ref().map_or(0, |read| *read));
            read.map(|_| true)
        };
        read().map_err(|cause| failed("read", &self.directory.segment(number), cause))
    }
}

/// How many bytes from a position on are worth reading at once: as far as the positions to be read next lie near each other.
fn reach(at: Position, next: &[Position]) -> u32 {
    let (number, offset) = split(at);
    let mut last = offset;
    for next in next {
        let (other, further) = split(*next);
        if other != number || further < last || further - last > NEAR || further - offset > TOGETHER - FIRST {
            break;
        }
        last = further;
    }
    last - offset + FIRST
}
