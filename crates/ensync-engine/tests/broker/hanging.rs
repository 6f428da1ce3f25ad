//! What a partition that hangs costs the others: nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::{AppId, Command, ErrorKind, Publish, Result, Service, Session};
use ensync_engine::model::{Encoded, Position};
use ensync_engine::{AdminApi, Broker, BrokerOptions, EventOptions, Log, Logs, MemoryLog, Rights};
use futures::FutureExt;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::partitions::{Held, TWO, broker_with_held, reader};
use super::{SHOP, WAREHOUSE, create_apps, event, login, publish, send};

const SECOND: Duration = Duration::from_secs(1);

async fn publish_to(broker: &Broker, from: &Session, recipient: AppId) -> Result<()> {
    let publish = Publish { recipient, ..publish("b25l") };
    broker.handle(&from.peer, Command::Publish(publish)).await.map(drop)
}

/// A log that counts its checkpoints.
#[derive(Debug)]
struct Saves(Arc<dyn Log>, Arc<AtomicUsize>);

#[async_trait]
impl Log for Saves {
    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        self.0.append(batch).await
    }

    async fn read(&self, at: Position) -> Result<Option<Bytes>> {
        self.0.read(at).await
    }

    fn scan(&self, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>> {
        self.0.scan(from)
    }

    async fn drop_range(&self, from: Position, to: Position) -> Result<()> {
        self.0.drop_range(from, to).await
    }

    fn keeps_checkpoints(&self) -> bool {
        true
    }

    async fn save_checkpoint(&self, _at: Position, _state: Vec<Bytes>) -> Result<()> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A broker of two partitions: the log of the first, which has the warehouse's queues and not the shop's, can be held; the second counts
/// its checkpoints.
async fn broker_that_saves(options: BrokerOptions) -> (Broker, watch::Sender<bool>, Arc<AtomicUsize>) {
    let (hold, held) = watch::channel(false);
    let saves = Arc::new(AtomicUsize::new(0));
    let logs = Logs::from(MemoryLog::with_partitions(TWO));
    let [first, second] = logs.partitions() else { panic!() };
    let second = Arc::new(Saves(second.clone(), saves.clone()));
    let logs = Logs::new(logs.registry().clone(), vec![Arc::new(Held(first.clone(), held)), second]);
    let broker = Broker::start(options, logs).await.unwrap();
    create_apps(&broker).await;
    broker.register_event(event(), EventOptions::default()).await.unwrap();
    (broker, hold, saves)
}

/// Publishes that wait for a disk hold bytes, of which an app and all apps have so many.
#[tokio::test(start_paused = true)]
async fn what_waits_for_it_leaves_the_others_room() {
    let mut options = BrokerOptions::dev();
    (options.limits.quotas.app_waiting, options.limits.quotas.waiting) = (20_000, 30_000);
    let (broker, hold, _) = broker_that_saves(options).await;
    let apps = [login(&broker, SHOP).await, login(&broker, WAREHOUSE).await];
    hold.send_replace(true);
    let mut stuck = Vec::new();
    for app in apps.iter().cycle().take(400) {
        let mut sent = Box::pin(send(&broker, &app.peer, "b25l"));
        if sent.as_mut().now_or_never().is_none() {
            stuck.push(sent);
        }
    }
    assert!((2..=260).contains(&stuck.len()), "{}", stuck.len());
    let error = send(&broker, &apps[0].peer, "b25l").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    for app in &apps {
        publish_to(&broker, app, SHOP).await.unwrap();
    }
    hold.send_replace(false);
    for sent in stuck {
        sent.await.unwrap();
    }
}

/// They get no answer, go, and come again.
#[tokio::test(start_paused = true)]
async fn its_clients_that_come_and_go_take_nobodys_place() {
    let mut options = BrokerOptions::dev();
    options.limits.max_sessions = 4;
    let (broker, hold, _) = broker_that_saves(options).await;
    let mut shop = login(&broker, SHOP).await;
    hold.send_replace(true);
    for _ in 0..10 {
        let warehouse = login(&broker, WAREHOUSE).await;
        let mut sent = Box::pin(send(&broker, &warehouse.peer, "b25l"));
        assert!(sent.as_mut().now_or_never().is_none());
        tokio::time::timeout(SECOND, broker.logout(&warehouse.peer)).await.expect("nobody waits for the disk");
        drop(sent);
    }
    broker.logout(&shop.peer).await;
    shop = login(&broker, SHOP).await;
    publish_to(&broker, &shop, SHOP).await.unwrap();
    hold.send_replace(false);
    // What was sent before is stored.
    let mut warehouse = reader(&broker, WAREHOUSE).await;
    assert_eq!(super::waiting(&broker, &mut warehouse).await.len(), 10);
}

async fn get(api: &AdminApi, path: &str) -> Value {
    let request = http::Request::get(path).body(Bytes::new()).unwrap();
    let answer = api.call(request).await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    serde_json::from_slice(answer.body()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_hides_nothing_of_the_others() {
    let (broker, hold) = broker_with_held().await;
    let (shop, _reader) = (login(&broker, SHOP).await, reader(&broker, WAREHOUSE).await);
    for recipient in [SHOP, WAREHOUSE] {
        publish_to(&broker, &shop, recipient).await.unwrap();
    }
    let before = broker.metrics().await.unwrap();
    let line = |text: &str, start: &str| text.lines().find(|line| line.starts_with(start)).map(str::to_owned);
    let published = "ensync_events_published_total";
    assert!(line(&before, published).is_some_and(|line| line.ends_with(" 2")), "{before}");

    hold.send_replace(true);
    let mut stuck = std::pin::pin!(send(&broker, &shop.peer, "b25l"));
    assert!(stuck.as_mut().now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(1)).await;
    publish_to(&broker, &shop, SHOP).await.unwrap();
    let begun = Instant::now();
    // Whose queues are in the other partition, for them there is an engine.
    broker.ready().await.unwrap();
    let text = broker.metrics().await.unwrap();
    assert!(begun.elapsed() < 12 * SECOND, "{:?}", begun.elapsed());
    assert!(text.contains("ensync_ready 1"), "{text}");
    assert!(
        text.contains("ensync_partition_answers{partition=\"0\"} 0") && text.contains("{partition=\"1\"} 1"),
        "{text}"
    );
    assert!(text.contains("ensync_sessions 2") && text.contains("ensync_apps 2"), "{text}");
    // No counter falls because somebody does not answer.
    assert!(line(&text, published).is_some_and(|line| line.ends_with(" 3")), "{text}");

    let api = AdminApi::new(broker.clone());
    let queues = get(&api, "/v1/queues").await;
    assert_eq!((queues["queues"].as_array().unwrap().len(), &queues["unanswered"][0]), (1, &Value::from(0)));
    let letters = get(&api, "/v1/dead-letters").await;
    assert_eq!((letters["dead_letters"].as_array().unwrap().len(), &letters["unanswered"][0]), (0, &Value::from(0)));
    let sessions = get(&api, "/v1/sessions").await;
    assert_eq!((sessions["sessions"].as_array().unwrap().len(), &sessions["unanswered"][0]), (2, &Value::from(0)));
    hold.send_replace(false);
    stuck.await.unwrap();
    for (path, of) in [("/v1/queues", "queues"), ("/v1/sessions", "sessions")] {
        let list = get(&api, path).await;
        assert!(list[of].as_array().unwrap().len() == 2 && list.get("unanswered").is_none(), "{list}");
    }
}

/// An administrator waits for it, and the stop waits for nobody longer than it has to.
#[tokio::test(start_paused = true)]
async fn the_others_store_what_they_have_when_the_engine_stops() {
    let (broker, hold, saves) = broker_that_saves(BrokerOptions::dev()).await;
    let shop = login(&broker, SHOP).await;
    publish_to(&broker, &shop, SHOP).await.unwrap();
    hold.send_replace(true);
    let mut stuck = std::pin::pin!(send(&broker, &shop.peer, "b25l"));
    assert!(stuck.as_mut().now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut grant = std::pin::pin!(broker.grant(WAREHOUSE, None, Rights::ALL));
    assert!(tokio::time::timeout(SECOND, grant.as_mut()).await.is_err(), "it waits for the disk");
    let mut shutdown = std::pin::pin!(broker.shutdown());
    assert!(tokio::time::timeout(9 * SECOND, shutdown.as_mut()).await.is_err(), "it waits for the disk");
    assert_eq!(saves.load(Ordering::SeqCst), 1);
    hold.send_replace(false);
    shutdown.await;
    stuck.await.unwrap();
}
