//! A data directory: which logs it holds.

mod held;

use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ensync_core::{Error, ErrorKind, Result};

use super::directory::{Directory, failed, unusable};
use super::folder::Open;
use super::format::LogId;
use super::io::SystemIo;
use super::{DiskLog, DiskOptions, blocking};
use crate::log::{Log, Logs};
use held::Held;

/// The file that says which logs there are, and its name until all of them are made.
const STORE: &str = "store";
const UNFINISHED: &str = "store.unfinished";
/// Its name while logs are copied there: what there is of them is not to be taken for a new store.
const COPYING: &str = "store.copying";
/// What that file begins with, and the number of this layout.
const NAME: &str = "ensync store ";
const LAYOUT: u32 = 2;
/// The folder of the registry's log.
const REGISTRY: &str = "registry";
/// What the folders of partitions' logs are called, before their numbers.
const PARTITION: &str = "partition-";
/// The most partitions that a store has: each has two threads and two files of a segment's length.
const MOST: u32 = 64;
/// How long a segment of the registry's log is at most, in bytes.
const REGISTRY_SEGMENT: u64 = 1 << 20;
/// Which part of their disk the segments of several partitions take at most, one of each.
const SHARE: u64 = 16;
/// The shortest segments there are.
const SHORTEST: u64 = 64 << 10;

/// The folders of a store's logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) path: PathBuf,
    pub(crate) partitions: NonZeroU32,
    /// Which log is in which of the [`folders`](Self::folders), in their order. None, as long as they are being made.
    ids: Vec<LogId>,
}

impl Layout {
    /// What a data directory holds; `None` if no engine has made a store in it.
    pub(crate) fn find(path: &Path) -> Result<Option<Self>> {
        let file = path.join(STORE);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Self::check_empty(path).map(|()| None);
            }
            Err(cause) => return Err(failed("read", &file, cause)),
        };
        let found = Self::parse(path, &text).map_err(|what| unusable(format!("{}: {what}", file.display())))?;
        Ok(Some(found))
    }

    /// The same, of a directory that has to hold a store, with all of its logs.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let found = Self::stored(path)?;
        found.check_logs()?;
        Ok(found)
    }

    fn stored(path: &Path) -> Result<Self> {
        let none = || unusable(format!("the data directory {} holds no store", path.display()));
        Self::find(path)?.ok_or_else(none)
    }

    /// Keeps engines out while the file that is returned lives, and changes nothing.
    pub(crate) fn look(&self) -> Result<Option<std::fs::File>> {
        Directory::new(self.path.clone(), Arc::new(SystemIo)).look()
    }

    /// The same store in another place.
    pub(crate) fn at(&self, path: PathBuf) -> Self {
        Self { path, ..self.clone() }
    }

    /// Refuses logs of which nothing says which they are.
    fn check_empty(path: &Path) -> Result<()> {
        let names = match std::fs::read_dir(path) {
            Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())),
            // It will be made, or told what is wrong with it.
            Err(_) => return Ok(()),
        };
        let names = names.collect::<io::Result<Vec<String>>>().map_err(|cause| failed("list", path, cause))?;
        let shown = path.display();
        if names.iter().any(|name| name == COPYING) {
            return Err(unusable(format!(
                "{shown} holds a part of a store: a restore or a backup into it is under way, or was interrupted; nothing was changed; wait for \
                 its end, or remove what is in the directory and begin it again"
            )));
        }
        if names.iter().any(|name| name.ends_with(".log") && name.len() == 14) {
            return Err(unusable(format!(
                "{shown} holds a log as earlier engines laid it out, and this one reads only stores of layout {LAYOUT}; use the engine \
                 that wrote it, or start this one on another directory; nothing was changed"
            )));
        }
        let log = names.iter().find(|name| *name == REGISTRY || name.starts_with(PARTITION));
        match log {
            Some(log) if !names.iter().any(|name| name == UNFINISHED) => Err(unusable(format!(
                "{shown} lacks the file {STORE:?} that says how many partitions it has, and there is {log:?}; nothing was changed; restore \
                 the data directory from a backup, or write that file again as the documentation of the format says"
            ))),
            _ => Ok(()),
        }
    }

    /// The folder of the registry's log.
    pub(crate) fn registry(&self) -> PathBuf {
        self.path.join(REGISTRY)
    }

    /// The folders of the partitions' logs.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.partitions.get()).map(|index| self.path.join(format!("{PARTITION}{index}")))
    }

    /// What a file of a log is called below the data directory; a folder by its own name.
    pub(crate) fn name(&self, folder: &Path, file: &str) -> String {
        let folder = folder.strip_prefix(&self.path).unwrap_or(folder).display();
        if file.contains(std::path::MAIN_SEPARATOR) { folder.to_string() } else { format!("{folder}/{file}") }
    }

    /// The names of all folders: of the partitions first, as a copy of the registry's must be the latest.
    pub(crate) fn folders(&self) -> impl Iterator<Item = String> {
        let partitions = (0..self.partitions.get()).map(|index| format!("{PARTITION}{index}"));
        partitions.chain([REGISTRY.to_owned()])
    }

    /// Says in a directory that a store is made there: nothing is in its logs until it is [made](Self::made).
    fn making(&self) -> Result<()> {
        self.write(UNFINISHED)
    }

    /// All of its logs are there, and new.
    fn made(&self) -> Result<()> {
        self.write(UNFINISHED)?;
        self.finish(UNFINISHED)
    }

    /// Says in a directory that logs are copied there: no engine takes it for its own until they are [copied](Self::copied).
    pub(crate) fn copying(&self) -> Result<()> {
        self.write(COPYING)
    }

    /// All of its logs are there, and whole.
    pub(crate) fn copied(&self) -> Result<()> {
        self.finish(COPYING)
    }

    fn write(&self, name: &str) -> Result<()> {
        let directory = Directory::new(self.path.clone(), Arc::new(SystemIo));
        let mut text = format!("{NAME}{LAYOUT}\npartitions {}\n", self.partitions);
        for (folder, id) in self.folders().zip(&self.ids) {
            text.push_str(&format!("{folder} {:032x}\n", u128::from_be_bytes(*id)));
        }
        let path = self.path.join(name);
        let write = || {
            let file = directory.open(&path, Open::Make)?;
            directory.io.truncate(&file, 0)?;
            directory.io.write(&file, text.as_bytes(), 0)?;
            directory.io.sync_all(&file)?;
            directory.sync()
        };
        write().map_err(|cause| failed("write", &path, cause))
    }

    fn finish(&self, name: &str) -> Result<()> {
        let directory = Directory::new(self.path.clone(), Arc::new(SystemIo));
        let path = self.path.join(STORE);
        let renamed = directory.folder().and_then(|folder| {
            directory.io.rename(folder, &self.path.join(name), &path)?;
            directory.sync()
        });
        renamed.map_err(|cause| failed("write", &path, cause))
    }
}

impl Layout {
    /// Takes back what was said of a directory.
    pub(crate) fn remove(&self) {
        [STORE, COPYING].into_iter().for_each(|name| _ = std::fs::remove_file(self.path.join(name)));
    }
}

/// Whether a name in a data directory is one of the store's.
pub(crate) fn is_ours(name: &str) -> bool {
    let log = name == REGISTRY || name.strip_prefix(PARTITION).is_some_and(|rest| rest.parse::<u32>().is_ok());
    log || [STORE, UNFINISHED, COPYING, "lock"].contains(&name)
}

impl Layout {
    /// What the file of a store says.
    fn parse(path: &Path, text: &str) -> std::result::Result<Self, String> {
        let mut lines = text.lines();
        let layout =
            lines.next().and_then(|line| line.strip_prefix(NAME)).and_then(|layout| layout.parse::<u32>().ok());
        match layout {
            Some(LAYOUT) => {}
            Some(layout) => {
                return Err(format!(
                    "the store is of layout {layout}, and this engine reads layout {LAYOUT}; use the engine that wrote it"
                ));
            }
            None => return Err("it does not say what the store is; restore the data directory from a backup".into()),
        }
        let partitions = lines.next().and_then(|line| line.strip_prefix("partitions ")).and_then(|n| n.parse().ok());
        let partitions = partitions.filter(|partitions: &NonZeroU32| partitions.get() <= MOST).ok_or_else(|| {
            "it does not say how many partitions the store has; restore the data directory from a backup".to_owned()
        })?;
        let mut found = Self { path: path.to_owned(), partitions, ids: Vec::new() };
        for folder in found.folders().collect::<Vec<_>>() {
            let id = lines.next().and_then(|line| line.strip_prefix(folder.as_str())?.strip_prefix(' '));
            let id = id.filter(|id| id.len() == 32).and_then(|id| u128::from_str_radix(id, 16).ok());
            let none = || format!("it does not say which log is in {folder}; restore the data directory from a backup");
            found.ids.push(id.ok_or_else(none)?.to_be_bytes());
        }
        Ok(found)
    }

    /// Refuses a store of which a log is gone or is in another's place. It was made with all of them, so a folder without one has lost
    /// it: its disk is not mounted, or somebody removed the files. To begin such a log anew would lose what waits in it for good, and
    /// a registry that knows no app would take with it what waits for all of them.
    fn check_logs(&self) -> Result<()> {
        self.lost()?.into_iter().next().map_or(Ok(()), |(_, what)| Err(unusable(what)))
    }

    /// Which of the [`folders`](Self::folders) have lost their log, and what there is to do about it.
    fn lost(&self) -> Result<Vec<(usize, String)>> {
        let (shown, mut lost) = (self.path.display(), Vec::new());
        for (index, (folder, id)) in self.folders().zip(&self.ids).enumerate() {
            let path = self.path.join(&folder);
            // Without its registry all that a store holds is nobody's.
            let repair = if folder == REGISTRY {
                ""
            } else {
                "; `ensync store repair` goes on without it, and without what waits in it"
            };
            if !path.is_dir() {
                lost.push((
                    index,
                    format!(
                        "the store in {shown} lacks {}; nothing was changed; restore the data directory from a backup{repair}",
                        path.display()
                    ),
                ));
                continue;
            }
            let found = match Held::find(&path, id)? {
                Held::This => continue,
                Held::Nothing => {
                    lost.push((
                        index,
                        format!(
                            "the store in {shown} lacks its log in {}: there is none in that folder; nothing was changed; mount the disk \
                             that holds it, if it has one of its own, or restore the data directory from a backup{repair}",
                            path.display()
                        ),
                    ));
                    continue;
                }
                Held::Other(found) => found,
            };
            let whose = self.folders().zip(&self.ids).find(|(_, id)| **id == found);
            let whose = whose.map_or_else(|| "of another store".to_owned(), |(other, _)| format!("of {other}"));
            return Err(unusable(format!(
                "the logs of the store in {shown} were mixed up: in {} is the log {whose}; nothing was changed; put each where it was, or \
                 restore the data directory from a backup",
                path.display()
            )));
        }
        Ok(lost)
    }

    /// What a data directory holds of which logs of partitions may be lost, and of which partitions they are.
    pub(crate) fn with_lost(path: &Path) -> Result<(Self, Vec<usize>)> {
        let found = Self::stored(path)?;
        let lost = found.lost()?;
        let registry = found.partitions.get() as usize;
        match lost.iter().find(|(index, _)| *index == registry) {
            Some((_, what)) => Err(unusable(what.clone())),
            None => Ok((found, lost.into_iter().map(|(index, _)| index).collect())),
        }
    }

    /// Has the log of a partition be another one from now on.
    pub(crate) fn replace(&mut self, partition: usize, log: LogId) -> Result<()> {
        // If the old log is found after all, this is what says that it belonged here.
        let store = self.path.join(STORE);
        let kept = (1_u32..).map(|n| self.path.join(format!("{STORE}.replaced-{n}"))).find(|path| !path.exists());
        if let Some(kept) = kept {
            std::fs::copy(&store, &kept).map_err(|cause| failed("keep a copy of", &store, cause))?;
        }
        if let Some(id) = self.ids.get_mut(partition) {
            *id = log;
        }
        self.made()
    }
}

impl Logs {
    /// Opens the logs in a directory, and makes all of that if it is not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if another engine uses the directory, or the operating system refuses;
    /// [`ErrorKind::InvalidInput`] if the directory is of another layout, damaged, or lacks a part, or if it has another number of
    /// partitions than the options say. The message says where.
    pub async fn open(path: impl Into<PathBuf>, options: DiskOptions) -> Result<Self> {
        let path = path.into();
        let wanted = options.partitions;
        let (mut layout, new, enter) = blocking(move || {
            // Nobody else makes a store here meanwhile.
            let directory = Directory::new(path.clone(), Arc::new(SystemIo));
            let enter = directory.enter()?;
            let found = Layout::find(&path)?;
            let new = found.is_none();
            let partitions = wanted.unwrap_or(NonZeroU32::MIN);
            let layout = found.unwrap_or(Layout { path, partitions, ids: Vec::new() });
            layout.check(wanted)?;
            if new {
                layout.making()?
            } else {
                layout.check_logs()?
            }
            Ok((layout, new, enter))
        })
        .await?;
        let registry = DiskOptions { segment_bytes: layout.registry_bytes(options.segment_bytes), ..options.clone() };
        let enter = Some(Arc::new(enter));
        let registry = DiskLog::open_below(layout.registry(), registry, enter.clone()).await?;
        let segment_bytes = layout.segment_bytes(options.segment_bytes);
        let opened = layout
            .partitions()
            .map(|path| DiskLog::open_below(path, DiskOptions { segment_bytes, ..options.clone() }, enter.clone()));
        let partitions = futures::future::try_join_all(opened).await?;
        if new {
            layout.ids = partitions.iter().chain([&registry]).map(|log| log.shared.id).collect();
            blocking(move || layout.made()).await?;
        }
        let partitions = partitions.into_iter().map(|log| Arc::new(log) as Arc<dyn Log>).collect();
        Ok(Self { registry: Arc::new(registry), partitions })
    }
}

impl Layout {
    /// Refuses a number of partitions that is not the one that is there, or is none.
    fn check(&self, wanted: Option<NonZeroU32>) -> Result<()> {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != self.partitions) {
            return Err(unusable(format!(
                "the store in {} has {} partitions, and the configuration says {wanted} (storage.partitions); their number is fixed when a \
                 store is made: set it to {}, or start the engine on another directory",
                self.path.display(),
                self.partitions,
                self.partitions
            )));
        }
        if self.partitions.get() > MOST {
            let message = format!("a store has 1 to {MOST} partitions, not {} (storage.partitions)", self.partitions);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(())
    }

    /// How long the segments of each partition are: together they take no more of a small disk than those of one would.
    fn segment_bytes(&self, wanted: u64) -> u64 {
        self.part(wanted, SHARE * u64::from(self.partitions.get()))
    }

    /// How long the registry's are: it has little to store.
    fn registry_bytes(&self, wanted: u64) -> u64 {
        self.part(wanted.min(REGISTRY_SEGMENT), 8 * SHARE)
    }

    /// A length that is one of so many parts of the disk at most.
    fn part(&self, wanted: u64, parts: u64) -> u64 {
        let directory = Directory::new(self.path.clone(), Arc::new(SystemIo));
        let total = directory.space().map_or(u64::MAX, |(total, _)| total);
        wanted.min((total / parts).max(SHORTEST) / 4096 * 4096)
    }
}

#[cfg(test)]
mod tests;
