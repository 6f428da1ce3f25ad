//! What clients ask of a broker.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ensync_core::{ClientId, Command, ErrorKind, EventName, Login, Peer, Reply, Result, Service, Session, Welcome};
use futures::StreamExt;

use super::request::{Caller, Origin, Outcome, Request, brief};
use super::{Broker, inbox, stopped};
use crate::address::network;
use crate::model::{AdminCommand, KeyHash};
use crate::random::random;
use crate::state::{Admitted, Use};

/// What a publish that waits takes beside its bytes: its place, and what answers it.
const PLACE: usize = 1 << 10;

#[async_trait]
impl Service for Broker {
    async fn login(&self, login: Login) -> Result<Session> {
        let (key, client_id) = (KeyHash::of(&login.app_key), new_client_id()?);
        let from = login.remote.map(|remote| network(remote.ip()));
        let (transport, remote) = (login.transport, login.remote.map(tracing::field::display));
        let now = self.0.time.now();
        let origin = Origin { transport: login.transport, remote: login.remote, since: now };
        let opened = self.check_running().and_then(|()| {
            let mut layer = self.0.layer.write();
            let session = layer.log_in(&key, &client_id, (from, now), &self.0.counters)?;
            let index = layer.access.partition_of(&session.app);
            let (outbox, inbox) = inbox::channel(&self.0.partitions.get(index).ok_or_else(stopped)?.records);
            layer.open(session.number, outbox, origin);
            let earlier_keys = layer.access.earlier_keys(&session.app).to_vec();
            Ok((session, inbox, layer.access.public_key(&session.app), earlier_keys))
        });
        let (session, inbox, public_key, earlier_keys) = opened.inspect_err(|error| {
            // Who goes on trying while he has to wait must not fill the log.
            if error.kind() == ErrorKind::LimitExceeded {
                tracing::debug!(transport, remote, %error, "login refused");
            } else {
                tracing::info!(transport, remote, %error, "login refused");
            }
        })?;
        tracing::info!(session = session.number, app = %session.app, transport, remote, "login");
        Ok(Session {
            peer: Peer { client_id: client_id.clone(), app_id: session.app },
            inbox: inbox.boxed(),
            welcome: Welcome {
                client_id,
                app_id: Some(public_key),
                config: self.0.config.clone().with_earlier_ids(&earlier_keys),
            },
        })
    }

    async fn handle(&self, peer: &Peer, command: Command) -> Result<Reply> {
        let name = command.name();
        self.carry_out(peer, command).await.inspect_err(|error| self.0.metrics.refused(name, error))
    }

    async fn logout(&self, peer: &Peer) {
        let ended = self.0.layer.write().log_out(&peer.client_id, "connection");
        if let Some(session) = ended {
            self.leave_later(session).await;
        }
    }
}

impl Broker {
    async fn carry_out(&self, peer: &Peer, command: Command) -> Result<Reply> {
        self.check_running()?;
        let outcome = match command {
            Command::Publish(publish) => {
                let publish = Box::new(Admitted::new(publish, &self.0.limits)?);
                self.register_first_use(peer, Some(Use::of_publish(&publish))).await?;
                let (index, pass) = {
                    let layer = self.0.layer.read();
                    (layer.access.route_publish(publish.recipient()), layer.access.pass(peer)?)
                };
                let charge = self.0.waiting.charge(peer.app_id, index, publish.size() + PLACE)?;
                let (peer, caller) = (peer.clone(), |answer| Caller::new(answer, charge));
                let app = peer.app_id;
                let request = |answer, turn| Request::Publish { peer, pass, publish, caller: caller(answer), turn };
                self.ask_in_turn(index, app, request).await?
            }
            command => {
                self.register_first_use(peer, Use::of(&command)).await?;
                let (index, pass) = {
                    let layer = self.0.layer.read();
                    (layer.access.route(peer, &command), layer.access.pass(peer)?)
                };
                let (command, peer) = (Box::new(brief(command)), peer.clone());
                let app = peer.app_id;
                let request = |answer, turn| Request::Command { peer, pass, command, answer, turn };
                self.ask_in_turn(index, app, request).await?
            }
        };
        match outcome {
            Outcome::Reply(reply) => Ok(reply),
            // Read here, so that a replay of an old event holds up nobody else.
            Outcome::Replay(replay) => {
                let index = self.0.layer.read().access.partition_of(&peer.app_id);
                let partition = self.0.partitions.get(index).ok_or_else(stopped)?;
                replay.answer(partition.records.read(&replay.source).await?.as_deref())
            }
        }
    }

    /// Registers an event name that is used for the first time, where first use does that.
    async fn register_first_use(&self, peer: &Peer, used: Option<Use<'_>>) -> Result<()> {
        let name: Option<EventName> = used.and_then(|used| self.0.layer.read().access.first_use(peer, used).cloned());
        match name {
            Some(name) => self.administer(AdminCommand::UseEvent { name }).await,
            None => Ok(()),
        }
    }
}

/// 256 random bits: whoever holds a client id may act as that session.
fn new_client_id() -> Result<ClientId> {
    ClientId::parse(&format!("{}{}", ClientId::PREFIX, URL_SAFE_NO_PAD.encode(random::<32>()?)))
}
