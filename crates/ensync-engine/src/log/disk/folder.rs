//! A directory that is held open.
//!
//! Names are looked up in the directory itself, not along its path: whatever becomes of the path (the directory is moved, another one or
//! a file system takes its place), files are not suddenly made and removed elsewhere. Whether the path still leads here can be asked.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// A directory that is held open, and only looked up once.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    #[cfg(unix)]
    handle: File,
}

/// Which file it is, whatever it is called: its device and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl Identity {
    #[cfg(unix)]
    pub(crate) fn of(file: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(file.dev(), file.ino())
    }

    #[cfg(not(unix))]
    pub(crate) fn of(_: &Metadata) -> Self {
        Self(0, 0)
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    Read,
    Write,
    /// For reading and writing, made if it is not there.
    Make,
    /// For reading and writing, empty.
    MakeEmpty,
}

#[cfg(unix)]
impl Folder {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())?.into();
        Ok(Self { path: path.to_owned(), handle })
    }

    /// Opens a file. One that is made can be read and written by its owner only.
    pub(crate) fn file(&self, name: &Path, how: Open) -> io::Result<File> {
        use rustix::fs::{Mode, OFlags};
        let flags = match how {
            Open::Read => OFlags::RDONLY,
            Open::Write => OFlags::RDWR,
            Open::Make => OFlags::RDWR | OFlags::CREATE,
            Open::MakeEmpty => OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC,
        };
        let mode = Mode::RUSR | Mode::WUSR;
        let file = File::from(rustix::fs::openat(&self.handle, here(name)?, flags | OFlags::CLOEXEC, mode)?);
        if how == Open::MakeEmpty {
            // One that was there keeps its mode otherwise.
            rustix::fs::fchmod(&file, mode)?;
        }
        Ok(file)
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.handle, here(from)?, &self.handle, here(to)?)?)
    }

    pub(crate) fn remove(&self, name: &Path) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.handle, here(name)?, rustix::fs::AtFlags::empty())?)
    }

    /// The names in it.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        use std::os::unix::ffi::OsStringExt;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.handle)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    pub(crate) fn metadata(&self, name: &Path) -> io::Result<Metadata> {
        self.file(name, Open::Read)?.metadata()
    }

    /// Returns once the names in it are on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    /// Whether its path still leads here, and a name in it to a file.
    pub(crate) fn is_in_place(&self, name: &Path, file: &Identity) -> io::Result<bool> {
        let same = |path: &Path, held: &Identity| match std::fs::metadata(path) {
            Ok(found) => Ok(Identity::of(&found) == *held),
            Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(cause) => Err(cause),
        };
        Ok(same(&self.path, &Identity::of(&self.handle.metadata()?))? && same(&self.path.join(name), file)?)
    }

    /// How many bytes its file system has, and how many of them are free.
    pub(crate) fn space(&self) -> io::Result<(u64, u64)> {
        let found = rustix::fs::fstatvfs(&self.handle)?;
        Ok((found.f_blocks.saturating_mul(found.f_frsize), found.f_bavail.saturating_mul(found.f_frsize)))
    }
}

/// The name of a file as it is looked up here.
#[cfg(unix)]
fn here(path: &Path) -> io::Result<&Path> {
    path.file_name().map(Path::new).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Where nothing is known of handles of directories, their paths have to do.
#[cfg(not(unix))]
impl Folder {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        std::fs::read_dir(path)?;
        Ok(Self { path: path.to_owned() })
    }

    pub(crate) fn file(&self, name: &Path, how: Open) -> io::Result<File> {
        let (make, empty) = (matches!(how, Open::Make | Open::MakeEmpty), how == Open::MakeEmpty);
        let mut options = File::options();
        options.read(true).write(how != Open::Read).create(make).truncate(empty);
        options.open(self.at(name))
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(self.at(from), self.at(to))
    }

    pub(crate) fn remove(&self, name: &Path) -> io::Result<()> {
        std::fs::remove_file(self.at(name))
    }

    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    pub(crate) fn metadata(&self, name: &Path) -> io::Result<Metadata> {
        std::fs::metadata(self.at(name))
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn is_in_place(&self, name: &Path, _: &Identity) -> io::Result<bool> {
        self.path.join(name).try_exists()
    }

    /// Not known: as much as there can be.
    pub(crate) fn space(&self) -> io::Result<(u64, u64)> {
        Ok((u64::MAX, u64::MAX))
    }

    fn at(&self, name: &Path) -> PathBuf {
        self.path.join(name.file_name().unwrap_or_default())
    }
}
