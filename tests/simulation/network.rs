//! Links to a broker of the same process, with a network in between that fails on demand.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::{
    AppKey, Command, Connector, Delivery, Endpoint, Error, ErrorKind, Link, Login, Peer, Reply, Result, ServerConfig,
    Service, Transport,
};
use ensync_engine::Broker;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;

/// What a new connection meets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Door {
    Open,
    /// Nobody listens.
    Shut,
    /// Accepted, never answered.
    Mute,
    /// The engine says that it is full.
    Full,
}

pub struct Network {
    broker: Mutex<Broker>,
    random: Mutex<fastrand::Rng>,
    pub door: Mutex<Door>,
    /// The longest way, in milliseconds.
    pub latency: AtomicU64,
    /// While it stands still, what ends that. No watch channel: it wakes in random order.
    stalled: Mutex<Option<CancellationToken>>,
    cut: Mutex<CancellationToken>,
    /// Announcements that are kept from the clients.
    hidden: &'static [&'static str],
    ledger: Arc<Ledger>,
}

impl Network {
    pub fn new(
        broker: Broker,
        random: fastrand::Rng,
        hidden: &'static [&'static str],
        ledger: Arc<Ledger>,
    ) -> Arc<Self> {
        Arc::new(Self {
            broker: Mutex::new(broker),
            random: Mutex::new(random),
            door: Mutex::new(Door::Open),
            latency: AtomicU64::new(20),
            stalled: Mutex::default(),
            cut: Mutex::default(),
            hidden,
            ledger,
        })
    }

    pub fn set_broker(&self, broker: Broker) {
        *self.broker.lock().unwrap() = broker;
    }

    pub fn broker(&self) -> Broker {
        self.broker.lock().unwrap().clone()
    }

    /// Breaks every link.
    pub fn cut(&self) {
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }

    /// Nothing passes any more in either direction, and nobody is told; or it passes again.
    pub fn stall(&self, stalled: bool) {
        let token = stalled.then(CancellationToken::new);
        if let Some(over) = std::mem::replace(&mut *self.stalled.lock().unwrap(), token) {
            over.cancel();
        }
    }

    pub fn hides(&self, extension: &str) -> bool {
        self.hidden.contains(&extension)
    }

    fn chance(&self, percent: u8) -> bool {
        self.random.lock().unwrap().u8(0..100) < percent
    }

    /// One way through the network.
    async fn travel(&self) {
        let most = self.latency.load(Ordering::Relaxed);
        let way = self.random.lock().unwrap().u64(0..=most);
        tokio::time::sleep(Duration::from_millis(way)).await;
        loop {
            let stalled = self.stalled.lock().unwrap().clone();
            match stalled {
                Some(over) => over.cancelled().await,
                None => return,
            }
        }
    }
}

/// Connects through a network.
#[derive(Clone)]
pub struct Wire(pub Arc<Network>);

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

#[async_trait]
impl Connector for Wire {
    async fn connect(&self, _: &Endpoint, app_key: &AppKey) -> Result<Link> {
        let network = self.0.clone();
        let cut = network.cut.lock().unwrap().clone();
        let door = *network.door.lock().unwrap();
        match door {
            Door::Open => {}
            Door::Mute => std::future::pending().await,
            Door::Shut => {
                network.travel().await;
                return Err(Error::new(ErrorKind::Connect, "nobody listens"));
            }
            Door::Full => {
                network.travel().await;
                return Err(Error::new(ErrorKind::LimitExceeded, "too many sessions"));
            }
        }
        let broken = || Error::new(ErrorKind::Connect, "cut during the login");
        let opened = async {
            network.travel().await;
            let login = Login { app_key: app_key.clone(), transport: "sim", remote: None };
            let broker = network.broker();
            let session = broker.login(login).await?;
            let core = Arc::new(Core {
                network: network.clone(),
                broker,
                peer: session.peer,
                closed: <_>::default(),
                cut: cut.clone(),
            });
            network.travel().await;
            let shown = session.welcome.config.iter().map(|(key, value)| match key {
                ServerConfig::EXTENSIONS => {
                    let kept: Vec<_> = value.split('+').filter(|name| !network.hides(name)).collect();
                    (key.to_owned(), kept.join("+"))
                }
                _ => (key.to_owned(), value.to_owned()),
            });
            let config = shown.collect();
            let welcome = ensync_core::Welcome { config, ..session.welcome };
            let inbox = inbox(core.clone(), session.inbox);
            Ok(Link { transport: Arc::new(Way { core, ended: AtomicBool::new(false) }), inbox, welcome })
        };
        tokio::select! {
            biased;
            () = cut.cancelled() => Err(broken()),
            link = opened => link,
        }
    }
}

/// One connection, seen from both ends. The engine learns of its end some time after the last handle is gone, or it was cut.
struct Core {
    network: Arc<Network>,
    broker: Broker,
    peer: Peer,
    closed: CancellationToken,
    cut: CancellationToken,
}

impl Drop for Core {
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

impl Core {
    fn is_over(&self) -> bool {
        self.cut.is_cancelled() || self.closed.is_cancelled()
    }
}

fn inbox(core: Arc<Core>, mut from: BoxStream<'static, Delivery>) -> BoxStream<'static, Result<Delivery>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (network, cut, closed) = (core.network.clone(), core.cut.clone(), core.closed.clone());
    tokio::spawn(async move {
        let pushed = async {
            while let Some(mut delivery) = from.next().await {
                network.travel().await;
                if network.hides("leases") {
                    delivery.lease = None;
                }
                if sender.send(Ok(delivery)).is_err() {
                    return;
                }
            }
            network.travel().await;
        };
        tokio::select! {
            biased;
            () = closed.cancelled() => return,
            () = cut.cancelled() => {}
            () = sender.closed() => return,
            () = pushed => {}
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
    async fn call(&self, mut command: Command) -> Result<Reply> {
        if let Command::Subscribe(subscribe) = &mut command
            && self.core.network.hides("flow-control")
        {
            (subscribe.max_in_flight, subscribe.max_bytes_in_flight) = (None, None);
        }
        let name = command.name();
        let over = || Error::new(ErrorKind::Closed, format!("{name}: the link has ended"));
        if self.ended.load(Ordering::Relaxed) || self.core.is_over() {
            return Err(over());
        }
        let core = self.core.clone();
        // What is on its way when the link is cut arrives, or not.
        let arrives_anyway = core.network.chance(50);
        // A task of its own: a caller that gives up abandons the answer, not the command.
        let (answer, answered) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let (network, broker, peer, cut) =
                (core.network.clone(), core.broker.clone(), core.peer.clone(), core.cut.clone());
            drop(core);
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
            let reply = broker.handle(&peer, command).await;
            if answer.is_closed() || cut.is_cancelled() {
                network.ledger.lost_answers.fetch_add(1, Ordering::Relaxed);
            }
            network.travel().await;
            let _ = answer.send(reply);
        });
        tokio::select! {
            biased;
            () = self.core.cut.cancelled() => {}
            reply = answered => if let Ok(reply) = reply { return reply },
            () = self.core.closed.cancelled() => {}
        }
        Err(Error::new(ErrorKind::Interrupted, format!("{name}: the link was cut before the answer came")))
    }

    fn abort(&self, _cause: Error) {
        // The engine hears of it when the last handle is gone: see `Core`.
        self.ended.store(true, Ordering::Relaxed);
        self.core.closed.cancel();
    }

    async fn close(&self) {
        self.ended.store(true, Ordering::Relaxed);
        let goodbye = async {
            self.core.network.travel().await;
            self.core.broker.logout(&self.core.peer).await;
        };
        tokio::select! {
            biased;
            () = self.core.cut.cancelled() => {}
            () = goodbye => {}
        }
        self.core.closed.cancel();
    }
}
