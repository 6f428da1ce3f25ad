//! Going on without what cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ensync_core::{AppId, Error, ErrorKind, EventName, Result};

use super::lost;
use super::report::{Damage, checkpoint_name, damage, segment_name, unfinished};
use super::salvage::{Apps, salvage};
use super::scan::{Gap, LogScan};
use super::scanner::scan_log;
use crate::log::Log;
use crate::log::disk::directory::{Directory, failed};
use crate::log::disk::folder::Folder;
use crate::log::disk::format::{self, FRAME, Frame, HEADER, LOST, LogId, position};
use crate::log::disk::io::SystemIo;
use crate::log::disk::layout::Layout;
use crate::log::disk::{DiskLog, DiskOptions, blocking};
use crate::model::{Encoded, EventRef, Need, Position, Record, Removed};

/// What is wrong with a data directory, and what it costs to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Assessment {
    /// What is not as it was written. Nothing to repair, if it is empty.
    pub damage: Vec<Damage>,
    /// How many records cannot be read; `None` if that cannot be told for some part.
    pub records: Option<u64>,
    /// Events of which something is known to be lost, by recipient and event name.
    pub events: Vec<LostEvents>,
    /// Whether acknowledgements, defers and discards may be among the lost records: events that they were of come again.
    pub settlements: bool,
    /// Whether the log does not go back to its start, or lacks a part that was dropped for its space, and no checkpoint can be read that
    /// says what was there: apps, event names and events of before are lost.
    pub beginning: bool,
    /// Commits that were being written when the engine was killed, one of a log at most: the file, and how many bytes. No loss: nobody was
    /// told that they are stored.
    pub unfinished: Vec<(String, u64)>,
    /// Where the files are that were replaced.
    pub kept: Vec<PathBuf>,
}

/// Lost events of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostEvents {
    /// Whom they were for.
    pub recipient: AppId,
    /// Their name.
    pub event: EventName,
    /// Events that waited for delivery, and dead letters, whose payload cannot be read; or whose app is lost, and they with it.
    pub waiting: u64,
    /// At most so many more of which nothing is known but that their numbers are not there: they were in the lost part, or were
    /// never in the log (`persist: false`).
    pub perhaps: u64,
}

/// Says what [`repair`] would do and what would be lost. Changes nothing.
///
/// # Errors
///
/// As [`verify`](super::verify()).
pub async fn assess(path: impl Into<PathBuf>) -> Result<Assessment> {
    let path = path.into();
    blocking(move || {
        let (layout, lost) = Layout::with_lost(&path)?;
        let _lock = layout.look()?;
        let (registry, apps) = assess_log(&layout.registry(), None)?;
        let mut found = registry.named(&layout, &layout.registry());
        for (index, folder) in layout.partitions().enumerate() {
            if lost.contains(&index) {
                found.add(Assessment::of_lost(&folder).named(&layout, &folder));
                continue;
            }
            found.add(assess_log(&folder, Some(&apps))?.0.named(&layout, &folder));
        }
        Ok(found)
    })
    .await
}

/// The same of one log; the apps that it knows.
pub(super) fn assess_log(path: &Path, registry: Option<&Apps>) -> Result<(Assessment, Apps)> {
    let directory = Directory::new(path.to_owned(), Arc::new(SystemIo));
    let _lock = directory.look()?;
    let plan = Plan::make(&directory, registry)?;
    Ok((plan.assessment, plan.apps))
}

/// Makes a data directory usable again, without what cannot be read, and says what that was: what [`assess`] said before. Everything
/// that can be read stays where it is, under the ids that clients know. Files that are replaced are kept in a folder beside them. A partition whose
/// log is gone as a whole gets a new one, in which nothing is; the registry's is not made anew, for without it all that waits is nobody's.
///
/// If it is interrupted, it can be called again.
///
/// # Errors
///
/// As [`verify`](super::verify()), and [`Unavailable`](ErrorKind::Unavailable) if something cannot be written.
pub async fn repair(path: impl Into<PathBuf>) -> Result<Assessment> {
    let path = path.into();
    let (layout, lost, _lock) = blocking(move || {
        let (layout, lost) = Layout::with_lost(&path)?;
        let lock = layout.look()?;
        Ok((layout, lost, lock))
    })
    .await?;
    let (registry, apps) = repair_log(layout.registry(), None).await?;
    let mut found = registry.named(&layout, &layout.registry());
    let mut store = layout.clone();
    for (index, folder) in layout.partitions().enumerate() {
        if lost.contains(&index) {
            found.add(Assessment::of_lost(&folder).named(&layout, &folder));
            store = blocking(move || lost::make_anew(store, index)).await?;
            continue;
        }
        found.add(repair_log(folder.clone(), Some(apps.clone())).await?.0.named(&layout, &folder));
    }
    Ok(found)
}

impl Assessment {
    /// Of a log of which no file is there.
    fn of_lost(folder: &Path) -> Self {
        let what = "its log is not there: all that waited in this partition is lost with it; if it is on a disk of its own, mount that instead";
        let damage = vec![Damage::new(folder.display().to_string(), None, what)];
        // What waited there; of what was settled nothing comes again.
        Self { damage, beginning: true, ..Self::default() }
    }

    /// With the names of files as they are below the data directory.
    fn named(mut self, layout: &Layout, folder: &Path) -> Self {
        self.damage.iter_mut().for_each(|damage| damage.file = layout.name(folder, &damage.file));
        self.unfinished.iter_mut().for_each(|(file, _)| *file = layout.name(folder, file));
        self
    }

    fn add(&mut self, other: Self) {
        let Self { damage, records, events, settlements, beginning, unfinished, kept } = other;
        self.damage.extend(damage);
        self.records = self.records.zip(records).map(|(these, those)| these + those);
        self.events.extend(events);
        self.settlements |= settlements;
        self.beginning |= beginning;
        self.unfinished.extend(unfinished);
        self.kept.extend(kept);
    }
}

/// The same of one log; the apps that it knows.
pub(super) async fn repair_log(path: PathBuf, registry: Option<Apps>) -> Result<(Assessment, Apps)> {
    let place = path.clone();
    let plan = blocking(move || {
        let directory = Directory::new(place, Arc::new(SystemIo));
        directory.look()?;
        let _lock = directory.enter()?;
        let mut plan = Plan::make(&directory, registry.as_ref())?;
        plan.mend(&directory)?;
        Ok(plan)
    })
    .await?;
    if plan.assessment.damage.is_empty() {
        return Ok((plan.assessment, plan.apps));
    }
    // What waits and cannot be read any more is taken out, in the words of the log.
    let log = DiskLog::open(path, DiskOptions::default()).await?;
    let mut records = Vec::new();
    for event in plan.gone {
        let (reason, at) = ("lost: the log was damaged".to_owned(), ensync_core::Timestamp::now());
        records.push(Encoded::from(&Record::Discard { event, reason, at, deliveries: 0 }));
        records.push(Encoded::from(&Record::Drop { event }));
    }
    for at in plan.copied {
        records.extend(log.read(at).await?.map(|bytes| Encoded::new(bytes, Bytes::new(), true)));
    }
    let removed = plan.unknown.into_iter().map(Removed::Recipient);
    records.extend(removed.map(|queues| Encoded::from(&Record::Remove { queues })));
    // The disk may be full: that is when logs are damaged.
    let records: Vec<_> = records.into_iter().map(|record| record.with_need(Need::Frees)).collect();
    for records in records.chunks(1_024) {
        log.append(records.to_vec()).await?;
    }
    log.close().await;
    Ok((plan.assessment, plan.apps))
}

#[derive(Debug)]
struct Plan {
    scan: LogScan,
    assessment: Assessment,
    /// The apps that the log knows.
    apps: Apps,
    /// Events that wait and are not there any more.
    gone: Vec<EventRef>,
    /// Those of which an older copy is there.
    copied: Vec<Position>,
    /// Apps of which nothing is known: what waits for them is given up.
    unknown: BTreeSet<AppId>,
}

impl Plan {
    fn make(directory: &Directory, registry: Option<&Apps>) -> Result<Self> {
        let scan = scan_log(directory)?;
        let mut damage = damage(&scan);
        let salvaged = salvage(directory, &scan, registry)?;
        let (mut gone, mut copied) = (Vec::new(), Vec::new());
        let mut lost: BTreeMap<(AppId, EventName), (u64, u64)> = BTreeMap::new();
        for waiting in salvaged.waiting().filter(|waiting| !scan.has(waiting.event.current)) {
            if scan.has(waiting.event.position) {
                copied.push(waiting.event.position);
                continue;
            }
            gone.push(waiting.at());
            let queue = (waiting.queue.recipient, waiting.queue.event.clone());
            lost.entry(queue).or_default().0 += 1;
        }
        if !gone.is_empty() || !copied.is_empty() {
            let what = format!("{} events that wait are not where the log should have them", gone.len() + copied.len());
            damage.push(Damage::new(directory.path.display().to_string(), None, what));
        }
        let unknown = salvaged.unknown().filter(|_| registry.is_some());
        damage.extend(unknown.map(|what| Damage::new(directory.path.display().to_string(), None, what)));
        for queue in salvaged.orphans.values() {
            lost.entry(queue.clone()).or_default().0 += 1;
        }
        for (queue, maybe) in &salvaged.perhaps {
            lost.entry(queue.clone()).or_default().1 += maybe;
        }
        let events = lost.into_iter().map(|((recipient, event), (waiting, perhaps))| LostEvents {
            recipient,
            event,
            waiting,
            perhaps,
        });
        let assessment = Assessment {
            damage,
            records: scan.gaps.iter().map(|gap| gap.records).sum(),
            events: events.collect(),
            settlements: salvaged.settlements,
            beginning: scan.lacks_checkpoint().is_some(),
            unfinished: unfinished(&scan).into_iter().collect(),
            kept: Vec::new(),
        };
        let unknown = salvaged.orphans.values().filter(|_| registry.is_some()).map(|(app, _)| *app).collect();
        Ok(Self { scan, assessment, apps: salvaged.apps(), gone, copied, unknown })
    }

    /// Replaces every damaged file by one that says what is missing in it.
    fn mend(&mut self, directory: &Directory) -> Result<()> {
        let damaged = self.scan.checkpoints.values().any(Option::is_none)
            || !self.scan.gaps.is_empty()
            || self.scan.segments.values().any(|segment| !segment.header)
            || self.assessment.beginning;
        if !damaged {
            return Ok(());
        }
        let quarantine = Quarantine::new(directory)?;
        for (&at, _) in self.scan.checkpoints.iter().filter(|(_, state)| state.is_none()) {
            quarantine.keep(&checkpoint_name(at))?;
            directory.remove(&directory.checkpoint(at))?;
        }
        if let Some(first) = self.scan.unexplained().filter(|_| self.scan.checkpoint().is_none()) {
            let gap = Gap::first(first - 1, &self.scan);
            self.write(directory, first - 1, &[gap], Bytes::new())?;
        }
        // From the last on: as long as it is not done, the first gap keeps engines out.
        for (&number, segment) in self.scan.segments.iter().rev() {
            // What was dropped and is in no checkpoint is lost, and an engine that starts has to know that this was seen.
            let gaps = self.scan.gaps.iter().chain(self.scan.needed()).filter(|gap| gap.segment == number);
            let gaps: Vec<_> = gaps.cloned().collect();
            if gaps.is_empty() && segment.header {
                continue;
            }
            let bytes = if segment.length.is_some() {
                quarantine.keep(&segment_name(number))?;
                let path = directory.segment(number);
                directory.read(&path).map_err(|cause| failed("read", &path, cause))?
            } else {
                Bytes::new()
            };
            self.write(directory, number, &gaps, bytes)?;
        }
        directory.sync().map_err(|cause| failed("sync", &directory.path, cause))?;
        self.assessment.kept.push(quarantine.path);
        Ok(())
    }

    /// Writes a segment anew, with a frame over each gap.
    fn write(&self, directory: &Directory, number: u32, gaps: &[Gap], bytes: Bytes) -> Result<()> {
        let id = &self.scan.id;
        let mut bytes = Vec::from(bytes);
        let end = gaps.last().map_or(HEADER as usize, |gap| gap.to as usize).max(bytes.len());
        bytes.resize(end, 0);
        let mut put = |from: usize, new: &[u8]| {
            if let Some(place) = bytes.get_mut(from..from + new.len()) {
                place.copy_from_slice(new);
            }
        };
        put(0, &format::header(id, number));
        for gap in gaps {
            put(gap.from as usize, &gap.frame(id));
        }
        let path = directory.segment(number);
        directory.create(&path, [&bytes[..]], None).map(drop).map_err(|cause| failed("write", &path, cause))
    }
}

impl Gap {
    /// What says that what was there is lost.
    pub(super) fn frame(&self, id: &LogId) -> Vec<u8> {
        let (at, length) = (position(self.segment, self.from), (self.to - self.from) as usize);
        let mut frame = Vec::with_capacity(length);
        Frame::write(&mut frame, id, at, (self.commit, self.epoch, LOST), |out| out.resize(length, 0));
        Frame::end_commit(&mut frame, 0, id, at);
        frame
    }

    /// Before everything that is there.
    fn first(segment: u32, scan: &LogScan) -> Self {
        let (from, to) = (HEADER, HEADER + FRAME as u32);
        Self { segment, from, to, commit: scan.first_commit.saturating_sub(1), epoch: 0, records: None }
    }
}

/// The folder for what is replaced.
struct Quarantine<'a> {
    directory: &'a Directory,
    path: PathBuf,
}

impl<'a> Quarantine<'a> {
    fn new(directory: &'a Directory) -> Result<Self> {
        let names = (1..).map(|n| directory.path.join(format!("damaged-{n}")));
        for path in names {
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { directory, path }),
                Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(failed("make", &path, cause)),
            }
        }
        Err(Error::new(ErrorKind::Internal, "there are more folders than numbers"))
    }

    /// Keeps a file under its name there. It stays where it is, too, until another takes its place.
    fn keep(&self, name: &str) -> Result<()> {
        let (from, to) = (self.directory.path.join(name), self.path.join(name));
        // A second name costs no space; not every file system has such.
        fs::hard_link(&from, &to)
            .or_else(|_| fs::copy(&from, &to).and_then(|_| fs::File::open(&to)?.sync_all()))
            .and_then(|()| self.directory.io.sync_directory(&Folder::open(&self.path)?))
            .map_err(|cause| failed("keep a copy of", &from, cause))
    }
}
