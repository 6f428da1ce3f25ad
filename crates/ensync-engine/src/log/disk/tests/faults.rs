//! Files that fail when they are told to.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::super::io::{Io, SystemIo};
use super::*;

#[derive(Debug, Default)]
pub(super) struct Faults {
    full: AtomicU32,
    /// What was given back since.
    free: AtomicU64,
    sync: AtomicU32,
}

impl Faults {
    /// From now on there is no space for new segments but what is given back: 1; nor for what is written to old ones, which then takes
    /// half: 2.
    pub(super) fn full(&self, how: u32) {
        self.free.store(0, Ordering::SeqCst);
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
            let more = length.saturating_sub(file.metadata()?.len());
            let taken = self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(more));
            taken.map_err(|_| io::ErrorKind::StorageFull)?;
        }
        SystemIo.preallocate(file, length)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        self.free.fetch_add(file.metadata()?.len().saturating_sub(length), Ordering::SeqCst);
        SystemIo.truncate(file, length)
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

/// A disk that takes its time over the next segment.
#[derive(Debug)]
struct Slow(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

impl Io for Slow {
    fn preallocate(&self, file: &File, length: u64) -> io::Result<()> {
        if std::thread::current().name() == Some("ensync-segment") {
            _ = self.0.lock().unwrap().recv();
        }
        SystemIo.preallocate(file, length)
    }
}

#[tokio::test]
async fn commits_go_on_while_the_next_segment_is_made() {
    let place = Place::new();
    let (go, gate) = std::sync::mpsc::channel();
    let log = place.open_with(Arc::new(Slow(std::sync::Mutex::new(gate)))).unwrap();
    let mut stored = Vec::new();
    // The fourth is beyond the half of the segment.
    for seq in 0..5 {
        stored.push(large(seq, 10_000));
        log.store(&stored[stored.len() - 1..]).await.unwrap();
    }
    assert!(!place.segment(2).exists(), "it is not made yet");
    drop(go);
    for seq in 5..20 {
        stored.push(large(seq, 10_000));
        log.store(&stored[stored.len() - 1..]).await.unwrap();
    }
    log.close().await;
    assert_eq!(records(&place.open()).await, stored);
}

#[tokio::test]
async fn a_first_start_does_not_wait_for_a_whole_segment() {
    let place = Place::new();
    let log = DiskLog::open(place.path(), DiskOptions::default()).await.unwrap();
    assert!(fs::metadata(place.segment(1)).unwrap().len() <= 1 << 20);
    log.store(&[large(1, 2 << 20)]).await.unwrap();
    log.close().await;
    assert!(fs::metadata(place.segment(2)).unwrap().len() > 2 << 20);
}
