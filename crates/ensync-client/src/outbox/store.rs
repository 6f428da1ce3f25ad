//! The file: opening it, and transactions on it. Everything here blocks.

use std::path::Path;

use ensync_core::{AppId, Error, ErrorKind, Result, Timestamp};
use redb::Database;

use super::batch::Batch;
use super::clock::{Clock, Source, Steps, Time};
use super::lanes::{Lanes, Move};
use super::outcome::OutboxOutcome;
use super::reserve::Reserve;
use super::{OutboxOptions, OutboxStatus};

/// Opens the database, again after it has failed.
type Open = Box<dyn Fn() -> Result<Database> + Send>;

pub(super) struct Store {
    open: Open,
    /// `None` after a failure of the disk: the next transaction opens it anew.
    database: Option<Database>,
    options: OutboxOptions,
    reserve: Box<dyn Reserve>,
    clock: Clock,
    /// How many bytes waited when the file last gave room back to the disk; `u64::MAX` if there was room since.
    gave_back_at: u64,
    pub(super) count: Count,
    pub(super) lanes: Lanes,
}

/// What the tables hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Count {
    pub(super) waiting: u64,
    pub(super) parked: u64,
    pub(super) bytes: u64,
    pub(super) oldest: Option<Timestamp>,
    /// What the outbox's clock said when they were last changed.
    pub(super) clock: Option<(Timestamp, Steps)>,
    /// Which app the engine said last that the client is.
    pub(super) app: Option<AppId>,
    /// The name of the next that is queued.
    pub(super) next: u64,
    /// How many transactions have changed them.
    pub(super) changes: u64,
}

impl Count {
    pub(super) fn status(self) -> OutboxStatus {
        OutboxStatus { waiting: self.waiting, parked: self.parked, bytes: self.bytes, oldest: self.oldest }
    }

    pub(super) fn enter(&mut self, bytes: usize) {
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    pub(super) fn leave(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

/// What is told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Now {
    pub(super) status: OutboxStatus,
    /// The name of the oldest that waits.
    pub(super) first: Option<u64>,
    /// The name of the next that is queued.
    pub(super) next: u64,
    /// What makes the machine's time of the outbox's.
    pub(super) steps: Steps,
    /// Which app the engine said last that the client is.
    pub(super) app: Option<AppId>,
}

impl Store {
    pub(super) fn now(&self) -> Now {
        let (first, steps) = (self.lanes.first(), self.clock.time().steps);
        Now { status: self.count.status(), first, next: self.count.next, steps, app: self.count.app }
    }

    /// Looks at the clock by which events age.
    pub(super) fn look(&mut self) -> Timestamp {
        self.clock.look().now
    }

    pub(super) fn open(
        open: Open,
        options: OutboxOptions,
        mut reserve: Box<dyn Reserve>,
        source: Source,
    ) -> Result<Self> {
        // What a process left that was killed is seen to with some room, which an earlier outbox on a full disk kept for such.
        let (database, count, lanes) = match opened(&open, options, None) {
            Err(error) if is_full(&error) && reserve.give_up() => opened(&open, options, None)?,
            opened => opened?,
        };
        // On a full disk it is taken later, before anything more is put in.
        let _ = reserve.take();
        let clock = Clock::new(source, count.clock, options.max_age);
        Ok(Self { open, database: Some(database), options, reserve, clock, gave_back_at: u64::MAX, count, lanes })
    }

    /// The same as [`transact`](Self::transact), for what puts something in: some room on the disk stays for taking out.
    pub(super) fn put<T>(&mut self, work: impl FnOnce(&mut Batch<'_>) -> Result<T>) -> Result<(T, Vec<OutboxOutcome>)> {
        if let Err(cause) = self.reserve.take() {
            self.give_back();
            self.reserve.take().map_err(|_| {
                let place = self.reserve.place();
                failed(redb::Error::Io(cause))
                    .context(format_args!("room for letting events go, {place}, cannot be kept"))
            })?;
        }
        self.gave_back_at = u64::MAX;
        self.transact(work)
    }

    /// Gives the disk what the file holds and does not use: a database keeps the room of what was taken out of it. Not at each attempt
    /// to put something in, but when half of what was there the last time is gone.
    fn give_back(&mut self) {
        if self.gave_back_at == 0 || self.count.bytes > self.gave_back_at / 2 {
            return;
        }
        self.gave_back_at = self.count.bytes;
        if let Some(mut database) = self.database.take() {
            // What it cannot do for want of room the closing does, for the end of the file.
            if let Err(cause) = database.compact() {
                tracing::debug!(%cause, "the outbox could not be compacted");
            }
        }
    }

    /// The same, for what takes something out, or only reads: if the disk is full, the room that was kept for it is used.
    pub(super) fn take_out<T>(
        &mut self,
        work: impl Fn(&mut Batch<'_>) -> Result<T>,
    ) -> Result<(T, Vec<OutboxOutcome>)> {
        let failed = match self.attempt(&work) {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        if failed.error.kind() != ErrorKind::Unavailable || !self.reserve.give_up() {
            return Err(failed.told());
        }
        let error = &failed.error;
        tracing::warn!(%error, "the disk takes no more: the outbox uses the room that it kept for letting events go");
        let outcome = match failed.unsure {
            Some(ran) => self.find_out(*ran, failed.error),
            None => self.attempt(work),
        };
        outcome.map_err(Failed::told)
    }

    /// Opens the file after a failure, and reads what it holds: a transaction whose sync failed may be there all the same.
    fn open_again(&mut self) -> Result<Database> {
        let (database, count, lanes) = opened(&self.open, self.options, Some(self.clock.time()))?;
        (self.count, self.lanes) = (count, lanes);
        Ok(database)
    }

    /// Does `work` in one transaction, which is on disk when this returns. What it says happened is told only then. Only an error that
    /// [may have happened](Error::may_have_happened) leaves open whether it is there.
    pub(super) fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T>,
    ) -> Result<(T, Vec<OutboxOutcome>)> {
        self.attempt(work).map_err(Failed::told)
    }

    fn attempt<T>(&mut self, work: impl FnOnce(&mut Batch<'_>) -> Result<T>) -> Result<Done<T>, Failed<T>> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.open_again()?,
        };
        match run(&database, self.options, self.count, (&self.lanes, Some(self.clock.time())), work) {
            Ok(Ran { value, count, moves, outcomes }) => {
                self.count = count;
                self.lanes.apply(moves);
                self.database = Some(database);
                Ok((value, outcomes))
            }
            Err(Failed { error, unsure: Some(ran) }) => {
                // It is opened anew, and so must be closed.
                drop(database);
                self.find_out(*ran, error)
            }
            // Nothing it did counts. That the outbox is full says nothing of the disk; after anything else the file is opened anew.
            Err(failed) => {
                if failed.error.kind() == ErrorKind::LimitExceeded {
                    self.database = Some(database);
                }
                Err(failed)
            }
        }
    }

    /// What became of a transaction whose end failed: the file says it. To open a file that was not closed in order puts it on disk.
    fn find_out<T>(&mut self, ran: Ran<T>, error: Error) -> Result<Done<T>, Failed<T>> {
        match self.open_again() {
            Ok(database) => {
                self.database = Some(database);
                match self.count.changes == ran.count.changes {
                    true => Ok((ran.value, ran.outcomes)),
                    false => Err(error.into()),
                }
            }
            Err(cause) => {
                tracing::debug!(error = %cause, "whether the last transaction is in the outbox's file cannot be read yet");
                Err(Failed { error, unsure: Some(Box::new(ran)) })
            }
        }
    }
}

/// What a transaction gives, and what it says happened.
type Done<T> = (T, Vec<OutboxOutcome>);

/// What a transaction did.
struct Ran<T> {
    value: T,
    count: Count,
    moves: Vec<Move>,
    outcomes: Vec<OutboxOutcome>,
}

/// Why a transaction failed.
struct Failed<T> {
    error: Error,
    /// What it did, if it may be in the file. Else nothing of it is.
    unsure: Option<Box<Ran<T>>>,
}

impl<T> From<Error> for Failed<T> {
    fn from(error: Error) -> Self {
        Self { error, unsure: None }
    }
}

impl<T> Failed<T> {
    fn told(self) -> Error {
        if self.unsure.is_some() { self.error.perhaps_done() } else { self.error }
    }
}

/// Opens the file, and reads what it holds.
fn opened(open: &Open, options: OutboxOptions, time: Option<Time>) -> Result<(Database, Count, Lanes)> {
    let database = open()?;
    let mut lanes = Lanes::default();
    let read = run(&database, options, Count::default(), (&lanes, time), |batch| batch.begin());
    let read = read.map_err(|failed: Failed<_>| failed.error)?;
    lanes.apply(read.moves);
    Ok((database, read.count, lanes))
}

fn run<T>(
    database: &Database,
    options: OutboxOptions,
    count: Count,
    (lanes, time): (&Lanes, Option<Time>),
    work: impl FnOnce(&mut Batch<'_>) -> Result<T>,
) -> Result<Ran<T>, Failed<T>> {
    let transaction = database.begin_write().map_err(failed)?;
    let (mut moves, mut outcomes) = (Vec::new(), Vec::new());
    let (value, count, changed) = {
        let mut batch = Batch::new(&transaction, (options, time), count, lanes, (&mut moves, &mut outcomes))?;
        let value = work(&mut batch)?;
        let (count, changed) = batch.end()?;
        (value, count, changed)
    };
    let ran = Ran { value, count, moves, outcomes };
    // What only read costs no sync.
    let ended = if changed { transaction.commit().map_err(failed) } else { transaction.abort().map_err(failed) };
    match ended {
        Ok(()) => Ok(ran),
        Err(error) => Err(Failed { error, unsure: changed.then(|| Box::new(ran)) }),
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

/// Whether there was no room on the disk.
fn is_full(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<redb::Error>());
    matches!(cause, Some(redb::Error::Io(io)) if has_no_room(io))
}

fn has_no_room(io: &std::io::Error) -> bool {
    matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// What a failure of the database means.
pub(super) fn failed(cause: impl Into<redb::Error>) -> Error {
    let cause = cause.into();
    let (kind, what) = match &cause {
        redb::Error::DatabaseAlreadyOpen => {
            (ErrorKind::Unavailable, "another process, or another Outbox of this one, has it open; use a file for each")
        }
        redb::Error::Io(io) if has_no_room(io) => {
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
