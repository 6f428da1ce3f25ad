//! Logged-in clients and their subscriptions. Nothing here outlives the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ensync_core::{AppId, ClientId};

use crate::model::KeyHash;

/// The number of a session: given out once in the life of the process.
pub type SessionNumber = u64;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) client_id: ClientId,
    /// By its id.
    pub(super) app: AppId,
    /// What it logged in with.
    pub(super) key: KeyHash,
    /// By queue.
    pub(super) consumers: BTreeMap<u32, Consumer>,
}

/// What a session has to do with a queue.
#[derive(Debug, Default)]
pub(super) struct Consumer {
    /// Whether it is subscribed.
    pub(super) active: bool,
    pub(super) paused: bool,
    /// Whether the queue's ring holds it, or it was passed over. While it is paused or full the ring may hold it still: it is asked
    /// when its turn comes.
    pub(super) in_ring: bool,
    pub(super) max_in_flight: u32,
    pub(super) max_bytes_in_flight: u64,
    /// The events it has and has not settled.
    pub(super) held: BTreeSet<u64>,
    /// Their sizes together.
    pub(super) bytes: u64,
}

impl Consumer {
    /// Whether it may get one more event of some size.
    pub(super) fn wants(&self) -> bool {
        self.active && !self.paused && self.held.len() < self.max_in_flight as usize
    }

    /// Whether an event of `size` fits in its window. The first always does.
    pub(super) fn fits(&self, size: u32) -> bool {
        self.held.is_empty() || self.bytes.saturating_add(u64::from(size)) <= self.max_bytes_in_flight
    }

    /// Whether there is anything to remember of it.
    fn is_idle(&self) -> bool {
        !self.active && !self.paused && !self.in_ring && self.held.is_empty()
    }
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    last: SessionNumber,
    numbers: HashMap<ClientId, SessionNumber>,
    sessions: BTreeMap<SessionNumber, Session>,
    /// How many there are of each app that has one.
    by_app: HashMap<AppId, usize>,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn len_of(&self, app: &AppId) -> usize {
        self.by_app.get(app).copied().unwrap_or_default()
    }

    pub(super) fn number(&self, client_id: &ClientId) -> Option<SessionNumber> {
        self.numbers.get(client_id).copied()
    }

    pub(super) fn find(&self, client_id: &ClientId) -> Option<(SessionNumber, &Session)> {
        let number = self.number(client_id)?;
        Some((number, self.sessions.get(&number)?))
    }

    pub(super) fn get(&self, number: SessionNumber) -> Option<&Session> {
        self.sessions.get(&number)
    }

    /// `None` if there is such a client id already.
    pub(super) fn open(&mut self, client_id: ClientId, app: AppId, key: KeyHash) -> Option<SessionNumber> {
        if self.numbers.contains_key(&client_id) {
            return None;
        }
        self.last += 1;
        self.numbers.insert(client_id.clone(), self.last);
        *self.by_app.entry(app).or_default() += 1;
        self.sessions.insert(self.last, Session { client_id, app, key, consumers: BTreeMap::new() });
        Some(self.last)
    }

    pub(super) fn close(&mut self, number: SessionNumber) -> Option<Session> {
        let session = self.sessions.remove(&number)?;
        self.numbers.remove(&session.client_id);
        if let Some(count) = self.by_app.get_mut(&session.app) {
            *count -= 1;
            if *count == 0 {
                self.by_app.remove(&session.app);
            }
        }
        Some(session)
    }

    pub(super) fn consumer_mut(&mut self, number: SessionNumber, queue: u32) -> Option<&mut Consumer> {
        self.sessions.get_mut(&number)?.consumers.get_mut(&queue)
    }

    /// The same, made if it is not there; `None` without such a session.
    pub(super) fn consumer_or_new(&mut self, number: SessionNumber, queue: u32) -> Option<&mut Consumer> {
        Some(self.sessions.get_mut(&number)?.consumers.entry(queue).or_default())
    }

    /// Forgets a consumer of which there is nothing to remember.
    pub(super) fn tidy(&mut self, number: SessionNumber, queue: u32) {
        if let Some(session) = self.sessions.get_mut(&number)
            && session.consumers.get(&queue).is_some_and(Consumer::is_idle)
        {
            session.consumers.remove(&queue);
        }
    }

    /// Forgets every consumer of a queue.
    pub(super) fn forget_queue(&mut self, queue: u32) {
        for session in self.sessions.values_mut() {
            session.consumers.remove(&queue);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionNumber, &Session)> {
        self.sessions.iter().map(|(number, session)| (*number, session))
    }
}
