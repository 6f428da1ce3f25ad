use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ensync_core::{AppId, EventName, Result};

use super::fold::Fold;
use super::report::{Contents, Damage, FileReport, checkpoint_name, damage, segment_name, unfinished};
use super::salvage::{Apps, decode, no_meaning, salvage};
use super::scan::{Found, LogScan};
use super::scanner::scan_log;
use crate::log::disk::blocking;
use crate::log::disk::directory::Directory;
use crate::log::disk::format::{FRAME, HEADER, position, split};
use crate::log::disk::io::SystemIo;
use crate::log::disk::layout::Layout;
use crate::model::{
    PartitionSnapshot, Position, Record, RegistrySnapshot, Settings, Share, Snapshot, SnapshotApp, SnapshotEvent,
    SnapshotPublish, SnapshotPublisher, SnapshotSettled, SnapshotWait,
};
use crate::partition::Partition;

/// What [`verify`] found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Every file of the logs.
    pub files: Vec<FileReport>,
    /// What is not as it was written. Nothing, if all is well.
    pub damage: Vec<Damage>,
    /// Commits that can be read.
    pub commits: u64,
    /// Records that can be read.
    pub records: u64,
    /// How much of the disk the files take, in bytes.
    pub bytes: u64,
    /// Events that wait for a client or a time.
    pub unsettled: u64,
    /// Dead letters.
    pub dead: u64,
    /// Checkpoints whose state was found to be what the log comes to, when it was read from its start or from the checkpoint before.
    pub compared: usize,
    /// Commits that were being written when the engine was killed, one of a log at most: the file, and how many bytes. They are no
    /// damage; nobody was told that they are stored, and the next start cuts them off.
    pub unfinished: Vec<(String, u64)>,
}

/// Checks a data directory that no engine uses: every segment and every checkpoint, from the first byte to the last; that every record
/// can be read and means something; that the log comes to what the checkpoints say; and that the log has what waits for delivery.
/// Changes nothing.
///
/// # Errors
///
/// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if an engine uses the directory, or the operating system refuses;
/// [`InvalidInput`](ensync_core::ErrorKind::InvalidInput) if there is no log in it, or one of a later format. Damage is no error, but
/// in the report.
pub async fn verify(path: impl Into<PathBuf>) -> Result<Report> {
    let path = path.into();
    blocking(move || {
        let layout = Layout::of(&path)?;
        let _lock = layout.look()?;
        verify_logs(&layout)
    })
    .await
}

/// Checks every log of a data directory.
pub(super) fn verify_logs(layout: &Layout) -> Result<Report> {
    let (registry, apps) = verify_log(&layout.registry(), None)?;
    let mut report = registry.named(layout, &layout.registry());
    for (folder, share) in layout.partitions().zip(Share::all(layout.partitions)) {
        report.add(verify_log(&folder, Some((&apps, share)))?.0.named(layout, &folder));
    }
    Ok(report)
}

impl Report {
    /// With the names of files as they are below the data directory.
    fn named(mut self, layout: &Layout, folder: &Path) -> Self {
        let name = |file: &mut String| *file = layout.name(folder, file);
        self.files.iter_mut().for_each(|file| name(&mut file.name));
        self.damage.iter_mut().for_each(|damage| name(&mut damage.file));
        self.unfinished.iter_mut().for_each(|(file, _)| name(file));
        self
    }

    fn add(&mut self, other: Self) {
        let Self { files, damage, commits, records, bytes, unsettled, dead, compared, unfinished } = other;
        self.files.extend(files);
        self.damage.extend(damage);
        self.commits += commits;
        self.records += records;
        self.bytes += bytes;
        self.unsettled += unsettled;
        self.dead += dead;
        self.compared += compared;
        self.unfinished.extend(unfinished);
    }
}

/// Checks one log; the apps that it knows. `of`: those that the registry's log knows, if it is another, and which partition this is.
pub(super) fn verify_log(path: &Path, of: Option<(&Apps, Share)>) -> Result<(Report, Apps)> {
    let directory = Directory::new(path.to_owned(), Arc::new(SystemIo));
    let _lock = directory.look()?;
    let scan = scan_log(&directory)?;
    let unfinished = unfinished(&scan).into_iter().collect();
    let mut report = Report { damage: damage(&scan), unfinished, ..Report::default() };
    for (&number, segment) in &scan.segments {
        let Some(bytes) = segment.length else { continue };
        let contents = Contents::Segment { commits: segment.commits, records: segment.records };
        report.files.push(FileReport { name: segment_name(number), bytes, contents });
        report.commits += segment.commits;
        report.records += segment.records;
    }
    for (&at, state) in &scan.checkpoints {
        let unsettled = match state {
            Some(state) => {
                Some(decode(at, state)?.partition.queues.iter().map(|queue| queue.events.len() as u64).sum())
            }
            None => None,
        };
        let path = directory.checkpoint(at);
        let bytes = directory.metadata(&path).map_or(0, |metadata| metadata.len());
        let contents = Contents::Checkpoint { unsettled };
        report.files.push(FileReport { name: checkpoint_name(at), bytes, contents });
    }
    report.bytes = report.files.iter().map(|file| file.bytes).sum();
    compare(&directory, &scan, &mut report)?;
    let apps = count(&directory, &scan, of, &mut report)?;
    Ok((report, apps))
}

/// Reads the log from as far back as possible, and holds what it comes to against each checkpoint on the way.
fn compare(directory: &Directory, scan: &LogScan, report: &mut Report) -> Result<()> {
    let whole = scan.checkpoints.iter().filter_map(|(at, state)| Some((*at, state.as_ref()?)));
    let mut ahead = whole.peekable();
    let first = scan.segments.keys().next().copied().unwrap_or(1);
    let lost = if first > 1 { position(first, HEADER) } else { Position::START };
    let mut reading = Reading { state: Fold::new(Settings::default()), from: Position::START, lost };
    scan.each(directory, 0, |found| {
        let at = match &found {
            Found::Record(at, ..) | Found::Lost(at, _) | Found::Dropped(at, _) => *at,
            Found::Gap(index) => scan.bounds(*index).0,
        };
        while let Some((place, bytes)) = ahead.next_if(|(place, _)| *place < at) {
            reading.meet(place, bytes, report)?;
        }
        match found {
            Found::Gap(index) => reading.lost = scan.bounds(index).1,
            Found::Lost(_, end) | Found::Dropped(_, end) => reading.lost = end,
            Found::Record(at, _, None) => {
                let (file, offset) = (segment_name(split(at).0), u64::from(split(at).1));
                report.damage.push(Damage::new(file, Some((offset, offset)), no_meaning(at).to_string()));
            }
            Found::Record(at, _, Some(record)) if at > reading.from => reading.state.apply(at, &record),
            Found::Record(..) => {}
        }
        Ok(())
    })?;
    for (place, bytes) in ahead {
        reading.meet(place, bytes, report)?;
    }
    Ok(())
}

/// The log, read up to some place.
struct Reading {
    state: Fold,
    /// Where it went on from a checkpoint.
    from: Position,
    /// Where the last part ended that was missing.
    lost: Position,
}

impl Reading {
    /// Compares with a checkpoint, or goes on from it if there is nothing to compare.
    fn meet(&mut self, at: Position, bytes: &bytes::Bytes, report: &mut Report) -> Result<()> {
        let saved = decode(at, bytes)?;
        if self.lost.as_u64() > self.from.as_u64() + FRAME as u64 {
            (self.state, self.from) = (Fold::restore(Settings::default(), saved), at);
            return Ok(());
        }
        report.compared += 1;
        if let Err(what) = agree(&self.state.snapshot(), &saved) {
            let what = format!("the checkpoint is not what the log comes to: {what}");
            report.damage.push(Damage::new(checkpoint_name(at), None, what));
        }
        Ok(())
    }
}

/// Whether a checkpoint says what the log does. It may lack what had expired when it was saved, and know of numbers that were
/// given to events which were never in the log.
fn agree(log: &Snapshot, saved: &Snapshot) -> Result<(), String> {
    // By name, so that what is added is looked at here.
    let Snapshot { registry, partition } = log;
    let RegistrySnapshot { logged_at: registered_at, apps, events, deleted } = registry;
    let PartitionSnapshot { logged_at, next_queue, queues, publishes } = partition;
    let (known, saved) = (&saved.registry, &saved.partition);
    if *logged_at != saved.logged_at || *registered_at != known.logged_at {
        return Err("the time of the latest record differs".into());
    }
    let same_app = |(log, saved): (&SnapshotApp, &SnapshotApp)| {
        let old_key = saved.old_key.and(log.old_key);
        SnapshotApp { old_key, ..log.clone() } == *saved
    };
    if apps.len() != known.apps.len() || !apps.iter().zip(&known.apps).all(same_app) {
        return Err("the apps differ".into());
    }
    if *events != known.events {
        return Err("the event names differ".into());
    }
    // Not all of them are remembered.
    if !known.deleted.iter().all(|app| deleted.contains(app)) {
        return Err("the apps that were deleted differ".into());
    }
    if *next_queue != saved.next_queue {
        return Err("the number of the next queue differs".into());
    }
    // How long they are remembered, and how many, is a setting that the log does not tell.
    let all = |durable: &'_ [SnapshotPublisher]| -> HashMap<[u8; 16], SnapshotPublish> {
        durable.iter().flat_map(|of| &of.publishes).map(|publish| (publish.fingerprint, publish.clone())).collect()
    };
    let (known, remembered) = (all(publishes), all(&saved.publishes));
    if remembered.iter().any(|(print, publish)| known.get(print).is_some_and(|known| known != publish)) {
        return Err("the publishes under idempotency keys differ".into());
    }
    let numbered: HashMap<u32, _> = saved.queues.iter().map(|queue| (queue.number, queue)).collect();
    for queue in queues {
        let same = numbered.get(&queue.number);
        let name = (queue.recipient, &queue.event);
        let Some(other) = same.filter(|other| (other.recipient, &other.event) == name) else {
            return Err(format!("it lacks the queue of {} for {}", queue.event, queue.recipient));
        };
        // How long what became of events is remembered is a setting, too.
        if let Some(seq) = contradiction(&queue.settled, &other.settled) {
            return Err(format!("what became of event {seq} of queue {} differs", queue.number));
        }
        let mut events = other.events.iter().peekable();
        for event in &queue.events {
            let found = events.next_if(|other| other.seq <= event.seq);
            // Nothing in the log says that the time of a deferred one had come.
            let due = || SnapshotEvent { waits: SnapshotWait::Client, ..event.clone() };
            let came_due = |found: &SnapshotEvent| matches!(event.waits, SnapshotWait::Until(_)) && *found == due();
            let same = found.is_some_and(|found| found == event || came_due(found));
            let expired = found.is_none() && event.expires_at.is_some();
            if !same && !expired {
                return Err(differs(event, queue.number, &queue.event, &queue.recipient));
            }
        }
        if events.next().is_some() || other.next_seq < queue.next_seq {
            return Err(format!("the queue of {} for {} differs", queue.event, queue.recipient));
        }
    }
    let known: HashSet<u32> = queues.iter().map(|queue| queue.number).collect();
    let unknown = saved.queues.iter().find(|queue| !queue.events.is_empty() && !known.contains(&queue.number));
    unknown.map_or(Ok(()), |queue| Err(format!("the log knows no queue of {} for {}", queue.event, queue.recipient)))
}

/// An event that one says was settled otherwise than the other.
fn contradiction(log: &[SnapshotSettled], saved: &[SnapshotSettled]) -> Option<u64> {
    saved.iter().find_map(|run| {
        let other = log.iter().find(|other| other.by != run.by && other.first <= run.last && run.first <= other.last);
        other.map(|other| other.first.max(run.first))
    })
}

fn differs(event: &SnapshotEvent, queue: u32, name: &EventName, recipient: &AppId) -> String {
    format!("event {} of queue {queue} ({name} for {recipient}) differs", event.seq)
}

/// Counts what waits, and sees that the log has it.
fn count(directory: &Directory, scan: &LogScan, of: Option<(&Apps, Share)>, report: &mut Report) -> Result<Apps> {
    // What has no meaning has been told.
    let Ok(salvaged) = salvage(directory, scan, of.map(|(apps, _)| apps)) else { return Ok(Apps::default()) };
    let misplaced = of.and_then(|(_, share)| Some((share, Partition::misplaced(share, &salvaged.durable.partition)?)));
    if let Some((share, queue)) = misplaced {
        let what =
            format!("queue {queue} is not of partition {} of {}: logs were mixed up", share.index(), share.count());
        report.damage.push(Damage::new(directory.path.display().to_string(), None, what));
    }
    if let Some(what) = salvaged.unknown().filter(|_| of.is_some()) {
        report.damage.push(Damage::new(directory.path.display().to_string(), None, what));
    }
    let mut places = Vec::new();
    for waiting in salvaged.waiting() {
        match waiting.event.waits {
            SnapshotWait::Administrator { .. } => report.dead += 1,
            _ => report.unsettled += 1,
        }
        places.push((waiting.event.current, waiting.at()));
    }
    places.sort_unstable();
    let mut missing = 0_u64;
    let mut left = places.into_iter().peekable();
    scan.each(directory, 0, |found| {
        let Found::Record(at, true, Some(record)) = found else { return Ok(()) };
        while left.next_if(|(place, _)| *place < at).is_some() {
            missing += 1;
        }
        if let Some((_, event)) = left.next_if(|(place, _)| *place == at) {
            let same = matches!(&*record, Record::Publish(publish) if publish.at == event);
            missing += u64::from(!same);
        }
        Ok(())
    })?;
    missing += left.count() as u64;
    if missing > 0 {
        let what = format!("{missing} events that wait are not in the log");
        report.damage.push(Damage::new(directory.path.display().to_string(), None, what));
    }
    Ok(salvaged.apps())
}
