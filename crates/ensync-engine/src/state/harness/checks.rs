//! What must hold after every operation.

use std::collections::HashSet;
use std::time::Duration;

use super::bench::{SHOP, WAREHOUSE, app};
use super::model::{World, names};
use super::state::{Durable, State};
use crate::model::{EventRef, SnapshotWait};
use crate::partition::key_of;
use crate::state::{QueueCounters, QueueStats};

impl World {
    /// Every event that was accepted is there, unless it is over or had time to expire; and nothing else is. The counters are what
    /// a recount gives, and the log makes the same state as living did.
    pub(super) fn check(&self) {
        self.bench.check();
        let state = &self.bench.state;
        let mut there = HashSet::new();
        for (&queue, q) in state.partitions.iter().flat_map(|partition| &partition.queues) {
            there.extend(q.entries.from(0).map(|(seq, entry)| key_of(EventRef { queue, seq }, entry).to_id()));
        }
        for (id, seen) in &self.seen {
            let since = seen.accepted.last().unwrap().1;
            let expired = seen.queue.1 == 1 && self.bench.now.since(since) >= Duration::from_secs(3);
            assert!(there.contains(id) || seen.over.is_some() || expired, "{id} vanished: {seen:?}");
            assert!(!(there.contains(id) && seen.over.is_some()), "{id} is still there: {seen:?}");
            assert!(there.contains(id) || seen.lease.is_none(), "{id} is with somebody and gone: {seen:?}");
        }
        for id in &there {
            assert!(self.seen.contains_key(id), "{id} was never accepted");
        }
        let sessions: HashSet<_> = state.access.sessions.iter().map(|(_, session)| &session.client_id).collect();
        assert_eq!(sessions, self.peers.iter().map(|peer| &peer.client_id).collect());
        self.recount();
        self.read_back();
    }

    /// Whose queue it is, and of which name.
    pub(super) fn place(&self, queue: &QueueStats) -> (u8, usize) {
        let recipient = [SHOP, WAREHOUSE].into_iter().find(|&n| app(n) == queue.recipient).unwrap();
        (recipient, names().iter().position(|name| *name == queue.event).unwrap())
    }

    fn recount(&self) {
        let stats = self.bench.state.queues();
        let mut dead = 0;
        for queue in &stats {
            let place = self.place(queue);
            let expected = self.tally.get(&place).copied().unwrap_or_default();
            let counted = QueueCounters { dead: expected.dead, expired: 0, ..queue.counters };
            assert_eq!(counted, expected, "{queue:?}");
            dead += queue.counters.dead - expected.dead;
            let held = self.seen.values().filter(|seen| seen.queue == place && seen.lease.is_some());
            assert!(held.count() <= queue.in_flight);
        }
        // Dead letters that nobody asked for were delivered too often.
        assert_eq!(dead, self.bench.doomed);
    }

    /// Reading back all of the log, or going on from a checkpoint that was taken at some time, is as good as living.
    fn read_back(&self) {
        let bench = &self.bench;
        let lived = comparable(bench.state.snapshot(), &bench.state);
        assert_eq!(comparable(bench.replayed().snapshot(), &bench.state), lived);
        // Another one after each operation.
        let nth = bench.now.as_millis() as usize % self.snapshots.len();
        let (&at, checkpoint) = self.snapshots.iter().nth(nth).unwrap();
        let restored = State::restore(bench.settings.clone(), checkpoint.clone());
        let restored = bench.replayed_onto(restored, at..bench.log.len());
        assert_eq!(comparable(restored.snapshot(), &bench.state), lived);
    }
}

/// Events that have expired may or may not be there. Where settled ones were moved to is forgotten with what the log drops, which it
/// does not say.
fn comparable(mut durable: Durable, state: &State) -> Durable {
    for queue in durable.partitions.iter_mut().flat_map(|partition| &mut partition.queues) {
        queue.moved.clear();
        queue.events.retain(|event| {
            let dead = matches!(event.waits, SnapshotWait::Administrator { .. });
            dead || event.expires_at.is_none_or(|at| at > state.access.now)
        });
    }
    durable
}
