//! The log, as records.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result};

use super::recent::Recent;
use crate::log::Log;
use crate::model::codec::record::decode;
use crate::model::{Encoded, Need, Position, Record};
use crate::seldom::Seldom;
use crate::state::{Outgoing, Source};

/// A log, and the events that were stored last: most are delivered at once, and need not be read back.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) log: Arc<dyn Log>,
    recent: Mutex<Recent>,
    /// Since when the broker waits for a checkpoint, while it does.
    waits: Mutex<Option<Instant>>,
    /// Events that the log does not have where it should, until the broker asks: at most as many as there are leases.
    lost: Mutex<Vec<Outgoing>>,
    /// Tells of these.
    damage: Seldom,
}

impl Records {
    /// Keeps so many bytes of what was stored last.
    pub(super) fn new(log: Arc<dyn Log>, recent_bytes: usize) -> Self {
        let (recent, damage) = (Mutex::new(Recent::new(recent_bytes)), Seldom::new());
        Self { log, recent, waits: Mutex::default(), lost: Mutex::default(), damage }
    }

    /// Waits for something that is done at the disk, and that the log itself takes for nothing that the broker waits for.
    pub(super) async fn wait_for<T>(&self, done: impl Future<Output = T>) -> T {
        *self.waits() = Some(Instant::now());
        let done = done.await;
        *self.waits() = None;
        done
    }

    /// For how long the disk has not answered, once that is long.
    pub(super) fn hangs(&self) -> Option<Duration> {
        let waits = self.waits().map(|since| since.elapsed()).filter(|waits| *waits >= super::UNANSWERED);
        self.log.hangs().max(waits)
    }

    fn waits(&self) -> MutexGuard<'_, Option<Instant>> {
        // No code that holds the lock can panic half-way through a change.
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores records: all or none.
    pub(super) async fn append(&self, batch: &[Arc<Record>]) -> Result<Vec<Position>> {
        self.append_all(batch, batch.iter().map(|record| Encoded::from(&**record)).collect()).await
    }

    /// The same of what is stored once more so that more than it can be dropped.
    pub(super) async fn append_copies(&self, batch: &[Arc<Record>]) -> Result<Vec<Position>> {
        let encoded = batch.iter().map(|record| Encoded::from(&**record).with_need(Need::Frees));
        self.append_all(batch, encoded.collect()).await
    }

    async fn append_all(&self, batch: &[Arc<Record>], encoded: Vec<Encoded>) -> Result<Vec<Position>> {
        let positions = self.log.append(encoded).await?;
        if positions.len() != batch.len() {
            let message = format!("the log gave {} positions for {} records", positions.len(), batch.len());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        let mut recent = self.recent();
        for (at, record) in positions.iter().zip(batch) {
            recent.insert(*at, record);
        }
        Ok(positions)
    }

    /// Keeps what the log does not have where it was looked for, until the broker asks.
    pub(super) fn lose(&self, outgoing: &Outgoing) {
        self.lost().push(outgoing.clone());
    }

    /// Tells that an event is not where the log should have it.
    pub(super) fn tell_damage(&self, outgoing: &Outgoing) {
        let Some(times) = self.damage.due() else { return };
        let place = match outgoing.source() {
            Source::Log(at) => self.log.place(*at),
            Source::Memory(_) => "memory".to_owned(),
        };
        tracing::error!(
            event = %outgoing.id,
            place,
            times,
            "the log is damaged: an event that waits cannot be read there, and becomes a dead letter; stop the engine, and let \
             `ensync store verify` look for more, or restore the data directory from a backup"
        );
    }

    /// What was lost since this was asked last.
    pub(super) fn take_lost(&self) -> Vec<Outgoing> {
        std::mem::take(&mut self.lost())
    }

    fn lost(&self) -> MutexGuard<'_, Vec<Outgoing>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record that needs no read.
    pub(super) fn at_hand(&self, source: &Source) -> Option<Arc<Record>> {
        match source {
            Source::Log(position) => self.recent().find(*position),
            Source::Memory(record) => Some(record.clone()),
        }
    }

    pub(super) async fn read(&self, source: &Source) -> Result<Option<Arc<Record>>> {
        match source {
            Source::Log(position) => self.read_at(*position).await,
            Source::Memory(record) => Ok(Some(record.clone())),
        }
    }

    pub(super) async fn read_at(&self, at: Position) -> Result<Option<Arc<Record>>> {
        let recent = self.recent().find(at);
        if recent.is_some() {
            return Ok(recent);
        }
        let Some(bytes) = self.log.read(at).await? else { return Ok(None) };
        self.decode(at, bytes).map(Some)
    }

    /// The record of bytes that were read at a position.
    pub(super) fn decode(&self, at: Position, bytes: Bytes) -> Result<Arc<Record>> {
        decode(bytes).map(Arc::new).map_err(|_| {
            let place = self.log.place(at);
            let message = format!(
                "the record at {place} has no meaning here, though it is whole: a later engine wrote it; use that, or a later one"
            );
            Error::new(ErrorKind::InvalidInput, message)
        })
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // No code that holds the lock can panic half-way through a change.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
