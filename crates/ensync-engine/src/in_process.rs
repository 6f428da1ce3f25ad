//! The transport without a wire: calls an engine of the same process.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use ensync_core::{
    AppKey, Command, Connector, Endpoint, Error, ErrorKind, Link, Login, Peer, Reply, Result, Service, Transport,
};
use futures::StreamExt;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Connects to an engine of the same process, whatever the endpoint says.
#[derive(Clone)]
pub struct InProcess {
    service: Arc<dyn Service>,
}

impl InProcess {
    /// Connects to `service`.
    pub fn new(service: Arc<dyn Service>) -> Self {
        Self { service }
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

#[async_trait]
impl Connector for InProcess {
    async fn connect(&self, _to: &Endpoint, app_key: &AppKey) -> Result<Link> {
        let login = Login { app_key: app_key.clone(), transport: "local", remote: None };
        let session = self.service.login(login).await?;
        let ended = CancellationToken::new();
        tokio::spawn(log_out(self.service.clone(), session.peer.clone(), ended.clone()));
        // The inbox ends with the session, and the session with the inbox.
        let guard = ended.clone().drop_guard();
        let inbox = session.inbox.map(Ok).take_until(ended.clone().cancelled_owned());
        let inbox = inbox.chain(futures::stream::once(end_with(guard)).filter_map(std::future::ready)).boxed();
        let transport = Arc::new(Local {
            service: self.service.clone(),
            peer: session.peer,
            _guard: ended.clone().drop_guard(),
            ended,
        });
        Ok(Link { transport, inbox, welcome: session.welcome })
    }
}

/// Yields nothing; dropping the guard ends the session.
async fn end_with<T>(guard: DropGuard) -> Option<T> {
    drop(guard);
    None
}

async fn log_out(service: Arc<dyn Service>, peer: Peer, ended: CancellationToken) {
    ended.cancelled().await;
    service.logout(&peer).await;
}

struct Local {
    service: Arc<dyn Service>,
    peer: Peer,
    ended: CancellationToken,
    _guard: DropGuard,
}

#[async_trait]
impl Transport for Local {
    async fn call(&self, command: Command) -> Result<Reply> {
        let name = command.name();
        if self.ended.is_cancelled() {
            return Err(Error::new(ErrorKind::Closed, format!("{name}: the in-process link has ended")));
        }
        tokio::select! {
            reply = self.service.handle(&self.peer, command) => reply,
            () = self.ended.cancelled() => {
                Err(Error::new(ErrorKind::Interrupted, format!("{name}: the in-process link ended before the answer")))
            }
        }
    }

    async fn close(&self) {
        self.ended.cancel();
        // Done here as well as by the task that waits for it, so that what was held is back when this returns.
        self.service.logout(&self.peer).await;
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Local")
    }
}
