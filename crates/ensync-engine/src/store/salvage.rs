//! What is known of the engine's state from what can be read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ensync_core::{AppId, Error, ErrorKind, EventName, Result, Timestamp};

use super::fold::Fold;
use super::scan::{Found, LogScan};
use crate::log::disk::directory::Directory;
use crate::log::disk::directory::unusable;
use crate::log::disk::format::{FRAME, split};
use crate::model::Settings;
use crate::model::codec::snapshot;
use crate::model::{EventRef, Position, Record, RegistrySnapshot, Snapshot, SnapshotEvent, SnapshotQueue};

/// The state, as far as it is known.
#[derive(Debug)]
pub(super) struct Salvaged {
    pub(super) durable: Snapshot,
    /// Sequence numbers of each queue that only a gap can have had: at most so many events were published there.
    pub(super) perhaps: BTreeMap<(AppId, EventName), u64>,
    /// Events that wait, of whose recipient nothing is known: neither that there is such an app, nor that it was deleted. No engine starts
    /// here.
    pub(super) orphans: BTreeMap<EventRef, (AppId, EventName)>,
    /// Whether a gap may have held what was done to events.
    pub(super) settlements: bool,
}

/// An event that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting<'a> {
    pub(super) queue: &'a SnapshotQueue,
    pub(super) event: &'a SnapshotEvent,
}

impl Waiting<'_> {
    pub(super) fn at(&self) -> EventRef {
        EventRef { queue: self.queue.number, seq: self.event.seq }
    }
}

impl Salvaged {
    /// That events wait for apps of which nothing is known, if some do.
    pub(super) fn unknown(&self) -> Option<String> {
        let count = self.orphans.len();
        (count > 0).then(|| {
            format!(
                "{count} events wait for apps that the registry neither knows nor deleted: its log is older than this one, or lost something"
            )
        })
    }

    /// Every event that waits, for whatever.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Waiting<'_>> {
        self.durable
            .partition
            .queues
            .iter()
            .flat_map(|queue| queue.events.iter().map(move |event| Waiting { queue, event }))
    }
}

/// Reads a checkpoint's state.
pub(super) fn decode(at: Position, state: &bytes::Bytes) -> Result<Snapshot> {
    snapshot::decode(state.clone()).map_err(|_| {
        let name = super::report::checkpoint_name(at);
        unusable(format!("{name} has no meaning here (its checksum is right): a later engine wrote it; use that"))
    })
}

/// The apps that a registry knows, and those that it deleted.
#[derive(Clone, Debug, Default)]
pub(super) struct Apps {
    ids: BTreeSet<AppId>,
    deleted: BTreeSet<AppId>,
}

impl Apps {
    fn of(registry: &RegistrySnapshot) -> Self {
        Self {
            ids: registry.apps.iter().map(|app| app.id).collect(),
            deleted: registry.deleted.iter().copied().collect(),
        }
    }
}

impl Salvaged {
    /// Those that it knows.
    pub(super) fn apps(&self) -> Apps {
        Apps::of(&self.durable.registry)
    }
}

/// Goes from the newest checkpoint, or the start, to the end, over all gaps. Without `registry` the log holds that, too.
pub(super) fn salvage(directory: &Directory, scan: &LogScan, registry: Option<&Apps>) -> Result<Salvaged> {
    let (mut state, from) = match scan.checkpoint() {
        None => (Fold::new(Settings::default()), Position::START),
        Some((at, bytes)) => (Fold::restore(Settings::default(), decode(at, &bytes)?), at),
    };
    // Up to which sequence number each queue was seen, and after how many gaps.
    let mut seen: HashMap<u32, (u64, usize)> =
        state.snapshot().partition.queues.iter().map(|queue| (queue.number, (queue.next_seq, 0))).collect();
    let (mut gaps, mut perhaps) = (0, BTreeMap::new());
    scan.each(directory, split(from).0, |found| {
        match found {
            Found::Gap(index) => {
                // What a checkpoint covers, it knows.
                let after = scan.bounds(index).1.as_u64() > from.as_u64() + FRAME as u64;
                gaps += usize::from(after);
            }
            Found::Record(at, _, record) if at > from => {
                let record = record.ok_or_else(|| no_meaning(at))?;
                if let Record::Publish(publish) = &*record {
                    let (next, passed) = seen.entry(publish.at.queue).or_insert((0, 0));
                    if *passed < gaps && publish.at.seq > *next {
                        let queue = (publish.recipient_id, publish.event.clone());
                        *perhaps.entry(queue).or_default() += publish.at.seq - *next;
                    }
                    (*next, *passed) = ((*next).max(publish.at.seq + 1), gaps);
                }
                state.apply(at, &record);
            }
            // What was dropped, a checkpoint knows, if there is one.
            Found::Dropped(_, end) => gaps += usize::from(end.as_u64() > from.as_u64() + FRAME as u64),
            // What an earlier repair said is no news.
            Found::Record(..) | Found::Lost(..) => {}
        }
        Ok(())
    })?;
    // What has expired since is in no record, and the log need not have it any more. A start goes by the same time.
    state.recovered(Timestamp::now().max(state.logged_at()));
    let (mut durable, mut orphans) = (state.snapshot(), BTreeMap::new());
    let apps = registry.cloned().unwrap_or_else(|| Apps::of(&durable.registry));
    // A log that is its own registry lacks nothing where nothing is missing.
    let may_lack = registry.is_some() || gaps > 0;
    durable.partition.queues.retain(|queue| {
        let known = apps.ids.contains(&queue.recipient);
        let lost = queue
            .events
            .iter()
            .filter(|_| !known && may_lack && !apps.deleted.contains(&queue.recipient))
            .map(|event| EventRef { queue: queue.number, seq: event.seq });
        orphans.extend(lost.map(|event| (event, (queue.recipient, queue.event.clone()))));
        known
    });
    Ok(Salvaged { durable, perhaps, orphans, settlements: gaps > 0 })
}

pub(super) fn no_meaning(at: Position) -> Error {
    let (number, offset) = split(at);
    let name = super::report::segment_name(number);
    let message = format!(
        "the record at byte {offset} of {name} has no meaning here (its checksum is right): a later engine wrote it; use that"
    );
    Error::new(ErrorKind::InvalidInput, message)
}
