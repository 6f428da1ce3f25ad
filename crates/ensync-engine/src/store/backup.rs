//! Copies of a data directory, also of one that an engine writes to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ensync_core::{Error, ErrorKind, Result};

use super::copy::{Copy, PAUSE, Stop};
use super::verify::{Report, verify_now};
use crate::log::disk::directory::{Directory, failed, unusable};
use crate::log::disk::io::{Io, SystemIo};
use crate::log::disk::{blocking, directory};

/// How often the copy is begun again because the engine was faster; and how often because a whole copy was found to be none.
const ATTEMPTS: usize = 20;
const CHECKS: usize = 3;
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

/// Copies what an engine needs to go on, from a data directory to another directory, which must be empty or not be there: the newest
/// checkpoint, and the log from the first thing that waits. With `replays`, all of the log: also events that are settled and are only
/// kept to be replayed.
///
/// An engine may use the directory meanwhile, and need not know. Everything that it accepted before the call is in the copy, and
/// some of what it accepts during the call; a copy ends with a whole commit. What is copied is checked as
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
    backup_with(data.into(), to.into(), replays, Arc::new(SystemIo)).await
}

/// The same, with whatever reads the data directory.
pub(crate) async fn backup_with(data: PathBuf, to: PathBuf, replays: bool, io: Arc<dyn Io>) -> Result<Backup> {
    blocking(move || {
        let from = Directory::new(data, io);
        let target = empty(&to)?;
        let (mut last, mut checks) = (None, 0);
        for _ in 0..ATTEMPTS {
            let before = from.checkpoints()?;
            match copy(&from, &target, replays) {
                Ok(()) => match sound(&to) {
                    Ok(report) => return Ok(Backup { report, left_out: others(&from.path)? }),
                    Err(error) => {
                        // What is no backup is not left there, to be taken for one.
                        remove_all(&target)?;
                        checks += 1;
                        // If nothing went on meanwhile, the next copy would be the same.
                        if checks == CHECKS || from.checkpoints()? == before {
                            return Err(error);
                        }
                        last = Some(error);
                    }
                },
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
    })
    .await
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
        let from = Directory::new(backup, Arc::new(SystemIo));
        let target = empty(&data)?;
        let copied = Copy::read(&from, &target, true).map_err(Stop::into_error);
        let copied = copied.inspect_err(|_| _ = clean(&target))?;
        copied.finish(&target, EPOCHS)?;
        Ok(Restored { report: sound(&data)? })
    })
    .await
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
fn empty(path: &Path) -> Result<Directory> {
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

pub(super) fn names(path: &Path) -> io::Result<Vec<String>> {
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

/// Removes everything that was copied: the directory was empty before.
fn remove_all(target: &Directory) -> Result<()> {
    let names = names(&target.path).map_err(|cause| failed("list", &target.path, cause))?;
    let mut copied = names.iter().filter(|name| directory::is_ours(name));
    copied.try_for_each(|name| target.remove(&target.path.join(name)))
}

/// What in a data directory is not the log's.
fn others(path: &Path) -> Result<Vec<String>> {
    let names = names(path).map_err(|cause| failed("list", path, cause))?;
    Ok(names.into_iter().filter(|name| !directory::is_ours(name)).collect())
}

fn copy(from: &Directory, target: &Directory, replays: bool) -> Result<(), Stop> {
    let copied = Copy::read(from, target, replays)?;
    copied.finish(target, 0).map_err(Stop::Failed)
}
