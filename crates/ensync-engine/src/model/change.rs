use std::sync::Arc;

use ensync_core::{Error, ErrorKind, EventId, Reply, Result, Timestamp};

use super::Record;

/// A change to store and to apply.
#[derive(Clone, Debug)]
pub struct Change {
    /// What.
    pub record: Arc<Record>,
    /// Whether the log has to have it first. If not, it is applied without a position, in its turn.
    pub durable: bool,
}

impl Change {
    pub(crate) fn new(record: Record, durable: bool) -> Self {
        Self { record: Arc::new(record), durable }
    }
}

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Applied {
    /// An event is stored under this id; perhaps by an earlier publish under the same idempotency key.
    Stored(EventId),
    /// It is so.
    Done,
    /// The event waits until then.
    Deferred(Timestamp),
    /// The event was settled otherwise before.
    Stale,
    /// There is such an app, key or event name already.
    Taken,
    /// It speaks of something that is not there, or contradicts what is.
    Ignored,
}

impl Applied {
    /// The answer to the command whose last change this was.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StaleDelivery`], [`ErrorKind::NotFound`], or [`ErrorKind::Conflict`] for an app that is there already.
    pub fn answer(self) -> Result<Reply> {
        match self {
            Self::Stored(id) => Ok(Reply::Published { id }),
            Self::Done => Ok(Reply::Done),
            Self::Deferred(until) => Ok(Reply::Deferred { until: Some(until) }),
            Self::Stale => Err(stale()),
            Self::Taken => Err(Error::new(ErrorKind::Conflict, "the engine has something of that name or key already")),
            Self::Ignored => Err(Error::new(ErrorKind::NotFound, "the engine has nothing of that name")),
        }
    }
}

pub(crate) fn stale() -> Error {
    Error::new(
        ErrorKind::StaleDelivery,
        "the delivery is not this client's to settle (any more): its lease ended, or it was settled otherwise",
    )
}
