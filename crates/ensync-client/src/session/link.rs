//! One link: its number, its calls, and its end.
//!
//! That a link is dead is learnt from many things: its inbox ended, a call says that the session is unknown, an answer is too old,
//! no byte comes any more. Whoever learns it calls [`LiveLink::declare_dead`], which ends everything that is on it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ensync_core::{Command, Delivery, Error, ErrorKind, EventName, Extension, Link, Reply, Result, Transport, Welcome};
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::vitals::Vitals;

/// What a link pushes.
pub(super) type Inbox = BoxStream<'static, Result<Delivery>>;

/// The number of a link, and its end once that has come. What came over a link keeps this, not the link.
pub(crate) struct LinkLife {
    epoch: u64,
    /// Whether its engine takes leases anew.
    leases: bool,
    ended: CancellationToken,
    cause: OnceLock<Error>,
}

impl LinkLife {
    pub(crate) fn new(epoch: u64, leases: bool) -> Arc<Self> {
        Arc::new(Self { epoch, leases, ended: CancellationToken::new(), cause: OnceLock::new() })
    }

    /// Whether a lease of what came over it can be extended. Known from the login on, when not all subscriptions are restored yet.
    pub(crate) fn has_leases(&self) -> bool {
        self.leases
    }

    /// Counted from 1 over the life of a session.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Cancelled with the end.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.ended
    }

    /// Waits for the end, and says why it came.
    pub(crate) async fn ended(&self) -> Error {
        self.ended.cancelled().await;
        self.cause()
    }

    /// Why it ended, or that it did.
    pub(super) fn cause(&self) -> Error {
        self.cause.get().cloned().unwrap_or_else(|| Error::new(ErrorKind::Closed, "the link has ended"))
    }

    /// False if it had ended before.
    pub(super) fn end(&self, cause: Error) -> bool {
        let first = self.cause.set(cause).is_ok();
        self.ended.cancel();
        first
    }
}

impl fmt::Debug for LinkLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkLife").field("epoch", &self.epoch).field("ended", &self.has_ended()).finish_non_exhaustive()
    }
}

/// A link that is logged in.
pub(crate) struct LiveLink {
    transport: Arc<dyn Transport>,
    pub(super) welcome: Arc<Welcome>,
    pub(super) life: Arc<LinkLife>,
    pub(super) vitals: Vitals,
    /// A call was told that the link has ended, which its inbox did not say yet.
    doubted: CancellationToken,
    /// When the engine was last asked whether it knows the session, because of a refusal.
    pub(super) asked: Mutex<Option<Instant>>,
}

/// How long the inbox may take to say why, once a call was told that the link has ended.
const INBOX_SAYS: Duration = Duration::from_millis(100);

impl LiveLink {
    pub(super) fn new(link: Link, epoch: u64) -> (Arc<Self>, Inbox) {
        let Link { transport, inbox, welcome } = link;
        let (client_id, leases) = (welcome.client_id.clone(), welcome.config.has(Extension::Leases));
        let inbox = inbox.map_err(move |error| error.without(client_id.expose())).boxed();
        let live = Self {
            transport,
            welcome: Arc::new(welcome),
            life: LinkLife::new(epoch, leases),
            vitals: Vitals::new(),
            doubted: CancellationToken::new(),
            asked: Mutex::default(),
        };
        (Arc::new(live), inbox)
    }

    pub(super) fn epoch(&self) -> u64 {
        self.life.epoch()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.life.has_ended()
    }

    /// Whether a call may go over it.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_dead() && !self.doubted.is_cancelled()
    }

    /// Waits until a call was told that the link has ended, and its inbox had time to say why: it knows whether that was in order.
    pub(super) async fn said_to_have_ended(&self) -> Error {
        self.doubted.cancelled().await;
        tokio::time::sleep(INBOX_SAYS).await;
        Error::new(ErrorKind::Interrupted, "the link has ended, says the transport")
    }

    /// Ends the link, whoever still holds it: its socket is closed, every call on it is interrupted, and the supervisor looks for
    /// the next. Only the first cause counts.
    pub(super) fn declare_dead(&self, cause: Error) {
        if self.life.end(cause.clone()) {
            self.transport.abort(cause);
        }
    }

    /// Sends a command and waits for the answer, or the link's end. An answer that says that the session is gone ends
    /// the link; but that to a subscribe, which may be about the subscription alone: whoever asked finds out.
    pub(super) async fn call(&self, command: Command, limit: Duration) -> Result<Reply> {
        let name = command.name();
        if self.is_dead() {
            return Err(self
                .life
                .cause()
                .of_kind(ErrorKind::Closed, format!("{name}: the link has ended; it was not sent")));
        }
        let (keeps_alive, subscribes) =
            (matches!(command, Command::Heartbeat), matches!(command, Command::Subscribe(_)));
        let waiting = self.vitals.begin(size(&command));
        let answer = tokio::select! {
            // An answer that is there counts.
            biased;
            answer = self.transport.call_within(command, limit) => answer,
            cause = self.life.ended() => {
                let text = format!("{name}: the link was given up before the answer came");
                return Err(cause.of_kind(ErrorKind::Interrupted, text));
            }
        };
        // An engine may repeat what it was sent.
        let answer = answer.map_err(|error| error.without(self.welcome.client_id.expose()));
        match &answer {
            Ok(_) => waiting.answered(!keeps_alive),
            Err(error) if error.kind() == ErrorKind::Unauthenticated && !subscribes => self.declare_dead(error.clone()),
            Err(error) if error.kind() == ErrorKind::Closed => self.doubted.cancel(),
            // A refusal is an answer. What interrupts one call alone is none.
            Err(error) if error.kind() != ErrorKind::Interrupted => waiting.answered(false),
            Err(_) => {}
        }
        answer
    }

    /// For how long nothing came from the engine.
    pub(super) fn quiet(&self) -> Duration {
        let heard = self.vitals.heard().elapsed();
        self.transport.silent_for().map_or(heard, |silent| silent.min(heard))
    }

    /// Whether the answer to a heartbeat is the engine's.
    pub(super) fn heartbeat_reaches_the_engine(&self) -> bool {
        self.transport.heartbeat_reaches_the_engine()
    }

    /// Waits for a subscription that ended by itself.
    pub(super) async fn ended_subscription(&self) -> (EventName, Error) {
        let (event, error) = self.transport.ended_subscription().await;
        (event, error.without(self.welcome.client_id.expose()))
    }

    /// Says goodbye.
    pub(super) async fn close(&self) {
        self.transport.close().await;
    }
}

impl fmt::Debug for LiveLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveLink").field("life", &self.life).finish_non_exhaustive()
    }
}

/// What a command takes up on its way, as far as it may be much.
pub(super) fn size(command: &Command) -> u64 {
    match command {
        Command::Publish(publish) => (publish.payload.len() + publish.metadata.as_str().len()) as u64,
        _ => 0,
    }
}

/// The same cause, as an error of another kind.
trait OfKind {
    fn of_kind(self, kind: ErrorKind, what: String) -> Error;
}

impl OfKind for Error {
    fn of_kind(self, kind: ErrorKind, what: String) -> Error {
        Error::new(kind, what).with_source(self)
    }
}
