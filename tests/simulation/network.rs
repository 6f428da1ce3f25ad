//! The way to a broker of the same process: a network that fails on demand, and the doors of the engine.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::{AppKey, Connector, Endpoint, Error, ErrorKind, Link, Result, ServerConfig, Welcome};
use ensync_engine::Broker;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::ledger::Ledger;
use crate::{direct, web_socket};

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
    /// The engine says in words of its own that it cannot now.
    Restarting,
}

/// How a client speaks with the engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Over {
    /// Calls that know nothing of each other, as gRPC has them.
    Direct,
    /// The WebSocket client as it is: answers carry no id.
    WebSocket,
}

pub struct Network {
    broker: Mutex<Broker>,
    random: Mutex<fastrand::Rng>,
    pub over: Over,
    pub engine: Engine,
    pub door: Mutex<Door>,
    /// The longest way, in milliseconds.
    pub latency: AtomicU64,
    /// While it stands still, what ends that. No watch channel: it wakes in random order.
    stalled: Mutex<Option<CancellationToken>>,
    cut: Mutex<CancellationToken>,
    leave: Mutex<CancellationToken>,
    forget: Mutex<CancellationToken>,
    /// Who ends the streams of a link, in the order in which the links were made.
    streams: Mutex<Vec<mpsc::UnboundedSender<()>>>,
    pub ledger: Arc<Ledger>,
}

/// What can happen to a connection.
#[derive(Clone)]
pub struct Fate {
    /// The network breaks it.
    pub cut: CancellationToken,
    /// The engine ends it in order: what is under way is answered, nothing new is taken.
    pub leave: CancellationToken,
    /// The engine forgets the session, and says nothing.
    pub forget: CancellationToken,
}

impl Network {
    pub fn new(broker: Broker, engine: Engine, over: Over, random: fastrand::Rng, ledger: Arc<Ledger>) -> Arc<Self> {
        Arc::new(Self {
            broker: Mutex::new(broker),
            random: Mutex::new(random),
            over,
            engine,
            door: Mutex::new(Door::Open),
            latency: AtomicU64::new(20),
            stalled: Mutex::default(),
            cut: Mutex::default(),
            leave: Mutex::default(),
            forget: Mutex::default(),
            streams: Mutex::default(),
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

    /// Ends every link in order.
    pub fn leave(&self) {
        std::mem::take(&mut *self.leave.lock().unwrap()).cancel();
    }

    /// The engine forgets every session.
    pub fn forget(&self) {
        std::mem::take(&mut *self.forget.lock().unwrap()).cancel();
    }

    /// Something in between ends streams of subscriptions, while their links go on.
    pub fn end_streams(&self) {
        self.streams.lock().unwrap().retain(|link| link.send(()).is_ok());
    }

    /// Tells a link when it is to end streams.
    pub fn ends_streams(&self) -> mpsc::UnboundedReceiver<()> {
        let (link, told) = mpsc::unbounded_channel();
        self.streams.lock().unwrap().push(link);
        told
    }

    /// Nothing passes any more in either direction, and nobody is told; or it passes again.
    pub fn stall(&self, stalled: bool) {
        let token = stalled.then(CancellationToken::new);
        if let Some(over) = std::mem::replace(&mut *self.stalled.lock().unwrap(), token) {
            over.cancel();
        }
    }

    pub fn chance(&self, percent: u8) -> bool {
        self.random.lock().unwrap().u8(0..100) < percent
    }

    /// One way through the network.
    pub async fn travel(&self) {
        let most = self.latency.load(Ordering::Relaxed);
        let way = self.random.lock().unwrap().u64(0..=most);
        tokio::time::sleep(Duration::from_millis(way)).await;
        self.flows().await;
    }

    /// Waits until something passes.
    pub async fn flows(&self) {
        loop {
            let stalled = self.stalled.lock().unwrap().clone();
            match stalled {
                Some(over) => over.cancelled().await,
                None => return,
            }
        }
    }

    /// An engine that stops ends its sessions in whatever order, which is not to decide what a seed does: each in its turn.
    pub async fn in_turn(&self, who: &str) {
        tokio::time::sleep(Duration::from_millis(who.len() as u64)).await;
    }

    fn fate(&self) -> Fate {
        let now = |token: &Mutex<CancellationToken>| token.lock().unwrap().clone();
        Fate { cut: now(&self.cut), leave: now(&self.leave), forget: now(&self.forget) }
    }

    /// What a login is answered, without the extensions that the engine lacks.
    pub fn shown(&self, welcome: Welcome) -> Welcome {
        let config = welcome.config.iter().map(|(key, value)| match key {
            ServerConfig::EXTENSIONS => {
                let kept: Vec<_> = value.split('+').filter(|name| !self.engine.lacks(name)).collect();
                (key.to_owned(), kept.join("+"))
            }
            _ => (key.to_owned(), value.to_owned()),
        });
        Welcome { config: config.collect(), ..welcome }
    }

    /// What the engine says to who comes, if it does not let him in.
    pub fn refusal(&self) -> Option<Error> {
        let door = *self.door.lock().unwrap();
        match door {
            Door::Full => Some(Error::new(ErrorKind::LimitExceeded, "too many sessions")),
            Door::Restarting => {
                self.ledger.met("login refused by reply");
                Some(Error::new(ErrorKind::Unavailable, "Service restarting, try again"))
            }
            _ => None,
        }
    }
}

/// Connects one person's client through a network.
#[derive(Clone)]
pub struct Wire(pub Arc<Network>, pub &'static str);

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

#[async_trait]
impl Connector for Wire {
    async fn connect(&self, to: &Endpoint, app_key: &AppKey) -> Result<Link> {
        let Self(network, who) = self;
        let (fate, door) = (network.fate(), *network.door.lock().unwrap());
        match door {
            Door::Mute => std::future::pending().await,
            Door::Shut => {
                network.travel().await;
                return Err(Error::new(ErrorKind::Connect, "nobody listens"));
            }
            Door::Open | Door::Full | Door::Restarting => {}
        }
        let cut = fate.cut.clone();
        let opened = async {
            match network.over {
                Over::Direct => direct::connect(network, who, fate, app_key).await,
                Over::WebSocket => web_socket::connect(network, who, fate, to, app_key).await,
            }
        };
        tokio::select! {
            biased;
            () = cut.cancelled() => Err(Error::new(ErrorKind::Connect, "cut during the login")),
            link = opened => link,
        }
    }
}
