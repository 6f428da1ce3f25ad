//! What the bench stores, and reads back: the registry's log and one of each partition, in one list.

use std::sync::Arc;

use super::super::*;
use super::bench::Bench;
use super::state::State;
use crate::model::codec::snapshot;
use crate::model::{AdminCommand, MemoryUsed, Position, Record, Removed, Snapshot};

impl Bench {
    /// Stores and applies changes, as the broker does; what each came to.
    pub(in crate::state) fn commit(&mut self, changes: &[Change]) -> Vec<Applied> {
        self.state.batch_ends();
        changes.iter().map(|change| self.store(change)).collect()
    }

    fn store(&mut self, change: &Change) -> Applied {
        if matches!(&*change.record, Record::Remove { queues: Removed::Name(_) }) {
            let all = 0..self.state.partitions.len();
            return all.map(|partition| self.store_in(partition, &change.record)).last().unwrap();
        }
        let position = change.durable.then(|| {
            self.log.push(change.record.clone());
            Position::new(self.log.len() as u64)
        });
        self.state.apply(position, &change.record)
    }

    /// What every partition is told, told to one.
    fn store_in(&mut self, partition: usize, record: &Arc<Record>) -> Applied {
        self.copies.insert(self.log.len(), partition);
        self.log.push(record.clone());
        self.state.partitions[partition].apply(Some(Position::new(self.log.len() as u64)), record)
    }

    pub(in crate::state) fn read(&self, source: &Source) -> Option<Arc<Record>> {
        match source {
            Source::Memory(record) => Some(record.clone()),
            Source::Log(position) => {
                let index = usize::try_from(position.as_u64().checked_sub(1)?).ok()?;
                self.log.get(index).filter(|_| index >= self.dropped).cloned()
            }
        }
    }

    /// Goes on with a checkpoint, or begins one. Once it is complete it is what the state was when it was begun.
    pub(in crate::state) fn slice(&mut self) {
        let Some((index, _, bytes)) = &mut self.checkpoint else {
            // Each partition has its turn.
            let index = self.checkpoints % self.state.partitions.len();
            let partition = &mut self.state.partitions[index];
            let expected = partition.snapshot();
            self.checkpoint = Some((index, expected, partition.begin_checkpoint().to_vec()));
            return;
        };
        match self.state.partitions[*index].go_on_with_checkpoint(self.turn) {
            Some(piece) => bytes.extend_from_slice(&piece),
            None => {
                let (_, partition, bytes) = self.checkpoint.take().unwrap();
                let expected = Snapshot { partition, ..Snapshot::default() };
                assert_eq!(snapshot::decode(bytes.into()), Ok(expected));
                self.checkpoints += 1;
            }
        }
    }

    /// What waits in the log before a position.
    pub(in crate::state) fn waiting_before(&self, position: Position) -> Vec<(Position, u32)> {
        let mut found = Vec::new();
        self.state.walk(self.turn, |at, size| found.push((at, size)));
        found.retain(|(at, _)| *at < position);
        found.sort_unstable();
        found
    }

    /// Forgets all but the log, and reads that back.
    pub(in crate::state) fn restart(&mut self) {
        self.settings.epoch += 1;
        self.settings.tag = self.settings.tag.wrapping_add(1);
        self.settings.memory_used = MemoryUsed::default();
        self.adopt(self.replayed());
        for (partition, queues) in self.state.leftovers() {
            self.store_in(partition, &Arc::new(Record::Remove { queues }));
        }
        self.started = self.log.len();
        self.check();
    }

    /// Goes on with another state.
    pub(in crate::state) fn adopt(&mut self, state: State) {
        self.state = state;
        self.checkpoint = None;
        self.state.set_turn(self.turn);
        self.state.recovered(self.now);
        self.doomed = 0;
        let queues = self.state.partitions.iter().flat_map(|partition| &partition.queues);
        self.live = queues.map(|(&n, queue)| (n, queue.entries.from(0).count() as u64)).collect();
        self.check();
    }

    /// The state that the checkpoint and the records after it make.
    pub(in crate::state) fn replayed(&self) -> State {
        let state = State::restore(self.settings.clone(), self.base.0.clone());
        self.replayed_onto(state, self.base.1..self.log.len())
    }

    /// A state, and what some records then make of it.
    pub(in crate::state) fn replayed_onto(&self, mut state: State, records: std::ops::Range<usize>) -> State {
        for index in records.filter(|index| !self.lost.contains(index)) {
            let (position, record) = (Some(Position::new(index as u64 + 1)), &self.log[index]);
            match self.copies.get(&index) {
                Some(&partition) => state.partitions[partition].apply(position, record),
                None => state.apply(position, record),
            };
        }
        state.tick(self.now);
        while state.is_behind() {
            state.tick(self.now);
        }
        state
    }

    /// The fewest records that a partition's log has if the registry's ends after so many of all: the registry goes on with the next change
    /// only once every partition has stored what was decided before the last one, and a name goes only once all of them have said what is
    /// under it. What was there at a start is there for good.
    pub(super) fn told(&self, end: usize) -> usize {
        let mut changes = (0..end).rev().filter(|&index| matches!(*self.log[index], Record::Admin { .. }));
        let last = changes.next();
        let told = last.and_then(|last| match &*self.log[last] {
            Record::Admin { command: AdminCommand::DeleteEvent { .. }, .. } => Some(last),
            _ => changes.next().map(|before| before + 1 + self.removals(before + 1, end)),
        });
        told.unwrap_or_default().max(self.started.min(end))
    }

    /// How many records from one on say what goes with the change before them.
    fn removals(&self, from: usize, end: usize) -> usize {
        self.log[from..end].iter().take_while(|record| matches!(***record, Record::Remove { .. })).count()
    }

    /// The registry's log ends after so many records of all, and each partition's after as many or fewer.
    pub(super) fn cut(&mut self, end: usize, ends: &[usize]) {
        self.log.truncate(end);
        self.copies.split_off(&end);
        self.lost.split_off(&end);
        for index in 0..end {
            let partition =
                self.copies.get(&index).copied().or_else(|| self.state.partition_of_record(&self.log[index]));
            if partition.is_some_and(|partition| index >= ends[partition]) {
                self.lost.insert(index);
            }
        }
    }
}
