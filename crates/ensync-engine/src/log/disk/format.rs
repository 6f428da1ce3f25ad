//! Segment headers and frames, byte by byte.

use std::ops::Range;

use bytes::Bytes;

use crate::model::Position;
use crate::model::codec::bytes::Writer;

/// The version of everything in a data directory.
pub(crate) const VERSION: u32 = 3;

/// The length of a segment's header, and where its first frame is.
pub(crate) const HEADER: u32 = 64;
const SEGMENT_MAGIC: &[u8; 8] = b"ENSYNLOG";

/// The kind of a mark; it holds no record.
pub(crate) const MARK: u8 = 0;
/// The kind of what holds a record.
pub(crate) const RECORD: u8 = 1;
/// The kind of what was dropped for its space, between others that were needed; it holds no record.
pub(crate) const DROPPED: u8 = 254;
/// The kind of what could not be read when the log was repaired; it holds no record.
pub(crate) const LOST: u8 = 255;

/// The length of a frame without its body.
pub(crate) const FRAME: usize = 24;
/// Where frames may start, in multiples of this.
pub(crate) const ALIGN: usize = 8;
/// Not UTF-8, so that no text looks like a frame.
const FRAME_MAGIC: [u8; 2] = [0xe5, 0xc1];
const LAST: u8 = 1;

/// The space at the end of a segment that is left to marks.
pub(crate) const MARKS: u64 = 2_048;

/// The longest segment, and so what a commit must fit in.
pub(crate) const MAX_SEGMENT: u64 = 1 << 30;

/// What tells one log's frames from those of another: 16 random bytes.
pub(crate) type LogId = [u8; 16];

/// The position of what starts at `offset` of a segment.
pub(crate) fn position(segment: u32, offset: u32) -> Position {
    Position::new(u64::from(segment) << 32 | u64::from(offset))
}

/// The segment of a position, and the offset there.
pub(crate) fn split(position: Position) -> (u32, u32) {
    let number = position.as_u64();
    ((number >> 32) as u32, number as u32)
}

/// A segment's header.
pub(crate) fn header(id: &LogId, segment: u32) -> [u8; HEADER as usize] {
    let mut bytes = Vec::with_capacity(HEADER as usize);
    let mut w = Writer(&mut bytes);
    w.array(SEGMENT_MAGIC);
    w.u32(VERSION);
    w.u32(segment);
    w.array(id);
    let crc = crc32c::crc32c(w.0);
    w.u32(crc);
    bytes.resize(HEADER as usize, 0);
    bytes.try_into().unwrap_or([0; HEADER as usize])
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Of another version.
    Version(u32),
    /// Not a header, or that of another segment.
    Damaged,
}

/// Reads a segment's header.
pub(crate) fn read_header(bytes: &[u8], segment: u32) -> Result<LogId, BadHeader> {
    let id = header_id(bytes, SEGMENT_MAGIC)?;
    let same = bytes.get(..HEADER as usize).is_some_and(|found| found == header(&id, segment));
    if same { Ok(id) } else { Err(BadHeader::Damaged) }
}

/// What every file of the log begins with: magic, version, 4 bytes, the log's id.
pub(crate) fn header_id(bytes: &[u8], magic: &[u8; 8]) -> Result<LogId, BadHeader> {
    if !bytes.starts_with(magic) {
        return Err(BadHeader::Damaged);
    }
    match u32_at(bytes, 8) {
        Some(VERSION) => bytes.get(16..32).and_then(|id| id.try_into().ok()).ok_or(BadHeader::Damaged),
        Some(version) if version > 0 => Err(BadHeader::Version(version)),
        _ => Err(BadHeader::Damaged),
    }
}

/// A whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Which commit it belongs to.
    pub(crate) commit: u64,
    /// Which run wrote it.
    pub(crate) epoch: u32,
    /// What it holds.
    pub(crate) kind: u8,
    /// Whether its commit ends with it.
    pub(crate) last: bool,
    /// The length of its body.
    pub(crate) body: usize,
}

impl Frame {
    /// Whether it stands for commits that are not there, so that its number need not follow.
    pub(crate) fn is_gap(&self) -> bool {
        matches!(self.kind, DROPPED | LOST)
    }

    /// How many bytes a frame with a body of some length takes.
    pub(crate) fn size(body: usize) -> usize {
        FRAME.saturating_add(body).next_multiple_of(ALIGN)
    }

    /// The body in what the frame was read from.
    pub(crate) fn body_of(&self, bytes: &Bytes, offset: usize) -> Bytes {
        bytes.slice(self.range(offset))
    }

    /// Where the body is in what the frame was read from.
    pub(crate) fn range(&self, offset: usize) -> Range<usize> {
        offset + FRAME..offset + FRAME + self.body
    }

    /// Appends a frame around the body that `write` appends. `base` is the position of the buffer's start.
    pub(crate) fn write(
        out: &mut Vec<u8>,
        id: &LogId,
        base: Position,
        (commit, epoch, kind): (u64, u32, u8),
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Position {
        let start = out.len();
        let at = Position::new(base.as_u64() + start as u64);
        out.resize(start + FRAME, 0);
        write(out);
        let length = u32::try_from(out.len() - start - FRAME).unwrap_or(u32::MAX);
        let mut head = Vec::with_capacity(FRAME);
        let mut w = Writer(&mut head);
        w.u32(length);
        w.u32(0);
        w.u64(commit);
        w.u32(epoch);
        w.u8(kind);
        w.u8(0);
        w.array(&FRAME_MAGIC);
        if let Some(place) = out.get_mut(start..start + FRAME) {
            place.copy_from_slice(&head);
        }
        out.resize(start + Self::size(length as usize), 0);
        seal(out, start, id, at);
        at
    }

    /// Marks a frame as the last of its commit.
    pub(crate) fn end_commit(out: &mut [u8], start: usize, id: &LogId, at: Position) {
        if let Some(flags) = out.get_mut(start + 21) {
            *flags = LAST;
        }
        seal(out, start, id, at);
    }

    /// The length of the body that a frame's first bytes announce, if they are such.
    pub(crate) fn announced(bytes: &[u8]) -> Option<usize> {
        (bytes.get(22..FRAME)? == FRAME_MAGIC).then_some(u32_at(bytes, 0)? as usize)
    }

    /// Reads the frame at `offset` of what begins at position `base`.
    pub(crate) fn read(bytes: &[u8], offset: usize, id: &LogId, base: Position) -> Option<Self> {
        let bytes = bytes.get(offset..)?;
        let at = Position::new(base.as_u64().checked_add(offset as u64)?);
        let (frame, mut sum) = Self::read_head(bytes, id, at)?;
        sum.add(bytes.get(FRAME..FRAME.checked_add(frame.body)?)?);
        sum.is_right().then_some(frame)
    }

    /// Reads what comes before the body of a frame, which is one only if its body has this checksum.
    pub(crate) fn read_head(bytes: &[u8], id: &LogId, at: Position) -> Option<(Self, Checksum)> {
        let head = bytes.get(..FRAME)?;
        let body = Self::announced(head)?;
        let (&kind, &flags) = (head.get(20)?, head.get(21)?);
        let commit = u64::from_le_bytes(*head.get(8..)?.first_chunk()?);
        let frame = Self { commit, epoch: u32_at(head, 16)?, kind, last: flags == LAST, body };
        let sum = Checksum { wanted: u32_at(head, 4)?, sum: checksum(head, id, at)? };
        (flags & !LAST == 0).then_some((frame, sum))
    }
}

/// The checksum of a frame whose body is read in pieces.
#[derive(Debug)]
pub(crate) struct Checksum {
    wanted: u32,
    sum: u32,
}

impl Checksum {
    pub(crate) fn add(&mut self, body: &[u8]) {
        self.sum = crc32c::crc32c_append(self.sum, body);
    }

    pub(crate) fn is_right(&self) -> bool {
        self.sum == self.wanted
    }
}

/// Writes the checksum of a frame into it.
fn seal(out: &mut [u8], start: usize, id: &LogId, at: Position) {
    let Some(frame) = out.get_mut(start..) else { return };
    let length = u32_at(frame, 0).unwrap_or_default() as usize;
    if let Some(crc) = frame.get(..FRAME + length).and_then(|frame| checksum(frame, id, at))
        && let Some(place) = frame.get_mut(4..8)
    {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// CRC-32C of the log's id, the position (8 bytes) and the frame without the checksum itself.
fn checksum(frame: &[u8], id: &LogId, at: Position) -> Option<u32> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(id), &at.as_u64().to_le_bytes());
    let crc = crc32c::crc32c_append(crc, frame.get(..4)?);
    Some(crc32c::crc32c_append(crc, frame.get(8..)?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LogId = [5; 16];

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let at = Frame::write(&mut out, &ID, position(1, 64), (9, 2, 3), |out| out.extend_from_slice(body));
        assert_eq!(at, position(1, 64));
        out
    }

    #[test]
    fn frames_are_read_where_they_were_written_and_nowhere_else() {
        let mut out = frame(b"hello");
        assert_eq!(out.len(), 32);
        let read = Frame::read(&out, 0, &ID, position(1, 64)).unwrap();
        assert_eq!(read, Frame { commit: 9, epoch: 2, kind: 3, last: false, body: 5 });
        assert_eq!(read.body_of(&out.clone().into(), 0), "hello");
        assert_eq!(Frame::read(&out, 0, &[6; 16], position(1, 64)), None);
        assert_eq!(Frame::read(&out, 0, &ID, position(1, 72)), None);
        assert_eq!(Frame::read(&out, 0, &ID, position(2, 64)), None);
        Frame::end_commit(&mut out, 0, &ID, position(1, 64));
        assert!(Frame::read(&out, 0, &ID, position(1, 64)).unwrap().last);
        for end in 0..29 {
            assert_eq!(Frame::read(&out[..end], 0, &ID, position(1, 64)), None, "{end}");
        }
        assert_eq!(Frame::read(&[0; 4096], 0, &ID, position(1, 64)), None);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = frame(b"hello");
        for bit in 0..29 * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Frame::read(&bad, 0, &ID, position(1, 64)), None, "{bit}");
        }
    }

    #[test]
    fn headers_tell_newer_from_damaged() {
        let good = header(&ID, 3);
        assert_eq!(read_header(&good, 3), Ok(ID));
        assert_eq!(read_header(&good, 4), Err(BadHeader::Damaged));
        for byte in 0..HEADER as usize {
            let mut bad = good;
            bad[byte] ^= 0x10;
            let expected = if byte == 8 { BadHeader::Version(19) } else { BadHeader::Damaged };
            let expected = match byte {
                9..=11 => BadHeader::Version(u32_at(&bad, 8).unwrap()),
                _ => expected,
            };
            assert_eq!(read_header(&bad, 3), Err(expected), "{byte}");
        }
        assert_eq!(read_header(&good[..63], 3), Err(BadHeader::Damaged));
        assert_eq!(read_header(&[0; 64], 3), Err(BadHeader::Damaged));
    }
}
