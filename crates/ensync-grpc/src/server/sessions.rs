//! The sessions by client id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ensync_core::{ClientId, Error, ErrorKind, Login, Result, Service, Welcome};

use super::Connection;
use super::session::{End, Feed, Session, Traits};

pub(super) struct Sessions {
    service: Arc<dyn Service>,
    timeout: Duration,
    open: Mutex<HashMap<ClientId, Arc<Session>>>,
}

impl Sessions {
    pub(super) fn new(service: Arc<dyn Service>, timeout: Duration) -> Self {
        Self { service, timeout: crate::interval(timeout), open: Mutex::default() }
    }

    pub(super) async fn login(
        self: &Arc<Self>,
        login: Login,
        traits: Traits,
        connection: &Connection,
    ) -> Result<Welcome> {
        let ensync_core::Session { peer, inbox, mut welcome } = self.service.login(login).await?;
        welcome.app_id.get_or_insert(peer.app_id);
        let (session, feed) = Session::new(peer, self.service.clone(), inbox, traits);
        session.touch(connection);
        self.lock().insert(session.peer().client_id.clone(), session.clone());
        tokio::spawn(self.clone().run(session, feed));
        Ok(welcome)
    }

    /// The session that a call names. Any call is a sign of life.
    pub(super) fn find(&self, client_id: &str, connection: &Connection) -> Result<Arc<Session>> {
        let session = ClientId::parse(client_id).ok().and_then(|id| self.lock().get(&id).cloned());
        match session {
            Some(session) => {
                session.touch(connection);
                Ok(session)
            }
            None => {
                Err(Error::new(ErrorKind::Unauthenticated, "no such session: it has ended, or never was; log in again"))
            }
        }
    }

    /// Ends a session because its client says so. What it held goes back to its queues, behind what it sent.
    pub(super) async fn leave(&self, client_id: &str, connection: &Connection) -> Result<()> {
        let session = self.find(client_id, connection)?;
        session.leave();
        session.ended().await;
        Ok(())
    }

    async fn run(self: Arc<Self>, session: Arc<Session>, feed: Feed) {
        let end = session.feed(feed, self.timeout).await;
        tracing::debug!(app = %session.peer().app_id, ?end, "session ended");
        self.lock().remove(&session.peer().client_id);
        session.end(end);
        if end != End::Engine {
            self.service.logout(session.peer()).await;
        }
        session.set_ended();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, Arc<Session>>> {
        // Nothing panics while it is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
