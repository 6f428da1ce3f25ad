//! Checkpoints of a partition: told a bit at a time, and saved elsewhere, while the broker goes on.

use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result};
use futures::FutureExt;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::maintenance::Maintenance;
use crate::model::Position;
use crate::partition::Partition;

/// How much of a checkpoint is told between two batches: events, moves and keys.
const SLICE: usize = 2_048;

/// A checkpoint that is being made.
#[derive(Debug)]
pub(super) struct Slices {
    at: Position,
    pieces: Vec<Bytes>,
    /// What was covered, and stored since, before it.
    before: (Position, u64),
    /// By how much it may be larger than the one before it.
    grown: u64,
}

/// A checkpoint that is being saved.
#[derive(Debug)]
pub(super) struct Saving {
    task: JoinHandle<Result<()>>,
    /// What was covered, and stored since, before it.
    before: (Position, u64),
}

impl Maintenance {
    /// Goes on with a checkpoint, or begins one if it is due. It is told a bit at a time, and saved elsewhere.
    pub(super) fn checkpoint(&mut self, partition: &mut Partition) {
        self.saved();
        if self.slices.is_some() {
            if !self.is_of_use() {
                self.drop_slices(partition);
            } else if self.slice(partition) {
                self.save();
            }
            return;
        }
        // A long backlog is not to be written over and over, unless space is wanted.
        let grown = self.weight >= self.due.max(self.growth * self.size)
            || self.short && self.weight >= self.step.min(self.due).max(self.size / 2);
        // In one of somebody who only looks what has expired by his clock would be missing.
        let due = grown && !self.retention.only_looks;
        if due && self.saves.next().is_none() && self.saving.is_none() && self.is_of_use() {
            self.begin_slices(partition);
        }
    }

    #[cfg(test)]
    pub(super) fn save_always(&mut self) {
        (self.due, self.growth) = (1, 0);
    }

    fn begin_slices(&mut self, partition: &mut Partition) {
        let before = (self.covered, self.weight);
        self.saves.begin();
        self.slices =
            Some(Slices { at: self.last, pieces: vec![partition.begin_checkpoint()], before, grown: self.grown });
        (self.covered, self.weight) = (self.last, 0);
    }

    /// Takes one more slice; whether it was the last.
    fn slice(&mut self, partition: &mut Partition) -> bool {
        let Some(slices) = &mut self.slices else { return false };
        match partition.go_on_with_checkpoint(SLICE) {
            Some(piece) => {
                slices.pieces.push(piece);
                false
            }
            None => true,
        }
    }

    /// Gives up a checkpoint that is being made.
    fn drop_slices(&mut self, partition: &mut Partition) {
        if let Some(Slices { before: (covered, weight), .. }) = self.slices.take() {
            partition.drop_checkpoint();
            (self.covered, self.weight) = (covered, self.weight.saturating_add(weight));
        }
    }

    /// Has the checkpoint saved of which the last slice is there. The broker goes on meanwhile.
    fn save(&mut self) {
        let Some(Slices { at, pieces, before, grown }) = self.slices.take() else { return };
        self.size = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.grown = self.grown.saturating_sub(grown);
        let log = self.records.log.clone();
        let task = tokio::spawn(async move { log.save_checkpoint(at, pieces).await });
        self.saving = Some(Saving { task, before });
    }

    /// Makes a checkpoint and waits for it. Everybody else waits too.
    pub(super) async fn save_at_once(&mut self, partition: &mut Partition) -> Result<()> {
        self.drop_slices(partition);
        if let Some(Saving { task, before }) = self.saving.take() {
            let done = joined(self.records.clone().wait_for(task).await);
            self.settle(done, before);
        }
        if self.last <= self.covered || !self.is_of_use() {
            return Ok(());
        }
        self.begin_slices(partition);
        while !self.slice(partition) {}
        self.save();
        let Some(Saving { task, before }) = self.saving.take() else { return Ok(()) };
        let done = joined(self.records.clone().wait_for(task).await);
        self.settle(done.clone(), before);
        done
    }

    /// Looks whether the checkpoint that is under way is there.
    fn saved(&mut self) {
        let done = self.saving.as_mut().and_then(|saving| (&mut saving.task).now_or_never());
        if let (Some(done), Some(saving)) = (done, self.saving.take_if(|saving| saving.task.is_finished())) {
            self.settle(joined(done), saving.before);
        }
    }

    /// What a checkpoint came to. One that could not be saved covers nothing, and is tried again soon.
    fn settle(&mut self, done: Result<()>, (covered, weight): (Position, u64)) {
        match done {
            Ok(()) => {
                self.saves.end(true);
                if self.short {
                    self.next_look = Instant::now();
                }
            }
            Err(error) => {
                tracing::warn!(error = %ensync_core::report(&error), "cannot save a checkpoint; it will be tried again");
                (self.covered, self.weight) = (covered, self.weight.saturating_add(weight));
                self.saves.end(false);
            }
        }
    }

    /// Saves a last checkpoint and closes the log.
    pub(super) async fn finish(&mut self, partition: &mut Partition) {
        if !self.retention.only_looks && self.save_at_once(partition).await.is_err() {
            tracing::warn!("without that checkpoint the next start takes longer");
        }
        self.records.log.close().await;
    }
}

fn joined(done: std::result::Result<Result<()>, JoinError>) -> Result<()> {
    done.unwrap_or_else(|cause| Err(Error::new(ErrorKind::Internal, "saving a checkpoint failed").with_source(cause)))
}
