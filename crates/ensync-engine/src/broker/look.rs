//! What administrators look at more closely, in pieces that hold a partition's task up for no longer than a batch does.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ensync_core::{AppId, Error, ErrorKind, EventId, EventName, Result};

use super::request::{Origin, Request};
use super::{Broker, Reading, UNANSWERED};
use crate::counters::ConnectionCounts;
use crate::log::LogUsage;
use crate::metrics::Commits;
use crate::model::{PublishRecord, Record};
use crate::partition::{EventKey, Partition};
use crate::state::{
    AppInfo, Census, DeadLetter, Found, LetterAction, LetterFilter, Peeked, QueueStats, SessionNumber, SessionSeen,
    Settings, Sight,
};

/// How many things are looked at in one piece, and how many pieces a request may take before it answers with what it has.
const PIECE: usize = 2_048;
const PIECES: usize = 64;
/// How many dead letters are requeued or dropped at once.
const PAGE: usize = 1_024;

/// An event that was found, and its record, if the log has it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) sight: Sight,
    pub(crate) record: Option<Arc<Record>>,
    /// The recipient's and the sender's names.
    pub(crate) recipient: String,
    pub(crate) sender: Option<String>,
    found: Found,
}

impl Seen {
    pub(crate) fn publish(&self) -> Option<&PublishRecord> {
        self.record.as_deref().and_then(|record| self.found.publish(record))
    }
}

/// What is read to be kept, and shown as a curve.
#[derive(Debug)]
pub(crate) struct Gauge {
    pub(crate) census: Census,
    pub(crate) connections: ConnectionCounts,
    pub(crate) log: Option<LogUsage>,
    pub(crate) commits: Commits,
}

/// What an engine says of itself. What is `None` was not told in time.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) settings: Option<Settings>,
    pub(crate) census: Option<Census>,
    pub(crate) connections: ConnectionCounts,
    /// `None` too if everything is in memory.
    pub(crate) log: Option<LogUsage>,
}

/// What was done of something that goes a part at a time, and why no more was.
#[derive(Debug)]
pub(crate) struct Partly {
    pub(crate) count: usize,
    pub(crate) error: Option<Error>,
}

impl Partly {
    /// How many it was, if nothing failed.
    pub(crate) fn whole(self) -> Result<usize> {
        let Self { count, error } = self;
        match error {
            None => Ok(count),
            Some(error) if count == 0 => Err(error),
            Some(error) => Err(error.context(format!("it was done to {count} of them, and then failed"))),
        }
    }
}

impl From<Result<usize>> for Partly {
    fn from(done: Result<usize>) -> Self {
        match done {
            Ok(count) => Self { count, error: None },
            Err(error) => Self { count: 0, error: Some(error) },
        }
    }
}

/// A part of a list, and where to go on.
pub(crate) type Part<T, C> = (Vec<T>, Option<C>);

impl Broker {
    /// Finds an event by its id, whosoever it is, and reads it.
    pub(crate) async fn look_up(&self, id: EventId) -> Result<Seen> {
        let none = |why: &'static str| Error::new(ErrorKind::NotFound, why);
        let index = self.place_of(&id);
        let found = self.look(index, move |partition| partition.look_up(&id)).await?;
        let found = found.ok_or_else(|| {
            none("no event of this engine has this id; check that it is whole, and that it is this engine's")
        })?;
        let record = match (&found.source, self.0.partitions.get(index)) {
            (Some(source), Some(partition)) => partition.records.read(source).await?,
            _ => None,
        };
        let publish = record.as_deref().and_then(|record| found.publish(record));
        // The id of one that is gone says where it was: a forged one, or one that retention took, leads nowhere.
        if publish.is_none() && found.sight.entry.is_none() {
            return Err(none("the log does not have this event any more: it was settled, and retention dropped it"));
        }
        let (to, from) = (found.sight.recipient, publish.map(|publish| publish.sender_id));
        let (recipient, sender) = self.access(|access| {
            let name = |id: &AppId| access.app_name(id).unwrap_or_default().to_owned();
            (name(&to), from.as_ref().map(name))
        })?;
        Ok(Seen { sight: found.sight.clone(), record, recipient, sender, found })
    }

    /// One queue, and the name of its recipient.
    pub(crate) async fn queue_of(&self, app: AppId, event: EventName) -> Result<Option<(QueueStats, String)>> {
        let Some(stats) = self.queue(event, app).await? else { return Ok(None) };
        let name = self.access(|access| access.app_name(&stats.recipient).unwrap_or_default().to_owned())?;
        Ok(Some((stats, name)))
    }

    /// At most `limit` events of a queue, from the one after `after` on.
    pub(crate) async fn peek(
        &self,
        (recipient, event): (AppId, EventName),
        wanted: Option<Peeked>,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Option<Part<Sight, EventId>>> {
        let Some((recipient, index)) = self.place(&recipient)? else { return Ok(None) };
        let look = move |partition: &Partition, after: Option<EventId>, left| {
            partition.peek((&recipient, &event), wanted, after.as_ref(), (left, PIECE))
        };
        self.pieces(index, after, (limit, PIECES), look).await
    }

    /// The last `limit` events of a queue, in order.
    pub(crate) async fn last(&self, recipient: AppId, event: EventName, limit: usize) -> Result<Option<Vec<Sight>>> {
        let Some((recipient, index)) = self.place(&recipient)? else { return Ok(None) };
        self.look(index, move |partition| partition.last((&recipient, &event), limit)).await
    }

    /// At most `limit` of the dead letters that are meant, from the one after `after` on. Partition by partition.
    pub(crate) async fn letters(
        &self,
        filter: LetterFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Part<(DeadLetter, String), EventId>> {
        let filter = self.resolved(filter)?;
        let partitions =
            self.partitions_of(filter.recipient.as_ref(), after.as_ref().map(|after| self.place_of(after)));
        let look = move |partition: &Partition, after: Option<EventId>, left| {
            partition.letters(&filter, after.as_ref(), (left, PIECE))
        };
        let end = |last| EventKey::end_of_queue(last).to_id();
        let (found, next) = self.through(partitions, after, limit, look, end).await?;
        let named = self.access(|access| {
            let name = |letter: &DeadLetter| access.app_name(&letter.recipient).unwrap_or_default().to_owned();
            found.into_iter().map(|letter| (name(&letter), letter)).map(|(name, letter)| (letter, name)).collect()
        })?;
        Ok((named, next))
    }

    /// With the recipient's id in the place of any public key of it.
    fn resolved(&self, filter: LetterFilter) -> Result<LetterFilter> {
        let recipient = filter.recipient.map(|key| self.resolve(&key)).transpose()?;
        Ok(LetterFilter { recipient, ..filter })
    }

    /// The recipient's id, if any public key of it is meant.
    fn resolve(&self, key: &AppId) -> Result<AppId> {
        Ok(self.place(key)?.map_or(*key, |(id, _)| id))
    }

    /// The partitions that may hold what a recipient has, or all have, from the one on where a list was left.
    fn partitions_of(&self, recipient: Option<&AppId>, left_at: Option<usize>) -> Range<usize> {
        match recipient {
            Some(recipient) => {
                let index = self.0.layer.read().access.partition_of(recipient);
                index..index + 1
            }
            None => left_at.unwrap_or_default()..self.0.partitions.len(),
        }
    }

    /// Looks at one partition after the other until there are `limit`, or no more, or it was often enough: others have their turn between
    /// two looks. `end` makes the place behind all of a partition of the last number that a queue of it may have.
    async fn through<T: Send + 'static, C: Send + 'static>(
        &self,
        partitions: Range<usize>,
        mut after: Option<C>,
        limit: usize,
        look: impl Fn(&Partition, Option<C>, usize) -> Part<T, C> + Clone + Send + 'static,
        end: impl Fn(u32) -> C,
    ) -> Result<Part<T, C>> {
        let (mut found, mut looks) = (Vec::new(), 0);
        for index in partitions.clone() {
            loop {
                let (look, last, left) = (look.clone(), after.take(), limit.saturating_sub(found.len()));
                let (more, next) = self.look(index, move |partition| look(partition, last, left)).await?;
                found.extend(more);
                (after, looks) = (next, looks + 1);
                if found.len() >= limit || looks == PIECES {
                    let rest = || (index + 1 < partitions.end).then(|| end(last_queue(index, self.0.partitions.len())));
                    return Ok((found, after.or_else(rest)));
                }
                if after.is_none() {
                    break;
                }
            }
        }
        Ok((found, None))
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
    ) -> Result<Part<(QueueStats, String), u32>> {
        let recipient = recipient.map(|key| self.resolve(&key)).transpose()?;
        let left_at = after.map(|after| after as usize % self.0.partitions.len().max(1));
        let partitions = self.partitions_of(recipient.as_ref(), left_at);
        let look = move |partition: &Partition, after: Option<u32>, left| {
            partition.queues_after((recipient.as_ref(), event.as_ref()), after, (left, PIECE))
        };
        let (found, next) = self.through(partitions, after, limit, look, |last| last).await?;
        self.access(|access| {
            let name = |stats: &QueueStats| access.app_name(&stats.recipient).unwrap_or_default().to_owned();
            (found.into_iter().map(|stats| (name(&stats), stats)).map(|(name, stats)| (stats, name)).collect(), next)
        })
    }

    /// Gives up all that waits in a queue now; what is with clients stays theirs, and dead letters stay. Says how many events it was;
    /// `None` if there is no such queue.
    pub(crate) async fn purge(&self, recipient: AppId, event: EventName) -> Result<Option<Partly>> {
        let Some((recipient, index)) = self.place(&recipient)? else { return Ok(None) };
        let mut left = self.look(index, move |partition| partition.purge(&recipient, &event)).await?;
        if left.is_none() {
            return Ok(None);
        }
        let mut gone = 0;
        while let Some(purge) = left {
            match self.ask(index, |answer| Request::Purge { purge, answer }).await {
                Ok((count, rest)) => (gone, left) = (gone + count, rest),
                Err(error) => return Ok(Some(Partly { count: gone, error: Some(error) })),
            }
        }
        Ok(Some(Partly { count: gone, error: None }))
    }

    /// Does it to the dead letters that are meant and dead now, in order: one that becomes dead again meanwhile is not met again.
    pub(crate) async fn settle_letters(&self, what: LetterAction, filter: LetterFilter) -> Partly {
        let mut count = 0;
        let error = self.settle_each(what, filter, &mut count).await.err();
        Partly { count, error }
    }

    async fn settle_each(&self, what: LetterAction, filter: LetterFilter, count: &mut usize) -> Result<()> {
        let mut filter = self.resolved(filter)?;
        // What dies from now on, nobody has seen.
        let end = self.0.time.now().after(Duration::from_millis(1));
        filter.before = Some(filter.before.map_or(end, |before| before.min(end)));
        for index in self.partitions_of(filter.recipient.as_ref(), None) {
            let mut after = None::<EventId>;
            loop {
                let (meant, last) = (filter.clone(), after.take());
                let look = move |partition: &Partition| partition.letters(&meant, last.as_ref(), (PAGE, PIECE));
                let (letters, next) = self.look(index, look).await?;
                let ids: Vec<_> = letters.into_iter().map(|letter| letter.id).collect();
                if !ids.is_empty() {
                    *count += self.ask(index, |answer| Request::Letters { what, ids, answer }).await?;
                }
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Does it to those of some events that are dead letters; says how many that were.
    pub(crate) async fn settle_some(&self, what: LetterAction, ids: Vec<EventId>) -> Partly {
        let mut of_partition = vec![Vec::new(); self.0.partitions.len()];
        for id in ids {
            let index = self.place_of(&id);
            of_partition.get_mut(index).into_iter().for_each(|ids| ids.push(id.clone()));
        }
        let mut count = 0;
        for (index, ids) in of_partition.into_iter().enumerate().filter(|(_, ids)| !ids.is_empty()) {
            match self.ask(index, |answer| Request::Letters { what, ids, answer }).await {
                Ok(more) => count += more,
                Err(error) => return Partly { count, error: Some(error) },
            }
        }
        Partly { count, error: None }
    }

    /// At most `limit` sessions, of one app or of all, from the one after `after` on, each with where it came from.
    pub(crate) async fn sessions_after(
        &self,
        app: Option<AppId>,
        after: Option<SessionNumber>,
        limit: usize,
    ) -> Result<Vec<(SessionSeen, Origin)>> {
        self.check_running()?;
        let mut found = {
            let layer = self.0.layer.read();
            let sessions = layer.access.sessions_after(app.as_ref(), after, limit).into_iter();
            sessions.filter_map(|seen| layer.origin(seen.number).map(|origin| (seen, origin))).collect::<Vec<_>>()
        };
        // What they take, their partitions know.
        for index in 0..self.0.partitions.len() {
            let here = |seen: &SessionSeen| self.0.layer.read().access.partition_of(&seen.app) == index;
            let (mut these, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|(seen, _)| here(seen));
            if !these.is_empty() {
                these = self
                    .look(index, move |partition| {
                        these.iter_mut().for_each(|(seen, _)| seen.look(partition));
                        these
                    })
                    .await?;
            }
            found = these.into_iter().chain(others).collect();
        }
        found.sort_by_key(|(seen, _)| seen.number);
        Ok(found)
    }

    /// One session.
    pub(crate) async fn session(&self, number: SessionNumber) -> Result<Option<(SessionSeen, Origin)>> {
        let before = number.checked_sub(1);
        let found = self.sessions_after(None, before, 1).await?;
        Ok(found.into_iter().find(|(seen, _)| seen.number == number))
    }

    /// Ends a session. Its client may log in again at once. Says whether there was one.
    pub(crate) async fn end_session(&self, number: SessionNumber) -> Result<bool> {
        self.check_running()?;
        let ended = self.0.layer.write().end(number, "administrator");
        if let Some(session) = ended {
            self.leave(session).await;
        }
        Ok(ended.is_some())
    }

    /// Everything that is counted, now. `None` if the broker did not say in time.
    pub(crate) async fn gauge(&self) -> Result<Option<Gauge>> {
        let census = tokio::time::timeout(UNANSWERED, self.census());
        let (census, Reading { connections, log, .. }) = tokio::join!(census, self.rest());
        let Ok(census) = census else { return Ok(None) };
        Ok(Some(Gauge { census: census?, connections, log, commits: self.0.metrics.take_commits() }))
    }

    /// What is known of it within a time.
    pub(crate) async fn figures(&self) -> Figures {
        let census = tokio::time::timeout(UNANSWERED, self.census());
        let (census, Reading { connections, log, .. }) = tokio::join!(census, self.rest());
        Figures {
            settings: self.access(|access| access.settings().clone()).ok(),
            census: census.ok().and_then(Result::ok),
            connections,
            log,
        }
    }

    /// What is counted beside the census.
    pub(super) async fn rest(&self) -> Reading {
        let log = tokio::time::timeout(UNANSWERED, self.usage()).await.unwrap_or_default();
        Reading { census: None, connections: self.0.counters.snapshot(), log, ready: false }
    }

    /// Looks at a partition again and again until there are `limit`, or no more, or it was often enough: others have their turn between two
    /// looks. `None` if that is what the look says.
    async fn pieces<T: Send + 'static>(
        &self,
        index: usize,
        mut after: Option<EventId>,
        (limit, most): (usize, usize),
        look: impl Fn(&Partition, Option<EventId>, usize) -> Option<Part<T, EventId>> + Clone + Send + 'static,
    ) -> Result<Option<Part<T, EventId>>> {
        let mut found = Vec::new();
        for _ in 0..most {
            let (look, last, left) = (look.clone(), after.take(), limit.saturating_sub(found.len()));
            let piece = self.look(index, move |partition| look(partition, last, left)).await?;
            let Some((more, next)) = piece else { return Ok(None) };
            found.extend(more);
            after = next;
            if after.is_none() || found.len() >= limit {
                break;
            }
        }
        Ok(Some((found, after)))
    }
}

/// The last number that a queue of a partition may have.
fn last_queue(index: usize, count: usize) -> u32 {
    let (index, count) = (u32::try_from(index).unwrap_or_default(), u32::try_from(count).unwrap_or(1).max(1));
    u32::MAX - (u32::MAX - index) % count
}

#[cfg(test)]
mod tests;
