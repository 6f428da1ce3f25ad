//! An outbox some of whose recipients are in trouble, whose client closes, and whose app gets another key pair.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ensync_client::{Client, Custom, Engine, Outbox, OutboxOptions, Sender};
use ensync_core::crypto::Suite;
use ensync_core::{
    AppId, AppKey, Command, Connector, Endpoint, Error, ErrorKind, Keyring, Link, Reply, Result, SecretKey,
};

use crate::over_both;
use crate::world::{Transport, World, n_of, next, soon};

const ORDERS: &str = "orders/placed";

/// Puts a word in between a client and its engine: publishes to one app are refused, for a reason that passes.
struct Troubled {
    connector: Arc<dyn Connector>,
    recipient: AppId,
    refused: Arc<AtomicU64>,
}

struct TroubledLink {
    link: Arc<dyn ensync_core::Transport>,
    recipient: AppId,
    refused: Arc<AtomicU64>,
}

impl fmt::Debug for Troubled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Troubled")
    }
}

impl fmt::Debug for TroubledLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TroubledLink")
    }
}

#[async_trait]
impl Connector for Troubled {
    async fn connect(&self, to: &Endpoint, app_key: &AppKey) -> Result<Link> {
        let mut link = self.connector.connect(to, app_key).await?;
        let (recipient, refused) = (self.recipient, self.refused.clone());
        link.transport = Arc::new(TroubledLink { link: link.transport, recipient, refused });
        Ok(link)
    }
}

#[async_trait]
impl ensync_core::Transport for TroubledLink {
    async fn call(&self, command: Command) -> Result<Reply> {
        match &command {
            Command::Publish(publish) if publish.recipient == self.recipient => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(Error::new(ErrorKind::LimitExceeded, "the queue is full; try again later"))
            }
            _ => self.link.call(command).await,
        }
    }
    fn abort(&self, cause: Error) {
        self.link.abort(cause);
    }
    fn silent_for(&self) -> Option<Duration> {
        self.link.silent_for()
    }
    fn bytes_received(&self) -> Option<u64> {
        self.link.bytes_received()
    }
    fn heartbeat_reaches_the_engine(&self) -> bool {
        self.link.heartbeat_reaches_the_engine()
    }
    async fn close(&self) {
        self.link.close().await;
    }
}

struct Place {
    world: World,
    directory: tempfile::TempDir,
    refused: Arc<AtomicU64>,
}

impl Place {
    async fn new(transport: Transport) -> Self {
        let world = World::start(transport).await;
        Self { world, directory: tempfile::tempdir().unwrap(), refused: Arc::default() }
    }

    async fn outbox(&self) -> Outbox {
        self.outbox_of(OutboxOptions::new()).await
    }

    async fn outbox_of(&self, options: OutboxOptions) -> Outbox {
        Outbox::open(self.directory.path().join("shop.outbox"), options).await.unwrap()
    }

    /// An engine where nothing gets through to the shop. Calls give up soon, so that a client waits for its engine in vain no longer
    /// than a test has time.
    fn engine(&self) -> Engine<Custom> {
        let (connector, recipient, refused) = (self.world.connector(), self.world.shop.app_id, self.refused.clone());
        let connector = Arc::new(Troubled { connector, recipient, refused });
        Engine::with_connector(self.world.endpoint(), connector).request_timeout(Duration::from_millis(300))
    }

    async fn till(&self, outbox: &Outbox) -> Client {
        self.engine().create_client(&self.world.shop.app_key).outbox(outbox.clone()).await.unwrap()
    }
}

async fn queue(client: &Client, n: u64, to: AppId) {
    client.publish(ORDERS, &serde_json::json!({"n": n})).to(to).queue().await.unwrap();
}

async fn one_recipients_trouble_holds_up_no_other(transport: Transport) {
    let place = Place::new(transport).await;
    let outbox = place.outbox().await;
    let (shop, warehouse) = (place.world.shop.app_id, place.world.warehouse.app_id);
    let till = place.till(&outbox).await;
    for n in 0..300 {
        queue(&till, n, shop).await;
    }
    // They were all there before.
    for n in 0..10 {
        queue(&till, n, warehouse).await;
    }
    let reader = place.world.client(&place.world.warehouse).await;
    let mut orders = reader.subscribe(ORDERS).await.unwrap();
    for n in 0..10 {
        let event = next(&mut orders).await;
        assert_eq!(n_of(&event), n);
        event.ack().await.unwrap();
    }
    soon(async {
        while outbox.status().waiting > 300 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // And the one in trouble is not asked without end.
    assert!(place.refused.load(Ordering::Relaxed) < 100, "{:?}", place.refused);
    soon(till.close()).await.unwrap();
}

async fn closing_frees_the_outbox_at_once(transport: Transport) {
    let place = Place::new(transport).await;
    let outbox = place.outbox().await;
    for round in 0..3 {
        let till = place.till(&outbox).await;
        queue(&till, round, place.world.shop.app_id).await;
        soon(async {
            while place.refused.load(Ordering::Relaxed) < round + 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        // It waits now, before it tries again.
        let begun = Instant::now();
        soon(till.close()).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let error = soon(outbox.flush()).await.unwrap_err();
        assert!(error.to_string().contains("no client drains them"), "{error}");
    }
}

async fn a_flush_waits_for_what_was_queued_before_it(transport: Transport) {
    let place = Place::new(transport).await;
    let outbox = place.outbox().await;
    let till = place.till(&outbox).await;
    queue(&till, 1, place.world.warehouse.app_id).await;
    let flush = outbox.flush();
    tokio::pin!(flush);
    let first = tokio::time::timeout(Duration::ZERO, &mut flush).await;
    queue(&till, 2, place.world.shop.app_id).await;
    let status = match first {
        Ok(status) => status.unwrap(),
        Err(_) => soon(flush).await.unwrap(),
    };
    assert!(status.waiting <= 1, "{status:?}");
    // Now it is that one which is waited for.
    tokio::time::timeout(Duration::from_millis(200), outbox.flush()).await.unwrap_err();
    soon(till.close()).await.unwrap();
}

fn nowhere_of(transport: Transport) -> Endpoint {
    let scheme = if transport == Transport::Grpc { "grpc" } else { "ws" };
    format!("{scheme}://127.0.0.1:1").parse().unwrap()
}

/// What was queued under the earlier key pair is sent, is the app's, and opens as what it is.
async fn a_rotated_key_pair_strands_nothing(transport: Transport) {
    for suite in [Suite::Nacl, Suite::Aes256Gcm] {
        let place = Place::new(transport).await;
        let outbox = place.outbox().await;
        let (shop, warehouse) = (&place.world.shop, &place.world.warehouse);
        let first = shop.app_id;
        // The engine is not there while they are queued.
        let nowhere = nowhere_of(transport);
        let connector = place.world.connector_to(&nowhere);
        let till = Engine::with_connector(nowhere, connector).retry_first_connect(true).create_client(&shop.app_key);
        let till = till.app_secret_key(&shop.secret_key).outbox(outbox.clone()).await.unwrap();
        for n in 0..5 {
            let publish = till.publish(ORDERS, &serde_json::json!({"n": n})).suite(suite).to(warehouse.app_id);
            publish.queue().await.unwrap();
        }
        soon(till.close()).await.unwrap();
        let second = SecretKey::generate().unwrap();
        let second_key = second.clone();
        let second_id = second.app_id().unwrap();
        place.world.server.broker().rotate_key_pair(first, second_id).await.unwrap();
        let engine = place.world.engine();
        let till =
            engine.create_client(&shop.app_key).keyring(Keyring::new(second)).outbox(outbox.clone()).await.unwrap();
        let status = soon(outbox.flush()).await.unwrap();
        assert_eq!((status.waiting, status.parked), (0, 0), "{suite:?} {:?}", outbox.parked().await.unwrap());
        let reader = place.world.client(warehouse).await;
        let mut orders = reader.subscribe(ORDERS).await.unwrap();
        for n in 0..5 {
            let event = next(&mut orders).await;
            assert_eq!(n_of(&event), n);
            match suite {
                Suite::Aes256Gcm => assert_eq!(event.sender(), Sender::Verified { key: first, signed: false }),
                _ => assert_eq!(event.sender(), Sender::Unverified { claimed: Some(second_id) }),
            }
            event.ack().await.unwrap();
        }
        // What it seals now is its new key's.
        let sent = till.publish(ORDERS, &serde_json::json!({"n": 5})).suite(suite).to(warehouse.app_id);
        sent.queue().await.unwrap();
        let event = next(&mut orders).await;
        assert_eq!(n_of(&event), 5);
        soon(till.close()).await.unwrap();
        // Once it is retired the earlier key is nobody's, and no event of it can be sent as the app's.
        let queued_before = place.world.connector_to(&nowhere_of(transport));
        let late = Engine::with_connector(nowhere_of(transport), queued_before).retry_first_connect(true);
        let late = late.create_client(&shop.app_key).app_secret_key(&shop.secret_key).outbox(outbox.clone());
        let late = late.await.unwrap();
        let publish = late.publish(ORDERS, &serde_json::json!({"n": 6})).suite(suite).to(warehouse.app_id);
        publish.queue().await.unwrap();
        soon(late.close()).await.unwrap();
        place.world.server.broker().retire_key(second_id, first).await.unwrap();
        let ring = engine.create_client(&shop.app_key).keyring(Keyring::new(second_key)).outbox(outbox.clone());
        let till = ring.await.unwrap();
        let status = soon(outbox.flush()).await.unwrap();
        assert_eq!((status.waiting, status.parked), (0, 1), "{suite:?}");
        assert_eq!(outbox.parked().await.unwrap().remove(0).why.kind(), ErrorKind::InvalidKey);
        soon(till.close()).await.unwrap();
    }
}

async fn what_is_parked_can_be_read_and_sent_again(transport: Transport) {
    let place = Place::new(transport).await;
    let outbox = place.outbox().await;
    let nobody = SecretKey::generate().unwrap();
    let till = place.world.engine().create_client(&place.world.shop.app_key).outbox(outbox.clone()).await.unwrap();
    let publish = till.publish(ORDERS, &serde_json::json!({"n": 7})).to(nobody.app_id().unwrap()).header("a", "b");
    publish.queue().await.unwrap();
    soon(outbox.flush()).await.unwrap();
    let parked = outbox.parked().await.unwrap().remove(0);
    assert_eq!(parked.why.kind(), ErrorKind::UnknownRecipient);
    assert!(parked.metadata.as_str().contains(r#""a":"b""#), "{:?}", parked.metadata);
    let opened = ensync_core::crypto::open(&parked.payload, &Keyring::new(nobody.clone())).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&opened).unwrap(), serde_json::json!({"n": 7}));
    // It was wrong not for ever.
    let key = nobody.app_id().unwrap();
    place.world.server.broker().rotate_key_pair(place.world.warehouse.app_id, key).await.unwrap();
    assert!(outbox.retry(parked.about.queued).await.unwrap());
    let status = soon(outbox.flush()).await.unwrap();
    assert_eq!((status.waiting, status.parked), (0, 0));
    soon(till.close()).await.unwrap();
}

/// One task that queues without a pause, and much more than there is room for: it is kept to the pace of the engine, which gets each
/// event once, in order.
async fn what_is_queued_without_a_pause_finds_room_and_is_sent_in_its_order(transport: Transport) {
    let place = Place::new(transport).await;
    let outbox = place.outbox_of(OutboxOptions::new().max_events(40)).await;
    let till = place.world.engine().create_client(&place.world.shop.app_key).outbox(outbox.clone()).await.unwrap();
    let count = 400;
    for n in 0..count {
        queue(&till, n, place.world.warehouse.app_id).await;
    }
    let status = soon(outbox.flush()).await.unwrap();
    assert_eq!((status.waiting, status.parked), (0, 0));
    // In their order, each once.
    let reader = place.world.client(&place.world.warehouse).await;
    let mut orders = reader.subscribe(ORDERS).await.unwrap();
    for n in 0..count {
        let event = next(&mut orders).await;
        assert_eq!(n_of(&event), n);
        event.ack().await.unwrap();
    }
    soon(till.close()).await.unwrap();
}

over_both!(
    what_is_queued_without_a_pause_finds_room_and_is_sent_in_its_order,
    one_recipients_trouble_holds_up_no_other,
    closing_frees_the_outbox_at_once,
    a_flush_waits_for_what_was_queued_before_it,
    a_rotated_key_pair_strands_nothing,
    what_is_parked_can_be_read_and_sent_again,
);
