//! What became of queued events.

use std::fmt;

use ensync_core::{AppId, Error, EventId, EventName, Metadata, Timestamp, WirePayload};
use futures::Stream;
use tokio::sync::broadcast;

/// The name of an event in an outbox, for one recipient. Later ones are greater; none is given twice by one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueuedId(pub(super) u64);

impl fmt::Display for QueuedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The outbox's word that a publish is on disk: a [`QueuedId`] for each recipient, in the order they were named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedPublish(pub(super) Vec<(AppId, QueuedId)>);

impl QueuedPublish {
    /// Each recipient and the name of its copy.
    pub fn iter(&self) -> impl Iterator<Item = (&AppId, QueuedId)> {
        self.0.iter().map(|(recipient, id)| (recipient, *id))
    }
}

/// A queued event that an [`OutboxOutcome`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueuedEvent {
    /// Its name in the outbox.
    pub queued: QueuedId,
    /// The event name.
    pub event: EventName,
    /// Whom it is for.
    pub recipient: AppId,
    /// When it was queued; if this machine's clock was set since, by what it says now.
    pub at: Timestamp,
}

/// What became of a queued event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OutboxOutcome {
    /// The engine accepted it.
    Accepted {
        /// Which.
        about: QueuedEvent,
        /// The event's id at the engine.
        id: EventId,
    },
    /// The engine refused it. It is kept aside until [`retry`](crate::Outbox::retry) or [`discard`](crate::Outbox::discard); those
    /// behind it go on.
    Parked {
        /// Which.
        about: QueuedEvent,
        /// Why.
        why: Error,
    },
    /// It was older than allowed, and is gone.
    Expired {
        /// Which.
        about: QueuedEvent,
    },
    /// It made room for a newer one, and is gone.
    Dropped {
        /// Which.
        about: QueuedEvent,
    },
    /// It could not be read any more: somebody altered the file, or the disk did. It is gone.
    Damaged {
        /// Its name in the outbox.
        queued: QueuedId,
        /// Why.
        why: Error,
    },
    /// Whoever listens was slower than what happened.
    Missed {
        /// How many outcomes were left out.
        outcomes: u64,
    },
}

/// An event that the engine refused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ParkedEvent {
    /// Which.
    pub about: QueuedEvent,
    /// Why, in at most 1 KiB of the engine's words.
    pub why: Error,
    /// What is published, sealed: it can be read by its recipient, [inspected](ensync_core::crypto::inspect), or kept elsewhere.
    pub payload: WirePayload,
    /// What goes along in clear.
    pub metadata: Metadata,
}

pub(super) fn stream(
    receiver: broadcast::Receiver<OutboxOutcome>,
) -> impl Stream<Item = OutboxOutcome> + Send + Unpin + 'static {
    Box::pin(futures::stream::unfold(receiver, |mut receiver| async move {
        match receiver.recv().await {
            Ok(outcome) => Some((outcome, receiver)),
            Err(broadcast::error::RecvError::Lagged(outcomes)) => Some((OutboxOutcome::Missed { outcomes }, receiver)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }))
}

/// Tells an outcome to those who listen, and to the log.
pub(super) fn tell(listeners: &broadcast::Sender<OutboxOutcome>, outcome: OutboxOutcome) {
    match &outcome {
        OutboxOutcome::Accepted { about, id } => {
            tracing::debug!(queued = %about.queued, event = %about.event, %id, "a queued event is accepted");
        }
        OutboxOutcome::Parked { about, why } => {
            tracing::warn!(queued = %about.queued, event = %about.event, error = %why, "a queued event is refused, and parked");
        }
        OutboxOutcome::Expired { about } => {
            tracing::warn!(queued = %about.queued, event = %about.event, "a queued event has expired");
        }
        OutboxOutcome::Dropped { about } => {
            tracing::warn!(queued = %about.queued, event = %about.event, "a queued event made room for a newer one");
        }
        OutboxOutcome::Damaged { queued, why } => {
            tracing::error!(%queued, error = %why, "a queued event cannot be read any more");
        }
        OutboxOutcome::Missed { .. } => {}
    }
    crate::observe::outbox_outcome(&outcome);
    // Nobody has to listen.
    let _ = listeners.send(outcome);
}
