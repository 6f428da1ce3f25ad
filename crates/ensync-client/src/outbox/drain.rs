//! Sending what waits, whenever there is a connection.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensync_core::{AppId, Error, ErrorKind, EventId, Result};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::backoff::Holds;
use super::lanes::Lane;
use super::outcome::QueuedId;
use super::sending::{End, Known, Sender, Trouble};
use super::{Outbox, Shared};
use crate::session::{Session, State};

/// How many lanes are sent at a time.
const LANES: usize = 32;
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
    /// How often an event met an answer that is none, or may not mean what it seems to.
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
            if live && !over {
                self.sender.note_app().await;
            }
            // One time for all of this pass: a hold that ends during it must be either over for what is taken, or waited for.
            let now = Instant::now();
            let room = !over && live && running.len() < LANES && !self.holds.none(now);
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
                ended = self.connected(), if !over && !live => over |= ended.is_err(),
                _ = session.state().wait_beyond(None, closed), if !over && live => over = true,
                () = self.sender.shared().queued.notified(), if room => {}
                () = until(again), if again.is_some() && live && !over => {}
                _ = stopped.wait_for(|stop| *stop), if !over => over = true,
            }
        }
    }

    /// Waits for a connection: as somebody who needs one, once something waits to be sent.
    async fn connected(&self) -> Result<()> {
        let Sender { session, .. } = &self.sender;
        let mut now = self.sender.shared().now.clone();
        let to_send = async {
            // What is waited for stays locked while its guard lives.
            let waits = now.wait_for(|now| now.status.waiting > 0).await.is_ok();
            if waits { session.becomes_live_to_send().await } else { session.becomes_live().await }
        };
        tokio::select! {
            biased;
            live = session.becomes_live() => live,
            live = to_send => live,
        }
    }

    /// Begins to send lanes that neither are being sent nor held, those first that were not for the longest time. `Err` if the outbox is
    /// closed.
    async fn fill(&mut self, running: &mut Running, busy: &mut HashSet<Lane>, now: Instant) -> Result<(), ()> {
        let most = self.holds.at_a_time(LANES.saturating_sub(running.len()));
        let mut not = self.holds.held(now, busy);
        not.extend(busy.iter().cloned());
        let all = not.is_empty();
        match self.sender.shared().thread.take(most, Arc::new(not)).await {
            Ok(lanes) => {
                self.forget();
                self.holds.read();
                if all && lanes.is_empty() {
                    // Nothing waits at all.
                    self.holds = Holds::default();
                }
                if !lanes.is_empty() {
                    // From now on: the disk may have taken long.
                    self.holds.taken(Instant::now());
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

    /// Of what waits no more, for it expired or made room, nothing need be known.
    fn forget(&mut self) {
        let first = self.sender.shared().now.borrow().first;
        let waits = |id: &QueuedId| first.is_some_and(|first| id.0 >= first);
        self.odd.retain(|id, _| waits(id));
        self.answered.retain(|id, _| waits(id));
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
            Some(Trouble::NotYet) => self.holds.hold_alone(end.lane, Instant::now()),
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
