//! What is stored once more, before the part of the log that it is in can be dropped.

use std::sync::Arc;

use ensync_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::records::Records;
use crate::model::{Position, Record};

/// Records that wait in a part of the log which is about to be dropped. They are read elsewhere, so that nobody waits for the disk.
#[derive(Debug, Default)]
pub(super) enum Copying {
    #[default]
    Nothing,
    Reading(oneshot::Receiver<Result<Vec<Arc<Record>>>>),
    Read(Result<Vec<Arc<Record>>>),
}

impl Copying {
    /// Begins to read.
    pub(super) fn begin(records: Arc<Records>, positions: Vec<Position>) -> Self {
        let (done, reading) = oneshot::channel();
        tokio::spawn(async move { _ = done.send(read_all(&records, positions).await) });
        Self::Reading(reading)
    }

    /// Waits until what is being read is there. Never returns if nothing is.
    pub(super) async fn read(&mut self) {
        let Self::Reading(reading) = self else { return std::future::pending().await };
        let ended = |_| Err(Error::new(ErrorKind::Internal, "reading what is to be stored once more failed"));
        *self = Self::Read(reading.await.unwrap_or_else(ended));
    }
}

async fn read_all(records: &Records, positions: Vec<Position>) -> Result<Vec<Arc<Record>>> {
    let mut found = Vec::with_capacity(positions.len());
    for at in positions {
        match records.read_at(at).await? {
            Some(record) => found.push(record),
            None => tracing::error!(%at, "the log does not have an event that waits; it cannot be kept"),
        }
    }
    Ok(found)
}
