use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::{
    AppKey, Command, Delivery, Login, Metadata, Peer, Publish, Service, Session, Settle, Settlement, Subscribe,
    WirePayload,
};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::*;
use crate::log::{Log, Logs, MemoryLog};
use crate::model::{Encoded, Position};
use crate::{BrokerOptions, TokioClock};

const SHOP: AppId = AppId::from_bytes([6; 32]);

/// A log that takes so many more batches.
#[derive(Debug)]
struct Allows(MemoryLog, Arc<AtomicUsize>);

#[async_trait]
impl Log for Allows {
    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    async fn append(&self, batch: Vec<Encoded>) -> Result<Vec<Position>> {
        let left = self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(_) => self.0.append(batch).await,
            Err(_) => Err(Error::new(ErrorKind::Unavailable, "no more")),
        }
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
}

struct Fixture {
    broker: Broker,
    allowed: Arc<AtomicUsize>,
    shop: Session,
}

impl Fixture {
    async fn new() -> Self {
        let allowed = Arc::new(AtomicUsize::new(usize::MAX));
        let mut options = BrokerOptions { clock: Arc::new(TokioClock::new()), ..BrokerOptions::dev() };
        options.limits.max_in_flight = 10_000.try_into().unwrap();
        let log = Allows(MemoryLog::new(), allowed.clone());
        let logs = Logs::new(Arc::new(log.0.registry()), vec![Arc::new(log)]);
        let broker = Broker::start(options, logs).await.unwrap();
        let app_key = AppKey::parse("key").unwrap();
        broker.create_app_with_key("shop", SHOP, &app_key).await.unwrap();
        let shop = broker.login(Login { app_key, transport: "local", remote: None }).await.unwrap();
        Self { broker, allowed, shop }
    }

    /// Publishes some events.
    async fn publish(&self, event: &str, count: usize) {
        for _ in 0..count {
            let publish = Publish {
                event: event.parse().unwrap(),
                recipient: SHOP,
                payload: WirePayload::from_wire("e30="),
                metadata: Metadata::default(),
                payload_metadata: None,
                idempotency_key: None,
            };
            self.broker.handle(&self.shop.peer, Command::Publish(publish)).await.unwrap();
        }
    }

    /// Takes them.
    async fn take(&mut self, event: &str, count: usize) -> Vec<Delivery> {
        let subscribe = Subscribe { event: event.parse().unwrap(), max_in_flight: None, max_bytes_in_flight: None };
        self.broker.handle(&self.shop.peer, Command::Subscribe(subscribe)).await.unwrap();
        self.shop.inbox.by_ref().take(count).collect().await
    }
}

async fn discard(broker: &Broker, peer: &Peer, delivery: &Delivery) {
    let how = Settlement::Discard { reason: "no".into() };
    let settle = Settle { id: delivery.id.clone(), event: None, block: Some(delivery.block), how };
    broker.handle(peer, Command::Settle(settle)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_fails_half_way_says_how_many_are_gone() {
    let fixture = Fixture::new().await;
    fixture.publish("a", 2_500).await;
    let purge = || fixture.broker.purge(SHOP, "a".parse().unwrap());
    fixture.allowed.store(2, Ordering::SeqCst);
    let done = purge().await.unwrap().unwrap();
    assert_eq!((done.count, done.error.is_some()), (2_048, true));
    assert!(done.whole().unwrap_err().to_string().contains("2048"));
    fixture.allowed.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(purge().await.unwrap().unwrap().whole().unwrap(), 452);
}

#[tokio::test(start_paused = true)]
async fn a_drop_of_dead_letters_that_fails_half_way_says_how_many_are_gone() {
    let mut fixture = Fixture::new().await;
    fixture.publish("a", 1_500).await;
    for delivery in fixture.take("a", 1_500).await {
        discard(&fixture.broker, &fixture.shop.peer, &delivery).await;
    }
    fixture.allowed.store(1, Ordering::SeqCst);
    let done = fixture.broker.settle_letters(LetterAction::Drop, LetterFilter::default()).await;
    assert_eq!((done.count, done.error.is_some()), (1_024, true));
    fixture.allowed.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(fixture.broker.drop_dead_letters(None, None).await.unwrap(), 476);
}

/// Nobody has seen it, and nobody meant it.
#[tokio::test(start_paused = true)]
async fn what_dies_while_dead_letters_are_dropped_is_not_dropped() {
    let mut fixture = Fixture::new().await;
    fixture.publish("a", 1_500).await;
    fixture.publish("b", 1).await;
    for delivery in fixture.take("a", 1_500).await {
        discard(&fixture.broker, &fixture.shop.peer, &delivery).await;
    }
    let late = fixture.take("b", 1).await.remove(0);
    tokio::time::advance(Duration::from_secs(1)).await;
    let dropping = fixture.broker.settle_letters(LetterAction::Drop, LetterFilter::default());
    let mut dropping = Box::pin(dropping);
    assert!(dropping.as_mut().now_or_never().is_none());
    // It has been told the time by now, and dropped nothing yet.
    fixture.broker.handle(&fixture.shop.peer, Command::Heartbeat).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    discard(&fixture.broker, &fixture.shop.peer, &late).await;
    assert_eq!(dropping.await.whole().unwrap(), 1_500);
    let left = fixture.broker.queue("b".parse().unwrap(), SHOP).await.unwrap().unwrap();
    assert_eq!(left.dead, 1);
}
