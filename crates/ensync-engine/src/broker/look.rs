//! What administrators look at more closely, in pieces that hold the broker's task up for no longer than a batch does.

use std::sync::Arc;
use std::time::Duration;

use ensync_core::{AppId, Error, ErrorKind, EventId, EventName, Result};

use super::request::{Origin, Request};
use super::{Broker, Reading, UNANSWERED};
use crate::counters::ConnectionCounts;
use crate::log::LogUsage;
use crate::metrics::Commits;
use crate::model::{PublishRecord, Record};
use crate::state::{
    AppInfo, Census, DeadLetter, Found, LetterAction, LetterFilter, Peeked, QueueStats, SessionNumber, SessionSeen,
    Settings, Sight, State,
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
        let found = self.inspect(move |state| state.look_up(&id)).await??;
        let record = match &found.source {
            Some(source) => self.0.records.read(source).await?,
            None => None,
        };
        let publish = record.as_deref().and_then(|record| found.publish(record));
        // The id of one that is gone says where it was: a forged one, or one that retention took, leads nowhere.
        if publish.is_none() && found.sight.entry.is_none() {
            let message = "the log does not have this event any more: it was settled, and retention dropped it";
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let (to, from) = (found.sight.recipient, publish.map(|publish| publish.sender_id));
        let names = move |state: &State| {
            let name = |id: &AppId| state.app_name(id).unwrap_or_default().to_owned();
            (name(&to), from.as_ref().map(name))
        };
        let (recipient, sender) = self.inspect(names).await?;
        Ok(Seen { sight: found.sight.clone(), record, recipient, sender, found })
    }

    /// At most `limit` events of a queue, from the one after `after` on.
    pub(crate) async fn peek(
        &self,
        (recipient, event): (AppId, EventName),
        wanted: Option<Peeked>,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Option<Part<Sight, EventId>>> {
        let found = self
            .pieces(after, limit, move |state, after, left| {
                state.peek((&recipient, &event), wanted, after.as_ref(), (left, PIECE)).ok_or(())
            })
            .await?;
        Ok(found.ok())
    }

    /// The last `limit` events of a queue, in order.
    pub(crate) async fn last(&self, recipient: AppId, event: EventName, limit: usize) -> Result<Option<Vec<Sight>>> {
        self.inspect(move |state| state.last((&recipient, &event), limit)).await
    }

    /// At most `limit` of the dead letters that are meant, from the one after `after` on.
    pub(crate) async fn letters(
        &self,
        filter: LetterFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Part<(DeadLetter, String), EventId>> {
        let look = move |state: &State, after: Option<EventId>, left| {
            let (letters, next) = state.letters(&filter, after.as_ref(), (left, PIECE));
            let named = |letter: DeadLetter| {
                let name = state.app_name(&letter.recipient).unwrap_or_default().to_owned();
                (letter, name)
            };
            Ok::<_, std::convert::Infallible>((letters.into_iter().map(named).collect(), next))
        };
        let Ok(found) = self.pieces(after, limit, look).await?;
        Ok(found)
    }

    /// At most `limit` apps whose name or id holds a text, and that may log in or not, from the one after `after` on.
    pub(crate) async fn find_apps(
        &self,
        (text, enabled): (Option<String>, Option<bool>),
        after: Option<AppId>,
        limit: usize,
    ) -> Result<Part<AppInfo, AppId>> {
        let look = move |state: &State, after: Option<AppId>, left| {
            let found = state.find_apps((text.as_deref(), enabled), after.as_ref(), (left, PIECE));
            Ok::<_, std::convert::Infallible>(found)
        };
        let Ok(found) = self.pieces(after, limit, look).await?;
        Ok(found)
    }

    /// At most `limit` queues, of one recipient and event name or of all, each with the name of its recipient, from the one after the
    /// number `after` on.
    pub(crate) async fn find_queues(
        &self,
        (recipient, event): (Option<AppId>, Option<EventName>),
        after: Option<u32>,
        limit: usize,
    ) -> Result<Part<(QueueStats, String), u32>> {
        let look = move |state: &State, after: Option<u32>, left| {
            let found = state.queues_after((recipient.as_ref(), event.as_ref()), after, (left, PIECE));
            Ok::<_, std::convert::Infallible>(found)
        };
        let Ok(found) = self.pieces(after, limit, look).await?;
        Ok(found)
    }

    /// Gives up all that waits in a queue now; what is with clients stays theirs, and dead letters stay. Says how many events it was;
    /// `None` if there is no such queue.
    pub(crate) async fn purge(&self, recipient: AppId, event: EventName) -> Result<Option<Partly>> {
        let mut left = self.inspect(move |state| state.purge(&recipient, &event)).await?;
        if left.is_none() {
            return Ok(None);
        }
        let mut gone = 0;
        while let Some(purge) = left {
            match self.ask(|answer| Request::Purge { purge, answer }).await {
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

    async fn settle_each(&self, what: LetterAction, mut filter: LetterFilter, count: &mut usize) -> Result<()> {
        // What dies from now on, nobody has seen.
        let end = self.inspect(State::now).await?.after(Duration::from_millis(1));
        filter.before = Some(filter.before.map_or(end, |before| before.min(end)));
        let mut after = None::<EventId>;
        loop {
            let (meant, last) = (filter.clone(), after.take());
            let (letters, next) =
                self.inspect(move |state| state.letters(&meant, last.as_ref(), (PAGE, PIECE))).await?;
            let ids: Vec<_> = letters.into_iter().map(|letter| letter.id).collect();
            if !ids.is_empty() {
                *count += self.ask(|answer| Request::Letters { what, ids, answer }).await?;
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Does it to those of some events that are dead letters; says how many that were.
    pub(crate) async fn settle_some(&self, what: LetterAction, ids: Vec<EventId>) -> Result<usize> {
        self.ask(|answer| Request::Letters { what, ids, answer }).await
    }

    /// At most `limit` sessions, of one app or of all, from the one after `after` on, each with where it came from.
    pub(crate) async fn sessions_after(
        &self,
        app: Option<AppId>,
        after: Option<SessionNumber>,
        limit: usize,
    ) -> Result<Vec<(SessionSeen, Origin)>> {
        self.connected(move |state, origin| {
            let sessions = state.sessions_after(app.as_ref(), after, limit);
            sessions.into_iter().filter_map(|seen| Some((origin(seen.number)?, seen))).map(|(o, s)| (s, o)).collect()
        })
        .await
    }

    /// One session.
    pub(crate) async fn session(&self, number: SessionNumber) -> Result<Option<(SessionSeen, Origin)>> {
        self.connected(move |state, origin| Some((state.session_of(number)?, origin(number)?))).await
    }

    /// Ends a session. Its client may log in again at once. Says whether there was one.
    pub(crate) async fn end_session(&self, number: SessionNumber) -> Result<bool> {
        self.ask(|answer| Request::End { number, answer }).await
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
        let settings = tokio::time::timeout(UNANSWERED, self.inspect(|state| state.settings().clone()));
        let census = tokio::time::timeout(UNANSWERED, self.census());
        let (settings, census, Reading { connections, log, .. }) = tokio::join!(settings, census, self.rest());
        Figures {
            settings: settings.ok().and_then(Result::ok),
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

    async fn connected<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, &dyn Fn(SessionNumber) -> Option<Origin>) -> T + Send + 'static,
    ) -> Result<T> {
        self.ask(|answer| Request::Connected(Box::new(move |state, origin| _ = answer.send(Ok(look(state, origin))))))
            .await
    }

    /// Looks again and again until there are `limit`, or no more, or it was often enough: others have their turn between two looks.
    async fn pieces<T, C, E>(
        &self,
        mut after: Option<C>,
        limit: usize,
        look: impl Fn(&State, Option<C>, usize) -> std::result::Result<Part<T, C>, E> + Clone + Send + 'static,
    ) -> Result<std::result::Result<Part<T, C>, E>>
    where
        T: Send + 'static,
        C: Clone + Send + 'static,
        E: Send + 'static,
    {
        let mut found = Vec::new();
        for _ in 0..PIECES {
            let (look, last, left) = (look.clone(), after.take(), limit.saturating_sub(found.len()));
            let (more, next) = match self.inspect(move |state| look(state, last, left)).await? {
                Ok(piece) => piece,
                Err(none) => return Ok(Err(none)),
            };
            found.extend(more);
            after = next;
            if after.is_none() || found.len() >= limit {
                break;
            }
        }
        Ok(Ok((found, after)))
    }
}

#[cfg(test)]
mod tests;
