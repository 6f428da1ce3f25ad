//! An engine that does what a test's script says, one call at a time, and notes what it was asked.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ensync_client::core::{
    AppId, AppKey, Block, ClientId, Command, Connector, Delivery, Endpoint, Error, ErrorKind, EventId, EventName,
    Extension, Link, Metadata, Reply, Result, SecretKey, ServerConfig, Settlement, Welcome, WirePayload,
};
use ensync_client::{Client, Custom, Engine};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::link::{self, Far, Inbox};

/// What becomes of a call.
pub(crate) enum Answer {
    /// What fits the command.
    Done,
    With(Reply),
    No(ErrorKind),
    /// A refusal in words of its own.
    Says(&'static str),
    /// Any error.
    Fails(Error),
    /// None, ever.
    Never,
    After(Duration, Box<Answer>),
}

type Script = Box<dyn FnMut(usize, &Command) -> Answer + Send>;
type Logins = Box<dyn FnMut(usize) -> Result<(), ErrorKind> + Send>;

/// One call, as the engine saw it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Counted from 1.
    pub(crate) link: usize,
    pub(crate) command: Command,
}

pub(crate) struct Scripted {
    script: Mutex<Script>,
    logins: Mutex<Logins>,
    pub(crate) calls: Mutex<Vec<Call>>,
    /// When each login was tried.
    pub(crate) tried: Mutex<Vec<Instant>>,
    links: Mutex<Vec<Wires>>,
    extensions: &'static [Extension],
    app: Mutex<Option<AppId>>,
    /// Whether a gateway in between refuses logins.
    gateway: AtomicBool,
    /// Whether somebody in between answers heartbeats.
    heartbeats: AtomicBool,
    /// How many bytes it has sent, if that is counted.
    sent: Mutex<Option<u64>>,
}

/// What a test can do to a link.
struct Wires {
    inbox: Inbox,
    ended: mpsc::UnboundedSender<(EventName, Error)>,
    over: CancellationToken,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    pub(crate) fn new(script: impl FnMut(usize, &Command) -> Answer + Send + 'static) -> Arc<Self> {
        Self::with(Extension::ALL, script)
    }

    pub(crate) fn with(
        extensions: &'static [Extension],
        script: impl FnMut(usize, &Command) -> Answer + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(Box::new(script)),
            logins: Mutex::new(Box::new(|_| Ok(()))),
            calls: Mutex::default(),
            tried: Mutex::default(),
            links: Mutex::default(),
            extensions,
            app: Mutex::default(),
            gateway: AtomicBool::new(false),
            heartbeats: AtomicBool::new(false),
            sent: Mutex::default(),
        })
    }

    /// What becomes of a login, by how many were tried before.
    pub(crate) fn logins(&self, logins: impl FnMut(usize) -> Result<(), ErrorKind> + Send + 'static) {
        *self.logins.lock().unwrap() = Box::new(logins);
    }

    /// Logins are refused on the way to it from now on, by somebody else.
    pub(crate) fn behind_a_gateway(&self) {
        self.gateway.store(true, Ordering::Relaxed);
    }

    /// Heartbeats are answered on the way to it, as pings are.
    pub(crate) fn heartbeats_are_answered_on_the_way(&self) {
        self.heartbeats.store(true, Ordering::Relaxed);
    }

    /// What the engine calls the app from the next login on.
    pub(crate) fn calls_the_app(&self, app: AppId) {
        *self.app.lock().unwrap() = Some(app);
    }

    /// So many bytes of something come from it, which is not whole yet.
    pub(crate) fn sends(&self, bytes: u64) {
        *self.sent.lock().unwrap().get_or_insert_default() += bytes;
    }

    pub(crate) fn engine(self: &Arc<Self>) -> Engine<Custom> {
        Engine::with_connector(Endpoint::parse("grpc://engine").unwrap(), Arc::new(Door(self.clone())))
    }

    pub(crate) async fn client(self: &Arc<Self>) -> Client {
        self.engine().create_client("key").await.unwrap()
    }

    /// How many calls of a name there were.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.of(name).len()
    }

    pub(crate) fn of(&self, name: &str) -> Vec<Call> {
        self.calls.lock().unwrap().iter().filter(|call| call.command.name() == name).cloned().collect()
    }

    /// Pushes an event over the newest link.
    pub(crate) fn push(&self, delivery: Delivery) {
        let links = self.links.lock().unwrap();
        let _ = links.last().unwrap().inbox.send(Ok(delivery));
    }

    /// Ends a subscription of the newest link by itself.
    pub(crate) fn end_subscription(&self, event: &str, error: Error) {
        let links = self.links.lock().unwrap();
        let _ = links.last().unwrap().ended.send((event.parse().unwrap(), error));
    }

    /// Ends a link in order, or with an error.
    pub(crate) fn end(&self, link: usize, error: Option<ErrorKind>) {
        let links = self.links.lock().unwrap();
        let Wires { inbox, over, .. } = &links[link - 1];
        if let Some(kind) = error {
            let _ = inbox.send(Err(Error::new(kind, "the link failed")));
        }
        over.cancel();
    }

    /// Whether a link was ended, by either side.
    pub(crate) fn is_over(&self, link: usize) -> bool {
        self.links.lock().unwrap()[link - 1].over.is_cancelled()
    }

    pub(crate) fn links(&self) -> usize {
        self.links.lock().unwrap().len()
    }
}

#[derive(Debug)]
struct Door(Arc<Scripted>);

#[async_trait]
impl Connector for Door {
    async fn connect(&self, _: &Endpoint, _: &AppKey) -> Result<Link> {
        let tried = {
            let mut tried = self.0.tried.lock().unwrap();
            tried.push(Instant::now());
            tried.len() - 1
        };
        let outcome = (self.0.logins.lock().unwrap())(tried);
        outcome.map_err(|kind| {
            let refused = Error::new(kind, "the login was refused");
            if self.0.gateway.load(Ordering::Relaxed) { refused.said_on_the_way() } else { refused }
        })?;
        let (ended, to_tell) = mpsc::unbounded_channel();
        let over = CancellationToken::new();
        let mut links = self.0.links.lock().unwrap();
        let number = links.len() + 1;
        let extensions: Vec<_> = self.0.extensions.iter().map(|extension| extension.name()).collect();
        let welcome = Welcome {
            client_id: ClientId::parse(&format!("client-{number}")).unwrap(),
            app_id: *self.0.app.lock().unwrap(),
            config: [(ServerConfig::EXTENSIONS, extensions.join("+"))].into_iter().collect(),
        };
        let end = End { engine: self.0.clone(), number, to_tell: to_tell.into() };
        let (link, inbox) = link::open(Arc::new(end), welcome, over.clone());
        links.push(Wires { inbox, ended, over });
        Ok(link)
    }
}

/// The engine's end of one link.
struct End {
    engine: Arc<Scripted>,
    number: usize,
    to_tell: tokio::sync::Mutex<mpsc::UnboundedReceiver<(EventName, Error)>>,
}

#[async_trait]
impl Far for End {
    async fn call(&self, command: Command) -> Result<Reply> {
        let call = Call { link: self.number, command: command.clone() };
        self.engine.calls.lock().unwrap().push(call);
        let mut answer = (self.engine.script.lock().unwrap())(self.number, &command);
        loop {
            match answer {
                Answer::Done => return Ok(fitting(&command)),
                Answer::With(reply) => return Ok(reply),
                Answer::No(kind) => return Err(Error::new(kind, "refused by the script")),
                Answer::Says(words) => return Err(Error::from_refusal(words)),
                Answer::Fails(error) => return Err(error),
                Answer::Never => std::future::pending().await,
                Answer::After(wait, then) => {
                    tokio::time::sleep(wait).await;
                    answer = *then;
                }
            }
        }
    }

    fn bytes_sent(&self) -> Option<u64> {
        *self.engine.sent.lock().unwrap()
    }

    fn answers_heartbeats(&self) -> bool {
        !self.engine.heartbeats.load(Ordering::Relaxed)
    }

    async fn ended_subscription(&self) -> (EventName, Error) {
        match self.to_tell.lock().await.recv().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }
}

fn fitting(command: &Command) -> Reply {
    match command {
        Command::Publish(_) => Reply::Published { id: EventId::parse("stored").unwrap() },
        Command::Settle(settle) => match settle.how {
            Settlement::Extend => Reply::Extended { lease: None },
            Settlement::Defer { .. } => Reply::Deferred { until: None },
            _ => Reply::Done,
        },
        _ => Reply::Done,
    }
}

pub(crate) fn delivery(event: &str, id: &str, block: u64) -> Delivery {
    Delivery {
        event: event.parse().unwrap(),
        id: id.parse().unwrap(),
        block: Block::new(block).unwrap(),
        payload: WirePayload::from_wire("AAAA"),
        metadata: Metadata::default(),
        sender: None,
        recipient: None,
        timestamp: None,
        attempt: NonZeroU32::new(1).map(Into::into),
        lease: None,
    }
}

/// Somebody to publish to.
pub(crate) fn somebody() -> AppId {
    SecretKey::generate().unwrap().app_id().unwrap()
}
