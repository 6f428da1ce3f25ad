//! Access and partitions together, as the broker's tasks drive them, on one thread.

use std::num::NonZeroU32;
use std::sync::Arc;

use ensync_core::{AppId, ClientId, Command, EventId, EventName, Peer, Result, Timestamp};

use crate::model::{
    AdminCommand, Applied, Change, EventOptions, PartitionSnapshot, Position, Record, RegistrySnapshot, Removed,
    Settings, Share, partition_of_queue,
};
use crate::partition::Partition;
use crate::state::administer::{check_unused, removed};
use crate::state::{
    Access, Admitted, AppInfo, DeadLetter, InUse, LetterAction, LetterFilter, Outgoing, QueueStats, SessionNumber,
    Step, Walk, partition_of_event,
};

/// The engine's state.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) access: Access,
    pub(crate) partitions: Vec<Partition>,
    ended: Vec<SessionNumber>,
}

/// The durable part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Durable {
    pub(crate) registry: RegistrySnapshot,
    pub(crate) partitions: Vec<PartitionSnapshot>,
}

impl Durable {
    /// Before any record.
    pub(crate) fn new(partitions: NonZeroU32) -> Self {
        let partitions = Share::all(partitions).map(|_| PartitionSnapshot::default()).collect();
        Self { registry: RegistrySnapshot::default(), partitions }
    }
}

impl State {
    pub(crate) fn new(settings: Settings) -> Self {
        let count = settings.share.count();
        Self::restore(settings, Durable::new(count))
    }

    pub(crate) fn restore(settings: Settings, durable: Durable) -> Self {
        let access = Access::restore(settings.clone(), durable.registry);
        let shares = Share::all(settings.share.count()).zip(durable.partitions);
        let mut partitions: Vec<_> =
            shares.map(|(share, part)| Partition::restore(Settings { share, ..settings.clone() }, part)).collect();
        partitions.iter_mut().for_each(|partition| access.configure(partition));
        Self { access, partitions, ended: Vec::new() }
    }

    fn count(&self) -> NonZeroU32 {
        NonZeroU32::new(self.partitions.len() as u32).unwrap()
    }

    pub(crate) fn snapshot(&self) -> Durable {
        let partitions = self.partitions.iter().map(Partition::snapshot).collect();
        Durable { registry: self.access.snapshot(), partitions }
    }

    fn of_queue(&mut self, number: u32) -> &mut Partition {
        let index = partition_of_queue(number, self.count());
        &mut self.partitions[index]
    }

    pub(crate) fn apply(&mut self, position: Option<Position>, record: &Arc<Record>) -> Applied {
        match &**record {
            Record::Admin { at, command } => {
                let applied = self.access.apply(*at, command);
                if let Some(name) = command.event_name() {
                    self.partitions.iter_mut().for_each(|partition| self.access.configure_name(partition, name));
                }
                self.end_sessions();
                applied
            }
            Record::Remove { queues: Removed::Recipient(app) } => {
                let index = self.access.partition_of(app);
                self.partitions[index].apply(position, record)
            }
            Record::Remove { .. } => {
                self.partitions.iter_mut().map(|partition| partition.apply(position, record)).last().unwrap()
            }
            Record::Publish(publish) => self.of_queue(publish.at.queue).apply(position, record),
            other => {
                let queue = other.event().unwrap().queue;
                self.of_queue(queue).apply(position, record)
            }
        }
    }

    /// What the broker does after each change of the registry, and when time has passed.
    fn end_sessions(&mut self) {
        let (mut ended, changed) = self.access.take_ended();
        for app in changed {
            let partition = &self.partitions[self.access.partition_of(&app)];
            let over = self.access.over(partition, &app);
            ended.extend(over.into_iter().filter_map(|number| self.access.end(number)));
        }
        for gone in ended {
            let index = self.access.partition_of(&gone.app);
            self.partitions[index].leave(gone.number);
            self.ended.push(gone.number);
        }
    }

    pub(crate) fn take_ended(&mut self) -> Vec<SessionNumber> {
        std::mem::take(&mut self.ended)
    }

    pub(crate) fn tick(&mut self, now: Timestamp) {
        self.access.tick(now);
        self.end_sessions();
        self.partitions.iter_mut().for_each(|partition| partition.tick(now));
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let due = self.partitions.iter().map(Partition::next_due).chain([self.access.next_due()]);
        due.flatten().min()
    }

    pub(crate) fn recovered(&mut self, now: Timestamp) {
        self.tick(now);
        self.partitions.iter_mut().for_each(|partition| _ = partition.recovered(now));
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.partitions.iter().any(Partition::is_behind)
    }

    pub(crate) fn has_work(&self) -> bool {
        self.partitions.iter().any(Partition::has_work)
    }

    pub(crate) fn set_turn(&mut self, turn: usize) {
        self.partitions.iter_mut().for_each(|partition| partition.set_turn(turn));
    }

    pub(crate) fn pending(&self, limit: usize) -> Vec<Change> {
        self.partitions.iter().flat_map(|partition| partition.pending(limit)).take(limit).collect()
    }

    pub(crate) fn unreadable(&mut self, outgoing: &Outgoing) -> Option<Change> {
        self.of_queue(outgoing.event.queue).unreadable(outgoing)
    }

    pub(crate) fn dispatch(&mut self, budget: usize) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        for partition in &mut self.partitions {
            outgoing.extend(partition.dispatch(budget - outgoing.len()));
        }
        outgoing
    }

    /// All that waits and the log has, so much at a time.
    pub(crate) fn walk(&self, most: usize, mut show: impl FnMut(Position, u32)) {
        for partition in &self.partitions {
            let mut walk = Walk::default();
            while !walk.is_over() {
                partition.walk(&mut walk, most, &mut show);
            }
        }
    }

    pub(crate) fn holds(&self, record: &Record) -> bool {
        self.partitions.iter().any(|partition| partition.holds(record))
    }

    pub(crate) fn dropped(&mut self, from: Position, to: Position) {
        self.partitions.iter_mut().for_each(|partition| partition.dropped(from, to));
    }

    pub(crate) fn login(&mut self, key: &crate::model::KeyHash, client_id: ClientId) -> Result<(SessionNumber, AppId)> {
        self.access.login(key, client_id)
    }

    pub(crate) fn logout(&mut self, client_id: &ClientId) -> Option<SessionNumber> {
        let gone = self.access.logout(client_id)?;
        let index = self.access.partition_of(&gone.app);
        self.partitions[index].leave(gone.number);
        Some(gone.number)
    }

    /// What was decided is about to be stored, or refused.
    pub(crate) fn batch_ends(&mut self) {
        self.partitions.iter_mut().for_each(Partition::batch_ends);
    }

    pub(crate) fn decide(&mut self, peer: &Peer, command: Command) -> Result<Step> {
        let (index, pass) = (self.access.route(peer, &command), self.access.pass(peer)?);
        self.access.decide(&mut self.partitions[index], peer, pass, command)
    }

    pub(crate) fn publish(&mut self, peer: &Peer, admitted: Admitted) -> Result<Step> {
        let index = self.access.route_publish(admitted.recipient());
        let pass = self.access.pass(peer)?;
        self.access.publish(&mut self.partitions[index], peer, pass, admitted)
    }

    /// What an administrator asks for, and what goes with it.
    pub(crate) fn administer(&self, command: AdminCommand) -> Result<Vec<Change>> {
        let command = self.access.administer(command)?;
        if let AdminCommand::DeleteEvent { name } = &command {
            let mut used = InUse::default();
            self.partitions.iter().for_each(|partition| used.add(self.access.in_use(partition, name)));
            check_unused(name, used)?;
        }
        let removed = removed(&command).map(|queues| Change::new(Record::Remove { queues }, true));
        let command = Change::new(Record::Admin { at: self.access.now, command }, true);
        Ok([command].into_iter().chain(removed).collect())
    }

    pub(crate) fn dead_letter(&self, what: LetterAction, id: &EventId) -> Result<Change> {
        let index = partition_of_event(id, self.count()).unwrap_or_default();
        self.partitions[index].dead_letter(what, id)
    }

    /// What is to go from which partition.
    pub(crate) fn leftovers(&self) -> Vec<(usize, Removed)> {
        let partitions = self.partitions.iter().enumerate();
        partitions
            .flat_map(|(index, partition)| self.access.leftovers(partition).into_iter().map(move |left| (index, left)))
            .collect()
    }

    /// In which partition's log a record is; `None` for the registry's, and for what every partition's has.
    pub(crate) fn partition_of_record(&self, record: &Record) -> Option<usize> {
        match record {
            Record::Admin { .. } | Record::Remove { queues: Removed::Name(_) } => None,
            Record::Remove { queues: Removed::Recipient(app) } => Some(self.access.partition_of(app)),
            other => other.event().map(|event| partition_of_queue(event.queue, self.count())),
        }
    }

    pub(crate) fn queue(&self, recipient: &AppId, event: &EventName) -> Option<QueueStats> {
        let id = self.access.find(recipient)?;
        self.partitions[self.access.partition_of(&id)].queue(&id, event)
    }

    pub(crate) fn queues(&self) -> Vec<QueueStats> {
        self.partitions.iter().flat_map(Partition::queues).collect()
    }

    pub(crate) fn dead_letters(
        &self,
        recipient: Option<&AppId>,
        event: Option<&EventName>,
        limit: usize,
    ) -> Vec<DeadLetter> {
        let recipient = recipient.map(|key| self.access.find(key).unwrap_or(*key));
        let filter = LetterFilter { recipient, event: event.cloned(), ..LetterFilter::default() };
        let partitions = self.partitions.iter();
        partitions.flat_map(|part| part.letters(&filter, None, (limit, usize::MAX)).0).take(limit).collect()
    }

    /// Of one partition.
    pub(crate) fn letters(
        &self,
        filter: &LetterFilter,
        after: Option<&EventId>,
        bounds: (usize, usize),
    ) -> (Vec<DeadLetter>, Option<EventId>) {
        let [partition] = self.partitions.as_slice() else { panic!() };
        partition.letters(filter, after, bounds)
    }

    pub(crate) fn app(&self, key: &AppId) -> Option<AppInfo> {
        self.access.app(key)
    }

    pub(crate) fn apps(&self) -> Vec<AppInfo> {
        self.access.apps()
    }

    pub(crate) fn event(&self, name: &EventName) -> Option<EventOptions> {
        self.access.event(name)
    }

    pub(crate) fn events(&self) -> Vec<(EventName, EventOptions)> {
        self.access.events()
    }

    pub(crate) fn sessions(&self) -> usize {
        self.access.sessions()
    }

    pub(crate) fn public_key(&self, app: &AppId) -> AppId {
        self.access.public_key(app)
    }
}
