use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::future::IntoFuture;
use std::time::Duration;

use ensync_core::crypto::{SealOptions, Suite};
use ensync_core::{
    AppId, Command, Error, ErrorKind, EventName, Given, IdempotencyKey, Metadata, PayloadJson, Reply, Result, Schema,
    write_json,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use tracing::Instrument;

use crate::client::unexpected;
use crate::observe::Publishing;
use crate::options::bounded;
use crate::sealing::{Copies, Prepared};
use crate::session::{Place, Places, Request};
use crate::{Client, PartialPublish, Receipt, RetryPolicy};

/// How many recipients of one publish are in flight together.
const IN_FLIGHT: usize = 64;
/// A publish about to happen: say whom it is for, and await it for the [`Receipt`].
///
/// ```no_run
/// # async fn example(client: ensync_client::Client, warehouse: ensync_client::core::AppId) -> ensync_client::core::Result<()> {
/// let order = serde_json::json!({"order": "o-123", "status": "completed"});
/// let receipt = client.publish("orders/status/updated", &order).to(warehouse).header("source", "shop").await?;
/// println!("accepted as {}", receipt.id());
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is published until it is awaited"]
pub struct Publish {
    client: Client,
    event: Result<EventName>,
    payload: Result<PayloadJson>,
    recipients: Result<Vec<AppId>>,
    /// By name, as JSON.
    headers: BTreeMap<String, String>,
    fields: BTreeMap<String, String>,
    /// What is wrong with one of them.
    unwritten: Option<Error>,
    persist: bool,
    schema: Option<Schema>,
    idempotency_key: Option<Result<IdempotencyKey>>,
    timeout: Option<Duration>,
    retry: RetryPolicy,
    options: SealOptions,
}

/// Without the payload, which is for its recipients alone.
impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("event", &self.event)
            .field("payload_bytes", &self.payload.as_ref().map(|payload| payload.as_str().len()))
            .field("recipients", &self.recipients)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("persist", &self.persist)
            .field("timeout", &self.timeout)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

impl Publish {
    pub(crate) fn new(client: Client, event: Result<EventName>, payload: Result<PayloadJson>) -> Self {
        Self {
            options: client.crypto.suite.into(),
            client,
            event,
            payload,
            recipients: Ok(Vec::new()),
            headers: BTreeMap::new(),
            fields: BTreeMap::new(),
            unwritten: None,
            persist: true,
            schema: None,
            idempotency_key: None,
            timeout: None,
            retry: RetryPolicy::default(),
        }
    }

    /// One recipient more: an [`AppId`], or its base64.
    pub fn to(self, recipient: impl TryInto<AppId, Error: Into<Error>>) -> Self {
        self.to_all([recipient])
    }

    /// Several recipients more. One that is named twice gets the event once.
    pub fn to_all<R: TryInto<AppId, Error: Into<Error>>>(mut self, recipients: impl IntoIterator<Item = R>) -> Self {
        if let Ok(all) = &mut self.recipients {
            let mut known: HashSet<_> = all.iter().copied().collect();
            for recipient in recipients {
                match recipient.try_into() {
                    Ok(id) if !known.insert(id) => {}
                    Ok(id) => all.push(id),
                    Err(error) => {
                        self.recipients = Err(error.into());
                        break;
                    }
                }
            }
        }
        self
    }

    /// A header in the metadata. **Metadata is not encrypted.**
    ///
    /// The makers' Go client reads headers as texts: if one header is anything else it shows its user no metadata at all. Write
    /// numbers and the like as text where such a client may receive.
    ///
    /// A value that cannot be written as JSON, such as an infinite number, is an error of the publish; so is what is or holds a secret key, or
    /// a key or token of an engine, as far as that can be told.
    pub fn header(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        let key = key.into();
        match write_json(&format!("the header {}", Given(&key)), &value) {
            Ok(json) => drop(self.headers.insert(key, json)),
            Err(error) => drop(self.unwritten.get_or_insert(error)),
        }
        self
    }

    /// A field of the caller's own in the metadata, beside `headers`. Keys that start with `$` are the engine's, and refused.
    /// **Metadata is not encrypted.**
    pub fn metadata(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        let key = key.into();
        match write_json(&format!("the metadata {}", Given(&key)), &value) {
            Ok(json) => drop(self.fields.insert(key, json)),
            Err(error) => drop(self.unwritten.get_or_insert(error)),
        }
        self
    }

    /// Whether the engine stores the event durably before it answers. Default: true.
    pub fn persist(mut self, persist: bool) -> Self {
        self.persist = persist;
        self
    }

    /// Checks the payload against a schema before anything is sent.
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = Some(schema);
        self
    }

    /// The key under which an engine that deduplicates stores this event once per recipient, however often it is published.
    pub fn idempotency_key(mut self, key: impl TryInto<IdempotencyKey, Error: Into<Error>>) -> Self {
        self.idempotency_key = Some(key.try_into().map_err(Into::into));
        self
    }

    /// How this payload is sealed. Default: the engine handle's [`suite`](crate::Engine::suite).
    ///
    /// It comes before [`sign`](Self::sign) and [`single_boxes`](Self::single_boxes), which it takes back.
    pub fn suite(mut self, suite: Suite) -> Self {
        self.options = suite.into();
        self
    }

    /// In the suite "nacl", encrypts a large payload (above 16 KiB) for several recipients once for each, instead of once for all:
    /// npm's `ensync-client-sdk` 0.0.18 knows no other form. The peers' `useHybridEncryption: false`.
    pub fn single_boxes(mut self) -> Self {
        self.options = self.options.single_boxes();
        self
    }

    /// Signs the payload, in the suite "aes-256-gcm": the signature also convinces others than the recipient, and holds even if
    /// the recipient's key is stolen. What is not signed can be denied.
    pub fn sign(mut self) -> Self {
        self.options = self.options.signed();
        self
    }

    /// How long to wait for room, for a connection and for the engine's answers: one deadline for all recipients. Default: the engine
    /// handle's [`request_timeout`](crate::Engine::request_timeout).
    ///
    /// Within it the publish outlasts outages: it waits for the connection, and where the engine deduplicates it is sent again if its
    /// answer was lost, or it was refused in passing: see [`retry`](Self::retry). Zero is refused. Dropping the future instead forgets what was accepted already.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(bounded(limit));
        self
    }

    /// How it is sent again within its deadline, if the engine cannot take it now or its answer is lost. Default: as often as there is
    /// time for, with waits of up to 5 s. An answer that was lost is no reason for another attempt where the engine does not
    /// deduplicate, or may have forgotten the first: then it is told.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Puts the event, sealed, into the client's [`Outbox`](crate::Outbox) instead of sending it: returns once it is on disk, with or
    /// without a connection. The client sends it when it can. [`timeout`](Self::timeout) has no meaning here.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the client has no outbox; [`LimitExceeded`](ErrorKind::LimitExceeded) if that is
    /// full; [`Unavailable`](ErrorKind::Unavailable) if the disk does not take it, [`Closed`](ErrorKind::Closed) if the client is closed;
    /// what is wrong with the event itself.
    #[cfg(feature = "outbox")]
    pub async fn queue(self) -> Result<crate::QueuedPublish> {
        let publishing = self.begin(true);
        let queued = async {
            let client = self.client.clone();
            let event = self.event.clone().map_err(|error| error.context("queue"))?;
            let (context, suite) = (format!("queue {event}"), self.options.suite());
            let mut copies = self.sealed(&context, None).await?;
            let own = copies.own;
            let mut commands = Vec::new();
            // All of them, for they are put in together or not at all.
            while let Some((_, sealed)) = copies.next_part().await {
                commands.extend(sealed.map_err(|error| error.context(&context))?);
            }
            crate::outbox::queue(&client, commands, (suite, own)).await.map_err(|error| error.context(context))
        };
        let queued = queued.instrument(publishing.span()).await;
        publishing.end_queued(&queued);
        queued
    }

    fn begin(&self, queued: bool) -> Publishing {
        let recipients = self.recipients.as_ref().map_or(0, Vec::len);
        let bytes = self.payload.as_ref().map_or(0, |payload| payload.as_str().len());
        Publishing::begin(self.client.endpoint(), &self.event, recipients, bytes, queued)
    }

    async fn send(self) -> Result<Receipt> {
        let publishing = self.begin(false);
        let sent = self.send_all().instrument(publishing.span()).await;
        publishing.end(&sent);
        sent
    }

    async fn send_all(self) -> Result<Receipt> {
        let (client, retry) = (self.client.clone(), self.retry);
        let event = self.event.clone().map_err(|error| error.context("publish"))?;
        let context = format!("publish {event} at {}", client.endpoint());
        // Until each recipient's answer is there, not only while one is awaited.
        let _admitted = client.session.admit().map_err(|error| error.context(&context))?;
        let limit = self.timeout.unwrap_or_else(|| client.session.request_timeout());
        if limit.is_zero() {
            let text = format!("{context}: a timeout of zero leaves no time to send it; it was not sent");
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        let deadline = Instant::now() + limit;
        let copies = self.sealed(&context, Some(deadline)).await?;
        deliver(&client, copies, deadline, retry, &context).await
    }

    /// A sealed copy for each recipient: the first of them at once, so that what is wrong with the event is told before any is sent. With
    /// a deadline only once it is known who seals.
    #[cfg_attr(not(feature = "opentelemetry"), expect(unused_mut, reason = "nothing is added to the headers"))]
    async fn sealed(mut self, context: &str, deadline: Option<Instant>) -> Result<Copies> {
        #[cfg(feature = "opentelemetry")]
        if self.client.traced {
            crate::observe::inject(&mut self.headers);
        }
        let prepared = Prepared {
            event: self.event.map_err(|error| error.context(context))?,
            payload: self.payload,
            recipients: self.recipients,
            metadata: self.unwritten.map_or_else(|| metadata(&self.headers, self.fields, self.persist), Err),
            schema: self.schema,
            idempotency_key: self.idempotency_key.transpose(),
            options: self.options,
        };
        Copies::begin(self.client, prepared, deadline).await.map_err(|error| error.context(context))
    }
}

impl IntoFuture for Publish {
    type Output = Result<Receipt>;
    type IntoFuture = BoxFuture<'static, Result<Receipt>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

fn metadata(
    headers: &BTreeMap<String, String>,
    mut fields: BTreeMap<String, String>,
    persist: bool,
) -> Result<Metadata> {
    if let Some(key) = fields.keys().find(|key| key.starts_with('$') || *key == "headers" || *key == "persist") {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("metadata key {key:?} is reserved; use header() and persist(), and no key that starts with '$'"),
        ));
    }
    fields.insert("persist".into(), persist.to_string());
    fields.insert("headers".into(), object(headers));
    let metadata = Metadata::parse(&object(&fields))?;
    match metadata.secret() {
        None => Ok(metadata),
        Some(what) => {
            let why =
                format!("the headers or the metadata hold {what}, and are not encrypted; keep it on this machine");
            Err(Error::new(ErrorKind::InvalidInput, why))
        }
    }
}

/// An object of values that are JSON already.
fn object(members: &BTreeMap<String, String>) -> String {
    let member = |(name, value): (&String, &String)| format!("{}:{value}", Value::from(name.as_str()));
    format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
}

/// Sends one copy. Under the same key each time, so that an engine that deduplicates accepts it once.
async fn send(
    client: &Client,
    publish: ensync_core::Publish,
    place: Place,
    (deadline, retry): (Instant, RetryPolicy),
) -> Result<Reply> {
    let bytes = publish.payload.len() + publish.metadata.as_str().len();
    let request = Request::until(Command::Publish(publish), deadline).retry(retry).with_room(bytes, place);
    client.session.request(request).await
}

/// Sends all of it together, and tells of each recipient what became of it, in the order they were named.
async fn deliver(
    client: &Client,
    copies: Copies,
    deadline: Instant,
    retry: RetryPolicy,
    context: &str,
) -> Result<Receipt> {
    // In whatever order: one that is slow holds up no other, and one that waits for another attempt leaves its place. What comes after
    // these is not sealed before there is one.
    let placed = (Box::pin(copies.stream(deadline)), Places::new(IN_FLIGHT));
    let placed = futures::stream::unfold(placed, |(mut copies, places)| async move {
        let place = places.take().await;
        let copy = copies.next().await?;
        Some(((place, copy), (copies, places)))
    });
    let sending = |(number, (place, (recipient, copy))): (usize, (Place, (AppId, Result<ensync_core::Publish>)))| async move {
        let answer = match copy {
            Ok(command) => send(client, command, place, (deadline, retry)).await,
            Err(error) => Err(error),
        };
        (number, recipient, answer)
    };
    let sending = placed.enumerate().map(sending).buffer_unordered(usize::MAX);
    let mut answers: Vec<_> = sending.collect().await;
    answers.sort_unstable_by_key(|(number, ..)| *number);
    let (mut accepted, mut failed) = (Vec::new(), Vec::new());
    for (_, recipient, reply) in answers {
        match reply {
            Ok(Reply::Published { id }) => accepted.push((recipient, id)),
            Ok(other) => failed.push((recipient, unexpected("publish", &other))),
            Err(error) => failed.push((recipient, error)),
        }
    }
    PartialPublish::settle(accepted, failed).map_err(|error| error.context(context))
}
