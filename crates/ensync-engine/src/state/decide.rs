//! Commands of clients: refused, answered, or turned into changes.

use ensync_core::{AppId, Command, Error, ErrorKind, EventName, Peer, Reply, Result, Subscribe, Timestamp};

use super::{Access, Admitted, Limits, Partition, Pass, SessionNumber, Step, lock};
use crate::model::Rights;
use crate::partition::{Publication, Window};

impl Access {
    /// The index of the partition that a command is for. One that will be refused may go anywhere.
    pub(crate) fn route(&self, peer: &Peer, command: &Command) -> usize {
        match command {
            Command::Publish(publish) => self.route_publish(&publish.recipient),
            _ => self.partition_of(&peer.app_id),
        }
    }

    /// The index of the partition of a publish to a public key.
    pub(crate) fn route_publish(&self, recipient: &AppId) -> usize {
        self.registry.recipient(recipient).map_or(0, |id| self.partition_of(&id))
    }

    /// Checks a command of a session, which is for this partition. What needs no log (subscriptions, pauses, roll-backs) is done at once.
    ///
    /// # Errors
    ///
    /// The refusal. Nothing that belongs to another app is in it, not even whether it exists.
    pub(crate) fn decide(&self, partition: &mut Partition, peer: &Peer, pass: Pass, command: Command) -> Result<Step> {
        // What it sends last is carried out, though it is gone; it begins nothing any more.
        let session = match command {
            Command::Settle(_) | Command::Publish(_) => self.admitted(peer, pass)?,
            _ => self.session(peer)?,
        };
        match command {
            Command::Heartbeat => Ok(Step::Answer(Reply::Done)),
            Command::Publish(publish) => {
                let admitted = Admitted::new(publish, &self.settings.limits)?;
                self.publish(partition, peer, pass, admitted)
            }
            Command::Subscribe(subscribe) => self.subscribe(partition, session, peer, &subscribe),
            Command::Unsubscribe { event } => {
                partition.unsubscribe(session, &peer.app_id, &event);
                Ok(Step::Answer(Reply::Done))
            }
            Command::Release { event } => {
                partition.release_held(session, &peer.app_id, &event);
                Ok(Step::Answer(Reply::Done))
            }
            Command::Settle(settle) => partition.settle(session, &peer.app_id, &settle),
            Command::Replay { id, event } => {
                self.require(peer, &event, |rights| rights.subscribe, "replay")?;
                partition.replay(&peer.app_id, &id, &event)
            }
            Command::Pause { event, .. } => {
                self.may_subscribe(peer, &event)?;
                partition.pause(session, &peer.app_id, &event)?;
                Ok(Step::Answer(Reply::Done))
            }
            Command::Continue { event } => {
                self.may_subscribe(peer, &event)?;
                partition.resume(session, &peer.app_id, &event);
                Ok(Step::Answer(Reply::Done))
            }
            other => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("this engine does not know the command {}", other.name()),
            )),
        }
    }

    /// Checks a publish of a session that was open when it sent that.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::UnknownRecipient`], [`ErrorKind::UnknownEvent`], [`ErrorKind::SchemaMismatch`],
    /// [`ErrorKind::LimitExceeded`], [`ErrorKind::Unauthenticated`].
    pub(crate) fn publish(
        &self,
        partition: &mut Partition,
        peer: &Peer,
        pass: Pass,
        admitted: Admitted,
    ) -> Result<Step> {
        self.admitted(peer, pass)?;
        self.check_rate(peer, partition.now)?;
        let Admitted { publish, durable } = admitted;
        self.require(peer, &publish.event, |rights| rights.publish, "publish")?;
        let recipient = self.registry.recipient(&publish.recipient).ok_or_else(|| {
            let message = format!("no app of this engine has the id {}; check the recipient", publish.recipient);
            Error::new(ErrorKind::UnknownRecipient, message)
        })?;
        if !partition.has(&recipient) {
            // Its key was another app's when the command was sent here.
            return Err(Error::new(ErrorKind::Unavailable, "the recipient has just changed; try again"));
        }
        self.check_name(&publish.event)?;
        let schema = self.registry.event(&publish.event).and_then(|options| options.schema.as_ref());
        if let (Some(schema), Some(payload)) = (schema, &publish.payload_metadata) {
            schema.check(payload).map_err(|error| error.context(format!("publish {}", publish.event)))?;
        }
        let sender = self.sender(&peer.app_id, &publish.payload);
        let publication = Publication { sender_id: peer.app_id, sender, recipient_id: recipient, publish, durable };
        partition.publish(publication)
    }

    fn subscribe(
        &self,
        partition: &mut Partition,
        session: SessionNumber,
        peer: &Peer,
        subscribe: &Subscribe,
    ) -> Result<Step> {
        let event = &subscribe.event;
        self.require(peer, event, |rights| rights.subscribe, "subscribe to")?;
        self.check_name(event)?;
        let Limits { max_in_flight, max_bytes_in_flight, .. } = self.settings.limits;
        let window = Window {
            events: subscribe.max_in_flight.unwrap_or(max_in_flight).min(max_in_flight).get(),
            bytes: subscribe.max_bytes_in_flight.map_or(max_bytes_in_flight, |b| b.get().min(max_bytes_in_flight)),
        };
        partition.subscribe(session, &peer.app_id, event, window)?;
        Ok(Step::Answer(Reply::Done))
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
    fn check_rate(&self, peer: &Peer, now: Timestamp) -> Result<()> {
        let Some(rate) = self.settings.limits.publish_rate else { return Ok(()) };
        lock(&self.rates).take(peer.app_id, rate, now).map_err(|wait| {
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

    /// The event name that a command uses for the first time and that is to be registered before it is carried out, if there is one.
    pub(crate) fn first_use<'a>(&self, peer: &Peer, command: Use<'a>) -> Option<&'a EventName> {
        let (Use::Publish { event, .. } | Use::Subscribe { event }) = command;
        if !self.settings.dev || self.registry.event(event).is_some() || self.session(peer).is_err() {
            return None;
        }
        let rights = self.registry.rights(&peer.app_id, event);
        let may = match command {
            Use::Publish { recipient, .. } => rights.publish && self.registry.recipient(recipient).is_some(),
            Use::Subscribe { .. } => rights.subscribe,
        };
        (may && self.registry.auto_events() < self.settings.limits.max_auto_events).then_some(event)
    }

    /// Whether an event name can be used.
    fn check_name(&self, event: &EventName) -> Result<()> {
        if self.closing.as_ref() == Some(event) {
            let message = format!("an administrator is about to delete {event}; try again");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        if self.registry.event(event).is_some() {
            return Ok(());
        }
        if self.settings.dev {
            self.check_first_use(event)?;
        }
        Err(unknown_event(event))
    }

    /// Whether one more event name may be registered by its first use.
    pub(super) fn check_first_use(&self, event: &EventName) -> Result<()> {
        if self.registry.event(event).is_none() && self.registry.auto_events() >= self.settings.limits.max_auto_events {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("{event} is not registered, and first use has registered as many names as it may; register it"),
            ));
        }
        Ok(())
    }
}

/// What a command does with an event name that registers it where first use does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use<'a> {
    Publish { event: &'a EventName, recipient: &'a AppId },
    Subscribe { event: &'a EventName },
}

impl<'a> Use<'a> {
    pub(crate) fn of(command: &'a Command) -> Option<Self> {
        match command {
            Command::Publish(publish) => Some(Self::Publish { event: &publish.event, recipient: &publish.recipient }),
            Command::Subscribe(subscribe) => Some(Self::Subscribe { event: &subscribe.event }),
            _ => None,
        }
    }

    pub(crate) fn of_publish(admitted: &'a Admitted) -> Self {
        Self::Publish { event: &admitted.publish.event, recipient: &admitted.publish.recipient }
    }
}

fn unknown_event(event: &EventName) -> Error {
    Error::new(
        ErrorKind::UnknownEvent,
        format!("the event name {event} is not registered with this engine; register it"),
    )
}
