//! Between the transports and the broker: what a test wants to happen there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ensync_core::{AppId, ClientId, Command, Error, Login, Peer, Reply, Result, Service, Session};
use futures::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the gate knows and does; outlives restarts.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// How many logins are refused, and how.
    refuse_logins: Mutex<Option<(u64, Error)>>,
    pub(super) mute: watch::Sender<u32>,
    sessions: Mutex<HashMap<ClientId, Open>>,
}

#[derive(Debug)]
struct Open {
    app: AppId,
    remote: Option<SocketAddr>,
    cut: CancellationToken,
}

impl Orders {
    pub(super) fn refuse_logins(&self, next: u64, with: Error) {
        *lock(&self.refuse_logins) = Some((next, with));
    }

    /// Ends the sessions of an app, or of all, and gives where they came from. In the process that is all of a connection.
    pub(super) fn cut(&self, app: Option<AppId>) -> Vec<SocketAddr> {
        let mut remotes = Vec::new();
        for open in lock(&self.sessions).values().filter(|open| app.is_none_or(|app| app == open.app)) {
            match open.remote {
                Some(remote) => remotes.push(remote),
                None => open.cut.cancel(),
            }
        }
        remotes
    }

    fn refusal(&self) -> Option<Error> {
        let mut refuse = lock(&self.refuse_logins);
        let (left, error) = refuse.as_mut()?;
        *left = left.checked_sub(1)?;
        Some(error.clone())
    }
}

/// The broker, behind the gate.
pub(super) struct Gate {
    pub(super) inner: Arc<dyn Service>,
    pub(super) orders: Arc<Orders>,
}

#[async_trait]
impl Service for Gate {
    async fn login(&self, login: Login) -> Result<Session> {
        if let Some(error) = self.orders.refusal() {
            return Err(error);
        }
        let remote = login.remote;
        let session = self.inner.login(login).await?;
        let cut = CancellationToken::new();
        let open = Open { app: session.peer.app_id, remote, cut: cut.clone() };
        lock(&self.orders.sessions).insert(session.peer.client_id.clone(), open);
        let inbox = session.inbox.take_until(cut.cancelled_owned()).boxed();
        Ok(Session { inbox, ..session })
    }

    async fn handle(&self, peer: &Peer, command: Command) -> Result<Reply> {
        let reply = self.inner.handle(peer, command).await;
        // The sender lives in `self`.
        let _ = self.orders.mute.subscribe().wait_for(|mute| *mute == 0).await;
        reply
    }

    async fn logout(&self, peer: &Peer) {
        lock(&self.orders.sessions).remove(&peer.client_id);
        self.inner.logout(peer).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
