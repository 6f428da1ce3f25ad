//! Which log is in a folder.

use std::path::Path;
use std::sync::Arc;

use ensync_core::Result;

use super::super::directory::Directory;
use super::super::format::LogId;
use super::super::io::SystemIo;
use super::super::segment::SegmentReader;

/// Which log is in a folder.
pub(super) enum Held {
    /// None.
    Nothing,
    /// The one that is looked for, or one of which no file can be read: whoever reads them all says what is wrong with them.
    This,
    Other(LogId),
}

impl Held {
    pub(super) fn find(folder: &Path, wanted: &LogId) -> Result<Self> {
        let directory = Directory::new(folder, Arc::new(SystemIo));
        let segments = directory.segments()?;
        if segments.is_empty() && directory.checkpoints()?.is_empty() {
            return Ok(Self::Nothing);
        }
        let mut other = None;
        for number in segments {
            // An engine may remove files meanwhile.
            let id = SegmentReader::open(&directory, number).and_then(|mut segment| segment.id());
            match id {
                Ok(id) if id == *wanted => return Ok(Self::This),
                Ok(id) => other = Some(id),
                Err(_) => {}
            }
        }
        Ok(other.map_or(Self::This, Self::Other))
    }
}
