//! The HTTP/2 connections of a link: one at a time, but where a server says goodbye in good order (GOAWAY without an error, as
//! proxies do after so many requests, or before they are restarted), the next one is made at once. New calls go there; what is
//! under way stays, and finishes on the old one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensync_core::{Error, ErrorKind, Result};
use futures::future::{BoxFuture, FutureExt};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::http2::{Driver, Http2};
use super::link::{End, Shared, ended};
use super::observed::Observation;
use super::rpc::Rpc;
use crate::generated::DisconnectRequest;

/// How long the goodbye of a link that is closed may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a closed link's socket may take to send what is left to send.
const LINGER: Duration = Duration::from_secs(1);
/// How long the next connection may take.
const REDIAL: Duration = Duration::from_secs(10);
/// How long calls may take on a connection that takes no more, once there is another.
const OLD_CALLS: Duration = Duration::from_secs(60);
/// The same where there is no other: the link waits for them before it ends.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// How many connections in a row may end without an answer. Whoever only ever says goodbye must not be dialled without end.
const MOVES: u32 = 8;

/// Makes another connection to the same place.
pub(super) type Redial = Arc<dyn Fn() -> BoxFuture<'static, Result<(Http2, Observation)>> + Send + Sync>;

/// One HTTP/2 connection.
pub(super) struct Connection {
    pub(super) rpc: Rpc,
    pub(super) seen: Observation,
    /// Calls under way on it.
    pub(super) calls: TaskTracker,
    /// They have taken too long.
    pub(super) cut: CancellationToken,
}

impl Connection {
    pub(super) fn new(rpc: Rpc, seen: Observation) -> Self {
        Self { rpc, seen, calls: TaskTracker::new(), cut: CancellationToken::new() }
    }
}

/// Where new calls go.
#[derive(Clone)]
pub(super) enum Current {
    Open(Arc<Connection>),
    /// To the next connection, when there is one.
    Moving,
    /// Nowhere: the link is about to end.
    Ending,
}

/// Lives with a connection: tells the link of its end, moves the link on, and at the link's end says goodbye and lets go of it.
///
/// Boxed, for it may start another of itself.
pub(super) fn drive(shared: Arc<Shared>, connection: Arc<Connection>, driver: Driver) -> BoxFuture<'static, ()> {
    live_with(shared, connection, driver).boxed()
}

async fn live_with(shared: Arc<Shared>, connection: Arc<Connection>, mut driver: Driver) {
    let mut end = shared.end.subscribe();
    let outcome = tokio::select! {
        biased;
        end = ended(&mut end) => return let_go(&shared, &connection, Some(driver), end).await,
        outcome = &mut driver => outcome,
        () = connection.seen.leaving() => Ok(()),
        () = connection.seen.failed() => Ok(()),
    };
    // A request that came too late must fail, not wait in here.
    drop(driver);
    if !connection.seen.is_leaving() {
        let error = shared.lost("the connection was lost");
        shared.end(End::Lost(match outcome {
            Ok(()) => error.with_source(connection.seen.ending()),
            Err(cause) => error.with_source(cause),
        }));
    } else if let Err(error) = shared.move_on(&connection).await {
        // What is under way may still be answered.
        connection.calls.close();
        tokio::select! {
            () = connection.calls.wait() => {}
            () = sleep(LAST_CALLS) => {}
            _ = ended(&mut end) => {}
        }
        shared.end(End::Lost(error));
    } else {
        connection.calls.close();
        tokio::select! {
            () = connection.calls.wait() => {}
            () = sleep(OLD_CALLS) => connection.cut.cancel(),
            _ = ended(&mut end) => {}
        }
        // Streams stay for as long as the server keeps them.
        tokio::select! {
            () = connection.seen.closed() => return,
            _ = ended(&mut end) => {}
        }
    }
    let end = ended(&mut end).await;
    let_go(&shared, &connection, None, end).await;
}

/// Closes the connection of a link that has ended. One that was lost is ended at once: there is nobody to be polite to.
async fn let_go(shared: &Shared, connection: &Connection, driver: Option<Driver>, end: End) {
    if let (End::Closed, Some(driver)) = (&end, driver) {
        let request = DisconnectRequest { client_id: shared.client_id.clone() };
        // Engines that do not serve it find out by themselves. Only the driver moves the request.
        tokio::select! {
            _ = driver => {}
            _ = timeout(GOODBYE, connection.rpc.disconnect(request)) => {}
        }
    }
    if matches!(end, End::Lost(_)) || timeout(LINGER, connection.seen.closed()).await.is_err() {
        connection.seen.cut();
    }
}

impl Shared {
    /// An answer came.
    pub(super) fn answered(&self) {
        // Read first: it is set seldom, and all calls share it.
        if self.moves.load(Ordering::Relaxed) > 0 {
            self.moves.store(0, Ordering::Relaxed);
        }
    }

    /// Makes the next connection, once, for `from` takes no more calls.
    async fn move_on(self: &Arc<Self>, from: &Connection) -> Result<()> {
        let refused = |why: &str| {
            let error = self.lost(format_args!("the engine said goodbye to the connection, and {why}"));
            self.current.send_replace(Current::Ending);
            error
        };
        let Some(redial) = &self.redial else {
            return Err(refused("it was made over a stream that cannot be opened again"));
        };
        if self.moves.fetch_add(1, Ordering::Relaxed) >= MOVES {
            return Err(refused("had answered nothing on that and those before it"));
        }
        self.current.send_replace(Current::Moving);
        let opened = match timeout(REDIAL, redial()).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::new(ErrorKind::Connect, format!("not connected within {REDIAL:?}"))),
        };
        match opened {
            Ok((http2, seen)) => {
                tracing::debug!(endpoint = %self.endpoint, "the engine said goodbye to a connection; the next one is open");
                let next = Arc::new(Connection::new(from.rpc.over(http2.channel), seen));
                next.seen.count_in(&self.received);
                self.current.send_replace(Current::Open(next.clone()));
                self.drivers.spawn(drive(self.clone(), next, http2.driver));
                Ok(())
            }
            Err(cause) => Err(refused("the next one could not be made").with_source(cause)),
        }
    }
}
