//! What waits for the log.

use std::collections::HashSet;

use ensync_core::{Reply, Result};

use super::request::{Caller, Outcome};
use crate::model::{EventRef, Record};
use crate::state::{Change, Step};

/// Changes that wait for the log, and who waits for what they come to.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) changes: Vec<Change>,
    /// With the number of changes up to and including the one whose outcome is the answer.
    pub(super) callers: Vec<(usize, Caller)>,
}

impl Pending {
    /// Takes the publishes out that need the log, each with all changes of its command; the second value is who waits for them.
    pub(super) fn split(self) -> (Self, Vec<Caller>) {
        let (mut rest, mut publishes) = (Self::default(), Vec::new());
        let (mut changes, mut begin) = (self.changes.into_iter(), 0);
        for (end, caller) in self.callers {
            let group: Vec<_> = changes.by_ref().take(end - begin).collect();
            begin = end;
            if group.iter().any(|change| change.durable && matches!(*change.record, Record::Publish(_))) {
                publishes.push(caller);
            } else {
                rest.changes.extend(group);
                rest.callers.push((rest.changes.len(), caller));
            }
        }
        // What the engine itself wants, which nobody waits for.
        rest.changes.extend(changes);
        (rest, publishes)
    }

    /// Adds what the engine itself wants. What a command says of the same event comes first, and whether it can be stored is not
    /// known yet: a client that defers an event and goes does not take that back. If the engine still wants it then, it says so again.
    pub(super) fn add_own(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let said: HashSet<EventRef> = self.changes.iter().filter_map(|change| change.record.event()).collect();
        let own = |change: &Change| change.record.event().is_none_or(|event| !said.contains(&event));
        self.changes.extend(changes.into_iter().filter(own));
    }

    pub(super) fn of(changes: Result<Vec<Change>>, caller: impl Into<Caller>) -> Self {
        let mut pending = Self::default();
        pending.add(changes.map(Step::Commit), caller);
        pending
    }

    pub(super) fn add(&mut self, step: Result<Step>, caller: impl Into<Caller>) {
        let outcome = match step {
            Ok(Step::Commit(changes)) if !changes.is_empty() => {
                self.changes.extend(changes);
                return self.callers.push((self.changes.len(), caller.into()));
            }
            Ok(Step::Commit(_)) => Ok(Outcome::Reply(Reply::Done)),
            Ok(Step::Answer(reply)) => Ok(Outcome::Reply(reply)),
            Ok(Step::Replay(replay)) => Ok(Outcome::Replay(replay)),
            Err(refusal) => Err(refusal),
        };
        caller.into().tell(outcome);
    }
}
