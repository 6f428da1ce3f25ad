//! What can fail: the few calls that change files, in one place, so that tests can make them fail.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// Changes files.
pub(super) trait Io: fmt::Debug + Send + Sync + 'static {
    /// Gives a file at least this length, and as far as the file system can, the space for it.
    fn preallocate(&self, file: &File, length: u64) -> io::Result<()> {
        preallocate(file, length)
    }

    /// Writes at an offset.
    fn write(&self, mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    /// Returns once everything written is on the disk.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// The operating system's files.
#[derive(Clone, Copy, Debug)]
pub(super) struct SystemIo;

impl Io for SystemIo {}

/// Whether there is no space, which may come back; anything else that a disk says is no reason to trust it again.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(target_os = "linux")]
fn preallocate(file: &File, length: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
        // Some file systems cannot. There the space is taken as it is written.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => extend(file, length),
        done => done.map_err(Into::into),
    }
}

#[cfg(not(target_os = "linux"))]
fn preallocate(file: &File, length: u64) -> io::Result<()> {
    extend(file, length)
}

fn extend(file: &File, length: u64) -> io::Result<()> {
    if file.metadata()?.len() < length { file.set_len(length) } else { Ok(()) }
}

#[cfg(test)]
pub(super) mod faults {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Files that fail when they are told to.
    #[derive(Debug, Default)]
    pub(in crate::log::disk) struct Faults {
        full: AtomicU32,
        sync: AtomicU32,
    }

    impl Faults {
        /// From now on there is no space for new segments: 1; nor for what is written to old ones, which then takes half: 2.
        pub(in crate::log::disk) fn full(&self, how: u32) {
            self.full.store(how, Ordering::SeqCst);
        }

        /// The next sync fails.
        pub(in crate::log::disk) fn fail_sync(&self) {
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
}
