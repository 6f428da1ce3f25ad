//! What administrators ask of a broker.

use std::time::Duration;

use ensync_core::{AppId, AppKey, AppName, EventId, EventName, Result};

use super::Broker;
use super::administer::new_access_key;
use crate::model::{AdminCommand, EventChange, EventOptions, KeyHash, Rights};
use crate::partition::Partition;
use crate::state::{Access, AppInfo, DeadLetter, LetterAction, LetterFilter, QueueStats};

/// How many apps or names are looked at in one go.
const PAGE: usize = 256;

impl Broker {
    /// Makes an app that may do everything, and gives its key: the only time it is to be seen, for the engine keeps a hash.
    /// `name` is for people.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ensync_core::ErrorKind::Conflict) if there is an app with that public key or name,
    /// [`InvalidInput`](ensync_core::ErrorKind::InvalidInput) if the name is not usable (see [`AppName`]),
    /// [`InvalidKey`](ensync_core::ErrorKind::InvalidKey) if nothing can be sealed for the public key (see [`AppId::check`]);
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if it cannot be stored now.
    pub async fn create_app(&self, name: &str, id: AppId) -> Result<AppKey> {
        self.create_app_with_rights(name, id, Rights::ALL).await
    }

    /// The same, for an app that may do less: `rights` hold for every event name without a [grant](Broker::grant) of its own.
    ///
    /// # Errors
    ///
    /// As [`create_app`](Broker::create_app).
    pub async fn create_app_with_rights(&self, name: &str, id: AppId, rights: Rights) -> Result<AppKey> {
        let (key, name) = (new_access_key()?, AppName::parse(name)?.into());
        let key_hash = KeyHash::of(&key);
        self.administer(AdminCommand::CreateApp { id, name, key_hash, rights, same_name: false }).await?;
        Ok(key)
    }

    /// The same, with a key that exists already. Only a key of at least 128 random bits is safe from guessing.
    ///
    /// # Errors
    ///
    /// As [`create_app`](Broker::create_app), and [`Conflict`](ensync_core::ErrorKind::Conflict) if another app has that access
    /// key.
    pub async fn create_app_with_key(&self, name: &str, id: AppId, key: &AppKey) -> Result<()> {
        let (name, key_hash) = (AppName::parse(name)?.into(), KeyHash::of(key));
        self.administer(AdminCommand::CreateApp { id, name, key_hash, rights: Rights::ALL, same_name: false }).await
    }

    /// Registers an event name, or replaces the options of one that is registered.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ensync_core::ErrorKind::InvalidInput) if an option is out of its range;
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn register_event(&self, name: EventName, options: EventOptions) -> Result<()> {
        self.administer(AdminCommand::RegisterEvent { name, options }).await
    }

    /// Sets what an app may do: with one event name, or with all that have no grant of their own.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound) if there is no such app,
    /// [`UnknownEvent`](ensync_core::ErrorKind::UnknownEvent) if there is no such event name;
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn grant(&self, app: AppId, event: Option<EventName>, rights: Rights) -> Result<()> {
        self.administer(AdminCommand::Grant { app, event, rights }).await
    }

    /// Gives an app another access key: the only time it is to be seen. The one before goes on logging in for a while, up to 30
    /// days; sessions that logged in with it end then, which is at once if `grace` is zero.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound) if there is no such app,
    /// [`InvalidInput`](ensync_core::ErrorKind::InvalidInput) if `grace` is too long;
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn rotate_key(&self, app: AppId, grace: Duration) -> Result<AppKey> {
        let key = new_access_key()?;
        self.administer(AdminCommand::RotateKey { app, key_hash: KeyHash::of(&key), grace }).await?;
        Ok(key)
    }

    /// Gives an app another key pair, of which the engine sees the public half. From now on that is the app's address, and the
    /// sender of what it publishes. What is published to its earlier public keys still reaches its queues, in one order with the
    /// rest: clients open it with a keyring that holds the earlier secret keys too. The app's sessions end, and learn of the new
    /// key when they log in again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> ensync_core::Result<()> {
    /// use ensync_core::SecretKey;
    /// # use ensync_engine::{Broker, BrokerOptions, MemoryLog};
    ///
    /// # let broker = Broker::start(BrokerOptions::dev(), MemoryLog::new()).await?;
    /// let [first, second] = [SecretKey::generate()?, SecretKey::generate()?].map(|key| key.app_id().unwrap());
    /// broker.create_app("warehouse", first).await?;
    /// broker.rotate_key_pair(first, second).await?;
    ///
    /// let app = broker.app(second).await?.expect("either key names it");
    /// assert_eq!((app.id, app.public_key, app.earlier_keys), (first, second, vec![first]));
    /// // After a leak, or when no publisher uses it any more:
    /// broker.retire_key(app.id, first).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound) if there is no such app,
    /// [`Conflict`](ensync_core::ErrorKind::Conflict) if an app has that key, or this one has 16 earlier ones,
    /// [`InvalidKey`](ensync_core::ErrorKind::InvalidKey) if nothing can be sealed for the key (see [`AppId::check`]);
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn rotate_key_pair(&self, app: AppId, public_key: AppId) -> Result<()> {
        self.administer(AdminCommand::RotateKeyPair { app, public_key }).await
    }

    /// Takes an earlier public key from an app for good: what is published to it is refused from now on. Events that are queued
    /// already are delivered.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound) if there is no such app, or it has no such earlier key,
    /// [`Conflict`](ensync_core::ErrorKind::Conflict) if it is the present one;
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn retire_key(&self, app: AppId, public_key: AppId) -> Result<()> {
        self.administer(AdminCommand::RetireKey { app, public_key }).await
    }

    /// Lets an app log in, or does not any more: then its sessions end at once. What is published to it waits meanwhile.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound) if there is no such app;
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn enable_app(&self, app: AppId, enabled: bool) -> Result<()> {
        self.administer(AdminCommand::Enable { app, enabled }).await
    }

    /// Deletes an app: its sessions end, and what was published to it is gone, dead letters included. What it published itself
    /// stays with its recipients.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound) if there is no such app;
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn delete_app(&self, app: AppId) -> Result<()> {
        self.administer(AdminCommand::DeleteApp { app }).await
    }

    /// Registers an event name that is not registered.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ensync_core::ErrorKind::Conflict) if it is; [`InvalidInput`](ensync_core::ErrorKind::InvalidInput) if an
    /// option is out of its range; [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn create_event(&self, name: EventName, options: EventOptions) -> Result<()> {
        self.administer(AdminCommand::CreateEvent { name, options }).await
    }

    /// Changes some options of an event name.
    ///
    /// # Errors
    ///
    /// [`UnknownEvent`](ensync_core::ErrorKind::UnknownEvent) if it is not registered;
    /// [`InvalidInput`](ensync_core::ErrorKind::InvalidInput) if an option is out of its range;
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn change_event(&self, name: EventName, change: EventChange) -> Result<()> {
        self.administer(AdminCommand::ChangeEvent { name, change }).await
    }

    /// Deletes an event name that nothing waits under and nobody subscribes to, with the grants for it. Its settled events cannot
    /// be replayed any more.
    ///
    /// # Errors
    ///
    /// [`UnknownEvent`](ensync_core::ErrorKind::UnknownEvent) if it is not registered,
    /// [`Conflict`](ensync_core::ErrorKind::Conflict) if it is in use; [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn delete_event(&self, name: EventName) -> Result<()> {
        self.administer(AdminCommand::DeleteEvent { name }).await
    }

    /// Takes a grant for a single name back: what the app may do with all names holds for it again.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound) if there is no such app or grant;
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn revoke(&self, app: AppId, event: EventName) -> Result<()> {
        self.administer(AdminCommand::Revoke { app, event }).await
    }

    /// The app with an id, or with a public key that can be published to.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the broker has stopped.
    pub async fn app(&self, key: AppId) -> Result<Option<AppInfo>> {
        self.inspect(move |access| access.app(&key)).await
    }

    /// Every app, by id.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the broker has stopped.
    pub async fn apps(&self) -> Result<Vec<AppInfo>> {
        self.by_pages(|access, after| access.apps_after(after.map(|app: &AppInfo| &app.id), None, PAGE)).await
    }

    /// Every registered event name.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the broker has stopped.
    pub async fn events(&self) -> Result<Vec<(EventName, EventOptions)>> {
        self.by_pages(|access, after| {
            access.events_after(after.map(|(name, _): &(EventName, EventOptions)| name), PAGE)
        })
        .await
    }

    /// All of a list that tells a page of it at a time: nobody waits for more of it than that.
    async fn by_pages<T>(&self, page: impl Fn(&Access, Option<&T>) -> Vec<T>) -> Result<Vec<T>> {
        let mut all: Vec<T> = Vec::new();
        loop {
            let more = self.access(|access| page(access, all.last()))?;
            let end = more.len() < PAGE;
            all.extend(more);
            if end {
                return Ok(all);
            }
            tokio::task::yield_now().await;
        }
    }

    /// How a recipient's queue of an event name stands; `None` if it was never used.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the broker has stopped.
    pub async fn queue(&self, event: EventName, recipient: AppId) -> Result<Option<QueueStats>> {
        let Some((recipient, index)) = self.place(&recipient)? else { return Ok(None) };
        self.look(index, move |partition| partition.queue(&recipient, &event)).await
    }

    /// How every queue stands.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the broker has stopped.
    pub async fn queues(&self) -> Result<Vec<QueueStats>> {
        let all = (0..self.0.partitions.len()).map(|index| self.look(index, Partition::queues));
        let mut all = futures::future::try_join_all(all).await?.concat();
        // What is left of apps that are gone is about to go.
        self.access(|access| all.retain(|queue| access.app_name(&queue.recipient).is_some()))?;
        Ok(all)
    }

    /// How many sessions are open.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable) if the broker has stopped.
    pub async fn sessions(&self) -> Result<usize> {
        self.inspect(Access::sessions).await
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
        let filter = LetterFilter { recipient, event, ..LetterFilter::default() };
        let (mut found, mut after) = (Vec::new(), None);
        while found.len() < limit {
            let (letters, next) = self.letters(filter.clone(), after, limit - found.len()).await?.whole()?;
            found.extend(letters.into_iter().map(|(letter, _)| letter));
            after = next;
            if after.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Has a dead letter delivered again; its deliveries and its time to live count anew.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound) if it is none; [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn requeue_dead_letter(&self, id: EventId) -> Result<()> {
        self.settle_dead_letter(LetterAction::Requeue, id).await
    }

    /// Gives a dead letter up.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ensync_core::ErrorKind::NotFound) if it is none; [`Unavailable`](ensync_core::ErrorKind::Unavailable).
    pub async fn drop_dead_letter(&self, id: EventId) -> Result<()> {
        self.settle_dead_letter(LetterAction::Drop, id).await
    }

    /// Has the dead letters of one event name and recipient, or of all, delivered again: those that are dead now, oldest first
    /// per queue. Says how many.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable); those before it are queued again then, and it says how many.
    pub async fn requeue_dead_letters(&self, event: Option<EventName>, recipient: Option<AppId>) -> Result<usize> {
        let filter = LetterFilter { event, recipient, ..LetterFilter::default() };
        self.settle_letters(LetterAction::Requeue, filter).await.whole()
    }

    /// Gives the dead letters of one event name and recipient, or of all, up: those that are dead now. Says how many.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ensync_core::ErrorKind::Unavailable); those before it are gone then, and it says how many.
    pub async fn drop_dead_letters(&self, event: Option<EventName>, recipient: Option<AppId>) -> Result<usize> {
        let filter = LetterFilter { event, recipient, ..LetterFilter::default() };
        self.settle_letters(LetterAction::Drop, filter).await.whole()
    }
}
