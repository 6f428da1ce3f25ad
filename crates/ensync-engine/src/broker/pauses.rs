//! How long an app's publishes take while another app's events are many, and one checkpoint after the other is made of them.
//!
//! Prints its figures, beside those of an empty engine. With `ENSYNC_PAUSES`, for how many seconds each is measured, there are 1,000,000
//! events and 3,000,000 idempotency keys, and where the engine is optimised it is held to what it promises:
//!
//! ```text
//! ENSYNC_PAUSES=300 cargo test --release -p ensync-engine --lib pauses -- --nocapture
//! ```

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ensync_core::{
    AppId, AppKey, Command, EventName, Login, Metadata, Publish, Service, Session, Settle, Settlement, Subscribe,
    Timestamp, WirePayload,
};
use futures::StreamExt;

use super::{Broker, BrokerOptions, Request};
use crate::log::{DiskOptions, Logs};
use crate::model::codec::snapshot;
use crate::model::{
    Encoded, EventOptions, EventRef, KeyHash, PartitionSnapshot, Position, Record, RegistrySnapshot, Rights, Snapshot,
    SnapshotApp, SnapshotEvent, SnapshotName, SnapshotPublish, SnapshotPublisher, SnapshotQueue, SnapshotWait,
};

const SHOP: AppId = AppId::from_bytes([6; 32]);
/// Whose events wait.
const ABSENT: AppId = AppId::from_bytes([7; 32]);

fn key() -> AppKey {
    AppKey::parse("key-of-the-shop").unwrap()
}

fn event() -> EventName {
    EventName::parse("a/b").unwrap()
}

/// What a log holds of an engine in which so many events wait, and so many keys are remembered.
fn state(events: u64, keys: u64, at: Timestamp) -> Snapshot {
    let app = |id: AppId, name: &str, key_hash| SnapshotApp {
        id,
        name: name.into(),
        public_key: id,
        earlier_keys: Vec::new(),
        key_hash,
        old_key: None,
        enabled: true,
        rights: Rights::ALL,
        grants: Vec::new(),
        created_at: at,
    };
    let absent = KeyHash::of(&AppKey::parse("key-of-the-absent").unwrap());
    let apps = vec![app(SHOP, "shop", KeyHash::of(&key())), app(ABSENT, "absent", absent)];
    let names = vec![SnapshotName { name: event(), options: EventOptions::default(), auto: false }];
    let place = |seq| Position::new((1 << 32) + 64 + seq * 8);
    let waiting = |seq| SnapshotEvent {
        seq,
        position: place(seq),
        current: place(seq),
        tag: 1,
        accepted_at: at,
        expires_at: None,
        size: 1_024,
        deliveries: 0,
        handed_back: 0,
        waits: SnapshotWait::Client,
    };
    let queue = SnapshotQueue {
        number: 0,
        recipient: ABSENT,
        event: event(),
        next_seq: events.max(1),
        events: (0..events).map(waiting).collect(),
        settled: Vec::new(),
        moved: Vec::new(),
    };
    let publish = |n: u64| {
        let fingerprint = (u128::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_le_bytes();
        SnapshotPublish { fingerprint, event: EventRef { queue: 0, seq: n }, tag: 1, position: place(n), at }
    };
    let publisher = SnapshotPublisher { app: ABSENT, publishes: (0..keys).map(publish).collect() };
    Snapshot {
        registry: RegistrySnapshot { logged_at: at, apps, events: names, deleted: Vec::new() },
        partition: PartitionSnapshot {
            logged_at: at,
            next_queue: 1,
            queues: vec![queue],
            publishes: if keys > 0 { vec![publisher] } else { Vec::new() },
        },
    }
}

async fn start(path: &Path, events: u64, keys: u64) -> Broker {
    let logs = Logs::open(path, DiskOptions::default()).await.unwrap();
    let state = state(events, keys, Timestamp::now());
    let nothing = Record::Drop { event: EventRef { queue: 9, seq: 9 } };
    for log in logs.all() {
        let last = *log.append(vec![Encoded::from(&nothing)]).await.unwrap().last().unwrap();
        // The registry's has no queues.
        let is_registry = Arc::ptr_eq(log, logs.registry());
        let partition = if is_registry { PartitionSnapshot::default() } else { state.partition.clone() };
        let state = Snapshot { partition, registry: state.registry.clone() };
        log.save_checkpoint(last, vec![snapshot::encode(&state)]).await.unwrap();
        log.close().await;
    }
    let mut options = BrokerOptions::default();
    options.limits.dedup_window = Duration::from_secs(24 * 3_600);
    (options.limits.dedup_entries, options.limits.dedup_entries_per_app) = (1 << 22, 1 << 22);
    let logs = Logs::open(path, DiskOptions::default()).await.unwrap();
    let broker = Broker::start(options, logs).await.unwrap();
    let waiting = broker.queue(event(), ABSENT).await.unwrap().unwrap();
    assert_eq!(waiting.ready as u64, events);
    broker
}

async fn login(broker: &Broker) -> Session {
    broker.login(Login { app_key: key(), transport: "local", remote: None }).await.unwrap()
}

/// Acknowledges what comes.
async fn consume(broker: Broker) {
    let mut session = login(&broker).await;
    let subscribe = Subscribe { event: event(), max_in_flight: None, max_bytes_in_flight: None };
    broker.handle(&session.peer, Command::Subscribe(subscribe)).await.unwrap();
    while let Some(delivery) = session.inbox.next().await {
        let settle = Settle { id: delivery.id, event: None, block: Some(delivery.block), how: Settlement::Ack };
        _ = broker.handle(&session.peer, Command::Settle(settle)).await;
    }
}

/// How long each publish took, in order of that.
async fn publish(broker: &Broker, lasts: Duration) -> Vec<Duration> {
    let begun = Instant::now();
    let publishers = (0..4).map(|_| async {
        let session = login(broker).await;
        let mut took = Vec::new();
        while begun.elapsed() < lasts {
            let publish = Publish {
                event: event(),
                recipient: SHOP,
                payload: WirePayload::from_wire("A".repeat(1_024)),
                metadata: Metadata::default(),
                payload_metadata: None,
                idempotency_key: None,
            };
            let sent = Instant::now();
            broker.handle(&session.peer, Command::Publish(publish)).await.unwrap();
            took.push(sent.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        took
    });
    let mut took = futures::future::join_all(publishers).await.concat();
    took.sort_unstable();
    took
}

/// Which checkpoints were there while something went on.
async fn checkpoints(path: &Path, goes_on: impl Future<Output = Vec<Duration>>) -> (Vec<Duration>, usize) {
    let mut seen = BTreeSet::new();
    let look = async {
        loop {
            for file in std::fs::read_dir(path).unwrap() {
                let name = file.unwrap().file_name();
                if name.to_string_lossy().ends_with(".checkpoint") {
                    seen.insert(name);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let took = tokio::select! {
        took = goes_on => took,
        () = look => unreachable!(),
    };
    // The first was there before.
    (took, seen.len() - 1)
}

#[tokio::test]
async fn nobody_waits_for_anothers_checkpoint() {
    let asked = std::env::var("ENSYNC_PAUSES").ok().map(|seconds| seconds.parse().unwrap());
    let lasts = Duration::from_secs(asked.unwrap_or(1));
    let (events, keys) = if asked.is_some() { (1_000_000, 3_000_000) } else { (5_000, 5_000) };
    let mut figures = Vec::new();
    for (events, keys) in [(0, 0), (events, keys)] {
        let place = tempfile::tempdir().unwrap();
        let broker = start(place.path(), events, keys).await;
        let consumer = tokio::spawn(consume(broker.clone()));
        publish(&broker, Duration::from_millis(200)).await;
        if events > 0 {
            broker.0.partitions[0].requests.send(Request::Checkpoints).await.unwrap();
        }
        let folder = place.path().join("partition-0");
        let (mut took, mut made) = checkpoints(&folder, publish(&broker, lasts)).await;
        // Beside other tests a disk may take longer over one.
        for _ in 0..60 {
            if events == 0 || made > 0 {
                break;
            }
            let (more, again) = checkpoints(&folder, publish(&broker, lasts)).await;
            (took, made) = ([took, more].concat(), made + again);
        }
        took.sort_unstable();
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        let (p50, p99, p999, most) = (at(0.5), at(0.99), at(0.999), at(1.0));
        // Not with println, which the test harness would keep to itself.
        _ = writeln!(
            std::io::stderr(),
            "\n{events} events and {keys} keys, {made} checkpoints: {} publishes within {lasts:?}, p50 {p50:?}, p99 {p99:?}, p99.9 \
             {p999:?}, most {most:?}",
            took.len()
        );
        assert!(events == 0 || made > 0, "no checkpoint was made");
        figures.push((p99, p999, most));
        broker.shutdown().await;
        consumer.await.unwrap();
    }
    if asked.is_some() && !cfg!(debug_assertions) {
        let ((.., machines), (p99, p999, most)) = (figures[0], figures[1]);
        assert!(p999 <= 3 * p99, "{figures:?}");
        // A disk that holds up an empty engine for longer says nothing of a full one.
        assert!(most <= machines.max(Duration::from_millis(20)), "{figures:?}");
    }
}
