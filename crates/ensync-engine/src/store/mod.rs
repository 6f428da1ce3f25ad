//! What can be done with a data directory from outside the engine: check it, repair it, back it up, restore it. The commands
//! `ensync store`, `ensync backup` and `ensync restore` call these.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> ensync_core::Result<()> {
//! # let place = tempfile::tempdir().unwrap();
//! # let (data, copy, other) = (place.path().join("data"), place.path().join("copy"), place.path().join("other"));
//! use ensync_engine::{Server, store};
//!
//! let server = Server::dev().data_dir(&data).start().await?;
//! let shop = server.create_app("shop").await?;
//! let backup = store::backup(&data, &copy, false).await?; // the engine goes on meanwhile
//! assert!(backup.report.damage.is_empty());
//! server.shutdown().await;
//!
//! store::restore(&copy, &other).await?;
//! let server = Server::dev().data_dir(&other).start().await?;
//! assert_eq!(server.broker().apps().await?[0].id, shop.app_id);
//! # Ok(())
//! # }
//! ```

mod backup;
mod copy;
mod fold;
mod lost;
mod pieces;
mod repair;
mod report;
mod salvage;
mod scan;
mod scanner;
mod verify;

pub use backup::{Backup, Restored, backup, restore};
pub use repair::{Assessment, LostEvents, assess, repair};
pub use report::{Contents, Damage, FileReport};
pub use verify::{Report, verify};

#[cfg(test)]
pub(crate) use fold::Fold;

/// What is done with a data directory, done with a single log.
#[cfg(test)]
pub(crate) mod one {
    use std::path::PathBuf;
    use std::sync::Arc;

    use ensync_core::Result;

    use super::{Assessment, Backup, Report};
    use crate::log::disk::blocking;
    use crate::log::disk::directory::{Directory, unusable};
    use crate::log::disk::io::{Io, SystemIo};

    pub(crate) async fn verify(path: impl Into<PathBuf>) -> Result<Report> {
        let path = path.into();
        blocking(move || Ok(super::verify::verify_log(&path, None)?.0)).await
    }

    pub(crate) async fn assess(path: impl Into<PathBuf>) -> Result<Assessment> {
        let path = path.into();
        blocking(move || Ok(super::repair::assess_log(&path, None)?.0)).await
    }

    pub(crate) async fn repair(path: impl Into<PathBuf>) -> Result<Assessment> {
        Ok(super::repair::repair_log(path.into(), None).await?.0)
    }

    pub(crate) async fn backup(data: impl Into<PathBuf>, to: impl Into<PathBuf>, replays: bool) -> Result<Backup> {
        backup_with(data.into(), to.into(), replays, Arc::new(SystemIo)).await
    }

    /// The same, with whatever reads the log.
    pub(crate) async fn backup_with(data: PathBuf, to: PathBuf, replays: bool, io: Arc<dyn Io>) -> Result<Backup> {
        blocking(move || {
            let from = [Directory::new(data.clone(), io.clone())];
            let make = || super::backup::backup_log(data.clone(), to.clone(), replays, io.clone());
            let clear = || {
                std::fs::read_dir(&to).unwrap().for_each(|file| std::fs::remove_file(file.unwrap().path()).unwrap());
            };
            // What was there before is not its own.
            super::backup::make_empty(&to)?;
            let report = super::backup::until_sound(&from, make, || sound(&to), clear)?;
            Ok(Backup { report, left_out: Vec::new() })
        })
        .await
    }

    fn sound(path: &std::path::Path) -> Result<Report> {
        let report = super::verify::verify_log(path, None)?.0;
        match report.damage.first() {
            None => Ok(report),
            Some(damage) => Err(unusable(format!("the copy is damaged: {damage}"))),
        }
    }

    pub(crate) async fn restore(backup: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Result<Report> {
        let (from, data) = (backup.into(), data.into());
        let place = data.clone();
        blocking(move || sound(&from).and_then(|_| super::backup::restore_log(from, place))).await?;
        self::verify(data).await
    }
}
