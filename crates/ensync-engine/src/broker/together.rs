//! Whether the logs that a broker starts on belong together, and what it costs if the registry's knows less than it did.

use std::sync::Arc;

use ensync_core::{Error, ErrorKind, Result};

use super::maintenance::Maintenance;
use super::records::Records;
use super::registry_log::RegistryLog;
use crate::model::Removed;
use crate::partition::Partition;

/// Refuses logs of which some are new and others are not: whoever gave them has lost one, or has taken one of another engine. A registry
/// that knows no app would take with it what waits for all of them, and a partition that is new hides what was in the one before.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`].
pub(super) fn check(
    log: &RegistryLog,
    registry: &Arc<Records>,
    partitions: &[(Partition, Maintenance, Arc<Records>)],
) -> Result<()> {
    let refuse = |what: String| {
        let message = format!(
            "{what}: they do not belong together, or one of them was lost; nothing was changed; give the engine the logs that it had, or \
             restore them from a backup"
        );
        Err(Error::new(ErrorKind::InvalidInput, message))
    };
    for (index, (partition, _, records)) in partitions.iter().enumerate() {
        if log.is_empty() && registry.log.epoch() <= 1 && !partition.queues.is_empty() {
            return refuse(format!("the registry's log is new, and the log of partition {index} has queues of apps"));
        }
        if !log.is_empty() && registry.log.epoch() > 1 && records.log.epoch() <= 1 {
            return refuse(format!("the log of partition {index} is new, and the registry's is not"));
        }
    }
    Ok(())
}

/// Tells, of queues that are about to go because the registry does not know their app or their name, what goes with them.
pub(super) fn tell(partition: &Partition, index: usize, gone: &Removed) {
    let (queues, events) = partition.in_queues(gone);
    if events > 0 {
        tracing::warn!(
            partition = index,
            of = ?gone,
            queues,
            events,
            "the registry does not know whose queues these are: they are removed, with what waits in them and their dead letters; that \
             is as it should be if the app was deleted right before the engine ended, and a loss if the registry's log was damaged"
        );
    }
}
