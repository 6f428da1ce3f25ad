//! What the log of a partition holds at a start.

use std::sync::Arc;

use ensync_core::{Error, ErrorKind, Result};
use futures::StreamExt;

use super::maintenance::{Kept, Maintenance, Read, grows, weigh};
use super::records::Records;
use crate::model::codec::snapshot;
use crate::model::{Position, Share};
use crate::partition::Partition;
use crate::state::Settings;

/// What a log holds, as a partition.
pub(super) async fn recover(
    records: &Arc<Records>,
    settings: Settings,
    kept: Kept,
) -> Result<(Partition, Maintenance)> {
    let (log, share) = (&records.log, settings.share);
    let (mut partition, covered, size) = match log.load_checkpoint().await? {
        None => (Partition::new(settings), Position::START, 0),
        Some((at, bytes)) => {
            let size = bytes.len() as u64;
            let durable = snapshot::decode(bytes).map_err(|_| {
                Error::new(
                    ErrorKind::InvalidInput,
                    "the log's checkpoint is none of this engine; use the one that wrote it",
                )
            })?;
            if let Some(queue) = Partition::misplaced(share, &durable.partition) {
                return Err(misplaced(&format!("the checkpoint at {}", log.place(at)), queue, share));
            }
            (Partition::restore(settings, durable.partition), at, size)
        }
    };
    let (mut last, mut weight, mut grown) = (covered, 0, 0);
    let mut scan = log.scan(covered);
    while let Some(read) = scan.next().await {
        let (position, bytes) = read.map_err(|error| error.context("read the log back"))?;
        if position > covered {
            let record = records.decode(position, bytes)?;
            if let Some(event) = record.event().filter(|event| !share.has_queue(event.queue)) {
                return Err(misplaced(&records.log.place(position), event.queue, share));
            }
            partition.apply(Some(position), &record);
            last = position;
            weight += weigh(&record);
            grown += grows(&record);
        }
    }
    // Before any of them looks for something to drop.
    if let Ok(Some(space)) = log.space().await {
        kept.disk.note(share.index(), &space);
    }
    let read = Read { last, covered, weight, size, grown };
    let maintenance = Maintenance::new(records.clone(), share.index(), kept, read);
    maintenance.expect_checkpoint();
    Ok((partition, maintenance))
}

/// A log that is not where it was: what it holds would be taken for another partition's.
fn misplaced(place: &str, queue: u32, share: Share) -> Error {
    let message = format!(
        "{place} speaks of queue {queue}, which is not in partition {} of {}: the logs of partitions were mixed up; put each where it was, \
         or restore the data directory from a backup",
        share.index(),
        share.count()
    );
    Error::new(ErrorKind::InvalidInput, message)
}
