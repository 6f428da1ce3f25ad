//! What is said about files.

use std::fmt;

use super::scan::{Gap, LogScan};
use crate::log::disk::format::{HEADER, split};

/// A file of a data directory, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Its length, in bytes, and so how much of the disk it takes.
    pub bytes: u64,
    /// What is in it.
    pub contents: Contents,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contents {
    /// A part of the log.
    Segment {
        /// Commits that end in it.
        commits: u64,
        /// Records that can be read.
        records: u64,
    },
    /// A checkpoint.
    Checkpoint {
        /// Unsettled events in it, dead letters included; `None` if it cannot be read.
        unsettled: Option<u64>,
    },
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment { commits: 0, records: 0 } => f.write_str("segment, not used yet"),
            Self::Segment { commits, records } => write!(f, "segment, {commits} commits, {records} records"),
            Self::Checkpoint { unsettled: Some(events) } => write!(f, "checkpoint, {events} unsettled events"),
            Self::Checkpoint { unsettled: None } => f.write_str("checkpoint, cannot be read"),
        }
    }
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The name of the file.
    pub file: String,
    /// From which byte to which, if it is a part of it.
    pub range: Option<(u64, u64)>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.range {
            Some((from, to)) => write!(f, "{}, bytes {from} to {to}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

impl Damage {
    pub(super) fn new(file: String, range: Option<(u64, u64)>, what: impl Into<String>) -> Self {
        Self { file, range, what: what.into() }
    }
}

pub(super) fn segment_name(number: u32) -> String {
    format!("{number:010}.log")
}

pub(super) fn checkpoint_name(at: crate::model::Position) -> String {
    format!("{:020}.checkpoint", at.as_u64())
}

/// What is wrong with the files, one by one.
pub(super) fn damage(scan: &LogScan) -> Vec<Damage> {
    let mut found = Vec::new();
    for (&number, segment) in &scan.segments {
        let name = segment_name(number);
        match segment.length {
            None => found.push(Damage::new(name, None, "is missing")),
            Some(_) if !segment.header => {
                let range = Some((0, HEADER.into()));
                found.push(Damage::new(name, range, "the header is damaged, or that of another log"));
            }
            Some(_) => {}
        }
    }
    let there = |gap: &&Gap| scan.segments.get(&gap.segment).is_some_and(|segment| segment.length.is_some());
    for gap in scan.gaps.iter().filter(there) {
        let range = Some((gap.from.into(), gap.to.into()));
        let what = match gap.records {
            Some(1) => "1 record cannot be read".to_owned(),
            Some(records) => format!("{records} records cannot be read"),
            None => "cannot be read; how many records were there cannot be told".to_owned(),
        };
        found.push(Damage::new(segment_name(gap.segment), range, what));
    }
    for (at, _) in scan.checkpoints.iter().filter(|(_, state)| state.is_none()) {
        found.push(Damage::new(checkpoint_name(*at), None, "the checkpoint is damaged"));
    }
    if let Some(number) = scan.lacks_checkpoint() {
        let what = match (scan.checkpoint(), scan.unexplained()) {
            (Some(_), _) => "what was dropped here is in no checkpoint that can be read, and is not there any more",
            (None, Some(_)) => "no checkpoint can be read, and the log before this is not there any more",
            (None, None) => "no checkpoint can be read, and what was dropped here is not there any more",
        };
        found.push(Damage::new(segment_name(number), None, what));
    }
    found
}

/// The start and end of what was not finished, with its file.
pub(super) fn unfinished(scan: &LogScan) -> Option<(String, u64)> {
    let (from, to) = scan.unfinished?;
    Some((segment_name(split(from).0), to.as_u64() - from.as_u64()))
}
