//! The log on a disk: what it keeps, and what it makes of files that something happened to.

#[cfg(unix)]
mod beside;
mod by_hand;
mod damage;
mod faults;
mod fire;
mod format;
mod kept;
#[cfg(unix)]
mod place;
mod provisioned;
mod random;
mod read;
mod space;
mod start;
#[cfg(unix)]
mod stop;
mod store;
mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensync_core::{ErrorKind, Result, Timestamp};
use futures::StreamExt;
use tempfile::TempDir;

use super::format::{HEADER, split};
use super::io::{Io, SystemIo};
use super::{DiskLog, DiskOptions};
use crate::log::Log;
use crate::model::codec::record::decode;
use crate::model::codec::record::tests::samples;
use crate::model::{Encoded, EventRef, Need, Position, PublishRecord, Record};

/// The smallest segments there are, and no marks but those of the runs.
fn options() -> DiskOptions {
    DiskOptions { segment_bytes: 64 << 10, mark_after: Duration::from_secs(3_600), ..DiskOptions::default() }
}

/// A directory of a test's own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// In memory, where the machine has such a place: for tests that make many.
    fn quick() -> Self {
        tempfile::tempdir_in("/dev/shm").map_or_else(|_| Self::new(), Self)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn open(&self) -> DiskLog {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<DiskLog> {
        self.open_with(Arc::new(SystemIo))
    }

    fn open_with(&self, io: Arc<dyn Io>) -> Result<DiskLog> {
        DiskLog::open_with(self.path(), &options(), io)
    }

    fn segment(&self, number: u32) -> PathBuf {
        self.path().join(format!("{number:010}.log"))
    }

    /// Every file but the lock, with what is in it.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| !path.ends_with("lock")).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// Those in folders, too.
    fn files_below(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        let (folders, files): (Vec<_>, Vec<_>) =
            entries.filter(|path| !path.ends_with("lock")).partition(|path| path.is_dir());
        let below = folders.iter().flat_map(|path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        files.into_iter().chain(below).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// Changes a file.
    fn alter(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    /// Asserts that the directory is refused with these words, and left as it is.
    #[track_caller]
    fn refused(&self, kind: ErrorKind, words: &[&str]) {
        let before = self.files();
        let error = self.try_open().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        for part in words {
            assert!(error.to_string().contains(part), "{error} lacks {part:?}");
        }
        assert!(self.files() == before, "a refused directory was changed");
    }
}

/// A log, as records.
trait Records {
    async fn store(&self, batch: &[Arc<Record>]) -> Result<Vec<Position>>;
    async fn fetch(&self, at: Position) -> Result<Option<Arc<Record>>>;
}

impl<L: Log> Records for L {
    async fn store(&self, batch: &[Arc<Record>]) -> Result<Vec<Position>> {
        self.append(batch.iter().map(|record| Encoded::from(&**record)).collect()).await
    }

    async fn fetch(&self, at: Position) -> Result<Option<Arc<Record>>> {
        Ok(self.read(at).await?.map(|bytes| Arc::new(decode(bytes).unwrap())))
    }
}

/// A small record.
fn small(seq: u64) -> Arc<Record> {
    Arc::new(Record::Drop { event: EventRef { queue: 0, seq } })
}

/// A record of about a size.
fn large(seq: u64, bytes: usize) -> Arc<Record> {
    let Some(Record::Publish(sample)) = samples().into_iter().find(|r| matches!(r, Record::Publish(_))) else {
        panic!()
    };
    let payload = ensync_core::WirePayload::from_wire("A".repeat(bytes));
    Arc::new(Record::Publish(PublishRecord { at: EventRef { queue: 0, seq }, payload, ..sample }))
}

async fn scanned(log: &DiskLog, from: Position) -> Vec<(Position, Arc<Record>)> {
    let read = |read: Result<(Position, Bytes)>| read.map(|(at, bytes)| (at, Arc::new(decode(bytes).unwrap())));
    log.scan(from).map(|found| read(found).unwrap()).collect().await
}

async fn records(log: &DiskLog) -> Vec<Arc<Record>> {
    scanned(log, Position::START).await.into_iter().map(|(_, record)| record).collect()
}
