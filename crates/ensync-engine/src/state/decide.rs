//! Commands of clients: refused, answered, or turned into changes.

use ensync_core::{Command, Error, ErrorKind, EventName, Peer, Reply, Result, Subscribe};

use super::dedup::Fingerprint;
use super::sessions::SessionNumber;
use super::{Admitted, Change, Limits, State, Step};
use crate::model::{AdminCommand, EventRef, PublishRecord, Record, Rights};

impl State {
    /// Checks a command of a session. What needs no log (subscriptions, pauses, roll-backs) is done at once.
    ///
    /// # Errors
    ///
    /// The refusal. Nothing that belongs to another app is in it, not even whether it exists.
    pub fn decide(&mut self, peer: &Peer, command: Command) -> Result<Step> {
        let session = self.session(peer)?;
        match command {
            Command::Heartbeat => Ok(Step::Answer(Reply::Done)),
            Command::Publish(publish) => {
                let admitted = Admitted::new(publish, &self.settings.limits)?;
                self.publish(peer, admitted)
            }
            Command::Subscribe(subscribe) => self.subscribe(session, peer, &subscribe),
            Command::Unsubscribe { event } => Ok(self.unsubscribe(session, peer, &event)),
            Command::Release { event } => Ok(self.release_held(session, peer, &event)),
            Command::Settle(settle) => self.settle(session, peer, &settle),
            Command::Replay { id, event } => self.replay(peer, &id, &event),
            Command::Pause { event, .. } => self.pause(session, peer, &event),
            Command::Continue { event } => self.resume(session, peer, &event),
            other => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("this engine does not know the command {}", other.name()),
            )),
        }
    }

    /// Checks a publish of a session.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::UnknownRecipient`], [`ErrorKind::UnknownEvent`], [`ErrorKind::SchemaMismatch`],
    /// [`ErrorKind::LimitExceeded`], [`ErrorKind::Unauthenticated`].
    pub fn publish(&mut self, peer: &Peer, admitted: Admitted) -> Result<Step> {
        self.session(peer)?;
        self.check_rate(peer)?;
        let Admitted { publish, durable } = admitted;
        self.require(peer, &publish.event, |rights| rights.publish, "publish")?;
        let recipient = self.registry.recipient(&publish.recipient).ok_or_else(|| {
            let message = format!("no app of this engine has the id {}; check the recipient", publish.recipient);
            Error::new(ErrorKind::UnknownRecipient, message)
        })?;
        let registration = self.registration(&publish.event)?;
        let schema = self.registry.event(&publish.event).and_then(|options| options.schema.as_ref());
        if let (Some(schema), Some(payload)) = (schema, &publish.payload_metadata) {
            schema.check(payload).map_err(|error| error.context(format!("publish {}", publish.event)))?;
        }
        if let Some(key) = &publish.idempotency_key {
            let fingerprint = Fingerprint::new(&peer.app_id, &recipient, &publish.event, key, !durable);
            let dedup = if durable { &self.dedup } else { &self.dedup_in_memory };
            if let Some(first) = dedup.find(&fingerprint, self.now) {
                return Ok(Step::Answer(Reply::Published { id: first.to_id() }));
            }
        }
        let queue = self.queue_number(recipient, &publish.event)?;
        let record = PublishRecord {
            at: EventRef { queue, seq: self.reserve(queue)? },
            tag: self.settings.tag,
            recipient: publish.recipient,
            sender: self.sender(&peer.app_id, &publish.payload),
            payload: publish.payload,
            metadata: publish.metadata,
            accepted_at: self.now,
            expires_at: self.registry.ttl(&publish.event).map(|ttl| self.now.after(ttl)),
            event: publish.event,
            idempotency_key: publish.idempotency_key,
        };
        let publish = Change::new(Record::Publish(record), durable);
        Ok(Step::Commit(registration.into_iter().chain([publish]).collect()))
    }

    fn subscribe(&mut self, session: SessionNumber, peer: &Peer, subscribe: &Subscribe) -> Result<Step> {
        let event = &subscribe.event;
        self.require(peer, event, |rights| rights.subscribe, "subscribe to")?;
        let registration = self.registration(event)?;
        let Limits { max_in_flight, max_bytes_in_flight, .. } = self.settings.limits;
        let queue = self.queue_number(peer.app_id, event)?;
        self.check_subscriptions(session, queue)?;
        if let Some(consumer) = self.sessions.consumer_or_new(session, queue) {
            let new = !std::mem::replace(&mut consumer.active, true);
            consumer.max_in_flight = subscribe.max_in_flight.unwrap_or(max_in_flight).min(max_in_flight).get();
            consumer.max_bytes_in_flight =
                subscribe.max_bytes_in_flight.map_or(max_bytes_in_flight, |bytes| bytes.get().min(max_bytes_in_flight));
            if let Some(queue) = self.queues.get_mut(&queue).filter(|_| new) {
                queue.consumers += 1;
            }
        }
        self.offer(session, queue);
        Ok(match registration {
            None => Step::Answer(Reply::Done),
            Some(change) => Step::Commit(vec![change]),
        })
    }

    fn unsubscribe(&mut self, session: SessionNumber, peer: &Peer, event: &EventName) -> Step {
        if let Some(&number) = self.numbers.get(&(peer.app_id, event.clone()))
            && let Some(consumer) = self.sessions.consumer_mut(session, number)
            && let Some(queue) = self.queues.get_mut(&number)
        {
            queue.consumers -= usize::from(consumer.active);
            (consumer.active, consumer.paused, consumer.in_ring) = (false, false, false);
            queue.take_turn(session);
            self.sessions.tidy(session, number);
        }
        Step::Answer(Reply::Done)
    }

    /// Takes back what a session holds of an event name, as its end would.
    fn release_held(&mut self, session: SessionNumber, peer: &Peer, event: &EventName) -> Step {
        if let Some(&queue) = self.numbers.get(&(peer.app_id, event.clone()))
            && let Some(consumer) = self.sessions.consumer_mut(session, queue)
        {
            for seq in consumer.held.clone() {
                self.hand_back(EventRef { queue, seq });
            }
        }
        Step::Answer(Reply::Done)
    }

    /// A pause may come before its subscription: a client that comes back then gets nothing in between.
    fn pause(&mut self, session: SessionNumber, peer: &Peer, event: &EventName) -> Result<Step> {
        self.require(peer, event, |rights| rights.subscribe, "subscribe to")?;
        if self.registry.event(event).is_none() {
            return Err(unknown_event(event));
        }
        let queue = self.queue_number(peer.app_id, event)?;
        self.check_subscriptions(session, queue)?;
        if let Some(consumer) = self.sessions.consumer_or_new(session, queue) {
            consumer.paused = true;
        }
        Ok(Step::Answer(Reply::Done))
    }

    fn resume(&mut self, session: SessionNumber, peer: &Peer, event: &EventName) -> Result<Step> {
        self.require(peer, event, |rights| rights.subscribe, "subscribe to")?;
        if self.registry.event(event).is_none() {
            return Err(unknown_event(event));
        }
        if let Some(&queue) = self.numbers.get(&(peer.app_id, event.clone()))
            && let Some(consumer) = self.sessions.consumer_mut(session, queue)
        {
            consumer.paused = false;
            self.offer(session, queue);
            self.sessions.tidy(session, queue);
        }
        Ok(Step::Answer(Reply::Done))
    }

    pub(super) fn require(
        &self,
        peer: &Peer,
        event: &EventName,
        right: impl Fn(Rights) -> bool,
        verb: &str,
    ) -> Result<()> {
        if right(self.registry.rights(&peer.app_id, event)) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Forbidden,
            format!("this app may not {verb} {event}; whoever administers the engine can grant it"),
        ))
    }

    /// Counts a publish against the app's rate, whatever becomes of it otherwise.
    fn check_rate(&mut self, peer: &Peer) -> Result<()> {
        let Some(rate) = self.settings.limits.publish_rate else { return Ok(()) };
        self.rates.take(peer.app_id, rate, self.now).map_err(|wait| {
            Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "this app may publish {} events per second, {} at once (publish_rate); try again in {} ms",
                    rate.per_second,
                    rate.burst,
                    wait.as_nanos().div_ceil(1_000_000)
                ),
            )
        })
    }

    /// The change that registers a name by its first use, if it has to be.
    fn registration(&self, event: &EventName) -> Result<Option<Change>> {
        if self.registry.event(event).is_some() {
            return Ok(None);
        }
        if !self.settings.dev {
            return Err(unknown_event(event));
        }
        if self.registry.auto_events() >= self.settings.limits.max_auto_events {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("{event} is not registered, and first use has registered as many names as it may; register it"),
            ));
        }
        let record = Record::Admin { at: self.now, command: AdminCommand::UseEvent { name: event.clone() } };
        Ok(Some(Change::new(record, true)))
    }

    fn check_subscriptions(&self, session: SessionNumber, queue: u32) -> Result<()> {
        let Some(session) = self.sessions.get(session) else { return Ok(()) };
        let limit = self.settings.limits.max_subscriptions;
        if session.consumers.len() >= limit && !session.consumers.contains_key(&queue) {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("this session has {limit} subscriptions, which is the limit; unsubscribe from some"),
            ));
        }
        Ok(())
    }

    /// Gives out the next sequence number of a queue. One that is never used does no harm.
    fn reserve(&mut self, number: u32) -> Result<u64> {
        let full = || Error::new(ErrorKind::LimitExceeded, "the queue has no more sequence numbers");
        let queue = self.queues.get_mut(&number).ok_or_else(full)?;
        let seq = queue.reserved.max(queue.next_seq);
        queue.reserved = seq.checked_add(1).ok_or_else(full)?;
        Ok(seq)
    }
}

fn unknown_event(event: &EventName) -> Error {
    Error::new(
        ErrorKind::UnknownEvent,
        format!("the event name {event} is not registered with this engine; register it"),
    )
}
