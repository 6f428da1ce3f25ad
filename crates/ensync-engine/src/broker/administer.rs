//! How what administrators ask for reaches the registrar and the partitions.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ensync_core::{AppId, AppKey, EventId, EventName, Result, Timestamp};
use tokio::sync::oneshot;

use super::registrar::{Ask, Look};
use super::request::Request;
use super::{Broker, random, stopped};
use crate::model::{AdminCommand, EventOptions};
use crate::partition::Partition;
use crate::state::{Access, AppInfo, LetterAction, partition_of_event};

/// A broker that has nothing to do now.
#[derive(Debug)]
pub(crate) struct Idle {
    /// When it will have.
    pub(crate) due: Option<Timestamp>,
}

impl Broker {
    pub(super) async fn administer(&self, command: AdminCommand) -> Result<()> {
        self.administer_and_look(command, (Box::new(|_| ()), Box::new(|_| ()))).await
    }

    async fn administer_and_look(&self, command: AdminCommand, looks: (Look, Look)) -> Result<()> {
        check_key(&command)?;
        self.check_running()?;
        let (answer, answered) = oneshot::channel();
        let ask = Ask::Admin { command: Box::new(command), looks, answer };
        self.0.registrar.send(ask).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| self.unanswered())?.map(drop)
    }

    /// Changes an app, and says how it was right before, and how it is right after: nobody else's change is between them.
    pub(crate) async fn change_app(&self, app: AppId, command: AdminCommand) -> Result<[Option<AppInfo>; 2]> {
        self.change(command, move |access| access.app(&app)).await
    }

    /// The same for an event name.
    pub(crate) async fn change_name(
        &self,
        name: EventName,
        command: AdminCommand,
    ) -> Result<[Option<EventOptions>; 2]> {
        self.change(command, move |access| access.event(&name)).await
    }

    async fn change<T: Send + 'static>(
        &self,
        command: AdminCommand,
        look: impl Fn(&Access) -> T + Clone + Send + 'static,
    ) -> Result<[T; 2]> {
        let ((before, was), (after, is)) = (oneshot::channel(), oneshot::channel());
        let then = look.clone();
        let looks: (Look, Look) = (
            Box::new(move |access| _ = before.send(look(access))),
            Box::new(move |access| _ = after.send(then(access))),
        );
        self.administer_and_look(command, looks).await?;
        Ok([was.await.map_err(|_| stopped())?, is.await.map_err(|_| stopped())?])
    }

    /// Does it to one dead letter.
    pub(crate) async fn settle_dead_letter(&self, what: LetterAction, id: EventId) -> Result<()> {
        let index = self.place_of(&id);
        self.ask(index, |answer| Request::Letter { what, id, answer }).await.map(drop)
    }

    /// Whether everything that can be done at this time was done; if so, when something is due next.
    pub(crate) async fn is_idle(&self) -> Result<Option<Idle>> {
        let (answer, answered) = oneshot::channel();
        self.0.registrar.send(Ask::Idle(answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())??;
        let mut due = self.access(Access::next_due)?;
        for index in 0..self.0.partitions.len() {
            let look = |partition: &Partition| {
                let idle = !partition.has_work() && partition.pending(1).is_empty();
                idle.then(|| partition.next_due())
            };
            let Some(next) = self.look(index, look).await? else { return Ok(None) };
            due = [due, next].into_iter().flatten().min();
        }
        Ok(Some(Idle { due }))
    }

    /// Looks at who may do what, and who is logged in.
    pub(crate) async fn inspect<T>(&self, look: impl FnOnce(&Access) -> T) -> Result<T> {
        self.access(look)
    }

    /// The id of an app, and the index of the partition that has its queues.
    pub(super) fn place(&self, app: &AppId) -> Result<Option<(AppId, usize)>> {
        self.access(|access| access.find(app).map(|id| (id, access.partition_of(&id))))
    }

    /// The index of the partition that has an event, if any has.
    pub(super) fn place_of(&self, id: &EventId) -> usize {
        let count = u32::try_from(self.0.partitions.len()).ok().and_then(std::num::NonZeroU32::new);
        count.and_then(|count| partition_of_event(id, count)).unwrap_or_default()
    }
}

/// A key of 256 random bits.
pub(crate) fn new_access_key() -> Result<AppKey> {
    AppKey::try_from(format!("{}{}", AppKey::PREFIX, URL_SAFE_NO_PAD.encode(random::<32>()?)))
}

/// Every way to administer asks this, so this is where public keys enter: what nobody has the secret half of, or everybody, becomes no
/// app's address.
fn check_key(command: &AdminCommand) -> Result<()> {
    match command {
        AdminCommand::CreateApp { id: key, .. } | AdminCommand::RotateKeyPair { public_key: key, .. } => key.check(),
        _ => Ok(()),
    }
}
