//! Checkpoints: files of their own, each whole or not there.

use std::io;

use bytes::Bytes;
use ensync_core::Result;

use super::directory::{Directory, bad_header, failed};
use super::folder::Open;
use super::format::{self, BadHeader, LogId, VERSION, u32_at};
use super::segment::PIECE;
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
pub(crate) fn save(directory: &Directory, id: &LogId, at: Position, state: &[Bytes]) -> Result<()> {
    let path = directory.checkpoint(at);
    let mut head = Vec::with_capacity(HEAD);
    let mut w = Writer(&mut head);
    w.array(MAGIC);
    w.u32(VERSION);
    w.u32(0);
    w.array(id);
    w.u64(at.as_u64());
    let length = state.iter().map(|piece| piece.len() as u64).sum::<u64>();
    w.u64(length);
    let crc = state.iter().fold(crc32c::crc32c(w.0), |crc, piece| crc32c::crc32c_append(crc, piece));
    w.u32(crc);
    head.resize(HEAD, 0);
    let pieces = std::iter::once(head.as_slice()).chain(state.iter().map(|piece| &piece[..]));
    let next = directory.next_checkpoint();
    directory.create_over(&next, &path, pieces, HEAD as u64 + length).map_err(|cause| failed("write", &path, cause))?;
    // The oldest is what the next one is written over.
    let mut old = directory.checkpoints()?.into_iter().rev().skip(KEPT).peekable();
    while let Some(at) = old.next() {
        let path = directory.checkpoint(at);
        if old.peek().is_some() {
            directory.remove(&path)?;
        } else {
            directory.put_aside(&path, &next)?;
            // Its old name must be gone for good before it is written over.
            directory.sync().map_err(|cause| failed("sync", &directory.path, cause))?;
        }
    }
    Ok(())
}

/// Removes all checkpoints before the newest that can be read, and what the next one would be written over.
pub(crate) fn keep_readable(directory: &Directory, id: &LogId) -> Result<()> {
    directory.remove(&directory.next_checkpoint())?;
    let Some(newest) = newest(directory, id)? else { return Ok(()) };
    for old in directory.checkpoints()?.iter().filter(|at| **at < newest) {
        directory.remove(&directory.checkpoint(*old))?;
    }
    Ok(())
}

/// Reads a checkpoint.
pub(crate) fn load(directory: &Directory, id: &LogId, at: Position) -> Result<Bytes> {
    let path = directory.checkpoint(at);
    let bytes = directory.read(&path).map_err(|cause| failed("read", &path, cause))?;
    check(&bytes, id, at).map_err(|bad| bad_header(&path, bad))?;
    Ok(bytes.slice(HEAD..))
}

/// Reads a checkpoint; `None` if it is damaged.
pub(crate) fn load_if_whole(directory: &Directory, id: &LogId, at: Position) -> Result<Option<Bytes>> {
    let path = directory.checkpoint(at);
    let bytes = directory.read(&path).map_err(|cause| failed("read", &path, cause))?;
    match check(&bytes, id, at) {
        Ok(()) => Ok(Some(bytes.slice(HEAD..))),
        Err(BadHeader::Damaged) => Ok(None),
        Err(bad) => Err(bad_header(&path, bad)),
    }
}

/// The log's id, from a checkpoint's header.
pub(crate) fn id(bytes: &[u8]) -> Result<LogId, BadHeader> {
    format::header_id(bytes, MAGIC)
}

/// The newest checkpoint that can be read.
pub(crate) fn newest(directory: &Directory, id: &LogId) -> Result<Option<Position>> {
    for at in directory.checkpoints()?.into_iter().rev() {
        let path = directory.checkpoint(at);
        match check_file(directory, id, at).map_err(|cause| failed("read", &path, cause))? {
            Ok(()) => return Ok(Some(at)),
            Err(BadHeader::Damaged) => tracing::warn!(file = %path.display(), "a checkpoint is damaged"),
            Err(bad) => return Err(bad_header(&path, bad)),
        }
    }
    Ok(None)
}

/// Checks a checkpoint without keeping it.
fn check_file(directory: &Directory, id: &LogId, at: Position) -> io::Result<Result<(), BadHeader>> {
    let file = directory.open(&directory.checkpoint(at), Open::Read)?;
    let mut piece = vec![0; PIECE];
    let mut from = 0;
    let mut next = |piece: &mut Vec<u8>, length: usize| {
        piece.resize(length, 0);
        let read = directory.io.read(&file, piece, from)?;
        directory.progress.add(read);
        piece.truncate(read);
        from += read as u64;
        io::Result::Ok(())
    };
    next(&mut piece, HEAD)?;
    let head = piece.clone();
    let (mut sum, mut length) = (crc32c::crc32c(head.get(..CRC).unwrap_or_default()), 0);
    loop {
        next(&mut piece, PIECE)?;
        if piece.is_empty() {
            break;
        }
        (sum, length) = (crc32c::crc32c_append(sum, &piece), length + piece.len() as u64);
    }
    Ok(check_sum(&head, id, at, (length, sum)))
}

/// Checks a checkpoint's header, against the length of the state and the checksum of both.
fn check_sum(head: &[u8], id: &LogId, at: Position, (length, sum): (u64, u32)) -> Result<(), BadHeader> {
    let same = format::header_id(head, MAGIC)? == *id;
    let number = |from: usize| head.get(from..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let fits = number(32) == Some(at.as_u64()) && number(40) == Some(length) && u32_at(head, CRC) == Some(sum);
    if same && fits && head.len() == HEAD { Ok(()) } else { Err(BadHeader::Damaged) }
}

fn check(bytes: &[u8], id: &LogId, at: Position) -> Result<(), BadHeader> {
    let (head, state) = bytes.split_at(bytes.len().min(HEAD));
    let sum = crc32c::crc32c_append(crc32c::crc32c(head.get(..CRC).unwrap_or_default()), state);
    check_sum(head, id, at, (state.len() as u64, sum))
}
