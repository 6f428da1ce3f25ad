//! What must hold of a partition at any time.

use std::collections::BTreeMap;

use ensync_core::AppId;

use super::bench::Bench;
use crate::partition::{Partition, Place, Timer, Usage, chunk_of};

impl Bench {
    /// What must hold at any time.
    pub(in crate::state) fn check(&self) {
        self.state.partitions.iter().for_each(|partition| self.check_partition(partition));
    }

    fn check_partition(&self, state: &Partition) {
        let (mut timers, mut apps) = (0, std::collections::HashMap::<AppId, Usage>::new());
        for (&number, queue) in &state.queues {
            let in_place = |place: Place| {
                let found = queue.entries.from(0).filter(move |(_, entry)| entry.place == place);
                found.map(|(seq, _)| seq).collect::<Vec<_>>()
            };
            assert_eq!(queue.fresh, in_place(Place::Fresh).len());
            assert!(queue.returned.iter().copied().eq(in_place(Place::Returned)));
            assert!(queue.leases.keys().copied().eq(in_place(Place::Leased)));
            assert!(queue.deferred.keys().copied().eq(in_place(Place::Deferred)));
            assert!(queue.dead.keys().copied().eq(in_place(Place::Dead)));
            assert!(queue.returning.keys().copied().eq(in_place(Place::Returning)));
            assert_eq!(queue.doomed, in_place(Place::Doomed).len());
            let mut used = Usage::default();
            queue.entries.from(0).for_each(|(_, entry)| used.add(Usage::of(entry)));
            queue.dead.values().for_each(|dead| used.add(Usage::of_reason(&dead.reason)));
            assert_eq!(queue.usage, used);
            apps.entry(queue.recipient).or_default().add(used);
            timers += queue.leases.len() + queue.deferred.len();

            let live = queue.entries.from(0).count() as u64;
            let gone = queue.counters.acked + queue.counters.expired + queue.counters.dropped;
            assert_eq!(self.live.get(&number).unwrap_or(&0) + queue.counters.published, live + gone);

            for (&seq, lease) in &queue.leases {
                let parts = state.parting.iter().any(|gone| {
                    (gone.consumer, gone.queue) == (lease.consumer, number) && gone.held.contains_key(&seq)
                });
                let holds = queue.consumers.get(&lease.consumer).is_some_and(|consumer| consumer.held.contains(&seq));
                assert!(holds || parts);
            }
            let mut queue_entries = queue.entries.from(0);
            assert!(queue_entries.all(|(seq, entry)| {
                let waits = matches!(entry.place, Place::Fresh | Place::Returned | Place::Deferred);
                let armed = queue.entries.armed(chunk_of(seq));
                !waits || armed <= entry.expires_at
            }));
            let next = queue.entries.from(0).find(|(_, e)| e.place == Place::Fresh).map(|(seq, _)| seq);
            let next = queue.returned.first().copied().or(next);
            let passed = !queue.passed.is_empty() && next != Some(queue.passed_for);
            let turns = next.is_some() && (!queue.ring.is_empty() || passed);
            assert!(!turns || queue.hot, "queue {number} would be forgotten");
        }
        apps.retain(|_, used| *used != Usage::default());
        assert_eq!(apps, state.usage);
        assert!(state.fates_agree());
        let all = || state.queues.values().chain(state.leaving.values());
        let doomed: usize = all().map(|queue| queue.doomed).sum();
        assert_eq!(doomed, state.doomed.len());
        let returning: usize = all().map(|queue| queue.returning.len()).sum();
        assert_eq!(returning, state.returning.len());
        let entries = all().flat_map(|queue| queue.entries.from(0));
        assert_eq!(entries.filter(|(_, entry)| entry.transient).count(), state.memory.len());
        // What is due in a queue that is gone is due no more once its time has come.
        let gone = state.leaving.values().map(|queue| queue.leases.len() + queue.deferred.len()).sum::<usize>();
        let armed = state.timers.iter().chain(state.lease_ends.iter());
        let armed = armed.filter(|timer| !matches!(timer, Timer::Expiry { .. })).count();
        assert!((timers..=timers + gone).contains(&armed), "{timers} and {gone}, {armed}");
        let sessions: BTreeMap<_, _> = self.state.access.sessions.iter().collect();
        for (queue_number, queue) in &state.queues {
            for (&number, consumer) in &queue.consumers {
                assert_eq!(queue.recipient, sessions[&number].app);
                assert!(state.consumers[&number].contains(queue_number));
                let sizes = consumer.held.iter().map(|&seq| {
                    assert_eq!(queue.leases[&seq].consumer, number);
                    u64::from(queue.entries.get(seq).unwrap().size)
                });
                assert_eq!(sizes.sum::<u64>(), consumer.bytes);
                let turns = queue.ring.iter().chain(&queue.passed).filter(|&&other| other == number).count();
                assert_eq!(turns, usize::from(consumer.in_ring));
                assert!(consumer.in_ring || !consumer.wants(), "who wants something has no turn");
            }
            assert_eq!(queue.subscribed, queue.consumers.values().filter(|consumer| consumer.active).count());
        }
        let known = state.queues.values().map(|queue| queue.consumers.len()).sum::<usize>();
        assert_eq!(known, state.consumers.values().map(|queues| queues.len()).sum::<usize>());
        assert!(state.consumers.values().all(|queues| !queues.is_empty()));
    }
}
