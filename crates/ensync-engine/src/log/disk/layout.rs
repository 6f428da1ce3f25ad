//! A data directory: which logs it holds.

use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ensync_core::{Error, ErrorKind, Result};

use super::directory::{Directory, failed, unusable};
use super::folder::Open;
use super::io::SystemIo;
use super::{DiskLog, DiskOptions, blocking};
use crate::log::{Log, Logs};

/// The file that says how many partitions there are, and its name until all of them are made.
const STORE: &str = "store";
const UNFINISHED: &str = "store.unfinished";
/// What that file begins with, and the number of this layout.
const NAME: &str = "ensync store ";
const LAYOUT: u32 = 1;
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
        let partitions = parse(&text).map_err(|what| unusable(format!("{}: {what}", file.display())))?;
        Ok(Some(Self { path: path.to_owned(), partitions }))
    }

    /// The same, of a directory that has to hold a store.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let none = || unusable(format!("the data directory {} holds no store", path.display()));
        Self::find(path)?.ok_or_else(none)
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

    /// Says in a directory that it holds this: all of its logs are there, or will be before [`finish`](Self::finish).
    pub(crate) fn begin(&self) -> Result<()> {
        let directory = Directory::new(self.path.clone(), Arc::new(SystemIo));
        let text = format!("{NAME}{LAYOUT}\npartitions {}\n", self.partitions);
        let path = self.path.join(UNFINISHED);
        let write = || {
            let file = directory.open(&path, Open::Make)?;
            directory.io.truncate(&file, 0)?;
            directory.io.write(&file, text.as_bytes(), 0)?;
            directory.io.sync_all(&file)?;
            directory.sync()
        };
        write().map_err(|cause| failed("write", &path, cause))
    }

    /// All of its logs are there.
    pub(crate) fn finish(&self) -> Result<()> {
        let directory = Directory::new(self.path.clone(), Arc::new(SystemIo));
        let path = self.path.join(STORE);
        let renamed = directory.folder().and_then(|folder| {
            directory.io.rename(folder, &self.path.join(UNFINISHED), &path)?;
            directory.sync()
        });
        renamed.map_err(|cause| failed("write", &path, cause))
    }
}

impl Layout {
    /// Takes back what was said of a directory.
    pub(crate) fn remove(&self) {
        [STORE, UNFINISHED].into_iter().for_each(|name| _ = std::fs::remove_file(self.path.join(name)));
    }
}

/// Whether a name in a data directory is one of the store's.
pub(crate) fn is_ours(name: &str) -> bool {
    let log = name == REGISTRY || name.strip_prefix(PARTITION).is_some_and(|rest| rest.parse::<u32>().is_ok());
    log || [STORE, UNFINISHED, "lock"].contains(&name)
}

/// How many partitions a store has, as its file says.
fn parse(text: &str) -> std::result::Result<NonZeroU32, String> {
    let mut lines = text.lines();
    let layout = lines.next().and_then(|line| line.strip_prefix(NAME)).and_then(|layout| layout.parse::<u32>().ok());
    match layout {
        Some(LAYOUT) => {}
        Some(layout) => {
            return Err(format!(
                "the store is of layout {layout}, and this engine reads layout {LAYOUT}; use the engine that wrote it, or a later one"
            ));
        }
        None => return Err("it does not say what the store is; restore the data directory from a backup".into()),
    }
    let partitions = lines.next().and_then(|line| line.strip_prefix("partitions ")).and_then(|n| n.parse().ok());
    partitions.filter(|partitions: &NonZeroU32| partitions.get() <= MOST).ok_or_else(|| {
        "it does not say how many partitions the store has; restore the data directory from a backup".into()
    })
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
        let (layout, new, enter) = blocking(move || {
            // Nobody else makes a store here meanwhile.
            let directory = Directory::new(path.clone(), Arc::new(SystemIo));
            let enter = directory.enter()?;
            let found = Layout::find(&path)?;
            let new = found.is_none();
            let partitions = wanted.unwrap_or(NonZeroU32::MIN);
            let layout = found.unwrap_or(Layout { path, partitions });
            layout.check(wanted, new)?;
            if new {
                layout.begin()?;
            }
            Ok((layout, new, enter))
        })
        .await?;
        let registry = DiskOptions { segment_bytes: options.segment_bytes.min(REGISTRY_SEGMENT), ..options.clone() };
        let registry = DiskLog::open_below(layout.registry(), registry, Some(enter)).await?;
        let segment_bytes = layout.segment_bytes(options.segment_bytes);
        let opened =
            layout.partitions().map(|path| DiskLog::open(path, DiskOptions { segment_bytes, ..options.clone() }));
        let partitions = futures::future::try_join_all(opened).await?;
        let partitions = partitions.into_iter().map(|log| Arc::new(log) as Arc<dyn Log>).collect();
        if new {
            blocking(move || layout.finish()).await?;
        }
        Ok(Self { registry: Arc::new(registry), partitions })
    }
}

impl Layout {
    /// Refuses what is asked for if it is not what is there, and a store that lacks a log: it would begin anew without a word.
    fn check(&self, wanted: Option<NonZeroU32>, new: bool) -> Result<()> {
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
        let mut folders = [self.registry()].into_iter().chain(self.partitions());
        match folders.find(|folder| !new && !folder.is_dir()) {
            Some(folder) => Err(unusable(format!(
                "the store in {} lacks {}; nothing was changed; restore the data directory from a backup",
                self.path.display(),
                folder.display()
            ))),
            None => Ok(()),
        }
    }

    /// How long the segments of each partition are: together they take no more of a small disk than those of one would.
    fn segment_bytes(&self, wanted: u64) -> u64 {
        let directory = Directory::new(self.path.clone(), Arc::new(SystemIo));
        let total = directory.space().map_or(u64::MAX, |(total, _)| total);
        let most = (total / SHARE / u64::from(self.partitions.get())).max(SHORTEST) / 4096 * 4096;
        wanted.min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(partitions: Option<u32>) -> DiskOptions {
        let partitions = partitions.map(|n| NonZeroU32::new(n).unwrap());
        DiskOptions { segment_bytes: 64 << 10, partitions, ..DiskOptions::default() }
    }

    async fn close(logs: Logs) {
        for log in logs.all() {
            log.close().await;
        }
    }

    #[tokio::test]
    async fn a_store_keeps_the_number_of_its_partitions() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        let logs = Logs::open(&path, options(Some(4))).await.unwrap();
        assert_eq!(logs.partitions().len(), 4);
        let error = Logs::open(&path, options(Some(4))).await.unwrap_err();
        assert!(error.to_string().contains("in use by another engine"), "{error}");
        close(logs).await;
        let text = std::fs::read_to_string(path.join("store")).unwrap();
        assert_eq!(text, "ensync store 1\npartitions 4\n");
        for wanted in [1, 2, 8] {
            let error = Logs::open(&path, options(Some(wanted))).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(text.contains("has 4 partitions") && text.contains(&format!("says {wanted}")), "{text}");
        }
        for wanted in [None, Some(4)] {
            let logs = Logs::open(&path, options(wanted)).await.unwrap();
            assert_eq!(logs.partitions().len(), 4);
            assert!(logs.all().all(|log| log.epoch() > 1));
            close(logs).await;
        }
    }

    #[tokio::test]
    async fn a_store_that_lacks_something_is_refused_and_left_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        close(Logs::open(&path, options(Some(2))).await.unwrap()).await;
        std::fs::rename(path.join("partition-1"), path.join("elsewhere")).unwrap();
        let error = Logs::open(&path, options(None)).await.unwrap_err().to_string();
        assert!(error.contains("lacks") && error.contains("partition-1"), "{error}");
        assert!(!path.join("partition-1").exists());
        std::fs::rename(path.join("elsewhere"), path.join("partition-1")).unwrap();
        std::fs::rename(path.join("store"), path.join("elsewhere")).unwrap();
        let error = Logs::open(&path, options(None)).await.unwrap_err().to_string();
        assert!(error.contains("lacks the file \"store\""), "{error}");
        assert!(!path.join("store").exists());
        // One that was not finished was used by nobody.
        std::fs::rename(path.join("elsewhere"), path.join("store.unfinished")).unwrap();
        let logs = Logs::open(&path, options(Some(2))).await.unwrap();
        close(logs).await;
        for (text, words) in [
            ("ensync store 2\npartitions 2\n", "layout 2"),
            ("ensync store 1\npartitions 0\n", "how many partitions"),
            ("ensync store 1\npartitions 65\n", "how many partitions"),
            ("ensync store 1\n", "how many partitions"),
            ("something else", "what the store is"),
        ] {
            std::fs::write(path.join("store"), text).unwrap();
            let error = Logs::open(&path, options(None)).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn a_directory_of_an_earlier_layout_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        DiskLog::open(&path, options(None)).await.unwrap().close().await;
        let error = Logs::open(&path, options(None)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(
            error.to_string().contains("earlier engines") && error.to_string().contains("nothing was changed"),
            "{error}"
        );
        assert!(!path.join("registry").exists());
    }
}
