//! A nats-server of a test's own.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::Nats;

pub(super) struct Server {
    place: TempDir,
    pub(super) port: u16,
    process: Child,
}

/// Where nats-server is. `None`, with a line to standard error, where this machine does not have it, or the tests were not asked for:
/// processes that are started hold the locks of data directories for a moment, at which the tests beside these would fail.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PROGRAM.get_or_init(|| {
        let Ok(asked) = std::env::var("ENSYNC_CLUSTER") else {
            return skipped("ENSYNC_CLUSTER is not set; ENSYNC_CLUSTER=required cargo test --workspace --lib log::jetstream runs them");
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cluster/setup");
        let output = Command::new(&script).stdin(Stdio::null()).output().unwrap();
        let last = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().last().unwrap_or_default().to_owned();
        match output.status.code() {
            Some(0) => Some(PathBuf::from(last(&output.stdout))),
            Some(3) => {
                let reason = last(&output.stderr);
                assert!(asked != "required", "nats-server is required: {reason}");
                skipped(&reason)
            }
            _ => panic!("{} failed:\n{}", script.display(), String::from_utf8_lossy(&output.stderr)),
        }
    });
    found.as_deref()
}

/// Not with eprintln, which the test harness would keep to itself.
fn skipped(reason: &str) -> Option<PathBuf> {
    _ = std::io::stderr().write_all(format!("\nskipped, {reason}\n").as_bytes());
    None
}

impl Server {
    pub(super) async fn start() -> Option<Self> {
        Self::start_with("jetstream { store_dir: \"STORE\" }").await
    }

    /// With other lines in its configuration; `STORE` stands for a directory.
    pub(super) async fn start_with(configuration: &str) -> Option<Self> {
        Self::start_and(configuration, true).await
    }

    /// One that nobody can look into without a login: it is ready when it listens.
    pub(super) async fn start_ready_without(configuration: &str) -> Option<Self> {
        Self::start_and(configuration, false).await
    }

    async fn start_and(configuration: &str, look: bool) -> Option<Self> {
        let program = program()?;
        let place = tempfile::tempdir().unwrap();
        let store = place.path().join("store").display().to_string();
        std::fs::write(place.path().join("conf"), configuration.replace("STORE", &store)).unwrap();
        // Somebody else may take the port first: then another.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut process = run(program, place.path(), port);
            if ready(&mut process, port, look).await {
                return Some(Self { place, port, process });
            }
            _ = process.kill();
            _ = process.wait();
        }
        panic!("nats-server does not start: {}", std::fs::read_to_string(place.path().join("log")).unwrap_or_default());
    }

    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(super) async fn connect(&self) -> Nats {
        Nats::connect(&self.url()).await.unwrap()
    }

    /// As kill -9 does.
    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, with what it has stored.
    pub(super) async fn start_again(&mut self) {
        for _ in 0..10 {
            self.process = run(program().unwrap(), self.place.path(), self.port);
            if ready(&mut self.process, self.port, true).await {
                return;
            }
        }
        panic!("nats-server does not start again");
    }

    /// Has it stand still, or go on.
    pub(super) fn stand_still(&self, still: bool) {
        let signal = if still { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&self.process), signal).unwrap();
        // The signal takes a moment, in which it would still answer.
        let state = format!("/proc/{}/stat", self.process.id());
        let stopped = |state: &str| state.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'));
        while std::fs::read_to_string(&state).is_ok_and(|state| stopped(&state) != still) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn run(program: &Path, place: &Path, port: u16) -> Child {
    let log = std::fs::File::create(place.join("log")).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(place.join("conf")).args(["-a", "127.0.0.1", "-p", &port.to_string()]);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// Whether it runs, and is ready.
async fn ready(process: &mut Child, port: u16, look: bool) -> bool {
    for _ in 0..1_000 {
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            if !look {
                return true;
            }
            // It listens before JetStream is there.
            let client = async_nats::connect(format!("127.0.0.1:{port}")).await;
            let context = client.map(async_nats::jetstream::new);
            match context {
                Ok(context) if !context.client().server_info().jetstream => return true,
                Ok(context) if context.query_account().await.is_ok() => return true,
                _ => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}
