use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use ensync_core::crypto::{Opener, Recipient, Sealer, Suite};
use ensync_core::{
    AppId, Command, Endpoint, Error, ErrorKind, EventId, EventName, Extension, Keyring, PayloadJson, Reply, Result,
};
use futures::Stream;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::connection::{ConnectionEvent, ConnectionState, events, states};
use crate::failover::Failover;
use crate::options::Options;
use crate::reading::Reading;
use crate::session::Session;
use crate::{Event, Publish, Subscribe};

/// How often kept agreements are looked through.
const TIDY: Duration = Duration::from_secs(60);

/// One authenticated session of an app. Cheap to clone: clones share the session.
///
/// When the last clone, [`Subscription`](crate::Subscription) and [`Event`] is dropped the session ends; [`Client::close`] ends
/// it in an orderly way.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) session: Session,
    pub(crate) crypto: Arc<Crypto>,
    failover: Arc<Failover>,
    #[cfg(feature = "opentelemetry")]
    pub(crate) traced: bool,
    #[cfg(feature = "outbox")]
    pub(crate) outbox: Option<Arc<crate::outbox::Attached>>,
}

/// What a client seals and opens with.
#[derive(Debug)]
pub(crate) struct Crypto {
    pub(crate) suite: Suite,
    /// With the ring's current key, or none.
    pub(crate) sealer: Sealer,
    /// With each other key of the ring that names an app.
    others: Vec<Sealer>,
    pub(crate) opener: Opener,
    recipients: Recipients,
    /// Ends the task that tidies up: with this, or when the client is closed.
    ended: CancellationToken,
}

impl Drop for Crypto {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

impl Client {
    pub(crate) fn new(session: Session, failover: Arc<Failover>, keys: Keyring, options: &Options) -> Self {
        let sealer = match keys.current() {
            Some(own) => Sealer::new().own_key(own.clone()),
            None => Sealer::new(),
        };
        let others = keys.iter().skip(1).filter(|key| key.app_id().is_some());
        let others = others.map(|key| Sealer::new().own_key(key.clone()).keep(options.keep)).collect();
        let ended = CancellationToken::new();
        let crypto = Arc::new(Crypto {
            suite: options.suite,
            sealer: sealer.keep(options.keep),
            others,
            opener: Opener::new(keys),
            recipients: Recipients::default(),
            ended: ended.clone(),
        });
        tokio::spawn(ended.run_until_cancelled_owned(tidy(Arc::downgrade(&crypto))));
        Self {
            session,
            crypto,
            failover,
            #[cfg(feature = "opentelemetry")]
            traced: options.propagate_trace_context,
            #[cfg(feature = "outbox")]
            outbox: None,
        }
    }

    #[cfg(feature = "outbox")]
    pub(crate) fn drain(mut self, claim: Option<crate::outbox::Claim>) -> Self {
        let keys: Arc<[AppId]> = self.crypto.sealers().filter_map(Sealer::own_id).collect();
        self.outbox = claim.map(|claim| Arc::new(claim.attach(self.session.clone(), keys)));
        self
    }

    /// Publishes an event: name it, give it a payload (anything that serialises to JSON), say whom it is for with
    /// [`to`](Publish::to), and await. The payload is encrypted for each recipient before it leaves this call. It must be JSON that
    /// every client reads (see [`PayloadJson`]).
    ///
    /// The answer is the engine's: once it is there the event is accepted, and durable unless
    /// [`persist(false)`](Publish::persist) was asked for.
    pub fn publish<N>(&self, event: N, payload: &(impl Serialize + ?Sized)) -> Publish
    where
        N: TryInto<EventName, Error: Into<Error>>,
    {
        Publish::new(self.clone(), event.try_into().map_err(Into::into), PayloadJson::of(payload))
    }

    /// The same with a payload that is JSON text already and goes out as it stands, numbers with all their digits.
    pub fn publish_json<N>(&self, event: N, payload: PayloadJson) -> Publish
    where
        N: TryInto<EventName, Error: Into<Error>>,
    {
        Publish::new(self.clone(), event.try_into().map_err(Into::into), Ok(payload))
    }

    /// Subscribes to an event name. Await the result for the [`Subscription`](crate::Subscription).
    pub fn subscribe<N>(&self, event: N) -> Subscribe
    where
        N: TryInto<EventName, Error: Into<Error>>,
    {
        Subscribe::new(self.clone(), event.try_into().map_err(Into::into))
    }

    /// Asks for one event again, settled or not, by its name and id. It is returned here, and no subscription sees it. That is no
    /// delivery: settling it is refused, unless this client holds the event's last delivery still, which is what is settled then,
    /// or that delivery was acknowledged, which another ack confirms.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if the engine does not have it (any more), or it was not for this app.
    pub async fn replay<N, I>(&self, event: N, id: I) -> Result<Event>
    where
        N: TryInto<EventName, Error: Into<Error>>,
        I: TryInto<EventId, Error: Into<Error>>,
    {
        let (event, id) = (event.try_into().map_err(Into::into)?, id.try_into().map_err(Into::into)?);
        self.replay_with(event, id, Reading::any(self.crypto.opener.clone())).await
    }

    pub(crate) async fn replay_with(&self, event: EventName, id: EventId, reading: Reading) -> Result<Event> {
        let context = format!("replay {event} {id} at {}", self.endpoint());
        let command = Command::Replay { id: id.clone(), event: event.clone() };
        match self.session.call(command).await.map_err(|error| error.context(&context))? {
            // Another event would be opened, and settled, in the place of the one that is meant.
            Reply::Replayed(delivery) if delivery.id != id || delivery.event != event => Err(Error::new(
                ErrorKind::Protocol,
                format!("{context}: the engine answered with {} {}, another event", delivery.event, delivery.id),
            )),
            Reply::Replayed(delivery) => Ok(Event::new(*delivery, event, reading, self.clone(), None)),
            other => Err(unexpected(&context, &other)),
        }
    }

    /// Where the engine is: the URL that the last connection came about by, where there are [several](crate::Engine::fallback).
    pub fn endpoint(&self) -> &Endpoint {
        self.failover.endpoint()
    }

    /// This app's own id, as the engine told it at login. `None` while there is no connection, or if the engine did not say.
    pub fn app_id(&self) -> Option<AppId> {
        self.session.welcome()?.app_id
    }

    /// The session's name, as the engine told it at the last login; another one after each reconnect. `None` while there is no
    /// connection. Whoever has it may act as this session: keep it out of logs.
    pub fn client_id(&self) -> Option<ensync_core::ClientId> {
        Some(self.session.welcome()?.client_id.clone())
    }

    /// For how long the engine knows a publish again by its [key](crate::Publish::idempotency_key): zero if it does not deduplicate,
    /// `None` while there is no connection.
    pub fn deduplication_window(&self) -> Option<Duration> {
        let engine = &self.session.welcome()?.config;
        let window = engine.dedup_window().unwrap_or(crate::session::DEDUP_WINDOW);
        Some(if engine.has(Extension::Deduplication) { window } else { Duration::ZERO })
    }

    /// Whether there is a connection, logged in and subscribed.
    pub fn is_connected(&self) -> bool {
        self.session.welcome().is_some()
    }

    /// How the client stands with its engine.
    pub fn connection_state(&self) -> ConnectionState {
        self.session.state().read(|state| ConnectionState::from(state))
    }

    /// How the client stands with its engine, now and whenever that changes. States that follow each other faster than they are
    /// read are left out: see [`events`](Self::events) for each change. Ends after [`Closed`](ConnectionState::Closed); it does not keep the client.
    pub fn connection_states(&self) -> impl Stream<Item = ConnectionState> + Send + Unpin + 'static {
        states(self.session.state().clone())
    }

    /// What happens to the connection from now on: the peers' `disconnect`, `reconnect` and `error` events. Each listener hears
    /// everything, in order, and one that is more than 64 events behind is told how many it missed. Begins with
    /// [`Connected`](ConnectionEvent::Connected) if the client is live, ends after [`Closed`](ConnectionEvent::Closed), or with the
    /// client, which it does not keep.
    ///
    /// ```no_run
    /// use ensync_client::ConnectionEvent;
    /// use futures::StreamExt;
    /// # async fn example(client: ensync_client::Client) {
    /// let mut events = client.events();
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         ConnectionEvent::Disconnected { cause } => eprintln!("offline: {cause}"),
    ///         ConnectionEvent::Reconnected { attempt } => eprintln!("online again, at attempt {attempt}"),
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    pub fn events(&self) -> impl Stream<Item = ConnectionEvent> + Send + Unpin + 'static {
        let (first, later) = self.session.listen();
        events(first, later)
    }

    /// Waits until there is a connection, logged in and subscribed. Returns at once if there is one. Has no deadline of its own:
    /// wrap it in a timeout where it should have one.
    ///
    /// # Errors
    ///
    /// What ended the client, if it is closed, was refused, or has given up.
    pub async fn wait_until_live(&self) -> Result<()> {
        self.session.wait_until_live().await
    }

    /// Ends the session in order: subscriptions end, events that nobody took yet go back to the engine, handlers and calls under
    /// way finish, the connection is closed.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) if some were still running after the engine handle's
    /// [`close_timeout`](crate::Engine::close_timeout); the session is closed nevertheless.
    pub async fn close(&self) -> Result<()> {
        #[cfg(feature = "outbox")]
        if let Some(outbox) = &self.outbox {
            outbox.stop();
        }
        let closed = self.session.close().await;
        #[cfg(feature = "outbox")]
        if let Some(outbox) = &self.outbox {
            outbox.ended().await;
        }
        self.crypto.sealers().for_each(Sealer::forget);
        self.crypto.opener.forget();
        self.crypto.ended.cancel();
        closed
    }

    /// Which app the engine said this is, to this client or to an earlier one of the same outbox.
    pub(crate) fn last_known_app(&self) -> Option<AppId> {
        let known = self.session.app_id();
        #[cfg(feature = "outbox")]
        let known = known.or_else(|| self.outbox.as_ref()?.outbox().app());
        known
    }

    pub(crate) fn recipient(&self, id: AppId) -> Result<Recipient> {
        self.crypto.recipients.convert(id)
    }
}

impl Crypto {
    fn sealers(&self) -> impl Iterator<Item = &Sealer> {
        std::iter::once(&self.sealer).chain(&self.others)
    }

    /// What seals for this app: the key of the ring that the engine knows the app by, or the current one.
    pub(crate) fn sealer_of(&self, app: Option<AppId>) -> &Sealer {
        self.sealers().find(|sealer| app.is_some() && sealer.own_id() == app).unwrap_or(&self.sealer)
    }
}

/// Wipes kept agreements whose time is over, for nothing else does while nothing is sealed or opened.
async fn tidy(crypto: Weak<Crypto>) {
    let mut ticks = tokio::time::interval(TIDY);
    loop {
        ticks.tick().await;
        let Some(crypto) = crypto.upgrade() else { return };
        crypto.sealers().for_each(Sealer::tidy);
        crypto.opener.tidy();
    }
}

pub(crate) fn unexpected(context: &str, reply: &Reply) -> Error {
    let kind = match reply {
        Reply::Done => "done",
        Reply::Published { .. } => "published",
        Reply::Deferred { .. } => "deferred",
        Reply::Extended { .. } => "extended",
        Reply::Replayed(_) => "replayed",
        _ => "something newer",
    };
    Error::new(ErrorKind::Protocol, format!("{context}: the engine answered {kind:?}, which does not fit"))
}

/// Recipients' keys, converted for sealing once each: a conversion costs more than the rest of a small publish but the agreement.
///
/// Two generations: when the younger is full the older is forgotten, so that what is in use stays.
#[derive(Debug, Default)]
struct Recipients(RwLock<[HashMap<AppId, Recipient>; 2]>);

impl Recipients {
    /// How many are kept in each: together as many as the peers keep.
    const MOST: usize = 500;

    fn convert(&self, id: AppId) -> Result<Recipient> {
        let older = {
            let [younger, older] = &*self.0.read().unwrap_or_else(PoisonError::into_inner);
            match younger.get(&id) {
                Some(known) => return Ok(known.clone()),
                None => older.get(&id).cloned(),
            }
        };
        let recipient = match older {
            Some(known) => known,
            None => Recipient::new(id)?,
        };
        let [younger, older] = &mut *self.0.write().unwrap_or_else(PoisonError::into_inner);
        if younger.len() >= Self::MOST {
            *older = std::mem::take(younger);
        }
        younger.insert(id, recipient.clone());
        Ok(recipient)
    }
}

#[cfg(test)]
mod tests {
    use ensync_core::SecretKey;

    use super::*;

    /// However many others there are, what is in use is not converted anew.
    #[test]
    fn recipients_in_use_stay() {
        let (recipients, used) = (Recipients::default(), SecretKey::from_seed([1; 32]).app_id().unwrap());
        for n in 0..=2 * Recipients::MOST {
            recipients.convert(used).unwrap();
            let kept = |generation: &HashMap<AppId, Recipient>| generation.contains_key(&used);
            assert!(kept(&recipients.0.read().unwrap()[0]), "it is the younger's after each use: {n}");
            let mut seed = [2; 32];
            seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
            recipients.convert(SecretKey::from_seed(seed).app_id().unwrap()).unwrap();
            let [younger, older] = &*recipients.0.read().unwrap();
            assert!(younger.len() <= Recipients::MOST && older.len() <= Recipients::MOST);
            assert!(kept(younger) || kept(older), "{n}");
        }
    }
}
