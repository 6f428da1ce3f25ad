//! How what a partition's task decided comes into its log, and is done.

use std::time::Duration;

use ensync_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::pending::Pending;
use super::request::{Outcome, is_full, refuse};
use super::task::{LOG_PAUSE, Task};
use crate::model::{Need, Position};
use crate::state::{Change, Step};

/// How often is told that the log refuses.
const COMPLAINT: Duration = Duration::from_secs(10);

/// What of a batch is left, after the log refused more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stays {
    All,
    WithoutPublishes,
    /// What ends something, and so makes space.
    Ends,
    WithoutLog,
}

impl Stays {
    fn has(self, change: &Change) -> bool {
        let most = match self {
            Self::All => return true,
            Self::WithoutPublishes => Need::Keeps,
            Self::Ends => Need::Ends,
            Self::WithoutLog => return !change.durable,
        };
        !change.durable || change.record.need() <= most
    }
}

impl Task {
    /// Stores changes and applies them, all or none.
    pub(super) async fn store_all(&mut self, changes: Vec<Change>) -> Result<()> {
        let (mut pending, (done, outcome)) = (Pending::default(), oneshot::channel());
        pending.add(Ok(Step::Commit(changes)), done);
        self.commit(pending).await;
        let lost = || Error::new(ErrorKind::Internal, "a command was not answered");
        outcome.await.unwrap_or_else(|_| Err(lost())).map(drop)
    }

    /// Stores changes, applies them and answers. What the log refuses is not applied: the publishes with what belongs to them first, for a
    /// disk without space may still have some for the rest; then what makes none; and in the end all that needs the log.
    pub(super) async fn commit(&mut self, mut pending: Pending) {
        self.partition.batch_ends();
        if pending.changes.is_empty() {
            return;
        }
        let mut stored = self.append_with_space(&pending.changes).await;
        if stored.as_ref().is_err_and(is_full) && self.wanted_last.is_none_or(|last| last.elapsed() >= LOG_PAUSE) {
            self.wanted_last = Some(Instant::now());
            self.space_wanted.0.send_replace(());
            // It has looked itself.
            self.space_wanted.1.mark_unchanged();
        }
        let mut last = Stays::All;
        while let Err(error) = &stored {
            self.complain(error, pending.changes.len());
            last = match last {
                _ if self.records.log.failure().is_some() => Stays::WithoutLog,
                Stays::All => Stays::WithoutPublishes,
                Stays::WithoutPublishes if is_full(error) => Stays::Ends,
                _ => Stays::WithoutLog,
            };
            let before = pending.changes.len();
            let (rest, refused) = pending.split(|change| last.has(change));
            pending = rest;
            refuse(refused, error);
            if pending.changes.len() < before || last != Stays::Ends {
                stored = self.append_with_space(&pending.changes).await;
            }
        }
        // What the engine itself wants comes again, in a while.
        self.log_pause = (last > Stays::WithoutPublishes).then(|| Instant::now() + LOG_PAUSE);
        let Pending { changes, callers, .. } = pending;
        let positions = stored.unwrap_or_default();
        self.maintenance.stored(&positions, &changes);
        let (mut positions, mut callers) = (positions.into_iter(), callers.into_iter().peekable());
        for (index, change) in changes.iter().enumerate() {
            let position = if change.durable { positions.next() } else { None };
            let applied = self.partition.apply(position, &change.record);
            let Some((_, caller)) = callers.next_if(|(end, _)| *end == index + 1) else { continue };
            let answer = applied.answer();
            while let Some((_, other)) = callers.next_if(|(end, _)| *end == index + 1) {
                other.tell(answer.clone().map(Outcome::Reply));
            }
            caller.tell(answer.map(Outcome::Reply));
        }
    }

    /// Tells that the log refused, and whether it always will.
    fn complain(&mut self, error: &Error, changes: usize) {
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAINT) {
            self.complained = Some(Instant::now());
            tracing::error!(error = %ensync_core::report(error), changes, "the log refused a batch");
        }
        if let Some(failure) = self.records.log.failure() {
            self.log_pause = Some(Instant::now() + LOG_PAUSE);
            self.failed.send_if_modified(|known| known.replace(failure).is_none());
        }
    }

    /// Stores changes, if need be once there is space: nobody is refused for what can be dropped.
    async fn append_with_space(&mut self, changes: &[Change]) -> Result<Vec<Position>> {
        let stored = self.append(changes).await;
        if !stored.as_ref().is_err_and(is_full) {
            return stored;
        }
        let durable = changes.iter().filter(|change| change.durable);
        let need = durable.map(|change| change.record.need()).max().unwrap_or(Need::Frees);
        if !self.maintenance.make_space(&mut self.partition, self.time.wall(), need).await {
            return stored;
        }
        self.append(changes).await
    }

    async fn append(&self, changes: &[Change]) -> Result<Vec<Position>> {
        self.append_as(changes, false).await
    }

    async fn append_as(&self, changes: &[Change], copies: bool) -> Result<Vec<Position>> {
        let batch: Vec<_> =
            changes.iter().filter(|change| change.durable).map(|change| change.record.clone()).collect();
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let begun = std::time::Instant::now();
        let records = &self.records;
        let stored = if copies { records.append_copies(&batch).await } else { records.append(&batch).await };
        self.metrics.committed(Some(self.index), &batch, begun, stored.as_ref().err());
        stored
    }

    /// Stores and applies what the engine itself wants.
    pub(super) async fn store(&mut self, changes: Vec<Change>) -> Result<()> {
        self.store_as(changes, false).await
    }

    /// The same of what is stored once more so that more than it can be dropped.
    pub(super) async fn store_copies(&mut self, changes: Vec<Change>) -> Result<()> {
        self.store_as(changes, true).await
    }

    async fn store_as(&mut self, changes: Vec<Change>, copies: bool) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let stored = self.append_as(&changes, copies).await;
        let positions = stored.inspect_err(|error| self.complain(error, changes.len()))?;
        match copies {
            true => self.maintenance.stored_copies(&positions, &changes),
            false => self.maintenance.stored(&positions, &changes),
        }
        let mut positions = positions.into_iter();
        for change in &changes {
            let position = if change.durable { positions.next() } else { None };
            self.partition.apply(position, &change.record);
        }
        Ok(())
    }
}
