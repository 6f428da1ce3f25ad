use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ensync_core::crypto::{Keep, Suite};
use ensync_core::{AppKey, Connector, Endpoint, Error, Keyring, Result, SecretKey};
use futures::future::BoxFuture;

use crate::failover::{Endpoints, Failover};
use crate::options::{Options, bounded};
use crate::session::Session;
use crate::{Attempts, Client, Dialer, Transports};

/// Where an engine is, and how clients of it behave. Makes [`Client`]s; holds no connection itself.
///
/// `T` is the set of transports it can use. The SDK and the transport crates each have an `Engine` of their own set, so that user
/// code never writes `T`.
pub struct Engine<T = Custom> {
    pub(crate) endpoints: Endpoints,
    pub(crate) dialer: Dialer,
    options: Options,
    transports: PhantomData<fn() -> T>,
}

/// The set of transports of an [`Engine`] that was given its connector.
#[derive(Debug)]
pub enum Custom {}

impl<T: Transports> Engine<T> {
    /// An engine by its URL, which also chooses the transport: see [`Endpoint`] for what it may be.
    ///
    /// # Errors
    ///
    /// [`InvalidUrl`](ensync_core::ErrorKind::InvalidUrl), or
    /// [`FeatureDisabled`](ensync_core::ErrorKind::FeatureDisabled) if this build has no transport for the scheme.
    pub fn new(url: &str) -> Result<Self> {
        let endpoint = Endpoint::parse(url)?;
        let dialer = Dialer::default();
        let connector = T::connector(&endpoint, dialer.clone())?;
        let endpoints = Endpoints::new(endpoint, connector);
        Ok(Self { endpoints, dialer, options: Options::default(), transports: PhantomData })
    }
}

impl Engine<Custom> {
    /// An engine that is reached in a way of the caller's own: an in-process transport, a test's.
    pub fn with_connector(endpoint: Endpoint, connector: Arc<dyn Connector>) -> Self {
        let endpoints = Endpoints::new(endpoint, connector);
        Self { endpoints, dialer: Dialer::default(), options: Options::default(), transports: PhantomData }
    }
}

impl<T> Engine<T> {
    /// How often to prove that the link is alive, and at the latest when to give up one from which nothing comes. Default: 30 s.
    ///
    /// A call that waits is a proof of its own, whatever this says: if nothing at all came for 5 s the link is asked for a sign of
    /// life, and given up if there is none within 5 s more; and a link that answers others but leaves one call waiting for 20 s is
    /// given up too. What waits is sent again over the next link, where that does no harm.
    #[must_use]
    pub fn heartbeat_interval(mut self, every: Duration) -> Self {
        self.options.heartbeat_interval = bounded(every).max(Duration::from_millis(1));
        self
    }

    /// The longest wait before the first attempt to reconnect; each further one multiplies it by
    /// [`reconnect_factor`](Self::reconnect_factor), up to 60 s. The wait is random within that, or in its upper half where the
    /// engine said that it is full or not ready; it counts from the beginning of the attempt before. Default: 5 s.
    ///
    /// While a call waits for the connection the wait is 2 s at most, and 6 s from the 31st attempt on: calls have a deadline. While
    /// somebody is subscribed, or an outbox has something to send, it is 10 s at most. Not so where the engine is full, or [`max_reconnect_attempts`](Self::max_reconnect_attempts) counts the attempts.
    #[must_use]
    pub fn reconnect_interval(mut self, interval: Duration) -> Self {
        self.options.reconnect_interval = bounded(interval);
        self
    }

    /// What each further attempt to reconnect multiplies the longest wait by. Less than 1 counts as 1. Default: 1.5.
    #[must_use]
    pub fn reconnect_factor(mut self, factor: f64) -> Self {
        // NaN becomes 1 too.
        self.options.reconnect_factor = factor.max(1.0);
        self
    }

    /// How many attempts in a row to reconnect before the client closes with an error. The count starts anew only after a login
    /// that held for [`reconnect_interval`](Self::reconnect_interval), or over which something was carried out. Default:
    /// [`Unlimited`](Attempts::Unlimited): the client goes on, with waits of up to 60 s, tells so by its
    /// [state](Client::connection_state) and [events](Client::events), and writes a line to the log once a minute. An app key that
    /// the engine refuses ends it at once all the same; but what a gateway in between refuses does not, nor an engine's own words about
    /// a key that it knew before, until it has said them six times in a row.
    #[must_use]
    pub fn max_reconnect_attempts(mut self, attempts: impl Into<Attempts>) -> Self {
        self.options.max_reconnect_attempts = attempts.into();
        self
    }

    /// Whether to go on trying if the first connection fails. If so, [`create_client`](Self::create_client) returns at once, and the
    /// client connects in the background, with the waits and attempts of a reconnect: what is asked of it waits for the connection
    /// as in any outage, and [`Client::wait_until_live`] waits for nothing else. A refused app key ends the client. Default: off,
    /// `create_client` connects once and tells the error.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> ensync_client::core::Result<()> {
    /// # use ensync_client::{Custom, Engine};
    /// # #[derive(Debug)] struct Nowhere;
    /// # #[async_trait::async_trait]
    /// # impl ensync_client::core::Connector for Nowhere {
    /// #     async fn connect(&self, _: &ensync_client::core::Endpoint, _: &ensync_client::core::AppKey) -> ensync_client::core::Result<ensync_client::core::Link> {
    /// #         Err(ensync_client::core::Error::new(ensync_client::core::ErrorKind::Connect, "nobody listens"))
    /// #     }
    /// # }
    /// # let engine = Engine::<Custom>::with_connector("grpc://localhost".parse()?, std::sync::Arc::new(Nowhere));
    /// let engine = engine.retry_first_connect(true).max_reconnect_attempts(0);
    /// let client = engine.create_client("an-app-key").await?;
    /// let error = client.wait_until_live().await.unwrap_err();
    /// assert!(error.to_string().contains("gave up after 0 attempts"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn retry_first_connect(mut self, retry: bool) -> Self {
        self.options.retry_first_connect = retry;
        self
    }

    /// Makes the random part of the waits repeat, for tests. Clients that share a seed come back together, which is what the
    /// randomness is against. Default: each client has its own.
    #[must_use]
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.options.jitter_seed = Some(seed);
        self
    }

    /// How long a connection may take, from the name's resolution to the answer to the login. Default: 20 s. One over which nothing at
    /// all is heard for half of that is given up sooner.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.options.connect_timeout = bounded(limit);
        self
    }

    /// How long a call may take, waiting for a connection included. Default: 30 s.
    #[must_use]
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.options.request_timeout = bounded(limit);
        self
    }

    /// How long [`Client::close`] may take: waiting for calls and handlers under way, and the goodbye, which has a moment of its own if
    /// nothing is left of that; and with an outbox a second at most in which it notes what was answered. Default: 30 s.
    #[must_use]
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.options.close_timeout = bounded(limit);
        self
    }

    /// How many events a client may have under way to the engine, each recipient of a publish counted. The next ones wait for room,
    /// within their own deadlines. 0 counts as 1. Default: 1,024.
    #[must_use]
    pub fn max_publishes_in_flight(mut self, events: u32) -> Self {
        self.options.max_publishes_in_flight = NonZeroU32::new(events).unwrap_or(NonZeroU32::MIN);
        self
    }

    /// How many bytes a client may have under way to the engine, as the wire has them. Events beyond that wait for room, within their
    /// own deadlines; one that is larger alone goes alone. Default: 16 MiB.
    #[must_use]
    pub fn max_publish_bytes_in_flight(mut self, bytes: u64) -> Self {
        self.options.max_publish_bytes_in_flight = bytes;
        self
    }

    /// How payloads are sealed, unless a publish says otherwise. Default: "nacl", because every published client reads it and none
    /// reads another; with "aes-256-gcm" recipients can verify who sent an event. Reading goes by what arrives.
    #[must_use]
    pub fn suite(mut self, suite: Suite) -> Self {
        self.options.suite = suite;
        self
    }

    /// For how many events to one recipient, and for how long, an agreement on keys is kept. Default: 256 events, 60 s.
    #[must_use]
    pub fn keep_agreements(mut self, keep: Keep) -> Self {
        self.options.keep = keep;
        self
    }

    /// Whether events carry the trace they are published in, and spans of handlers are linked to it: see
    /// [observability](crate::observability#opentelemetry). **Metadata is not encrypted**, so who may see it learns which events
    /// belong together. Default: no.
    #[cfg(feature = "opentelemetry")]
    #[must_use]
    pub fn propagate_trace_context(mut self, propagate: bool) -> Self {
        self.options.propagate_trace_context = propagate;
        self
    }

    /// Where the engine is: the first of its URLs, if it was given a [`fallback`](Self::fallback).
    pub fn endpoint(&self) -> &Endpoint {
        self.endpoints.first()
    }

    /// Logs in with an app key. Await the result for the [`Client`].
    ///
    /// Each call makes a session of its own, with its own connection. The first connection is not retried unless
    /// [`retry_first_connect`](Self::retry_first_connect) says so: an error is told at once. From then on the client reconnects by
    /// itself.
    pub fn create_client(&self, app_key: impl TryInto<AppKey, Error: Into<Error>>) -> CreateClient {
        CreateClient {
            app_key: app_key.try_into().map_err(Into::into),
            keys: Ok(Keyring::default()),
            endpoints: self.endpoints.clone(),
            options: self.options.clone(),
            #[cfg(feature = "outbox")]
            outbox: None,
        }
    }
}

impl<T> Clone for Engine<T> {
    fn clone(&self) -> Self {
        Self {
            endpoints: self.endpoints.clone(),
            dialer: self.dialer.clone(),
            options: self.options.clone(),
            transports: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Engine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("endpoints", &self.endpoints)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A login about to happen: await it.
#[must_use = "nothing happens until it is awaited"]
#[derive(Debug)]
pub struct CreateClient {
    app_key: Result<AppKey>,
    keys: Result<Keyring>,
    endpoints: Endpoints,
    options: Options,
    #[cfg(feature = "outbox")]
    outbox: Option<crate::Outbox>,
}

impl CreateClient {
    /// The key that opens what is sealed for this app. Without one the client can publish, and receives events that it cannot
    /// open.
    pub fn app_secret_key(mut self, key: impl TryInto<SecretKey, Error: Into<Error>>) -> Self {
        self.keys = key.try_into().map(Keyring::new).map_err(Into::into);
        self
    }

    /// Several keys: the current one, which also seals, and others that queued events may still be sealed for, so that
    /// rotating a key loses none. If the engine says at login that the app's id is that of another key of them, that one seals: with
    /// the next and the present key a client publishes without a break through a rotation. Its steps: every client of the app gets
    /// a ring of both keys; `ensync app rotate-keypair --public-key NEW` at the engine, which ends the sessions, so that each client
    /// logs in anew and seals with the next key; and once the queues hold nothing for the earlier key, it is retired there and taken
    /// out of the rings.
    ///
    /// A key that has leaked must not be among them: whoever has it can seal events that seem to come from anybody, unless they
    /// are signed.
    pub fn keyring(mut self, keys: Keyring) -> Self {
        self.keys = Ok(keys);
        self
    }

    /// Where [`Publish::queue`](crate::Publish::queue) keeps events until the engine has them. The client sends what waits there,
    /// also what an earlier process left. One client drains an outbox at a time; while another does, awaiting this fails with
    /// [`InvalidInput`](ensync_core::ErrorKind::InvalidInput).
    #[cfg(feature = "outbox")]
    pub fn outbox(mut self, outbox: crate::Outbox) -> Self {
        self.outbox = Some(outbox);
        self
    }
}

impl IntoFuture for CreateClient {
    type Output = Result<Client>;
    type IntoFuture = BoxFuture<'static, Result<Client>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let keys = self.keys?;
            #[cfg(feature = "outbox")]
            let claim = self.outbox.map(crate::Outbox::claim).transpose()?;
            let options = self.options.clone();
            let failover = Arc::new(Failover::new(self.endpoints, options.connect_timeout));
            let session = Session::open(failover.clone(), self.app_key?, self.options).await?;
            let client = Client::new(session, failover, keys, &options);
            #[cfg(feature = "outbox")]
            let client = client.drain(claim);
            Ok(client)
        })
    }
}
