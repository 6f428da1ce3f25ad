//! What a log on a disk needs beside appends: checkpoints, so that a start is quick, and space, so that it does not grow for ever.
//!
//! Space is reclaimed by need, a part of the log at a time: parts in which nothing waits first, then those of which so little waits that
//! it can be stored once more. What needs no space and is not too old stays, for replays.

mod space;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use ensync_core::{Error, EventId, Timestamp};
use tokio::time::Instant;

use super::Retention;
use super::backoff::{AGAIN, Backoff};
use super::copying::Copying;
use super::reclaim::{DiskShares, RECORD, Reclaim, Stuck};
use super::records::Records;
use super::saving::{Saving, Slices};
use crate::log::LogPart;
use crate::model::{Position, Record};
use crate::partition::{LetterFilter, Partition};
use crate::state::Change;
use space::SpaceLook;

/// The most events that are stored once more between two batches, and the bytes after which no more are taken in.
const COPIES: (usize, u64) = (256, 4 << 20);
/// The most parts that are dropped between two batches.
const DROPS: usize = 4;
/// How many times the bytes of the last checkpoint are stored before the next one.
const GROWTH: u64 = 4;
/// What an event takes in a checkpoint at most, a publish under an idempotency key, what an event waits for, and all the rest.
const EVENT: u64 = 64;
const KEY: u64 = 64;
const WAITS: u64 = 16;
const REST: u64 = 16 << 10;
/// How many dead letters are looked at between two batches.
const LETTERS: usize = 1_024;
/// How many events are looked at between two batches for the space they take.
const SURVEY: usize = 8_192;

/// What is to be kept of a log, and when a checkpoint of it is due.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) retention: Retention,
    /// The bytes after which a checkpoint is due.
    pub(super) due: u64,
    /// Shared by all that may be on one disk.
    pub(super) disk: Arc<DiskShares>,
}

/// Looks after a log that keeps checkpoints; does nothing for others.
#[derive(Debug)]
pub(super) struct Maintenance {
    pub(super) records: Arc<Records>,
    /// Which partition it is of.
    partition: u32,
    pub(super) retention: Retention,
    disk: Arc<DiskShares>,
    /// The bytes after which a checkpoint is due, and how many times its own size these are at least.
    pub(super) due: u64,
    pub(super) growth: u64,
    /// The last record that was applied, and the last that a checkpoint covers.
    pub(super) last: Position,
    pub(super) covered: Position,
    /// What was stored since the last checkpoint, in bytes.
    pub(super) weight: u64,
    /// What the last checkpoint took, and by how much the next is larger at most.
    pub(super) size: u64,
    pub(super) grown: u64,
    /// A checkpoint of which the state tells some between two batches.
    pub(super) slices: Option<Slices>,
    pub(super) saving: Option<Saving>,
    /// After a checkpoint that could not be saved.
    pub(super) saves: Backoff,
    pub(super) next_look: Instant,
    /// What was stored since space was looked at, and after how much that is done again, in bytes.
    pub(super) unseen: u64,
    pub(super) step: u64,
    /// What is found out about what may be dropped.
    look: Option<SpaceLook>,
    /// What is about to be dropped.
    pub(super) reclaiming: VecDeque<Reclaim>,
    /// What of it is stored once more next.
    pub(super) copying: Copying,
    /// What was dropped, until somebody asks.
    pub(super) dropped: Vec<LogPart>,
    /// Where the log does not have what waits there, the same.
    missing: Vec<Position>,
    /// Whether there was too little to reclaim: a checkpoint makes more of it.
    pub(super) short: bool,
    pub(super) stuck: Stuck,
    /// Whether the look after the next drops is to come soon: they may not be all that is lacking.
    again: bool,
    /// After there was no space to be had at all, for events and for all else, and after there was none for somebody else.
    fruitless: [Backoff; 2],
    asked: Backoff,
    /// Where in the dead letters the search for old ones is, while it is under way.
    pub(super) letters: Option<Option<EventId>>,
}

/// How far a log was read back.
#[derive(Debug)]
pub(super) struct Read {
    /// The last record, and the last that a checkpoint covers.
    pub(super) last: Position,
    pub(super) covered: Position,
    /// What is between them, what that checkpoint took, and by how much the next is larger at most, in bytes.
    pub(super) weight: u64,
    pub(super) size: u64,
    pub(super) grown: u64,
}

impl Maintenance {
    /// Goes on where a log was read back to.
    pub(super) fn new(records: Arc<Records>, partition: u32, kept: Kept, read: Read) -> Self {
        let (Kept { retention, due, disk }, Read { last, covered, weight, size, grown }) = (kept, read);
        Self {
            records,
            partition,
            disk,
            due,
            growth: GROWTH,
            last,
            covered,
            weight,
            size,
            grown,
            slices: None,
            saving: None,
            saves: Backoff::default(),
            // What was stored by the run before may lack space now.
            next_look: Instant::now(),
            unseen: 0,
            step: u64::MAX,
            look: None,
            reclaiming: VecDeque::new(),
            copying: Copying::Nothing,
            dropped: Vec::new(),
            missing: Vec::new(),
            short: false,
            stuck: Stuck::new(retention.sweep_every.max(AGAIN)),
            fruitless: Default::default(),
            again: false,
            asked: Backoff::default(),
            letters: None,
            retention,
        }
    }

    /// Takes note of what was stored, and is applied next.
    pub(super) fn stored(&mut self, positions: &[Position], changes: &[Change]) {
        self.grown += changes.iter().filter(|change| change.durable).map(|change| grows(&change.record)).sum::<u64>();
        self.stored_copies(positions, changes);
    }

    /// The same of what was stored once more.
    pub(super) fn stored_copies(&mut self, positions: &[Position], changes: &[Change]) {
        let durable = changes.iter().filter(|change| change.durable);
        let weight = durable.map(|change| weigh(&change.record)).sum::<u64>();
        (self.weight, self.unseen) = (self.weight + weight, self.unseen + weight);
        self.expect_checkpoint();
        self.last = positions.last().copied().unwrap_or(self.last);
    }

    /// What the next checkpoint takes at most, but for what is always the same.
    fn next_size(&self) -> u64 {
        self.size + self.grown
    }

    /// Has the log leave room for the next checkpoint.
    pub(super) fn expect_checkpoint(&self) {
        self.records.log.expect_checkpoint(self.next_size() + REST);
    }

    pub(super) fn is_of_use(&self) -> bool {
        self.records.log.keeps_checkpoints() && self.records.log.failure().is_none()
    }

    /// Has space be looked at at once: somebody else on the same disk has none. As long as nothing comes of that, ever more seldom: a look
    /// goes through all that waits.
    pub(super) fn look_soon(&mut self) {
        if self.asked.may_begin() {
            self.asked.begin();
            self.next_look = Instant::now();
        }
    }

    /// Whether [`checkpoint`](Self::checkpoint), [`sweep`](Self::sweep) or [`letters`](Self::letters) has something to do now.
    pub(super) fn has_work(&self) -> bool {
        let reads = matches!(self.copying, Copying::Reading(_));
        !self.reclaiming.is_empty() && !reads || self.letters.is_some() || self.slices.is_some() || self.look.is_some()
    }

    /// When there is something to do, though nothing happens.
    pub(super) fn next(&self) -> Instant {
        if matches!(self.copying, Copying::Reading(_)) {
            // Its end is waited for; until then there is no use in a look.
            return Instant::now() + AGAIN;
        }
        self.saves.next().map_or(self.next_look, |again| again.min(self.next_look))
    }

    /// Drops what need not be kept, once nothing in it is needed; until then, gives what has to be stored again before that.
    pub(super) async fn sweep(&mut self, partition: &Partition, now: Timestamp) -> Vec<Arc<Record>> {
        let due = self.next_look <= Instant::now() || self.unseen >= self.step;
        if due && self.reclaiming.is_empty() && self.look.is_none() {
            (self.next_look, self.unseen) = (Instant::now() + self.retention.sweep_every, 0);
            self.letters.get_or_insert_default();
            if self.is_of_use() {
                self.look = self.look(now, 0).await;
            }
            if self.look.is_none() {
                self.asked.end_begun(false);
            }
        }
        if self.look.as_mut().is_some_and(|look| look.goes_on(partition, SURVEY)) {
            self.looked();
        }
        for _ in 0..DROPS {
            match std::mem::take(&mut self.copying) {
                Copying::Reading(reading) => {
                    self.copying = Copying::Reading(reading);
                    return Vec::new();
                }
                Copying::Read(Ok(mut copies)) => {
                    self.missing.append(&mut copies.missing);
                    // What is missing has to be stored as such before its place is dropped.
                    if !copies.records.is_empty() || !self.missing.is_empty() {
                        return copies.records;
                    }
                }
                Copying::Read(Err(error)) => {
                    if let Some(Reclaim { part, .. }) = self.reclaiming.pop_front() {
                        self.stuck.add(&part, &error);
                    }
                    return Vec::new();
                }
                Copying::Nothing => {}
            }
            let Some(next) = self.reclaiming.front_mut() else { return Vec::new() };
            let copies = next.next_copies(COPIES);
            if copies.is_empty() {
                let part = next.part;
                self.reclaiming.pop_front();
                if self.drop_part(&part).await && self.reclaiming.is_empty() && std::mem::take(&mut self.again) {
                    self.next_look = self.next_look.min(Instant::now() + AGAIN);
                }
            } else {
                self.copying = Copying::begin(self.records.clone(), copies);
            }
        }
        Vec::new()
    }

    /// Waits until what is being read, to be stored once more, is there. Never returns if there is nothing.
    pub(super) async fn copied(&mut self) {
        self.copying.read().await;
    }

    /// Leaves the log as it is, for now.
    pub(super) fn give_up(&mut self, error: &Error) {
        tracing::warn!(error = %ensync_core::report(error), "cannot reclaim space of the log; it will be tried again");
        (self.reclaiming, self.copying, self.look) = (VecDeque::new(), Copying::Nothing, None);
        self.next_look = Instant::now() + AGAIN;
        self.asked.end_begun(false);
    }

    async fn drop_part(&mut self, part: &LogPart) -> bool {
        match self.records.log.drop_range(part.from, part.to).await {
            Ok(()) => {
                self.dropped.push(*part);
                tracing::info!(from = %part.from, to = %part.to, bytes = part.bytes, "dropped a part of the log");
                true
            }
            Err(error) => {
                self.stuck.add(part, &error);
                false
            }
        }
    }

    /// The parts of the log that were dropped since this was asked last.
    pub(super) fn take_dropped(&mut self) -> Vec<LogPart> {
        std::mem::take(&mut self.dropped)
    }

    /// Where the log was found not to have what waits there, since this was asked last.
    pub(super) fn take_missing(&mut self) -> BTreeSet<Position> {
        std::mem::take(&mut self.missing).into_iter().collect()
    }

    /// Which dead letters are too old, or too many; some at a time.
    pub(super) fn letters(&mut self, partition: &Partition, now: Timestamp) -> Vec<EventId> {
        let Some(after) = self.letters.take() else { return Vec::new() };
        // Queues that have none are some work, too.
        let (page, next) = partition.letters(&LetterFilter::default(), after.as_ref(), (LETTERS, 2 * LETTERS));
        self.letters = next.map(Some);
        let age = self.retention.dead_letter_age;
        let (mut surplus, mut queue) = (0, None);
        let mut gone = Vec::new();
        for letter in page {
            let this = (letter.recipient, letter.event);
            if queue.as_ref() != Some(&this) {
                let dead = partition.queue(&this.0, &this.1).map_or(0, |stats| stats.dead);
                surplus = dead.saturating_sub(self.retention.dead_letters_per_queue);
                queue = Some(this);
            }
            if surplus > 0 || now.since(letter.at) > age {
                surplus = surplus.saturating_sub(1);
                gone.push(letter.id);
            }
        }
        gone
    }

    /// Ends the search for old dead letters, until the next sweep.
    pub(super) fn leave_letters(&mut self) {
        self.letters = None;
    }
}

/// By how much a record makes the next checkpoint larger, at most.
pub(super) fn grows(record: &Record) -> u64 {
    match record {
        Record::Publish(publish) => EVENT + if publish.idempotency_key.is_some() { KEY } else { 0 },
        Record::Discard { reason, .. } => WAITS + reason.len() as u64,
        Record::Defer { .. } => WAITS,
        // What it adds is less than what goes with the event.
        _ => 0,
    }
}

/// What it takes to read a record back, in bytes.
pub(super) fn weigh(record: &Record) -> u64 {
    match record {
        Record::Publish(publish) => RECORD + publish.size() as u64,
        _ => RECORD,
    }
}

#[cfg(test)]
mod tests;
