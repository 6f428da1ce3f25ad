//! Copying a log while an engine writes to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result};

use super::backup::names;
use super::salvage::decode;
use crate::log::disk::checkpoint;
use crate::log::disk::directory::{self, Directory, failed, unusable};
use crate::log::disk::folder::Open;
use crate::log::disk::format::{FRAME, Frame, HEADER, LogId, MARK, position, split};
use crate::log::disk::recover::{Walk, is_needed};
use crate::log::disk::segment::{PIECE, SegmentReader};
use crate::model::Position;

/// How often a segment is read at least, and for how long, in which something does not follow.
const READS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before that.
pub(super) const PAUSE: Duration = Duration::from_millis(5);

/// Why a copy was not finished.
pub(super) enum Stop {
    /// The engine removed or wrote something meanwhile: it may work the next time.
    Moved(Error),
    Failed(Error),
}

impl Stop {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Moved(error) | Self::Failed(error) => error,
        }
    }
}

/// What was copied so far: under names that no engine looks at.
pub(super) struct Copy {
    id: LogId,
    checkpoint: Option<(Position, Bytes)>,
    /// Each segment, and where it ends.
    segments: Vec<(u32, u32)>,
    commit: u64,
    epoch: u32,
}

impl Copy {
    /// Copies segments from the first that is needed on to the end, and takes the newest checkpoint then. While the old ones are copied
    /// the engine makes more checkpoints, and drops what lies behind the one of the beginning: only a checkpoint that is as new as what
    /// was dropped last tells what was in that.
    pub(super) fn read(from: &Directory, target: &Directory, replays: bool) -> Result<Self, Stop> {
        let listed = from.segments().map_err(Stop::Failed)?;
        let Some(&oldest) = listed.first() else {
            let message = format!("the data directory {} holds no log", from.path.display());
            return Err(Stop::Failed(unusable(message)));
        };
        let id = SegmentReader::open(from, oldest).and_then(|mut segment| segment.id()).map_err(Stop::Moved)?;
        let first = newest(from, &id)?;
        let needed = match &first {
            Some((at, state)) if !replays => {
                let state = decode(*at, state).map_err(Stop::Failed)?;
                let waiting =
                    state.partition.queues.iter().flat_map(|queue| queue.events.iter().map(|event| event.current));
                // What lay before the first segment that is left was stored once more behind the checkpoint, or has expired.
                split(waiting.min().map_or(*at, |first| first.min(*at))).0.max(oldest)
            }
            _ => oldest,
        };
        drop(first);
        // Listed again, for there may be more by now; the checkpoint only needs what was there before it.
        let numbers: Vec<u32> = from.segments().map_err(Stop::Failed)?.into_iter().filter(|n| *n >= needed).collect();
        let follow = numbers.iter().zip(needed..).all(|(number, expected)| *number == expected);
        if numbers.first() != Some(&needed) || !follow {
            let message = format!("{} lacks a part of its log; {}", from.path.display(), directory::ADVICE);
            return Err(Stop::Moved(unusable(message)));
        }
        let mut copied = Self { id, checkpoint: None, segments: Vec::new(), commit: 0, epoch: 0 };
        let mut course = Course { from, target, walks: vec![Walk::new(from, id)], numbers };
        course.go_on(&mut copied)?;
        copied.checkpoint = newest(from, &id)?;
        let at = copied.checkpoint.as_ref().map(|(at, _)| *at);
        if at.is_some_and(|at| at >= copied.end()) {
            // It is of what was stored since the end was reached.
            course.go_on(&mut copied)?;
        }
        if at.is_some_and(|at| at >= copied.end()) {
            let message =
                format!("the log in {} ends before its own checkpoint; {}", from.path.display(), directory::ADVICE);
            return Err(Stop::Moved(unusable(message)));
        }
        if course.dropped().is_some_and(|dropped| is_needed(dropped, at)) {
            let message = format!(
                "the log in {} lacks a part that its newest checkpoint does not tell of; {}",
                from.path.display(),
                directory::ADVICE
            );
            return Err(Stop::Moved(unusable(message)));
        }
        Ok(copied)
    }

    fn end(&self) -> Position {
        self.segments.last().map_or(Position::START, |(number, end)| position(*number, *end))
    }

    /// Gives the files their names, once all are on the disk. Until the last one has it, an engine refuses the directory.
    pub(super) fn finish(self, target: &Directory, epochs: u32) -> Result<()> {
        let Self { id, checkpoint, segments, commit, epoch } = self;
        if epochs > 0
            && let Some(&(number, end)) = segments.last()
        {
            let path = unfinished(&target.segment(number));
            let epoch = epoch.checked_add(epochs).ok_or_else(|| unusable("the log was restored too often".into()))?;
            let at = position(number, end);
            let mut mark = Vec::with_capacity(FRAME);
            Frame::write(&mut mark, &id, at, (commit + 1, epoch, MARK), |_| ());
            Frame::end_commit(&mut mark, 0, &id, at);
            let append = || {
                let file = target.open(&path, Open::Write)?;
                target.io.write(&file, &mark, end.into())?;
                target.io.sync_all(&file)
            };
            append().map_err(|cause| failed("write", &path, cause))?;
        }
        if let Some((at, state)) = &checkpoint {
            checkpoint::save(target, &id, *at, std::slice::from_ref(state))?;
        }
        for &(number, _) in segments.iter().rev() {
            let path = target.segment(number);
            let renamed = target.folder().and_then(|folder| target.io.rename(folder, &unfinished(&path), &path));
            renamed.map_err(|cause| failed("write", &path, cause))?;
        }
        // A try before this one may have come further back.
        let wanted: BTreeSet<u32> = segments.iter().map(|(number, _)| *number).collect();
        for name in names(&target.path).map_err(|cause| failed("list", &target.path, cause))? {
            let number = name.strip_suffix(".unfinished").and_then(|stem| stem.parse::<u32>().ok());
            if number.is_some_and(|number| !wanted.contains(&number)) {
                target.remove(&target.path.join(name))?;
            }
        }
        target.sync().map_err(|cause| failed("sync", &target.path, cause))
    }
}

/// How far a copy has come.
struct Course<'a> {
    from: &'a Directory,
    target: &'a Directory,
    /// Before the first segment, and after each.
    walks: Vec<Walk<'a>>,
    /// The segments to copy.
    numbers: Vec<u32>,
}

impl Course<'_> {
    /// The last segment of which the copy has only that it was dropped.
    fn dropped(&self) -> Option<u32> {
        self.walks.last().and_then(|walk| walk.dropped)
    }

    /// Copies each segment up to its last whole commit, and those that the engine began meanwhile too: what an emptied segment held may
    /// have been stored once more in the newest.
    fn go_on(&mut self, copied: &mut Copy) -> Result<(), Stop> {
        // The last one may have been written on.
        if self.walks.len() > 1 && self.has_moved_on(copied)? {
            self.go_back(copied);
        }
        let mut doubt: Option<Doubt> = None;
        while let Some(walk) = self.walks.last() {
            let Some(&number) = self.numbers.get(self.walks.len() - 1) else {
                let next = self.numbers.last().map_or(0, |last| last + 1);
                if !self.from.segments().map_err(Stop::Failed)?.contains(&next) {
                    break;
                }
                self.numbers.push(next);
                continue;
            };
            let mut walk = walk.clone();
            let mut segment = SegmentReader::open(self.from, number).map_err(Stop::Moved)?;
            if segment.id().map_err(Stop::Moved)? != copied.id {
                return Err(Stop::Failed(unusable(format!("{} holds files of two logs", self.from.path.display()))));
            }
            let end = match walk.segment(number, &mut segment) {
                Ok(end) => end,
                // A write is under way, or the segment before was written on after it was copied. Or it is damage.
                Err(error) => {
                    if !doubt.get_or_insert_with(Doubt::new).again(number) {
                        return Err(Stop::Failed(error));
                    }
                    if self.walks.len() > 1 && self.has_moved_on(copied)? {
                        self.go_back(copied);
                    } else {
                        std::thread::sleep(PAUSE);
                    }
                    continue;
                }
            };
            if end == HEADER && number > self.numbers.first().copied().unwrap_or_default() {
                // Made ahead.
                break;
            }
            let path = unfinished(&self.target.segment(number));
            // What was found whole is not written again.
            write(self.target, &path, &mut segment, end as usize)?;
            copied.segments.push((number, end));
            self.walks.push(walk);
        }
        if let Some(walk) = self.walks.last() {
            (copied.commit, copied.epoch) = (walk.commit, walk.epoch);
        }
        Ok(())
    }

    /// Whether the segment that was copied last holds more by now, or nothing any more.
    fn has_moved_on(&self, copied: &Copy) -> Result<bool, Stop> {
        let Some(&(number, end)) = copied.segments.last() else { return Ok(false) };
        let mut segment = SegmentReader::open(self.from, number).map_err(Stop::Moved)?;
        let end = end as usize;
        Ok(segment.len() < end || segment.frame(end, &copied.id).map_err(Stop::Moved)?.is_some())
    }

    /// Has the last segment copied again.
    fn go_back(&mut self, copied: &mut Copy) {
        self.walks.pop();
        copied.segments.pop();
    }
}

/// A segment in which something does not follow: a write is under way there, or it is damaged.
struct Doubt {
    segment: u32,
    reads: usize,
    since: Instant,
}

impl Doubt {
    fn new() -> Self {
        Self { segment: 0, reads: 0, since: Instant::now() }
    }

    /// Whether a segment is to be read again: a write under way takes some moments, damage stays.
    fn again(&mut self, segment: u32) -> bool {
        if self.segment != segment {
            *self = Self { segment, ..Self::new() };
        }
        self.reads += 1;
        self.reads <= READS || self.since.elapsed() < PATIENCE
    }
}

/// The newest checkpoint, if there is one.
fn newest(from: &Directory, id: &LogId) -> Result<Option<(Position, Bytes)>, Stop> {
    let newest = checkpoint::newest(from, id).map_err(Stop::Moved)?;
    newest.map(|at| Ok((at, checkpoint::load(from, id, at)?))).transpose().map_err(Stop::Moved)
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("unfinished")
}

/// Writes what is in a segment up to an offset.
fn write(target: &Directory, path: &Path, segment: &mut SegmentReader, end: usize) -> Result<(), Stop> {
    let failed = |cause| Stop::Failed(failed("write", path, cause));
    let file = target.folder().and_then(|folder| target.io.create(folder, path)).map_err(failed)?;
    let mut from = 0;
    while from < end {
        let bytes = segment.at(from, PIECE.min(end - from)).map_err(Stop::Failed)?;
        if bytes.is_empty() {
            // The engine dropped it meanwhile, in its place.
            let message = format!("a part of the log was dropped while it was copied to {}", path.display());
            return Err(Stop::Moved(Error::new(ErrorKind::Unavailable, message)));
        }
        target.io.write(&file, bytes, from as u64).map_err(failed)?;
        from += bytes.len();
    }
    target.io.sync_all(&file).map_err(failed)
}
