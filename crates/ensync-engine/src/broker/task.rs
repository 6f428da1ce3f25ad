//! The one task that owns the state.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ensync_core::{ClientId, Error, ErrorKind, EventId, Result};
use futures::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::clock::Time;
use super::inbox;
use super::login_throttle::LoginThrottle;
use super::maintenance::Maintenance;
use super::pending::Pending;
use super::records::Records;
use super::request::{Answer, Opened, Origin, Outcome, Request, is_full, refuse};
use super::unclaimed::{Claim, Unclaimed};
use crate::counters::ConnectionCounters;
use crate::metrics::Metrics;
use crate::model::{KeyHash, Position, Record};
use crate::seldom::Seldom;
use crate::state::{Change, LetterAction, SessionNumber, State, Step};

/// The most requests of a batch, and the bytes after which no more are taken in.
const BATCH: (usize, usize) = (2_048, 8 << 20);
/// The most deliveries between two batches.
const DELIVERIES: usize = 1_024;
/// How long to wait after the log refused, before what the engine itself has to store is tried again.
const LOG_PAUSE: Duration = Duration::from_secs(1);
/// How often is told that the log refuses.
const COMPLAINT: Duration = Duration::from_secs(10);
/// How many events a purge takes at a time, and how many it looks at for them.
const PURGED: (usize, usize) = (1_024, 8_192);
/// The longest sleep.
const NAP: Duration = Duration::from_secs(60);

/// The broker's task: takes all that waits, decides, appends once, applies, answers, delivers.
pub(super) struct Task {
    pub(super) state: State,
    pub(super) records: Arc<Records>,
    pub(super) time: Time,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) inboxes: HashMap<SessionNumber, (ClientId, inbox::Sender, Origin)>,
    /// After the log refused: when to try again what the engine itself has to store.
    pub(super) log_pause: Option<Instant>,
    /// Tells of standstills.
    pub(super) standstill: Seldom,
    /// Logins that failed.
    pub(super) login_throttle: LoginThrottle,
    pub(super) counters: Arc<ConnectionCounters>,
    pub(super) metrics: Arc<Metrics>,
    /// When a refusal of the log was last told, so that a full disk does not fill the logs too.
    pub(super) complained: Option<Instant>,
    /// Why the log stores nothing more.
    pub(super) failed: watch::Sender<Option<Error>>,
    /// Sessions that nobody took.
    pub(super) unclaimed: Arc<Unclaimed>,
    /// Checkpoints and space.
    pub(super) maintenance: Maintenance,
    /// Dropped with the task: whoever waits for its end sees that.
    pub(super) _running: watch::Sender<()>,
}

impl Task {
    /// Runs until shutdown, or until every handle is gone. Ends every inbox then.
    pub(super) async fn run(mut self) {
        self.serve().await;
        if !self.inboxes.is_empty() {
            tracing::info!(sessions = self.inboxes.len(), reason = "stopping", "sessions ended");
        }
        self.hand_back().await;
        self.maintenance.finish(&mut self.state).await;
    }

    /// Ends every session, and stores how often what they had was delivered.
    async fn hand_back(&mut self) {
        for (_, (client_id, ..)) in self.inboxes.drain() {
            self.state.logout(&client_id);
        }
        loop {
            let changes = self.state.pending(BATCH.0);
            let more = self.state.takes_back();
            if changes.is_empty() && !more || self.store(changes).await.is_err() {
                return;
            }
            if more {
                self.state.tick(self.time.now());
            }
        }
    }

    async fn serve(&mut self) {
        let mut open = true;
        while open {
            let mut batch = Vec::new();
            if self.state.has_work() || self.maintenance.has_work() {
                // Others have their turn between two rounds of deliveries.
                tokio::task::yield_now().await;
                _ = self.maintenance.copied().now_or_never();
                batch.extend(self.requests.try_recv().ok());
            } else {
                let (due, nap) = (self.state.next_due(), self.nap());
                let reached = self.time.reach(due.unwrap_or_default());
                tokio::select! {
                    biased;
                    request = self.requests.recv() => match request {
                        Some(request) => batch.push(request),
                        None => return,
                    },
                    () = reached, if due.is_some() => {}
                    () = self.maintenance.copied() => {}
                    () = tokio::time::sleep(nap) => {}
                }
            }
            if !batch.is_empty() {
                self.take_in(&mut batch);
            }
            open = self.round(batch).await;
        }
        self.requests.close();
        loop {
            let mut batch = Vec::new();
            self.take_in(&mut batch);
            if batch.is_empty() {
                return;
            }
            self.round(batch).await;
        }
    }

    /// Fills a batch up with what waits.
    fn take_in(&mut self, batch: &mut Vec<Request>) {
        let mut bytes = batch.first().map_or(0, Request::size);
        while batch.len() < BATCH.0
            && bytes < BATCH.1
            && let Ok(request) = self.requests.try_recv()
        {
            bytes = bytes.saturating_add(request.size());
            batch.push(request);
        }
    }

    /// How long to wait at most, whatever the clock says.
    fn nap(&self) -> Duration {
        let now = Instant::now();
        let longest = if self.state.has_leases() && self.time.runs_alone() { Time::LOOK } else { NAP };
        let nap = self.maintenance.next().saturating_duration_since(now).min(longest);
        if self.state.pending(1).is_empty() {
            return nap;
        }
        self.log_pause.map_or(Duration::ZERO, |until| until.saturating_duration_since(now)).min(nap)
    }

    /// Carries out a batch. `false` after a shutdown.
    async fn round(&mut self, batch: Vec<Request>) -> bool {
        if let Some(gap) = self.time.look().filter(|_| self.state.has_leases()) {
            if let Some(times) = self.standstill.due() {
                let ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(ms, times, "the engine stood still; leases last longer by that");
            }
            self.state.stood_still(gap);
        }
        self.state.tick(self.time.now());
        let mut pending = Pending::default();
        let mut open = true;
        for request in batch {
            // What administrators ask for is rare, and is decided by what is so, not by what is about to be.
            match request {
                Request::Admin { command, looks: (before, after), answer } => {
                    self.commit(std::mem::take(&mut pending)).await;
                    before(&self.state);
                    let changes = self.state.administer(*command);
                    self.commit(Pending::of(changes, answer)).await;
                    after(&self.state);
                }
                Request::Letter { what, id, answer } => {
                    self.commit(std::mem::take(&mut pending)).await;
                    let change = self.state.dead_letter(what, &id).map(|change| vec![change]);
                    self.commit(Pending::of(change, answer)).await;
                }
                Request::Letters { what, ids, answer } => {
                    self.commit(std::mem::take(&mut pending)).await;
                    self.letters(what, &ids, answer).await;
                }
                Request::Purge { purge, answer } => {
                    self.commit(std::mem::take(&mut pending)).await;
                    let (changes, left) = self.state.purge_some(&purge, PURGED);
                    let count = changes.len();
                    let done = if count == 0 { Ok(()) } else { self.store_all(changes).await };
                    _ = answer.send(done.map(|()| (count, left)));
                }
                request => open &= self.take(request, &mut pending),
            }
        }
        if self.records.log.failure().is_some() {
            self.come_back();
            // What is left can never be stored, and is no reason for the next round.
            self.log_pause = Some(Instant::now() + LOG_PAUSE);
        } else if self.log_pause.is_none_or(|until| until <= Instant::now()) {
            pending.add_own(self.state.pending(BATCH.0));
        }
        self.commit(pending).await;
        for client_id in self.unclaimed.take() {
            self.log_out(&client_id, "connection");
        }
        self.end_sessions();
        self.deliver();
        let mut lost = Vec::new();
        for outgoing in self.records.take_lost() {
            if let Some(change) = self.state.unreadable(&outgoing) {
                self.records.tell_damage(&outgoing);
                lost.push(change);
            }
        }
        // If that cannot be stored, they are looked for once more when their leases run out.
        _ = self.store(lost).await;
        self.keep().await;
        open
    }

    fn take(&mut self, request: Request, pending: &mut Pending) -> bool {
        match request {
            Request::Login { key, from, origin, client_id, answer } => {
                // Who is gone by now has not claimed it.
                _ = answer.send(self.log_in(&key, (from, origin), &client_id));
            }
            Request::Logout { client_id, answer } => {
                self.log_out(&client_id, "connection");
                _ = answer.send(());
            }
            Request::Publish { peer, publish, caller } => {
                let step = self.state.publish(&peer, *publish);
                if step.as_ref().is_err_and(|error| error.kind() == ErrorKind::LimitExceeded) {
                    self.counters.publishes_limited.up();
                }
                pending.add(step, caller);
            }
            Request::Command { peer, command, answer } => pending.add(self.state.decide(&peer, *command), answer),
            // These were taken before.
            Request::Admin { .. } | Request::Letter { .. } | Request::Letters { .. } | Request::Purge { .. } => {}
            Request::Connected(look) => {
                let origin = |number| self.inboxes.get(&number).map(|(.., origin)| *origin);
                look(&self.state, &origin);
            }
            Request::End { number, answer } => {
                let client_id = self.inboxes.get(&number).map(|(client_id, ..)| client_id.clone());
                if let Some(client_id) = &client_id {
                    self.log_out(client_id, "administrator");
                }
                _ = answer.send(Ok(client_id.is_some()));
            }
            Request::Inspect(inspect) => inspect(&self.state),
            Request::Shutdown => return false,
            #[cfg(test)]
            Request::Checkpoints => self.maintenance.save_always(),
        }
        true
    }

    /// Looks at a login. Who holds a key that is right never waits, whatever others at his address did: keys cannot be guessed,
    /// and a delay for all from there would lock good clients out. Only a failure finds out that there were too many before it.
    fn log_in(
        &mut self,
        key: &KeyHash,
        (from, origin): (Option<IpAddr>, Origin),
        client_id: &ClientId,
    ) -> Result<Opened> {
        let now = self.time.now();
        let opened = self.state.login(key, client_id.clone());
        match &opened {
            Ok(_) => self.counters.logins.up(),
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {
                self.counters.logins_refused.up();
                if let Some(from) = from {
                    self.login_throttle.failed(from, now).inspect_err(|_| self.counters.logins_delayed.up())?;
                }
            }
            Err(error) if error.kind() == ErrorKind::LimitExceeded => self.counters.sessions_refused.up(),
            Err(_) => self.counters.logins_forbidden.up(),
        }
        opened.map(|(number, app)| {
            let (outbox, inbox) = inbox::channel(&self.records);
            self.inboxes.insert(number, (client_id.clone(), outbox, Origin { since: now, ..origin }));
            let earlier_keys = self.state.earlier_keys(&app).to_vec();
            let unclaimed = Claim::new(&self.unclaimed, client_id.clone());
            Opened { app, public_key: self.state.public_key(&app), earlier_keys, number, inbox, unclaimed }
        })
    }

    /// Lets events that came back be delivered again though the log stores nothing any more: no restart goes on from this run's log.
    /// What is in memory only needs no log.
    fn come_back(&mut self) {
        for change in self.state.pending(BATCH.0) {
            if !change.durable || matches!(*change.record, Record::Return { .. }) {
                self.state.apply(None, &change.record);
            }
        }
    }

    async fn letters(&mut self, what: LetterAction, ids: &[EventId], answer: Answer<usize>) {
        let mut changes = ids.iter().filter_map(|id| self.state.dead_letter(what, id).ok()).collect::<Vec<_>>();
        // One that is named twice is dropped or requeued once: there is nothing left of it for the second.
        let mut seen = HashSet::new();
        changes.retain(|change| change.record.event().is_none_or(|event| seen.insert(event)));
        let count = changes.len();
        _ = answer.send(self.store_all(changes).await.map(|()| count));
    }

    /// Stores changes and applies them, all or none.
    async fn store_all(&mut self, changes: Vec<Change>) -> Result<()> {
        let (mut pending, (done, outcome)) = (Pending::default(), oneshot::channel());
        pending.add(Ok(Step::Commit(changes)), done);
        self.commit(pending).await;
        let lost = || Error::new(ErrorKind::Internal, "a command was not answered");
        outcome.await.unwrap_or_else(|_| Err(lost())).map(drop)
    }

    /// Ends the inboxes of sessions that the state ended: their transports tell the clients.
    fn end_sessions(&mut self) {
        for number in self.state.take_ended() {
            tracing::info!(session = number, reason = "access taken", "session ended");
            self.inboxes.remove(&number);
        }
    }

    /// `reason`: "connection" if its transport says so, "unread" if nobody takes its deliveries any more.
    fn log_out(&mut self, client_id: &ClientId, reason: &'static str) {
        if let Some(number) = self.state.logout(client_id) {
            tracing::info!(session = number, reason, "session ended");
            self.inboxes.remove(&number);
        }
    }

    /// Stores changes, applies them and answers. What the log refuses is not applied: all of it, or the publishes with what
    /// belongs to them, for a disk without space may still have some for the rest.
    async fn commit(&mut self, pending: Pending) {
        let Pending { mut changes, mut callers } = pending;
        if changes.is_empty() {
            return;
        }
        let mut stored = self.append(&changes).await;
        // Nobody is refused for what can be dropped.
        if stored.as_ref().is_err_and(is_full) && self.maintenance.make_space(&mut self.state, self.time.wall()).await {
            stored = self.append(&changes).await;
        }
        if let Err(error) = &stored {
            self.complain(error, changes.len());
            if self.records.log.failure().is_some() {
                return refuse(callers.into_iter().map(|(_, caller)| caller), error);
            }
            let (rest, publishes) = Pending { changes, callers }.split();
            refuse(publishes, error);
            let smaller = !rest.changes.is_empty();
            (changes, callers) = (rest.changes, rest.callers);
            if smaller {
                stored = self.append(&changes).await;
            }
        }
        let positions = match stored {
            Ok(positions) => positions,
            Err(error) => {
                self.complain(&error, changes.len());
                self.log_pause = Some(Instant::now() + LOG_PAUSE);
                return refuse(callers.into_iter().map(|(_, caller)| caller), &error);
            }
        };
        self.log_pause = None;
        self.maintenance.stored(&positions, &changes);
        let (mut positions, mut callers) = (positions.into_iter(), callers.into_iter().peekable());
        for (index, change) in changes.iter().enumerate() {
            let position = if change.durable { positions.next() } else { None };
            let applied = self.state.apply(position, &change.record);
            if let Some((_, caller)) = callers.next_if(|(end, _)| *end == index + 1) {
                caller.tell(applied.answer().map(Outcome::Reply));
            }
        }
    }

    /// Tells that the log refused, and whether it always will.
    pub(super) fn complain(&mut self, error: &Error, changes: usize) {
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAINT) {
            self.complained = Some(Instant::now());
            tracing::error!(error = %ensync_core::report(error), changes, "the log refused a batch");
        }
        if let Some(failure) = self.records.log.failure() {
            self.log_pause = Some(Instant::now() + LOG_PAUSE);
            self.failed.send_if_modified(|known| known.replace(failure).is_none());
        }
    }

    pub(super) async fn append(&self, changes: &[Change]) -> Result<Vec<Position>> {
        let batch: Vec<_> =
            changes.iter().filter(|change| change.durable).map(|change| change.record.clone()).collect();
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let begun = std::time::Instant::now();
        let stored = self.records.append(&batch).await;
        self.metrics.committed(&batch, begun, stored.as_ref().err());
        stored
    }

    /// Gives out the deliveries that can be made now. Nothing that is not in the log yet is among them.
    fn deliver(&mut self) {
        for outgoing in self.state.dispatch(DELIVERIES) {
            let Some((client_id, outbox, _)) = self.inboxes.get(&outgoing.consumer) else { continue };
            if !outbox.send(outgoing) {
                // The transport let go of the inbox, and will log out, or cannot any more.
                let client_id = client_id.clone();
                self.log_out(&client_id, "unread");
            }
        }
    }
}
