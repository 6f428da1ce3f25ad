//! The engine, as a process that can be killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use ensync_sdk::{AppId, Client};
use sha2::{Digest, Sha256};

use crate::EVENT;
use crate::common::{self, Announced, Keys};

/// How many partitions the engines have: see `ENSYNC_PARTITIONS`.
pub(crate) fn partitions() -> usize {
    std::env::var("ENSYNC_PARTITIONS").ok().map_or(1, |n| n.parse().expect("ENSYNC_PARTITIONS: a number"))
}

/// Apps that may be recipients. Which partition has an app depends on its public key: of so many each has one.
fn candidates() -> impl Iterator<Item = String> {
    let count = if partitions() == 1 { 1 } else { 16 * partitions() };
    (0..count).map(|n| format!("stock-{n}"))
}

/// The apps that get events: one of each partition, in their order.
pub(crate) fn recipients(keys: &Keys) -> Vec<String> {
    let count = partitions();
    let of = |app: &String| {
        let hash: [u8; 32] = Sha256::digest(address(keys, app).as_bytes()).into();
        (u64::from_be_bytes(hash[..8].try_into().unwrap()) % count as u64) as usize
    };
    let first = |partition| candidates().find(|app| of(app) == partition).expect("an app of each partition");
    (0..count).map(first).collect()
}

/// So small that the log rolls, is saved and shrinks within a second of load.
const SETTINGS: [&str; 6] = [
    "storage.segment_size=64KiB",
    "storage.checkpoint_size=96KiB",
    "storage.retention_size=256KiB",
    "storage.retention_check=50ms",
    // What is left unsettled before each of many kills is no dead letter.
    "defaults.max_deliveries=100000",
    "limits.max_in_flight=100000",
];

pub(crate) struct Process {
    child: Child,
    /// gRPC, WebSocket.
    pub(crate) urls: Vec<String>,
}

/// The command, without what this process's environment says. The launcher, if there is one, gets it as its last arguments.
pub(crate) fn ensync(launcher: Option<Command>) -> Command {
    let program = env!("CARGO_BIN_EXE_ensync");
    let mut command = match launcher {
        Some(mut launcher) => {
            launcher.arg(program);
            launcher
        }
        None => Command::new(program),
    };
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("ENSYNC_") || key == "RUST_LOG") {
        command.env_remove(key);
    }
    command.stdin(Stdio::null());
    command
}

/// Its standard output, once it has succeeded.
pub(crate) fn output(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}\n{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

impl Process {
    pub(crate) fn command(launcher: Option<Command>, data: &Path) -> Command {
        let mut command = ensync(launcher);
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--log-level", "error"]);
        command.args(["--app", "shop", "--event", EVENT, "--data"]).arg(data);
        for app in candidates() {
            command.args(["--app", &app]);
        }
        for setting in SETTINGS {
            command.args(["--set", setting]);
        }
        command.args(["--set", &format!("storage.partitions={}", partitions())]);
        command.stdout(Stdio::piped());
        command
    }

    /// Starts it and waits until it is ready. Keys that it prints are entered.
    pub(crate) fn start(data: &Path, keys: &mut Keys) -> Self {
        Self::spawn(Self::command(None, data), keys)
    }

    pub(crate) fn spawn(mut command: Command, keys: &mut Keys) -> Self {
        let mut process = Self { child: command.spawn().unwrap(), urls: Vec::new() };
        let announced = Announced::read(process.child.stdout.take().unwrap());
        process.urls = announced.urls;
        for (app, made) in announced.keys {
            assert!(keys.insert(app, made).is_none(), "keys are shown once");
        }
        let apps = 1 + candidates().count();
        assert_eq!((process.urls.len(), keys.len(), announced.admin.as_str()), (2, apps, ""));
        process
    }

    /// Starts it, and kills it before it may be ready.
    pub(crate) fn cut_short(data: &Path, random: &mut fastrand::Rng) {
        let mut command = Self::command(None, data);
        let process = Self { child: command.stdout(Stdio::null()).spawn().unwrap(), urls: Vec::new() };
        std::thread::sleep(std::time::Duration::from_millis(random.u64(0..100)));
        process.kill();
    }

    pub(crate) fn kill(self) {
        drop(self);
    }
}

/// Also where the test fails: no engine outlives it. On Unix this is SIGKILL.
impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub(crate) async fn sender(url: &str, keys: &Keys) -> Client {
    common::client(keys, "shop", url).await
}

pub(crate) async fn recipient(url: &str, keys: &Keys, app: &str) -> Client {
    common::client(keys, app, url).await
}

pub(crate) fn address(keys: &Keys, app: &str) -> AppId {
    keys[app]["ENSYNC_APP_ID"].parse().unwrap()
}
