//! The registry's log: what is in it at a start, appends, and checkpoints.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result};
use futures::StreamExt;
use tokio::time::Instant;

use super::records::Records;
use super::session_layer::SessionLayer;
use crate::metrics::Metrics;
use crate::model::codec::snapshot;
use crate::model::{Position, Record, Settings};
use crate::state::{Access, Picture};

/// After how many records a checkpoint is saved; what it covers is dropped.
const RECORDS: u64 = 1_024;
/// How long to wait before a checkpoint that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The registry's log, and what is known of its checkpoints.
#[derive(Debug)]
pub(super) struct RegistryLog {
    records: Arc<Records>,
    /// The last record that was applied, the last that a checkpoint covers, and how many are between them.
    last: Position,
    covered: Position,
    since: u64,
    /// After a checkpoint that could not be saved.
    save_again: Option<Instant>,
}

/// What the registry's log holds.
pub(super) async fn recover(records: &Arc<Records>, settings: Settings) -> Result<(Access, RegistryLog)> {
    let (mut access, covered) = match records.log.load_checkpoint().await? {
        None => (Access::new(settings), Position::START),
        Some((at, bytes)) => {
            let none = |_| {
                let message = "the registry's checkpoint is none of this engine; use the one that wrote it";
                Error::new(ErrorKind::InvalidInput, message)
            };
            let durable = snapshot::decode(bytes).map_err(none)?;
            if !durable.partition.queues.is_empty() {
                return Err(misplaced(&format!("the checkpoint at {}", records.log.place(at))));
            }
            (Access::restore(settings, durable.registry), at)
        }
    };
    let (mut last, mut since) = (covered, 0);
    let mut scan = records.log.scan(covered);
    while let Some(read) = scan.next().await {
        let (position, bytes) = read.map_err(|error| error.context("read the registry's log back"))?;
        if position > covered {
            match &*records.decode(position, bytes)? {
                Record::Admin { at, command } => _ = access.apply(*at, command),
                _ => return Err(misplaced(&records.log.place(position))),
            }
            (last, since) = (position, since + 1);
        }
    }
    // Nobody is logged in yet.
    access.take_ended();
    let records = records.clone();
    Ok((access, RegistryLog { records, last, covered, since, save_again: None }))
}

/// A log that is not where it was.
fn misplaced(place: &str) -> Error {
    let message = format!(
        "{place} is no record of the registry: it was mixed up with the log of a partition; put each where it was, or restore the data \
         directory from a backup"
    );
    Error::new(ErrorKind::InvalidInput, message)
}

impl RegistryLog {
    pub(super) async fn append(&mut self, record: &Arc<Record>, metrics: &Metrics) -> Result<()> {
        let (begun, batch) = (std::time::Instant::now(), [record.clone()]);
        let stored = self.records.append(&batch).await;
        metrics.committed(None, &batch, begun, stored.as_ref().err());
        (self.last, self.since) = (stored?.last().copied().unwrap_or(self.last), self.since + 1);
        Ok(())
    }

    /// Saves a checkpoint if it is due, and drops what that covers: nobody replays what is in it.
    pub(super) async fn keep(&mut self, layer: &SessionLayer, at_once: bool) {
        let due = self.since >= RECORDS && self.save_again.is_none_or(|again| again <= Instant::now());
        let log = &self.records.log;
        if !(due || at_once) || self.last <= self.covered || !log.keeps_checkpoints() || log.failure().is_some() {
            return;
        }
        let picture = layer.read().access.picture();
        let saved = async {
            let state = spell_out(picture).await?;
            self.records.wait_for(log.save_checkpoint(self.last, vec![state])).await?;
            log.drop_range(Position::START, self.last).await
        };
        let saved = saved.await;
        match saved {
            Ok(()) => (self.covered, self.since, self.save_again) = (self.last, 0, None),
            Err(error) => {
                let error = ensync_core::report(&error);
                tracing::warn!(error, "cannot save a checkpoint of the registry; it will be tried again");
                self.save_again = Some(Instant::now() + AGAIN);
            }
        }
    }

    /// Whether nothing was ever stored in it.
    pub(super) fn is_empty(&self) -> bool {
        self.last == Position::START
    }

    /// How large its disk is, if it is on one.
    pub(super) async fn disk(&self) -> Option<u64> {
        self.records.log.space().await.ok().flatten().map(|space| space.total)
    }

    /// Why it stores nothing more.
    pub(super) fn failure(&self) -> Option<Error> {
        self.records.log.failure()
    }

    pub(super) async fn close(&self) {
        self.records.log.close().await;
    }
}

/// Spells a picture out. That takes long where there are many apps, and whoever holds the lock of what it is taken of has everybody wait: it
/// is done without that, and in nobody's way.
async fn spell_out(picture: Picture) -> Result<Bytes> {
    let spelled = tokio::task::spawn_blocking(move || snapshot::of_registry(&picture.spell_out()));
    spelled.await.map_err(|cause| Error::new(ErrorKind::Internal, "a task of the registry failed").with_source(cause))
}
