//! Whether the logs that a broker starts on belong together.

use std::sync::Arc;

use ensync_core::{Error, ErrorKind, Result};

use super::maintenance::Maintenance;
use super::records::Records;
use super::registry_log::RegistryLog;
use crate::model::{Position, Removed};
use crate::partition::Partition;
use crate::state::Access;

/// Refuses logs of which some are new and others are not: whoever gave them has lost one, or has taken one of another engine. A registry
/// that knows no app would take with it what waits for all of them, and a partition that is new hides what was in the one before.
///
/// Whether a log is new is told by how often it was opened: by a start that is refused, too. Where nothing else says which logs belong together,
/// as the file of a store on a disk does, the next start is not refused, so that whoever starts the engine has to look before.
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

/// Refuses a log of which a part is gone, from its beginning on, in which events wait. One that is damaged there costs what cannot be read,
/// once somebody wants it; files that are not there at all are worth a look for them before. Of dead letters that is said already, or they are
/// worth no refusal.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`].
pub(super) fn check_beginnings(partitions: &[(Partition, Maintenance, Arc<Records>)]) -> Result<()> {
    for (index, (partition, _, records)) in partitions.iter().enumerate() {
        let begins = records.log.begins();
        let gone = if begins > Position::START { partition.waits_before(begins) } else { 0 };
        if gone > 0 {
            let place = records.log.place(begins);
            let message = format!(
                "{gone} events that wait in partition {index} are not in its log, which begins at {place}: what was before that was removed; \
                 nothing was changed; put the files back, or restore the data directory from a backup; `ensync store repair` says what going \
                 on without them would lose"
            );
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
    }
    Ok(())
}

/// Refuses a registry that does not know for whom events wait, and did not delete the app: it is older than the partitions, or lost something.
/// To take their apps for deleted would cost events that were accepted, and the right registry, once it is found, could not bring them back.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`].
pub(super) fn check_apps(access: &Access, partitions: &[(Partition, Maintenance, Arc<Records>)]) -> Result<()> {
    for (index, (partition, ..)) in partitions.iter().enumerate() {
        let unknown = access.leftovers(partition).into_iter().filter(|left| match left {
            Removed::Recipient(app) => !access.is_deleted(app),
            Removed::Name(_) => false,
        });
        let counts = unknown.map(|left| partition.in_queues(&left)).filter(|(_, events)| *events > 0);
        let (apps, events) = counts.fold((0_usize, 0), |(apps, all), (_, events)| (apps + 1, all + events));
        if apps > 0 {
            let message = format!(
                "{events} events wait in partition {index} for {apps} apps that the registry neither knows nor deleted: its log is older \
                 than the partition's, or lost something; nothing was changed; put the registry's log that belongs to it in its place, or \
                 restore the data directory from a backup; `ensync store repair` says what going on without them would lose"
            );
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
    }
    Ok(())
}
