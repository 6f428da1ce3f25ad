//! The files of a data directory, looked at from outside. Their format is in the engine's documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const SEGMENT_HEADER: usize = 64;
const FRAME_HEADER: usize = 24;

/// How far the logs of the partitions have come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look(BTreeMap<PathBuf, LogLook>);

/// How far one has.
#[derive(Clone, Debug, Default)]
struct LogLook {
    first: u64,
    last: u64,
    checkpoints: BTreeSet<PathBuf>,
}

/// What an engine did beside storing, at least.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) rolls: u64,
    pub(crate) drops: u64,
    pub(crate) checkpoints: usize,
    /// The logs that were gone on with in another file.
    pub(crate) logs: BTreeSet<PathBuf>,
}

/// Where the logs of the partitions are, in their order.
pub(crate) fn partitions(data: &Path) -> Vec<PathBuf> {
    (0..).map(|n| data.join(format!("partition-{n}"))).take_while(|path| path.is_dir()).collect()
}

impl Look {
    pub(crate) fn at(data: &Path) -> Self {
        Self(partitions(data).into_iter().map(|log| (log.clone(), LogLook::at(&log))).collect())
    }
}

impl LogLook {
    fn at(data: &Path) -> Self {
        let paths: BTreeSet<_> = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
        let ends_in = |end: &'static str| move |path: &&PathBuf| path.extension().is_some_and(|found| found == end);
        let number = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let mut segments = paths.iter().filter(ends_in("log"));
        Self {
            last: segments.clone().filter(|path| is_used(path)).map(number).max().unwrap_or(0),
            first: segments.next().map_or(0, number),
            checkpoints: paths.iter().filter(ends_in("checkpoint")).cloned().collect(),
        }
    }
}

impl Work {
    pub(crate) fn add(&mut self, before: &Look, after: &Look) {
        for (log, after) in &after.0 {
            let before = before.0.get(log).cloned().unwrap_or_default();
            self.rolls += after.last.saturating_sub(before.last);
            self.logs.extend((after.last > before.last).then(|| log.clone()));
            self.drops += after.first.saturating_sub(before.first);
            self.checkpoints += after.checkpoints.difference(&before.checkpoints).count();
        }
    }
}

/// Not made ahead only. It may also be gone by now.
fn is_used(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.iter().skip(SEGMENT_HEADER).any(|byte| *byte != 0))
}

fn last_segment(data: &Path) -> PathBuf {
    data.join(format!("{:010}.log", LogLook::at(data).last))
}

/// Where frames begin, and last where they end.
pub(crate) fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![SEGMENT_HEADER];
    loop {
        let at = *ends.last().unwrap();
        let Some(header) = bytes.get(at..at + FRAME_HEADER) else { return ends };
        let body = u32::from_le_bytes(header[..4].try_into().unwrap()) as usize;
        let next = (at + FRAME_HEADER + body).next_multiple_of(8);
        if header[22..] != [0xe5, 0xc1] || next > bytes.len() {
            return ends;
        }
        ends.push(next);
    }
}

/// Leaves what a crash of the machine may leave of a write that nobody was answered: the beginning of a commit. Whether there was
/// room for it.
pub(crate) fn tear(data: &Path, random: &mut fastrand::Rng) -> bool {
    let logs = partitions(data);
    let path = last_segment(&logs[random.usize(..logs.len())]);
    let mut bytes = fs::read(&path).unwrap();
    let end = *frames(&bytes).last().unwrap();
    let most = (bytes.len() - end).min(end - SEGMENT_HEADER).min(500);
    if most < FRAME_HEADER || bytes[end..].iter().any(|byte| *byte != 0) {
        return false;
    }
    // Half a frame as the engine writes them, which begins as one does.
    let torn = random.usize(1..most);
    bytes.copy_within(SEGMENT_HEADER..SEGMENT_HEADER + torn, end);
    fs::write(path, bytes).unwrap();
    true
}
