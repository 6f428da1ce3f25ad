//! Checkpoints: files of their own, each whole or not there.

use bytes::Bytes;
use ensync_core::Result;

use super::directory::{Directory, bad_header, failed};
use super::format::{self, BadHeader, LogId, VERSION, u32_at};
use crate::model::Position;
use crate::model::codec::bytes::Writer;

const MAGIC: &[u8; 8] = b"ENSYNCKP";
/// The length of the header.
const HEAD: usize = 64;
/// Where the checksum is.
const CRC: usize = 48;
/// How many are kept: the second one is for when the first cannot be read.
const KEPT: usize = 2;

/// Stores a checkpoint, and removes those it replaces.
pub(super) fn save(directory: &Directory, id: &LogId, at: Position, state: &[u8]) -> Result<()> {
    let path = directory.checkpoint(at);
    let mut bytes = Vec::with_capacity(HEAD + state.len());
    let mut w = Writer(&mut bytes);
    w.array(MAGIC);
    w.u32(VERSION);
    w.u32(0);
    w.array(id);
    w.u64(at.as_u64());
    w.u64(state.len() as u64);
    let crc = crc32c::crc32c_append(crc32c::crc32c(w.0), state);
    w.u32(crc);
    bytes.resize(HEAD, 0);
    bytes.extend_from_slice(state);
    directory.create(&path, &bytes, None).map_err(|cause| failed("write", &path, cause))?;
    keep_newest(directory, KEPT)
}

/// Removes all checkpoints but so many.
pub(super) fn keep_newest(directory: &Directory, count: usize) -> Result<()> {
    for old in directory.checkpoints()?.iter().rev().skip(count) {
        directory.remove(&directory.checkpoint(*old))?;
    }
    Ok(())
}

/// Reads a checkpoint.
pub(super) fn load(directory: &Directory, id: &LogId, at: Position) -> Result<Bytes> {
    let path = directory.checkpoint(at);
    let bytes = directory.read(&path).map_err(|cause| failed("read", &path, cause))?;
    check(&bytes, id, at).map_err(|bad| bad_header(&path, bad))?;
    Ok(bytes.slice(HEAD..))
}

/// Reads a checkpoint; `None` if it is damaged.
pub(super) fn load_if_whole(directory: &Directory, id: &LogId, at: Position) -> Result<Option<Bytes>> {
    let path = directory.checkpoint(at);
    let bytes = directory.read(&path).map_err(|cause| failed("read", &path, cause))?;
    match check(&bytes, id, at) {
        Ok(()) => Ok(Some(bytes.slice(HEAD..))),
        Err(BadHeader::Damaged) => Ok(None),
        Err(bad) => Err(bad_header(&path, bad)),
    }
}

/// The log's id, from a checkpoint's header.
pub(super) fn id(bytes: &[u8]) -> Result<LogId, BadHeader> {
    format::header_id(bytes, MAGIC)
}

/// The newest checkpoint that can be read.
pub(super) fn newest(directory: &Directory, id: &LogId) -> Result<Option<Position>> {
    for at in directory.checkpoints()?.into_iter().rev() {
        let path = directory.checkpoint(at);
        let bytes = directory.read(&path).map_err(|cause| failed("read", &path, cause))?;
        match check(&bytes, id, at) {
            Ok(()) => return Ok(Some(at)),
            Err(BadHeader::Damaged) => tracing::warn!(file = %path.display(), "a checkpoint is damaged"),
            Err(bad) => return Err(bad_header(&path, bad)),
        }
    }
    Ok(None)
}

fn check(bytes: &[u8], id: &LogId, at: Position) -> Result<(), BadHeader> {
    let same = format::header_id(bytes, MAGIC)? == *id;
    let fits = || {
        let (head, state) = (bytes.get(..CRC)?, bytes.get(HEAD..)?);
        let number = |from: usize| bytes.get(from..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let crc = crc32c::crc32c_append(crc32c::crc32c(head), state);
        Some(number(32)? == at.as_u64() && number(40)? == state.len() as u64 && u32_at(bytes, CRC)? == crc)
    };
    if same && fits() == Some(true) { Ok(()) } else { Err(BadHeader::Damaged) }
}
