//! The suite "aes-256-gcm" between clients: senders that are proven, keys that rotate, events that do not open.

use std::sync::Arc;

use async_trait::async_trait;
use ensync_client::{Client, Sender, Unopenable};
use ensync_core::crypto::{Keep, Sealer, Suite};
use ensync_core::{
    AppId, AppKey, Command, Connector, Delivery, Endpoint, Error, ErrorKind, Keyring, Link, Reply, Result, SecretKey,
    Transport,
};
use futures::StreamExt;

use crate::over_every_transport;
use crate::world::{World, eventually, n_of, next, publish, soon};

const ORDERS: &str = "orders/status/updated";

over_every_transport!(
    senders_are_proven,
    only_proven_senders,
    only_some_senders,
    replies_go_to_whom_nobody_can_swap,
    one_publish_for_many,
    keys_rotate_without_losing_an_event,
    what_does_not_open_is_discarded_or_left,
    a_secret_key_of_another_app_is_told,
    every_suite_and_keeping,
);

async fn verifying(world: &World, app: &ensync_engine::NewApp) -> Client {
    let engine = world.engine().suite(Suite::Aes256Gcm);
    engine.create_client(&app.app_key).app_secret_key(&app.secret_key).await.unwrap()
}

async fn dead(world: &World) -> Vec<String> {
    let letters = world.server.broker().dead_letters(None, None, 100).await.unwrap();
    letters.into_iter().map(|letter| letter.reason).collect()
}

async fn senders_are_proven(world: World) {
    let (till, stock) = (verifying(&world, &world.shop).await, world.client(&world.warehouse).await);
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    let key = world.shop.app_id;
    for (publish, expected) in [
        (till.publish(ORDERS, &1), Sender::Verified { key, signed: false }),
        (till.publish(ORDERS, &1).sign(), Sender::Verified { key, signed: true }),
        (till.publish(ORDERS, &1).suite(Suite::Nacl), Sender::Unverified { claimed: Some(key) }),
    ] {
        publish.to(world.warehouse.app_id).await.unwrap();
        let event = next(&mut orders).await;
        assert_eq!(event.sender(), expected);
        assert_eq!(event.json().unwrap(), 1);
        assert_eq!(event.sealed_id().is_some(), expected.verified().is_some());
        assert_eq!(event.sealed_at().is_some(), expected.verified().is_some());
        event.ack().await.unwrap();
        let again = orders.replay(event.id()).await.unwrap();
        assert_eq!((again.sender(), again.sealed_id()), (expected, event.sealed_id()));
    }
    // Without a key of its own a sender proves nothing, and cannot sign.
    let anonymous = world.engine().suite(Suite::Aes256Gcm).create_client(&world.shop.app_key).await.unwrap();
    anonymous.publish(ORDERS, &2).to(world.warehouse.app_id).await.unwrap();
    let event = next(&mut orders).await;
    assert_eq!((event.sender(), event.json().unwrap()), (Sender::Unverified { claimed: Some(key) }, 2.into()));
    let error = anonymous.publish(ORDERS, &1).to(world.warehouse.app_id).sign().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

async fn only_proven_senders(world: World) {
    let (plain, proven) = (world.client(&world.shop).await, verifying(&world, &world.shop).await);
    let stock = world.client(&world.warehouse).await;
    let mut orders = stock.subscribe(ORDERS).require_verified_sender().await.unwrap();
    publish(&world, &plain, ORDERS, 1).await.unwrap();
    let event = next(&mut orders).await;
    assert_eq!(event.json().unwrap_err().kind(), ErrorKind::SenderNotVerified);
    assert_eq!(event.sender(), Sender::Unverified { claimed: Some(world.shop.app_id) });
    event.discard("not proven").await.unwrap();
    publish(&world, &proven, ORDERS, 2).await.unwrap();
    assert_eq!(n_of(&next(&mut orders).await), 2);
}

async fn only_some_senders(world: World) {
    let other = world.server.create_app("other").await.unwrap();
    let (shop, other) = (verifying(&world, &world.shop).await, verifying(&world, &other).await);
    let stock = world.client(&world.warehouse).await;
    let mut orders =
        stock.subscribe(ORDERS).verified_from([world.shop.app_id]).unopenable(Unopenable::Discard).await.unwrap();
    publish(&world, &other, ORDERS, 1).await.unwrap();
    publish(&world, &shop, ORDERS, 2).await.unwrap();
    assert_eq!(n_of(&next(&mut orders).await), 2);
    eventually(async || dead(&world).await == ["sender_not_verified"]).await;
}

async fn replies_go_to_whom_nobody_can_swap(world: World) {
    let (plain, proven) = (world.client(&world.shop).await, verifying(&world, &world.shop).await);
    let stock = verifying(&world, &world.warehouse).await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &plain, ORDERS, 1).await.unwrap();
    let unproven = next(&mut orders).await;
    let error = unproven.reply(&"no").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SenderNotVerified, "{error}");
    unproven.ack().await.unwrap();
    let mut answers = proven.subscribe(ORDERS).await.unwrap();
    publish(&world, &proven, ORDERS, 2).await.unwrap();
    next(&mut orders).await.reply(&"yes").await.unwrap();
    let answer = next(&mut answers).await;
    assert_eq!(answer.sender().verified(), Some(world.warehouse.app_id));
    assert_eq!(answer.json().unwrap(), "yes");
}

async fn one_publish_for_many(world: World) {
    let till = verifying(&world, &world.shop).await;
    let (mut recipients, mut ids) = (Vec::new(), Vec::new());
    for n in 0..3 {
        let app = world.server.create_app(&format!("branch {n}")).await.unwrap();
        let client = world.client(&app).await;
        recipients.push((app.app_id, client.subscribe(ORDERS).await.unwrap()));
    }
    till.publish(ORDERS, &"all").to_all(recipients.iter().map(|(id, _)| *id)).await.unwrap();
    for (_, events) in &mut recipients {
        let event = next(events).await;
        assert_eq!(event.json().unwrap(), "all");
        ids.push(event.sealed_id().unwrap());
    }
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "copies of one publish have one id");
}

async fn keys_rotate_without_losing_an_event(world: World) {
    let (retired, current) = (world.warehouse.secret_key.clone(), SecretKey::generate().unwrap());
    let shop = verifying(&world, &world.shop).await;
    for suite in Suite::ALL {
        shop.publish(ORDERS, &1).suite(*suite).to(world.warehouse.app_id).await.unwrap();
    }
    let keys = Keyring::new(current).with_previous(retired);
    let stock = world.engine().create_client(&world.warehouse.app_key).keyring(keys).await.unwrap();
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    for _ in Suite::ALL {
        let event = next(&mut orders).await;
        assert_eq!(event.json().unwrap(), 1);
        event.ack().await.unwrap();
    }
}

async fn what_does_not_open_is_discarded_or_left(world: World) {
    let till = world.client(&world.shop).await;
    let wrong = SecretKey::generate().unwrap();
    let stock = world.engine().create_client(&world.warehouse.app_key).app_secret_key(&wrong).await.unwrap();
    let mut orders = stock.subscribe(ORDERS).unopenable(Unopenable::Leave).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let queue = || async { world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap() };
    tokio::select! {
        event = orders.next() => panic!("{event:?} came out"),
        () = eventually(async || queue().await.in_flight == 1) => {}
    }
    drop(orders);
    let mut orders = stock.subscribe(ORDERS).unopenable(Unopenable::Discard).await.unwrap();
    publish(&world, &till, ORDERS, 2).await.unwrap();
    tokio::select! {
        event = orders.next() => panic!("{event:?} came out"),
        () = eventually(async || dead(&world).await.contains(&"does_not_open".to_owned())) => {}
    }
}

async fn a_secret_key_of_another_app_is_told(world: World) {
    let engine = world.engine().suite(Suite::Aes256Gcm);
    let till = engine.create_client(&world.shop.app_key).app_secret_key(&world.warehouse.secret_key).await.unwrap();
    let error = till.publish(ORDERS, &1).to(world.warehouse.app_id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    assert!(error.to_string().contains("give the client the secret key that belongs to its app key"), "{error}");
}

async fn every_suite_and_keeping(world: World) {
    let stock = world.client(&world.warehouse).await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    for suite in Suite::ALL {
        for keep in [Keep::NONE, Keep::default()] {
            let engine = world.engine().suite(*suite).keep_agreements(keep);
            let till = engine.create_client(&world.shop.app_key).app_secret_key(&world.shop.secret_key).await.unwrap();
            for n in 0..20 {
                publish(&world, &till, ORDERS, n).await.unwrap();
                let event = next(&mut orders).await;
                assert_eq!(n_of(&event), n);
                event.ack().await.unwrap();
            }
            soon(till.close()).await.unwrap();
        }
    }
}

/// An engine that lies: it hands over what was sealed for one event name as another, or names another sender.
#[derive(Debug)]
struct Lying {
    honest: Arc<dyn Connector>,
    lie: fn(&mut Delivery),
}

#[async_trait]
impl Connector for Lying {
    async fn connect(&self, to: &Endpoint, app_key: &AppKey) -> Result<Link> {
        let Link { transport, inbox, welcome } = self.honest.connect(to, app_key).await?;
        let lie = self.lie;
        let inbox = inbox
            .map(move |delivery| {
                delivery.map(|mut delivery| {
                    lie(&mut delivery);
                    delivery
                })
            })
            .boxed();
        Ok(Link { transport: Arc::new(Honest(transport)), inbox, welcome })
    }
}

#[derive(Debug)]
struct Honest(Arc<dyn Transport>);

#[async_trait]
impl Transport for Honest {
    async fn call(&self, command: Command) -> Result<Reply> {
        self.0.call(command).await
    }
    async fn close(&self) {
        self.0.close().await;
    }
}

#[tokio::test]
async fn an_engine_that_lies_is_found_out() {
    type Lie = fn(&mut Delivery);
    let lies: [(Lie, ErrorKind); 3] = [
        (|delivery| delivery.event = "refunds/granted".parse().unwrap(), ErrorKind::Misdirected),
        (|delivery| delivery.sender = Some(AppId::from_bytes([7; 32])), ErrorKind::Misdirected),
        // Its own envelope in place of the sender's.
        (
            |delivery| {
                let to = ensync_core::crypto::Recipient::new(delivery.recipient.unwrap()).unwrap();
                let forger = Sealer::new().own_key(SecretKey::generate().unwrap());
                let forged = forger.seal(b"1", &[to], &delivery.event, Suite::Aes256Gcm).unwrap();
                delivery.payload = forged.into_iter().next().unwrap();
            },
            ErrorKind::Misdirected,
        ),
    ];
    for (lie, kind) in lies {
        let world = World::start(crate::world::Transport::InProcess).await;
        let till = verifying(&world, &world.shop).await;
        let lying = Arc::new(Lying { honest: world.connector(), lie });
        let engine = ensync_client::Engine::with_connector(world.endpoint(), lying);
        let stock =
            engine.create_client(&world.warehouse.app_key).app_secret_key(&world.warehouse.secret_key).await.unwrap();
        let mut orders = stock.subscribe(ORDERS).await.unwrap();
        let mut refunds = stock.subscribe("refunds/granted").await.unwrap();
        till.publish(ORDERS, &1).to(world.warehouse.app_id).await.unwrap();
        let event = tokio::select! {
            event = next(&mut orders) => event,
            event = next(&mut refunds) => event,
        };
        let error: Error = event.json().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(event.sender().verified().is_none());
    }
}
