//! What administrators ask of a broker.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ensync_core::{AppId, AppKey, EventId, EventName, Result, Timestamp};

use super::request::Request;
use super::{Broker, random};
use crate::log::{EventOptions, KeyHash, Rights};
use crate::state::{AppInfo, DeadLetter, Provision, QueueStats, State};

/// What every app key that the engine makes begins with, so that leaked ones are recognised.
const KEY_PREFIX: &str = "ensync_key_";

/// A broker that has nothing to do now.
#[derive(Debug)]
pub(crate) struct Idle {
    /// When it will have.
    pub(crate) due: Option<Timestamp>,
}

impl Broker {
    /// Makes an app that may do everything, and gives its key: the only time it is to be seen, for the engine keeps a hash.
    /// `name` is for people.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ensync_core::ErrorKind::InvalidInput) if there is an app with that id, or the name is not usable;
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if it cannot be stored now.
    pub async fn create_app(&self, name: &str, id: AppId) -> Result<AppKey> {
        let key = AppKey::try_from(format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random::<32>()?)))?;
        self.create_app_with_key(name, id, &key).await?;
        Ok(key)
    }

    /// The same, with a key that exists already. Only a key of at least 128 random bits is safe from guessing.
    ///
    /// # Errors
    ///
    /// As [`create_app`](Broker::create_app), and [`InvalidInput`](ensync_core::ErrorKind::InvalidInput) if another app has that
    /// key.
    pub async fn create_app_with_key(&self, name: &str, id: AppId, key: &AppKey) -> Result<()> {
        let (name, key_hash) = (name.to_owned(), KeyHash::of(key));
        self.provision(Provision::CreateApp { id, name, key_hash, rights: Rights::ALL }).await
    }

    /// Registers an event name, or replaces the options of one that is registered.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ensync_core::ErrorKind::InvalidInput) if an option is out of its range;
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn register_event(&self, name: EventName, options: EventOptions) -> Result<()> {
        self.provision(Provision::RegisterEvent { name, options }).await
    }

    /// Sets what an app may do: with one event name, or with all that have no grant of their own.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound) if there is no such app,
    /// [`UnknownEvent`](ensync_core::ErrorKind::UnknownEvent) if there is no such event name;
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn grant(&self, app: AppId, event: Option<EventName>, rights: Rights) -> Result<()> {
        self.provision(Provision::Grant { app, event, rights }).await
    }

    /// Every app, by id.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the broker has stopped.
    pub async fn apps(&self) -> Result<Vec<AppInfo>> {
        self.inspect(State::apps).await
    }

    /// Every registered event name.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the broker has stopped.
    pub async fn events(&self) -> Result<Vec<(EventName, EventOptions)>> {
        self.inspect(State::events).await
    }

    /// How a recipient's queue of an event name stands; `None` if it was never used.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the broker has stopped.
    pub async fn queue(&self, event: EventName, recipient: AppId) -> Result<Option<QueueStats>> {
        self.inspect(move |state| state.queue(&recipient, &event)).await
    }

    /// How every queue stands.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the broker has stopped.
    pub async fn queues(&self) -> Result<Vec<QueueStats>> {
        self.inspect(State::queues).await
    }

    /// How many sessions are open.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the broker has stopped.
    pub async fn sessions(&self) -> Result<usize> {
        self.inspect(State::sessions).await
    }

    /// At most `limit` dead letters, of one event name and recipient or of all; per queue, the oldest event first.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the broker has stopped.
    pub async fn dead_letters(
        &self,
        event: Option<EventName>,
        recipient: Option<AppId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>> {
        self.inspect(move |state| state.dead_letters(recipient.as_ref(), event.as_ref(), limit)).await
    }

    /// Has a dead letter delivered again; its deliveries and its time to live count anew.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound) if it is none; [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn requeue_dead_letter(&self, id: EventId) -> Result<()> {
        self.provision(Provision::Requeue(id)).await
    }

    /// Gives a dead letter up.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound) if it is none; [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn drop_dead_letter(&self, id: EventId) -> Result<()> {
        self.provision(Provision::DropDead(id)).await
    }

    async fn provision(&self, what: Provision) -> Result<()> {
        self.ask(|answer| Request::Provision { what: Box::new(what), answer }).await.map(drop)
    }

    /// Whether everything that can be done at this time was done; if so, when something is due next.
    pub(crate) async fn is_idle(&self) -> Result<Option<Idle>> {
        self.inspect(|state| {
            let idle = !state.has_work() && state.verdicts(1).is_empty();
            idle.then(|| Idle { due: state.next_due() })
        })
        .await
    }

    async fn inspect<T: Send + 'static>(&self, look: impl FnOnce(&State) -> T + Send + 'static) -> Result<T> {
        self.ask(|answer| Request::Inspect(Box::new(move |state| _ = answer.send(Ok(look(state)))))).await
    }
}
