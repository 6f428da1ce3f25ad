use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

use ensync_core::{AppId, AppKey, Command, Login, Metadata, Publish, Reply, Service, WirePayload};

use crate::broker::{Broker, BrokerOptions};
use crate::log::{DiskOptions, Logs};
use crate::model::partition_of;
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
    let app_key = AppKey::parse("key-1").unwrap();
    let session = broker.login(Login { app_key, transport: "local", remote: None }).await.unwrap();
    for recipient in apps() {
        let publish = Publish {
            event: "a/b".parse().unwrap(),
            recipient,
            payload: WirePayload::from_wire("e30="),
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

#[tokio::test]
async fn one_log_that_is_lost_is_no_loss_of_the_others() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data");
    let broker = start(&path).await.unwrap();
    for (n, app) in apps().enumerate() {
        let key = AppKey::parse(&format!("key-{}", n + 1)).unwrap();
        broker.create_app_with_key(&format!("app {n}"), app, &key).await.unwrap();
    }
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
