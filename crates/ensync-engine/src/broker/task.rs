//! The task that owns a partition.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ensync_core::{Error, ErrorKind, EventId};
use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::clock::Time;
use super::maintenance::Maintenance;
use super::pending::Pending;
use super::records::Records;
use super::request::{Answer, Request};
use super::running::Running;
use super::session_layer::SessionLayer;
use crate::counters::ConnectionCounters;
use crate::metrics::Metrics;
use crate::model::{Need, Record};
use crate::partition::Partition;
use crate::seldom::Seldom;
use crate::state::LetterAction;

/// The most requests of a batch, and the bytes after which no more are taken in.
const BATCH: (usize, usize) = (2_048, 8 << 20);
/// The most deliveries between two batches.
const DELIVERIES: usize = 1_024;
/// How long to wait after the log refused, before what the engine itself has to store is tried again.
pub(super) const LOG_PAUSE: Duration = Duration::from_secs(1);
/// How many events a purge takes at a time, and how many it looks at for them.
const PURGED: (usize, usize) = (1_024, 8_192);
/// How long to wait at the end until the other partitions have carried out what waits.
const DRAIN: Duration = Duration::from_secs(5);
/// The longest sleep.
const NAP: Duration = Duration::from_secs(60);

/// The task of a partition: takes all that waits, decides, appends once, applies, answers, delivers.
pub(super) struct Task {
    /// Which partition it is.
    pub(super) index: usize,
    pub(super) partition: Partition,
    pub(super) layer: Arc<SessionLayer>,
    pub(super) records: Arc<Records>,
    pub(super) time: Time,
    pub(super) requests: mpsc::Receiver<Request>,
    /// After the log refused: when to try again what the engine itself has to store.
    pub(super) log_pause: Option<Instant>,
    /// Tells of standstills.
    pub(super) standstill: Seldom,
    pub(super) counters: Arc<ConnectionCounters>,
    pub(super) metrics: Arc<Metrics>,
    /// When a refusal of the log was last told, so that a full disk does not fill the logs too.
    pub(super) complained: Option<Instant>,
    /// Why the log stores nothing more.
    pub(super) failed: Arc<watch::Sender<Option<Error>>>,
    /// Checkpoints and space.
    pub(super) maintenance: Maintenance,
    /// Told when a partition finds no space: the others may have what nobody needs. It is seen by one that is at work, too.
    pub(super) space_wanted: (Arc<watch::Sender<()>>, watch::Receiver<()>),
    /// When this one told that last.
    pub(super) wanted_last: Option<Instant>,
    /// Dropped when all that waited is carried out; and when that is so of all partitions.
    pub(super) serves: Option<watch::Sender<()>>,
    pub(super) served: watch::Receiver<()>,
    /// Dropped with the task: whoever waits for its end sees that.
    pub(super) running: Running,
}

impl Task {
    /// Runs until shutdown, or until every handle is gone. Ends the inboxes of its apps then.
    pub(super) async fn run(mut self) {
        self.serve().await;
        self.all_served().await;
        self.hand_back().await;
        self.maintenance.finish(&mut self.partition).await;
        self.running.end();
    }

    /// Waits until every partition has carried out what waits: some of it is from the sessions that end next. One whose disk hangs is no
    /// reason for the others to lose what they can still store.
    async fn all_served(&mut self) {
        self.serves = None;
        let all = async { while self.served.changed().await.is_ok() {} };
        _ = tokio::time::timeout(DRAIN, all).await;
    }

    /// Ends every session of its apps, and stores how often what they had was delivered.
    async fn hand_back(&mut self) {
        let ended = self.layer.write().end_all(self.index);
        if !ended.is_empty() {
            tracing::info!(sessions = ended.len(), reason = "stopping", "sessions ended");
        }
        ended.into_iter().for_each(|session| self.partition.leave(session.number));
        loop {
            let changes = self.partition.pending(BATCH.0);
            let more = self.partition.takes_back();
            if changes.is_empty() && !more || self.store(changes).await.is_err() {
                return;
            }
            if more {
                self.partition.tick(self.time.now());
            }
        }
    }

    async fn serve(&mut self) {
        let mut open = true;
        while open {
            let mut batch = Vec::new();
            if self.partition.has_work() || self.maintenance.has_work() {
                // Others have their turn between two rounds of deliveries.
                tokio::task::yield_now().await;
                _ = self.maintenance.copied().now_or_never();
                batch.extend(self.requests.try_recv().ok());
            } else {
                let (due, nap) = (self.partition.next_due(), self.nap());
                let reached = self.time.reach(due.unwrap_or_default());
                tokio::select! {
                    biased;
                    request = self.requests.recv() => match request {
                        Some(request) => batch.push(request),
                        None => return,
                    },
                    () = reached, if due.is_some() => {}
                    () = self.maintenance.copied() => {}
                    // The round sees what it is.
                    () = changes(self.space_wanted.1.clone()) => {}
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
        let longest = if self.partition.has_leases() && self.time.runs_alone() { Time::LOOK } else { NAP };
        let nap = self.maintenance.next().saturating_duration_since(now).min(longest);
        if self.partition.pending(1).is_empty() {
            return nap;
        }
        self.log_pause.map_or(Duration::ZERO, |until| until.saturating_duration_since(now)).min(nap)
    }

    /// Carries out a batch. `false` after a shutdown.
    async fn round(&mut self, batch: Vec<Request>) -> bool {
        if let Some(gap) = self.time.look().filter(|_| self.partition.has_leases()) {
            if let Some(times) = self.standstill.due() {
                let ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(ms, times, "the engine stood still; leases last longer by that");
            }
            self.partition.stood_still(gap);
        }
        if self.space_wanted.1.has_changed().unwrap_or(false) {
            self.space_wanted.1.mark_unchanged();
            self.maintenance.look_soon();
        }
        self.partition.tick(self.time.now());
        let mut pending = Pending::default();
        let mut open = true;
        for request in batch {
            // What administrators ask for is rare, and is decided by what is so, not by what is about to be. What a change of rights ended
            // was decided before it, and is stored before it is known here.
            match request {
                Request::Changed(changed) => {
                    self.commit(std::mem::take(&mut pending)).await;
                    self.registry_changed(changed).await;
                }
                Request::InUse { name, answer } => {
                    self.commit(std::mem::take(&mut pending)).await;
                    let used = self.layer.read().access.in_use(&self.partition, &name);
                    _ = answer.send(Ok(used));
                }
                Request::Letter { what, id, answer } => {
                    self.commit(std::mem::take(&mut pending)).await;
                    let change = self.partition.dead_letter(what, &id).map(|change| vec![change]);
                    self.commit(Pending::of(change, answer)).await;
                }
                Request::Letters { what, ids, answer } => {
                    self.commit(std::mem::take(&mut pending)).await;
                    self.letters(what, &ids, answer).await;
                }
                Request::Purge { purge, answer } => {
                    self.commit(std::mem::take(&mut pending)).await;
                    let (changes, left) = self.partition.purge_some(&purge, PURGED);
                    let count = changes.len();
                    let done = if count == 0 { Ok(()) } else { self.store_all(changes).await };
                    _ = answer.send(done.map(|()| (count, left)));
                }
                Request::MakeSpace { disk, answer } => {
                    self.commit(std::mem::take(&mut pending)).await;
                    if !self.maintenance.is_on(disk).await {
                        _ = answer.send(Ok(false));
                        continue;
                    }
                    let more = self.maintenance.make_space(&mut self.partition, self.time.wall(), Need::Ends).await;
                    _ = answer.send(Ok(more));
                }
                request => open &= self.take(request, &mut pending),
            }
        }
        if self.records.log.failure().is_some() {
            self.come_back();
            // What is left can never be stored, and is no reason for the next round.
            self.log_pause = Some(Instant::now() + LOG_PAUSE);
        } else if self.log_pause.is_none_or(|until| until <= Instant::now()) {
            pending.add_own(self.partition.pending(BATCH.0));
        }
        self.commit(pending).await;
        self.deliver();
        let mut lost = Vec::new();
        for outgoing in self.records.take_lost() {
            if let Some(change) = self.partition.unreadable(&outgoing) {
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
            Request::Leave { session, answer } => {
                self.partition.leave(session);
                _ = answer.send(Ok(()));
            }
            Request::Publish { peer, pass, publish, caller, turn } => {
                // The next of its app may come while this is decided and stored.
                drop(turn);
                let step = self.layer.read().access.publish(&mut self.partition, &peer, pass, *publish);
                if step.as_ref().is_err_and(|error| error.kind() == ErrorKind::LimitExceeded) {
                    self.counters.publishes_limited.up();
                }
                pending.add(step, caller);
            }
            Request::Command { peer, pass, command, answer, turn } => {
                drop(turn);
                let step = self.layer.read().access.decide(&mut self.partition, &peer, pass, *command);
                pending.add(step, answer);
            }
            // These were taken before.
            Request::Changed(_)
            | Request::InUse { .. }
            | Request::Letter { .. }
            | Request::Letters { .. }
            | Request::Purge { .. }
            | Request::MakeSpace { .. } => {}
            Request::Inspect(inspect) => inspect(&self.partition),
            Request::Shutdown => return false,
            #[cfg(test)]
            Request::Checkpoints => self.maintenance.save_always(),
        }
        true
    }

    /// Lets events that came back be delivered again though the log stores nothing any more: no restart goes on from this run's log.
    /// What is in memory only needs no log.
    fn come_back(&mut self) {
        for change in self.partition.pending(BATCH.0) {
            if !change.durable || matches!(*change.record, Record::Return { .. }) {
                self.partition.apply(None, &change.record);
            }
        }
    }

    async fn letters(&mut self, what: LetterAction, ids: &[EventId], answer: Answer<usize>) {
        let mut changes = ids.iter().filter_map(|id| self.partition.dead_letter(what, id).ok()).collect::<Vec<_>>();
        // One that is named twice is dropped or requeued once: there is nothing left of it for the second.
        let mut seen = HashSet::new();
        changes.retain(|change| change.record.event().is_none_or(|event| seen.insert(event)));
        let count = changes.len();
        _ = answer.send(self.store_all(changes).await.map(|()| count));
    }

    /// Gives out the deliveries that can be made now. Nothing that is not in the log yet is among them.
    fn deliver(&mut self) {
        let outgoing = self.partition.dispatch(DELIVERIES);
        if outgoing.is_empty() {
            return;
        }
        let layer = self.layer.read();
        let mut unread = Vec::new();
        for outgoing in outgoing {
            let session = outgoing.consumer;
            match layer.outbox(session) {
                Some(outbox) => {
                    if !outbox.send(outgoing) {
                        unread.push(session);
                    }
                }
                // Its session is over, and what says so is on its way: nobody sees it.
                None => outgoing.wait(),
            }
        }
        drop(layer);
        // Their transports let go of the inboxes, and will log out, or cannot any more.
        for session in unread {
            self.layer.write().let_go(session);
            self.partition.leave(session);
        }
    }
}

/// Waits until there is something new to see. Never returns if there will be nothing.
async fn changes(mut watched: watch::Receiver<()>) {
    if watched.changed().await.is_err() {
        std::future::pending().await
    }
}
