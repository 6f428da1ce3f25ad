use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ensync_core::{AppId, AppKey, Command, Login, Metadata, Publish, Reply, Service, Timestamp, WirePayload};

use crate::broker::{Broker, BrokerOptions, Retention, TokioClock};
use crate::log::{DiskOptions, Logs};
use crate::model::{EventOptions, partition_of};
use crate::store::{assess, repair, verify};

const TWO: NonZeroU32 = NonZeroU32::new(2).unwrap();

fn apps() -> impl Iterator<Item = AppId> {
    [26, 29, 53, 76, 123, 129, 131, 143].into_iter().map(|n| AppId::from_bytes([n; 32]))
}

async fn start(path: &Path) -> ensync_core::Result<Broker> {
    let options = DiskOptions { segment_bytes: 64 << 10, partitions: Some(TWO), ..DiskOptions::default() };
    Broker::start(BrokerOptions::dev(), Logs::open(path, options).await?).await
}

/// An event for each app.
async fn publish(broker: &Broker) {
    publish_text(broker, "e30=").await;
}

async fn publish_text(broker: &Broker, text: &str) {
    let app_key = AppKey::parse("key-0").unwrap();
    let session = broker.login(Login { app_key, transport: "local", remote: None }).await.unwrap();
    for recipient in apps() {
        let publish = Publish {
            event: "a/b".parse().unwrap(),
            recipient,
            payload: WirePayload::from_wire(text.to_owned()),
            metadata: Metadata::default(),
            payload_metadata: None,
            idempotency_key: None,
        };
        let reply = broker.handle(&session.peer, Command::Publish(publish)).await.unwrap();
        assert!(matches!(reply, Reply::Published { .. }));
    }
}

/// How many events wait for each app.
async fn waiting(broker: &Broker) -> BTreeMap<AppId, usize> {
    let queues = broker.queues().await.unwrap().into_iter();
    queues.map(|queue| (queue.recipient, queue.ready)).collect()
}

/// An engine with the apps.
async fn provisioned(path: &Path) -> Broker {
    let broker = start(path).await.unwrap();
    for (n, app) in apps().enumerate() {
        let key = AppKey::parse(&format!("key-{n}")).unwrap();
        broker.create_app_with_key(&format!("app {n}"), app, &key).await.unwrap();
    }
    broker
}

#[tokio::test]
async fn one_log_that_is_lost_is_no_loss_of_the_others() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data");
    let broker = provisioned(&path).await;
    publish(&broker).await;
    assert_eq!(waiting(&broker).await.len(), apps().count());
    broker.shutdown().await;
    let folder = path.join("partition-1");
    for empty in [false, true] {
        fs::remove_dir_all(&folder).unwrap();
        if empty {
            fs::create_dir(&folder).unwrap();
        }
        for error in [start(&path).await.unwrap_err(), verify(&path).await.unwrap_err()] {
            assert!(error.to_string().contains("store repair"), "{error}");
        }
        let assessed = assess(&path).await.unwrap();
        let [damage] = assessed.damage.as_slice() else { panic!("{assessed:?}") };
        assert_eq!((damage.file.as_str(), assessed.beginning, assessed.records), ("partition-1", true, None));
        assert!(damage.what.contains("not there"), "{damage}");
        assert!(folder.exists() == empty && fs::read_dir(&folder).map_or(0, Iterator::count) == 0, "it was looked at");
        assert_eq!(repair(&path).await.unwrap(), assessed);
        assert!(assess(&path).await.unwrap().damage.is_empty());
        assert!(verify(&path).await.unwrap().damage.is_empty());
        let broker = start(&path).await.unwrap();
        let left = waiting(&broker).await;
        let kept = apps().filter(|app| partition_of(app, TWO) == 0);
        let each = if empty { 2 } else { 1 };
        assert_eq!(left, kept.map(|app| (app, each)).collect());
        // It goes on as any other.
        publish(&broker).await;
        let all = waiting(&broker).await;
        assert!(all.len() == apps().count() && all.values().sum::<usize>() == left.values().sum::<usize>() + all.len());
        broker.shutdown().await;
        let broker = start(&path).await.unwrap();
        assert_eq!(waiting(&broker).await, all);
        broker.shutdown().await;
    }
}

#[tokio::test]
async fn a_repair_that_was_interrupted_is_done_again() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data");
    start(&path).await.unwrap().shutdown().await;
    let before = fs::read_to_string(path.join("store")).unwrap();
    fs::remove_dir_all(path.join("partition-0")).unwrap();
    repair(&path).await.unwrap();
    assert_ne!(fs::read_to_string(path.join("store")).unwrap(), before);
    // It said which log there will be, and did not make it.
    fs::remove_file(path.join("partition-0").join("0000000001.log")).unwrap();
    assert_eq!(repair(&path).await.unwrap().damage.len(), 1);
    start(&path).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_log_without_its_first_files_is_refused_until_it_is_repaired() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data");
    let broker = provisioned(&path).await;
    let text = "A".repeat(8 << 10);
    for _ in 0..20 {
        publish_text(&broker, &text).await;
    }
    let before: usize = waiting(&broker).await.values().sum();
    broker.shutdown().await;
    let segment = |number| path.join("partition-0").join(format!("{number:010}.log"));
    assert!(segment(4).exists());
    [1, 2].into_iter().for_each(|number| fs::remove_file(segment(number)).unwrap());
    for _ in 0..2 {
        let error = start(&path).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ensync_core::ErrorKind::InvalidInput, "{text}");
        assert!(text.contains("events that wait in partition 0") && text.contains("store repair"), "{text}");
    }
    let lost: u64 = assess(&path).await.unwrap().events.iter().map(|events| events.waiting).sum();
    assert!(lost >= 10, "{lost}");
    repair(&path).await.unwrap();
    let broker = start(&path).await.unwrap();
    let left: usize = waiting(&broker).await.values().sum();
    assert_eq!(left as u64 + lost, before as u64);
    broker.shutdown().await;
    assert!(verify(&path).await.unwrap().damage.is_empty());
}

fn folders(path: &Path) -> [PathBuf; 3] {
    ["registry", "partition-0", "partition-1"].map(|folder| path.join(folder))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::copy(from.join("store"), to.join("store")).unwrap();
    for (from, to) in folders(from).into_iter().zip(folders(to)) {
        fs::create_dir(&to).unwrap();
        for file in fs::read_dir(from).unwrap().map(|file| file.unwrap()) {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

/// The checkpoints of a data directory.
fn checkpoints(path: &Path) -> BTreeSet<PathBuf> {
    let folders = folders(path).into_iter();
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
    files.filter(|file| file.extension().is_some_and(|extension| extension == "checkpoint")).collect()
}

/// By the clock of whoever looks all may have expired, and the engine after him goes by a right one.
#[tokio::test]
async fn whoever_only_looks_takes_nothing_away() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data");
    let broker = provisioned(&path).await;
    let options = EventOptions { ttl: Some(Duration::from_secs(24 * 3_600)), ..EventOptions::default() };
    broker.create_event("a/b".parse().unwrap(), options).await.unwrap();
    publish(&broker).await;
    // As after a crash: no checkpoint covers what was stored.
    let crashed = place.path().join("crashed");
    copy(&path, &crashed);
    broker.shutdown().await;
    let before = checkpoints(&crashed);
    let month = Timestamp::now().after(Duration::from_secs(31 * 24 * 3_600));
    let options = BrokerOptions {
        retention: Retention::unlimited(),
        clock: Arc::new(TokioClock::starting_at(month)),
        // Whatever is in the log, one is due.
        checkpoint_bytes: 1,
        ..BrokerOptions::default()
    };
    let disk = DiskOptions { segment_bytes: 64 << 10, ..DiskOptions::default() };
    let logs = Logs::open(&crashed, disk).await.unwrap();
    let looking = Broker::start(options, logs).await.unwrap();
    assert!(waiting(&looking).await.values().all(|ready| *ready == 0), "all of it has expired");
    looking.shutdown().await;
    assert!(checkpoints(&crashed) == before, "a checkpoint was saved");
    let broker = start(&crashed).await.unwrap();
    assert_eq!(waiting(&broker).await, apps().map(|app| (app, 1)).collect());
    broker.shutdown().await;
}
