//! How long a start takes. Prints its figures, and holds the engine to them where it is optimised:
//!
//! ```text
//! ENSYNC_START=1000000 cargo test --release -p ensync-engine --test start -- --nocapture
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic here is a failed test")]

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use ensync_core::{AppId, AppKey, Command, EventName, Login, Metadata, Publish, Service, Session, WirePayload};
use ensync_engine::{Broker, BrokerOptions, DiskOptions, EventOptions, Logs, Server};
use futures::StreamExt;
use futures::stream;

const SHOP: AppId = AppId::from_bytes([6; 32]);

fn key() -> AppKey {
    AppKey::parse("key-of-the-shop").unwrap()
}

fn event() -> EventName {
    EventName::parse("a/b").unwrap()
}

/// Not with println, which the test harness would keep to itself.
fn tell(line: std::fmt::Arguments<'_>) {
    _ = writeln!(std::io::stderr(), "\n{line}");
}

async fn start(path: &Path) -> (Broker, [Duration; 2]) {
    let begun = Instant::now();
    let log = Logs::open(path, DiskOptions::default()).await.unwrap();
    let opened = begun.elapsed();
    let broker = Broker::start(BrokerOptions::default(), log).await.unwrap();
    broker.ready().await.unwrap();
    (broker, [opened, begun.elapsed()])
}

async fn publish(broker: &Broker, session: &Session, count: usize) {
    let publish = || Publish {
        event: event(),
        recipient: SHOP,
        payload: WirePayload::from_wire("A".repeat(1_024)),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: None,
    };
    let one = |_| async { broker.handle(&session.peer, Command::Publish(publish())).await.map(drop).unwrap() };
    stream::iter(0..count).map(one).buffer_unordered(2_048).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_fresh_directory_takes_no_time() {
    let place = tempfile::tempdir().unwrap();
    let mut best = Duration::MAX;
    for n in 0..5 {
        let begun = Instant::now();
        let path = place.path().join(n.to_string());
        let server = Server::builder().data_dir(path).admin(([127, 0, 0, 1], 0)).start().await.unwrap();
        server.broker().ready().await.unwrap();
        best = best.min(begun.elapsed());
        server.shutdown().await;
    }
    tell(format_args!("ready on a fresh directory within {best:?}"));
    assert!(best < Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 50 }), "{best:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_many_events_waiting_is_quick() {
    let count = std::env::var("ENSYNC_START").ok().map_or(5_000, |count| count.parse().unwrap());
    let place = tempfile::tempdir().unwrap();
    let (broker, _) = start(place.path()).await;
    broker.create_app_with_key("shop", SHOP, &key()).await.unwrap();
    broker.register_event(event(), EventOptions::default()).await.unwrap();
    let session = broker.login(Login { app_key: key(), transport: "local", remote: None }).await.unwrap();
    publish(&broker, &session, count).await;
    broker.shutdown().await;

    let mut orderly = [Duration::MAX; 2];
    for _ in 0..3 {
        let (broker, took) = start(place.path()).await;
        orderly = orderly.min(took);
        let stats = broker.queue(event(), SHOP).await.unwrap().unwrap();
        assert_eq!(stats.ready, count);
        broker.shutdown().await;
    }
    // As a crash leaves it: the last checkpoint is gone, and what came since the one before it is read back.
    let (broker, _) = start(place.path()).await;
    let session = broker.login(Login { app_key: key(), transport: "local", remote: None }).await.unwrap();
    let more = (count / 20).max(1_000);
    publish(&broker, &session, more).await;
    let copy = tempfile::tempdir().unwrap();
    for folder in ["", "registry", "partition-0"] {
        let (from, to) = (place.path().join(folder), copy.path().join(folder));
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
    }
    broker.shutdown().await;
    let (broker, crashed) = start(copy.path()).await;
    let stats = broker.queue(event(), SHOP).await.unwrap().unwrap();
    assert_eq!(stats.ready, count + more);
    broker.shutdown().await;
    tell(format_args!(
        "{count} events of 1 KiB waiting: log opened and ready after {orderly:?}; after a crash with {more} more since the checkpoint \
         {crashed:?}"
    ));
    let most = if cfg!(debug_assertions) { 60 } else { 1 };
    assert!(orderly[1] < Duration::from_secs(most), "{orderly:?}");
}
