//! What administrators look at more closely, in pieces that hold a partition's task up for no longer than a batch does.

use std::sync::Arc;

use ensync_core::{AppId, Error, ErrorKind, EventId, EventName, Result};

use super::request::{Origin, Request};
use super::{Broker, Reading, UNANSWERED};
use crate::counters::ConnectionCounts;
use crate::log::LogUsage;
use crate::metrics::Commits;
use crate::model::{PublishRecord, Record};
use crate::partition::Partition;
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

    /// At most `limit` queues, of one recipient and event name or of all, from the one after `after` on: each with its number and the name
    /// of its recipient. Partition by partition.
    pub(crate) async fn queues_after(
        &self,
        (app, event): (Option<AppId>, Option<EventName>),
        after: Option<u32>,
        limit: usize,
    ) -> Result<Vec<(u32, QueueStats, String)>> {
        let recipient = app.map(|key| self.place(&key).map(|found| found.map_or(key, |(id, _)| id))).transpose()?;
        let count = self.0.partitions.len();
        let first = after.map_or(0, |after| after as usize % count.max(1));
        let mut found = Vec::new();
        for index in first..count {
            let (event, left) = (event.clone(), limit.saturating_sub(found.len()));
            if left == 0 {
                break;
            }
            let after = after.filter(|_| index == first);
            let look =
                move |partition: &Partition| partition.queues_after(recipient.as_ref(), event.as_ref(), after, left);
            found.extend(self.look(index, look).await?);
        }
        self.access(|access| {
            let name = |stats: &QueueStats| access.app_name(&stats.recipient).unwrap_or_default().to_owned();
            found.into_iter().map(|(number, stats)| (number, name(&stats), stats)).map(|(n, a, s)| (n, s, a)).collect()
        })
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

    /// At most `limit` of the dead letters that are meant, from the one after `after` on. Partition by partition.
    pub(crate) async fn letters(
        &self,
        filter: LetterFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Part<(DeadLetter, String), EventId>> {
        let filter = self.resolved(filter)?;
        let (first, end) = self.partitions_of(&filter, after.as_ref());
        let (mut found, mut next): (Vec<DeadLetter>, _) = (Vec::new(), after);
        for index in first..end {
            let filter = filter.clone();
            let look = move |partition: &Partition, after: Option<EventId>, left| {
                Some(partition.letters(&filter, after.as_ref(), (left, PIECE)))
            };
            let left = limit.saturating_sub(found.len());
            let (more, rest) = self.pieces(index, next.take(), (left, PIECES), look).await?.unwrap_or_default();
            found.extend(more);
            next = rest;
            if next.is_some() {
                break;
            }
            if found.len() >= limit {
                // All of this partition is told, and there may be more in the next.
                next = found.last().filter(|_| index + 1 < end).map(|letter| letter.id.clone());
                break;
            }
        }
        let named = self.access(|access| {
            let name = |letter: &DeadLetter| access.app_name(&letter.recipient).unwrap_or_default().to_owned();
            found.into_iter().map(|letter| (name(&letter), letter)).map(|(name, letter)| (letter, name)).collect()
        })?;
        Ok((named, next))
    }

    /// With the recipient's id in the place of any public key of it.
    fn resolved(&self, filter: LetterFilter) -> Result<LetterFilter> {
        let recipient = filter.recipient.map(|key| self.place(&key).map(|found| found.map_or(key, |(id, _)| id)));
        Ok(LetterFilter { recipient: recipient.transpose()?, ..filter })
    }

    /// The partitions that may hold what is meant, from the one of `after` on.
    fn partitions_of(&self, filter: &LetterFilter, after: Option<&EventId>) -> (usize, usize) {
        let count = self.0.partitions.len();
        match &filter.recipient {
            Some(recipient) => {
                let index = self.0.layer.read().access.partition_of(recipient);
                (index, index + 1)
            }
            None => (after.map_or(0, |after| self.place_of(after)), count),
        }
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

    /// Gives up all that waits in a queue now; what is with clients stays theirs, and dead letters stay. Says how many events it was;
    /// `None` if there is no such queue.
    pub(crate) async fn purge(&self, recipient: AppId, event: EventName) -> Result<Option<usize>> {
        let Some((recipient, index)) = self.place(&recipient)? else { return Ok(None) };
        let mut left = self.look(index, move |partition| partition.purge(&recipient, &event)).await?;
        if left.is_none() {
            return Ok(None);
        }
        let mut gone = 0;
        while let Some(purge) = left {
            let (count, rest) = self.ask(index, |answer| Request::Purge { purge, answer }).await?;
            (gone, left) = (gone + count, rest);
        }
        Ok(Some(gone))
    }

    /// Does it to the dead letters that are meant and dead now, in order: one that becomes dead again meanwhile is not met again.
    pub(crate) async fn settle_letters(&self, what: LetterAction, filter: LetterFilter) -> Result<usize> {
        let filter = self.resolved(filter)?;
        let ((first, end), mut done) = (self.partitions_of(&filter, None), 0);
        for index in first..end {
            let mut after = None::<EventId>;
            loop {
                let (meant, last) = (filter.clone(), after.take());
                let look = move |partition: &Partition| partition.letters(&meant, last.as_ref(), (PAGE, PIECE));
                let (letters, next) = self.look(index, look).await?;
                let ids: Vec<_> = letters.into_iter().map(|letter| letter.id).collect();
                if !ids.is_empty() {
                    done += self.ask(index, |answer| Request::Letters { what, ids, answer }).await?;
                }
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Ok(done)
    }

    /// Does it to those of some events that are dead letters; says how many that were.
    pub(crate) async fn settle_some(&self, what: LetterAction, ids: Vec<EventId>) -> Result<usize> {
        let mut of_partition = vec![Vec::new(); self.0.partitions.len()];
        for id in ids {
            let index = self.place_of(&id);
            of_partition.get_mut(index).into_iter().for_each(|ids| ids.push(id.clone()));
        }
        let mut done = 0;
        for (index, ids) in of_partition.into_iter().enumerate().filter(|(_, ids)| !ids.is_empty()) {
            done += self.ask(index, |answer| Request::Letters { what, ids, answer }).await?;
        }
        Ok(done)
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
        let Ok(census) = tokio::time::timeout(UNANSWERED, self.census()).await else { return Ok(None) };
        let Reading { connections, log, .. } = self.rest().await;
        Ok(Some(Gauge { census: census?, connections, log, commits: self.0.metrics.take_commits() }))
    }

    /// What it was told when it was started, what it counts, and what connections and the log take up.
    pub(crate) async fn figures(&self) -> Result<(Settings, Census, (ConnectionCounts, Option<LogUsage>))> {
        let settings = self.access(|access| access.settings().clone())?;
        let census = self.census().await?;
        let Reading { connections, log, .. } = self.rest().await;
        Ok((settings, census, (connections, log)))
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
