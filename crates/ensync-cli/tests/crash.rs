//! The engine, killed at random moments: what it accepted is delivered, and what was acknowledged does not come back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may panic"
)]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensync_sdk::{Client, Engine};
use futures::StreamExt;
use tokio::sync::Notify;
use tokio::time::timeout;

const EVENT: &str = "crash/test/event";
/// A bound against hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the engine is killed; more with `ENSYNC_KILLS`.
fn kills() -> usize {
    std::env::var("ENSYNC_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(5)
}

struct Process {
    child: Child,
    /// gRPC, WebSocket.
    urls: Vec<String>,
}

impl Process {
    fn command(data: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ensync"));
        command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "off",
                "--app",
                "shop",
                "--event",
                EVENT,
                "--data",
            ])
            .arg(data);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Starts it and waits until it is ready. Keys that it prints are entered.
    fn start(data: &Path, keys: &mut HashMap<String, String>) -> Self {
        let mut process = Self { child: Self::command(data).spawn().unwrap(), urls: Vec::new() };
        let lines = BufReader::new(process.child.stdout.take().unwrap()).lines().map(Result::unwrap);
        for line in lines.take_while(|line| line != "# ready") {
            if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                assert!(keys.insert(key.to_owned(), value.to_owned()).is_none(), "keys are shown once");
            } else if line.contains("://") {
                process.urls = line.split_whitespace().filter(|word| word.contains("://")).map(str::to_owned).collect();
            }
        }
        assert_eq!((process.urls.len(), keys.len()), (2, 3));
        process
    }

    fn kill(self) {
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

async fn client(url: &str, keys: &HashMap<String, String>) -> Client {
    let engine = Engine::new(url).unwrap();
    let secret: ensync_sdk::SecretKey = keys["ENSYNC_SECRET_KEY"].parse().unwrap();
    engine.create_client(keys["ENSYNC_APP_KEY"].as_str()).app_secret_key(secret).await.unwrap()
}

/// What the engine said, and what became of it.
#[derive(Default)]
struct Ledger {
    next: AtomicU64,
    accepted: Mutex<BTreeSet<u64>>,
    /// An acknowledgement was sent.
    tried: Mutex<BTreeSet<u64>>,
    /// And answered.
    acked: Mutex<BTreeSet<u64>>,
    progress: Notify,
}

async fn publish(client: Client, to: ensync_sdk::AppId, ledger: Arc<Ledger>) {
    loop {
        let n = ledger.next.fetch_add(1, Ordering::Relaxed);
        if client.publish(EVENT, &n).to(to).await.is_ok() {
            ledger.accepted.lock().unwrap().insert(n);
            ledger.progress.notify_one();
        }
    }
}

/// Acknowledges two of three, or all.
async fn consume(client: Client, all: bool, delivered: tokio::sync::mpsc::UnboundedSender<u64>, ledger: Arc<Ledger>) {
    let mut events = client.subscribe(EVENT).await.unwrap();
    while let Some(Ok(event)) = events.next().await {
        let n: u64 = event.payload().unwrap();
        assert!(!ledger.acked.lock().unwrap().contains(&n), "{n} came back after its acknowledgement was answered");
        let _ = delivered.send(n);
        if all || !n.is_multiple_of(3) {
            ledger.tried.lock().unwrap().insert(n);
            if event.ack().await.is_ok() {
                ledger.acked.lock().unwrap().insert(n);
            }
        } else {
            // Dropped, it would come again at once.
            event.leave();
        }
    }
}

/// What a crash of the machine may leave of a write that nobody was answered.
fn tear(data: &Path, random: &mut fastrand::Rng) {
    let path = last_segment(data);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let end = end.next_multiple_of(8);
    // Half a frame as the engine writes them, which begins as one does.
    let torn = random.usize(1..500).min(end - 64);
    bytes.copy_within(64..64 + torn, end);
    fs::write(path, bytes).unwrap();
}

fn last_segment(data: &Path) -> std::path::PathBuf {
    let segments = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let used = |path: &std::path::PathBuf| fs::read(path).unwrap()[64..].iter().any(|byte| *byte != 0);
    segments.filter(|path| path.extension().is_some_and(|found| found == "log")).filter(used).max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accepted_event_is_lost_and_no_acknowledged_one_comes_back() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let (mut keys, mut random) = (HashMap::new(), fastrand::Rng::new());
    println!("seed {}", random.get_seed());
    let ledger = Arc::new(Ledger::default());
    let (delivered, mut deliveries) = tokio::sync::mpsc::unbounded_channel();
    let mut torn = 0;
    for _ in 0..kills() {
        let process = Process::start(&data, &mut keys);
        let to: ensync_sdk::AppId = keys["ENSYNC_APP_ID"].parse().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for url in &process.urls {
            for _ in 0..8 {
                tasks.spawn(publish(client(url, &keys).await, to, ledger.clone()));
            }
            tasks.spawn(consume(client(url, &keys).await, false, delivered.clone(), ledger.clone()));
        }
        let enough = ledger.accepted.lock().unwrap().len() + random.usize(1..300);
        while ledger.accepted.lock().unwrap().len() < enough {
            timeout(PATIENCE, ledger.progress.notified()).await.expect("publishes go on");
        }
        process.kill();
        tasks.abort_all();
        while let Some(ended) = tasks.join_next().await {
            assert!(ended.is_ok() || ended.unwrap_err().is_cancelled());
        }
        if random.bool() {
            tear(&data, &mut random);
            torn += 1;
        }
    }

    let process = Process::start(&data, &mut keys);
    let (accepted, tried, acked) = (&ledger.accepted, &ledger.tried, &ledger.acked);
    let accepted: BTreeSet<u64> = accepted.lock().unwrap().clone();
    // Where the answer to an acknowledgement was lost, the event may come or not.
    let mut expected: BTreeSet<u64> = accepted.difference(&tried.lock().unwrap()).copied().collect();
    let (acked_before, expected_before) = (acked.lock().unwrap().len(), expected.len());
    while deliveries.try_recv().is_ok() {}
    let reader = client(&process.urls[0], &keys).await;
    let consumer = tokio::spawn(consume(reader, true, delivered.clone(), ledger.clone()));
    let to: ensync_sdk::AppId = keys["ENSYNC_APP_ID"].parse().unwrap();
    let last = ledger.next.fetch_add(1, Ordering::Relaxed);
    client(&process.urls[1], &keys).await.publish(EVENT, &last).to(to).await.unwrap();
    expected.insert(last);
    let mut came = 0;
    while !expected.is_empty() {
        let next = timeout(PATIENCE, deliveries.recv()).await;
        let n = next.unwrap_or_else(|_| panic!("lost: {expected:?}")).unwrap();
        came += 1;
        expected.remove(&n);
        // The queue keeps its order, so nothing comes after the last one.
        assert!(n != last || expected.is_empty(), "lost: {expected:?}");
    }
    assert!(!consumer.is_finished());
    println!(
        "{} kills, {torn} torn ends: {} accepted, {acked_before} acknowledged, {expected_before} owed at the end, {came} delivered then, 0 lost, 0 came back",
        kills(),
        accepted.len()
    );
    process.kill();

    // A byte in the middle: it does not start, and says where.
    let path = last_segment(&data);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end / 2] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let output = Process::command(&data).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("damaged at byte") && said.contains("restore"), "{said}");
    assert!(fs::read(&path).unwrap() == bytes, "it was left as it is");
}
