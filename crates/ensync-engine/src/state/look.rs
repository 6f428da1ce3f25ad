//! What administrators look at more closely: one event, one queue's events, who is connected, which apps there are. Each look is bounded.

use ensync_core::{AppId, Error, ErrorKind, EventId, EventName, Result};

use super::{
    AppInfo, Change, DeadLetter, Found, LetterFilter, Peeked, QueueStats, SessionNumber, Sight, State, Subscribed,
};
use crate::model::Record;
use crate::partition::holds;

/// A session, as administrators see it.
#[derive(Clone, Debug)]
pub(crate) struct SessionSeen {
    pub(crate) number: SessionNumber,
    /// Its app, by its id.
    pub(crate) app: AppId,
    pub(crate) app_name: String,
    pub(crate) subscribed: Vec<Subscribed>,
}

/// How far a purge is: of which queue, from which sequence number on, and before which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Purge {
    queue: u32,
    from: u64,
    end: u64,
}

impl State {
    /// Finds an event by its id, whosoever it is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`].
    pub(crate) fn look_up(&self, id: &EventId) -> Result<Found> {
        let none = |_| {
            Error::new(
                ErrorKind::NotFound,
                "no event of this engine has this id; check that it is whole, and that it is this engine's",
            )
        };
        self.partition.look_up(id).map_err(none)
    }

    /// See [`Partition::peek`](crate::partition::Partition::peek). The recipient is an app's id, or any public key that can be published
    /// to.
    pub(crate) fn peek(
        &self,
        (recipient, event): (&AppId, &EventName),
        wanted: Option<Peeked>,
        after: Option<&EventId>,
        bounds: (usize, usize),
    ) -> Option<(Vec<Sight>, Option<EventId>)> {
        self.partition.peek((&self.registry.find(recipient)?, event), wanted, after, bounds)
    }

    /// See [`Partition::last`](crate::partition::Partition::last). The recipient is as for [`peek`](Self::peek).
    pub(crate) fn last(&self, (recipient, event): (&AppId, &EventName), limit: usize) -> Option<Vec<Sight>> {
        self.partition.last((&self.registry.find(recipient)?, event), limit)
    }

    /// The dead letters that are meant: see [`Partition::letters`](crate::partition::Partition::letters).
    pub(crate) fn letters(
        &self,
        filter: &LetterFilter,
        after: Option<&EventId>,
        bounds: (usize, usize),
    ) -> (Vec<DeadLetter>, Option<EventId>) {
        let recipient = filter.recipient.map(|key| self.registry.find(&key).unwrap_or(key));
        self.partition.letters(&LetterFilter { recipient, ..filter.clone() }, after, bounds)
    }

    /// The beginning of a purge of all that waits in a queue now.
    pub(crate) fn purge(&self, recipient: &AppId, event: &EventName) -> Option<Purge> {
        let (queue, end) = self.partition.extent(&self.registry.find(recipient)?, event)?;
        Some(Purge { queue, from: 0, end })
    }

    /// The changes of a part of a purge, and what is left to do. See [`Partition::waiting_in`](crate::partition::Partition::waiting_in).
    pub(crate) fn purge_some(&self, purge: &Purge, bounds: (usize, usize)) -> (Vec<Change>, Option<Purge>) {
        let (events, next) = self.partition.waiting_in(purge.queue, (purge.from, purge.end), bounds);
        let changes = events.into_iter().map(|(event, durable)| Change::new(Record::Drop { event }, durable)).collect();
        (changes, next.map(|from| Purge { from, ..*purge }))
    }

    /// At most `limit` sessions, of one app or of all, in the order in which they were opened, from the one after `after` on.
    pub(crate) fn sessions_after(
        &self,
        app: Option<&AppId>,
        after: Option<SessionNumber>,
        limit: usize,
    ) -> Vec<SessionSeen> {
        let app = app.map(|key| self.registry.find(key).unwrap_or(*key));
        let sessions = self.sessions.after(app.as_ref(), after).take(limit);
        sessions.filter_map(|(number, _)| self.session_of(number)).collect()
    }

    /// One session.
    pub(crate) fn session_of(&self, number: SessionNumber) -> Option<SessionSeen> {
        let app = self.sessions.of_number(number)?.app;
        let app_name = self.app_name(&app).unwrap_or_default().to_owned();
        Some(SessionSeen { number, app, app_name, subscribed: self.partition.subscribed(number).collect() })
    }

    /// At most `limit` apps, by id, from the one after `after` on, whose name or id holds a text, and that may log in or not, if that is
    /// said. Looks at `budget` of them at most; the second value is where to go on, if that is not the end.
    pub(crate) fn find_apps(
        &self,
        (text, enabled): (Option<&str>, Option<bool>),
        after: Option<&AppId>,
        (limit, budget): (usize, usize),
    ) -> (Vec<AppInfo>, Option<AppId>) {
        let mut found = Vec::new();
        for (looked, (id, app)) in self.registry.apps_after(after).enumerate() {
            let wanted = enabled.is_none_or(|enabled| app.enabled == enabled)
                && text.is_none_or(|text| holds(&app.name, text) || holds(&id.to_string(), text));
            if wanted {
                found.extend(self.app(id));
            }
            if found.len() >= limit || looked + 1 >= budget {
                return (found, Some(*id));
            }
        }
        (found, None)
    }

    /// One queue, and the name of its recipient.
    pub(crate) fn queue_of(&self, recipient: &AppId, event: &EventName) -> Option<(QueueStats, String)> {
        let stats = self.queue(recipient, event)?;
        let name = self.app_name(&stats.recipient).unwrap_or_default().to_owned();
        Some((stats, name))
    }
}
