//! The files of a data directory, by name.

use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result};

use super::folder::{Folder, Identity, Open};
use super::format::{self, BadHeader, HEADER, LogId};
use super::io::Io;
use super::progress::ReadProgress;
use crate::model::Position;

const LOCK: &str = "lock";
const SEGMENT: &str = "log";
const CHECKPOINT: &str = "checkpoint";
const RESERVE: &str = "reserve";
/// What to do about damage.
pub(crate) const ADVICE: &str = "`ensync store repair` says what of it is lost, and goes on without that; or restore the data directory from a backup";
/// What a file is called until it is whole.
const UNFINISHED: &str = "unfinished";
/// How much of a large file is written before it is synced.
const AT_ONCE: usize = 256 << 10;
/// The longest that a large file waits for those who append to the log, between two pieces.
const GIVES_WAY: Duration = Duration::from_millis(50);

/// A data directory.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) io: Arc<dyn Io>,
    /// From the first look into it on.
    folder: Arc<OnceLock<Folder>>,
    /// Which file the lock is, from when it was taken on.
    lock: Arc<OnceLock<Identity>>,
    /// Who is told how much of it has been read.
    pub(crate) progress: ReadProgress,
    /// How many commits the log has stored.
    pub(crate) commits: Arc<AtomicU64>,
}

impl Directory {
    pub(crate) fn new(path: impl Into<PathBuf>, io: Arc<dyn Io>) -> Self {
        let (folder, lock, progress) = (Arc::default(), Arc::default(), ReadProgress::default());
        Self { path: path.into(), io, folder, lock, progress, commits: Arc::default() }
    }

    /// The directory itself, held open.
    pub(crate) fn folder(&self) -> io::Result<&Folder> {
        match self.folder.get() {
            Some(folder) => Ok(folder),
            None => {
                let folder = Folder::open(&self.path)?;
                Ok(self.folder.get_or_init(|| folder))
            }
        }
    }

    /// Opens a file of it.
    pub(crate) fn open(&self, path: &Path, how: Open) -> io::Result<File> {
        self.folder()?.file(path, how)
    }

    pub(crate) fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.folder()?.metadata(path)
    }

    /// Whether the path still leads to it, and to the lock that was taken. If not, another engine may have the path for its own.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        let (folder, lock) = (self.folder()?, self.lock.get());
        lock.map_or(Ok(true), |lock| folder.is_in_place(Path::new(LOCK), lock))
    }

    /// How many bytes its file system has, and how many of them are free.
    pub(crate) fn space(&self) -> io::Result<(u64, u64)> {
        self.folder()?.space()
    }

    /// Makes it if it is not there, readable by its owner only, and keeps other processes out while the file that is returned
    /// lives.
    pub(crate) fn enter(&self) -> Result<File> {
        self.make()?;
        let lock = self.open(Path::new(LOCK), Open::Make);
        let lock = lock.map_err(|cause| self.cannot_use("open a file in", cause))?;
        self.locked(lock.try_lock(), "stop that, or choose another directory")?;
        let metadata = lock.metadata().map_err(|cause| self.cannot_use("open a file in", cause))?;
        _ = self.lock.set(Identity::of(&metadata));
        Ok(lock)
    }

    /// Makes it if it is not there, readable by its owner only.
    pub(crate) fn make(&self) -> Result<()> {
        let missing: Vec<_> = self.path.ancestors().take_while(|path| !path.exists()).collect();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.path).map_err(|cause| self.cannot_use("make", cause))?;
        // Else a power failure could take the name of what was just made away, with all that is in it.
        for made in missing {
            let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let synced = Folder::open(parent).and_then(|folder| folder.sync());
            synced.map_err(|cause| failed("sync", parent, cause))?;
        }
        Ok(())
    }

    /// Keeps engines out while the file that is returned lives, and changes nothing. `None` if no engine was ever here.
    pub(crate) fn look(&self) -> Result<Option<File>> {
        self.folder().map_err(|cause| self.cannot_use("look into", cause))?;
        let path = self.path.join(LOCK);
        match self.open(&path, Open::Read) {
            Ok(lock) => {
                self.locked(lock.try_lock_shared(), "stop it first, or make a backup and look at that")?;
                Ok(Some(lock))
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(failed("open", &path, cause)),
        }
    }

    fn locked(&self, locked: Result<(), TryLockError>, advice: &str) -> Result<()> {
        let path = self.path.display();
        match locked {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("the data directory {path} is in use by another engine; {advice}"),
            )),
            Err(TryLockError::Error(cause)) => {
                let message = format!(
                    "cannot lock the data directory {path}: its file system may know no locks; put the data on a disk of this machine"
                );
                Err(Error::new(ErrorKind::InvalidInput, message).with_source(cause))
            }
        }
    }

    /// Says what has to change before a directory can be used.
    fn cannot_use(&self, what: &str, cause: io::Error) -> Error {
        let advice = match cause.kind() {
            io::ErrorKind::PermissionDenied => "give the user that runs the engine the right to write there",
            io::ErrorKind::ReadOnlyFilesystem => "its file system is mounted read-only; mount it for writing",
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => "there is a file in its place",
            io::ErrorKind::NotFound => "it is not there",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "its disk is full; make space",
            _ => return failed(&format!("{what} the data directory"), &self.path, cause),
        };
        let message = format!("cannot {what} the data directory {}: {advice}", self.path.display());
        Error::new(ErrorKind::Unavailable, message).with_source(cause)
    }

    /// The numbers of the segments, ascending.
    pub(crate) fn segments(&self) -> Result<Vec<u32>> {
        self.list(SEGMENT, 10)
    }

    /// The positions of the checkpoints, ascending.
    pub(crate) fn checkpoints(&self) -> Result<Vec<Position>> {
        Ok(self.list(CHECKPOINT, 20)?.into_iter().map(Position::new).collect())
    }

    pub(crate) fn segment(&self, number: u32) -> PathBuf {
        self.path.join(format!("{number:010}.{SEGMENT}"))
    }

    pub(crate) fn checkpoint(&self, at: Position) -> PathBuf {
        self.path.join(format!("{:020}.{CHECKPOINT}", at.as_u64()))
    }

    /// Makes a segment of some length. It is there whole or not at all.
    pub(crate) fn create_segment(&self, id: &LogId, number: u32, length: u64) -> io::Result<File> {
        self.create(&self.segment(number), [&format::header(id, number)[..]], Some(length))
    }

    /// Where a checkpoint is written before it is whole: the file of one that is not needed any more, if there is one.
    pub(crate) fn next_checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINT).with_extension(UNFINISHED)
    }

    /// Segments that were being made when the engine was killed.
    pub(crate) fn unfinished(&self) -> Result<Vec<PathBuf>> {
        let numbers = self.list::<u32>(UNFINISHED, 10)?.into_iter();
        Ok(numbers.map(|number| self.segment(number).with_extension(UNFINISHED)).collect())
    }

    /// The file that keeps space for what makes some.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.path.join(RESERVE)
    }

    /// Makes a file of these pieces, one after the other. It is there whole or not at all.
    pub(crate) fn create<'a>(
        &self,
        path: &Path,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        length: Option<u64>,
    ) -> io::Result<File> {
        let unfinished = path.with_extension(UNFINISHED);
        let file = self.io.create(self.folder()?, &unfinished)?;
        let fill = |file: &File| {
            if let Some(length) = length {
                self.io.preallocate(file, length)?;
            }
            self.fill(file, pieces).map(drop)
        };
        // The space it took may be what others lack.
        let finished = self.finish(&file, fill, &unfinished, path);
        finished.inspect_err(|_| _ = self.folder().map(|folder| self.io.remove(folder, &unfinished)))?;
        Ok(file)
    }

    /// Makes a file of these pieces, over one that is not needed any more if that is there. It is there whole or not at all; if
    /// not, the file that was not needed is kept. `length`: of all pieces.
    ///
    /// For what is large and made again and again: a file system that takes and gives back much space at once holds up those who
    /// wait for a sync beside it, for it stores both in its journal (and tells the device, where it is mounted with `discard`).
    pub(crate) fn create_over<'a>(
        &self,
        old: &Path,
        path: &Path,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        length: u64,
    ) -> io::Result<File> {
        let file = self.io.reuse(self.folder()?, old)?;
        let fill = |file: &File| {
            let had = file.metadata()?.len();
            if length > had {
                // Before anything of it is written. What was there stays, for the next try.
                self.io.preallocate(file, length).inspect_err(|_| _ = self.io.truncate(file, had))?;
            }
            let written = self.fill(file, pieces)?;
            if file.metadata()?.len() > written { self.io.truncate(file, written) } else { Ok(()) }
        };
        self.finish(&file, fill, old, path)?;
        Ok(file)
    }

    /// Fills a file, and gives it its name.
    fn finish(
        &self,
        file: &File,
        fill: impl FnOnce(&File) -> io::Result<()>,
        unfinished: &Path,
        path: &Path,
    ) -> io::Result<()> {
        let folder = self.folder()?;
        fill(file)?;
        // The length too, which `sync_data` need not store where nothing was written.
        self.io.sync_all(file)?;
        self.io.rename(folder, unfinished, path)?;
        self.sync()
    }

    /// Writes pieces one after the other, and returns their length. Whoever appends to the log meanwhile waits for the disk to take a
    /// little, and not all of it, and gets half of its time.
    fn fill<'a>(&self, file: &File, pieces: impl IntoIterator<Item = &'a [u8]>) -> io::Result<u64> {
        let (mut buffer, mut offset) = (Vec::new(), 0);
        let mut commits = self.commits.load(Relaxed);
        for mut piece in pieces {
            while !piece.is_empty() {
                let (part, rest) = piece.split_at(piece.len().min(AT_ONCE - buffer.len()));
                buffer.extend_from_slice(part);
                piece = rest;
                if buffer.len() < AT_ONCE {
                    break;
                }
                let begun = Instant::now();
                self.io.write(file, &buffer, offset)?;
                self.io.sync(file)?;
                offset += buffer.len() as u64;
                buffer.clear();
                let now = self.commits.load(Relaxed);
                if std::mem::replace(&mut commits, now) != now {
                    self.io.pause(begun.elapsed().min(GIVES_WAY));
                }
            }
        }
        self.io.write(file, &buffer, offset)?;
        Ok(offset + buffer.len() as u64)
    }

    /// A whole file.
    pub(crate) fn read(&self, path: &Path) -> io::Result<Bytes> {
        let file = self.open(path, Open::Read)?;
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX)];
        let read = self.io.read(&file, &mut bytes, 0)?;
        self.progress.add(read);
        bytes.truncate(read);
        Ok(bytes.into())
    }

    /// Puts a file aside, to be written over: see [`create_over`](Self::create_over).
    pub(crate) fn put_aside(&self, path: &Path, old: &Path) -> Result<()> {
        match self.folder().and_then(|folder| self.io.rename(folder, path, old)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(failed("rename", path, cause)),
            _ => Ok(()),
        }
    }

    /// Removes a file. Whether it is gone for good is only sure after [`sync`](Self::sync).
    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        match self.folder().and_then(|folder| self.io.remove(folder, path)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, cause)),
            _ => Ok(()),
        }
    }

    /// Returns once the names in the directory are on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.io.sync_directory(self.folder()?)
    }

    fn list<T: std::str::FromStr + Ord>(&self, extension: &str, digits: usize) -> Result<Vec<T>> {
        let list = || -> io::Result<Vec<T>> {
            let mut found = Vec::new();
            for name in self.folder()?.names()? {
                let path = PathBuf::from(name);
                let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                let ours = path.extension().is_some_and(|found| found == extension);
                if ours && stem.len() == digits && stem.bytes().all(|b| b.is_ascii_digit()) {
                    found.extend(stem.parse());
                }
            }
            found.sort();
            Ok(found)
        };
        list().map_err(|cause| failed("list the data directory", &self.path, cause))
    }
}

/// Whether a name in a data directory is one of the log's.
pub(crate) fn is_ours(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    name == LOCK
        || name == RESERVE
        || name.starts_with("damaged-")
        || matches!(extension, Some(SEGMENT | CHECKPOINT | UNFINISHED))
}

/// What the operating system said about a file.
pub(crate) fn failed(what: &str, path: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot {what} {}", path.display())).with_source(cause)
}

/// What cannot be used, and will not get better by trying again.
pub(crate) fn unusable(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

pub(crate) fn bad_header(path: &Path, bad: BadHeader) -> Error {
    let path = path.display();
    unusable(match bad {
        BadHeader::Version(version) if version < format::VERSION => format!(
            "{path} is of format {version}, and this engine reads only format {}; use the engine that wrote it, or start this one \
             on another directory; nothing was changed",
            format::VERSION
        ),
        BadHeader::Version(version) => format!(
            "{path} is of format {version}, and this engine reads format {}; use the engine that wrote it, or a later one",
            format::VERSION
        ),
        BadHeader::Damaged => {
            format!("{path} is damaged in its first {HEADER} bytes, or is no file of an engine; {ADVICE}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operating_system_says_becomes_what_to_do() {
        let directory = Directory::new("/var/lib/ensync", Arc::new(super::super::io::SystemIo));
        for (kind, words) in [
            (io::ErrorKind::PermissionDenied, "give the user that runs the engine the right to write there"),
            (io::ErrorKind::ReadOnlyFilesystem, "its file system is mounted read-only; mount it for writing"),
            (io::ErrorKind::AlreadyExists, "there is a file in its place"),
            (io::ErrorKind::StorageFull, "its disk is full; make space"),
        ] {
            let error = directory.cannot_use("make", kind.into());
            let expected = format!("cannot make the data directory /var/lib/ensync: {words}");
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::Unavailable, expected));
        }
    }
}
