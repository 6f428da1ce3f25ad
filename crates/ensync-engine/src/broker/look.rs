//! What administrators look at more closely, in pieces that hold a partition's task up for no longer than a batch does.

use std::sync::Arc;
use std::time::Duration;

use ensync_core::{AppId, Error, ErrorKind, EventId, EventName, Result};

use super::Broker;
use super::lists::Part;
use super::request::Request;
use crate::counters::ConnectionCounts;
use crate::log::LogUsage;
use crate::metrics::{Commits, Reading};
use crate::model::{PublishRecord, Record};
use crate::partition::Partition;
use crate::state::{Census, Found, LetterAction, LetterFilter, Peeked, QueueStats, SessionNumber, Settings, Sight};

/// How many things are looked at in one piece, and how many pieces a request may take before it answers with what it has.
pub(super) const PIECE: usize = 2_048;
pub(super) const PIECES: usize = 64;
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

/// What an engine says of itself. `None` is what it has not, or was not told in time.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) settings: Option<Settings>,
    pub(crate) census: Option<Census>,
    pub(crate) connections: ConnectionCounts,
    /// `None` too if everything is in memory.
    pub(crate) log: Option<LogUsage>,
    /// Deletions that are still to be stored.
    pub(crate) owed: u64,
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

    /// With the recipient's id in the place of any public key of it.
    pub(super) fn resolved(&self, filter: LetterFilter) -> Result<LetterFilter> {
        let recipient = filter.recipient.map(|key| self.resolve(&key)).transpose()?;
        Ok(LetterFilter { recipient, ..filter })
    }

    /// The recipient's id, if any public key of it is meant.
    pub(super) fn resolve(&self, key: &AppId) -> Result<AppId> {
        Ok(self.place(key)?.map_or(*key, |(id, _)| id))
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

    /// Ends a session. Its client may log in again at once. Says whether there was one.
    pub(crate) async fn end_session(&self, number: SessionNumber) -> Result<bool> {
        self.check_running()?;
        let ended = self.0.layer.write().end(number, "administrator");
        if let Some(session) = ended {
            self.leave(session).await;
        }
        Ok(ended.is_some())
    }

    /// Everything that is counted, now. `None` if no partition said it in time.
    pub(crate) async fn gauge(&self) -> Result<Option<Gauge>> {
        let (census, Reading { connections, log, .. }) = tokio::join!(self.census(), self.rest());
        let census = census?;
        if !census.answers.contains(&true) {
            return Ok(None);
        }
        Ok(Some(Gauge { census, connections, log, commits: self.0.metrics.take_commits() }))
    }

    /// What is known of it within a time.
    pub(crate) async fn figures(&self) -> Figures {
        let (census, Reading { connections, log, .. }) = tokio::join!(self.census(), self.rest());
        let settings = self.access(|access| access.settings().clone()).ok();
        Figures { settings, census: census.ok(), connections, log, owed: self.0.metrics.owed() }
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

#[cfg(test)]
mod tests;
