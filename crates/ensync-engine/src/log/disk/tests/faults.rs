//! Files that fail when they are told to.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::io::{Io, SystemIo};

#[derive(Debug, Default)]
pub(super) struct Faults {
    full: AtomicU32,
    sync: AtomicU32,
}

impl Faults {
    /// From now on there is no space for new segments: 1; nor for what is written to old ones, which then takes half: 2.
    pub(super) fn full(&self, how: u32) {
        self.full.store(how, Ordering::SeqCst);
    }

    /// The next sync fails.
    pub(super) fn fail_sync(&self) {
        self.sync.store(1, Ordering::SeqCst);
    }
}

impl Io for Faults {
    fn preallocate(&self, file: &File, length: u64) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        SystemIo.preallocate(file, length)
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) > 1 {
            SystemIo.write(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        SystemIo.write(file, bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.sync.swap(0, Ordering::SeqCst) > 0 {
            return Err(io::Error::other("the disk is on fire"));
        }
        SystemIo.sync(file)
    }
}

/// Nothing but the operating system can tell whether it was asked: it refuses to sync what is no file on a disk.
#[cfg(unix)]
#[test]
fn a_sync_is_one() {
    let null = File::open("/dev/null").unwrap();
    for sync in [Io::sync, Io::sync_all] {
        assert_eq!(sync(&SystemIo, &null).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
