//! The engine: a process with a data directory, and what can be seen of it from outside.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use ensync_sdk::Client;

use crate::common::{self, Announced, Keys};

/// Small enough that retention is at work for most of the run.
pub(crate) struct Sizes {
    pub(crate) segment: u64,
    pub(crate) checkpoint: u64,
    pub(crate) retention: u64,
}

impl Sizes {
    pub(crate) fn for_run(duration: Duration) -> Self {
        if duration < Duration::from_secs(300) {
            Self { segment: 256 << 10, checkpoint: 1 << 20, retention: 2 << 20 }
        } else {
            Self { segment: 16 << 20, checkpoint: 16 << 20, retention: 256 << 20 }
        }
    }

    /// What a log may take whose queues are nearly empty: what retention allows, what two checkpoints hold back, and segments that
    /// are begun or made ahead; each with room for what is written while the engine looks after it.
    pub(crate) fn bound(&self) -> u64 {
        2 * self.retention + 6 * self.checkpoint + 8 * self.segment
    }
}

pub(crate) struct Process {
    child: Child,
    place: tempfile::TempDir,
    /// gRPC, WebSocket.
    pub(crate) urls: Vec<String>,
    pub(crate) admin: String,
    pub(crate) token: String,
    pub(crate) keys: Keys,
}

impl Process {
    pub(crate) fn start(sizes: &Sizes, events: &[&str], dedup_window: Duration) -> Self {
        let place = tempfile::tempdir().unwrap();
        let config = place.path().join("ensync.toml");
        let mut text = String::new();
        writeln!(
            text,
            "data = {:?}\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"",
            place.path().join("data")
        )
        .unwrap();
        writeln!(text, "[storage]\nsegment_size = \"{}B\"\ncheckpoint_size = \"{}B\"", sizes.segment, sizes.checkpoint)
            .unwrap();
        writeln!(text, "retention_size = \"{}B\"", sizes.retention).unwrap();
        writeln!(text, "[deduplication]\nwindow = \"{}ms\"", dedup_window.as_millis()).unwrap();
        fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ensync"));
        command.args(["serve", "--app", "shop", "--app", "stock", "--config"]).arg(config);
        for event in events {
            command.args(["--event", event]);
        }
        let log = fs::File::create(place.path().join("engine.log")).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let Announced { urls, admin, keys } = Announced::read(child.stdout.take().unwrap());
        let token = fs::read_to_string(place.path().join("data").join("admin.token")).unwrap().trim().to_owned();
        let process = Self { child, place, urls, admin, token, keys };
        assert_eq!((process.urls.len(), process.keys.len()), (2, 2), "{}", process.log());
        process
    }

    pub(crate) async fn client(&self, app: &str, url: &str) -> Client {
        common::client(&self.keys, app, url).await
    }

    /// What it said on standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("engine.log")).unwrap()
    }

    /// Memory that is resident, in bytes; `None` where the system does not tell.
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    }

    /// The files of the data directory, in bytes.
    pub(crate) fn disk(&self) -> u64 {
        // A file may go between the listing and the look at it.
        files(&self.place.path().join("data")).iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum()
    }

    /// Stops it as a service manager does.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        let status = self.child.wait().unwrap();
        (status, self.log())
    }
}

/// Also where the test fails: no engine outlives it.
impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Those in folders, too.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
