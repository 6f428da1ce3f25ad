//! Copied while it runs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use ensync_engine::store;
use futures::StreamExt;
use tokio::time::timeout;

use crate::common::Keys;
use crate::kills::dead_letters;
use crate::ledger::{Entry, Ledger, Settlement};
use crate::load::{Load, Payload};
use crate::process::{Process, ensync, output, recipient, recipients};
use crate::{EVENT, PATIENCE};

const BACKUPS: usize = 3;

/// What a backup has to hold.
struct Promise {
    /// Events that were accepted before it began, and not settled before it ended.
    owed: BTreeSet<u64>,
    /// Events that were acknowledged before it began.
    acked: BTreeSet<u64>,
    /// Dead letters, by their ids, that were before it began.
    dead: BTreeSet<String>,
}

/// Takes a backup.
async fn back_up(data: &Path, to: &Path, ledger: &Ledger) -> Promise {
    let which = |wanted: &dyn Fn(&Entry) -> bool| -> BTreeSet<u64> {
        ledger.entries().iter().filter(|(_, entry)| wanted(entry)).map(|(n, _)| *n).collect()
    };
    let owed = which(&Entry::is_owed);
    let acked = which(&|entry| entry.is_settled(Settlement::Ack));
    let dead =
        ledger.entries().values().filter(|entry| entry.is_settled(Settlement::Discard)).cloned().collect::<Vec<_>>();
    let mut command = ensync(None);
    command.args(["backup", "--data"]).arg(data).arg("--to").arg(to);
    let said = tokio::task::spawn_blocking(|| output(command)).await.unwrap();
    assert!(said.contains("the backup is in"), "{said}");
    let owed = owed.intersection(&which(&Entry::is_owed)).copied().collect();
    Promise { owed, acked, dead: dead.into_iter().map(|entry| entry.id).collect() }
}

/// Starts an engine from a backup.
async fn check(backup: &Path, data: &Path, keys: &mut Keys, promise: &Promise) {
    let mut command = ensync(None);
    command.args(["restore", "--from"]).arg(backup).arg("--data").arg(data);
    output(command);
    assert!(store::verify(data).await.unwrap().damage.is_empty());
    let dead = dead_letters(data);
    assert!(dead.is_superset(&promise.dead), "no dead letters: {:?}", promise.dead.difference(&dead));
    let process = Process::start(data, keys);
    let (mut readers, mut all) = (Vec::new(), Vec::new());
    for app in &recipients(keys) {
        let reader = recipient(&process.urls[0], keys, app).await;
        all.push(reader.subscribe(EVENT).max_in_flight(10_000).await.unwrap());
        readers.push(reader);
    }
    let mut events = futures::stream::select_all(all);
    let mut owed = promise.owed.clone();
    while !owed.is_empty() {
        let next = timeout(PATIENCE, events.next()).await;
        let event = next.unwrap_or_else(|_| panic!("not in the backup: {owed:?}")).unwrap().unwrap();
        let n = event.payload::<Payload>().unwrap().n;
        assert!(!promise.acked.contains(&n), "{n} came back: it was acknowledged before the backup began");
        owed.remove(&n);
        event.ack().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_holds_what_was_accepted_before() {
    let place = tempfile::tempdir().unwrap();
    let (data, mut keys, ledger) = (place.path().join("data"), Keys::new(), Arc::new(Ledger::default()));
    let process = Process::start(&data, &mut keys);
    let load = Load::start(&process, &keys, &ledger).await;
    let mut promises = Vec::new();
    for index in 0..BACKUPS {
        load.run(200, &ledger).await;
        let to = place.path().join(format!("backup-{index}"));
        let before = ledger.accepted();
        let promise = back_up(&data, &to, &ledger).await;
        println!(
            "backup {index}: {before} accepted before it and {} during it; {} owed, {} acknowledged, {} dead letters",
            ledger.accepted() - before,
            promise.owed.len(),
            promise.acked.len(),
            promise.dead.len()
        );
        promises.push((to, promise));
    }
    process.kill();
    load.stop().await;
    assert!(promises.iter().any(|(_, promise)| !promise.owed.is_empty() && !promise.dead.is_empty()));
    for (index, (to, promise)) in promises.iter().enumerate() {
        check(to, &place.path().join(format!("restored-{index}")), &mut keys, promise).await;
    }
}
