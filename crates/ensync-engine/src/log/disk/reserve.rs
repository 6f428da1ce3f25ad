//! Space that is kept for what makes space.
//!
//! A disk that is full has to take acknowledgements, copies of what waits in the parts that are dropped then, and checkpoints, before it
//! has more space. So each log keeps some: a file in which nothing is, and which only these make shorter. Events of clients are refused as
//! long as it is shorter than it has to be, so that what becomes free goes there first.

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError, RwLock};

use super::directory::Directory;
use super::io::is_full;
use super::lock;
use super::shared::Shared;
use super::space::{SHORTEST, segment_length};
use crate::model::Need;
use crate::seldom::Seldom;

/// The smallest piece that is worth a try.
const PIECE: u64 = SHORTEST;
/// What one log gives back to have it at once in another form is not for the others of the program meanwhile.
static HANDED_OVER: RwLock<()> = RwLock::new(());
/// How many segments' lengths are kept: one fills while the next is still to come, so that the first can be dropped.
const SEGMENTS: u64 = 2;
/// What may be stored between two words of the state about its next checkpoint, at most.
const MARGIN: u64 = 256 << 10;

static USED: Seldom = Seldom::new();

/// What a log keeps of its disk.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    held: Mutex<Held>,
    /// The length of the largest segment so far.
    segment: AtomicU64,
    /// What the next checkpoint takes at most, as far as is known.
    next: AtomicU64,
    /// What there is of checkpoints: all their files, the newest, and the one over which the next one is written.
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Held {
    /// `None` if it could not be made yet.
    file: Option<File>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Files {
    all: u64,
    newest: u64,
    aside: u64,
}

impl Reserve {
    /// What an earlier run kept.
    pub(super) fn open(directory: &Directory) -> Self {
        let open = || {
            let file = directory.io.reuse(directory.folder()?, &directory.reserve())?;
            let metadata = file.metadata()?;
            let mut bytes = metadata.len();
            // A copy may have holes for what was kept.
            #[cfg(unix)]
            if std::os::unix::fs::MetadataExt::blocks(&metadata).saturating_mul(512) < bytes {
                directory.io.truncate(&file, 0)?;
                bytes = 0;
            }
            io::Result::Ok(Held { file: Some(file), bytes })
        };
        let held = open().unwrap_or_else(|cause| {
            tracing::warn!(%cause, path = %directory.path.display(), "cannot keep space for acknowledgements");
            Held::default()
        });
        Self { held: Mutex::new(held), ..Self::default() }
    }

    /// How many bytes are kept.
    pub(super) fn bytes(&self) -> u64 {
        lock(&self.held).bytes
    }

    /// How many bytes are to be kept: for segments, and for checkpoints. While the next one is written, the newest has to stay; and
    /// when it is there, one more has to find room.
    fn wanted(&self) -> u64 {
        let (segment, next, files) = (self.segment.load(Relaxed), self.next.load(Relaxed), *lock(&self.files));
        // Only over the file that lies aside the next one can be written.
        let checkpoints =
            (next + next.max(files.newest)).saturating_sub(files.all).max(next.saturating_sub(files.aside));
        SEGMENTS * segment + MARGIN.min(segment) + checkpoints
    }

    /// How many bytes of what is kept records of a kind have to leave: all of them the next checkpoint's, and each kind more than those
    /// that sooner make space.
    fn left_by(&self, need: Need) -> u64 {
        let (segment, files) = (self.segment.load(Relaxed), *lock(&self.files));
        let checkpoint = self.next.load(Relaxed).saturating_sub(files.aside);
        match need {
            Need::Frees => checkpoint,
            Need::Ends => checkpoint + (segment / 4).max(SHORTEST),
            Need::Keeps => checkpoint + segment.max(2 * SHORTEST),
            Need::Grows => u64::MAX,
        }
    }
}

impl Held {
    fn grow(&mut self, directory: &Directory, to: u64) -> io::Result<()> {
        let _alone = HANDED_OVER.write().unwrap_or_else(PoisonError::into_inner);
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(directory.io.reuse(directory.folder()?, &directory.reserve())?),
        };
        if let Err(cause) = directory.io.preallocate(file, to) {
            // Some of it may have been found.
            _ = directory.io.truncate(file, self.bytes);
            return Err(cause);
        }
        self.bytes = to;
        Ok(())
    }

    fn shrink(&mut self, directory: &Directory, to: u64) -> bool {
        let shrunk = to < self.bytes && self.file.as_ref().is_some_and(|file| directory.io.truncate(file, to).is_ok());
        if shrunk {
            self.bytes = to;
        }
        shrunk
    }
}

impl Shared {
    /// Takes note of a segment's length: there may be more such.
    pub(super) fn reserve_for(&self, segment: u64) {
        let most = segment_length(&self.directory, self.segment_bytes);
        self.reserve.segment.fetch_max(segment.min(most), Relaxed);
    }

    /// Takes note of what the next checkpoint takes at most.
    pub(super) fn reserve_for_checkpoint(&self, bytes: u64) {
        self.reserve.next.store(bytes, Relaxed);
    }

    /// Looks what there is of checkpoints.
    pub(super) fn measure_checkpoints(&self) {
        let directory = &self.directory;
        let length = |path: &_| directory.metadata(path).map_or(0, |file| file.len());
        let lengths = directory.checkpoints().unwrap_or_default();
        let lengths: Vec<_> = lengths.into_iter().map(|at| length(&directory.checkpoint(at))).collect();
        let aside = length(&directory.next_checkpoint());
        let newest = lengths.last().copied().unwrap_or_default();
        *lock(&self.reserve.files) = Files { all: lengths.iter().sum::<u64>() + aside, newest, aside };
    }

    /// Whether as much is kept as has to be, if need be after taking what is free.
    pub(super) fn is_reserve_whole(&self) -> bool {
        let wanted = self.reserve.wanted();
        let mut held = lock(&self.reserve.held);
        if held.bytes >= wanted {
            return true;
        }
        // Asked first: to try would take all there is from the others for a moment, and takes long where space is taken by writing it.
        let free = self.directory.space().map_or(u64::MAX, |(_, free)| free);
        if free < wanted - held.bytes {
            return false;
        }
        // A little more than that, for it is wanted again with each event that comes.
        let plenty = (wanted + wanted / 16).next_multiple_of(PIECE);
        held.grow(&self.directory, plenty).or_else(|_| held.grow(&self.directory, wanted)).is_ok()
    }

    /// Keeps what is free, as far as it has to be kept, and gives back what is more than that.
    pub(super) fn fill_reserve(&self) {
        let wanted = self.reserve.wanted();
        if self.is_reserve_whole() {
            let mut held = lock(&self.reserve.held);
            if held.bytes > wanted + wanted / 4 + PIECE {
                held.shrink(&self.directory, (wanted + wanted / 16).next_multiple_of(PIECE));
            }
            return;
        }
        let mut held = lock(&self.reserve.held);
        let free = self.directory.space().map_or(0, |(_, free)| free);
        let mut more = wanted.saturating_sub(held.bytes).min(free);
        while more >= PIECE {
            let to = held.bytes + more;
            match held.grow(&self.directory, to) {
                Ok(()) => return,
                Err(_) => more /= 2,
            }
        }
    }

    /// How many bytes are kept less than have to be.
    pub(super) fn lacks_reserve(&self) -> u64 {
        self.reserve.wanted().saturating_sub(self.reserve.bytes())
    }

    /// Makes a segment of what is kept, as far as that is for such records; `None` if it is not. `lengths`: the least, and the best.
    pub(super) fn take_reserve<T>(
        &self,
        need: Need,
        (least, best): (u64, u64),
        make: impl Fn(u64) -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        let least = least.max(SHORTEST.min(best));
        let mut held = lock(&self.reserve.held);
        let most = held.bytes.saturating_sub(self.reserve.left_by(need));
        // Half of it: a segment is dropped once there is another behind it.
        let length = best.min((most / 2).max(least)).next_multiple_of(4096);
        if length > most {
            return None;
        }
        if let Some(times) = USED.due() {
            let path = self.directory.path.display();
            tracing::warn!(%path, times, "the disk is full: what was kept of it for acknowledgements is used now, and events are refused");
        }
        let _handed = HANDED_OVER.read().unwrap_or_else(PoisonError::into_inner);
        let to = held.bytes - length;
        held.shrink(&self.directory, to);
        let mut made = make(length);
        // The file system may need some for itself.
        for _ in 0..4 {
            let to = held.bytes.saturating_sub(PIECE);
            if !made.as_ref().is_err_and(is_full) || !held.shrink(&self.directory, to) {
                break;
            }
            made = make(length);
        }
        Some(made)
    }

    /// Makes the file over which a checkpoint is written as long as that is, of what is kept. Whether it could.
    pub(super) fn room_for_checkpoint(&self, bytes: u64) -> bool {
        // Nobody makes what is kept longer again meanwhile, with what it gives.
        let mut held = lock(&self.reserve.held);
        let io = &self.directory.io;
        let file = self.directory.folder().and_then(|folder| io.reuse(folder, &self.directory.next_checkpoint()));
        let Ok((file, had)) = file.and_then(|file| file.metadata().map(|found| (file, found.len()))) else {
            return false;
        };
        let _handed = HANDED_OVER.read().unwrap_or_else(PoisonError::into_inner);
        let mut lacks = bytes.saturating_sub(had);
        // The file system may need some for itself.
        for _ in 0..4 {
            let to = held.bytes.saturating_sub(lacks);
            held.shrink(&self.directory, to);
            if io.preallocate(&file, bytes).is_ok() {
                return true;
            }
            _ = io.truncate(&file, had);
            lacks = PIECE;
        }
        false
    }
}
