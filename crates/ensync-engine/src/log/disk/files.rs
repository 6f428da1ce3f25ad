//! Segments that are held open to be read.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

use super::lock;

/// The most that are held.
pub(super) const OPEN_FILES: usize = 32;

/// The segments that were read last, open. They are read by offset, so any number of readers can share one.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// The one that was used last is the last.
    files: Vec<(u32, Arc<File>)>,
    /// How often some were given up for good.
    forgotten: u64,
}

impl OpenFiles {
    /// The file of a segment, which `open` opens if it is not held; `None` if there is none.
    pub(super) fn open(&self, number: u32, open: impl FnOnce() -> io::Result<File>) -> io::Result<Option<Arc<File>>> {
        let forgotten = {
            let mut held = lock(&self.0);
            if let Some(file) = held.touch(number) {
                return Ok(Some(file));
            }
            held.forgotten
        };
        // Not under the lock: a disk may take its time.
        let file = match open() {
            // Retention was faster.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => Arc::new(file?),
        };
        let mut held = lock(&self.0);
        // What was given up meanwhile may be this file, and would be held for nothing.
        if held.forgotten == forgotten && held.touch(number).is_none() {
            if held.files.len() >= OPEN_FILES {
                held.files.remove(0);
            }
            held.files.push((number, file.clone()));
        }
        Ok(Some(file))
    }

    /// Gives a file up that was removed or replaced: the space it takes is only free once nobody holds it.
    pub(super) fn forget(&self, number: u32) {
        let mut held = lock(&self.0);
        held.forgotten += 1;
        held.files.retain(|(other, _)| *other != number);
    }

    #[cfg(test)]
    pub(super) fn numbers(&self) -> Vec<u32> {
        lock(&self.0).files.iter().map(|(number, _)| *number).collect()
    }
}

impl Held {
    fn touch(&mut self, number: u32) -> Option<Arc<File>> {
        let index = self.files.iter().position(|(other, _)| *other == number)?;
        let found = self.files.remove(index);
        let file = found.1.clone();
        self.files.push(found);
        Some(file)
    }
}
