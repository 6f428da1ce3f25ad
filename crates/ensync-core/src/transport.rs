//! The seams: a [`Connector`] makes a [`Link`] to an engine, and an engine is a [`Service`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;

use crate::{AppId, AppKey, ClientId, Command, Delivery, Endpoint, Error, EventName, Reply, Result, Welcome};

/// Makes connections of one kind.
#[async_trait]
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// Connects and logs in, once: no retry, no deadline of its own.
    ///
    /// # Errors
    ///
    /// [`Connect`](crate::ErrorKind::Connect) and [`Tls`](crate::ErrorKind::Tls) if there is no connection,
    /// [`Unauthenticated`](crate::ErrorKind::Unauthenticated) if the engine does not know the app key,
    /// [`Protocol`](crate::ErrorKind::Protocol) if what answers is no engine.
    async fn connect(&self, to: &Endpoint, app_key: &AppKey) -> Result<Link>;
}

/// One live, authenticated connection to an engine. It carries, and knows nothing else.
///
/// What every transport keeps, and the conformance suite checks:
///
/// 1. calls may overlap;
/// 2. each call resolves exactly once;
/// 3. the link's inbox ends after at most one `Err`. None, or one of the kind [`Closed`](crate::ErrorKind::Closed), says that the link ended
///    in good order, as the other side wanted: the next is sought at once;
/// 4. after the end every call is [`Closed`](crate::ErrorKind::Closed), and a call that was under way is
///    [`Interrupted`](crate::ErrorKind::Interrupted);
/// 5. nothing is retried inside: a command goes out again only where the wire's protocol says that it was not processed. HTTP/2 says
///    so of a request that a server refused while it closed its connection in good order (RFC 9113 sections 6.8 and 8.7); the link
///    then goes on over another connection to the same place, in the same session, and is the same link;
/// 6. dropping the link closes the socket;
/// 7. [`abort`](Transport::abort) ends the link at once, whoever still holds a handle to it: calls under way are
///    [`Interrupted`](crate::ErrorKind::Interrupted), the inbox ends, the socket is closed.
///
/// Deadlines are the caller's: dropping a call's future gives up the answer and disturbs no other call; the command may be carried
/// out or not. What a call that was given up holds is bounded.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    ///
    /// The engine's refusal, with the kind it gave; [`Closed`](crate::ErrorKind::Closed),
    /// [`Interrupted`](crate::ErrorKind::Interrupted) or [`Protocol`](crate::ErrorKind::Protocol) if the link fails.
    async fn call(&self, command: Command) -> Result<Reply>;

    /// The same, telling the engine how long the caller waits, where the wire has a word for it. The caller still keeps its own
    /// deadline: this resolves as [`call`](Transport::call) does, not at the limit.
    ///
    /// # Errors
    ///
    /// Those of [`call`](Transport::call).
    async fn call_within(&self, command: Command, _limit: Duration) -> Result<Reply> {
        self.call(command).await
    }

    /// Ends the link at once and without a goodbye, for the reason given: it is known to be dead. Does not wait; calling it
    /// again, or after the end, changes nothing.
    fn abort(&self, _cause: Error) {}

    /// Waits for a subscription that ended by itself while the link goes on: its name, and why. A refusal that came after
    /// [`call`](Transport::call) had taken the engine's silence for consent is one; so is an event that this side cannot take, and a
    /// stream that the engine or a proxy ended: then the kind of the error says whether it may be asked for again, and
    /// [`Unauthenticated`](crate::ErrorKind::Unauthenticated) that the session may be over. It is told once, and the engine knows. Pends
    /// for ever where the wire knows no such thing, and after the link's end.
    async fn ended_subscription(&self) -> (EventName, Error) {
        std::future::pending().await
    }

    /// For how long no byte has come from the engine, or `None` if this transport cannot tell. Any byte is a sign of life: a
    /// part of a frame, an answer to a ping, an acknowledgement of HTTP/2.
    fn silent_for(&self) -> Option<Duration> {
        None
    }

    /// How many bytes have come from the engine over this link, or `None` if this transport cannot tell. What an answer stands behind is
    /// on its way although nothing of it is whole yet.
    fn bytes_received(&self) -> Option<u64> {
        None
    }

    /// Whether it is the engine that answers [`Command::Heartbeat`](crate::Command::Heartbeat), so that the answer says that it knows the
    /// session. A ping may be answered by whoever is next on the way.
    fn heartbeat_reaches_the_engine(&self) -> bool {
        true
    }

    /// Says goodbye, where the wire has a word for it, and closes. The inbox then ends without an error.
    async fn close(&self);
}

/// A connection as a [`Connector`] hands it over.
pub struct Link {
    /// Where commands go. Dropping it and `inbox` closes the socket.
    pub transport: Arc<dyn Transport>,
    /// What the engine pushes, of all subscriptions. Ends with the link: after an `Err` if it failed.
    pub inbox: BoxStream<'static, Result<Delivery>>,
    /// What the engine said at login.
    pub welcome: Welcome,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("transport", &self.transport)
            .field("welcome", &self.welcome)
            .finish_non_exhaustive()
    }
}

/// The engine's side: what the server halves of the transports, and the in-process transport, call.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Checks an app key and opens a session.
    ///
    /// # Errors
    ///
    /// [`Unauthenticated`](crate::ErrorKind::Unauthenticated), or [`LimitExceeded`](crate::ErrorKind::LimitExceeded).
    async fn login(&self, login: Login) -> Result<Session>;

    /// Carries out a command of a session.
    ///
    /// # Errors
    ///
    /// The refusal, for [`Error::to_refusal`](crate::Error::to_refusal).
    async fn handle(&self, peer: &Peer, command: Command) -> Result<Reply>;

    /// Ends a session: what it holds unsettled goes back to its queues. Unknown sessions are ignored.
    async fn logout(&self, peer: &Peer);
}

/// A login as a server half saw it.
#[derive(Clone, Debug)]
pub struct Login {
    /// The key that was presented.
    pub app_key: AppKey,
    /// The transport: `"grpc"`, `"ws"` or `"local"`.
    pub transport: &'static str,
    /// Where it came from.
    pub remote: Option<SocketAddr>,
}

/// A session that a [`Service`] opened.
pub struct Session {
    /// Who it is.
    pub peer: Peer,
    /// What to push to it. Never holds more than the session's subscriptions allow unsettled; ends when the engine ends the
    /// session.
    pub inbox: BoxStream<'static, Delivery>,
    /// What to tell it.
    pub welcome: Welcome,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// An authenticated session, as the engine's side knows it. Only a [`Service`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The session.
    pub client_id: ClientId,
    /// Its app, by the public key that it was created with: this stays when the app gets another.
    pub app_id: AppId,
}
