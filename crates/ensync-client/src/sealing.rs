//! What a publish seals: a copy for each recipient, of many some at a time.

use std::sync::Arc;
use std::vec::IntoIter;

use ensync_core::crypto::{Recipient, SealOptions, Sealer, SealingInParts, Suite};
use ensync_core::{
    AppId, Error, ErrorKind, EventName, IdempotencyKey, Metadata, PayloadJson, Publish, Result, Schema, WirePayload,
};
use futures::{Stream, StreamExt};
use tokio::time::Instant;

use crate::Client;

/// How much is sealed in the caller's task: bytes of payload, and for each recipient as many as take as long.
const SHORT: usize = 256 << 10;
const RECIPIENT: usize = 16 << 10;
/// How much is sealed at a time, and for how many at least: of a large payload "nacl" encrypts once what goes to several.
const PART: usize = 4 << 20;
const LEAST: usize = 4;

/// Everything the caller said, read but not yet checked.
pub(crate) struct Prepared {
    pub(crate) event: EventName,
    pub(crate) payload: Result<PayloadJson>,
    pub(crate) recipients: Result<Vec<AppId>>,
    pub(crate) metadata: Result<Metadata>,
    pub(crate) schema: Option<Schema>,
    pub(crate) idempotency_key: Result<Option<IdempotencyKey>>,
    pub(crate) options: SealOptions,
}

impl Prepared {
    /// What is wrong with it whoever it is sealed by.
    fn check(&self) -> Result<()> {
        let payload = self.payload.as_ref().map_err(Clone::clone)?;
        self.metadata.as_ref().map_err(Clone::clone)?;
        self.idempotency_key.as_ref().map_err(Clone::clone)?;
        if self.recipients.as_ref().map_err(Clone::clone)?.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "no recipients; name at least one with to()"));
        }
        match &self.schema {
            Some(schema) => schema.check(payload.about()),
            None => Ok(()),
        }
    }
}

/// Sealed copies of one payload, in the order in which their recipients were named.
///
/// Not all at once: what a thousand copies take up is a thousand times the payload, and to make them takes so long that others must
/// have their turn meanwhile.
pub(crate) struct Copies {
    /// What is sealed, and not taken yet.
    part: Option<Part>,
    rest: Option<Rest>,
    /// Whose key seals them, if one does.
    #[cfg(feature = "outbox")]
    pub(crate) own: Option<AppId>,
}

/// Whose copies, and the copies or why there are none.
type Part = (Vec<AppId>, Result<Vec<Publish>>);

impl Copies {
    /// Checks everything, and seals the first part. What names its sender is sealed once the engine has said which app this is, for a ring
    /// may have the next key already; with a deadline that is waited for.
    pub(crate) async fn begin(client: Client, prepared: Prepared, deadline: Option<Instant>) -> Result<Self> {
        prepared.check()?;
        let names_its_sender = prepared.options.suite() == Suite::Aes256Gcm && client.crypto.sealer.own_id().is_some();
        if let Some(deadline) = deadline.filter(|_| names_its_sender && client.session.app_id().is_none()) {
            client.session.live_until(deadline).await?;
        }
        let work = prepared.payload.as_ref().map_or(0, |payload| payload.as_str().len())
            + prepared.recipients.as_ref().map_or(0, Vec::len).saturating_mul(RECIPIENT);
        let begin = move || {
            let mut rest = Rest::begin(client, prepared)?;
            let (whose, copies) = rest.seal_part();
            #[cfg(feature = "outbox")]
            let own = rest.client.crypto.sealer_of(rest.app).own_id();
            Ok(Self {
                part: Some((whose, Ok(copies?))),
                rest: rest.unless_done(),
                #[cfg(feature = "outbox")]
                own,
            })
        };
        if work < SHORT { begin() } else { elsewhere(begin).await? }
    }

    /// The next part; `None` after the last. After one that could not be sealed comes no other.
    pub(crate) async fn next_part(&mut self) -> Option<Part> {
        if let Some(part) = self.part.take() {
            return Some(part);
        }
        let mut rest = self.rest.take()?;
        let (ids, left) = (rest.ids.clone(), rest.recipients.len());
        let sealed = elsewhere(move || {
            let part = rest.seal_part();
            (rest, part)
        });
        match sealed.await {
            Ok((rest, part)) => {
                self.rest = rest.unless_done();
                Some(part)
            }
            Err(error) => Some((last(&ids, left), Err(error))),
        }
    }

    /// The rest, if nothing more of it can be sent in time.
    fn give_up(&mut self) -> Option<Part> {
        let whose = self.rest.take()?.left();
        let text = "others of the same publish were under way until the deadline; it was not sent";
        Some((whose, Err(Error::new(ErrorKind::LimitExceeded, text))))
    }

    /// Each copy and whose it is, sealed when it is asked for, and not once it would come too late.
    pub(crate) fn stream(self, deadline: Instant) -> impl Stream<Item = (AppId, Result<Publish>)> + Send {
        let parts = futures::stream::unfold(self, move |mut copies| async move {
            let late = copies.part.is_none() && Instant::now() >= deadline;
            let (whose, part) = if late { copies.give_up()? } else { copies.next_part().await? };
            let copies_of: Vec<_> = match part {
                Ok(sealed) => whose.into_iter().zip(sealed.into_iter().map(Ok)).collect(),
                Err(error) => whose.into_iter().map(|recipient| (recipient, Err(error.clone()))).collect(),
            };
            Some((futures::stream::iter(copies_of), copies))
        });
        parts.flatten()
    }
}

fn last(ids: &[AppId], count: usize) -> Vec<AppId> {
    ids.get(ids.len().saturating_sub(count)..).unwrap_or_default().to_vec()
}

/// Runs what would keep a thread from everything else for too long.
async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|cause| Error::new(ErrorKind::Internal, "sealing was cancelled or panicked").with_source(cause))
}

/// What is not sealed yet.
struct Rest {
    client: Client,
    /// As which app it seals, whatever becomes of the session.
    app: Option<AppId>,
    recipients: IntoIter<Recipient>,
    /// Of all, also those that are sealed: not to be copied for each part.
    ids: Arc<[AppId]>,
    payload: PayloadJson,
    event: EventName,
    metadata: Metadata,
    idempotency_key: IdempotencyKey,
    begun: SealingInParts,
    /// The largest copy that the engine takes, if it said.
    most: Option<usize>,
}

impl Rest {
    fn begin(client: Client, prepared: Prepared) -> Result<Self> {
        let Prepared { event, options, .. } = prepared;
        let (ids, payload, metadata) = (prepared.recipients?, prepared.payload?, prepared.metadata?);
        let recipients = ids.iter().map(|id| client.recipient(*id)).collect::<Result<Vec<_>>>()?;
        let ids = ids.into();
        let welcome = client.session.welcome();
        let app = client.last_known_app();
        let sealer = client.crypto.sealer_of(app);
        if options.suite() == Suite::Aes256Gcm {
            check_own_key(sealer, client.session.app_id())?;
        }
        let begun = sealer.begin(payload.as_str().as_bytes(), recipients.len(), &event, options)?;
        // Also for an engine that is not known yet, or does not deduplicate and ignores it: another may answer the retry.
        let idempotency_key = match prepared.idempotency_key? {
            Some(given) => given,
            None => IdempotencyKey::random()?,
        };
        let most = welcome.as_ref().and_then(|welcome| welcome.config.max_payload_bytes());
        let recipients = recipients.into_iter();
        Ok(Self { client, app, recipients, ids, payload, event, metadata, idempotency_key, begun, most })
    }

    /// Whose copies are not sealed yet.
    fn left(&self) -> Vec<AppId> {
        last(&self.ids, self.recipients.len())
    }

    fn unless_done(self) -> Option<Self> {
        (self.recipients.len() > 0).then_some(self)
    }

    /// Seals for as many more as make a part. If that fails it is told of all that are left.
    fn seal_part(&mut self) -> Part {
        let left = self.recipients.len();
        let each = self.payload.as_str().len().saturating_mul(2).saturating_add(RECIPIENT);
        let whose: Vec<_> = self.recipients.by_ref().take((PART / each).max(LEAST)).collect();
        match self.seal(&whose) {
            Ok(copies) => (whose.iter().map(|recipient| *recipient.id()).collect(), Ok(copies)),
            Err(error) => {
                self.recipients = Vec::new().into_iter();
                (last(&self.ids, left), Err(error))
            }
        }
    }

    fn seal(&mut self, whose: &[Recipient]) -> Result<Vec<Publish>> {
        let (sealer, text) = (self.client.crypto.sealer_of(self.app), self.payload.as_str());
        let sealed = sealer.seal_part(&mut self.begun, text.as_bytes(), whose)?;
        if let Some(most) = self.most {
            sealed.iter().try_for_each(|sealed| fits(sealed, most, text.len()))?;
        }
        let copy = |(recipient, payload): (&Recipient, WirePayload)| Publish {
            event: self.event.clone(),
            recipient: *recipient.id(),
            payload,
            metadata: self.metadata.clone(),
            payload_metadata: Some(self.payload.about().clone()),
            idempotency_key: Some(self.idempotency_key.clone()),
        };
        Ok(whose.iter().zip(sealed).map(copy).collect())
    }
}

/// An envelope that names another sender than the engine does is refused by its readers, so it is not sent.
fn check_own_key(sealer: &Sealer, app: Option<AppId>) -> Result<()> {
    match sealer.own_id().zip(app) {
        Some((own, app)) if own != app => Err(Error::new(
            ErrorKind::InvalidKey,
            format!(
                "the secret key is that of app {own}, the engine says that the app key is that of app {app}; give the client the \
                 secret key that belongs to its app key"
            ),
        )),
        _ => Ok(()),
    }
}

fn fits(sealed: &WirePayload, most: usize, plain: usize) -> Result<()> {
    if sealed.len() <= most {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::PayloadTooLarge,
        format!(
            "the payload has {plain} bytes, {} once encrypted; the engine takes {most}. Send less, or a reference to it",
            sealed.len()
        ),
    ))
}
