//! What waits for the log.

use ensync_core::{Reply, Result};

use super::request::{Answer, Outcome};
use crate::model::Record;
use crate::state::{Change, Step};

/// Changes that wait for the log, and who waits for what they come to.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) changes: Vec<Change>,
    /// With the number of changes up to and including the one whose outcome is the answer.
    pub(super) answers: Vec<(usize, Answer<Outcome>)>,
}

impl Pending {
    /// Takes the publishes out, each with all changes of its command; the second value is who waits for them.
    pub(super) fn split(self) -> (Self, Vec<Answer<Outcome>>) {
        let (mut rest, mut publishes) = (Self::default(), Vec::new());
        let (mut changes, mut begin) = (self.changes.into_iter(), 0);
        for (end, answer) in self.answers {
            let group: Vec<_> = changes.by_ref().take(end - begin).collect();
            begin = end;
            if group.iter().any(|change| matches!(*change.record, Record::Publish(_))) {
                publishes.push(answer);
            } else {
                rest.changes.extend(group);
                rest.answers.push((rest.changes.len(), answer));
            }
        }
        // What the engine itself wants, which nobody waits for.
        rest.changes.extend(changes);
        (rest, publishes)
    }

    pub(super) fn of(changes: Result<Vec<Change>>, answer: Answer<Outcome>) -> Self {
        let mut pending = Self::default();
        pending.add(changes.map(Step::Commit), answer);
        pending
    }

    pub(super) fn add(&mut self, step: Result<Step>, answer: Answer<Outcome>) {
        let outcome = match step {
            Ok(Step::Commit(changes)) if !changes.is_empty() => {
                self.changes.extend(changes);
                return self.answers.push((self.changes.len(), answer));
            }
            Ok(Step::Commit(_)) => Ok(Outcome::Reply(Reply::Done)),
            Ok(Step::Answer(reply)) => Ok(Outcome::Reply(reply)),
            Ok(Step::Replay(replay)) => Ok(Outcome::Replay(replay)),
            Err(refusal) => Err(refusal),
        };
        _ = answer.send(outcome);
    }
}
