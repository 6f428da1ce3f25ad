//! Each mistake has its kind, and a message that tells what to do.

use ensync_core::{Error, ErrorKind, SecretKey};
use ensync_engine::{EventOptions, Server};
use ensync_sdk::{Engine, Schema};

use crate::over_every_transport;
use crate::world::{Transport, World, next, soon};

const ORDERS: &str = "orders/status/updated";

over_every_transport!(
    wrong_app_key,
    a_recipient_that_is_no_key,
    a_recipient_that_nobody_is,
    no_recipients,
    a_payload_over_the_limit,
    a_payload_that_breaks_the_schema,
    the_wrong_secret_key,
    no_secret_key,
);

#[track_caller]
fn says(error: &Error, kind: ErrorKind, part: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn urls() {
    for (url, part) in [
        ("amqp://h", "unknown scheme \"amqp\"; use grpcs://"),
        ("grpc://h:99999", "port \"99999\" is not a number from 1 to 65535"),
        ("wss://", "no host"),
    ] {
        says(&Engine::new(url).unwrap_err(), ErrorKind::InvalidUrl, part);
    }
}

#[test]
fn secret_keys() {
    let half = "q".repeat(42) + "o=";
    for (text, part) in [("AAAA", "3 bytes"), (half.as_str(), "from_seed"), ("no base64!", "base64")] {
        let error = SecretKey::parse(text).unwrap_err();
        says(&error, ErrorKind::InvalidKey, part);
        assert!(!error.to_string().contains(text), "a secret is never repeated: {error}");
    }
}

#[tokio::test]
async fn nobody_listens() {
    for url in ["grpc://127.0.0.1:1", "ws://127.0.0.1:1"] {
        let error = soon(Engine::new(url).unwrap().create_client("key").into_future()).await.unwrap_err();
        says(&error, ErrorKind::Connect, "nobody listens there (is the engine running, is the port right?)");
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }
}

#[tokio::test]
async fn unregistered_event_name() {
    for transport in [Transport::Grpc, Transport::WebSocket, Transport::InProcess] {
        // Not a development engine: names are registered first.
        let server = Server::builder().listen("127.0.0.1:0".parse().unwrap()).start().await.unwrap();
        let world = World::around(server, transport).await;
        world.server.register_event("known/name", EventOptions::default()).await.unwrap();
        let till = world.client(&world.shop).await;
        till.publish("known/name", &1).to(world.warehouse.app_id).await.unwrap();
        let error = till.publish("unknown/name", &1).to(world.warehouse.app_id).await.unwrap_err();
        says(&error, ErrorKind::UnknownEvent, "unknown/name");
        says(&error, ErrorKind::UnknownEvent, "regist");
        says(&till.subscribe("unknown/name").await.unwrap_err(), ErrorKind::UnknownEvent, "unknown/name");
        // A refused subscription leaves nothing behind, and disturbs nothing.
        till.subscribe("known/name").await.unwrap();
    }
}

async fn wrong_app_key(world: World) {
    let error = world.engine().create_client("not-the-key").await.unwrap_err();
    says(&error, ErrorKind::Unauthenticated, "app key");
    says(&world.engine().create_client("").await.unwrap_err(), ErrorKind::InvalidKey, "empty");
}

async fn a_recipient_that_is_no_key(world: World) {
    let till = world.client(&world.shop).await;
    let error = till.publish(ORDERS, &1).to("warehouse-service").await.unwrap_err();
    says(&error, ErrorKind::InvalidKey, "base64 of an app's Ed25519 public key");
    // 32 bytes that are no point of the curve.
    let error = till.publish(ORDERS, &1).to(ensync_core::AppId::from_bytes([2; 32])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey, "{error}");
}

async fn a_recipient_that_nobody_is(world: World) {
    let till = world.client(&world.shop).await;
    let nobody = SecretKey::generate().unwrap().app_id().unwrap();
    let error = till.publish(ORDERS, &1).to(nobody).await.unwrap_err();
    says(&error, ErrorKind::UnknownRecipient, &nobody.to_string());
    // With others who are somebody, the error says who was served.
    let error = till.publish(ORDERS, &1).to(nobody).to(world.warehouse.app_id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PartiallyPublished, "{error}");
    let partial = ensync_sdk::PartialPublish::of(&error).unwrap();
    assert_eq!(partial.accepted[0].0, world.warehouse.app_id);
    assert_eq!((partial.failed[0].0, partial.failed[0].1.kind()), (nobody, ErrorKind::UnknownRecipient));
}

async fn no_recipients(world: World) {
    let till = world.client(&world.shop).await;
    says(&till.publish(ORDERS, &1).await.unwrap_err(), ErrorKind::InvalidInput, "name at least one with to()");
}

async fn a_payload_over_the_limit(world: World) {
    let till = world.client(&world.shop).await;
    let error = till.publish(ORDERS, &"x".repeat(5 << 20)).to(world.warehouse.app_id).await.unwrap_err();
    says(&error, ErrorKind::PayloadTooLarge, "Send less");
}

async fn a_payload_that_breaks_the_schema(world: World) {
    let schema = Schema::parse(r#"{"order":"string","total":"double"}"#).unwrap();
    let options = EventOptions { schema: Some(schema.clone()), ..EventOptions::default() };
    world.server.register_event(ORDERS, options).await.unwrap();
    let till = world.client(&world.shop).await;
    let wrong = serde_json::json!({"order": 7});
    // Refused by the engine, and, if the client is told the schema, before anything is sent.
    for publish in [till.publish(ORDERS, &wrong), till.publish(ORDERS, &wrong).schema(schema.clone())] {
        let error = publish.to(world.warehouse.app_id).await.unwrap_err();
        says(&error, ErrorKind::SchemaMismatch, "field \"order\" is integer, not string");
        says(&error, ErrorKind::SchemaMismatch, "field \"total\" is missing");
    }
    till.publish(ORDERS, &serde_json::json!({"order": "o", "total": 1})).to(world.warehouse.app_id).await.unwrap();
}

async fn the_wrong_secret_key(world: World) {
    let till = world.client(&world.shop).await;
    let other = SecretKey::generate().unwrap();
    let stock = world.engine().create_client(&world.warehouse.app_key).app_secret_key(&other).await.unwrap();
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    till.publish(ORDERS, &1).to(world.warehouse.app_id).await.unwrap();
    let event = next(&mut orders).await;
    says(&event.json().unwrap_err(), ErrorKind::DoesNotOpen, event.id().as_str());
    // It can be settled all the same.
    event.rollback().await.unwrap();
    drop(orders);
    // A key of the subscription's own opens it.
    let mut orders = stock.subscribe(ORDERS).app_secret_key(&world.warehouse.secret_key).await.unwrap();
    assert_eq!(next(&mut orders).await.json().unwrap(), 1);
}

async fn no_secret_key(world: World) {
    let till = world.client(&world.shop).await;
    let stock = world.engine().create_client(&world.warehouse.app_key).await.unwrap();
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    till.publish(ORDERS, &1).to(world.warehouse.app_id).await.unwrap();
    let event = next(&mut orders).await;
    says(&event.json().unwrap_err(), ErrorKind::NotForMe, "no secret key");
    event.discard("cannot be read").await.unwrap();
}
