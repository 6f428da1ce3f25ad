//! A disk that is full.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use ensync_sdk::core::report;
use ensync_sdk::{AppId, Client, ErrorKind, Event, Result};
use futures::{Stream, StreamExt};
use tokio::time::{Duration, timeout};

use crate::common::Keys;
use crate::ledger::{Ledger, Settlement};
use crate::load::Payload;
use crate::process::{Process, address, ensync, output, recipient, recipients, sender};
use crate::{EVENT, PATIENCE};

const BALLAST: usize = 512 << 10;
/// How long a publish is tried again that finds no space.
const REFUSED: Duration = Duration::from_secs(5);

/// A small disk, in a namespace that a process holds open.
struct Disk {
    holder: Child,
    directory: PathBuf,
}

impl Disk {
    /// Why not, if this machine does not allow it.
    fn mount(directory: PathBuf) -> std::result::Result<Self, String> {
        let script = r#"mount -t tmpfs -o size=3m tmpfs "$0" && echo mounted && exec cat"#;
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script]).arg(&directory).stdin(Stdio::piped());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let holder = child.map_err(|cause| format!("unshare does not run: {cause}"))?;
        let mut disk = Self { holder, directory };
        let mut line = String::new();
        BufReader::new(disk.holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "mounted\n" {
            let mut said = String::new();
            disk.holder.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            return Err(format!("unshare -rm: {}", said.trim()));
        }
        Ok(disk)
    }

    /// Runs a command where the disk is mounted.
    fn inside(&self) -> Option<Command> {
        let mut command = Command::new("nsenter");
        command.args(["--preserve-credentials", "--user", "--mount", "--target"]).arg(self.holder.id().to_string());
        Some(command)
    }

    /// The same directory as other processes see it.
    fn outside(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.directory.strip_prefix("/").unwrap())
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.holder.kill().unwrap();
        self.holder.wait().unwrap();
    }
}

/// Whom an event of some number is for. Whatever is done with every fourth is done with some of each partition.
fn to(keys: &Keys, n: u64) -> AppId {
    let all = recipients(keys);
    address(keys, &all[n as usize / 4 % all.len()])
}

/// Clients of all recipients, and their events.
async fn all_events(url: &str, keys: &Keys) -> (Vec<Client>, impl Stream<Item = Result<Event>> + Unpin) {
    let (mut readers, mut all) = (Vec::new(), Vec::new());
    for app in &recipients(keys) {
        let reader = recipient(url, keys, app).await;
        all.push(reader.subscribe(EVENT).max_in_flight(10_000).await.unwrap());
        readers.push(reader);
    }
    (readers, futures::stream::select_all(all))
}

/// Publishes until it is refused.
async fn fill(client: &Client, keys: &Keys, ledger: &Ledger) {
    loop {
        let n = ledger.number();
        let payload = Payload { n, fill: "x".repeat(6_000) };
        let Err(error) = client.publish(EVENT, &payload).to(to(keys, n)).timeout(REFUSED).await else {
            ledger.accept(n);
            continue;
        };
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", report(&error));
        assert!(report(&error).contains("disk has no space"), "{}", report(&error));
        assert!(!error.may_have_happened());
        return;
    }
}

/// Publishes until it is accepted.
async fn recover(client: &Client, keys: &Keys, ledger: &Ledger) {
    let again = async {
        let n = ledger.number();
        let payload = Payload { n, fill: "x".repeat(6_000) };
        while let Err(error) = client.publish(EVENT, &payload).to(to(keys, n)).timeout(PATIENCE).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", report(&error));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ledger.accept(n);
    };
    timeout(PATIENCE, again).await.expect("the engine goes on once there is space");
}

/// Takes in what comes and acknowledges some of it, until it has done so often enough or nothing is owed. Tells how many
/// acknowledgements were refused, which only a disk without any space does.
async fn acknowledge(url: &str, keys: &Keys, (every, most): (u64, usize), ledger: &Ledger) -> usize {
    let (_readers, mut events) = all_events(url, keys).await;
    let (mut acked, mut refused) = (0, 0);
    while acked < most && !ledger.owed().is_empty() {
        let next = timeout(PATIENCE, events.next()).await;
        let event = next.unwrap_or_else(|_| panic!("lost: {:?}", ledger.owed())).unwrap().unwrap();
        let n = event.payload::<Payload>().unwrap().n;
        ledger.receive(n, event.id().to_string());
        if !n.is_multiple_of(every) {
            event.leave();
            continue;
        }
        ledger.attempt(n, Settlement::Ack);
        match event.ack().await {
            Ok(()) => {
                ledger.answer(n, None);
                acked += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", report(&error));
                ledger.refuse(n);
                refused += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_acknowledgements_go_on_and_with_space_everything_does() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("disk");
    fs::create_dir(&directory).unwrap();
    match Disk::mount(directory) {
        Ok(disk) => full_and_free_again(&disk).await,
        Err(reason) => {
            assert!(std::env::var_os("ENSYNC_INTEROP").is_none_or(|value| value != "required"), "{reason}");
            // Not with eprintln, which the test harness would keep to itself.
            _ = writeln!(std::io::stderr(), "\nskipped, no small disk can be mounted here: {reason}");
        }
    }
}

async fn full_and_free_again(disk: &Disk) {
    let ballast = disk.outside().join("ballast");
    fs::write(&ballast, vec![1; BALLAST]).unwrap();
    let (mut keys, ledger) = (Keys::new(), Arc::new(Ledger::default()));
    let start = |keys: &mut Keys| Process::spawn(Process::command(disk.inside(), &disk.data()), keys);
    let process = start(&mut keys);
    let (publisher, reader) = (sender(&process.urls[0], &keys).await, &process.urls[1]);
    fill(&publisher, &keys, &ledger).await;
    let first = ledger.accepted();
    assert!(first > 40, "{first}");
    // Of every fourth event: no part of the log becomes free by that.
    assert_eq!(acknowledge(reader, &keys, (4, 40), &ledger).await, 0, "there is room for acknowledgements");
    let acked = ledger.count(|entry| entry.is_settled(Settlement::Ack));
    assert_eq!(acked, 40);

    process.kill();
    verify(disk);
    let process = start(&mut keys);
    let (publisher, reader) = (sender(&process.urls[1], &keys).await, &process.urls[0]);
    fill(&publisher, &keys, &ledger).await;
    let second = ledger.accepted();
    fs::remove_file(&ballast).unwrap();
    recover(&publisher, &keys, &ledger).await;
    fill(&publisher, &keys, &ledger).await;
    let third = ledger.accepted();
    assert!(third > second + 20, "the space is used: {second}, {third}");

    // Full again; now it is the consumer who makes space.
    let owed = ledger.owed().len();
    let refused = acknowledge(reader, &keys, (1, usize::MAX), &ledger).await;
    recover(&publisher, &keys, &ledger).await;
    acknowledge(reader, &keys, (1, usize::MAX), &ledger).await;
    process.kill();
    verify(disk);
    println!(
        "full after {first} events, {acked} acknowledged while full; {second} after a kill and a start; {third} with more space; \
         {owed} owed then and acknowledged ({refused} refusals on the way); published again; {} accepted, 0 lost",
        ledger.accepted()
    );
}

fn verify(disk: &Disk) {
    let mut command = ensync(disk.inside());
    command.args(["store", "verify", "--data"]).arg(disk.data());
    output(command);
}
