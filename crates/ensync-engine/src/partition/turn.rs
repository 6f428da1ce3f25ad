//! What is due, and what can wait: some of it at a time, so that nobody waits for all of it.

use std::collections::{BTreeMap, BTreeSet};

use ensync_core::{Block, Timestamp};

use super::entries::{Entry, Place, Popped};
use super::queue::Queue;
use super::timers::Timer;
use super::{ConsumerNumber, Partition};
use crate::model::{EventRef, Position};

/// How much is done at a time of each kind of work: a millisecond or less.
pub(super) const TURN: usize = 1_024;

/// What a consumer had that is gone, or gives back all it has.
#[derive(Debug)]
pub(crate) struct Parting {
    pub(crate) consumer: ConsumerNumber,
    pub(crate) queue: u32,
    /// With the block of each delivery: an event may be given to the same consumer again before its turn comes.
    pub(crate) held: BTreeMap<u64, Block>,
}

/// A part of the log that was dropped, and the event from which on it is to be forgotten what lay there.
#[derive(Debug)]
pub(super) struct Dropping {
    from: Position,
    to: Position,
    next: EventRef,
}

impl Partition {
    /// Brings time, and does what is due: leases end, deferred events wait again, expired ones go. Time never runs backwards: an earlier
    /// time than the last counts as the last.
    ///
    /// Where much is due at once, or much is to be forgotten, some of it is left: see [`is_behind`](Self::is_behind). Nothing that is left
    /// is delivered, and what has expired never is.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.dedup.forget_old(self.now, self.turn);
        self.dedup_in_memory.forget_old(self.now, self.turn);
        self.give_back_some();
        let mut left = self.turn;
        while left > 0
            && let Some(timer) = self.pop_timer()
        {
            let cost = match timer {
                Timer::Lease(event) => {
                    if !self.begins_later(event) {
                        self.release(event);
                    }
                    0
                }
                Timer::Defer(event) => {
                    self.put_back(event);
                    0
                }
                Timer::Expiry { queue, chunk } => self.sweep(queue, chunk),
            };
            left = left.saturating_sub(cost + 1);
        }
        self.forget_old_fates();
        self.forget_dropped();
        self.forget_leaving();
    }

    /// Whether a [`tick`](Self::tick) at the same time once more would do more.
    pub(crate) fn is_behind(&self) -> bool {
        self.next_due().is_some_and(|due| due <= self.now)
            || !self.parting.is_empty()
            || !self.dropping.is_empty()
            || self.next_leaving().is_some()
            || self.has_old_fates()
            || self.dedup.has_old(self.now)
            || self.dedup_in_memory.has_old(self.now)
    }

    /// Whether there is more to take back of what consumers had that are gone.
    pub(crate) fn takes_back(&self) -> bool {
        !self.parting.is_empty()
    }

    /// How much is done at a time, where it is not what a machine is quick with.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn set_turn(&mut self, turn: usize) {
        self.turn = turn.max(1);
    }

    /// What is due by now, the earliest first.
    fn pop_timer(&mut self) -> Option<Timer> {
        let (lease, other) = (self.next_lease_end(), self.timers.next());
        match (lease, other) {
            (Some(lease), other) if other.is_none_or(|other| lease <= other) => self.lease_ends.pop(self.lease_now()),
            _ => self.timers.pop(self.now),
        }
    }

    /// Has events of a consumer go back.
    pub(super) fn take_back(&mut self, consumer: ConsumerNumber, queue: u32, held: BTreeSet<u64>) {
        let Some(known) = self.queues.get(&queue) else { return };
        let block = |seq| Some((seq, known.leases.get(&seq)?.block));
        let held: BTreeMap<_, _> = held.into_iter().filter_map(block).collect();
        if !held.is_empty() {
            self.parting.push_back(Parting { consumer, queue, held });
            self.give_back_some();
        }
    }

    fn give_back_some(&mut self) {
        let mut left = self.turn;
        while left > 0
            && let Some(parting) = self.parting.front_mut()
        {
            let (consumer, queue) = (parting.consumer, parting.queue);
            let Some((seq, block)) = parting.held.pop_first() else {
                self.parting.pop_front();
                continue;
            };
            if parting.held.is_empty() {
                self.parting.pop_front();
            }
            left -= 1;
            // Its lease may have ended since.
            let lease = self.queues.get(&queue).and_then(|queue| queue.leases.get(&seq));
            if lease.is_some_and(|lease| lease.consumer == consumer && lease.block == block) {
                self.hand_back(EventRef { queue, seq });
            }
        }
    }

    /// Forgets what was needed to find what the log does not have any more.
    pub(crate) fn dropped(&mut self, from: Position, to: Position) {
        self.dropping.push_back(Dropping { from, to, next: EventRef { queue: 0, seq: 0 } });
        self.forget_dropped();
    }

    fn forget_dropped(&mut self) {
        let mut left = self.turn;
        while left > 0
            && let Some(Dropping { from, to, next }) = self.dropping.pop_front()
        {
            let Some((&number, queue)) = self.queues.range(next.queue..).next() else { continue };
            let first = if number == next.queue { next.seq } else { 0 };
            let looked: Vec<_> = queue.moved.range(first..).take(left).map(|(seq, at)| (*seq, *at)).collect();
            let more = (looked.len() == left).then(|| looked.last().map(|(seq, _)| *seq)).flatten();
            left = left.saturating_sub(looked.len() + 1);
            for (seq, _) in looked.into_iter().filter(|(_, at)| (from..to).contains(at)) {
                let event = EventRef { queue: number, seq };
                self.keep_moved(event);
                if let Some(queue) = self.queues.get_mut(&number) {
                    queue.moved.remove(&seq);
                }
            }
            let next = match more.and_then(|last| last.checked_add(1)) {
                Some(seq) => Some(EventRef { queue: number, seq }),
                None => number.checked_add(1).map(|queue| EventRef { queue, seq: 0 }),
            };
            if let Some(next) = next {
                self.dropping.push_front(Dropping { from, to, next });
            }
        }
    }

    /// The first queue that is gone and of which no checkpoint needs to know.
    fn next_leaving(&self) -> Option<u32> {
        let needed = |queue: &Queue| self.image.is_some() && queue.left_after == self.checkpoints;
        self.leaving.iter().find(|(_, queue)| !needed(queue)).map(|(number, _)| *number)
    }

    /// Forgets what is in queues that are gone, without a trace.
    pub(super) fn forget_leaving(&mut self) {
        let mut left = self.turn;
        while left > 0
            && let Some(number) = self.next_leaving()
        {
            let Some(queue) = self.leaving.get_mut(&number) else { return };
            if let Some(Popped { number: chunk, entries, armed }) = queue.entries.pop_chunk() {
                left = left.saturating_sub(entries.len());
                self.timers.cancel(armed, Timer::Expiry { queue: number, chunk });
                for (seq, entry) in entries {
                    self.forget_left(EventRef { queue: number, seq }, &entry);
                }
                continue;
            }
            left -= 1;
            if queue.moved.pop_first().is_some() {
                continue;
            }
            let recipient = queue.recipient;
            match queue.settled.pop() {
                Some((kind, run)) => self.fates.forget(kind, recipient, number, run),
                None => _ = self.leaving.remove(&number),
            }
        }
    }

    /// Forgets an event of a queue that is gone.
    fn forget_left(&mut self, event: EventRef, entry: &Entry) {
        let Some(queue) = self.leaving.get_mut(&event.queue) else { return };
        match entry.place {
            Place::Fresh => queue.fresh = queue.fresh.saturating_sub(1),
            Place::Returned => _ = queue.returned.remove(&event.seq),
            Place::Dead => _ = queue.dead.remove(&event.seq),
            Place::Returning => {
                queue.returning.remove(&event.seq);
                self.returning.remove(&event);
            }
            Place::Doomed => {
                queue.doomed = queue.doomed.saturating_sub(1);
                self.doomed.remove(&event);
            }
            Place::Deferred => {
                if let Some(until) = queue.deferred.remove(&event.seq) {
                    self.timers.cancel(until, Timer::Defer(event));
                }
            }
            Place::Leased => {
                if let Some(lease) = queue.leases.remove(&event.seq) {
                    self.lease_ends.cancel(lease.until, Timer::Lease(event));
                }
            }
        }
        self.memory.remove(&event);
    }
}

/// A walk over what waits, some events at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walk {
    next: Option<EventRef>,
    over: bool,
}

impl Walk {
    /// Whether it has been everywhere.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }
}

impl Partition {
    /// Goes on with a walk over the events that wait and the log has: at most `most` of them. Each is shown with where its payload is in the
    /// log and with the bytes of payload and metadata, unless what it is about happened after the walk began: what is stored meanwhile may
    /// be shown or not, and is later in the log than all that was there then.
    pub(crate) fn walk(&self, walk: &mut Walk, most: usize, mut show: impl FnMut(Position, u32)) {
        let mut left = most;
        let start = walk.next.unwrap_or(EventRef { queue: 0, seq: 0 });
        for (&number, queue) in self.queues.range(start.queue..) {
            let first = if number == start.queue { start.seq } else { 0 };
            for (seq, entry) in queue.entries.from(first) {
                if left == 0 {
                    walk.next = Some(EventRef { queue: number, seq });
                    return;
                }
                left -= 1;
                if !entry.transient {
                    show(self.current(EventRef { queue: number, seq }, entry), entry.size);
                }
            }
            if left == 0 {
                walk.next = number.checked_add(1).map(|queue| EventRef { queue, seq: 0 });
                walk.over = walk.next.is_none();
                return;
            }
            left -= 1;
        }
        walk.over = true;
    }
}
