//! A new log in the place of one that is lost as a whole.

use std::sync::Arc;

use ensync_core::Result;

use super::pieces::{Piece, Pieces};
use super::scan::Gap;
use super::scanner::open_segment;
use crate::log::disk::directory::{Directory, failed};
use crate::log::disk::format::{self, FRAME, HEADER, LogId};
use crate::log::disk::io::SystemIo;
use crate::log::disk::layout::Layout;
use crate::log::disk::segment::SegmentReader;
use crate::random::random;

/// Gives a partition a log that begins with the word that what was before it is lost. The store says first which log that is: whatever
/// interrupts this, its folder has none then, and it is done again. What it said before is kept beside it.
pub(super) fn make_anew(mut store: Layout, partition: usize) -> Result<Layout> {
    let Some(path) = store.partitions().nth(partition) else { return Ok(store) };
    let id: LogId = random()?;
    let epoch = epoch(&Directory::new(store.registry(), Arc::new(SystemIo)))?;
    // Made first: where there can be no folder, nothing is changed.
    let directory = Directory::new(path, Arc::new(SystemIo));
    let _lock = directory.enter()?;
    store.replace(partition, id)?;
    // Its epoch is what those of the other logs are, so that the blocks of its deliveries grow over those of before.
    let gap = Gap { commit: 1, epoch, ..Gap::new(1, HEADER as usize, HEADER as usize + FRAME) };
    let bytes = [&format::header(&id, 1)[..], &gap.frame(&id)].concat();
    let path = directory.segment(1);
    directory.create(&path, [&bytes[..]], None).map_err(|cause| failed("write", &path, cause))?;
    Ok(store)
}

/// The run that wrote to a log last.
fn epoch(directory: &Directory) -> Result<u32> {
    let mut epoch = 1;
    for number in directory.segments()? {
        let Ok(id) = SegmentReader::open(directory, number)?.id() else { continue };
        let mut pieces = Pieces::of(open_segment(directory, number)?, id);
        while let Some(piece) = pieces.next()? {
            if let Piece::Frame(_, frame) = piece {
                epoch = epoch.max(frame.epoch);
            }
        }
    }
    Ok(epoch)
}

#[cfg(test)]
mod tests;
