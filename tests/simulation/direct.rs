//! Links whose calls know nothing of each other: each is answered in its own time, or not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use ensync_core::{
    AppKey, Command, Delivery, Error, ErrorKind, EventName, Link, Login, Peer, Reply, Result, Service, Session,
};
use ensync_engine::Broker;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::Outcome;
use crate::link::{self, Far, Inbox};
use crate::network::{Fate, Network};

/// A session at the engine, which learns of its end some time after this is gone.
pub struct Seat {
    pub network: Arc<Network>,
    pub broker: Broker,
    pub peer: Peer,
}

impl Seat {
    /// What the engine does when it forgets the session.
    pub async fn forgotten(&self) {
        self.network.ledger.met("session forgotten");
        self.broker.logout(&self.peer).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let (network, broker, peer) = (self.network.clone(), self.broker.clone(), self.peer.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                network.travel().await;
                broker.logout(&peer).await;
            });
        }
    }
}

pub async fn connect(network: &Arc<Network>, who: &'static str, fate: Fate, app_key: &AppKey) -> Result<Link> {
    network.travel().await;
    if let Some(refusal) = network.refusal() {
        network.travel().await;
        return Err(refusal);
    }
    let broker = network.broker();
    let Session { peer, inbox, welcome } =
        broker.login(Login { app_key: app_key.clone(), transport: "sim", remote: None }).await?;
    let seat = Seat { network: network.clone(), broker, peer };
    network.travel().await;
    let (ended, to_tell) = mpsc::unbounded_channel();
    let (open, to_tell) = (Mutex::default(), to_tell.into());
    let core = Arc::new(Core { seat, over: CancellationToken::new(), fate, open, to_tell });
    let (link, sender) = link::open(core.clone(), network.shown(welcome), core.over.clone());
    tokio::spawn(end_streams(network.clone(), Arc::downgrade(&core), ended));
    tokio::spawn(deliver(network.clone(), (core.fate.clone(), Arc::downgrade(&core)), who, inbox, sender));
    Ok(link)
}

/// The engine's end of one connection.
struct Core {
    seat: Seat,
    /// The client ended it. The engine hears of that when the last handle is gone: see `Seat`.
    over: CancellationToken,
    fate: Fate,
    /// The subscriptions whose streams are open.
    open: Mutex<BTreeSet<EventName>>,
    /// Those whose streams have ended.
    to_tell: tokio::sync::Mutex<mpsc::UnboundedReceiver<(EventName, Error)>>,
}

/// Ends streams when the network does: the engine takes back what they had brought, and the client is told.
async fn end_streams(network: Arc<Network>, core: Weak<Core>, ended: mpsc::UnboundedSender<(EventName, Error)>) {
    let mut told = network.ends_streams();
    loop {
        tokio::select! {
            biased;
            () = ended.closed() => return,
            Some(()) = told.recv() => {}
            else => return,
        }
        let Some(core) = core.upgrade() else { return };
        let open: Vec<_> = core.open.lock().unwrap().iter().cloned().collect();
        for event in open {
            // It may have been left meanwhile.
            if !network.chance(60) || !core.open.lock().unwrap().remove(&event) {
                continue;
            }
            network.ledger.met("stream ended");
            network.ledger.note(format_args!("the stream of {event} ends"));
            let Seat { broker, peer, .. } = &core.seat;
            let _gone = broker.handle(peer, Command::Unsubscribe { event: event.clone() }).await;
            let _taken_back = broker.handle(peer, Command::Release { event: event.clone() }).await;
            network.travel().await;
            let kind = if network.chance(50) { ErrorKind::Interrupted } else { ErrorKind::Unavailable };
            let _gone = ended.send((event, Error::new(kind, "the stream was ended on its way")));
        }
    }
}

/// Brings what the engine sends, until the link ends.
async fn deliver(
    network: Arc<Network>,
    (fate, core): (Fate, Weak<Core>),
    who: &'static str,
    mut from: BoxStream<'static, Delivery>,
    to: Inbox,
) {
    let pushed = async {
        while let Some(mut delivery) = from.next().await {
            network.travel().await;
            if network.engine.lacks("leases") {
                delivery.lease = None;
            }
            if to.send(Ok(delivery)).is_err() {
                return;
            }
        }
        network.in_turn(who).await;
        network.travel().await;
    };
    let forgotten = async {
        fate.forget.cancelled().await;
        if let Some(core) = core.upgrade() {
            core.seat.forgotten().await;
        }
        // The connection stays, and nothing comes over it.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        // The client ended it.
        () = to.closed() => return,
        () = fate.cut.cancelled() => {}
        () = forgotten => return,
        // In order: it ends without an error.
        () = fate.leave.cancelled() => return network.travel().await,
        () = pushed => return,
    }
    let _ = to.send(Err(Error::new(ErrorKind::Interrupted, "the link was cut")));
}

#[async_trait]
impl Far for Core {
    async fn call(&self, command: Command) -> Result<Reply> {
        let name = command.name();
        let subscribes = match &command {
            Command::Subscribe(subscribe) => Some(subscribe.event.clone()),
            _ => None,
        };
        if let Command::Unsubscribe { event } = &command {
            self.open.lock().unwrap().remove(event);
        }
        if self.fate.cut.is_cancelled() || self.fate.leave.is_cancelled() {
            return Err(Error::new(ErrorKind::Closed, format!("{name}: the link has ended")));
        }
        let network = self.seat.network.clone();
        network.ledger.sent(&command);
        let (broker, peer, cut) = (self.seat.broker.clone(), self.seat.peer.clone(), self.fate.cut.clone());
        // What is on its way when the link is cut arrives, or not.
        let arrives_anyway = network.chance(50);
        // A task of its own: a caller that gives up abandons the answer, not the command.
        let (answer, answered) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let way = network.travel();
            if arrives_anyway {
                way.await;
            } else {
                tokio::select! {
                    biased;
                    () = cut.cancelled() => return,
                    () = way => {}
                }
            }
            if network.engine.breaks_at(&command) {
                network.cut();
            }
            let outcome = network.engine.carry_out(&broker, &peer, command).await;
            if answer.is_closed() || cut.is_cancelled() {
                network.ledger.met("lost answer");
            }
            network.travel().await;
            let reply = match outcome {
                Outcome::Answer(reply) => reply,
                Outcome::Reset => Err(Error::new(ErrorKind::Interrupted, "the stream was reset")),
                Outcome::Silence => {
                    // Until nobody waits any more.
                    let mut answer = answer;
                    return answer.closed().await;
                }
            };
            let _ = answer.send(reply);
        });
        tokio::select! {
            biased;
            () = self.fate.cut.cancelled() => {}
            reply = answered => if let Ok(reply) = reply {
                self.open.lock().unwrap().extend(subscribes.filter(|_| reply.is_ok()));
                return reply;
            },
        }
        Err(Error::new(ErrorKind::Interrupted, format!("{name}: the link was cut before the answer came")))
    }

    async fn ended_subscription(&self) -> (EventName, Error) {
        match self.to_tell.lock().await.recv().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    async fn close(&self) {
        let Seat { network, broker, peer } = &self.seat;
        let goodbye = async {
            network.travel().await;
            broker.logout(peer).await;
        };
        tokio::select! {
            biased;
            () = self.fate.cut.cancelled() => {}
            () = goodbye => {}
        }
    }
}
