//! Room on the disk that is kept for taking events out.
//!
//! The database writes to delete: where the outbox itself has filled the disk, what was sent could not be taken out any more, and
//! would be sent again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How much is kept, in bytes.
const ROOM: usize = 1024 * 1024;

/// Room that can be given up and taken again.
pub(super) trait Reserve: Send {
    /// Where it is, for who must see to it.
    fn place(&self) -> String;

    /// Takes it, unless it is taken.
    ///
    /// # Errors
    ///
    /// There is none.
    fn take(&mut self) -> io::Result<()>;

    /// Gives it up. False if there was none.
    fn give_up(&mut self) -> bool;
}

/// A file beside the outbox that only takes up room.
pub(super) struct ReserveFile {
    path: PathBuf,
    taken: bool,
}

impl ReserveFile {
    pub(super) fn beside(outbox: &Path) -> Self {
        let mut name = outbox.as_os_str().to_owned();
        name.push(".reserve");
        Self { path: name.into(), taken: false }
    }

    fn write(&self) -> io::Result<()> {
        let mut how = OpenOptions::new();
        how.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut how, 0o600);
        let mut file: File = how.open(&self.path)?;
        // Random, for zeros take up no room on some file systems.
        let mut room = vec![0; ROOM];
        fastrand::fill(&mut room);
        file.write_all(&room)?;
        file.sync_all()
    }
}

impl Reserve for ReserveFile {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn take(&mut self) -> io::Result<()> {
        let there = |path: &Path| std::fs::metadata(path).is_ok_and(|file| file.len() == ROOM as u64);
        if !self.taken && !there(&self.path) {
            self.write().inspect_err(|_| drop(std::fs::remove_file(&self.path)))?;
        }
        self.taken = true;
        Ok(())
    }

    fn give_up(&mut self) -> bool {
        self.taken = false;
        std::fs::remove_file(&self.path).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_and_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = directory.path().join("outbox");
        let length = || std::fs::metadata(directory.path().join("outbox.reserve")).map(|file| file.len()).ok();
        let mut reserve = ReserveFile::beside(&outbox);
        for _ in 0..2 {
            reserve.take().unwrap();
            reserve.take().unwrap();
            assert_eq!(length(), Some(ROOM as u64));
            // The next process finds it.
            ReserveFile::beside(&outbox).take().unwrap();
            assert!(reserve.give_up() && !reserve.give_up());
            assert_eq!(length(), None);
        }
    }
}
