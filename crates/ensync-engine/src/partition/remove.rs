//! What goes before its time: the queues of apps and names that are gone.

use std::collections::BTreeSet;

use ensync_core::{AppId, EventName};

use super::Partition;
use super::entries::chunk_of;
use super::queue::Queue;
use super::timers::Timer;
use super::usage::Usage;
use crate::model::{Applied, EventRef, Removed};

impl Partition {
    /// What should be gone, as a recipient or a name is not known. A name goes only when nothing waits under it, for anybody: an event that does says
    /// that nobody deleted the name, and somebody will miss the event.
    pub(crate) fn left(&self, app: impl Fn(&AppId) -> bool, name: impl Fn(&EventName) -> bool) -> Vec<Removed> {
        let of_apps = self.queues.values().filter(|queue| app(&queue.recipient));
        let waited_for: BTreeSet<&EventName> =
            of_apps.filter(|queue| !queue.entries.is_empty()).map(|queue| &queue.event).collect();
        let (mut left, mut seen) = (Vec::new(), (BTreeSet::new(), BTreeSet::new()));
        for queue in self.queues.values() {
            if !app(&queue.recipient) {
                if seen.0.insert(queue.recipient) {
                    left.push(Removed::Recipient(queue.recipient));
                }
            } else if !name(&queue.event) && !waited_for.contains(&queue.event) && seen.1.insert(&queue.event) {
                left.push(Removed::Name(queue.event.clone()));
            }
        }
        left
    }

    /// How many queues would go, and how many unsettled events with them.
    pub(crate) fn in_queues(&self, queues: &Removed) -> (usize, usize) {
        let gone = self.queues.values().filter(|queue| is_of(queue, queues));
        gone.fold((0, 0), |(count, events), queue| (count + 1, events + queue.entries.from(0).count()))
    }

    /// Forgets queues. Their numbers are not given out again; what is in them goes in [turns](super::turn).
    pub(super) fn apply_remove(&mut self, queues: &Removed) -> Applied {
        let gone = self.queues.iter().filter(|(_, queue)| is_of(queue, queues));
        for number in gone.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.keep_queue(number);
            let used = self.queues.get(&number).map_or(Usage::default(), |queue| queue.usage);
            self.discharge(number, used);
            if let Some(mut queue) = self.queues.remove(&number) {
                self.removals += 1;
                self.retire(&queue.event, &queue.counters);
                self.numbers.remove(&(queue.recipient, queue.event.clone()));
                for consumer in std::mem::take(&mut queue.consumers).into_keys() {
                    self.forget_consumer(consumer, number);
                }
                queue.left_after = self.checkpoints;
                self.leaving.insert(number, queue);
            }
        }
        self.hot.retain(|number| self.queues.contains_key(number));
        self.forget_leaving();
        Applied::Done
    }

    /// Forgets an event that was lifted: what the state knows of it beside its fate. Whether it was in the log.
    pub(super) fn forget(&mut self, event: EventRef) -> bool {
        let Some(queue) = self.queues.get_mut(&event.queue) else { return false };
        let Some((entry, orphan)) = queue.entries.remove(event.seq) else { return false };
        if let Some(orphan) = orphan {
            let chunk = chunk_of(event.seq);
            self.timers.cancel(orphan, Timer::Expiry { queue: event.queue, chunk });
        }
        self.memory.remove(&event);
        self.discharge(event.queue, Usage::of(&entry));
        !entry.transient
    }
}

/// Whether a queue is one of those that are meant.
fn is_of(queue: &Queue, queues: &Removed) -> bool {
    match queues {
        Removed::Recipient(app) => queue.recipient == *app,
        Removed::Name(name) => queue.event == *name,
    }
}
