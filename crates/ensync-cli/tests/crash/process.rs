//! The engine, as a process that can be killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use ensync_sdk::{AppId, Client};

use crate::EVENT;
use crate::common::{self, Announced, Keys};

/// How many partitions the engines have: see `ENSYNC_PARTITIONS`.
fn partitions() -> String {
    let partitions = std::env::var("ENSYNC_PARTITIONS").unwrap_or_else(|_| "1".to_owned());
    format!("storage.partitions={partitions}")
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
        command.args(["--app", "shop", "--app", "stock", "--event", EVENT, "--data"]).arg(data);
        for setting in SETTINGS {
            command.args(["--set", setting]);
        }
        command.args(["--set", &partitions()]);
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
        assert_eq!((process.urls.len(), keys.len(), announced.admin.as_str()), (2, 2, ""));
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

pub(crate) async fn recipient(url: &str, keys: &Keys) -> Client {
    common::client(keys, "stock", url).await
}

pub(crate) fn address(keys: &Keys) -> AppId {
    keys["stock"]["ENSYNC_APP_ID"].parse().unwrap()
}
