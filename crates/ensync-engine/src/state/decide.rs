//! Commands of clients: refused, answered, or turned into changes.

use ensync_core::{Command, Error, ErrorKind, EventName, Peer, Reply, Result, Subscribe};

use super::{Admitted, Change, Limits, SessionNumber, State, Step};
use crate::model::{AdminCommand, Record, Rights};
use crate::partition::{Publication, Window};

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
            Command::Unsubscribe { event } => {
                self.partition.unsubscribe(session, &peer.app_id, &event);
                Ok(Step::Answer(Reply::Done))
            }
            Command::Release { event } => {
                self.partition.release_held(session, &peer.app_id, &event);
                Ok(Step::Answer(Reply::Done))
            }
            Command::Settle(settle) => self.partition.settle(session, &peer.app_id, &settle),
            Command::Replay { id, event } => {
                self.require(peer, &event, |rights| rights.subscribe, "replay")?;
                self.partition.replay(&peer.app_id, &id, &event)
            }
            Command::Pause { event, .. } => {
                self.may_subscribe(peer, &event)?;
                self.partition.pause(session, &peer.app_id, &event)?;
                Ok(Step::Answer(Reply::Done))
            }
            Command::Continue { event } => {
                self.may_subscribe(peer, &event)?;
                self.partition.resume(session, &peer.app_id, &event);
                Ok(Step::Answer(Reply::Done))
            }
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
        let sender = self.sender(&peer.app_id, &publish.payload);
        let publication = Publication { sender_id: peer.app_id, sender, recipient_id: recipient, publish, durable };
        let step = self.partition.publish(publication)?;
        Ok(match (registration, step) {
            (Some(registration), Step::Commit(changes)) => {
                Step::Commit([registration].into_iter().chain(changes).collect())
            }
            (_, step) => step,
        })
    }

    fn subscribe(&mut self, session: SessionNumber, peer: &Peer, subscribe: &Subscribe) -> Result<Step> {
        let event = &subscribe.event;
        self.require(peer, event, |rights| rights.subscribe, "subscribe to")?;
        let registration = self.registration(event)?;
        let Limits { max_in_flight, max_bytes_in_flight, .. } = self.settings.limits;
        let window = Window {
            events: subscribe.max_in_flight.unwrap_or(max_in_flight).min(max_in_flight).get(),
            bytes: subscribe.max_bytes_in_flight.map_or(max_bytes_in_flight, |b| b.get().min(max_bytes_in_flight)),
        };
        self.partition.subscribe(session, &peer.app_id, event, window)?;
        Ok(match registration {
            None => Step::Answer(Reply::Done),
            Some(change) => Step::Commit(vec![change]),
        })
    }

    /// Whether an app may subscribe to a name, or pause, which is of use to nobody else.
    fn may_subscribe(&self, peer: &Peer, event: &EventName) -> Result<()> {
        self.require(peer, event, |rights| rights.subscribe, "subscribe to")?;
        if self.registry.event(event).is_none() {
            return Err(unknown_event(event));
        }
        Ok(())
    }

    fn require(&self, peer: &Peer, event: &EventName, right: impl Fn(Rights) -> bool, verb: &str) -> Result<()> {
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
}

fn unknown_event(event: &EventName) -> Error {
    Error::new(
        ErrorKind::UnknownEvent,
        format!("the event name {event} is not registered with this engine; register it"),
    )
}
