//! What can fail: the few calls that change and read files, in one place, so that tests can make them fail, and stop between any two.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use super::folder::{Folder, Open};

/// Changes and reads files.
pub(crate) trait Io: fmt::Debug + Send + Sync + 'static {
    /// Does something on a thread of its own, and nothing if there is none to be had.
    fn meanwhile(&self, work: Box<dyn FnOnce() + Send>) {
        _ = std::thread::Builder::new().name("ensync-segment".into()).spawn(work);
    }

    /// Makes an empty file for its owner only, in place of one of that name.
    fn create(&self, folder: &Folder, name: &Path) -> io::Result<File> {
        folder.file(name, Open::MakeEmpty)
    }

    /// Leaves the disk to others.
    fn pause(&self, lasts: Duration) {
        std::thread::sleep(lasts);
    }

    /// Opens a file to be written over; makes it if it is not there.
    fn reuse(&self, folder: &Folder, name: &Path) -> io::Result<File> {
        folder.file(name, Open::Make)
    }

    /// Gives a file at least this length, and as far as the file system can, the space for it.
    fn preallocate(&self, file: &File, length: u64) -> io::Result<()> {
        preallocate(file, length)
    }

    /// Writes at an offset.
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_all_at(file, bytes, offset)
    }

    /// Reads at an offset, as much as fits and is there: how many bytes.
    fn read(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match read_at(file, rest, offset.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(read)
    }

    /// Where the last part of a file ends that may hold anything but zeros, as far as the file system tells. It need not be asked to read
    /// what it knows to be empty.
    fn data_end(&self, file: &File, length: u64) -> u64 {
        data_end(file, length)
    }

    /// Gives the space after a length back.
    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    /// Returns once everything written is on the disk.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Returns once everything written is on the disk, and the length.
    fn sync_all(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// Gives a file another name, in place of one that has it.
    fn rename(&self, folder: &Folder, from: &Path, to: &Path) -> io::Result<()> {
        folder.rename(from, to)
    }

    /// Removes a file.
    fn remove(&self, folder: &Folder, name: &Path) -> io::Result<()> {
        folder.remove(name)
    }

    /// Returns once the names in a directory are on the disk.
    fn sync_directory(&self, folder: &Folder) -> io::Result<()> {
        folder.sync()
    }
}

/// The operating system's files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemIo;

impl Io for SystemIo {}

// The position of a file handle is shared by everybody who uses it: a handle that many read from is read by offset only.
#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, offset)
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        read => read,
    }
}

#[cfg(windows)]
fn write_all_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    // Whoever writes has a handle of its own.
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn data_end(file: &File, length: u64) -> u64 {
    use rustix::fs::{SeekFrom, seek};
    let mut end = 0;
    // They can be asked for in their order only; a file in more parts than this is read instead.
    for _ in 0..1_024 {
        let data = match seek(file, SeekFrom::Data(end)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => return end,
            // The file system knows no such question.
            Err(_) => return length,
        };
        match seek(file, SeekFrom::Hole(data)) {
            Ok(hole) if hole > data && hole < length => end = hole,
            _ => return length,
        }
    }
    length
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn data_end(_: &File, length: u64) -> u64 {
    length
}

/// Whether there is no space, which may come back; anything else that a disk says is no reason to trust it again.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(target_os = "linux")]
fn preallocate(file: &File, length: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    use rustix::io::Errno;
    let had = file.metadata()?.len();
    if had >= length {
        return Ok(());
    }
    // Some file systems want as much free as is asked for, taken already or not.
    match rustix::fs::fallocate(file, FallocateFlags::empty(), had, length - had) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => extend(file, length),
        done => done.map_err(Into::into),
    }
}

#[cfg(not(target_os = "linux"))]
fn preallocate(file: &File, length: u64) -> io::Result<()> {
    extend(file, length)
}

/// Where the space cannot be asked for, it is taken by writing zeros.
fn extend(mut file: &File, length: u64) -> io::Result<()> {
    let mut at = file.seek(SeekFrom::End(0))?;
    let zeros = [0; 64 << 10];
    while at < length {
        let part = zeros.get(..usize::try_from(length - at).unwrap_or(usize::MAX).min(zeros.len())).unwrap_or(&zeros);
        file.write_all(part)?;
        at += part.len() as u64;
    }
    Ok(())
}
