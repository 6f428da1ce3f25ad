//! Copies of a data directory, also of one that an engine writes to.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result};

use super::salvage::decode;
use super::verify::{Report, verify_now};
use crate::log::disk::checkpoint;
use crate::log::disk::directory::{Directory, failed, unusable};
use crate::log::disk::folder::Open;
use crate::log::disk::format::{FRAME, Frame, HEADER, LogId, MARK, position, split};
use crate::log::disk::io::SystemIo;
use crate::log::disk::layout::{self, Layout};
use crate::log::disk::recover::Walk;
use crate::log::disk::segment::{PIECE, SegmentReader};
use crate::log::disk::{blocking, directory};
use crate::model::Position;

/// How often the copy is begun again because the engine was faster.
const ATTEMPTS: usize = 20;
/// How often a segment is read again in which a write is under way.
const READS: usize = 200;
/// How long to wait before that.
const PAUSE: Duration = Duration::from_millis(5);
/// How many runs of the engine after the backup a restored log allows for.
const EPOCHS: u32 = 1 << 16;

/// A backup that was made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Backup {
    /// What is in it.
    pub report: Report,
    /// Files and folders of the data directory that do not belong to the log, and were not copied.
    pub left_out: Vec<String>,
}

/// A backup that was put back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Restored {
    /// What is in the data directory now.
    pub report: Report,
}

/// Copies what an engine needs to go on, from a data directory to another directory, which must be empty or not be there: of each log the
/// newest checkpoint, and what follows the first thing that waits. With `replays`, all of the logs: also events that are settled and are only
/// kept to be replayed.
///
/// An engine may use the directory meanwhile, and need not know. Everything that it accepted before the call is in the copy, and
/// some of what it accepts during the call; the copy of a log ends with a whole commit, and that of the registry is the latest. What is copied is checked as
/// [`verify`](super::verify()) checks.
///
/// Only the log is copied. Other files in the data directory, such as the token of the admin API, are named in
/// [`Backup::left_out`]: a backup is often kept where secrets should not be.
///
/// # Errors
///
/// [`InvalidInput`](ErrorKind::InvalidInput) if the target is not empty, or the log is damaged: repair it first;
/// [`Unavailable`](ErrorKind::Unavailable) if the operating system refuses.
pub async fn backup(data: impl Into<PathBuf>, to: impl Into<PathBuf>, replays: bool) -> Result<Backup> {
    let (data, to) = (data.into(), to.into());
    blocking(move || {
        let layout = Layout::of(&data)?;
        let target = Layout { path: to, ..layout.clone() };
        make_empty(&target.path)?;
        // What is no backup is not left there, to be taken for one.
        copy_all(&layout, &target, |from, to| backup_log(from, to, replays)).inspect_err(|_| clear(&target))?;
        Ok(Backup { report: sound(&target.path).inspect_err(|_| clear(&target))?, left_out: left_out(&layout)? })
    })
    .await
}

/// Copies every log. The registry's is the last: nothing that another says is later than what it says.
fn copy_all(from: &Layout, to: &Layout, copy: impl Fn(PathBuf, PathBuf) -> Result<()>) -> Result<()> {
    to.begin()?;
    from.folders().try_for_each(|folder| copy(from.path.join(&folder), to.path.join(&folder)))?;
    to.finish()
}

/// Removes what was copied: the directory was empty before.
fn clear(target: &Layout) {
    target.folders().for_each(|folder| _ = fs::remove_dir_all(target.path.join(folder)));
    target.remove();
}

/// Copies one log.
pub(super) fn backup_log(data: PathBuf, to: PathBuf, replays: bool) -> Result<()> {
    let from = Directory::new(data, Arc::new(SystemIo));
    let target = make_empty(&to)?;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match copy(&from, &target, replays) {
            Ok(()) => return Ok(()),
            Err(Stop::Moved(error)) => last = Some(error),
            Err(Stop::Failed(error)) => {
                last = Some(error);
                break;
            }
        }
        std::thread::sleep(PAUSE);
    }
    clean(&target)?;
    Err(last.unwrap_or_else(|| Error::new(ErrorKind::Internal, "no copy was tried")))
}

/// Puts a backup into a data directory, which must be empty or not be there, after checking it.
///
/// The engine goes on from the state of the backup: what was accepted later is not there, and what was acknowledged later is delivered
/// again. Deliveries are numbered on as if the engine had been started 65,536 times meanwhile, so that no number that a client of the
/// lost time may hold is given out again.
///
/// # Errors
///
/// [`InvalidInput`](ErrorKind::InvalidInput) if the data directory is not empty, or the backup is damaged;
/// [`Unavailable`](ErrorKind::Unavailable) if the operating system refuses.
pub async fn restore(backup: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Result<Restored> {
    let (backup, data) = (backup.into(), data.into());
    blocking(move || {
        sound(&backup)?;
        let layout = Layout::of(&backup)?;
        let target = Layout { path: data, ..layout.clone() };
        make_empty(&target.path)?;
        copy_all(&layout, &target, restore_log).inspect_err(|_| clear(&target))?;
        Ok(Restored { report: sound(&target.path)? })
    })
    .await
}

/// Puts the copy of one log back.
pub(super) fn restore_log(backup: PathBuf, data: PathBuf) -> Result<()> {
    let from = Directory::new(backup, Arc::new(SystemIo));
    let target = make_empty(&data)?;
    let copied = Copy::read(&from, &target, true).map_err(Stop::into_error);
    copied.inspect_err(|_| _ = clean(&target))?.finish(&target, EPOCHS)
}

/// The report on a directory, if all is well there.
fn sound(path: &Path) -> Result<Report> {
    let report = verify_now(path)?;
    match report.damage.first() {
        None => Ok(report),
        Some(damage) => Err(unusable(format!("the copy in {} is damaged: {damage}", path.display()))),
    }
}

/// A directory that is empty, and is made if it is not there.
fn make_empty(path: &Path) -> Result<Directory> {
    let target = Directory::new(path.to_owned(), Arc::new(SystemIo));
    target.make()?;
    let names = names(path).map_err(|cause| failed("list", path, cause))?;
    // A volume of its own has this.
    match names.into_iter().find(|name| name != "lost+found") {
        None => Ok(target),
        Some(name) => Err(unusable(format!(
            "{} is not empty (there is {name:?}); nothing was written; name a directory that is empty, or not there",
            path.display()
        ))),
    }
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = fs::read_dir(path)?.map(name).collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Removes what was not finished.
fn clean(target: &Directory) -> Result<()> {
    let names = names(&target.path).map_err(|cause| failed("list", &target.path, cause))?;
    let mut unfinished = names.iter().filter(|name| name.ends_with(".unfinished"));
    unfinished.try_for_each(|name| target.remove(&target.path.join(name)))
}

/// What in a data directory is not the store's.
fn left_out(layout: &Layout) -> Result<Vec<String>> {
    let names_in = |path: &Path| names(path).map_err(|cause| failed("list", path, cause));
    let mut found = names_in(&layout.path)?;
    found.retain(|name| !layout::is_ours(name));
    for folder in layout.folders() {
        let names = names_in(&layout.path.join(&folder))?.into_iter();
        found.extend(names.filter(|name| !directory::is_ours(name)).map(|name| format!("{folder}/{name}")));
    }
    Ok(found)
}

/// Why a copy was not finished.
enum Stop {
    /// The engine removed or wrote something meanwhile: it may work the next time.
    Moved(Error),
    Failed(Error),
}

impl Stop {
    fn into_error(self) -> Error {
        match self {
            Self::Moved(error) | Self::Failed(error) => error,
        }
    }
}

fn copy(from: &Directory, target: &Directory, replays: bool) -> Result<(), Stop> {
    let copied = Copy::read(from, target, replays)?;
    copied.finish(target, 0).map_err(Stop::Failed)
}

/// What was copied so far: under names that no engine looks at.
struct Copy {
    id: LogId,
    checkpoint: Option<(Position, Bytes)>,
    /// Each segment, and where it ends.
    segments: Vec<(u32, u32)>,
    commit: u64,
    epoch: u32,
}

impl Copy {
    fn read(from: &Directory, target: &Directory, replays: bool) -> Result<Self, Stop> {
        let listed = from.segments().map_err(Stop::Failed)?;
        let Some(&oldest) = listed.first() else {
            let message = format!("the data directory {} holds no log", from.path.display());
            return Err(Stop::Failed(unusable(message)));
        };
        let id = SegmentReader::open(from, oldest).and_then(|mut segment| segment.id()).map_err(Stop::Moved)?;
        let newest = checkpoint::newest(from, &id).map_err(Stop::Moved)?;
        let checkpoint =
            newest.map(|at| Ok((at, checkpoint::load(from, &id, at)?))).transpose().map_err(Stop::Moved)?;
        let needed = match &checkpoint {
            Some((at, state)) if !replays => {
                let state = decode(*at, state).map_err(Stop::Failed)?;
                let waiting =
                    state.partition.queues.iter().flat_map(|queue| queue.events.iter().map(|event| event.current));
                // What lay before the first segment that is left was stored once more behind the checkpoint, or has expired.
                split(waiting.min().map_or(*at, |first| first.min(*at))).0.max(oldest)
            }
            _ => oldest,
        };
        // Listed again, for there may be more by now; the checkpoint only needs what was there before it.
        let numbers: Vec<u32> = from.segments().map_err(Stop::Failed)?.into_iter().filter(|n| *n >= needed).collect();
        let follow = numbers.iter().zip(needed..).all(|(number, expected)| *number == expected);
        if numbers.first() != Some(&needed) || !follow {
            let message = format!("{} lacks a part of its log; {}", from.path.display(), directory::ADVICE);
            return Err(Stop::Moved(unusable(message)));
        }
        let mut copied = Self { id, checkpoint, segments: Vec::new(), commit: 0, epoch: 0 };
        copied.segments(from, target, numbers)?;
        let end = copied.segments.last().map_or(Position::START, |(number, end)| position(*number, *end));
        if copied.checkpoint.as_ref().is_some_and(|(at, _)| *at >= end) {
            let message =
                format!("the log in {} ends before its own checkpoint; {}", from.path.display(), directory::ADVICE);
            return Err(Stop::Moved(unusable(message)));
        }
        Ok(copied)
    }

    /// Copies each segment up to its last whole commit, and those that the engine began meanwhile too: what an emptied segment held may
    /// have been stored once more in the newest.
    fn segments(&mut self, from: &Directory, target: &Directory, mut numbers: Vec<u32>) -> Result<(), Stop> {
        let mut walks = vec![Walk::new(from, self.id)];
        let mut reads = 0;
        while let Some(walk) = walks.last() {
            let Some(&number) = numbers.get(walks.len() - 1) else {
                let next = numbers.last().map_or(0, |last| last + 1);
                if !from.segments().map_err(Stop::Failed)?.contains(&next) {
                    break;
                }
                numbers.push(next);
                continue;
            };
            let mut walk = walk.clone();
            let mut segment = SegmentReader::open(from, number).map_err(Stop::Moved)?;
            if segment.id().map_err(Stop::Moved)? != self.id {
                return Err(Stop::Failed(unusable(format!("{} holds files of two logs", from.path.display()))));
            }
            let end = match walk.segment(number, &mut segment) {
                Ok(end) => end,
                // A write is under way, or the segment before was written on after it was copied. Or it is damage.
                Err(error) => {
                    reads += 1;
                    if reads > READS {
                        return Err(Stop::Failed(error));
                    }
                    std::thread::sleep(PAUSE);
                    if walks.len() > 1 {
                        walks.pop();
                        self.segments.pop();
                    }
                    continue;
                }
            };
            if end == HEADER && number > numbers.first().copied().unwrap_or_default() {
                // Made ahead.
                break;
            }
            let path = unfinished(&target.segment(number));
            // What was found whole is not written again.
            write(target, &path, &mut segment, end as usize)?;
            self.segments.push((number, end));
            walks.push(walk);
        }
        if let Some(walk) = walks.last() {
            (self.commit, self.epoch) = (walk.commit, walk.epoch);
        }
        Ok(())
    }

    /// Gives the files their names, once all are on the disk. Until the last one has it, an engine refuses the directory.
    fn finish(self, target: &Directory, epochs: u32) -> Result<()> {
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
