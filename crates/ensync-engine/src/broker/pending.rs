//! What waits for the log.

use std::collections::{HashMap, HashSet};

use ensync_core::{Error, ErrorKind, Reply, Result};

use super::request::{Caller, Outcome};
use crate::model::{EventRef, Record};
use crate::state::{Change, Step};

/// Changes that wait for the log, and who waits for what they come to.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) changes: Vec<Change>,
    /// With the number of changes up to and including the one whose outcome is the answer.
    pub(super) callers: Vec<(usize, Caller)>,
    /// Where the same number is to be found of a publish under an idempotency key.
    publishes: HashMap<EventRef, usize>,
}

impl Pending {
    /// Leaves what is to stay, of each command all or none; the second value is who waits for the rest.
    pub(super) fn split(self, stays: impl Fn(&Change) -> bool) -> (Self, Vec<Caller>) {
        let (mut rest, mut out) = (Self::default(), Vec::new());
        let (mut changes, mut begin, mut stay) = (self.changes.into_iter(), 0, false);
        for (end, caller) in self.callers {
            // Several may wait for one.
            if end > begin {
                let group: Vec<_> = changes.by_ref().take(end - begin).collect();
                (stay, begin) = (group.iter().all(&stays), end);
                if stay {
                    rest.changes.extend(group);
                }
            }
            if stay {
                rest.callers.push((rest.changes.len(), caller));
            } else {
                out.push(caller);
            }
        }
        // What the engine itself wants, which nobody waits for.
        rest.changes.extend(changes.filter(stays));
        (rest, out)
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
                let end = self.changes.len() + changes.len();
                let keyed = changes.iter().filter_map(|change| match &*change.record {
                    Record::Publish(publish) if publish.idempotency_key.is_some() => Some((publish.at, end)),
                    _ => None,
                });
                self.publishes.extend(keyed);
                self.changes.extend(changes);
                return self.callers.push((end, caller.into()));
            }
            Ok(Step::Same(event)) => match self.publishes.get(&event) {
                Some(end) => {
                    let place = self.callers.partition_point(|(other, _)| other <= end);
                    return self.callers.insert(place, (*end, caller.into()));
                }
                None => Err(Error::new(ErrorKind::Unavailable, "the same was published a moment ago; try again")),
            },
            Ok(Step::Commit(_)) => Ok(Outcome::Reply(Reply::Done)),
            Ok(Step::Answer(reply)) => Ok(Outcome::Reply(reply)),
            Ok(Step::Replay(replay)) => Ok(Outcome::Replay(replay)),
            Err(refusal) => Err(refusal),
        };
        caller.into().tell(outcome);
    }
}
