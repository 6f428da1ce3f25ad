//! A test engine with two apps, over either log. On the disk they are in different partitions of four.

use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::{
    AppId, AppKey, Command, Delay, Delivery, EventId, EventName, IdempotencyKey, Login, Metadata, Peer, Publish, Reply,
    Result, Service, Session, Settle, Settlement, Subscribe, WirePayload,
};
use ensync_engine::testing::TestEngine;
use ensync_engine::{BrokerOptions, DeadLetter, EventOptions, QueueStats};
use futures::{FutureExt, StreamExt};
use tempfile::TempDir;

pub(crate) const SHOP: AppId = AppId::from_bytes([6; 32]);
pub(crate) const WAREHOUSE: AppId = AppId::from_bytes([25; 32]);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Store {
    Memory,
    Disk,
}

pub(crate) struct World {
    pub(crate) engine: TestEngine,
    shop: Session,
    _place: TempDir,
}

/// A client of the warehouse.
pub(crate) struct Client {
    pub(crate) session: Session,
}

pub(crate) fn event() -> EventName {
    EventName::parse("orders/status/updated").unwrap()
}

pub(crate) fn key(app: AppId) -> AppKey {
    AppKey::parse(&format!("key-{}", app.as_bytes()[0])).unwrap()
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl World {
    pub(crate) async fn new(store: Store) -> Self {
        Self::with(store, |_| {}).await
    }

    pub(crate) async fn with(store: Store, change: impl FnOnce(&mut BrokerOptions)) -> Self {
        let place = TempDir::new().unwrap();
        let builder = TestEngine::builder().options(change);
        let builder = match store {
            Store::Memory => builder,
            Store::Disk => builder.data_dir(place.path()).partitions(NonZeroU32::new(4).unwrap()),
        };
        let engine = builder.start().await.unwrap();
        for (name, app) in [("shop", SHOP), ("warehouse", WAREHOUSE)] {
            engine.broker().create_app_with_key(name, app, &key(app)).await.unwrap();
        }
        let shop = login(&engine, SHOP).await;
        Self { engine, shop, _place: place }
    }

    /// Sets the options of the event name.
    pub(crate) async fn register(&self, change: impl FnOnce(&mut EventOptions)) {
        let mut options = EventOptions::default();
        change(&mut options);
        self.engine.broker().register_event(event(), options).await.unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.engine.restart().await.unwrap();
        self.shop = login(&self.engine, SHOP).await;
    }

    pub(crate) async fn crash(&mut self) {
        self.engine.crash().await.unwrap();
        self.shop = login(&self.engine, SHOP).await;
    }

    pub(crate) async fn advance(&self, by: Duration) {
        self.engine.advance(by).await.unwrap();
    }

    pub(crate) async fn client(&self) -> Client {
        Client { session: login(&self.engine, WAREHOUSE).await }
    }

    /// A client that is subscribed.
    pub(crate) async fn consumer(&self) -> Client {
        let client = self.client().await;
        self.subscribe(&client, None).await;
        client
    }

    pub(crate) async fn subscribe(&self, client: &Client, max: Option<u32>) {
        let max_in_flight = max.and_then(NonZeroU32::new);
        let subscribe = Subscribe { event: event(), max_in_flight, max_bytes_in_flight: None };
        assert_eq!(self.run(client, Command::Subscribe(subscribe)).await.unwrap(), Reply::Done);
    }

    pub(crate) async fn run(&self, client: &Client, command: Command) -> Result<Reply> {
        self.handle(&client.session.peer, command).await
    }

    async fn handle(&self, peer: &Peer, command: Command) -> Result<Reply> {
        self.engine.broker().handle(peer, command).await
    }

    pub(crate) async fn logout(&self, client: &Client) {
        self.engine.broker().logout(&client.session.peer).await;
    }

    pub(crate) async fn publish(&self, text: &str) -> EventId {
        self.try_publish(publish(text)).await.unwrap()
    }

    pub(crate) async fn try_publish(&self, publish: Publish) -> Result<EventId> {
        match self.handle(&self.shop.peer, Command::Publish(publish)).await? {
            Reply::Published { id } => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    /// What was delivered to a client by now.
    pub(crate) async fn deliveries(&self, client: &mut Client) -> Vec<Delivery> {
        self.engine.idle().await.unwrap();
        let mut found = Vec::new();
        loop {
            // Without tokio's budget, which would end it after 128.
            let next = || tokio::task::unconstrained(client.session.inbox.next()).now_or_never().flatten();
            found.extend(std::iter::from_fn(next));
            // What is on its way to a client takes a read of the disk, which the poll has begun.
            if self.engine.log_faults().reads() == 0 {
                return found;
            }
            self.engine.log_faults().reads_end().await;
        }
    }

    pub(crate) async fn delivery(&self, client: &mut Client) -> Delivery {
        let [delivery] = self.deliveries(client).await.try_into().unwrap();
        delivery
    }

    pub(crate) async fn settle(&self, client: &Client, delivery: &Delivery, how: Settlement) -> Result<Reply> {
        let settle = Settle { id: delivery.id.clone(), event: None, block: Some(delivery.block), how };
        self.run(client, Command::Settle(settle)).await
    }

    pub(crate) async fn ack(&self, client: &Client, delivery: &Delivery) {
        assert_eq!(self.settle(client, delivery, Settlement::Ack).await.unwrap(), Reply::Done);
    }

    pub(crate) async fn replay(&self, client: &Client, id: &EventId) -> Result<Delivery> {
        match self.run(client, Command::Replay { id: id.clone(), event: event() }).await? {
            Reply::Replayed(delivery) => Ok(*delivery),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn stats(&self) -> QueueStats {
        self.engine.idle().await.unwrap();
        self.engine.broker().queue(event(), WAREHOUSE).await.unwrap().unwrap()
    }

    /// Ready, in flight, deferred, dead.
    pub(crate) async fn counts(&self) -> [usize; 4] {
        let stats = self.stats().await;
        [stats.ready, stats.in_flight, stats.deferred, stats.dead]
    }

    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetter> {
        self.engine.idle().await.unwrap();
        self.engine.broker().dead_letters(Some(event()), Some(WAREHOUSE), 100).await.unwrap()
    }
}

async fn login(engine: &TestEngine, app: AppId) -> Session {
    engine.broker().login(Login { app_key: key(app), transport: "local", remote: None }).await.unwrap()
}

/// A publish of `text` to the warehouse.
pub(crate) fn publish(text: &str) -> Publish {
    Publish {
        event: event(),
        recipient: WAREHOUSE,
        payload: WirePayload::from_wire(text.to_owned()),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: None,
    }
}

pub(crate) fn keyed(text: &str, key: &str) -> Publish {
    Publish { idempotency_key: Some(IdempotencyKey::parse(key).unwrap()), ..publish(text) }
}

/// Kept in memory only.
pub(crate) fn transient(text: &str) -> Publish {
    Publish { metadata: Metadata::parse(r#"{"persist":false}"#).unwrap(), ..publish(text) }
}

pub(crate) fn defer(delay: Duration) -> Settlement {
    Settlement::Defer { delay: Delay::new(delay).unwrap(), priority: 0, reason: String::new() }
}

pub(crate) fn discard(reason: &str) -> Settlement {
    Settlement::Discard { reason: reason.to_owned() }
}

/// The payloads, in order.
pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.payload.as_str().unwrap()).collect()
}

/// Makes each named async function, which takes a [`Store`], a test over each.
#[macro_export]
macro_rules! over_every_log {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name($crate::world::Store::Memory).await })*
        }
        mod disk {
            $(#[tokio::test] async fn $name() { super::$name($crate::world::Store::Disk).await })*
        }
    };
}
