//! A segment, read in pieces: whatever is in it, no more than a piece and one record of it is in memory.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use ensync_core::{Error, Result};

use super::directory::{Directory, bad_header, failed};
use super::folder::Open;
use super::format::{self, ALIGN, BadHeader, FRAME, Frame, HEADER, LogId, position};
use super::io::Io;
use crate::model::Position;

/// How much is read at once. Little in tests, so that whatever is tried with files is tried with frames in many pieces.
pub(super) const PIECE: usize = if cfg!(test) { 4 << 10 } else { 256 << 10 };

/// Reads the frames of a segment, for whoever goes through it in order.
#[derive(Debug)]
pub(super) struct SegmentReader {
    io: Arc<dyn Io>,
    file: File,
    path: PathBuf,
    base: Position,
    length: usize,
    /// What was read last, and from where.
    from: usize,
    piece: Vec<u8>,
}

impl SegmentReader {
    pub(super) fn open(directory: &Directory, number: u32) -> Result<Self> {
        let path = directory.segment(number);
        let open = || {
            let file = directory.open(&path, Open::Read)?;
            let length = file.metadata()?.len();
            Ok((file, usize::try_from(length).unwrap_or(usize::MAX)))
        };
        let (file, length) = open().map_err(|cause| failed("read", &path, cause))?;
        let base = position(number, 0);
        Ok(Self { io: directory.io.clone(), file, path, base, length, from: 0, piece: Vec::new() })
    }

    /// Its length, with the space that is kept ready.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The log's id, from the header.
    pub(super) fn id(&mut self) -> Result<LogId> {
        self.header()?.map_err(|bad| bad_header(&self.path, bad))
    }

    /// What the header says.
    pub(super) fn header(&mut self) -> Result<Result<LogId, BadHeader>> {
        let number = format::split(self.base).0;
        Ok(format::read_header(self.at(0, HEADER as usize)?, number))
    }

    /// The whole frame at an offset, if there is one.
    pub(super) fn frame(&mut self, offset: usize, id: &LogId) -> Result<Option<Frame>> {
        let at = Position::new(self.base.as_u64().saturating_add(offset as u64));
        let Some(body) = Frame::announced(self.at(offset, FRAME)?) else { return Ok(None) };
        let size = FRAME.saturating_add(body);
        if size > self.length.saturating_sub(offset) {
            return Ok(None);
        }
        if size <= PIECE {
            return Ok(Frame::read(self.at(offset, size)?, 0, id, at));
        }
        let Some((frame, mut sum)) = Frame::read_head(self.at(offset, FRAME)?, id, at) else { return Ok(None) };
        let (mut from, end) = (offset + FRAME, offset + size);
        while from < end {
            let bytes = self.at(from, PIECE.min(end - from))?;
            if bytes.is_empty() {
                return Ok(None);
            }
            sum.add(bytes);
            from += bytes.len();
        }
        Ok(sum.is_right().then_some(frame))
    }

    /// The body of a frame.
    pub(super) fn body(&mut self, offset: usize, frame: &Frame) -> Result<Bytes> {
        let (from, length) = (offset.saturating_add(FRAME), frame.body);
        if length <= PIECE {
            return Ok(Bytes::copy_from_slice(self.at(from, length)?));
        }
        let mut bytes = vec![0; length];
        let read = self.io.read(&self.file, &mut bytes, from as u64).map_err(|cause| self.failed(cause))?;
        bytes.truncate(read);
        Ok(bytes.into())
    }

    /// The first frame that begins at an offset from `from` to before `to`.
    pub(super) fn find(&mut self, from: usize, to: usize, id: &LogId) -> Result<Option<(usize, Frame)>> {
        let mut offset = from;
        while offset < to {
            // Most of it is none; a look at what has been read is enough to see that.
            let heads = self.piece_at(offset, FRAME)?.windows(FRAME).step_by(ALIGN);
            let count = heads.len();
            let near = heads.map(Frame::announced).position(|body| body.is_some());
            offset += near.unwrap_or(count) * ALIGN;
            if count == 0 || offset >= to {
                break;
            }
            if near.is_some() {
                if let Some(frame) = self.frame(offset, id)? {
                    return Ok(Some((offset, frame)));
                }
                offset += ALIGN;
            }
        }
        Ok(None)
    }

    /// Where the last bytes that are not zero end, not before `from`.
    pub(super) fn used(&mut self, from: usize) -> Result<usize> {
        // Most of it is space for later.
        let mut end = usize::try_from(self.io.data_end(&self.file, self.length as u64)).unwrap_or(self.length);
        end = end.min(self.length);
        while end > from {
            let start = end.saturating_sub(PIECE).max(from);
            let bytes = self.at(start, end - start)?;
            if let Some(last) = last_used(bytes) {
                return Ok(start + last + 1);
            }
            end = start;
        }
        Ok(from)
    }

    /// Whether there are only zeros from an offset to another.
    pub(super) fn is_zero(&mut self, from: usize, to: usize) -> Result<bool> {
        let mut offset = from;
        while offset < to.min(self.length) {
            let bytes = self.at(offset, PIECE.min(to - offset))?;
            if bytes.is_empty() {
                break;
            }
            if last_used(bytes).is_some() {
                return Ok(false);
            }
            offset += bytes.len();
        }
        Ok(true)
    }

    /// The bytes from an offset on: `length` of them, at most a piece, or fewer if the file ends before.
    pub(super) fn at(&mut self, offset: usize, length: usize) -> Result<&[u8]> {
        let piece = self.piece_at(offset, length)?;
        Ok(piece.get(..length).unwrap_or(piece))
    }

    /// What has been read from an offset on, once that is at least so much.
    fn piece_at(&mut self, offset: usize, least: usize) -> Result<&[u8]> {
        let most = PIECE.min(self.length.saturating_sub(offset));
        let end = offset + least.min(most);
        if offset < self.from || end > self.from + self.piece.len() {
            self.piece.resize(most, 0);
            self.from = offset;
            let read = self.io.read(&self.file, &mut self.piece, offset as u64);
            self.piece.truncate(read.as_ref().map_or(0, |read| *read));
            read.map_err(|cause| self.failed(cause))?;
        }
        Ok(self.piece.get(offset - self.from..).unwrap_or_default())
    }

    fn failed(&self, cause: std::io::Error) -> Error {
        failed("read", &self.path, cause)
    }
}

/// The last byte that is not zero.
fn last_used(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    // Comparing blocks is fast even where nothing is optimised.
    while let Some((before, block)) = rest.split_last_chunk::<4096>()
        && *block == [0; 4096]
    {
        rest = before;
    }
    rest.iter().rposition(|byte| *byte != 0)
}
