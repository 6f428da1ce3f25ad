//! What is done to the file in one transaction: two tables, and their bounds.

use std::collections::HashSet;

use ensync_core::{AppId, Error, ErrorKind, Result, Timestamp};
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

use super::clock::{Steps, Time};
use super::entry::Entry;
use super::lanes::{Lane, Lanes, Move};
use super::outcome::{OutboxOutcome, QueuedEvent, QueuedId};
use super::store::{Count, failed};
use super::{OutboxOptions, WhenFull};

const WAITING: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("waiting");
const PARKED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("parked");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The version of what the tables hold.
const FORMAT: u64 = 3;
/// In the table of single numbers: what the outbox's clock said last, and by how much the machine's was set.
const TIME: &str = "time";
const STEPS: &str = "steps";
/// There too: which app the engine said last that the client is, its id in four parts.
const APP: [&str; 4] = ["app 0", "app 1", "app 2", "app 3"];

/// How many bytes are taken out at a time, unless one event alone has more.
const TAKEN: usize = 4 * 1024 * 1024;

/// How many events of a lane are taken at a time.
const TURN: usize = 32;

/// A lane, and its oldest events.
pub(super) type Turn = (Lane, Vec<(QueuedId, Entry)>);

/// One transaction.
pub(super) struct Batch<'a> {
    waiting: Table<'a, u64, &'static [u8]>,
    parked: Table<'a, u64, &'static [u8]>,
    meta: Table<'a, &'static str, u64>,
    options: OutboxOptions,
    count: Count,
    /// By which events age; not known before the file says how it went on.
    time: Option<Time>,
    /// As they were before this transaction.
    lanes: &'a Lanes,
    changed: bool,
    moves: &'a mut Vec<Move>,
    outcomes: &'a mut Vec<OutboxOutcome>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        transaction: &'a WriteTransaction,
        (options, time): (OutboxOptions, Option<Time>),
        count: Count,
        lanes: &'a Lanes,
        (moves, outcomes): (&'a mut Vec<Move>, &'a mut Vec<OutboxOutcome>),
    ) -> Result<Self> {
        Ok(Self {
            waiting: transaction.open_table(WAITING).map_err(failed)?,
            parked: transaction.open_table(PARKED).map_err(failed)?,
            meta: transaction.open_table(META).map_err(failed)?,
            options,
            count,
            time,
            lanes,
            changed: false,
            moves,
            outcomes,
        })
    }

    /// What the tables hold now, and whether that is news.
    pub(super) fn end(mut self) -> Result<(Count, bool)> {
        let steps = self.count.clock.map_or_else(Steps::default, |(_, steps)| steps);
        // That the clock was set must not be forgotten with this process. To open the file again writes that as well, so it does not count
        // as a change: it must not pass for the transaction that is looked for.
        let was_set = self.time.is_some_and(|time| time.steps != steps);
        if self.changed {
            // By this a transaction whose end failed is told from one that never was.
            self.count.changes = self.count.changes.saturating_add(1);
        }
        let writes = self.changed || was_set;
        if writes {
            if let Some(Time { now, steps, .. }) = self.time {
                self.meta.insert(TIME, now.as_millis()).map_err(failed)?;
                self.meta.insert(STEPS, steps.stored()).map_err(failed)?;
                self.count.clock = Some((now, steps));
            }
            self.count.oldest = self.oldest()?;
            self.meta.insert("changes", self.count.changes).map_err(failed)?;
        }
        Ok((self.count, writes))
    }

    /// Checks the format, and counts what is there.
    pub(super) fn begin(&mut self) -> Result<()> {
        match self.number("format")? {
            None => {
                self.changed = true;
                self.meta.insert("format", FORMAT).map_err(failed)?;
            }
            Some(FORMAT) => {}
            Some(other) => {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!(
                        "it was written by another version (format {other}, this one knows {FORMAT}); drain it with that one"
                    ),
                ));
            }
        }
        let mut count = Count {
            waiting: self.waiting.len().map_err(failed)?,
            parked: self.parked.len().map_err(failed)?,
            next: self.next()?,
            changes: self.number("changes")?.unwrap_or(0),
            app: self.app()?,
            clock: self
                .number(TIME)?
                .zip(self.number(STEPS)?)
                .map(|(time, steps)| (Timestamp::from_millis(time), Steps::of_stored(steps))),
            ..Count::default()
        };
        for item in self.waiting.iter().map_err(failed)? {
            let (id, bytes) = item.map_err(failed)?;
            count.enter(bytes.value().len());
            self.moves.push(match Entry::decode(bytes.value()) {
                Ok(entry) => Move::Entered(entry.lane(), id.value()),
                Err(_) => Move::Unreadable(id.value()),
            });
        }
        for item in self.parked.iter().map_err(failed)? {
            count.enter(item.map_err(failed)?.1.value().len());
        }
        self.count = count;
        self.count.oldest = self.oldest()?;
        Ok(())
    }

    /// Appends; all of them or none.
    pub(super) fn put(&mut self, entries: &[Entry], now: Timestamp) -> Result<Vec<QueuedId>> {
        let encoded = entries.iter().map(Entry::encode).collect::<Result<Vec<_>>>()?;
        let bytes: usize = encoded.iter().map(Vec::len).sum();
        self.make_room(encoded.len(), bytes, now)?;
        self.changed = true;
        let next = self.next()?;
        let ids: Vec<_> = (next..).take(encoded.len()).collect();
        for ((id, bytes), entry) in ids.iter().zip(&encoded).zip(entries) {
            self.waiting.insert(id, bytes.as_slice()).map_err(failed)?;
            self.moves.push(Move::Entered(entry.lane(), *id));
            self.count.enter(bytes.len());
            self.count.waiting += 1;
        }
        let after = next.saturating_add(u64::try_from(encoded.len()).unwrap_or(u64::MAX));
        self.meta.insert("next", after).map_err(failed)?;
        self.count.next = after;
        Ok(ids.into_iter().map(QueuedId).collect())
    }

    /// The name of the next that is put.
    fn next(&self) -> Result<u64> {
        Ok(self.number("next")?.unwrap_or(1))
    }

    fn app(&self) -> Result<Option<AppId>> {
        let mut id = [0; 32];
        for (part, name) in id.as_chunks_mut().0.iter_mut().zip(APP) {
            let Some(number) = self.number(name)? else { return Ok(None) };
            *part = number.to_le_bytes();
        }
        Ok(Some(AppId::from_bytes(id)))
    }

    /// Keeps which app the engine says that the client is: before the next connection is there it tells what to seal with.
    pub(super) fn note_app(&mut self, app: AppId) -> Result<()> {
        self.changed |= self.count.app != Some(app);
        self.count.app = Some(app);
        for (part, name) in app.as_bytes().as_chunks().0.iter().zip(APP) {
            self.meta.insert(name, u64::from_le_bytes(*part)).map_err(failed)?;
        }
        Ok(())
    }

    fn number(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.meta.get(name).map_err(failed)?.map(|number| number.value()))
    }

    fn make_room(&mut self, events: usize, bytes: usize, now: Timestamp) -> Result<()> {
        let (events, bytes) = (u64::try_from(events).unwrap_or(u64::MAX), u64::try_from(bytes).unwrap_or(u64::MAX));
        let OutboxOptions { max_events, max_bytes, when_full, .. } = self.options;
        let full = |count: &Count| {
            (count.waiting + count.parked).saturating_add(events) > max_events
                || count.bytes.saturating_add(bytes) > max_bytes
        };
        if full(&self.count) {
            self.expire(now)?;
        }
        let possible = events <= max_events && bytes <= max_bytes;
        while full(&self.count) {
            // Those that were refused go first: the others may still arrive.
            let room = possible && when_full == WhenFull::DropOldest;
            if !(room && (self.drop_first(true)? || self.drop_first(false)?)) {
                let Count { waiting, parked, bytes, .. } = self.count;
                return Err(Error::new(
                    ErrorKind::LimitExceeded,
                    format!(
                        "the outbox is full: {waiting} events wait and {parked} are parked, {bytes} bytes; it takes {max_events} events \
                         and {max_bytes} bytes. Let it drain, discard what is parked, or raise OutboxOptions"
                    ),
                ));
            }
        }
        Ok(())
    }

    fn drop_first(&mut self, parked: bool) -> Result<bool> {
        let table = if parked { &mut self.parked } else { &mut self.waiting };
        let Some((id, bytes)) =
            table.pop_first().map_err(failed)?.map(|(id, bytes)| (id.value(), bytes.value().to_vec()))
        else {
            return Ok(false);
        };
        self.changed = true;
        *(if parked { &mut self.count.parked } else { &mut self.count.waiting }) -= 1;
        self.count.leave(bytes.len());
        if !parked {
            self.moves.push(Move::Left(lane_of(&bytes), id));
        }
        self.tell(id, &bytes, |about| OutboxOutcome::Dropped { about });
        Ok(true)
    }

    /// Removes those that are too old; they are the first.
    fn expire(&mut self, now: Timestamp) -> Result<()> {
        if self.time.is_some_and(|time| !time.expires) {
            return Ok(());
        }
        loop {
            let Some((id, bytes)) = self.first()? else { return Ok(()) };
            // One that cannot be read has no age; it goes as well.
            if Entry::decode(&bytes).is_ok_and(|entry| now.since(entry.at) <= self.options.max_age) {
                return Ok(());
            }
            self.remove(id, &bytes)?;
            self.tell(id, &bytes, |about| OutboxOutcome::Expired { about });
        }
    }

    /// The oldest events of at most so many lanes, and of none of those in `not`.
    pub(super) fn take(&mut self, most: usize, not: &HashSet<Lane>, now: Timestamp) -> Result<Vec<Turn>> {
        self.expire(now)?;
        for id in self.lanes.unreadable() {
            let Some(bytes) = self.bytes(id)? else { continue };
            self.remove(id, &bytes)?;
            if let Err(why) = Entry::decode(&bytes) {
                self.outcomes.push(OutboxOutcome::Damaged { queued: QueuedId(id), why });
            }
        }
        let (mut turns, mut size) = (Vec::new(), 0);
        for (lane, ids) in self.lanes.iter().filter(|(lane, _)| !not.contains(lane)).take(most) {
            let mut entries = Vec::new();
            for id in ids.iter().take(TURN) {
                // Gone if it has just expired.
                let Some(bytes) = self.bytes(*id)? else { continue };
                size += bytes.len();
                if size > TAKEN && !(turns.is_empty() && entries.is_empty()) {
                    break;
                }
                match Entry::decode(&bytes) {
                    Ok(entry) => entries.push((QueuedId(*id), entry)),
                    // It was readable when it was put, or the file opened.
                    Err(why) => {
                        self.remove_from(lane, *id, &bytes)?;
                        self.outcomes.push(OutboxOutcome::Damaged { queued: QueuedId(*id), why });
                    }
                }
            }
            if !entries.is_empty() {
                self.moves.push(Move::Taken(lane.clone()));
                turns.push((lane.clone(), entries));
            }
            if size > TAKEN {
                break;
            }
        }
        Ok(turns)
    }

    /// Those that are parked.
    pub(super) fn list_parked(&mut self) -> Result<Vec<(QueuedId, Entry)>> {
        let (mut entries, mut damaged) = (Vec::new(), Vec::new());
        for item in self.parked.iter().map_err(failed)? {
            let (id, bytes) = item.map_err(failed)?;
            let id = QueuedId(id.value());
            match Entry::decode(bytes.value()) {
                Ok(entry) => entries.push((id, entry)),
                Err(why) => damaged.push((id, why)),
            }
        }
        for (queued, why) in damaged {
            self.unpark(queued, None)?;
            self.outcomes.push(OutboxOutcome::Damaged { queued, why });
        }
        Ok(entries)
    }

    /// Done with one that waits: removes it. It may be gone already, to make room.
    pub(super) fn done(&mut self, QueuedId(id): QueuedId) -> Result<()> {
        if let Some(bytes) = self.bytes(id)? {
            self.remove(id, &bytes)?;
        }
        Ok(())
    }

    /// Puts one that waits aside.
    pub(super) fn park(&mut self, id: QueuedId, entry: &Entry) -> Result<()> {
        self.done(id)?;
        self.changed = true;
        let bytes = entry.encode()?;
        self.parked.insert(id.0, bytes.as_slice()).map_err(failed)?;
        self.count.parked += 1;
        self.count.enter(bytes.len());
        Ok(())
    }

    /// Takes a parked one out; lets it wait again, in its old place and from `again` on, so that it is not too old at once. False if there
    /// is none.
    pub(super) fn unpark(&mut self, QueuedId(id): QueuedId, again: Option<Timestamp>) -> Result<bool> {
        let bytes = self.parked.remove(id).map_err(failed)?.map(|bytes| bytes.value().to_vec());
        let Some(bytes) = bytes else { return Ok(false) };
        self.changed = true;
        self.count.parked -= 1;
        self.count.leave(bytes.len());
        if let Some(at) = again {
            let entry = Entry { parked: None, at, ..Entry::decode(&bytes)? };
            let bytes = entry.encode()?;
            self.moves.push(Move::Entered(entry.lane(), id));
            self.waiting.insert(id, bytes.as_slice()).map_err(failed)?;
            self.count.waiting += 1;
            self.count.enter(bytes.len());
        }
        Ok(true)
    }

    fn first(&self) -> Result<Option<(u64, Vec<u8>)>> {
        let first = self.waiting.first().map_err(failed)?;
        Ok(first.map(|(id, bytes)| (id.value(), bytes.value().to_vec())))
    }

    fn bytes(&self, id: u64) -> Result<Option<Vec<u8>>> {
        Ok(self.waiting.get(id).map_err(failed)?.map(|bytes| bytes.value().to_vec()))
    }

    fn remove(&mut self, id: u64, bytes: &[u8]) -> Result<()> {
        self.moves.push(Move::Left(lane_of(bytes), id));
        self.remove_row(id, bytes)
    }

    /// The same, of one that cannot be read any more.
    fn remove_from(&mut self, lane: &Lane, id: u64, bytes: &[u8]) -> Result<()> {
        self.moves.push(Move::Left(Some(lane.clone()), id));
        self.remove_row(id, bytes)
    }

    fn remove_row(&mut self, id: u64, bytes: &[u8]) -> Result<()> {
        self.changed = true;
        self.waiting.remove(id).map_err(failed)?;
        self.count.waiting = self.count.waiting.saturating_sub(1);
        self.count.leave(bytes.len());
        Ok(())
    }

    fn oldest(&self) -> Result<Option<Timestamp>> {
        let oldest = self.first()?.and_then(|(_, bytes)| Entry::decode(&bytes).ok());
        Ok(oldest.map(|entry| self.steps().to_machine(entry.at)))
    }

    fn steps(&self) -> Steps {
        match (self.time, self.count.clock) {
            (Some(time), _) => time.steps,
            (None, kept) => kept.map_or_else(Steps::default, |(_, steps)| steps),
        }
    }

    /// Tells of one that was removed, if it can be read.
    fn tell(&mut self, id: u64, bytes: &[u8], outcome: impl FnOnce(QueuedEvent) -> OutboxOutcome) {
        let queued = QueuedId(id);
        self.outcomes.push(match Entry::decode(bytes) {
            Ok(entry) => outcome(entry.about(queued, self.steps())),
            Err(why) => OutboxOutcome::Damaged { queued, why },
        });
    }
}

fn lane_of(bytes: &[u8]) -> Option<Lane> {
    Entry::decode(bytes).ok().map(|entry| entry.lane())
}
