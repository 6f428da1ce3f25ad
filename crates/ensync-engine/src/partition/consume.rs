//! Consumers: who takes events from which queue, and how many at a time.

use std::collections::BTreeSet;

use ensync_core::{AppId, Error, ErrorKind, EventName, Result};

use super::{ConsumerNumber, Partition};

/// How much a consumer may have unsettled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Events.
    pub(crate) events: u32,
    /// Bytes of payload and metadata. A single event may be larger.
    pub(crate) bytes: u64,
}

/// What a consumer has to do with a queue.
#[derive(Debug, Default)]
pub(crate) struct Consumer {
    /// Whether it is subscribed.
    pub(crate) active: bool,
    pub(super) paused: bool,
    /// Whether the queue's ring holds it, or it was passed over. While it is paused or full the ring may hold it still: it is asked
    /// when its turn comes.
    pub(crate) in_ring: bool,
    pub(super) max_in_flight: u32,
    pub(super) max_bytes_in_flight: u64,
    /// The events it has and has not settled.
    pub(crate) held: BTreeSet<u64>,
    /// Their sizes together.
    pub(crate) bytes: u64,
}

impl Consumer {
    /// Whether it may get one more event of some size.
    pub(crate) fn wants(&self) -> bool {
        self.active && !self.paused && self.held.len() < self.max_in_flight as usize
    }

    /// Whether an event of `size` fits in its window. The first always does.
    pub(crate) fn fits(&self, size: u32) -> bool {
        self.held.is_empty() || self.bytes.saturating_add(u64::from(size)) <= self.max_bytes_in_flight
    }

    /// Whether there is anything to remember of it.
    fn is_idle(&self) -> bool {
        !self.active && !self.paused && !self.in_ring && self.held.is_empty()
    }
}

impl Partition {
    /// Has a consumer take a queue's events.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LimitExceeded`] if it takes those of too many.
    pub(crate) fn subscribe(
        &mut self,
        consumer: ConsumerNumber,
        recipient: &AppId,
        event: &EventName,
        window: Window,
    ) -> Result<()> {
        let number = self.queue_number(*recipient, event)?;
        self.check_subscriptions(consumer, number)?;
        if let Some(known) = self.consumer_or_new(consumer, number) {
            let new = !std::mem::replace(&mut known.active, true);
            (known.max_in_flight, known.max_bytes_in_flight) = (window.events, window.bytes);
            if let Some(queue) = self.queues.get_mut(&number).filter(|_| new) {
                queue.subscribed += 1;
            }
        }
        self.offer(consumer, number);
        Ok(())
    }

    /// Has it take no more. It keeps what it has.
    pub(crate) fn unsubscribe(&mut self, consumer: ConsumerNumber, recipient: &AppId, event: &EventName) {
        if let Some(number) = self.number(recipient, event)
            && let Some(queue) = self.queues.get_mut(&number)
            && let Some(known) = queue.consumers.get_mut(&consumer)
        {
            queue.subscribed -= usize::from(known.active);
            (known.active, known.paused, known.in_ring) = (false, false, false);
            queue.take_turn(consumer);
            self.tidy(consumer, number);
        }
    }

    /// Takes back what it has, as its end would.
    pub(crate) fn release_held(&mut self, consumer: ConsumerNumber, recipient: &AppId, event: &EventName) {
        if let Some(queue) = self.number(recipient, event)
            && let Some(known) = self.consumer_mut(consumer, queue)
        {
            let held = known.held.clone();
            self.take_back(consumer, queue, held);
        }
    }

    /// Gives it nothing for a while. A pause may come before its subscription: a client that comes back then gets nothing in between.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LimitExceeded`] if it has to do with too many queues.
    pub(crate) fn pause(&mut self, consumer: ConsumerNumber, recipient: &AppId, event: &EventName) -> Result<()> {
        let number = self.queue_number(*recipient, event)?;
        self.check_subscriptions(consumer, number)?;
        if let Some(known) = self.consumer_or_new(consumer, number) {
            known.paused = true;
        }
        Ok(())
    }

    /// Ends a pause.
    pub(crate) fn resume(&mut self, consumer: ConsumerNumber, recipient: &AppId, event: &EventName) {
        if let Some(number) = self.number(recipient, event)
            && let Some(known) = self.consumer_mut(consumer, number)
        {
            known.paused = false;
            self.offer(consumer, number);
            self.tidy(consumer, number);
        }
    }

    /// Forgets a consumer: what it has goes back.
    pub(crate) fn leave(&mut self, consumer: ConsumerNumber) {
        for number in self.consumers.remove(&consumer).unwrap_or_default() {
            let Some(queue) = self.queues.get_mut(&number) else { continue };
            let Some(gone) = queue.consumers.remove(&consumer) else { continue };
            queue.subscribed -= usize::from(gone.active);
            if gone.in_ring {
                queue.take_turn(consumer);
            }
            self.take_back(consumer, number, gone.held);
        }
    }

    /// The event names of the queues that know a consumer.
    pub(crate) fn names_of(&self, consumer: ConsumerNumber) -> impl Iterator<Item = &EventName> {
        let numbers = self.consumers.get(&consumer).into_iter().flatten();
        numbers.filter_map(|number| self.queues.get(number)).map(|queue| &queue.event)
    }

    pub(super) fn consumer_mut(&mut self, consumer: ConsumerNumber, queue: u32) -> Option<&mut Consumer> {
        self.queues.get_mut(&queue)?.consumers.get_mut(&consumer)
    }

    fn consumer_or_new(&mut self, consumer: ConsumerNumber, queue: u32) -> Option<&mut Consumer> {
        let known = self.queues.get_mut(&queue)?.consumers.entry(consumer).or_default();
        self.consumers.entry(consumer).or_default().insert(queue);
        Some(known)
    }

    /// Forgets that a queue knows a consumer, if there is nothing to remember.
    pub(super) fn tidy(&mut self, consumer: ConsumerNumber, number: u32) {
        if let Some(queue) = self.queues.get_mut(&number)
            && queue.consumers.get(&consumer).is_some_and(Consumer::is_idle)
        {
            queue.consumers.remove(&consumer);
            self.forget_consumer(consumer, number);
        }
    }

    pub(super) fn forget_consumer(&mut self, consumer: ConsumerNumber, number: u32) {
        if let Some(queues) = self.consumers.get_mut(&consumer) {
            queues.remove(&number);
            if queues.is_empty() {
                self.consumers.remove(&consumer);
            }
        }
    }

    fn check_subscriptions(&self, consumer: ConsumerNumber, queue: u32) -> Result<()> {
        let Some(queues) = self.consumers.get(&consumer) else { return Ok(()) };
        let limit = self.settings.limits.max_subscriptions;
        if queues.len() >= limit && !queues.contains(&queue) {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("this session has {limit} subscriptions, which is the limit; unsubscribe from some"),
            ));
        }
        Ok(())
    }
}
