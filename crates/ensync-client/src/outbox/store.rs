//! The file: two tables in a redb database, and their bounds. Everything here blocks.

use std::path::Path;

use ensync_core::{Error, ErrorKind, Result, Timestamp};
use redb::{Database, ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

use super::entry::Entry;
use super::outcome::{About, Outcome, QueuedId};
use super::{OutboxOptions, OutboxStatus, WhenFull};

const WAITING: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("waiting");
const PARKED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("parked");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The version of what the tables hold.
const FORMAT: u64 = 1;

/// How many bytes are taken out at a time, unless one event alone has more.
const TAKEN: usize = 4 * 1024 * 1024;

/// Opens the database, again after it has failed.
type Open = Box<dyn Fn() -> Result<Database> + Send>;

pub(super) struct Store {
    open: Open,
    /// `None` after a failure of the disk: the next transaction opens it anew.
    database: Option<Database>,
    options: OutboxOptions,
    pub(super) count: Count,
}

/// What the tables hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Count {
    waiting: u64,
    parked: u64,
    bytes: u64,
    oldest: Option<Timestamp>,
}

impl Count {
    pub(super) fn status(self) -> OutboxStatus {
        OutboxStatus { waiting: self.waiting, parked: self.parked, bytes: self.bytes, oldest: self.oldest }
    }

    fn enter(&mut self, bytes: usize) {
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    fn leave(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

impl Store {
    pub(super) fn open(open: Open, options: OutboxOptions) -> Result<Self> {
        let database = open()?;
        let mut store = Self { open, database: Some(database), options, count: Count::default() };
        store.count = store.transact(|batch| batch.begin())?.0;
        Ok(store)
    }

    /// Does `work` in one transaction, which is on disk when this returns. What it says happened is told only then.
    pub(super) fn transact<T>(&mut self, work: impl FnOnce(&mut Batch<'_>) -> Result<T>) -> Result<(T, Vec<Outcome>)> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.open)()?,
        };
        let done = run(&database, self.options, self.count, work);
        match done {
            Ok((value, count, outcomes)) => {
                self.count = count;
                self.database = Some(database);
                Ok((value, outcomes))
            }
            // Nothing it did counts. That the outbox is full says nothing of the disk; after anything else the file is opened anew.
            Err(error) => {
                if error.kind() == ErrorKind::LimitExceeded {
                    self.database = Some(database);
                }
                Err(error)
            }
        }
    }
}

fn run<T>(
    database: &Database,
    options: OutboxOptions,
    count: Count,
    work: impl FnOnce(&mut Batch<'_>) -> Result<T>,
) -> Result<(T, Count, Vec<Outcome>)> {
    let transaction = database.begin_write().map_err(failed)?;
    let mut outcomes = Vec::new();
    let (value, count, changed) = {
        let mut batch = Batch::new(&transaction, options, count, &mut outcomes)?;
        let value = work(&mut batch)?;
        if batch.changed {
            batch.count.oldest = batch.oldest()?;
        }
        (value, batch.count, batch.changed)
    };
    // What only read costs no sync.
    if changed {
        transaction.commit().map_err(failed)?
    } else {
        transaction.abort().map_err(failed)?
    }
    Ok((value, count, outcomes))
}

/// One transaction.
pub(super) struct Batch<'a> {
    waiting: Table<'a, u64, &'static [u8]>,
    parked: Table<'a, u64, &'static [u8]>,
    meta: Table<'a, &'static str, u64>,
    options: OutboxOptions,
    count: Count,
    changed: bool,
    outcomes: &'a mut Vec<Outcome>,
}

impl<'a> Batch<'a> {
    fn new(
        transaction: &'a WriteTransaction,
        options: OutboxOptions,
        count: Count,
        outcomes: &'a mut Vec<Outcome>,
    ) -> Result<Self> {
        Ok(Self {
            waiting: transaction.open_table(WAITING).map_err(failed)?,
            parked: transaction.open_table(PARKED).map_err(failed)?,
            meta: transaction.open_table(META).map_err(failed)?,
            options,
            count,
            changed: false,
            outcomes,
        })
    }

    /// Checks the format, and counts what is there.
    fn begin(&mut self) -> Result<Count> {
        let format = self.meta.get("format").map_err(failed)?.map(|format| format.value());
        match format {
            None => {
                self.changed = true;
                self.meta.insert("format", FORMAT).map_err(failed)?;
            }
            Some(FORMAT) => {}
            Some(newer) => {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("it was written by a newer version (format {newer}, this one knows {FORMAT}); upgrade"),
                ));
            }
        }
        let mut count = Count {
            waiting: self.waiting.len().map_err(failed)?,
            parked: self.parked.len().map_err(failed)?,
            ..Count::default()
        };
        for table in [&self.waiting, &self.parked] {
            for item in table.iter().map_err(failed)? {
                count.enter(item.map_err(failed)?.1.value().len());
            }
        }
        self.count = count;
        count.oldest = self.oldest()?;
        Ok(count)
    }

    /// Appends; all of them or none.
    pub(super) fn put(&mut self, entries: &[Entry], now: Timestamp) -> Result<Vec<QueuedId>> {
        let encoded = entries.iter().map(Entry::encode).collect::<Result<Vec<_>>>()?;
        let bytes: usize = encoded.iter().map(Vec::len).sum();
        self.make_room(encoded.len(), bytes, now)?;
        self.changed = true;
        let next = self.meta.get("next").map_err(failed)?.map_or(1, |next| next.value());
        let ids: Vec<_> = (next..).take(encoded.len()).collect();
        for (id, bytes) in ids.iter().zip(&encoded) {
            self.waiting.insert(id, bytes.as_slice()).map_err(failed)?;
            self.count.enter(bytes.len());
            self.count.waiting += 1;
        }
        let after = next.saturating_add(u64::try_from(encoded.len()).unwrap_or(u64::MAX));
        self.meta.insert("next", after).map_err(failed)?;
        Ok(ids.into_iter().map(QueuedId).collect())
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
        self.outcomes.push(about(id, &bytes, |about| Outcome::Dropped { about }));
        Ok(true)
    }

    /// Removes those that are too old; they are the first.
    fn expire(&mut self, now: Timestamp) -> Result<()> {
        loop {
            let Some((id, bytes)) = self.first()? else { return Ok(()) };
            // One that cannot be read has no age; it goes as well.
            let aged = Entry::decode(&bytes).map_or(true, |entry| now.since(entry.at) > self.options.max_age);
            if !aged {
                return Ok(());
            }
            self.remove(id, &bytes)?;
            self.outcomes.push(about(id, &bytes, |about| Outcome::Expired { about }));
        }
    }

    /// The oldest that wait, at most so many.
    pub(super) fn take(&mut self, most: usize, now: Timestamp) -> Result<Vec<(QueuedId, Entry)>> {
        self.expire(now)?;
        let (mut first, mut size) = (Vec::new(), 0);
        for item in self.waiting.iter().map_err(failed)?.take(most) {
            let (id, bytes) = item.map_err(failed)?;
            size += bytes.value().len();
            if size > TAKEN && !first.is_empty() {
                break;
            }
            first.push((id.value(), bytes.value().to_vec()));
        }
        let mut entries = Vec::with_capacity(first.len());
        for (id, bytes) in first {
            match Entry::decode(&bytes) {
                Ok(entry) => entries.push((QueuedId(id), entry)),
                Err(why) => {
                    self.remove(id, &bytes)?;
                    self.outcomes.push(Outcome::Damaged { queued: QueuedId(id), why });
                }
            }
        }
        Ok(entries)
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
            self.unpark(queued, false)?;
            self.outcomes.push(Outcome::Damaged { queued, why });
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

    /// Takes a parked one out; lets it wait again, in its old place, if `again`. False if there is none.
    pub(super) fn unpark(&mut self, QueuedId(id): QueuedId, again: bool) -> Result<bool> {
        let bytes = self.parked.remove(id).map_err(failed)?.map(|bytes| bytes.value().to_vec());
        let Some(bytes) = bytes else { return Ok(false) };
        self.changed = true;
        self.count.parked -= 1;
        self.count.leave(bytes.len());
        if again {
            let entry = Entry { parked: None, ..Entry::decode(&bytes)? };
            let bytes = entry.encode()?;
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
        self.changed = true;
        self.waiting.remove(id).map_err(failed)?;
        self.count.waiting -= 1;
        self.count.leave(bytes.len());
        Ok(())
    }

    fn oldest(&self) -> Result<Option<Timestamp>> {
        Ok(self.first()?.and_then(|(_, bytes)| Some(Entry::decode(&bytes).ok()?.at)))
    }
}

/// The outcome of one that was removed, if it can be read.
fn about(id: u64, bytes: &[u8], outcome: impl FnOnce(About) -> Outcome) -> Outcome {
    match Entry::decode(bytes) {
        Ok(entry) => outcome(entry.about(QueuedId(id))),
        Err(why) => Outcome::Damaged { queued: QueuedId(id), why },
    }
}

impl Entry {
    pub(super) fn about(&self, queued: QueuedId) -> About {
        About { queued, event: self.publish.event.clone(), recipient: self.publish.recipient, at: self.at }
    }
}

/// Opens the file, or makes it: for its owner alone, because metadata is not encrypted.
pub(super) fn open_file(path: &Path) -> Result<Database> {
    let mut how = std::fs::OpenOptions::new();
    how.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut how, 0o600);
    match how.open(path) {
        // The file's name must be as durable as the file.
        Ok(_) => sync_directory(path).map_err(|cause| failed(redb::Error::Io(cause)))?,
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(cause) => return Err(failed(redb::Error::Io(cause))),
    }
    Database::create(path).map_err(failed)
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { std::fs::File::open(directory)?.sync_all() } else { Ok(()) }
}

/// What a failure of the database means.
fn failed(cause: impl Into<redb::Error>) -> Error {
    let cause = cause.into();
    let (kind, what) = match &cause {
        redb::Error::DatabaseAlreadyOpen => {
            (ErrorKind::Unavailable, "another process, or another Outbox of this one, has it open; use a file for each")
        }
        redb::Error::Io(io)
            if matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) =>
        {
            (ErrorKind::Unavailable, "the disk is full; make room, nothing that was accepted is lost")
        }
        redb::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            (ErrorKind::InvalidInput, "the file is no outbox, or is damaged")
        }
        redb::Error::Io(_) | redb::Error::PreviousIo => {
            (ErrorKind::Unavailable, "the operating system refuses to read or write the file")
        }
        redb::Error::UpgradeRequired(_) => (ErrorKind::InvalidInput, "the file is of another version of its database"),
        redb::Error::Corrupted(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::RepairAborted => (ErrorKind::InvalidInput, "the file is no outbox, or is damaged"),
        _ => (ErrorKind::Internal, "the database failed"),
    };
    Error::new(kind, what).with_source(cause)
}
