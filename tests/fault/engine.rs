//! The engine that clients talk to: in this process, or in one of its own that can be killed.

use std::io::Read;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ensync_engine::{EventOptions, NewApp, Server};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Tells a process of this program to be an engine on that directory.
const DIRECTORY: &str = "ENSYNC_TEST_ENGINE";
/// Comes before the engine's address.
const READY: &str = "ready at ";
/// The lease of a delivery. Short, for a stalled connection holds what it got until then.
const LEASE: Duration = Duration::from_secs(3);

/// An engine with the apps and event names of a scenario.
pub enum Engine {
    Here(Server),
    Apart(Process),
}

/// Who publishes, and who reads.
pub struct Apps {
    pub shop: NewApp,
    pub warehouse: NewApp,
}

impl Engine {
    pub async fn here(events: &[String]) -> (Self, Apps) {
        let server = Server::builder().start().await.unwrap();
        let apps = provision(&server, events).await;
        (Self::Here(server), apps)
    }

    pub async fn apart(directory: &Path, events: &[String]) -> (Self, Apps) {
        let server = Server::builder().data_dir(directory).start().await.unwrap();
        let apps = provision(&server, events).await;
        server.shutdown().await;
        drop(server);
        (Self::Apart(Process::start(directory.to_owned()).await), apps)
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Here(server) => server.addresses().next().unwrap(),
            Self::Apart(process) => process.address,
        }
    }
}

async fn provision(server: &Server, events: &[String]) -> Apps {
    for event in events {
        let mut options = EventOptions::default();
        (options.ack_timeout, options.max_deliveries) = (Some(LEASE), NonZeroU32::new(1_000_000));
        server.register_event(event.as_str(), options).await.unwrap();
    }
    Apps { shop: server.create_app("shop").await.unwrap(), warehouse: server.create_app("warehouse").await.unwrap() }
}

/// This program once more, as an engine.
pub struct Process {
    child: Child,
    directory: PathBuf,
    address: SocketAddr,
}

impl Process {
    async fn start(directory: PathBuf) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "engine_process", "--nocapture"]).env(DIRECTORY, &directory);
        // Its input ends with this process, and it with its input.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("the engine's process ended");
            if let Some((_, address)) = line.split_once(READY) {
                break address.parse().unwrap();
            }
        };
        Self { child, directory, address }
    }

    /// SIGKILL, then the same directory again.
    pub async fn kill_and_restart(&mut self) {
        self.child.kill().await.unwrap();
        *self = Self::start(self.directory.clone()).await;
    }
}

/// The life of such a process.
pub fn serve_if_asked() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(Server::builder().data_dir(directory).start()).unwrap();
    println!("{READY}{}", server.addresses().next().unwrap());
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(0);
}
