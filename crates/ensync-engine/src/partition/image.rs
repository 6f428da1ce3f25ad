//! The durable part as it was at one moment, told in slices while commands go on.
//!
//! Whatever is about to change and was not told yet is told before it does: a queue itself, 32 neighbouring events, where an event was
//! moved to, an idempotency key. So all slices together are what [`Partition::snapshot`] would have been when it was begun.

use std::collections::BTreeMap;

use ensync_core::Timestamp;

use super::Partition;
use super::entries::chunk_of;
use super::fates::Horizon;
use super::queue::Queue;
use super::snapshot::{durable_event, durable_publish, durable_settled, lasts};
use crate::model::{EventRef, Position, SnapshotPart, SnapshotPublisher, SnapshotQueue};

/// What is known of an image that is being made.
#[derive(Debug)]
pub(super) struct Image {
    /// When it was begun.
    now: Timestamp,
    /// What was remembered then of acknowledgements.
    horizon: Horizon,
    /// What is told next; `None` once all queues are told.
    next: Option<Next>,
    /// Where events had been moved to that were moved since, or forgotten.
    moved: BTreeMap<EventRef, Option<Position>>,
    /// What had to be told before its turn.
    early: Vec<SnapshotPart>,
}

/// Some of an image.
#[derive(Debug)]
pub(super) enum Slice {
    /// These, and there is more.
    Parts(Vec<SnapshotPart>),
    /// That was all.
    End,
}

/// What is told next of the first queue from a number on.
#[derive(Clone, Copy, Debug)]
struct Next {
    queue: u32,
    part: Part,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Itself,
    /// From a chunk on.
    Events(u64),
    /// From a sequence number on.
    Moved(u64),
}

impl Partition {
    /// Begins an image of what is durable now. One that is being made is given up.
    pub(super) fn begin_image(&mut self) {
        self.checkpoints += 1;
        self.dedup.begin_image();
        let next = Some(Next { queue: 0, part: Part::Itself });
        let horizon = self.horizon();
        self.image = Some(Image { now: self.now, horizon, next, moved: BTreeMap::new(), early: Vec::new() });
    }

    /// Gives up an image that is being made.
    pub(super) fn drop_image(&mut self) {
        self.dedup.drop_image();
        self.image = None;
    }

    /// What comes before all parts: the latest time that a record names, and the number of the next queue.
    pub(super) fn image_head(&self) -> (Timestamp, u32) {
        (self.logged_at, self.next_stored)
    }

    /// Tells some more of the image: looks at about `most` events, moves and keys. `None` if there is no image; [`Slice::End`] ends it.
    pub(super) fn image(&mut self, most: usize) -> Option<Slice> {
        let mut parts = std::mem::take(&mut self.image.as_mut()?.early);
        let mut left = most.max(1);
        while left > 0
            && let Some(next) = self.image.as_ref().and_then(|image| image.next)
        {
            let (cost, next) = self.tell(next, left, &mut parts);
            left = left.saturating_sub(cost + 1);
            if let Some(image) = &mut self.image {
                image.next = next;
            }
        }
        let publishes = if left > 0 { self.dedup.image(left) } else { Some(Vec::new()) };
        if publishes.is_none() && parts.is_empty() {
            self.image = None;
            return Some(Slice::End);
        }
        let publishes = publishes.into_iter().flatten().filter(|(_, publishes)| !publishes.is_empty());
        parts.extend(publishes.map(|(app, publishes)| {
            let publishes = publishes.into_iter().map(durable_publish).collect();
            SnapshotPart::Publishes(SnapshotPublisher { app, publishes })
        }));
        Some(Slice::Parts(parts))
    }

    /// Tells a part: what it cost, and what is next.
    fn tell(&mut self, next: Next, most: usize, parts: &mut Vec<SnapshotPart>) -> (usize, Option<Next>) {
        let Some(number) = self.next_told(next.queue) else { return (0, None) };
        let part = if number == next.queue { next.part } else { Part::Itself };
        let goes_on = |part| Some(Next { queue: number, part });
        match part {
            Part::Itself => {
                let cost = self.tell_queue(number, parts);
                (cost, goes_on(Part::Events(0)))
            }
            Part::Events(chunk) => {
                let (mut looked, mut chunk) = (0, Some(chunk));
                while looked < most {
                    let queue = self.told(number);
                    chunk = chunk.and_then(|chunk| queue?.entries.chunk_from(chunk));
                    let Some(this) = chunk else { return (looked, goes_on(Part::Moved(0))) };
                    looked += 1 + self.tell_chunk(number, this, parts);
                    chunk = this.checked_add(1);
                }
                (looked, chunk.map_or_else(|| goes_on(Part::Moved(0)), |chunk| goes_on(Part::Events(chunk))))
            }
            Part::Moved(seq) => {
                let (cost, next) = self.tell_moved(number, seq, most, parts);
                let after = || number.checked_add(1).map(|queue| Next { queue, part: Part::Itself });
                (cost, next.map_or_else(after, |seq| goes_on(Part::Moved(seq))))
            }
        }
    }

    /// The first queue from a number on that may have been there.
    fn next_told(&self, from: u32) -> Option<u32> {
        let here = self.queues.range(from..).next().map(|(number, _)| *number);
        let mut left = self.leaving.range(from..).filter(|(_, queue)| queue.left_after == self.checkpoints);
        [here, left.next().map(|(number, _)| *number)].into_iter().flatten().min()
    }

    fn told(&self, number: u32) -> Option<&Queue> {
        self.queues.get(&number).or_else(|| self.leaving.get(&number))
    }

    fn told_mut(&mut self, number: u32) -> Option<&mut Queue> {
        match self.queues.get_mut(&number) {
            None => self.leaving.get_mut(&number),
            queue => queue,
        }
    }

    fn tell_queue(&mut self, number: u32, parts: &mut Vec<SnapshotPart>) -> usize {
        let checkpoint = self.checkpoints;
        let Some(horizon) = self.image.as_ref().map(|image| image.horizon) else { return 0 };
        let Some(queue) = self.told_mut(number) else { return 0 };
        if std::mem::replace(&mut queue.imaged, checkpoint) == checkpoint || queue.logged_seq == 0 {
            return 0;
        }
        let settled = durable_settled(queue, horizon);
        let cost = settled.len();
        parts.push(SnapshotPart::Queue(SnapshotQueue {
            number,
            recipient: queue.recipient,
            event: queue.event.clone(),
            next_seq: queue.logged_seq,
            events: Vec::new(),
            settled,
            moved: Vec::new(),
        }));
        cost
    }

    fn tell_chunk(&mut self, number: u32, chunk: u64, parts: &mut Vec<SnapshotPart>) -> usize {
        let checkpoint = self.checkpoints;
        if !self.told_mut(number).is_some_and(|queue| queue.entries.mark(chunk, checkpoint)) {
            return 0;
        }
        let (Some(queue), Some(image)) = (self.told(number), &self.image) else { return 0 };
        let durable = queue.entries.of_chunk(chunk).filter(|(_, entry)| lasts(entry, image.now));
        let events = durable.map(|(seq, entry)| {
            let now = queue.moved.get(&seq).copied();
            let moved = image.moved.get(&EventRef { queue: number, seq }).copied().unwrap_or(now);
            durable_event(number, queue, (seq, entry), moved.unwrap_or(Position::new(entry.position)))
        });
        let events: Vec<_> = events.collect();
        let count = events.len();
        match parts.last_mut() {
            _ if events.is_empty() => {}
            Some(SnapshotPart::Events { queue, events: before }) if *queue == number => before.extend(events),
            _ => parts.push(SnapshotPart::Events { queue: number, events }),
        }
        count
    }

    /// Tells where events were moved to, from a sequence number on: how many it looked at, and what is next.
    fn tell_moved(&self, number: u32, from: u64, most: usize, parts: &mut Vec<SnapshotPart>) -> (usize, Option<u64>) {
        let (Some(queue), Some(image)) = (self.told(number), &self.image) else { return (0, None) };
        let mut moved: BTreeMap<u64, Position> =
            queue.moved.range(from..).take(most).map(|(seq, at)| (*seq, *at)).collect();
        let looked = moved.len();
        let last = if looked == most { moved.last_key_value().map(|(seq, _)| *seq) } else { None };
        let event = |seq| EventRef { queue: number, seq };
        for (event, before) in image.moved.range(event(from)..=event(last.unwrap_or(u64::MAX))) {
            match before {
                Some(at) => _ = moved.insert(event.seq, *at),
                None => _ = moved.remove(&event.seq),
            }
        }
        if !moved.is_empty() {
            parts.push(SnapshotPart::Moved { queue: number, moved: moved.into_iter().collect() });
        }
        (looked, last.and_then(|last| last.checked_add(1)))
    }

    /// Has the image that is being made hold an event and its neighbours as they are: they are about to change.
    pub(super) fn keep(&mut self, event: EventRef) {
        if let Some(mut early) = self.early() {
            self.tell_chunk(event.queue, chunk_of(event.seq), &mut early);
            self.put_early(early);
        }
    }

    /// The same of what is said of a queue itself: what that cost.
    pub(super) fn keep_queue(&mut self, number: u32) -> usize {
        let Some(mut early) = self.early() else { return 0 };
        let cost = self.tell_queue(number, &mut early);
        self.put_early(early);
        cost
    }

    /// The same of where an event was moved to.
    pub(super) fn keep_moved(&mut self, event: EventRef) {
        if let Some(image) = &mut self.image {
            let now = self.queues.get(&event.queue).and_then(|queue| queue.moved.get(&event.seq)).copied();
            image.moved.entry(event).or_insert(now);
        }
    }

    fn early(&mut self) -> Option<Vec<SnapshotPart>> {
        self.image.as_mut().map(|image| std::mem::take(&mut image.early))
    }

    fn put_early(&mut self, early: Vec<SnapshotPart>) {
        if let Some(image) = &mut self.image {
            image.early = early;
        }
    }
}
