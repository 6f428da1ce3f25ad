//! Links whose calls know nothing of each other: each is answered in its own time, or not.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use ensync_core::{
    AppKey, Command, Delivery, Error, ErrorKind, Link, Login, Peer, Reply, Result, Service, Session, Transport,
};
use ensync_engine::Broker;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::Outcome;
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
    let core = Arc::new(Core { seat, closed: CancellationToken::new(), fate });
    let inbox = deliveries(core.clone(), who, inbox);
    Ok(Link {
        transport: Arc::new(Way { core, ended: AtomicBool::new(false) }),
        inbox,
        welcome: network.shown(welcome),
    })
}

/// One connection, seen from both ends.
struct Core {
    seat: Seat,
    closed: CancellationToken,
    fate: Fate,
}

impl Core {
    fn is_over(&self) -> bool {
        self.fate.cut.is_cancelled() || self.fate.leave.is_cancelled() || self.closed.is_cancelled()
    }
}

fn deliveries(
    core: Arc<Core>,
    who: &'static str,
    mut from: BoxStream<'static, Delivery>,
) -> BoxStream<'static, Result<Delivery>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (network, fate, closed) = (core.seat.network.clone(), core.fate.clone(), core.closed.clone());
    let weak = Arc::downgrade(&core);
    tokio::spawn(async move {
        let pushed = async {
            while let Some(mut delivery) = from.next().await {
                network.travel().await;
                if network.engine.lacks("leases") {
                    delivery.lease = None;
                }
                if sender.send(Ok(delivery)).is_err() {
                    return;
                }
            }
            network.in_turn(who).await;
            network.travel().await;
        };
        let forgotten = async {
            fate.forget.cancelled().await;
            if let Some(core) = weak.upgrade() {
                core.seat.forgotten().await;
            }
            // The connection stays, and nothing comes over it.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = closed.cancelled() => return,
            () = fate.cut.cancelled() => {}
            () = sender.closed() => return,
            () = forgotten => return,
            // In order: it ends without an error.
            () = fate.leave.cancelled() => return network.travel().await,
            () = pushed => return,
        }
        let _ = sender.send(Err(Error::new(ErrorKind::Interrupted, "the link was cut")));
    });
    let state = (core, receiver, false);
    futures::stream::unfold(state, |(core, mut receiver, over)| async move {
        if over {
            return None;
        }
        let item = receiver.recv().await?;
        let over = item.is_err();
        Some((item, (core, receiver, over)))
    })
    .boxed()
}

struct Way {
    core: Arc<Core>,
    ended: AtomicBool,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Way")
    }
}

#[async_trait]
impl Transport for Way {
    async fn call(&self, command: Command) -> Result<Reply> {
        let name = command.name();
        if self.ended.load(Ordering::Relaxed) || self.core.is_over() {
            return Err(Error::new(ErrorKind::Closed, format!("{name}: the link has ended")));
        }
        let network = self.core.seat.network.clone();
        network.ledger.sent(&command);
        let (broker, peer, cut) =
            (self.core.seat.broker.clone(), self.core.seat.peer.clone(), self.core.fate.cut.clone());
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
            () = self.core.fate.cut.cancelled() => {}
            reply = answered => if let Ok(reply) = reply { return reply },
            () = self.core.closed.cancelled() => {}
        }
        Err(Error::new(ErrorKind::Interrupted, format!("{name}: the link was cut before the answer came")))
    }

    fn abort(&self, _cause: Error) {
        // The engine hears of it when the last handle is gone: see `Seat`.
        self.ended.store(true, Ordering::Relaxed);
        self.core.closed.cancel();
    }

    async fn close(&self) {
        self.ended.store(true, Ordering::Relaxed);
        let Seat { network, broker, peer } = &self.core.seat;
        let goodbye = async {
            network.travel().await;
            broker.logout(peer).await;
        };
        tokio::select! {
            biased;
            () = self.core.fate.cut.cancelled() => {}
            () = goodbye => {}
        }
        self.core.closed.cancel();
    }
}
