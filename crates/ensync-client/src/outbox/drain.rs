//! Sending what waits, whenever there is a connection.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensync_core::{AppId, Command, Error, ErrorKind, EventId, Reply, Result};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::backoff::Holds;
use super::entry::{Entry, Reason};
use super::lanes::Lane;
use super::outcome::{OutboxOutcome, QueuedId, tell};
use super::thread::{Write, Written, gone};
use super::{Outbox, Shared};
use crate::client::unexpected;
use crate::session::{Session, State};

/// How many lanes are sent at a time.
const LANES: usize = 32;
/// How often an event may meet an answer that is none before it counts as refused.
const PATIENCE: u32 = 5;
/// How long a drain may take over what was answered already when its client closes.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// An outbox that a client drains, until this is dropped or the client closes.
#[derive(Debug)]
pub(crate) struct Attached {
    outbox: Outbox,
    stop: watch::Sender<bool>,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    abort: tokio::task::AbortHandle,
}

impl Attached {
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Whether its client was closed.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Sends nothing more. What is on its way is still answered.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the outbox is free, once the session has ended.
    pub(crate) async fn ended(&self) {
        let Some(mut task) = self.task.lock().await.take() else { return };
        if tokio::time::timeout(LAST_WORDS, &mut task).await.is_err() {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // The task holds the session, which would live on with it.
        self.abort.abort();
    }
}

/// The right to drain an outbox, given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim(Outbox);

impl Outbox {
    /// Takes the right to drain it.
    pub(crate) fn claim(self) -> Result<Claim> {
        if self.0.attached.swap(true, Ordering::AcqRel) {
            let why = "another client drains it already; close that one first, or use a file for each";
            return Err(self.at(Error::new(ErrorKind::InvalidInput, why)));
        }
        Ok(Claim(self))
    }
}

impl Claim {
    /// Drains it over a session from now on.
    pub(crate) fn attach(self, session: Session, keys: Arc<[AppId]>) -> Attached {
        let (outbox, (stop, stopped)) = (self.0.clone(), watch::channel(false));
        let sender = Sender { outbox: outbox.clone(), session, keys, stopped };
        let drain =
            Drain { _claim: self, sender, holds: Holds::default(), odd: HashMap::new(), answered: HashMap::new() };
        let task = tokio::spawn(drain.run());
        let abort = task.abort_handle();
        Attached { outbox, stop, task: tokio::sync::Mutex::new(Some(task)), abort }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Shared { attached, drains, .. } = &*self.0.0;
        attached.store(false, Ordering::Release);
        drains.send_replace(());
    }
}

struct Drain {
    _claim: Claim,
    sender: Sender,
    /// What waits before it is tried again.
    holds: Holds<Lane>,
    /// How often an event met an answer that is none.
    odd: HashMap<QueuedId, u32>,
    /// What the engine accepted and the disk did not let go of yet. It is not sent again.
    answered: HashMap<QueuedId, EventId>,
}

type Running = FuturesUnordered<BoxFuture<'static, End>>;

impl Drain {
    async fn run(mut self) {
        let (mut running, mut busy) = (Running::new(), HashSet::new());
        let mut stopped = self.sender.stopped.clone();
        let closed = |state: &State| matches!(state, State::Closed(_)).then_some(());
        let mut over = false;
        loop {
            over |= self.sender.is_over();
            if over && running.is_empty() {
                return;
            }
            let live = self.sender.session.welcome().is_some();
            // One time for all of this pass: a hold that ends during it must be either over for what is taken, or waited for.
            let now = Instant::now();
            let room = !over && live && running.len() < self.holds.at_a_time(LANES) && !self.holds.all(now);
            if room && self.fill(&mut running, &mut busy, now).await.is_err() {
                over = true;
                continue;
            }
            let (again, session) = (self.holds.next(now), &self.sender.session);
            tokio::select! {
                Some(end) = running.next(), if !running.is_empty() => {
                    busy.remove(&end.lane);
                    self.learn(end);
                }
                ended = session.wait_until_live(), if !over && !live => over |= ended.is_err(),
                _ = session.state().wait_beyond(None, closed), if !over && live => over = true,
                () = self.sender.shared().queued.notified(), if room => {}
                () = until(again), if again.is_some() && live && !over => {}
                _ = stopped.wait_for(|stop| *stop), if !over => over = true,
            }
        }
    }

    /// Begins to send the oldest lanes that neither are being sent nor held. `Err` if the outbox is closed.
    async fn fill(&mut self, running: &mut Running, busy: &mut HashSet<Lane>, now: Instant) -> Result<(), ()> {
        let most = self.holds.at_a_time(LANES).saturating_sub(running.len());
        let not: HashSet<Lane> = self.holds.held(now).chain(&*busy).cloned().collect();
        match self.sender.shared().thread.take(most, Arc::new(not)).await {
            Ok(lanes) => {
                if lanes.is_empty() && running.is_empty() && self.holds.held(now).next().is_none() {
                    // Nothing waits at all.
                    self.odd.clear();
                    self.holds = Holds::default();
                }
                for (lane, entries) in lanes {
                    busy.insert(lane.clone());
                    let known = |id| Known {
                        odd: self.odd.get(&id).copied().unwrap_or(0),
                        answer: self.answered.get(&id).cloned(),
                    };
                    let entries = entries.into_iter().map(|(id, entry)| (id, entry, known(id))).collect();
                    running.push(Box::pin(self.sender.clone().send(lane, entries)));
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Closed => Err(()),
            Err(error) => {
                tracing::warn!(outbox = ?self.sender.outbox, %error, "the outbox cannot be read; trying again");
                // From now on: the disk may have taken long to say so.
                self.holds.hold_all(Instant::now());
                Ok(())
            }
        }
    }

    fn learn(&mut self, end: End) {
        for id in end.done {
            self.odd.remove(&id);
            self.answered.remove(&id);
            self.holds.release(&end.lane);
        }
        let unwritten = !end.unwritten.is_empty();
        self.answered.extend(end.unwritten);
        match end.stopped_by {
            None if unwritten => self.holds.hold(end.lane, Instant::now()),
            None => {}
            // The next connection is waited for, not a time.
            Some(Trouble::Lost) if self.sender.session.welcome().is_none() => {}
            Some(trouble) => {
                if let Trouble::Odd(id) = trouble {
                    *self.odd.entry(id).or_default() += 1;
                }
                self.holds.hold(end.lane, Instant::now());
            }
        }
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// What the drain knows of an event from earlier attempts.
struct Known {
    odd: u32,
    answer: Option<EventId>,
}

/// How a lane's turn ended.
struct End {
    lane: Lane,
    /// What is sent, or parked.
    done: Vec<QueuedId>,
    /// What the engine accepted, and the disk did not let go of.
    unwritten: Vec<(QueuedId, EventId)>,
    stopped_by: Option<Trouble>,
}

impl End {
    fn learn(&mut self, (id, written): (QueuedId, Result<(), EventId>)) {
        match written {
            Ok(()) => self.done.push(id),
            Err(answer) => self.unwritten.push((id, answer)),
        }
    }
}

/// What became of one event.
enum Sent {
    Accepted(EventId),
    Parked,
}

/// Tells when something is written.
type Writing = oneshot::Receiver<Result<Written>>;

/// Why a lane has to wait.
enum Trouble {
    /// The connection is gone, or answers nothing.
    Lost,
    /// The engine cannot take it now, or the outbox's disk does not.
    Later,
    /// The answer was none.
    Odd(QueuedId),
}

/// Sends the events of one lane.
#[derive(Clone)]
struct Sender {
    outbox: Outbox,
    session: Session,
    /// The ids of the client's own keys.
    keys: Arc<[AppId]>,
    stopped: watch::Receiver<bool>,
}

impl Sender {
    fn shared(&self) -> &Shared {
        &self.outbox.0
    }

    fn is_over(&self) -> bool {
        *self.stopped.borrow() || self.session.is_draining()
    }

    /// Sends what is given, one after the other's answer. That an event is done with is written down meanwhile, in one transaction with
    /// what is queued at that time: a disk that takes as long as the engine must not halve what a lane sends.
    async fn send(self, lane: Lane, entries: Vec<(QueuedId, Entry, Known)>) -> End {
        let mut end = End { lane, done: Vec::new(), unwritten: Vec::new(), stopped_by: None };
        let mut noted = FuturesUnordered::new();
        for (id, entry, known) in entries {
            if self.is_over() || end.stopped_by.is_some() || !end.unwritten.is_empty() {
                break;
            }
            let sent = {
                let mut sending = pin!(self.send_one(id, &entry, known));
                loop {
                    tokio::select! {
                        biased;
                        sent = &mut sending => break sent,
                        Some(outcome) = noted.next(), if !noted.is_empty() => end.learn(outcome),
                    }
                }
            };
            match sent {
                Ok(Sent::Accepted(event)) => {
                    let begun = self.outbox.0.thread.begin(Write::Done(id)).await;
                    noted.push(self.accepted(id, entry, event, begun));
                }
                Ok(Sent::Parked) => end.done.push(id),
                Err(trouble) => end.stopped_by = Some(trouble),
            }
        }
        while let Some(outcome) = noted.next().await {
            end.learn(outcome);
        }
        end
    }

    /// The engine took it; waits until the disk lets go of it. The event's id at the engine, if that does not.
    async fn accepted(
        &self,
        id: QueuedId,
        entry: Entry,
        event: EventId,
        begun: Result<Writing>,
    ) -> (QueuedId, Result<(), EventId>) {
        let written = match begun {
            Ok(writing) => writing.await.unwrap_or_else(|_| Err(gone())),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(queued = %id, %error, "that a queued event is sent is not kept yet");
            return (id, Err(event));
        }
        tell(&self.shared().listeners, OutboxOutcome::Accepted { about: entry.about(id), id: event });
        (id, Ok(()))
    }

    async fn send_one(&self, id: QueuedId, entry: &Entry, known: Known) -> Result<Sent, Trouble> {
        let answer = match (known.answer, self.check_app(entry)) {
            (Some(id), _) => Ok(Reply::Published { id }),
            (None, Ok(())) => self.session.try_call(Command::Publish(entry.command())).await,
            (None, Err(error)) => Err(error),
        };
        let refusal = match answer {
            Ok(Reply::Published { id }) => return Ok(Sent::Accepted(id)),
            Ok(other) => unexpected("publish", &other),
            Err(error) => error,
        };
        match refusal.kind() {
            ErrorKind::Connect | ErrorKind::Closed | ErrorKind::Interrupted | ErrorKind::Timeout => {
                return Err(Trouble::Lost);
            }
            // About the session, which ends by it, not about the event.
            ErrorKind::Unauthenticated => return Err(Trouble::Lost),
            ErrorKind::Unavailable | ErrorKind::LimitExceeded => return Err(Trouble::Later),
            ErrorKind::Protocol | ErrorKind::Internal if known.odd < PATIENCE => return Err(Trouble::Odd(id)),
            _ => {}
        }
        let park = Write::Park(id, Box::new(entry.clone()), Reason::of(&refusal));
        if let Err(error) = self.outbox.write(park).await {
            tracing::warn!(queued = %id, %error, "that a queued event was refused is not kept yet");
            return Err(Trouble::Later);
        }
        tell(&self.shared().listeners, OutboxOutcome::Parked { about: entry.about(id), why: refusal });
        Ok(Sent::Parked)
    }

    /// What another app's key sealed would be refused by its readers, or taken for this app's. An earlier key of this app's is not
    /// another's.
    fn check_app(&self, entry: &Entry) -> Result<()> {
        let Some(welcome) = self.session.welcome() else { return Ok(()) };
        let Some((own, app)) = entry.own.zip(welcome.app_id) else { return Ok(()) };
        // An engine that tells no earlier ids may have some; who has the key knows that it is his.
        let ours = own == app || welcome.config.earlier_ids().any(|id| id == own) || self.keys.contains(&own);
        if ours {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidKey,
            format!(
                "it was queued by app {own}, and this client is app {app}; an outbox is for one app (of a key pair that was rotated the \
                 engine must know the earlier one still)"
            ),
        ))
    }
}
