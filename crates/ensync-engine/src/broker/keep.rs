//! What a log on a disk needs beside appends: checkpoints, so that a start is quick, and retention, so that it does not grow for
//! ever.

use std::sync::Arc;

use ensync_core::{Error, ErrorKind, Result, Timestamp};
use futures::StreamExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Retention;
use super::records::Records;
use crate::model::codec::snapshot;
use crate::model::{Position, Record};
use crate::state::{Change, Settings, State};

/// What reading a record back costs beside its bytes, in bytes.
const RECORD: u64 = 512;
/// Retention is also looked at when this part of the allowed size was written: a fast engine would write many times what it may
/// keep before its time comes.
const PART: u64 = 16;
/// The most events that are stored once more between two batches, and the bytes after which no more are taken in.
const COPIES: (usize, u64) = (256, 4 << 20);

/// Looks after a log that keeps checkpoints; does nothing for others.
#[derive(Debug)]
pub(super) struct Keeper {
    records: Arc<Records>,
    retention: Retention,
    /// The bytes after which a checkpoint is due.
    due: u64,
    /// The last record that was applied, and the last that a checkpoint covers.
    last: Position,
    covered: Position,
    /// What was stored since the last checkpoint, in bytes.
    weight: u64,
    /// What the last checkpoint took.
    size: u64,
    saving: Option<JoinHandle<()>>,
    next_sweep: Instant,
    /// What was stored since retention was looked at, in bytes.
    unswept: u64,
    sweeping: Option<Sweep>,
}

/// A part of the log that is about to be dropped.
#[derive(Debug)]
struct Sweep {
    before: Position,
    /// What has to be stored once more, the last first.
    left: Vec<(Position, u32)>,
}

/// What a log holds, as a state.
pub(super) async fn recover(
    records: &Arc<Records>,
    settings: Settings,
    (retention, due): (Retention, u64),
    now: Timestamp,
) -> Result<(State, Keeper)> {
    let log = &records.log;
    let (mut state, covered, size) = match log.load_checkpoint().await? {
        None => (State::new(settings), Position::START, 0),
        Some((at, bytes)) => {
            let size = bytes.len() as u64;
            let durable = snapshot::decode(bytes).map_err(|_| {
                Error::new(
                    ErrorKind::InvalidInput,
                    "the log's checkpoint is none of this engine; use the one that wrote it",
                )
            })?;
            (State::restore(settings, durable), at, size)
        }
    };
    let (mut last, mut weight) = (covered, 0);
    let mut scan = log.scan(covered);
    while let Some(read) = scan.next().await {
        let (position, bytes) = read.map_err(|error| error.context("read the log back"))?;
        if position > covered {
            let record = records.decode(position, bytes)?;
            state.apply(Some(position), &record);
            last = position;
            weight += weigh(&record);
        }
    }
    state.recovered(now);
    let (saving, sweeping, next_sweep) = (None, None, Instant::now() + retention.sweep_every);
    let records = records.clone();
    Ok((
        state,
        Keeper { records, retention, due, last, covered, weight, size, saving, next_sweep, unswept: 0, sweeping },
    ))
}

impl Keeper {
    /// Takes note of what was stored, and is applied next.
    pub(super) fn stored(&mut self, positions: &[Position], changes: &[Change]) {
        let durable = changes.iter().filter(|change| change.durable);
        let weight = durable.map(|change| weigh(&change.record)).sum::<u64>();
        (self.weight, self.unswept) = (self.weight + weight, self.unswept + weight);
        self.last = positions.last().copied().unwrap_or(self.last);
    }

    /// Saves a checkpoint if one is due. The broker goes on meanwhile.
    pub(super) fn checkpoint(&mut self, state: &State) {
        let saving = self.saving.as_ref().is_some_and(|saving| !saving.is_finished());
        // A long backlog is not to be written over and over.
        let due = self.weight >= self.due.max(4 * self.size);
        if !due || saving || !self.records.log.keeps_checkpoints() || self.records.log.failure().is_some() {
            return;
        }
        let (at, bytes, log) = (self.last, snapshot::encode(&state.snapshot()), self.records.log.clone());
        (self.covered, self.weight, self.size) = (at, 0, bytes.len() as u64);
        self.saving = Some(tokio::spawn(async move {
            if let Err(error) = log.save_checkpoint(at, bytes).await {
                tracing::warn!(error = %ensync_core::report(&error), "cannot save a checkpoint; the next start takes longer");
            }
        }));
    }

    /// Whether [`sweep`](Self::sweep) has something to do now.
    pub(super) fn has_work(&self) -> bool {
        self.sweeping.is_some()
    }

    /// Drops what need not be kept, once nothing in it is needed; until then, gives what has to be stored again before that.
    pub(super) async fn sweep(&mut self, state: &State, now: Timestamp) -> Vec<Arc<Record>> {
        let due = self.next_sweep <= Instant::now() || self.unswept >= (self.retention.max_bytes / PART).max(1);
        if self.sweeping.is_none() && due && self.records.log.keeps_checkpoints() {
            (self.next_sweep, self.unswept) = (Instant::now() + self.retention.sweep_every, 0);
            let age = u64::try_from(self.retention.max_age.as_millis()).unwrap_or(u64::MAX);
            let before = Timestamp::from_millis(now.as_millis().saturating_sub(age));
            match self.records.log.expendable(before, self.retention.max_bytes).await {
                Ok(steps) => self.sweeping = plan(&steps, state),
                Err(error) => self.give_up(&error),
            }
        }
        let Some(sweep) = &mut self.sweeping else { return Vec::new() };
        let (mut copies, mut bytes) = (Vec::new(), 0);
        while copies.len() < COPIES.0
            && bytes < COPIES.1
            && let Some((at, size)) = sweep.left.pop()
        {
            bytes += u64::from(size);
            match self.records.read_at(at).await {
                Ok(Some(record)) => copies.push(record),
                Ok(None) => tracing::error!(%at, "the log does not have an event that waits; it cannot be kept"),
                Err(error) => {
                    self.give_up(&error);
                    return Vec::new();
                }
            }
        }
        if !copies.is_empty() || !sweep.left.is_empty() {
            return copies;
        }
        let before = sweep.before;
        self.sweeping = None;
        match self.records.log.drop_before(before).await {
            Ok(()) => tracing::info!(%before, "dropped a part of the log"),
            Err(error) => self.give_up(&error),
        }
        Vec::new()
    }

    /// Leaves the log as it is, for now.
    pub(super) fn give_up(&mut self, error: &Error) {
        tracing::warn!(error = %ensync_core::report(error), "retention failed; it will be tried again");
        self.sweeping = None;
    }

    /// Saves a last checkpoint and closes the log.
    pub(super) async fn finish(&mut self, state: &State) {
        if let Some(saving) = self.saving.take() {
            _ = saving.await;
        }
        if self.last > self.covered && self.records.log.keeps_checkpoints() && self.records.log.failure().is_none() {
            let saved = self.records.log.save_checkpoint(self.last, snapshot::encode(&state.snapshot())).await;
            if let Err(error) = saved {
                tracing::warn!(error = %ensync_core::report(&error), "cannot save a checkpoint; the next start takes longer");
            }
        }
        self.records.log.close().await;
    }
}

/// The steps of which less than half waits still, up to the first of which more does.
fn plan(steps: &[(Position, u64)], state: &State) -> Option<Sweep> {
    let (end, _) = *steps.last()?;
    let mut waiting = state.waiting_before(end).into_iter().peekable();
    let (mut left, mut before) = (Vec::new(), None);
    for (step, bytes) in steps {
        let (mut live, kept) = (0, left.len());
        while let Some((at, size)) = waiting.next_if(|(at, _)| at < step) {
            live += u64::from(size) + RECORD;
            left.push((at, size));
        }
        if live > bytes / 2 {
            left.truncate(kept);
            break;
        }
        before = Some(*step);
    }
    left.reverse();
    before.map(|before| Sweep { before, left })
}

fn weigh(record: &Record) -> u64 {
    match record {
        Record::Publish(publish) => RECORD + publish.size() as u64,
        _ => RECORD,
    }
}
