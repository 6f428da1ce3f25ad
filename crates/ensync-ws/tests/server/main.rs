//! The server half, spoken to in raw frames over an in-memory stream, with a service that follows a script.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic in a test's helper is a failed test, too"
)]

mod commands;
mod http;
mod session;
mod signs;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::{
    AppId, Block, ClientId, Command, Delivery, Error, ErrorKind, EventId, EventName, Login, Metadata, Peer, Reply,
    Result, Service, Session, Settlement, Timestamp, Welcome, WirePayload,
};
use ensync_ws::{ServerOptions, serve_stream};
use futures::channel::{mpsc, oneshot};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Answers at once, except for the names that somebody holds back.
#[derive(Default)]
struct Script {
    /// Commands about these names wait for their word.
    held: Mutex<HashMap<String, oneshot::Receiver<()>>>,
    /// What was done, in order.
    done: Mutex<Vec<String>>,
    /// Where to push deliveries; dropping it ends the session.
    inbox: Mutex<Option<mpsc::UnboundedSender<Delivery>>>,
    /// Told at logout.
    logout: Mutex<Option<oneshot::Sender<()>>>,
}

impl Script {
    fn hold(&self, name: &str) -> oneshot::Sender<()> {
        let (release, held) = oneshot::channel();
        self.held.lock().unwrap().insert(name.to_owned(), held);
        release
    }

    fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    fn push(&self, delivery: Delivery) {
        self.inbox.lock().unwrap().as_ref().unwrap().unbounded_send(delivery).unwrap();
    }

    fn on_logout(&self) -> oneshot::Receiver<()> {
        let (said, heard) = oneshot::channel();
        *self.logout.lock().unwrap() = Some(said);
        heard
    }
}

#[async_trait]
impl Service for Script {
    async fn login(&self, login: Login) -> Result<Session> {
        assert_eq!(login.transport, "ws");
        match login.app_key.expose() {
            "good" => {}
            "misconfigured" => {
                let config = [("motd", "a,b")].into_iter().collect();
                return Ok(Session {
                    peer: Peer { client_id: ClientId::parse("c-1").unwrap(), app_id: AppId::from_bytes([1; 32]) },
                    inbox: futures::stream::pending().boxed(),
                    welcome: Welcome { client_id: ClientId::parse("c-1").unwrap(), app_id: None, config },
                });
            }
            _ => return Err(Error::new(ErrorKind::Unauthenticated, "no such key")),
        }
        let (push, inbox) = mpsc::unbounded();
        *self.inbox.lock().unwrap() = Some(push);
        let peer = Peer { client_id: ClientId::parse("c-1").unwrap(), app_id: AppId::from_bytes([1; 32]) };
        let welcome = Welcome { client_id: peer.client_id.clone(), app_id: None, config: Default::default() };
        Ok(Session { peer, inbox: inbox.boxed(), welcome })
    }

    async fn handle(&self, _: &Peer, command: Command) -> Result<Reply> {
        let name = match &command {
            Command::Continue { event } | Command::Replay { event, .. } | Command::Pause { event, .. } => {
                event.to_string()
            }
            Command::Settle(settle) => settle.id.to_string(),
            other => other.name().to_owned(),
        };
        let held = self.held.lock().unwrap().remove(&name);
        if let Some(held) = held {
            let _ = held.await;
        }
        self.done.lock().unwrap().push(name.clone());
        match command {
            Command::Replay { .. } => Ok(Reply::Replayed(Box::new(delivery("replayed")))),
            Command::Settle(settle) if matches!(settle.how, Settlement::Defer { .. }) => {
                Ok(Reply::Deferred { until: Some(Timestamp::from_millis(7)) })
            }
            _ if name.starts_with("unknown") => Err(Error::new(ErrorKind::UnknownEvent, format!("no event {name}"))),
            _ => Ok(Reply::Published { id: EventId::parse(&name).unwrap() }),
        }
    }

    async fn logout(&self, peer: &Peer) {
        assert_eq!(peer.client_id.expose(), "c-1");
        self.done.lock().unwrap().push("logout".into());
        if let Some(said) = self.logout.lock().unwrap().take() {
            let _ = said.send(());
        }
    }
}

fn delivery(id: &str) -> Delivery {
    Delivery {
        event: EventName::parse("a").unwrap(),
        id: EventId::parse(id).unwrap(),
        block: Block::new(1).unwrap(),
        payload: WirePayload::from_wire("e30="),
        metadata: Metadata::default(),
        sender: None,
        recipient: None,
        timestamp: None,
        attempt: None,
        lease: None,
    }
}

struct Client<S = DuplexStream> {
    socket: WebSocketStream<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next message. Nothing that is awaited takes as long as this waits, and paused time waits no time: so what does not come
    /// is a failure, not a test that hangs.
    async fn next(&mut self) -> Option<Message> {
        let next = timeout(Duration::from_secs(60), self.socket.next()).await;
        next.expect("nothing came within a minute").map(Result::unwrap)
    }

    async fn hear(&mut self) -> String {
        match self.next().await.unwrap() {
            Message::Text(text) => text.to_string(),
            other => panic!("{other:?}"),
        }
    }

    async fn log_in(&mut self) {
        self.say("CONN;ACCESS_KEY=:good").await;
        assert_eq!(self.hear().await, "+PASS:{clientId=c-1}");
    }

    /// Reads on to the close frame, and to the end of the stream.
    async fn ends_with(&mut self) -> (CloseCode, String) {
        let close = loop {
            match self.next().await.unwrap() {
                Message::Close(Some(close)) => break close,
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(self.next().await.is_none());
        (close.code, close.reason.to_string())
    }
}

async fn start(options: ServerOptions) -> (Client, Arc<Script>, JoinHandle<()>) {
    let script = Arc::new(Script::default());
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let server = tokio::spawn(serve_stream(theirs, None, script.clone(), options));
    let socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
    (Client { socket }, script, server)
}

async fn logged_in() -> (Client, Arc<Script>, JoinHandle<()>) {
    let (mut client, script, server) = start(ServerOptions::default()).await;
    client.log_in().await;
    (client, script, server)
}

fn ask(name: &str) -> String {
    format!("CONTINUE;CLIENT_ID=:c-1;EVENT_NAME=:{name}")
}
