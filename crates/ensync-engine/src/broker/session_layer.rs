//! Who is logged in, what he may do, and where deliveries to him go: what stands before all partitions, and is shared by whoever carries
//! out commands.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ensync_core::{ClientId, ErrorKind, Result, Timestamp};

use super::inbox;
use super::login_throttle::LoginThrottle;
use super::request::Origin;
use crate::counters::ConnectionCounters;
use crate::model::KeyHash;
use crate::state::{Access, SessionNumber, SessionOf};

/// What is known of sessions, behind a lock that nobody holds for long: no longer than a batch is decided.
#[derive(Debug)]
pub(super) struct SessionLayer(RwLock<Live>);

/// What is behind the lock.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) access: Access,
    inboxes: HashMap<SessionNumber, Open>,
    /// Logins that failed.
    login_throttle: LoginThrottle,
}

/// An open session.
#[derive(Debug)]
struct Open {
    /// Dropping it ends the inbox.
    outbox: inbox::Sender,
    origin: Origin,
}

impl SessionLayer {
    pub(super) fn new(access: Access) -> Self {
        let login_throttle = LoginThrottle::new(&access.settings().limits);
        Self(RwLock::new(Live { access, inboxes: HashMap::new(), login_throttle }))
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Live> {
        // No code that holds the lock can panic half-way through a change.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Live> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Looks at a login. Who holds a key that is right never waits, whatever others at his address did: keys cannot be guessed,
    /// and a delay for all from there would lock good clients out. Only a failure finds out that there were too many before it.
    pub(super) fn log_in(
        &mut self,
        key: &KeyHash,
        client_id: &ClientId,
        (from, now): (Option<IpAddr>, Timestamp),
        counters: &ConnectionCounters,
    ) -> Result<SessionOf> {
        // An old key may end right now. Whose sessions end with it, the registrar sees.
        self.access.tick(now);
        let opened = self.access.login(key, client_id.clone());
        match &opened {
            Ok(_) => counters.logins.up(),
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {
                counters.logins_refused.up();
                if let Some(from) = from {
                    self.login_throttle.failed(from, now).inspect_err(|_| counters.logins_delayed.up())?;
                }
            }
            Err(error) if error.kind() == ErrorKind::LimitExceeded => counters.sessions_refused.up(),
            Err(_) => counters.logins_forbidden.up(),
        }
        opened.map(|(number, app)| SessionOf { number, app })
    }

    /// Has deliveries to a session go somewhere.
    pub(super) fn open(&mut self, number: SessionNumber, outbox: inbox::Sender, origin: Origin) {
        self.inboxes.insert(number, Open { outbox, origin });
    }

    /// Ends a session. `reason`: "connection" if its transport says so, "unread" if nobody takes its deliveries any more,
    /// "administrator".
    pub(super) fn log_out(&mut self, client_id: &ClientId, reason: &'static str) -> Option<SessionOf> {
        let ended = self.access.logout(client_id)?;
        self.forget(ended, reason);
        Some(ended)
    }

    /// The same, by its number.
    pub(super) fn end(&mut self, number: SessionNumber, reason: &'static str) -> Option<SessionOf> {
        let ended = self.access.end(number)?;
        self.forget(ended, reason);
        Some(ended)
    }

    /// The same of one whose deliveries nobody takes any more.
    pub(super) fn let_go(&mut self, number: SessionNumber) {
        if let Some(ended) = self.access.let_go(number) {
            self.forget(ended, "unread");
        }
    }

    /// Ends the inbox of a session that is over.
    pub(super) fn forget(&mut self, ended: SessionOf, reason: &'static str) {
        tracing::info!(session = ended.number, reason, "session ended");
        self.inboxes.remove(&ended.number);
    }

    /// Ends the sessions of a partition's apps, as that stops: they have what it had for them.
    pub(super) fn end_all(&mut self, partition: usize) -> Vec<SessionOf> {
        let ended = self.access.end_all(partition);
        for ended in &ended {
            self.inboxes.remove(&ended.number);
        }
        ended
    }

    /// Where deliveries to a session go.
    pub(super) fn outbox(&self, number: SessionNumber) -> Option<&inbox::Sender> {
        self.inboxes.get(&number).map(|open| &open.outbox)
    }

    /// Where a session came from.
    pub(super) fn origin(&self, number: SessionNumber) -> Option<Origin> {
        self.inboxes.get(&number).map(|open| open.origin)
    }
}
