//! Logs that an engine is given one by one, and that end in checkpoints: there is no record left that says what they are.

use ensync_core::{AppId, AppKey, Command, Login, Metadata, Publish, Service, WirePayload};

use super::*;
use crate::{Broker, BrokerOptions, EventOptions, Logs};

const FOLDERS: [&str; 3] = ["registry", "partition-0", "partition-1"];

async fn open(path: &Path, folders: [&str; 3]) -> Logs {
    let mut logs = Vec::new();
    for folder in folders {
        logs.push(Arc::new(DiskLog::open(path.join(folder), options()).await.unwrap()) as Arc<dyn Log>);
    }
    Logs::new(logs.remove(0), logs)
}

/// Lets an engine have something in each of its logs, and stops it.
async fn used(logs: Logs) {
    let broker = Broker::start(BrokerOptions::dev(), logs).await.unwrap();
    // One of each partition of two.
    let apps = [6, 25].map(|n| AppId::from_bytes([n; 32]));
    broker.register_event("a/b".parse().unwrap(), EventOptions::default()).await.unwrap();
    for app in apps {
        let name = format!("app {}", app.as_bytes()[0]);
        let app_key = AppKey::parse(&name.replace(' ', "-")).unwrap();
        broker.create_app_with_key(&name, app, &app_key).await.unwrap();
        let session = broker.login(Login { app_key, transport: "local", remote: None }).await.unwrap();
        let publish = Publish {
            event: "a/b".parse().unwrap(),
            recipient: app,
            payload: WirePayload::from_wire("b25l"),
            metadata: Metadata::default(),
            payload_metadata: None,
            idempotency_key: None,
        };
        broker.handle(&session.peer, Command::Publish(publish)).await.unwrap();
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn those_that_were_mixed_up_are_refused_though_they_hold_checkpoints_only() {
    let place = Place::new();
    let [registry, first, second] = FOLDERS;
    used(open(&place.path(), FOLDERS).await).await;
    for (folders, words) in [
        ([registry, second, first], "the logs of partitions were mixed up"),
        ([first, registry, second], "no record of the registry"),
    ] {
        let logs = open(&place.path(), folders).await;
        let error = Broker::start(BrokerOptions::dev(), logs.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(words), "{error}");
        for log in logs.all() {
            log.close().await;
        }
    }
    let broker = Broker::start(BrokerOptions::dev(), open(&place.path(), FOLDERS).await).await.unwrap();
    assert_eq!(broker.queues().await.unwrap().len(), 2);
    broker.shutdown().await;
}

/// Also where the file that says which log is which was written anew to go with them.
#[tokio::test]
async fn those_that_were_mixed_up_are_found_by_who_checks_a_store() {
    let place = Place::new();
    let options = DiskOptions { partitions: std::num::NonZeroU32::new(2), ..options() };
    used(Logs::open(place.path(), options).await.unwrap()).await;
    assert_eq!(crate::store::verify(place.path()).await.unwrap().damage, []);
    let at = |name: &str| place.path().join(name);
    for (from, to) in [("partition-0", "other"), ("partition-1", "partition-0"), ("other", "partition-1")] {
        fs::rename(at(from), at(to)).unwrap();
    }
    let store = fs::read_to_string(at("store")).unwrap();
    let swapped = store.replace("partition-0 ", "other ").replace("partition-1 ", "partition-0 ");
    let mut lines: Vec<_> = swapped.lines().map(|line| line.replace("other ", "partition-1 ")).collect();
    lines.swap(2, 3);
    fs::write(at("store"), lines.join("\n") + "\n").unwrap();
    let report = crate::store::verify(place.path()).await.unwrap();
    assert!(report.damage.iter().any(|damage| damage.to_string().contains("mixed up")), "{:?}", report.damage);
}
