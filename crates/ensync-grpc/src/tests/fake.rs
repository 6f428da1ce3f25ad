//! An engine that records, and a server around it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ensync_client::Dialer;
use ensync_core::*;
use futures::StreamExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tower_service::Service as _;

use crate::{Connection, GrpcConnector, GrpcServer, ServerOptions, server};

pub(super) const KEY: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";
pub(super) const REMOTE: ([u8; 4], u16) = ([192, 0, 2, 7], 4711);

/// What the fake engine was told.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    Login(Option<SocketAddr>),
    Command(Command),
    Logout,
}

pub(super) struct Fake {
    told: mpsc::UnboundedSender<Told>,
    inboxes: Mutex<HashMap<ClientId, mpsc::UnboundedSender<Delivery>>>,
    logins: AtomicUsize,
    extensions: String,
    /// Lets a publish of "held" be answered.
    pub(super) go: Notify,
}

/// A fake engine and its gRPC service.
pub(super) struct Engine {
    pub(super) fake: Arc<Fake>,
    pub(super) server: GrpcServer,
    told: mpsc::UnboundedReceiver<Told>,
}

impl Engine {
    pub(super) fn start() -> Self {
        Self::start_with(ServerOptions::default())
    }

    /// One that has no extensions.
    pub(super) fn start_plain() -> Self {
        Self::announcing(String::new(), ServerOptions::default())
    }

    pub(super) fn start_with(options: ServerOptions) -> Self {
        Self::announcing(Extension::announcement(), options)
    }

    fn announcing(extensions: String, options: ServerOptions) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let fake = Arc::new(Fake {
            told: tell,
            inboxes: Mutex::default(),
            logins: AtomicUsize::new(0),
            extensions,
            go: Notify::new(),
        });
        let server = server(fake.clone(), options);
        Self { fake, server, told }
    }

    /// A connection to the engine, and the task that serves it.
    pub(super) fn open(&self) -> (DuplexStream, JoinHandle<()>) {
        let (server, connection) = (self.server.clone(), Connection::new(Some(REMOTE.into())));
        serve(move |mut request| {
            request.extensions_mut().insert(connection.clone());
            let mut server = server.clone();
            async move { server.call(request).await.unwrap() }
        })
    }

    /// A logged-in link; the login is not told any more.
    pub(super) async fn link(&mut self) -> (Link, JoinHandle<()>) {
        let (stream, serving) = self.open();
        let link = connect(stream).await.unwrap();
        assert!(matches!(self.told().await, Told::Login(_)));
        (link, serving)
    }

    /// What the engine is told next.
    pub(super) async fn told(&mut self) -> Told {
        self.told.recv().await.unwrap()
    }

    pub(super) async fn command(&mut self) -> Command {
        match self.told().await {
            Told::Command(command) => command,
            other => panic!("told {other:?}"),
        }
    }

    /// The session's end. What its streams had may be handed back before it.
    pub(super) async fn logout(&mut self) {
        loop {
            match self.told().await {
                Told::Logout => return,
                Told::Command(Command::Unsubscribe { .. } | Command::Release { .. }) => {}
                other => panic!("told {other:?}"),
            }
        }
    }

    /// The name of what it was told next.
    pub(super) async fn command_or_login(&mut self) -> &'static str {
        match self.told().await {
            Told::Command(command) => command.name(),
            Told::Login(_) => "login",
            Told::Logout => "logout",
        }
    }

    /// What more it was told by now.
    pub(super) fn told_by_now(&mut self) -> Option<Told> {
        self.told.try_recv().ok()
    }

    /// Whether nothing more was told by now.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.told.try_recv().is_err()
    }
}

impl Fake {
    /// Pushes to the session of the n-th login, from 1.
    pub(super) fn push(&self, session: usize, delivery: Delivery) {
        self.inboxes.lock().unwrap()[&client_id(session)].send(delivery).unwrap();
    }

    /// Ends a session from the engine's side.
    pub(super) fn end(&self, session: usize) {
        self.inboxes.lock().unwrap().remove(&client_id(session)).unwrap();
    }
}

#[async_trait]
impl Service for Fake {
    async fn login(&self, login: Login) -> Result<Session> {
        assert_eq!(login.transport, "grpc");
        if login.app_key.expose() != "good" {
            return Err(Error::new(ErrorKind::Unauthenticated, "no such key"));
        }
        let client_id = client_id(self.logins.fetch_add(1, Ordering::Relaxed) + 1);
        let (sender, receiver) = mpsc::unbounded_channel();
        self.inboxes.lock().unwrap().insert(client_id.clone(), sender);
        self.told.send(Told::Login(login.remote)).unwrap();
        let app_id = AppId::parse(KEY)?;
        Ok(Session {
            peer: Peer { client_id: client_id.clone(), app_id },
            inbox: futures::stream::unfold(
                receiver,
                |mut receiver| async move { Some((receiver.recv().await?, receiver)) },
            )
            .boxed(),
            welcome: Welcome {
                client_id,
                app_id: None,
                config: [("k", "v"), (ServerConfig::EXTENSIONS, &self.extensions)].into_iter().collect(),
            },
        })
    }

    async fn handle(&self, peer: &Peer, command: Command) -> Result<Reply> {
        assert_eq!(peer.app_id, AppId::parse(KEY)?);
        let _ = self.told.send(Told::Command(command.clone()));
        match command {
            Command::Publish(publish) => match publish.event.as_str() {
                "refused" => Err(Error::new(ErrorKind::SchemaMismatch, "no: field a")),
                "slow" => futures::future::pending().await,
                "held" => {
                    self.go.notified().await;
                    Ok(Reply::Published { id: EventId::parse("i-held")? })
                }
                _ => Ok(Reply::Published { id: EventId::parse("i-1")? }),
            },
            Command::Release { event } if event.as_str() == "held" => {
                self.go.notified().await;
                Ok(Reply::Done)
            }
            Command::Subscribe(subscribe) if subscribe.event.as_str() == "unknown" => {
                Err(Error::new(ErrorKind::UnknownEvent, "unknown is not registered"))
            }
            Command::Settle(Settle { how: Settlement::Defer { delay, .. }, .. }) => {
                Ok(Reply::Deferred { until: Some(Timestamp::from_millis(1_000).after(delay.get())) })
            }
            Command::Settle(Settle { how: Settlement::Extend, .. }) => {
                Ok(Reply::Extended { lease: Some(Duration::from_millis(1_500)) })
            }
            Command::Settle(Settle { block: Some(block), .. }) if block.as_u64() == 99 => {
                Err(Error::new(ErrorKind::StaleDelivery, "another has it"))
            }
            Command::Replay { id, event } if event.as_str() == "large" => Ok(Reply::Replayed(Box::new(Delivery {
                id,
                payload: WirePayload::from_wire("A".repeat(2 << 20)),
                lease: None,
                ..delivery("large", 3)
            }))),
            Command::Replay { id, event } if event.as_str() == "huge" => Ok(Reply::Replayed(Box::new(Delivery {
                id,
                payload: WirePayload::from_wire("A".repeat(5 << 20)),
                lease: None,
                ..delivery("huge", 3)
            }))),
            Command::Replay { id, event } => {
                Ok(Reply::Replayed(Box::new(Delivery { id, lease: None, ..delivery(event.as_str(), 3) })))
            }
            _ => Ok(Reply::Done),
        }
    }

    async fn logout(&self, _: &Peer) {
        let _ = self.told.send(Told::Logout);
    }
}

pub(super) fn client_id(session: usize) -> ClientId {
    ClientId::parse(&format!("session-{session}")).unwrap()
}

/// A delivery with every field set.
pub(crate) fn delivery(event: &str, block: u64) -> Delivery {
    Delivery {
        event: name(event),
        id: EventId::parse(&format!("i-{block}")).unwrap(),
        block: Block::new(block).unwrap(),
        payload: WirePayload::from_wire("e30="),
        metadata: Metadata::parse(r#"{"headers":{"h":1.0},"persist":true}"#).unwrap(),
        sender: Some(AppId::parse(KEY).unwrap()),
        recipient: Some(AppId::from_bytes([7; 32])),
        timestamp: Some(Timestamp::from_millis(1_758_410_511_179)),
        attempt: Some(2),
        // Of a lease travels what is left: see `wire`.
        lease: None,
    }
}

pub(crate) fn name(event: &str) -> EventName {
    EventName::parse(event).unwrap()
}

pub(super) fn subscribe(event: &str) -> Command {
    Command::Subscribe(Subscribe { event: name(event), max_in_flight: None, max_bytes_in_flight: None })
}

pub(super) fn publish(event: &str) -> Command {
    Command::Publish(Publish {
        event: name(event),
        recipient: AppId::from_bytes([7; 32]),
        payload: WirePayload::from_wire("e30="),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: None,
    })
}

pub(super) fn endpoint() -> Endpoint {
    Endpoint::parse("grpc://test").unwrap()
}

pub(super) async fn connect(stream: DuplexStream) -> Result<Link> {
    connect_with("good", stream).await
}

pub(super) async fn connect_with(app_key: &str, stream: DuplexStream) -> Result<Link> {
    let app_key = AppKey::parse(app_key).unwrap();
    GrpcConnector::new(Dialer::default()).connect_over(stream, &endpoint(), &app_key).await
}

/// Serves one HTTP/2 connection.
pub(super) fn serve<F, R>(answer: F) -> (DuplexStream, JoinHandle<()>)
where
    F: Fn(http::Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = http::Response<tonic::body::Body>> + Send + 'static,
{
    serve_until(std::future::pending(), answer)
}

/// The same; says goodbye (GOAWAY) when told to stop, and finishes what is under way.
pub(super) fn serve_until<F, R>(
    stop: impl Future<Output = ()> + Send + 'static,
    answer: F,
) -> (DuplexStream, JoinHandle<()>)
where
    F: Fn(http::Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = http::Response<tonic::body::Body>> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move {
        let service = hyper::service::service_fn(move |request| {
            let answer = answer(request);
            async move { Ok::<_, std::convert::Infallible>(answer.await) }
        });
        let connection =
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(far), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    });
    (near, serving)
}
