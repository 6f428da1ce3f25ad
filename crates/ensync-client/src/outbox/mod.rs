//! Publishing by way of a file: accepted once the event is on disk here, sent once there is a connection.

mod backoff;
mod backpressure;
mod batch;
mod clock;
mod drain;
mod entry;
mod lanes;
mod options;
mod outcome;
mod reserve;
mod sending;
mod store;
#[cfg(test)]
mod tests;
mod thread;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ensync_core::crypto::Suite;
use ensync_core::{AppId, Error, ErrorKind, Publish, Result, Timestamp};
use futures::Stream;
use tokio::sync::{Notify, broadcast, watch};

use crate::Client;
use backpressure::Backpressure;
pub(crate) use drain::{Attached, Claim};
use entry::Entry;
pub use options::{OutboxOptions, WhenFull};
pub use outcome::{OutboxOutcome, ParkedEvent, QueuedEvent, QueuedId, QueuedPublish};
use store::Now;
use thread::{Thread, Write, Written};

/// How many outcomes a listener may be behind.
const OUTCOMES: usize = 1_024;

/// Events that wait on disk for a connection. Cheap to clone: clones share the file.
///
/// Give it to a client, and end a publish with [`queue`](crate::Publish::queue) instead of awaiting it: that returns once the event
/// is on this machine's disk, whether there is a connection or not. The client sends what waits whenever it is connected, also what
/// an earlier process left.
///
/// ```no_run
/// # use ensync_client::{Engine, Outbox, OutboxOptions, Transports};
/// # async fn example<T: Transports>(warehouse: ensync_client::core::AppId) -> ensync_client::core::Result<()> {
/// let outbox = Outbox::open("shop.outbox", OutboxOptions::new()).await?;
/// let engine = Engine::<T>::new("grpcs://node.example.com")?;
/// let client = engine.create_client("the app key").outbox(outbox.clone()).await?;
/// client.publish("orders/placed", "o-123").to(warehouse).queue().await?; // on disk
/// outbox.flush().await?; // at the engine
/// # Ok(())
/// # }
/// ```
///
/// **On disk** lie sealed payloads, and in clear, because they are not sealed on the wire either: event name, recipient, metadata,
/// size and shape of the payload. The file is readable by its owner alone. Sealing needs no connection, only the recipient's public
/// key.
///
/// **Order.** Events of one name for one recipient are sent in the order they were queued, one after the other's answer, and so as fast
/// as the engine answers. Those of different names or recipients overtake each other.
///
/// **Backpressure.** Where more than half of what the outbox takes is in it and there is a connection, `queue()` waits until as many
/// have gone as it adds, or a second if none go: who queues without a pause is kept to the engine's pace, and does not fill it.
///
/// **Twice or never.** What was accepted here is sent until the engine answers; each attempt bears the same idempotency key, that of
/// the first. An engine that deduplicates stores it once, if a repetition comes within its window (two minutes, unless it is set
/// otherwise): one whose answer was lost when the process died, or the connection, and which is sent again only after the window, is
/// stored twice. So is it with an engine that does not deduplicate. The recipient can tell by [`Event::sealed_id`] in the suite
/// "aes-256-gcm".
///
/// **Refused.** An event that the engine refuses is parked, and those behind it go on: see [`parked`](Self::parked). What the engine
/// cannot take now (it is stopping, over a limit) is tried again, with waits up to 30 s, and holds up what is behind it: events of
/// the same name for the same recipient, and no others. Where an engine says so in words of its own, without a code, they may mean
/// something else: after some minutes, and 20 attempts, such an event is parked, too.
///
/// **A full disk.** The database needs room on the disk to delete. So a file of 1 MiB lies beside the outbox, `….reserve`, which is
/// given up where there is no other room; until it is there again, nothing more is taken. What the outbox no longer uses of its own file
/// is given back to the disk for that. What the engine has answered is not sent again by this client, even if the disk cannot note it.
///
/// **Another key pair.** What was queued before the app's key pair was rotated is sent under the earlier one, as long as the engine
/// knows that as the app's (it is not retired). A client with a ring of the next key and the present one seals with that by which the engine
/// knew the app last, to this client or an earlier one of the same outbox. Where none was ever connected it seals with the next: what names
/// its sender (the suite "aes-256-gcm") is then sent once the key pair is rotated.
///
/// **Bounds** are those of [`OutboxOptions`]; what they cost is told by [`outcomes`](Self::outcomes), and logged.
///
/// **One at a time.** One process has the file open, and one client drains it. When that client closes, another may.
///
/// [`Event::sealed_id`]: crate::Event::sealed_id
#[derive(Clone)]
pub struct Outbox(Arc<Shared>);

struct Shared {
    path: PathBuf,
    thread: Thread,
    options: OutboxOptions,
    backpressure: Backpressure,
    now: watch::Receiver<Now>,
    listeners: broadcast::Sender<OutboxOutcome>,
    /// Something was queued.
    queued: Notify,
    /// Whether a client drains it.
    attached: AtomicBool,
    /// Tells whoever waits that `attached` has changed.
    drains: watch::Sender<()>,
}

/// What an [`Outbox`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct OutboxStatus {
    /// Events that will be sent, each recipient of a publish counted.
    pub waiting: u64,
    /// Events that the engine refused.
    pub parked: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// When the oldest that waits was queued.
    pub oldest: Option<Timestamp>,
}

impl Outbox {
    /// Opens the file, or makes it. Its directory must exist.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if another process has it open, or the operating system refuses;
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is no outbox, is damaged, or was written by another version.
    pub async fn open(path: impl AsRef<Path>, options: OutboxOptions) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let (status, watched) = watch::channel(Now::default());
        let listeners = broadcast::Sender::new(OUTCOMES);
        let thread = Thread::start(path.as_path().into(), options, status, listeners.clone()).await?;
        Ok(Self(Arc::new(Shared {
            path,
            thread,
            options,
            backpressure: Backpressure::default(),
            now: watched,
            listeners,
            queued: Notify::new(),
            attached: AtomicBool::new(false),
            drains: watch::Sender::new(()),
        })))
    }

    /// What it holds now.
    pub fn status(&self) -> OutboxStatus {
        self.0.now.borrow().status
    }

    /// What becomes of queued events, from now on. Ends when the outbox is gone; it does not keep it.
    pub fn outcomes(&self) -> impl Stream<Item = OutboxOutcome> + Send + Unpin + 'static {
        outcome::stream(self.0.listeners.subscribe())
    }

    /// Waits until nothing waits any more of what was queued before this: all of it was accepted, or is parked or gone as
    /// [`outcomes`](Self::outcomes) told. It waits as long as that takes; put a timeout around it. What is queued meanwhile is not
    /// waited for.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) if something waits and no client drains it, or that one closes before it is done.
    pub async fn flush(&self) -> Result<OutboxStatus> {
        let (mut now, mut drains) = (self.0.now.clone(), self.0.drains.subscribe());
        let before = now.borrow().next;
        loop {
            let Now { status, first, .. } = *now.borrow_and_update();
            if first.is_none_or(|first| first >= before) {
                return Ok(status);
            }
            if !self.0.attached.load(Ordering::Acquire) {
                let what = format!("{} events wait and no client drains them", status.waiting);
                return Err(self.at(Error::new(ErrorKind::Closed, what)));
            }
            let gone = tokio::select! {
                changed = now.changed() => changed.is_err(),
                _ = drains.changed() => false,
            };
            if gone {
                return Err(self.at(Error::new(ErrorKind::Closed, "the outbox is closed")));
            }
        }
    }

    /// The events that the engine refused, oldest first, and why.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) and the like if the file cannot be read.
    pub async fn parked(&self) -> Result<Vec<ParkedEvent>> {
        let entries = self.0.thread.parked().await.map_err(|error| self.at(error))?;
        let parked = |(id, entry): (QueuedId, Entry)| {
            let why = match &entry.parked {
                Some(reason) => reason.error(),
                None => Error::new(ErrorKind::Refused, "no reason was kept"),
            };
            ParkedEvent {
                about: self.about(id, &entry),
                why,
                payload: entry.publish.payload,
                metadata: entry.publish.metadata,
            }
        };
        Ok(entries.into_iter().map(parked).collect())
    }

    /// Lets a parked event be sent again, in its old place and under its old idempotency key; its age begins anew
    /// ([`OutboxOptions::max_age`]). False if there is none of that name.
    ///
    /// # Errors
    ///
    /// As [`parked`](Self::parked).
    pub async fn retry(&self, id: QueuedId) -> Result<bool> {
        let found = self.write(Write::Retry(id)).await?;
        self.0.queued.notify_one();
        Ok(matches!(found, Written::Found(true)))
    }

    /// Drops a parked event. False if there is none of that name.
    ///
    /// # Errors
    ///
    /// As [`parked`](Self::parked).
    pub async fn discard(&self, id: QueuedId) -> Result<bool> {
        Ok(matches!(self.write(Write::Discard(id)).await?, Written::Found(true)))
    }

    /// Closes the file, so that another process may open it, or this one again. Without it that happens some time after the last
    /// clone, and the client that drains it, are gone.
    pub async fn close(&self) {
        self.0.thread.close().await;
    }

    /// Which app the engine said last that its client is.
    pub(crate) fn app(&self) -> Option<AppId> {
        self.0.now.borrow().app
    }

    fn about(&self, id: QueuedId, entry: &Entry) -> QueuedEvent {
        entry.about(id, self.0.now.borrow().steps)
    }

    async fn put(&self, entries: Vec<Entry>) -> Result<Vec<QueuedId>> {
        let written = self.write(Write::Put(entries)).await?;
        self.0.queued.notify_one();
        match written {
            Written::Put(ids) => Ok(ids),
            Written::Found(_) => Err(self.at(Error::new(ErrorKind::Internal, "the answer does not fit"))),
        }
    }

    async fn write(&self, write: Write) -> Result<Written> {
        self.0.thread.write(write).await.map_err(|error| self.at(error))
    }

    fn at(&self, error: Error) -> Error {
        error.context(format_args!("outbox {}", self.0.path.display()))
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("path", &self.0.path).field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Puts sealed copies of a publish into the outbox of a client.
pub(crate) async fn queue(
    client: &Client,
    copies: Vec<Publish>,
    (suite, own): (Suite, Option<AppId>),
) -> Result<QueuedPublish> {
    let Some(attached) = &client.outbox else {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "this client has no outbox; give create_client one with outbox(), or await the publish without queue()",
        ));
    };
    if attached.is_stopped() {
        let text = "the client is closed, and nobody drains its outbox any more; it was not queued";
        return Err(Error::new(ErrorKind::Closed, text));
    }
    let recipients: Vec<AppId> = copies.iter().map(|copy| copy.recipient).collect();
    let named = suite == Suite::Aes256Gcm;
    let entry = |copy| Ok(Entry { named, ..Entry::new(copy, own)? });
    let entries = copies.into_iter().map(entry).collect::<Result<Vec<_>>>()?;
    let outbox = attached.outbox();
    if client.session.welcome().is_some() {
        outbox.0.backpressure.wait(&outbox.0.now, &outbox.0.options, entries.len()).await;
    }
    let ids = outbox.put(entries).await?;
    Ok(QueuedPublish(recipients.into_iter().zip(ids).collect()))
}
