//! What all records up to one come to: the engine's durable state, spelled out.

use ensync_core::{AppId, Block, EventName, Timestamp};

use super::{EventOptions, EventRef, KeyHash, Position, Rights};

/// What is left of an engine's state when sessions, leases and events in memory are gone. A state goes on from it, so that only
/// later records have to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Who may do what.
    pub registry: RegistrySnapshot,
    /// Queues.
    pub partition: PartitionSnapshot,
}

/// Apps and event names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySnapshot {
    /// The latest time that a record of them names.
    pub logged_at: Timestamp,
    /// Apps, by id.
    pub apps: Vec<SnapshotApp>,
    /// Event names.
    pub events: Vec<SnapshotName>,
    /// The ids of apps that were deleted last and are not there again, the latest last: their queues may be left in a partition's log.
    pub deleted: Vec<AppId>,
}

/// Queues, and what is remembered of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionSnapshot {
    /// The latest time that a record of them names.
    pub logged_at: Timestamp,
    /// The number after the largest that a queue with an event in the log ever had.
    pub next_queue: u32,
    /// Queues that ever had an event in the log, by number. One that only had others is made anew when it is used, and may then
    /// get another number.
    pub queues: Vec<SnapshotQueue>,
    /// Publishes under idempotency keys, by the id of who sent them.
    pub publishes: Vec<SnapshotPublisher>,
}

/// Some of what a [`PartitionSnapshot`] says. All parts of one, in whatever order, are as good as it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotPart {
    /// A queue, without its events and moves.
    Queue(SnapshotQueue),
    /// Unsettled events of a queue.
    Events {
        /// Its number.
        queue: u32,
        /// Each is in one part only.
        events: Vec<SnapshotEvent>,
    },
    /// Events of a queue that were appended more than once, and where their latest copies are.
    Moved {
        /// Its number.
        queue: u32,
        /// By sequence number. Those of unsettled events say what these say themselves.
        moved: Vec<(u64, Position)>,
    },
    /// Publishes of an app that come after those of it in earlier parts.
    Publishes(SnapshotPublisher),
}

/// An app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotApp {
    /// The public key that it was created with.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// The public key that it has now.
    pub public_key: AppId,
    /// Those before it that can still be published to, oldest first.
    pub earlier_keys: Vec<AppId>,
    /// What its access key hashes to.
    pub key_hash: KeyHash,
    /// What the one before hashes to, and until when that logs in.
    pub old_key: Option<(KeyHash, Timestamp)>,
    /// Whether it may log in.
    pub enabled: bool,
    /// Its rights where it has no grant.
    pub rights: Rights,
    /// Its rights for single names.
    pub grants: Vec<(EventName, Rights)>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// An event name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotName {
    /// The name.
    pub name: EventName,
    /// What holds for it.
    pub options: EventOptions,
    /// Whether it was registered by its first use.
    pub auto: bool,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotQueue {
    /// Its number.
    pub number: u32,
    /// Its recipient's id.
    pub recipient: AppId,
    /// Its event name.
    pub event: EventName,
    /// The sequence number after its last event in the log.
    pub next_seq: u64,
    /// Its unsettled events, in order.
    pub events: Vec<SnapshotEvent>,
    /// Events that were settled lately.
    pub settled: Vec<SnapshotSettled>,
    /// Settled events that were appended more than once, and where their latest copies are.
    pub moved: Vec<(u64, Position)>,
}

/// An unsettled event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEvent {
    /// Its sequence number.
    pub seq: u64,
    /// Where the log had it first.
    pub position: Position,
    /// Where its payload is now.
    pub current: Position,
    /// See [`PublishRecord::tag`](super::PublishRecord::tag).
    pub tag: u32,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it expires, if ever.
    pub expires_at: Option<Timestamp>,
    /// Payload and metadata, in bytes.
    pub size: u32,
    /// How often it was delivered, as far as the log knows: up to the last time that it came back.
    pub deliveries: u32,
    /// How many of these do not count.
    pub handed_back: u8,
    /// What it waits for.
    pub waits: SnapshotWait,
}

/// What an unsettled event waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotWait {
    /// A client.
    Client,
    /// A time.
    Until(Timestamp),
    /// An administrator: it is a dead letter.
    Administrator {
        /// Why.
        reason: String,
        /// Since when.
        at: Timestamp,
    },
}

/// An app that published under idempotency keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPublisher {
    /// Its id.
    pub app: AppId,
    /// What it published, in the order it came.
    pub publishes: Vec<SnapshotPublish>,
}

/// A publish under an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPublish {
    /// The hash of sender, recipient, event name and key.
    pub fingerprint: [u8; 16],
    /// The event that was stored.
    pub event: EventRef,
    /// See [`PublishRecord::tag`](super::PublishRecord::tag).
    pub tag: u32,
    /// Where the log had it first.
    pub position: Position,
    /// When it was accepted.
    pub at: Timestamp,
}

/// Events with neighbouring sequence numbers that were settled alike, so that a repeated acknowledgement is answered as the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSettled {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// The block of the deliveries that acknowledged them; `None` if they were dead letters that were given up.
    pub by: Option<Block>,
    /// When the latest of them was.
    pub at: Timestamp,
}
