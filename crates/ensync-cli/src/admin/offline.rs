//! The admin API on a data directory, without an engine.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use ensync_engine::{AdminApi, Broker, BrokerOptions, DiskOptions, Logs};
use ensync_sdk::ErrorKind;
use http::{Request, Response};

use super::Failure;

pub(crate) struct Offline {
    broker: Broker,
    api: AdminApi,
}

impl Offline {
    pub(crate) async fn open(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let owner = std::fs::metadata(path).map_err(|cause| {
            format!("cannot use the data directory {shown}: {cause}; `ensync serve --data {shown}` would make it")
        })?;
        check_owner(path, &owner)?;
        let log = Logs::open(path, DiskOptions::default()).await.map_err(|error| match error.kind() {
            ErrorKind::Unavailable => error.context(
                "cannot administer the data directory; if an engine runs on it, leave --data out, and its admin API does it",
            ),
            _ => error,
        })?;
        let mut options = BrokerOptions::default();
        // What an engine remembers, it shall find again: its limits may be wider than these defaults.
        options.limits.dedup_window = Duration::MAX;
        options.limits.dedup_entries_per_app = usize::MAX;
        options.limits.dedup_entries = usize::MAX;
        let broker = Broker::start(options, log).await?;
        Ok(Self { api: AdminApi::new(broker.clone()), broker })
    }

    pub(crate) async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Failure> {
        Ok(self.api.call(request).await?)
    }

    pub(crate) async fn close(self) {
        self.broker.shutdown().await;
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
    Err(message.into())
}

#[cfg(not(unix))]
fn check_owner(_: &Path, _: &std::fs::Metadata) -> Result<(), Failure> {
    Ok(())
}
