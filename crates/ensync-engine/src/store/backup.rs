//! Copies of a data directory, also of one that an engine writes to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ensync_core::{Error, ErrorKind, Result};

use super::copy::{Copy, PAUSE, Stop};
use super::verify::{Report, verify_logs};
use crate::log::disk::directory::{Directory, failed, unusable};
use crate::log::disk::io::{Io, SystemIo};
use crate::log::disk::layout::{self, Layout};
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

/// Copies what an engine needs to go on, from a data directory to another directory, which must be empty or not be there: of each log the
/// newest checkpoint, and what follows the first thing that waits. With `replays`, all of the logs: also events that are settled and are only
/// kept to be replayed.
///
/// An engine may use the directory meanwhile, and need not know. Everything that it accepted before the call is in the copy, and
/// some of what it accepts during the call; the copy of a log ends with a whole commit, and that of the registry is the latest. What is
/// copied is checked as [`verify`](super::verify()) checks.
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
        let target = layout.at(to);
        make_empty(&target.path)?;
        let io: Arc<dyn Io> = Arc::new(SystemIo);
        let logs: Vec<_> = layout.folders().map(|folder| Directory::new(data.join(folder), io.clone())).collect();
        let make = || {
            copy_all(&layout, &target, |from, to| backup_log(from, to, replays, io.clone()))?;
            target.copied()
        };
        let report = until_sound(&logs, make, || sound(&target.path), || clear(&target))?;
        Ok(Backup { report, left_out: left_out(&layout)? })
    })
    .await
}

/// Makes copies of logs until one is sound; one that is not is no backup, and is not left there to be taken for one. The next is only of
/// use if the engine went on meanwhile.
pub(super) fn until_sound(
    logs: &[Directory],
    make: impl Fn() -> Result<()>,
    check: impl Fn() -> Result<Report>,
    clear: impl Fn(),
) -> Result<Report> {
    let checkpoints = || logs.iter().map(Directory::checkpoints).collect::<Result<Vec<_>>>();
    let mut checks = 0;
    loop {
        let before = checkpoints()?;
        make().inspect_err(|_| clear())?;
        let checked = check();
        if checked.is_ok() {
            return checked;
        }
        clear();
        checks += 1;
        if checks == CHECKS || checkpoints()? == before {
            return checked;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Copies every log. The registry's is the last, so that it knows every app and name of which the others tell: under an older one the next
/// start would take the queues of whoever was created since for what a deletion left, and would remove them with what was accepted for
/// them. The other way round is what a start is made for: what the registry knows to be deleted, and a partition still has, is removed as
/// if the engine had been killed between the two. Only an app that is deleted and created anew with the same id, both between the copies
/// of its partition and of the registry, finds in a restored engine what waited for it before.
///
/// No engine takes what there is for a store until its [end](Layout::copied) is said.
fn copy_all(from: &Layout, to: &Layout, copy: impl Fn(PathBuf, PathBuf) -> Result<()>) -> Result<()> {
    to.copying()?;
    from.folders().try_for_each(|folder| copy(from.path.join(&folder), to.path.join(&folder)))
}

/// Removes what was copied: the directory was empty before.
fn clear(target: &Layout) {
    target.folders().for_each(|folder| _ = fs::remove_dir_all(target.path.join(folder)));
    target.remove();
}

/// Copies one log.
pub(super) fn backup_log(data: PathBuf, to: PathBuf, replays: bool, io: Arc<dyn Io>) -> Result<()> {
    let from = Directory::new(data, io);
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
/// [`Unavailable`](ErrorKind::Unavailable) if an engine uses the directory, or the operating system refuses. If it is interrupted, an engine
/// refuses the directory, which has to be emptied then.
pub async fn restore(backup: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Result<Restored> {
    let (backup, data) = (backup.into(), data.into());
    blocking(move || restore_with(&backup, data, restore_log)).await
}

/// The same, with whatever copies a log. No engine gets into the directory meanwhile, and none takes for its own what is not whole.
fn restore_with(backup: &Path, data: PathBuf, copy: impl Fn(PathBuf, PathBuf) -> Result<()>) -> Result<Restored> {
    sound(backup)?;
    let layout = Layout::of(backup)?;
    let target = layout.at(data);
    let directory = make_empty(&target.path)?;
    let _lock = directory.enter()?;
    let copied = check_empty(&directory, &["lock"])
        .and_then(|()| copy_all(&layout, &target, copy).inspect_err(|_| clear(&target)))
        .and_then(|()| sound_in(&target).inspect_err(|_| clear(&target)))
        .and_then(|report| target.copied().map(|()| report));
    match copied {
        Ok(report) => Ok(Restored { report }),
        Err(error) => {
            // It was not there before.
            _ = directory.remove(Path::new("lock"));
            Err(error)
        }
    }
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
    sound_in(&Layout::of(path)?)
}

/// The same, whatever the directory says of itself.
fn sound_in(layout: &Layout) -> Result<Report> {
    let report = verify_logs(layout)?;
    match report.damage.first() {
        None => Ok(report),
        Some(damage) => Err(unusable(format!("the copy in {} is damaged: {damage}", layout.path.display()))),
    }
}

/// A directory that is empty, and is made if it is not there.
pub(super) fn make_empty(path: &Path) -> Result<Directory> {
    let target = Directory::new(path.to_owned(), Arc::new(SystemIo));
    target.make()?;
    check_empty(&target, &[])?;
    Ok(target)
}

/// Refuses a directory that holds anything but these.
fn check_empty(target: &Directory, but: &[&str]) -> Result<()> {
    let path = &target.path;
    let names = names(path).map_err(|cause| failed("list", path, cause))?;
    // A volume of its own has this.
    match names.into_iter().find(|name| name != "lost+found" && !but.contains(&name.as_str())) {
        None => Ok(()),
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

fn copy(from: &Directory, target: &Directory, replays: bool) -> Result<(), Stop> {
    let copied = Copy::read(from, target, replays)?;
    copied.finish(target, 0).map_err(Stop::Failed)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::num::NonZeroU32;

    use super::*;
    use crate::log::{DiskOptions, Logs};

    fn options() -> DiskOptions {
        DiskOptions { segment_bytes: 64 << 10, partitions: NonZeroU32::new(2), ..DiskOptions::default() }
    }

    async fn store(path: &Path) {
        let logs = Logs::open(path, options()).await.unwrap();
        for log in logs.all() {
            log.close().await;
        }
    }

    fn all_names(path: &Path) -> Vec<String> {
        let mut found = names(path).unwrap();
        for folder in found.clone().iter().filter(|name| path.join(name).is_dir()) {
            found.extend(names(&path.join(folder)).unwrap().into_iter().map(|name| format!("{folder}/{name}")));
        }
        found
    }

    #[tokio::test]
    async fn a_copy_that_was_interrupted_is_refused_by_engines() {
        let place = tempfile::tempdir().unwrap();
        let [data, copy] = ["data", "copy"].map(|name| place.path().join(name));
        store(&data).await;
        backup(&data, &copy, false).await.unwrap();
        let layout = Layout::of(&copy).unwrap();
        for whole in 0..=3 {
            let target = layout.at(place.path().join(format!("killed-{whole}")));
            make_empty(&target.path).unwrap();
            let count = Cell::new(0);
            // What a process that is killed leaves: nobody clears it.
            let copied = copy_all(&layout, &target, |from, to| {
                if count.replace(count.get() + 1) == whole {
                    return Err(Error::new(ErrorKind::Internal, "killed"));
                }
                restore_log(from, to)
            });
            assert_eq!(copied.is_err(), whole < 3);
            let before = all_names(&target.path);
            let error = Logs::open(&target.path, options()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("holds a part of a store"), "{error}");
            let again = restore(&copy, &target.path).await.unwrap_err();
            assert!(again.to_string().contains("not empty"), "{again}");
            let mut after = all_names(&target.path);
            after.retain(|name| name != "lock");
            assert_eq!(after, before, "a refused directory was changed");
        }
    }

    #[tokio::test]
    async fn no_engine_gets_between_a_restore_and_its_end() {
        let place = tempfile::tempdir().unwrap();
        let [data, copy, back] = ["data", "copy", "back"].map(|name| place.path().join(name));
        store(&data).await;
        backup(&data, &copy, false).await.unwrap();
        let tried = Cell::new(0);
        let enter = |to: &Path| {
            let error = Directory::new(to.parent().unwrap(), Arc::new(SystemIo)).enter().unwrap_err();
            assert!(error.to_string().contains("in use by another engine"), "{error}");
            tried.set(tried.get() + 1);
        };
        let restored = restore_with(&copy, back.clone(), |from, to| {
            enter(&to);
            restore_log(from, to)
        });
        restored.unwrap();
        assert_eq!(tried.get(), 3);
        store(&back).await;
        // One that fails leaves nothing behind that would be in the way of the next.
        let failing = place.path().join("failing");
        let failed = restore_with(&copy, failing.clone(), |from, to| {
            if to.ends_with("registry") {
                return Err(Error::new(ErrorKind::Unavailable, "no space"));
            }
            restore_log(from, to)
        });
        assert!(failed.unwrap_err().to_string().contains("no space"));
        assert_eq!(all_names(&failing), Vec::<String>::new());
        restore(&copy, &failing).await.unwrap();
        store(&failing).await;
    }
}
