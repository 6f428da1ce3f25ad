//! A published client in a process of its own, under remote control.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Notify, mpsc};

use crate::world::{World, eventually, soon};

/// One of the published clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PyPI ensync-sdk 0.4.4: gRPC, the "message" methods.
    Grpc044,
    /// PyPI ensync-sdk 0.3.3: gRPC, the "event" methods.
    Grpc033,
    /// The WebSocket client of PyPI ensync-sdk 0.3.3.
    WebSocket033,
    /// PyPI ensync-sdk-ws 0.4.3.
    WebSocket043,
    /// npm ensync-client-sdk 0.0.18: WebSocket.
    Node,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Grpc044, Self::Grpc033, Self::WebSocket033, Self::WebSocket043, Self::Node];

    /// What the README calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc044 => "ensync-sdk 0.4.4",
            Self::Grpc033 => "ensync-sdk 0.3.3, gRPC",
            Self::WebSocket033 => "ensync-sdk 0.3.3, WebSocket",
            Self::WebSocket043 => "ensync-sdk-ws 0.4.3",
            Self::Node => "ensync-client-sdk 0.0.18",
        }
    }

    pub fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc044 | Self::Grpc033)
    }

    pub fn is_python(self) -> bool {
        self != Self::Node
    }

    fn command(self, clients: &Path) -> Command {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/peers");
        let venv = match self {
            Self::Grpc044 => "ensync-sdk-0.4.4",
            Self::Grpc033 | Self::WebSocket033 => "ensync-sdk-0.3.3",
            Self::WebSocket043 => "ensync-sdk-ws-0.4.3",
            Self::Node => {
                let mut command = Command::new("node");
                command.env("NODE_PATH", clients.join("node/node_modules")).arg(scripts.join("drive.js"));
                return command;
            }
        };
        let mut command = Command::new(clients.join(venv).join("bin/python"));
        command.arg(scripts.join("drive.py")).arg(self.name());
        command
    }
}

/// The process. It ends with this value.
pub struct Peer {
    pub kind: Kind,
    _child: Child,
    stdin: ChildStdin,
    answers: mpsc::UnboundedReceiver<Result<Value, String>>,
    events: mpsc::UnboundedReceiver<Value>,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Notify,
}

impl Peer {
    pub fn spawn(kind: Kind, clients: &Path) -> Self {
        let mut command = kind.command(clients);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (answer, answers) = mpsc::unbounded_channel();
        let (event, events) = mpsc::unbounded_channel();
        let log = Arc::new(Log::default());
        let written = log.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{kind:?} said {line:?}"));
                if let Some(said) = line.get("log") {
                    written.lines.lock().unwrap().push(said.as_str().unwrap().to_owned());
                    written.more.notify_one();
                } else if let Some(error) = line.get("error") {
                    _ = answer.send(Err(error.as_str().unwrap().to_owned()));
                } else if let Some(said) = line.get_mut("event") {
                    _ = event.send(said.take());
                } else {
                    _ = answer.send(Ok(line["ok"].take()));
                }
            }
        });
        Self { kind, _child: child, stdin, answers, events, log }
    }

    /// Has the client do something: what, and with what, is in the scripts.
    pub async fn call(&mut self, what: &str, mut with: Value) -> Result<Value, String> {
        with["do"] = what.into();
        soon(what, async {
            self.stdin.write_all(format!("{with}\n").as_bytes()).await.unwrap();
            self.answers.recv().await.unwrap_or_else(|| panic!("{:?} has ended", self.kind))
        })
        .await
    }

    /// The same, of something that must go well.
    pub async fn ask(&mut self, what: &str, with: Value) -> Value {
        let answer = self.call(what, with).await;
        answer.unwrap_or_else(|error| panic!("{:?}: {what}: {error}\n{}", self.kind, self.log.all()))
    }

    /// What a handler is called with next.
    pub async fn event(&mut self) -> Value {
        let what = format!("an event at {:?}", self.kind);
        soon(&what, self.events.recv()).await.unwrap_or_else(|| panic!("{:?} has ended", self.kind))
    }

    /// Whether a handler was called and [`event`](Self::event) has not told it yet.
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// Waits for a line of the client's log with `part` in it.
    pub async fn logged(&self, part: &str) -> String {
        soon(&format!("{part:?} in the log of {:?}", self.kind), self.log.line(part)).await
    }

    /// What a handler is called with next, or else a line of the client's log with `part` in it.
    pub async fn event_or_logged(&mut self, part: &str) -> Result<Value, String> {
        let Self { kind, events, log, .. } = self;
        let either = async {
            tokio::select! {
                event = events.recv() => Ok(event.unwrap_or_else(|| panic!("{kind:?} has ended"))),
                line = log.line(part) => Err(line),
            }
        };
        soon(&format!("an event at {kind:?}, or {part:?} in its log"), either).await
    }

    /// Forgets what the client has logged.
    pub fn forget_log(&self) {
        self.log.lines.lock().unwrap().clear();
    }

    /// A new client of the peer's app, logged in.
    pub async fn log_in(&mut self, world: &World) {
        self.new_client(world).await;
        self.ask("login", world.peer.login()).await;
    }

    /// A new client of the peer's app, logged in and subscribed.
    pub async fn subscribe(&mut self, world: &World, name: &str, auto_ack: bool) {
        let subscription = json!({"name": name, "auto_ack": auto_ack});
        if self.kind == Kind::Grpc044 {
            // It only opens streams for handlers that it had before it logged in.
            self.new_client(world).await;
            self.ask("subscribe", subscription).await;
            self.ask("login", world.peer.login()).await;
        } else {
            self.log_in(world).await;
            self.ask("subscribe", subscription).await;
        }
        if self.kind == Kind::WebSocket043 {
            self.ask("send_sub", json!({"name": name})).await;
        }
        eventually("the subscription at the engine", async || world.queue(name).await.consumers == 1).await;
        if self.kind.is_python() {
            self.ask("watch", json!({"name": name})).await;
        }
        if self.kind == Kind::Grpc044 {
            // A subscription's first control method opens another stream, which takes the place of the first. Done with here.
            self.ask("resume", json!({"name": name})).await;
            assert_eq!(self.ask("listener", json!({"name": name})).await, "returned");
            self.ask("watch", json!({"name": name})).await;
        }
    }

    /// Forgets the client there was, and makes another one.
    pub async fn new_client(&mut self, world: &World) {
        self.forget_log();
        while self.events.try_recv().is_ok() {}
        let url = if self.kind.is_grpc() { world.grpc_url() } else { world.ws_url() };
        self.ask("new", json!({"url": url})).await;
    }

    pub async fn close(&mut self) {
        self.ask("close", json!({})).await;
    }
}

impl Log {
    /// Waits for a line with `part` in it.
    async fn line(&self, part: &str) -> String {
        loop {
            let found = self.lines.lock().unwrap().iter().find(|line| line.contains(part)).cloned();
            match found {
                Some(line) => return line,
                None => self.more.notified().await,
            }
        }
    }

    fn all(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}
