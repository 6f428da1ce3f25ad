//! What readers share with the thread that writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ensync_core::{Result, Timestamp};

use super::directory::{Directory, failed};
use super::files::OpenFiles;
use super::format::LogId;
use super::lock;
use super::reserve::Reserve;
use crate::log::LogUsage;
use crate::log::failure::Failure;

/// An open log.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) directory: Directory,
    pub(super) id: LogId,
    pub(super) epoch: u32,
    pub(super) segment_bytes: u64,
    /// Each segment, and where what is durable of it ends; `u32::MAX` if that was never looked up.
    pub(super) segments: Mutex<BTreeMap<u32, u32>>,
    /// Segments that are read.
    pub(super) files: OpenFiles,
    /// Why nothing more is stored.
    pub(super) failure: Failure,
    /// Since when the writer is at the disk, while it is.
    pub(super) busy: Mutex<Option<Instant>>,
    /// The same of whatever else the broker may wait for.
    pub(super) visits: Visits,
    /// What is kept of the disk for all but events.
    pub(super) reserve: Reserve,
}

/// Who is at the disk, and since when.
#[derive(Debug, Default)]
pub(super) struct Visits(Mutex<BTreeMap<u64, Instant>>, AtomicU64);

impl Visits {
    /// Does something at the disk.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let number = self.1.fetch_add(1, Ordering::Relaxed);
        lock(&self.0).insert(number, Instant::now());
        let done = work();
        lock(&self.0).remove(&number);
        done
    }

    /// Since when the one is there that came first.
    pub(super) fn oldest(&self) -> Option<Instant> {
        lock(&self.0).values().next().copied()
    }
}

/// How long the disk may take before that is told.
pub(super) const HANGS: Duration = Duration::from_secs(5);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

impl Shared {
    /// Since when the disk has not answered the writer, or somebody for whom the broker waits.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        [*lock(&self.busy), self.visits.oldest()].into_iter().flatten().min()
    }

    /// Tells once when the disk does not answer, and once when it does again. Until `ended`.
    pub(super) fn watch(&self, ended: &Receiver<()>) {
        let mut hanging: Option<Instant> = None;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK) {
            let (busy, path) = (self.waits_since(), self.directory.path.display());
            match (hanging, busy) {
                (Some(since), now) if now != Some(since) => {
                    tracing::warn!(seconds = since.elapsed().as_secs(), %path, "the disk answers again");
                    hanging = None;
                }
                (None, Some(since)) if since.elapsed() >= HANGS => {
                    tracing::error!(%path, "the disk has not answered for {} s; nothing is stored until it does", HANGS.as_secs());
                    hanging = Some(since);
                }
                _ => {}
            }
        }
    }

    pub(super) fn usage(&self) -> Result<LogUsage> {
        let look = |path: &Path| match self.directory.metadata(path) {
            Ok(metadata) => Ok(Some(metadata)),
            // Retention was faster.
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(failed("read", path, cause)),
        };
        let free =
            self.directory.space().map_err(|cause| failed("look at the space of", &self.directory.path, cause))?.1;
        let reserved_bytes = self.reserve.bytes();
        let mut usage = LogUsage {
            bytes: 0,
            segments: 0,
            free_bytes: free,
            reserved_bytes,
            checkpoint_bytes: 0,
            checkpoint_at: None,
        };
        let numbers: Vec<u32> = lock(&self.segments).keys().copied().collect();
        for number in numbers {
            if let Some(metadata) = look(&self.directory.segment(number))? {
                (usage.bytes, usage.segments) = (usage.bytes + metadata.len(), usage.segments + 1);
            }
        }
        if let Some(newest) = self.directory.checkpoints()?.last()
            && let Some(metadata) = look(&self.directory.checkpoint(*newest))?
        {
            usage.checkpoint_bytes = metadata.len();
            usage.checkpoint_at = metadata.modified().ok().map(Timestamp::from);
        }
        Ok(usage)
    }
}
