//! Logged-in clients. Nothing here outlives the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

use ensync_core::{AppId, ClientId};

use crate::model::KeyHash;
use crate::partition::ConsumerNumber;

/// The number of a session: given out once in the life of the process. Its consumers have the same.
pub type SessionNumber = ConsumerNumber;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) client_id: ClientId,
    /// By its id.
    pub(super) app: AppId,
    /// What it logged in with.
    pub(super) key: KeyHash,
    /// What its app was known by then: the sender of what it publishes.
    pub(super) public_key: AppId,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    last: SessionNumber,
    numbers: HashMap<ClientId, SessionNumber>,
    sessions: BTreeMap<SessionNumber, Session>,
    /// Of each app that has any.
    by_app: HashMap<AppId, BTreeSet<SessionNumber>>,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn len_of(&self, app: &AppId) -> usize {
        self.by_app.get(app).map_or(0, BTreeSet::len)
    }

    pub(super) fn number(&self, client_id: &ClientId) -> Option<SessionNumber> {
        self.numbers.get(client_id).copied()
    }

    pub(super) fn find(&self, client_id: &ClientId) -> Option<(SessionNumber, &Session)> {
        let number = self.number(client_id)?;
        Some((number, self.sessions.get(&number)?))
    }

    /// `None` if there is such a client id already.
    pub(super) fn open(&mut self, session: Session) -> Option<SessionNumber> {
        if self.numbers.contains_key(&session.client_id) {
            return None;
        }
        self.last += 1;
        self.numbers.insert(session.client_id.clone(), self.last);
        self.by_app.entry(session.app).or_default().insert(self.last);
        self.sessions.insert(self.last, session);
        Some(self.last)
    }

    pub(super) fn close(&mut self, number: SessionNumber) -> Option<Session> {
        let session = self.sessions.remove(&number)?;
        self.numbers.remove(&session.client_id);
        if let Some(numbers) = self.by_app.get_mut(&session.app) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_app.remove(&session.app);
            }
        }
        Some(session)
    }

    /// Those of an app.
    pub(super) fn of(&self, app: &AppId) -> impl Iterator<Item = (SessionNumber, &Session)> {
        let numbers = self.by_app.get(app).into_iter().flatten();
        numbers.filter_map(|number| Some((*number, self.sessions.get(number)?)))
    }

    /// The one of a number.
    pub(super) fn of_number(&self, number: SessionNumber) -> Option<&Session> {
        self.sessions.get(&number)
    }

    /// Those after one, of an app or of all, in the order in which they were opened.
    pub(super) fn after(
        &self,
        app: Option<&AppId>,
        after: Option<SessionNumber>,
    ) -> impl Iterator<Item = (SessionNumber, &Session)> {
        let range = (after.map_or(Unbounded, Excluded), Unbounded);
        let of_app = app.map(|app| self.by_app.get(app).into_iter().flat_map(move |numbers| numbers.range(range)));
        let all = app.is_none().then(|| self.sessions.range(range).map(|(number, _)| number));
        let numbers = of_app.into_iter().flatten().chain(all.into_iter().flatten());
        numbers.filter_map(|number| Some((*number, self.sessions.get(number)?)))
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionNumber, &Session)> {
        self.sessions.iter().map(|(number, session)| (*number, session))
    }
}
