//! What is stored of what happens. Everything is owned and spelled out, so that it can be written to a disk and read by later
//! versions.

use ensync_core::{AppId, Block, EventName, IdempotencyKey, Metadata, Timestamp, WirePayload};

use super::{AdminCommand, Need};

/// One change of the engine's durable state.
///
/// Leases and sessions are not among them: after a restart everything unsettled can be delivered again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// An event was accepted. The same event may be appended again to keep it when what lies before is dropped: the later copy
    /// then is where its payload is read.
    Publish(PublishRecord),
    /// An event is done.
    Ack {
        /// Which.
        event: EventRef,
        /// By which delivery, so that a repeated acknowledgement is recognised.
        block: Block,
        /// When.
        at: Timestamp,
    },
    /// An event is not to be delivered before a time.
    Defer {
        /// Which.
        event: EventRef,
        /// When it may be delivered again.
        until: Timestamp,
        /// How often it had been delivered.
        deliveries: u32,
        /// How many of these do not count.
        handed_back: u8,
    },
    /// A delivery came to nothing, and the event waits for another one.
    Return {
        /// Which.
        event: EventRef,
        /// How often it had been delivered.
        deliveries: u32,
        /// How many of these do not count towards the most that it may be, as their sessions ended first.
        handed_back: u8,
    },
    /// An event went to the dead letters.
    Discard {
        /// Which.
        event: EventRef,
        /// Why, in the client's words or the engine's.
        reason: String,
        /// When.
        at: Timestamp,
        /// How often it had been delivered.
        deliveries: u32,
    },
    /// A dead letter is to be delivered again, its deliveries counted anew.
    Requeue {
        /// Which.
        event: EventRef,
        /// When it expires now, if ever.
        expires_at: Option<Timestamp>,
    },
    /// An event was given up: a dead letter, or one that waited in a queue that was purged.
    Drop {
        /// Which.
        event: EventRef,
    },
    /// Queues are gone, with all that was in them: of an app or a name that is. Those that come later under the same name are others.
    Remove {
        /// Which.
        queues: Removed,
    },
    /// What an administrator asked for was done. Apps are named by their ids in it.
    Admin {
        /// When.
        at: Timestamp,
        /// What.
        command: AdminCommand,
    },
}

impl Record {
    /// The event that it is about, if it is about one.
    pub fn event(&self) -> Option<EventRef> {
        match self {
            Self::Publish(publish) => Some(publish.at),
            Self::Ack { event, .. }
            | Self::Defer { event, .. }
            | Self::Return { event, .. }
            | Self::Discard { event, .. }
            | Self::Requeue { event, .. }
            | Self::Drop { event } => Some(*event),
            Self::Remove { .. } | Self::Admin { .. } => None,
        }
    }

    /// What it is to a log that is nearly full.
    pub fn need(&self) -> Need {
        match self {
            Self::Publish(_) => Need::Grows,
            Self::Defer { .. } | Self::Return { .. } | Self::Discard { .. } | Self::Requeue { .. } => Need::Keeps,
            Self::Ack { .. } | Self::Drop { .. } | Self::Admin { .. } => Need::Ends,
            Self::Remove { .. } => Need::Frees,
        }
    }

    /// When it was made, if it says so.
    pub fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Publish(publish) => Some(publish.accepted_at),
            Self::Ack { at, .. } | Self::Discard { at, .. } | Self::Admin { at, .. } => Some(*at),
            Self::Defer { .. }
            | Self::Return { .. }
            | Self::Requeue { .. }
            | Self::Drop { .. }
            | Self::Remove { .. } => None,
        }
    }
}

/// Which queues are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// Those of a recipient, by its id.
    Recipient(AppId),
    /// Those of an event name.
    Name(EventName),
}

/// An accepted event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishRecord {
    /// The queue's number and the event's place in it.
    pub at: EventRef,
    /// Drawn anew by every run of the engine, so that an id of a lost log names no event of another.
    pub tag: u32,
    /// The app that it is for, by its id.
    pub recipient_id: AppId,
    /// The public key that it was sealed for: one of those that its recipient had when it was accepted.
    pub recipient: AppId,
    /// The event name.
    pub event: EventName,
    /// The app that published it, by its id.
    pub sender_id: AppId,
    /// The public key that its publisher had then.
    pub sender: AppId,
    /// The sealed payload.
    pub payload: WirePayload,
    /// What travels in clear.
    pub metadata: Metadata,
    /// When the engine accepted it.
    pub accepted_at: Timestamp,
    /// When it is of no use any more, if ever.
    pub expires_at: Option<Timestamp>,
    /// The key under which the sender may repeat the publish.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl PublishRecord {
    /// What a delivery of it weighs in a window: payload and metadata, in bytes of their text.
    pub fn size(&self) -> usize {
        self.payload.len().saturating_add(self.metadata.as_str().len())
    }
}

/// Names an event in the log: its queue's number, and its sequence number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventRef {
    /// The queue. Numbers are given out once and belong to one app and event name, also when either is gone.
    pub queue: u32,
    /// The event's number in its queue; later events have larger ones.
    pub seq: u64,
}
