//! The task that owns the registry's log: it does what administrators ask for, one thing after the other, and has every partition know.

use std::sync::Arc;
use std::time::Duration;

use ensync_core::{Error, ErrorKind, EventName, Reply, Result, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::clock::Time;
use super::registry_log::RegistryLog;
use super::request::{Answer, Changed, Request, is_full, refusal};
use super::running::Running;
use super::session_layer::SessionLayer;
use crate::metrics::Metrics;
use crate::model::{AdminCommand, Applied, Record, Removed};
use crate::state::{Access, InUse, SessionNumber, SessionOf, check_unused, removed};

/// How long to wait before what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long partitions may take to say what is under a name, which nobody uses meanwhile.
const USED: Duration = Duration::from_secs(5);
/// How long partitions may take to make space.
const SPACE: Duration = Duration::from_secs(5);
/// The longest sleep.
const NAP: Duration = Duration::from_secs(60);

/// A look at who may do what.
pub(super) type Look = Box<dyn FnOnce(&Access) + Send>;

/// What is sent to the registry's task.
pub(super) enum Ask {
    Admin {
        command: Box<AdminCommand>,
        /// What is looked at right before it is carried out, and right after.
        looks: (Look, Look),
        answer: Answer<Reply>,
    },
    /// Answered when all that was asked for before is done.
    Idle(Answer<()>),
    Shutdown,
}

/// The task of the registry.
pub(super) struct Registrar {
    pub(super) layer: Arc<SessionLayer>,
    pub(super) log: RegistryLog,
    pub(super) time: Time,
    pub(super) asked: mpsc::Receiver<Ask>,
    pub(super) partitions: Vec<mpsc::Sender<Request>>,
    /// Queues of apps and names that are gone, which a partition could not remove yet.
    pub(super) owed: Owed,
    /// Whether nothing is stored but what is asked for: also what is owed only before that.
    pub(super) only_looks: bool,
    pub(super) metrics: Arc<Metrics>,
    /// Why a log stores nothing more.
    pub(super) failed: Arc<watch::Sender<Option<Error>>>,
    /// Dropped with the task: whoever waits for its end sees that.
    pub(super) running: Running,
}

/// Queues that are still to go, and from which partition: its index.
pub(super) type Owed = Vec<(usize, Removed)>;

impl Registrar {
    /// Runs until shutdown, or until every handle is gone.
    pub(super) async fn run(mut self) {
        self.tell_owed();
        self.serve().await;
        while let Ok(ask) = self.asked.try_recv() {
            self.carry_out(ask).await;
        }
        self.keep(true).await;
        self.log.close().await;
        self.running.end();
    }

    async fn serve(&mut self) {
        let mut again = Instant::now();
        loop {
            let (due, changed) = {
                let layer = self.layer.read();
                (layer.access.next_due(), layer.access.has_changed())
            };
            if changed {
                // A login saw a key end while something else was done here: its sessions end now, for nothing is due any more.
                _ = self.tick().await;
                continue;
            }
            let reached = self.time.reach(due.unwrap_or_default());
            tokio::select! {
                biased;
                ask = self.asked.recv() => match ask {
                    Some(Ask::Shutdown) | None => return,
                    Some(ask) => self.carry_out(ask).await,
                },
                () = reached, if due.is_some() => {
                    _ = self.tick().await;
                }
                () = tokio::time::sleep_until(again), if !self.owed.is_empty() && !self.only_looks => {
                    self.remove_owed().await;
                    again = Instant::now() + AGAIN;
                }
                () = tokio::time::sleep(NAP) => {}
            }
            self.keep(false).await;
        }
    }

    /// Saves a checkpoint if it is due. As long as queues are owed, their removal stays in the log: a start reads there that they are to go.
    async fn keep(&mut self, at_once: bool) {
        if self.owed.is_empty() && !self.only_looks {
            self.log.keep(&self.layer, at_once).await;
        }
    }

    async fn carry_out(&mut self, ask: Ask) {
        match ask {
            Ask::Admin { command, looks, answer } => {
                let done = self.administer(*command, looks).await;
                _ = answer.send(done);
            }
            Ask::Idle(answer) => {
                _ = self.tick().await;
                _ = answer.send(Ok(()));
            }
            Ask::Shutdown => {}
        }
    }

    /// Ends what ends by now.
    async fn tick(&mut self) -> Result<()> {
        let changed = {
            let mut layer = self.layer.write();
            layer.access.tick(self.time.now());
            layer.access.has_changed()
        };
        if changed { self.tell(None, None).await } else { Ok(()) }
    }

    /// Does what an administrator asks for. It is answered once every partition has finished what was decided before.
    async fn administer(&mut self, command: AdminCommand, (before, after): (Look, Look)) -> Result<Reply> {
        self.tick().await?;
        let decided = {
            let layer = self.layer.read();
            let decided = layer.access.administer(command);
            before(&layer.access);
            decided?
        };
        if self.only_looks {
            self.remove_owed().await;
        }
        self.check_owed(&decided)?;
        if let AdminCommand::UseEvent { name } = &decided
            && self.layer.read().access.event(name).is_some()
        {
            // Somebody else used it first, a moment ago.
            return Ok(Reply::Done);
        }
        if let AdminCommand::DeleteEvent { name } = &decided {
            self.layer.write().access.close(name);
            let done = match self.in_use(name).await.and_then(|used| check_unused(name, used)) {
                Ok(()) => self.store(&decided).await,
                Err(error) => Err(error),
            };
            // Before it may be used again, it is gone, or stays.
            let applied = done.map(|at| self.apply(at, &decided));
            self.layer.write().access.open();
            return self.finish(&decided, applied?, after).await;
        }
        let at = self.store(&decided).await?;
        let applied = self.apply(at, &decided);
        self.finish(&decided, applied, after).await
    }

    fn apply(&self, at: Timestamp, command: &AdminCommand) -> Applied {
        self.layer.write().access.apply(at, command)
    }

    async fn finish(&mut self, command: &AdminCommand, applied: Applied, after: Look) -> Result<Reply> {
        self.tell(command.event_name().cloned(), removed(command)).await?;
        after(&self.layer.read().access);
        applied.answer()
    }

    async fn store(&mut self, command: &AdminCommand) -> Result<Timestamp> {
        let at = self.time.now();
        let record = Arc::new(Record::Admin { at, command: command.clone() });
        let mut stored = self.log.append(&record, &self.metrics).await;
        // No administrator is refused for what can be dropped.
        if stored.as_ref().is_err_and(is_full) && self.make_space().await {
            stored = self.log.append(&record, &self.metrics).await;
        }
        stored.map_err(|error| {
            tracing::error!(error = %ensync_core::report(&error), "the registry's log refused what an administrator asked for");
            if let Some(failure) = self.log.failure() {
                self.failed.send_if_modified(|known| known.replace(failure).is_none());
            }
            refusal(&error)
        })?;
        Ok(at)
    }

    /// Tries once more to remove what is to go.
    async fn remove_owed(&mut self) {
        for (index, queues) in std::mem::take(&mut self.owed) {
            let Some(partition) = self.partitions.get(index) else { continue };
            let removed = Some(queues.clone());
            let changed =
                |answer| Request::Changed(Changed { name: None, apps: Vec::new(), ended: Vec::new(), removed, answer });
            match ask(partition, changed).await {
                Ok(_) => tracing::info!(partition = index, of = ?queues, "the queues of what is gone are removed"),
                Err(_) => self.owed.push((index, queues)),
            }
        }
        self.tell_owed();
    }

    /// Has everybody see how much is owed.
    fn tell_owed(&self) {
        self.metrics.set_owed(self.owed.len());
    }

    /// Refuses to create what would get the queues of something that is gone.
    fn check_owed(&self, command: &AdminCommand) -> Result<()> {
        let gone = match command {
            AdminCommand::CreateApp { id, .. } => Removed::Recipient(*id),
            _ => match command.event_name() {
                Some(name) => Removed::Name(name.clone()),
                None => return Ok(()),
            },
        };
        if self.owed.iter().any(|(_, queues)| *queues == gone) {
            let message = "the queues of what had this name or id before are not gone yet, as the engine cannot store that; try later";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(())
    }

    /// Has the partitions on the registry's disk make space, one after the other, for no more is to go than has to. Whether there is more now.
    async fn make_space(&self) -> bool {
        let (until, disk) = (Instant::now() + SPACE, self.log.disk().await);
        for partition in &self.partitions {
            let asked = ask(partition, |answer| Request::MakeSpace { disk, answer });
            match tokio::time::timeout_at(until, asked).await {
                Ok(Ok(true)) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// What is under an event name in all partitions. Nobody uses it meanwhile, so that takes no longer than it may.
    async fn in_use(&self, name: &EventName) -> Result<InUse> {
        let until = Instant::now() + USED;
        let mut used = InUse::default();
        for partition in &self.partitions {
            let asked = ask(partition, |answer| Request::InUse { name: name.clone(), answer });
            let answered = tokio::time::timeout_at(until, asked).await.map_err(|_| {
                let message = "a partition of the engine does not answer, so nobody knows what is under this name; nothing was changed; try later";
                Error::new(ErrorKind::Unavailable, message)
            })?;
            used.add(answered?);
        }
        Ok(used)
    }

    /// Has every partition know of a change, and ends the sessions that it ends. What was decided before is stored then.
    async fn tell(&mut self, name: Option<EventName>, gone: Option<Removed>) -> Result<()> {
        let (ended, apps) = {
            let mut layer = self.layer.write();
            let (ended, apps) = layer.access.take_ended();
            ended.iter().for_each(|session| layer.forget(*session, "access taken"));
            (ended, apps)
        };
        let of_partition = |sessions: &[SessionOf], index| -> Vec<SessionNumber> {
            let layer = self.layer.read();
            let there = sessions.iter().filter(|session| layer.access.partition_of(&session.app) == index);
            there.map(|session| session.number).collect()
        };
        // All of them at once: one that waits for its disk is no reason for the others to wait.
        let told = self.partitions.iter().enumerate().map(|(index, partition)| {
            let (name, apps, ended) = (name.clone(), apps.clone(), of_partition(&ended, index));
            let here = gone.clone().filter(|gone| match gone {
                Removed::Recipient(app) => self.layer.read().access.partition_of(app) == index,
                Removed::Name(_) => true,
            });
            async move {
                let removed = here.clone();
                let changed = |answer| Request::Changed(Changed { name, apps, ended, removed, answer });
                (ask(partition, changed).await, here)
            }
        });
        let told = futures::future::join_all(told).await;
        let mut result = Ok(());
        for (index, (over, removed)) in told.into_iter().enumerate() {
            match (over, removed) {
                (Ok(over), _) => self.end(index, over).await?,
                // It is gone, whatever a partition can store now.
                (Err(error), Some(queues)) => owe(&mut self.owed, (index, queues), &error),
                (Err(error), None) => result = Err(error),
            }
        }
        self.tell_owed();
        result
    }

    /// Ends sessions that take what they may not take any more.
    async fn end(&self, index: usize, over: Vec<SessionNumber>) -> Result<()> {
        let Some(partition) = self.partitions.get(index).filter(|_| !over.is_empty()) else { return Ok(()) };
        let mut ended = Vec::new();
        {
            let mut layer = self.layer.write();
            ended.extend(over.into_iter().filter_map(|number| layer.end(number, "access taken")));
        }
        for session in ended {
            ask(partition, |answer| Request::Leave { session: session.number, answer }).await?;
        }
        Ok(())
    }
}

/// Takes note of queues that could not be removed. Until they are, nobody gets their app's id, or their name.
pub(super) fn owe(owed: &mut Owed, queues: (usize, Removed), error: &Error) {
    let (partition, of) = (queues.0, &queues.1);
    let error = ensync_core::report(error);
    tracing::warn!(error, partition, ?of, "cannot remove the queues of what is gone; it will be tried again");
    if !owed.contains(&queues) {
        owed.push(queues);
    }
}

/// Sends a request to a partition's task and waits for its answer.
pub(super) async fn ask<T>(partition: &mpsc::Sender<Request>, request: impl FnOnce(Answer<T>) -> Request) -> Result<T> {
    let stopped = || {
        Error::new(ErrorKind::Interrupted, "the engine is stopping; whether it is done shows when it is started again")
    };
    let (answer, answered) = oneshot::channel();
    partition.send(request(answer)).await.map_err(|_| stopped())?;
    answered.await.map_err(|_| stopped())?
}

#[cfg(test)]
mod tests;
