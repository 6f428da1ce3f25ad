//! The thread that owns the file. What waits for it is done in one transaction, so that many publishes share a sync of the disk.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ensync_core::{AppId, Error, ErrorKind, Result, Timestamp};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::OutboxOptions;
use super::batch::{Batch, Turn};
use super::clock;
use super::entry::{Entry, Reason};
use super::lanes::Lane;
use super::outcome::{OutboxOutcome, QueuedId, tell};
use super::reserve::ReserveFile;
use super::store::{Now, Store, open_file};

/// How many requests may wait; the next wait for room.
const QUEUE: usize = 1_024;

pub(super) enum Request {
    Write(Write, oneshot::Sender<Result<Written>>),
    /// The oldest events of at most this many lanes, and of none of these.
    Take(usize, Arc<HashSet<Lane>>, oneshot::Sender<Result<Vec<Turn>>>),
    Parked(oneshot::Sender<Result<Vec<(QueuedId, Entry)>>>),
    Close(oneshot::Sender<()>),
}

#[derive(Clone)]
pub(super) enum Write {
    Put(Vec<Entry>),
    Done(QueuedId),
    Park(QueuedId, Box<Entry>, Reason),
    Retry(QueuedId),
    Discard(QueuedId),
    /// Which app the engine says that the client is.
    App(AppId),
}

pub(super) enum Written {
    Put(Vec<QueuedId>),
    /// Whether there was such an event.
    Found(bool),
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub(super) struct Thread(mpsc::Sender<Request>);

impl Thread {
    /// Opens the file in a thread of its own.
    pub(super) async fn start(
        path: Arc<Path>,
        options: OutboxOptions,
        status: watch::Sender<Now>,
        listeners: broadcast::Sender<OutboxOutcome>,
    ) -> Result<Self> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let (opened, outcome) = oneshot::channel();
        let place = path.clone();
        let run = move || {
            let reserve = Box::new(ReserveFile::beside(&path));
            let open = move || open_file(&path);
            // The database checks a damaged file by panicking here and there; that must not take the program with it.
            let opening = || Store::open(Box::new(open), options, reserve, clock::machine());
            let store = catch_unwind(AssertUnwindSafe(opening))
                .unwrap_or_else(|_| Err(Error::new(ErrorKind::InvalidInput, "the file is no outbox, or is damaged")));
            match store {
                Ok(store) => {
                    status.send_replace(store.now());
                    if opened.send(Ok(())).is_ok() {
                        Worker { store, status, listeners }.run(queue);
                    }
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        };
        let started = std::thread::Builder::new().name("ensync-outbox".to_owned()).spawn(run);
        started.map_err(|cause| Error::new(ErrorKind::Unavailable, "cannot start a thread").with_source(cause))?;
        let opened = outcome.await.unwrap_or_else(|_| Err(gone()));
        opened.map_err(|error| error.context(format_args!("outbox {}", place.display())))?;
        Ok(Self(requests))
    }

    /// One that a test plays.
    #[cfg(test)]
    pub(super) fn of(requests: mpsc::Sender<Request>) -> Self {
        Self(requests)
    }

    pub(super) async fn write(&self, write: Write) -> Result<Written> {
        self.begin(write).await?.await.map_err(|_| gone())?
    }

    /// Has it written, in its turn. What is given tells when it is.
    pub(super) async fn begin(&self, write: Write) -> Result<oneshot::Receiver<Result<Written>>> {
        let (answer, waiter) = oneshot::channel();
        self.0.send(Request::Write(write, answer)).await.map_err(|_| gone())?;
        Ok(waiter)
    }

    pub(super) async fn take(&self, most: usize, not: Arc<HashSet<Lane>>) -> Result<Vec<Turn>> {
        self.ask(|answer| Request::Take(most, not, answer)).await?
    }

    pub(super) async fn parked(&self) -> Result<Vec<(QueuedId, Entry)>> {
        self.ask(Request::Parked).await?
    }

    pub(super) async fn close(&self) {
        let _ = self.ask(Request::Close).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T> {
        let (answer, waiter) = oneshot::channel();
        self.0.send(request(answer)).await.map_err(|_| gone())?;
        waiter.await.map_err(|_| gone())
    }
}

pub(super) fn gone() -> Error {
    Error::new(ErrorKind::Closed, "the outbox is closed, or its thread failed")
}

pub(super) struct Worker {
    pub(super) store: Store,
    pub(super) status: watch::Sender<Now>,
    pub(super) listeners: broadcast::Sender<OutboxOutcome>,
}

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut waiting = Vec::new();
        while queue.blocking_recv_many(&mut waiting, QUEUE) > 0 {
            let mut writes = Vec::new();
            for request in waiting.drain(..) {
                if let Request::Write(mut write, answer) = request {
                    if let Write::Put(entries) = &mut write {
                        // Not before: who queues may wait for the engine's pace, and the clock be set meanwhile.
                        let now = self.store.look();
                        entries.iter_mut().for_each(|entry| entry.at = now);
                    }
                    writes.push((write, answer));
                    continue;
                }
                // What came before it comes before it.
                self.write(std::mem::take(&mut writes));
                match request {
                    Request::Write(..) => {}
                    Request::Take(most, not, answer) => {
                        let now = self.store.look();
                        let taken = self.read(|batch| batch.take(most, &not, now));
                        let _ = answer.send(taken);
                    }
                    Request::Parked(answer) => {
                        let parked = self.read(|batch| batch.list_parked());
                        let _ = answer.send(parked);
                    }
                    Request::Close(answer) => {
                        queue.close();
                        // The file is free before anybody hears of it.
                        drop(self);
                        let _ = answer.send(());
                        return;
                    }
                }
            }
            self.write(writes);
        }
    }

    fn read<T>(&mut self, work: impl Fn(&mut Batch<'_>) -> Result<T>) -> Result<T> {
        let (value, outcomes) = self.store.take_out(work)?;
        self.tell(outcomes);
        Ok(value)
    }

    /// Does all of it in one transaction; if that fails for one of them, each in its own. Not if it may be there: it would be there
    /// twice.
    pub(super) fn write(&mut self, writes: Vec<(Write, oneshot::Sender<Result<Written>>)>) {
        if writes.is_empty() {
            return;
        }
        let now = self.store.look();
        let work = |batch: &mut Batch<'_>| -> Result<Vec<Written>> {
            writes.iter().map(|(write, _)| carry_out(batch, write, now)).collect()
        };
        // What takes out goes by itself if there is no room to put anything in.
        let all = if writes.iter().any(|(write, _)| matches!(write, Write::Put(_))) {
            self.store.put(work)
        } else {
            self.store.take_out(work)
        };
        match all {
            Ok((done, outcomes)) => {
                self.tell(outcomes);
                for ((_, answer), written) in writes.into_iter().zip(done) {
                    let _ = answer.send(Ok(written));
                }
            }
            Err(error) if writes.len() == 1 || error.may_have_happened() => {
                for (_, answer) in writes {
                    let _ = answer.send(Err(error.clone()));
                }
            }
            Err(_) => writes.into_iter().for_each(|write| self.write(vec![write])),
        }
    }

    fn tell(&self, outcomes: Vec<OutboxOutcome>) {
        self.status.send_if_modified(|known| {
            let now = self.store.now();
            let news = *known != now;
            *known = now;
            news
        });
        outcomes.into_iter().for_each(|outcome| tell(&self.listeners, outcome));
    }
}

fn carry_out(batch: &mut Batch<'_>, write: &Write, now: Timestamp) -> Result<Written> {
    match write {
        Write::Put(entries) => batch.put(entries, now).map(Written::Put),
        Write::Done(id) => batch.done(*id).map(|()| Written::Found(true)),
        Write::Park(id, entry, reason) => {
            let parked = Entry { parked: Some(reason.clone()), ..Entry::clone(entry) };
            batch.park(*id, &parked).map(|()| Written::Found(true))
        }
        Write::Retry(id) => batch.unpark(*id, Some(now)).map(Written::Found),
        Write::Discard(id) => batch.unpark(*id, None).map(Written::Found),
        Write::App(app) => batch.note_app(*app).map(|()| Written::Found(true)),
    }
}
