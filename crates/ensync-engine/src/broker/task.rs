//! The one task that owns the state.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ensync_core::{ClientId, Delivery, Error, ErrorKind, Reply, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Clock;
use super::attempts::Attempts;
use super::inbox;
use super::keep::Keeper;
use super::request::{Answer, Opened, Outcome, Request, refuse};
use crate::counters::ConnectionCounters;
use crate::log::{KeyHash, Log, Position, Record};
use crate::metrics::Metrics;
use crate::state::{Change, Outgoing, Provision, SessionNumber, Source, State, Step};

/// The most requests of a batch, and the bytes after which no more are taken in.
const BATCH: (usize, usize) = (2_048, 8 << 20);
/// The most deliveries between two batches.
const DELIVERIES: usize = 1_024;
/// How long to wait after the log refused, before what the engine itself has to store is tried again.
const LOG_PAUSE: Duration = Duration::from_secs(1);
/// How often is told that the log refuses.
const COMPLAINT: Duration = Duration::from_secs(10);
/// The longest sleep: the clock may be set meanwhile.
const NAP: Duration = Duration::from_secs(60);

/// The broker's task: takes all that waits, decides, appends once, applies, answers, delivers.
pub(super) struct Task {
    pub(super) state: State,
    pub(super) log: Arc<dyn Log>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) inboxes: HashMap<SessionNumber, (ClientId, inbox::Sender)>,
    /// After the log refused: when to try again what the engine itself has to store.
    pub(super) log_pause: Option<Instant>,
    /// Logins that failed.
    pub(super) attempts: Attempts,
    pub(super) counters: Arc<ConnectionCounters>,
    pub(super) metrics: Arc<Metrics>,
    /// When a refusal of the log was last told, so that a full disk does not fill the logs too.
    pub(super) complained: Option<Instant>,
    /// Why the log stores nothing more.
    pub(super) failed: watch::Sender<Option<Error>>,
    /// Checkpoints and retention.
    pub(super) keeper: Keeper,
    /// Dropped with the task: whoever waits for its end sees that.
    pub(super) _running: watch::Sender<()>,
}

/// Changes that wait for the log, and who waits for what they come to.
#[derive(Default)]
struct Pending {
    changes: Vec<Change>,
    /// With the number of changes up to and including the one whose outcome is the answer.
    answers: Vec<(usize, Answer<Outcome>)>,
}

impl Task {
    /// Runs until shutdown, or until every handle is gone. Ends every inbox then.
    pub(super) async fn run(mut self) {
        self.serve().await;
        if !self.inboxes.is_empty() {
            tracing::info!(sessions = self.inboxes.len(), reason = "stopping", "sessions ended");
        }
        self.inboxes.clear();
        self.keeper.finish(&self.state).await;
    }

    async fn serve(&mut self) {
        let mut open = true;
        while open {
            let mut batch = Vec::new();
            if self.state.has_work() || self.keeper.has_work() {
                // Others have their turn between two rounds of deliveries.
                tokio::task::yield_now().await;
                batch.extend(self.requests.try_recv().ok());
            } else {
                let (due, nap, clock) = (self.state.next_due(), self.nap(), self.clock.clone());
                tokio::select! {
                    biased;
                    request = self.requests.recv() => match request {
                        Some(request) => batch.push(request),
                        None => return,
                    },
                    () = clock.reach(due.unwrap_or_default()), if due.is_some() => {}
                    () = tokio::time::sleep(nap) => {}
                }
            }
            let mut bytes = batch.first().map_or(0, Request::size);
            while (1..BATCH.0).contains(&batch.len())
                && bytes < BATCH.1
                && let Ok(request) = self.requests.try_recv()
            {
                bytes = bytes.saturating_add(request.size());
                batch.push(request);
            }
            open = self.round(batch).await;
        }
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            self.round(vec![request]).await;
        }
    }

    /// How long to wait at most, whatever the clock says.
    fn nap(&self) -> Duration {
        if self.state.verdicts(1).is_empty() {
            return NAP;
        }
        self.log_pause.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now())).min(NAP)
    }

    /// Carries out a batch. `false` after a shutdown.
    async fn round(&mut self, batch: Vec<Request>) -> bool {
        self.state.tick(self.clock.now());
        let mut pending = Pending::default();
        let mut open = true;
        for request in batch {
            // What administrators ask for is rare, and is decided by what is so, not by what is about to be.
            match request {
                Request::Provision { what, answer } => {
                    self.commit(std::mem::take(&mut pending)).await;
                    let step = self.state.provision(*what).map(|change| Step::Commit(vec![change]));
                    pending.add(step, answer);
                    self.commit(std::mem::take(&mut pending)).await;
                }
                Request::ProvisionEach { what, answer } => {
                    self.commit(std::mem::take(&mut pending)).await;
                    self.provision_each(what, answer).await;
                }
                request => open &= self.take(request, &mut pending),
            }
        }
        if self.log_pause.is_none_or(|until| until <= Instant::now()) {
            pending.changes.extend(self.state.verdicts(BATCH.0));
        }
        self.commit(pending).await;
        self.end_sessions();
        self.deliver().await;
        self.keep().await;
        open
    }

    fn take(&mut self, request: Request, pending: &mut Pending) -> bool {
        match request {
            Request::Login { key, from, client_id, answer } => {
                let opened = self.log_in(&key, from, &client_id);
                if let Err(Ok(_)) = answer.send(opened) {
                    self.log_out(&client_id, "connection");
                }
            }
            Request::Logout { client_id, answer } => {
                self.log_out(&client_id, "connection");
                _ = answer.send(());
            }
            Request::Publish { peer, publish, answer } => {
                let step = self.state.publish(&peer, *publish);
                if step.as_ref().is_err_and(|error| error.kind() == ErrorKind::LimitExceeded) {
                    self.counters.publishes_limited.up();
                }
                pending.add(step, answer);
            }
            Request::Command { peer, command, answer } => pending.add(self.state.decide(&peer, *command), answer),
            // These were taken before.
            Request::Provision { .. } | Request::ProvisionEach { .. } => {}
            Request::Inspect(inspect) => inspect(&self.state),
            Request::Shutdown => return false,
        }
        true
    }

    /// Looks at a login, unless too many from there failed.
    fn log_in(&mut self, key: &KeyHash, from: Option<IpAddr>, client_id: &ClientId) -> Result<Opened> {
        let now = self.clock.now();
        if let Some(from) = from {
            self.attempts.check(from, now).inspect_err(|_| self.counters.logins_delayed.up())?;
        }
        let opened = self.state.login(key, client_id.clone());
        match (&opened, from) {
            (Ok(_), from) => {
                self.counters.logins.up();
                if let Some(from) = from {
                    self.attempts.succeeded(from);
                }
            }
            (Err(error), from) if error.kind() == ErrorKind::Unauthenticated => {
                self.counters.logins_refused.up();
                if let Some(from) = from {
                    self.attempts.failed(from, now);
                }
            }
            (Err(_), _) => self.counters.sessions_refused.up(),
        }
        opened.map(|(number, app)| {
            let (outbox, inbox) = inbox::channel();
            self.inboxes.insert(number, (client_id.clone(), outbox));
            Opened { app, public_key: self.state.public_key(&app), number, inbox }
        })
    }

    async fn provision_each(&mut self, what: Vec<Provision>, answer: Answer<usize>) {
        let mut pending = Pending::default();
        let changes = what.into_iter().filter_map(|what| self.state.provision(what).ok()).collect::<Vec<_>>();
        let (count, (done, outcome)) = (changes.len(), oneshot::channel());
        pending.add(Ok(Step::Commit(changes)), done);
        self.commit(pending).await;
        let stopped = || Error::new(ErrorKind::Internal, "a command was not answered");
        _ = answer.send(outcome.await.unwrap_or_else(|_| Err(stopped())).map(|_| count));
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
        let Pending { mut changes, mut answers } = pending;
        if changes.is_empty() {
            return;
        }
        let mut stored = self.append(&changes).await;
        if let Err(error) = &stored {
            self.complain(error, changes.len());
            if self.log.failure().is_some() {
                return refuse(answers.into_iter().map(|(_, answer)| answer), error);
            }
            let (rest, publishes) = Pending { changes, answers }.split();
            refuse(publishes, error);
            let smaller = !rest.changes.is_empty();
            (changes, answers) = (rest.changes, rest.answers);
            if smaller {
                stored = self.append(&changes).await;
            }
        }
        let positions = match stored {
            Ok(positions) => positions,
            Err(error) => {
                self.complain(&error, changes.len());
                self.log_pause = Some(Instant::now() + LOG_PAUSE);
                return refuse(answers.into_iter().map(|(_, answer)| answer), &error);
            }
        };
        self.log_pause = None;
        self.keeper.stored(&positions, &changes);
        let (mut positions, mut answers) = (positions.into_iter(), answers.into_iter().peekable());
        for (index, change) in changes.iter().enumerate() {
            let position = if change.durable { positions.next() } else { None };
            let applied = self.state.apply(position, &change.record);
            if let Some((_, answer)) = answers.next_if(|(end, _)| *end == index + 1) {
                _ = answer.send(applied.answer().map(Outcome::Reply));
            }
        }
    }

    /// Tells that the log refused, and whether it always will.
    fn complain(&mut self, error: &Error, changes: usize) {
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAINT) {
            self.complained = Some(Instant::now());
            tracing::error!(error = %ensync_core::report(error), changes, "the log refused a batch");
        }
        if let Some(failure) = self.log.failure() {
            self.log_pause = Some(Instant::now() + LOG_PAUSE);
            self.failed.send_if_modified(|known| known.replace(failure).is_none());
        }
    }

    /// Checkpoints and retention, a bit at a time.
    async fn keep(&mut self) {
        self.keeper.checkpoint(&self.state);
        let mut copies = self.keeper.sweep(&self.state, self.clock.now()).await;
        copies.retain(|copy| self.state.holds(copy));
        if copies.is_empty() {
            return;
        }
        let copies: Vec<_> = copies.into_iter().map(|record| Change { record, durable: true }).collect();
        match self.append(&copies).await {
            Ok(positions) => {
                self.keeper.stored(&positions, &copies);
                for (copy, position) in copies.iter().zip(positions) {
                    self.state.apply(Some(position), &copy.record);
                }
            }
            Err(error) => {
                self.complain(&error, copies.len());
                self.keeper.give_up(&error);
            }
        }
    }

    async fn append(&self, changes: &[Change]) -> Result<Vec<Position>> {
        let batch: Vec<_> =
            changes.iter().filter(|change| change.durable).map(|change| change.record.clone()).collect();
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let begun = std::time::Instant::now();
        let stored = self.log.append(&batch).await;
        self.metrics.committed(&batch, begun, stored.as_ref().err());
        let positions = stored?;
        if positions.len() != batch.len() {
            let message = format!("the log gave {} positions for {} records", positions.len(), batch.len());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        Ok(positions)
    }

    /// Makes the deliveries that can be made now.
    async fn deliver(&mut self) {
        for outgoing in self.state.dispatch(DELIVERIES) {
            let Some(delivery) = self.read(&outgoing).await else { continue };
            let Some((client_id, outbox)) = self.inboxes.get(&outgoing.session) else { continue };
            if !outbox.send(delivery) {
                // The transport let go of the inbox, and will log out, or cannot any more.
                let client_id = client_id.clone();
                self.log_out(&client_id, "unread");
            }
        }
    }

    /// Reads a payload. If that fails the lease runs out, and the delivery counts: an event that cannot be read at all ends up
    /// with the dead letters.
    async fn read(&self, outgoing: &Outgoing) -> Option<Delivery> {
        let delivery = match read(&*self.log, &outgoing.source).await {
            Ok(record) => record.and_then(|record| outgoing.delivery(&record)),
            Err(error) => {
                tracing::error!(%error, event = ?outgoing.event, "cannot read an event");
                return None;
            }
        };
        if delivery.is_none() {
            tracing::error!(event = ?outgoing.event, "the log does not have an event that waits for delivery");
        }
        delivery
    }
}

impl Pending {
    /// Takes the publishes out, each with all changes of its command; the second value is who waits for them.
    fn split(self) -> (Self, Vec<Answer<Outcome>>) {
        let (mut rest, mut publishes) = (Self::default(), Vec::new());
        let (mut changes, mut begin) = (self.changes.into_iter(), 0);
        for (end, answer) in self.answers {
            let group: Vec<_> = changes.by_ref().take(end - begin).collect();
            begin = end;
            if group.iter().any(|change| matches!(*change.record, Record::Publish(_))) {
                publishes.push(answer);
            } else {
                rest.changes.extend(group);
                rest.answers.push((rest.changes.len(), answer));
            }
        }
        // The verdicts, which nobody waits for.
        rest.changes.extend(changes);
        (rest, publishes)
    }

    fn add(&mut self, step: Result<Step>, answer: Answer<Outcome>) {
        let outcome = match step {
            Ok(Step::Commit(changes)) if !changes.is_empty() => {
                self.changes.extend(changes);
                return self.answers.push((self.changes.len(), answer));
            }
            Ok(Step::Commit(_)) => Ok(Outcome::Reply(Reply::Done)),
            Ok(Step::Answer(reply)) => Ok(Outcome::Reply(reply)),
            Ok(Step::Replay(replay)) => Ok(Outcome::Replay(replay)),
            Err(refusal) => Err(refusal),
        };
        _ = answer.send(outcome);
    }
}

pub(super) async fn read(log: &dyn Log, source: &Source) -> Result<Option<Arc<crate::log::Record>>> {
    match source {
        Source::Log(position) => log.read(*position).await,
        Source::Memory(record) => Ok(Some(record.clone())),
    }
}
