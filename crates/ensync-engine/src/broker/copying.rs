//! What is stored once more, before the part of the log that it is in can be dropped.

use std::sync::Arc;

use ensync_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::records::Records;
use crate::model::{Position, Record};

/// After how many bytes the log is asked again.
const AT_ONCE: usize = 4 << 20;

/// Records that wait in a part of the log which is about to be dropped. They are read elsewhere, so that nobody waits for the disk.
#[derive(Debug, Default)]
pub(super) enum Copying {
    #[default]
    Nothing,
    Reading(oneshot::Receiver<Result<Copies>>),
    Read(Result<Copies>),
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Copies {
    pub(super) records: Vec<Arc<Record>>,
    /// Where the log does not have what waits there.
    pub(super) missing: Vec<Position>,
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

async fn read_all(records: &Records, positions: Vec<Position>) -> Result<Copies> {
    let mut found = Copies::default();
    let mut rest = positions.as_slice();
    while !rest.is_empty() {
        let read = records.log.read_many(rest, AT_ONCE).await;
        if read.is_empty() || read.len() > rest.len() {
            let message = format!("the log read {} records, and was asked for {}", read.len(), rest.len());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        let (these, after) = rest.split_at(read.len());
        for (at, bytes) in these.iter().zip(read) {
            match bytes? {
                Some(bytes) => found.records.push(records.decode(*at, bytes)?),
                None => found.missing.push(*at),
            }
        }
        rest = after;
    }
    Ok(found)
}
