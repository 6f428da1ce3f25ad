//! The admin API on a data directory, without an engine.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use ensync_engine::{AdminApi, Broker, BrokerOptions, DiskOptions, Logs, Retention};
use ensync_sdk::ErrorKind;
use http::{Request, Response};
use tokio::sync::OnceCell;

use super::Failure;
use crate::directory::{self, Contents};
use crate::exit::Problem;

/// A data directory. One that is empty is made an engine's by the first change, and not by a look.
pub(crate) struct Offline {
    path: PathBuf,
    /// How many it has, or gets.
    partitions: Option<NonZeroU32>,
    opened: OnceCell<Opened>,
}

struct Opened {
    broker: Broker,
    api: AdminApi,
}

impl Offline {
    pub(crate) async fn open(path: &Path, partitions: Option<NonZeroU32>) -> Result<Self, Failure> {
        check_owner(path, &directory::check(path)?)?;
        let offline = Self { path: path.to_owned(), partitions, opened: OnceCell::new() };
        match directory::contents(path)? {
            Contents::Log => _ = offline.opened().await?,
            Contents::Nothing => {}
            Contents::Other => return Err(directory::no_log(path).into()),
        }
        Ok(offline)
    }

    async fn opened(&self) -> Result<&Opened, Failure> {
        self.opened.get_or_try_init(|| Opened::open(&self.path, self.partitions)).await
    }

    pub(crate) async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Failure> {
        if !self.opened.initialized() && request.method().is_safe() {
            return Err(directory::no_log(&self.path).into());
        }
        Ok(self.opened().await?.api.call(request).await?)
    }

    pub(crate) async fn close(self) {
        if let Some(opened) = self.opened.into_inner() {
            opened.broker.shutdown().await;
        }
    }
}

impl Opened {
    async fn open(path: &Path, partitions: Option<NonZeroU32>) -> Result<Self, Failure> {
        let mut disk = DiskOptions::default();
        disk.partitions = partitions;
        let log = Logs::open(path, disk).await.map_err(|error| {
            directory::problem(&match error.kind() {
                ErrorKind::Unavailable => error.context(
                    "cannot administer the data directory; if an engine runs on it, leave --data out, and its admin API does it",
                ),
                _ => error,
            })
        })?;
        let mut options = BrokerOptions::default();
        // What an engine remembers, it shall find again: its limits may be wider than these defaults.
        options.limits.dedup_window = Duration::MAX;
        options.limits.dedup_entries_per_app = usize::MAX;
        options.limits.dedup_entries = usize::MAX;
        // And what it keeps: its retention may be longer.
        options.retention = Retention::unlimited();
        let broker = Broker::start(options, log).await?;
        Ok(Self { api: AdminApi::new(broker.clone()), broker })
    }
}

/// Files that another user makes there could not be written by the engine.
#[cfg(unix)]
fn check_owner(path: &Path, directory: &std::fs::Metadata) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt;

    let (owner, user) = (directory.uid(), rustix::process::geteuid().as_raw());
    if owner == user {
        return Ok(());
    }
    let message = format!(
        "{} belongs to the user with number {owner}, and this runs as {user}: what it makes there the engine could not write; \
         run it as that user, with `sudo -u '#{owner}'`",
        path.display()
    );
    Err(Problem::usage(message).into())
}

#[cfg(not(unix))]
fn check_owner(_: &Path, _: &std::fs::Metadata) -> Result<(), Failure> {
    Ok(())
}
