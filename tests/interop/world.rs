//! An engine that can be restarted, the apps it knows, and our own clients.

use std::net::SocketAddr;
use std::time::Duration;

use ensync_engine::{DeadLetter, EventOptions, MemoryLog, QueueStats, Server, ServerBuilder};
use ensync_sdk::{AppId, AppKey, Client, Engine, Event, SecretKey, Subscription};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// How long anything may take before the test fails: a bound against hanging, not a measurement.
const PATIENCE: Duration = Duration::from_secs(60);

/// An app, whose keys outlive an engine's memory.
pub struct App {
    pub id: AppId,
    key: AppKey,
    secret: SecretKey,
}

impl App {
    fn new(name: &str) -> Self {
        let secret = SecretKey::generate().unwrap();
        let id = secret.app_id().unwrap();
        Self { id, key: AppKey::parse(&format!("key-of-{name}-{}", id.to_hex())).unwrap(), secret }
    }

    /// The credentials, as the scripts take them.
    pub fn login(&self) -> Value {
        json!({"key": self.key.expose(), "secret": *self.secret.to_base64().unwrap()})
    }
}

/// How an engine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// It says goodbye.
    InOrder,
    /// As a process that is killed: its connections are cut.
    Killed,
}

pub struct World {
    server: Server,
    /// The engine's own, so that it can be killed.
    runtime: Option<Runtime>,
    log: MemoryLog,
    address: SocketAddr,
    /// The published client's app.
    pub peer: App,
    /// Our apps, of which one speaks gRPC and one WebSocket.
    pub ours: [App; 2],
    /// An app that nobody logs in as.
    pub bystander: App,
}

impl World {
    pub async fn start() -> Self {
        let log = MemoryLog::new();
        let (server, runtime) = start(log.clone(), None).await;
        let address = server.addresses().next().unwrap();
        let [peer, grpc, ws, bystander] = ["peer", "grpc", "ws", "bystander"].map(App::new);
        for app in [&peer, &grpc, &ws, &bystander] {
            server.broker().create_app_with_key(&app.id.to_hex()[..8], app.id, &app.key).await.unwrap();
        }
        Self { server, runtime: Some(runtime), log, address, peer, ours: [grpc, ws], bystander }
    }

    /// Ends the engine, and starts one on the same log at the same address.
    pub async fn restart(&mut self, ends: Ends) {
        if ends == Ends::InOrder {
            self.server.shutdown().await;
        }
        let runtime = self.runtime.take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.unwrap();
        self.log = self.log.reopen();
        let (server, runtime) = soon("the engine's restart", start(self.log.clone(), Some(self.address))).await;
        (self.server, self.runtime) = (server, Some(runtime));
    }

    pub fn grpc_url(&self) -> String {
        self.server.grpc_url()
    }

    pub fn ws_url(&self) -> String {
        self.server.ws_url()
    }

    /// A client of ours as one of `ours`, over its transport.
    pub async fn client(&self, which: usize) -> Client {
        let url = [self.grpc_url(), self.ws_url()][which].clone();
        let engine = Engine::new(&url).unwrap().reconnect_interval(Duration::from_millis(20));
        let app = &self.ours[which];
        soon("our login", engine.create_client(&app.key).app_secret_key(&app.secret).into_future()).await.unwrap()
    }

    /// Both.
    pub async fn clients(&self) -> [Client; 2] {
        [self.client(0).await, self.client(1).await]
    }

    /// Makes another app the peer, and gives the one that was.
    pub async fn next_peer(&mut self, name: &str) -> App {
        let peer = std::mem::replace(&mut self.peer, App::new("peer"));
        self.server.broker().create_app_with_key(name, self.peer.id, &self.peer.key).await.unwrap();
        peer
    }

    pub async fn register(&self, name: &str, options: EventOptions) {
        self.server.register_event(name, options).await.unwrap();
    }

    /// How the peer's queue stands.
    pub async fn queue(&self, name: &str) -> QueueStats {
        self.queue_of(&self.peer, name).await
    }

    pub async fn queue_of(&self, app: &App, name: &str) -> QueueStats {
        eventually(name, async || self.server.queue(name, app.id).await.unwrap().is_some()).await;
        self.server.queue(name, app.id).await.unwrap().unwrap()
    }

    /// The peer's dead letters of an event name.
    pub async fn dead_letters(&self, name: &str) -> Vec<DeadLetter> {
        let name = name.parse().unwrap();
        self.server.broker().dead_letters(Some(name), Some(self.peer.id), 10).await.unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A runtime must not be waited for in another one.
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// An engine in a runtime of its own.
async fn start(log: MemoryLog, address: Option<SocketAddr>) -> (Server, Runtime) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.spawn(async move {
        let engine = || address.into_iter().fold(Server::dev(), ServerBuilder::listen);
        loop {
            match engine().logs(log.clone()).start().await {
                Ok(server) => return server,
                Err(error) if address.is_none() => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    (server.await.unwrap(), runtime)
}

/// The next event of ours.
pub async fn next(events: &mut Subscription) -> Event {
    soon("an event of ours", events.next()).await.expect("the subscription ended").expect("the subscription failed")
}

/// The outcome of `future`, or a failed test if it takes too long.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Waits until a condition of the engine's holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
