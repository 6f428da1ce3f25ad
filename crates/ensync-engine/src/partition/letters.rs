//! Dead letters, as administrators deal with them.

use ensync_core::{Error, ErrorKind, EventId, Result};

use super::dispatch::key_of;
use super::entries::Place;
use super::{EventKey, Partition};
use crate::model::{Change, Record};

/// What is to become of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterAction {
    /// It is to be delivered again.
    Requeue,
    /// It is to be given up.
    Drop,
}

impl Partition {
    /// Checks what an administrator wants done with a dead letter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none of that id.
    pub(crate) fn dead_letter(&self, what: LetterAction, id: &EventId) -> Result<Change> {
        let find = || {
            let key = EventKey::of(id)?;
            let queue = self.queues.get(&key.event.queue)?;
            let entry = queue.entries.get(key.event.seq)?;
            (entry.place == Place::Dead && key_of(key.event, entry) == key).then_some((
                key.event,
                queue,
                !entry.transient,
            ))
        };
        let not_found = || Error::new(ErrorKind::NotFound, format!("no dead letter has the id {id}"));
        let (event, queue, durable) = find().ok_or_else(not_found)?;
        let record = match what {
            LetterAction::Requeue => {
                let ttl = self.rules(&queue.event).ttl;
                Record::Requeue { event, expires_at: ttl.map(|ttl| self.now.after(ttl)) }
            }
            LetterAction::Drop => Record::Drop { event },
        };
        Ok(Change::new(record, durable))
    }
}
