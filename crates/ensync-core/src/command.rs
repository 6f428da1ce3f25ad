//! The one vocabulary that crosses every boundary: a [`Command`] goes in, a [`Reply`] comes back, a [`Delivery`] is pushed.
//!
//! The client, the transports and the engine all speak these three. None of them carries the session's client id: the transport
//! learns it at login and stamps it on the wire.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::{
    AppId, Block, Delay, EventId, EventName, IdempotencyKey, Metadata, PayloadMetadata, Timestamp, WirePayload,
};

/// What a client asks of an engine.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// Keeps the session alive, and proves that the link is.
    Heartbeat,
    /// Hands one event to one recipient.
    Publish(Publish),
    /// Starts the deliveries of an event name to this client.
    Subscribe(Subscribe),
    /// Ends them. What is delivered and unsettled stays with the client until it settles it or its lease ends.
    Unsubscribe {
        /// The event name.
        event: EventName,
    },
    /// Gives back what this client holds unsettled of an event name, as if its session had ended. No wire carries it: a server
    /// half says it for a client whose connection is gone while the session, which is not bound to it, lives on.
    Release {
        /// The event name.
        event: EventName,
    },
    /// Says what became of a delivery.
    Settle(Settle),
    /// Asks for one event again, settled or not. The answer is [`Reply::Replayed`]; no subscription sees it.
    Replay {
        /// The event's id.
        id: EventId,
        /// The event's name.
        event: EventName,
    },
    /// Halts this client's deliveries of an event name. Other clients of the app go on. Ends with the session.
    Pause {
        /// The event name.
        event: EventName,
        /// Why, for the engine's operator.
        reason: String,
    },
    /// Ends a pause.
    Continue {
        /// The event name.
        event: EventName,
    },
}

impl Command {
    /// The command's name, for errors and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Publish(_) => "publish",
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe { .. } => "unsubscribe",
            Self::Release { .. } => "release",
            Self::Settle(settle) => settle.how.name(),
            Self::Replay { .. } => "replay",
            Self::Pause { .. } => "pause",
            Self::Continue { .. } => "continue",
        }
    }
}

/// One event for one recipient.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// The event name.
    pub event: EventName,
    /// Whom it is for.
    pub recipient: AppId,
    /// The sealed payload.
    pub payload: WirePayload,
    /// What travels in clear.
    pub metadata: Metadata,
    /// Size and shape of the plaintext, for the engine's schema check. Older peers send none.
    pub payload_metadata: Option<PayloadMetadata>,
    /// With an engine that deduplicates: a second publish under the same key is answered like the first and stored once.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// The start of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The event name.
    pub event: EventName,
    /// With an engine that has flow control: at most this many deliveries unsettled at a time. `None` leaves it to the engine.
    pub max_in_flight: Option<NonZeroU32>,
    /// With an engine that has flow control: at most this many bytes of payload and metadata, as the wire has them, unsettled at a
    /// time; a single delivery may be larger. `None` leaves it to the engine.
    pub max_bytes_in_flight: Option<NonZeroU64>,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// The event's id.
    pub id: EventId,
    /// The event's name, where the peer says it; id and block decide.
    pub event: Option<EventName>,
    /// The delivery's block. Without it (the WebSocket grammar has none for defer and discard) the session's live delivery of
    /// that event is meant.
    pub block: Option<Block>,
    /// What became of it.
    pub how: Settlement,
}

/// The ways to settle a delivery, and the one to keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// Done: never delivered again.
    Ack,
    /// Defer: delivered again after `delay`.
    Defer {
        /// How long to wait.
        delay: Delay,
        /// Reserved by the wire (gRPC only); engines of today ignore it.
        priority: i32,
        /// Why.
        reason: String,
    },
    /// Give up: it goes to the dead letters.
    Discard {
        /// Why.
        reason: String,
    },
    /// Give back: delivered again at once, to whoever is free.
    Rollback,
    /// Give back what was not looked at: as [`Rollback`](Self::Rollback), but it does not count towards the deliveries after which an event is given
    /// up. For what was buffered when its reader went. With an engine that has [`Extension::Leases`](crate::Extension::Leases).
    Release,
    /// Keep: the lease starts anew and lasts as long as at first, so that the event stays with this client. Nothing is settled.
    /// There is no limit to it: an event is held for as long as its holder lives and says so. With an engine that has
    /// [`Extension::Leases`](crate::Extension::Leases).
    Extend,
}

impl Settlement {
    /// The settlement's name, for errors and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Defer { .. } => "defer",
            Self::Discard { .. } => "discard",
            Self::Rollback => "rollback",
            Self::Release => "release",
            Self::Extend => "extend",
        }
    }
}

/// What an engine answers. A refusal is an [`Error`](crate::Error) instead.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// Carried out.
    Done,
    /// Accepted, under this id.
    Published {
        /// The event's id.
        id: EventId,
    },
    /// Deferred.
    Deferred {
        /// When it will be delivered again, if the engine said.
        until: Option<Timestamp>,
    },
    /// The lease starts anew.
    Extended {
        /// How long it lasts from now, if the engine said.
        lease: Option<Duration>,
    },
    /// The event asked for.
    Replayed(Box<Delivery>),
}

/// One event on its way to one client.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The event name.
    pub event: EventName,
    /// The event's id, the same in every delivery of it.
    pub id: EventId,
    /// This delivery's number.
    pub block: Block,
    /// The sealed payload.
    pub payload: WirePayload,
    /// What travels in clear.
    pub metadata: Metadata,
    /// Who the engine says sent it. Nothing proves it.
    pub sender: Option<AppId>,
    /// Whom it is for, if the engine said.
    pub recipient: Option<AppId>,
    /// When the engine accepted it, if it said.
    pub timestamp: Option<Timestamp>,
    /// How many deliveries of it there were, this one included, if the engine said.
    pub attempt: Option<u32>,
    /// How long the client may take to settle it, from when the engine sent it, if the engine said. A replay has no lease.
    pub lease: Option<Duration>,
}
