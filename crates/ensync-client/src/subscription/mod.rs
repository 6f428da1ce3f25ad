//! Subscriptions: a stream of events, a loop over a handler, and the controls of both.

mod control;
mod for_each;
mod stream;

use std::future::IntoFuture;
use std::num::{NonZeroU32, NonZeroU64};

use ensync_core::crypto::Senders;
use ensync_core::{AppId, Error, EventName, Keyring, Result, SecretKey};
use futures::future::BoxFuture;

pub use control::Control;
pub use for_each::{ForEach, Handler, OnError};
pub use stream::Subscription;

use crate::reading::Reading;
use crate::{Client, Unopenable};

/// A subscription about to happen: await it for the [`Subscription`].
#[must_use = "nothing is subscribed until it is awaited"]
#[derive(Debug)]
pub struct Subscribe {
    client: Client,
    event: Result<EventName>,
    max_in_flight: NonZeroU32,
    max_bytes_in_flight: Option<NonZeroU64>,
    keys: Option<Result<Keyring>>,
    senders: Senders,
    unopenable: Unopenable,
}

impl Subscribe {
    /// What [`max_in_flight`](Self::max_in_flight) is if nobody says.
    const MAX_IN_FLIGHT: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);

    pub(crate) fn new(client: Client, event: Result<EventName>) -> Self {
        Self {
            client,
            event,
            max_in_flight: Self::MAX_IN_FLIGHT,
            max_bytes_in_flight: None,
            keys: None,
            senders: Senders::Any,
            unopenable: Unopenable::default(),
        }
    }

    /// At most this many events delivered and not settled. An engine with flow control sends no more; another is told to pause when
    /// they are here, and to go on when half of them are settled. 0 counts as 1. Default: 256, which is also the most that our
    /// engine grants unless its limits say otherwise.
    pub fn max_in_flight(mut self, events: u32) -> Self {
        self.max_in_flight = NonZeroU32::new(events).unwrap_or(NonZeroU32::MIN);
        self
    }

    /// At most this many bytes of payload and metadata, as the wire has them, delivered and not settled; a single event may be
    /// larger. 0 counts as 1. Default: what the engine allows, and 8 MiB where it has no flow control.
    pub fn max_bytes_in_flight(mut self, bytes: u64) -> Self {
        self.max_bytes_in_flight = Some(NonZeroU64::new(bytes).unwrap_or(NonZeroU64::MIN));
        self
    }

    /// The key that opens this subscription's events, instead of the client's.
    pub fn app_secret_key(mut self, key: impl TryInto<SecretKey, Error: Into<Error>>) -> Self {
        self.keys = Some(key.try_into().map(Keyring::new).map_err(Into::into));
        self
    }

    /// Several keys, instead of the client's.
    pub fn keyring(mut self, keys: Keyring) -> Self {
        self.keys = Some(Ok(keys));
        self
    }

    /// Takes only events whose sender the envelope proves: those of the suite "aes-256-gcm" whose sender gave its key. The others
    /// cannot be opened, as [`SenderNotVerified`](ensync_core::ErrorKind::SenderNotVerified). Anybody can prove to be himself: look
    /// at [`Event::sender`](crate::Event::sender), or use [`verified_from`](Self::verified_from).
    pub fn require_verified_sender(mut self) -> Self {
        self.senders = Senders::Verified;
        self
    }

    /// Takes only events that one of these apps proves to have sent.
    pub fn verified_from(mut self, senders: impl IntoIterator<Item = AppId>) -> Self {
        self.senders = Senders::verified_from(senders);
        self
    }

    /// What to do with an event that cannot be opened. Default: hand it over.
    pub fn unopenable(mut self, policy: Unopenable) -> Self {
        self.unopenable = policy;
        self
    }

    async fn open(self) -> Result<Subscription> {
        let event = self.event.map_err(|error| error.context("subscribe"))?;
        let opener = match self.keys {
            Some(keys) => self.client.crypto.opener.with_keys(keys?),
            None => self.client.crypto.opener.clone(),
        };
        let reading = Reading { opener, senders: self.senders };
        let subscribe = ensync_core::Subscribe {
            event: event.clone(),
            max_in_flight: Some(self.max_in_flight),
            max_bytes_in_flight: self.max_bytes_in_flight,
        };
        let opened = self
            .client
            .session
            .subscribe(subscribe)
            .await
            .map_err(|error| error.context(format_args!("subscribe to {event} at {}", self.client.endpoint())))?;
        Ok(Subscription::new(Control::new(self.client, event, reading, opened.end), opened.buffer, self.unopenable))
    }
}

impl IntoFuture for Subscribe {
    type Output = Result<Subscription>;
    type IntoFuture = BoxFuture<'static, Result<Subscription>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}
