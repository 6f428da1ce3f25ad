//! Lists of what is in all partitions.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use ensync_core::{AppId, Error, ErrorKind, EventId, EventName, Result};

use super::Broker;
use super::look::{PIECE, PIECES};
use super::request::Origin;
use crate::partition::{EventKey, Partition};
use crate::state::{AppInfo, DeadLetter, LetterFilter, QueueStats, SessionNumber, SessionSeen};

/// How long a partition may take to answer before a list goes on without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// A part of a list, and where to go on.
pub(crate) type Part<T, C> = (Vec<T>, Option<C>);

/// A part of a list over several partitions.
#[derive(Debug)]
pub(crate) struct List<T, C> {
    pub(crate) found: Vec<T>,
    /// Where to go on.
    pub(crate) next: Option<C>,
    /// Partitions that did not answer in time: what they hold is missing.
    pub(crate) unanswered: Vec<usize>,
}

impl<T, C> List<T, C> {
    /// The same for who has no use for a list of which something is missing.
    pub(crate) fn whole(self) -> Result<Part<T, C>> {
        match self.unanswered.first() {
            None => Ok((self.found, self.next)),
            Some(index) => {
                let message = format!("partition {index} of the engine has not answered in time; try later");
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        }
    }
}

impl Broker {
    /// At most `limit` of the dead letters that are meant, from the one after `after` on. Partition by partition.
    pub(crate) async fn letters(
        &self,
        filter: LetterFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<List<(DeadLetter, String), EventId>> {
        let filter = self.resolved(filter)?;
        let partitions =
            self.partitions_of(filter.recipient.as_ref(), after.as_ref().map(|after| self.place_of(after)));
        let look = move |partition: &Partition, after: Option<EventId>, left| {
            partition.letters(&filter, after.as_ref(), (left, PIECE))
        };
        let end = |last| EventKey::end_of_queue(last).to_id();
        let List { found, next, unanswered } = self.through(partitions, after, limit, look, end).await?;
        let named = self.access(|access| {
            // What is left of apps that are gone is about to go.
            let named = |letter: DeadLetter| Some((access.app_name(&letter.recipient)?.to_owned(), letter));
            found.into_iter().filter_map(named).map(|(name, letter)| (letter, name)).collect()
        })?;
        Ok(List { found: named, next, unanswered })
    }

    /// The partitions that may hold what a recipient has, or all have, from the one on where a list was left.
    pub(super) fn partitions_of(&self, recipient: Option<&AppId>, left_at: Option<usize>) -> Range<usize> {
        match recipient {
            Some(recipient) => {
                let index = self.0.layer.read().access.partition_of(recipient);
                index..index + 1
            }
            None => left_at.unwrap_or_default()..self.0.partitions.len(),
        }
    }

    /// Looks at one partition after the other until there are `limit`, or no more, or it was often enough: others have their turn between
    /// two looks. One that does not answer hides nothing of the others. `end` makes the place behind all of a partition of the last number
    /// that a queue of it may have.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if none of them answers.
    async fn through<T: Send + 'static, C: Send + 'static>(
        &self,
        partitions: Range<usize>,
        mut after: Option<C>,
        limit: usize,
        look: impl Fn(&Partition, Option<C>, usize) -> Part<T, C> + Clone + Send + 'static,
        end: impl Fn(u32) -> C,
    ) -> Result<List<T, C>> {
        let mut unanswered = self.silent(partitions.clone()).await?;
        let (mut found, mut looks) = (Vec::new(), 0);
        for index in partitions.clone() {
            if unanswered.contains(&index) {
                after = None;
                continue;
            }
            loop {
                let (look, last, left) = (look.clone(), after.take(), limit.saturating_sub(found.len()));
                let looking = self.look(index, move |partition| look(partition, last, left));
                // A single one is waited for by whoever wants it.
                let looked = match partitions.len() {
                    0 | 1 => Ok(looking.await),
                    _ => tokio::time::timeout(PATIENCE, looking).await,
                };
                let Ok(looked) = looked else {
                    unanswered.push(index);
                    after = None;
                    break;
                };
                let (more, next) = looked?;
                found.extend(more);
                (after, looks) = (next, looks + 1);
                if found.len() >= limit || looks == PIECES {
                    let rest = || (index + 1 < partitions.end).then(|| end(last_queue(index, self.0.partitions.len())));
                    return Ok(List { found, next: after.or_else(rest), unanswered });
                }
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(List { found, next: None, unanswered })
    }

    /// Which of several partitions do not answer. A single one is waited for by whoever wants it.
    async fn silent(&self, partitions: Range<usize>) -> Result<Vec<usize>> {
        if partitions.len() < 2 {
            return Ok(Vec::new());
        }
        let answers = self.answers(PATIENCE).await;
        let silent: Vec<_> = partitions.clone().filter(|index| answers.get(*index) != Some(&true)).collect();
        if silent.len() == partitions.len() {
            self.check_running()?;
            return Err(Error::new(ErrorKind::Unavailable, "no partition of the engine answers; try later"));
        }
        Ok(silent)
    }

    /// At most `limit` apps whose name or id holds a text, and that may log in or not, from the one after `after` on.
    pub(crate) async fn find_apps(
        &self,
        (text, enabled): (Option<String>, Option<bool>),
        mut after: Option<AppId>,
        limit: usize,
    ) -> Result<Part<AppInfo, AppId>> {
        let mut found = Vec::new();
        for _ in 0..PIECES {
            let left = limit.saturating_sub(found.len());
            let wanted = (text.as_deref(), enabled);
            let (more, next) = self.access(|access| access.find_apps(wanted, after.as_ref(), (left, PIECE)))?;
            found.extend(more);
            after = next;
            if after.is_none() || found.len() >= limit {
                break;
            }
            // Others have their turn between two looks.
            tokio::task::yield_now().await;
        }
        Ok((found, after))
    }

    /// At most `limit` queues, of one recipient and event name or of all, each with the name of its recipient, from the one after the
    /// number `after` on.
    pub(crate) async fn find_queues(
        &self,
        (recipient, event): (Option<AppId>, Option<EventName>),
        after: Option<u32>,
        limit: usize,
    ) -> Result<List<(QueueStats, String), u32>> {
        let recipient = recipient.map(|key| self.resolve(&key)).transpose()?;
        let left_at = after.map(|after| after as usize % self.0.partitions.len().max(1));
        let partitions = self.partitions_of(recipient.as_ref(), left_at);
        let look = move |partition: &Partition, after: Option<u32>, left| {
            partition.queues_after((recipient.as_ref(), event.as_ref()), after, (left, PIECE))
        };
        let List { found, next, unanswered } = self.through(partitions, after, limit, look, |last| last).await?;
        let found = self.access(|access| {
            let named = |stats: QueueStats| Some((access.app_name(&stats.recipient)?.to_owned(), stats));
            found.into_iter().filter_map(named).map(|(name, stats)| (stats, name)).collect()
        })?;
        Ok(List { found, next, unanswered })
    }

    /// At most `limit` sessions, of one app or of all, from the one after `after` on, each with where it came from.
    pub(crate) async fn sessions_after(
        &self,
        app: Option<AppId>,
        after: Option<SessionNumber>,
        limit: usize,
    ) -> Result<List<(SessionSeen, Origin), SessionNumber>> {
        self.check_running()?;
        let found = {
            let layer = self.0.layer.read();
            let sessions = layer.access.sessions_after(app.as_ref(), after, limit).into_iter();
            sessions.filter_map(|seen| layer.origin(seen.number).map(|origin| (seen, origin))).collect::<Vec<_>>()
        };
        let next = found.last().filter(|_| found.len() >= limit).map(|(seen, _)| seen.number);
        let mut of_partition = BTreeMap::<usize, Vec<_>>::new();
        for seen in found {
            let index = self.0.layer.read().access.partition_of(&seen.0.app);
            of_partition.entry(index).or_default().push(seen);
        }
        // What they take, their partitions know. All of them at once, as each may take its time.
        let looks = of_partition.into_iter().map(|(index, these)| async move {
            let mut asked = these.clone();
            let look = self.look(index, move |partition| {
                asked.iter_mut().for_each(|(seen, _)| seen.look(partition));
                asked
            });
            match tokio::time::timeout(PATIENCE, look).await {
                Ok(Ok(looked)) => (looked, None),
                _ => (these, Some(index)),
            }
        });
        let (mut found, mut unanswered) = (Vec::new(), Vec::new());
        for (these, silent) in futures::future::join_all(looks).await {
            found.extend(these);
            unanswered.extend(silent);
        }
        found.sort_by_key(|(seen, _)| seen.number);
        Ok(List { found, next, unanswered })
    }

    /// One session.
    pub(crate) async fn session(&self, number: SessionNumber) -> Result<Option<(SessionSeen, Origin)>> {
        let before = number.checked_sub(1);
        let List { found, unanswered, .. } = self.sessions_after(None, before, 1).await?;
        let found = found.into_iter().find(|(seen, _)| seen.number == number);
        if let (Some(index), true) = (unanswered.first(), found.is_some()) {
            let message = format!("partition {index} has not answered, and what the session takes is there; try later");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(found)
    }
}

/// The last number that a queue of a partition may have.
fn last_queue(index: usize, count: usize) -> u32 {
    let (index, count) = (u32::try_from(index).unwrap_or_default(), u32::try_from(count).unwrap_or(1).max(1));
    u32::MAX - (u32::MAX - index) % count
}

#[cfg(test)]
mod tests;
