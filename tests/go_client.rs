//! Requests in the forms of the makers' Go SDK, written by hand: the paths, keys and answers in which it differs from the others.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ensync_core::crypto::{self, Recipient};
use ensync_core::{Command, Keyring, Settle, Settlement, Subscribe, WirePayload};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::raw::grpc::Grpc;
use crate::raw::proto::Message;
use crate::raw::ws::Ws;
use crate::world::{Transport, World, next, publish, soon};

const EVENT: &str = "go/orders/created";
/// What grpc-go sends as its user agent.
const GRPC_GO: &str = "grpc-go/1.78.0";

fn address(world: &World) -> SocketAddr {
    let url = world.server.grpc_url();
    url.strip_prefix("grpc://").unwrap().trim_end_matches('/').parse().unwrap()
}

/// It dials the URL's path as it was given, which is none.
#[tokio::test]
async fn a_session_over_web_socket_at_the_root() {
    let world = World::start(Transport::WebSocket).await;
    let (_, warehouse) = world.clients().await;
    let mut events = warehouse.subscribe(EVENT).await.unwrap();
    let mut ws = Ws::connect_at(address(&world), "/").await;
    let client_id = ws.log_in(world.shop.app_key.expose()).await;
    // Metadata by Go's encoder, and its own names of types in the skeleton.
    let sealed = seal(&json!({"order": 7, "odd": true}), &world);
    let answer = ws
        .ask(&format!(
            "PUB;CLIENT_ID=:{client_id};EVENT_NAME=:{EVENT};PAYLOAD=:{};DELIVERY_TO=:{};METADATA=:{};PAYLOAD_METADATA=:{}",
            sealed.as_str().unwrap(),
            world.warehouse.app_id,
            r#"{"persist":true,"headers":{"note":"a\u003cb; c"}}"#,
            r#"{"byte_size":22,"skeleton":{"odd":"unknown","order":"number"}}"#,
        ))
        .await;
    let event = next(&mut events).await;
    assert_eq!(answer, format!("+PASS:{}", event.id()));
    assert_eq!(event.json().unwrap(), json!({"order": 7, "odd": true}));
    assert_eq!(event.metadata().field("headers").unwrap(), json!({"note": "a<b; c"}));
    event.ack().await.unwrap();
}

#[tokio::test]
async fn a_rollback_may_call_the_block_partition_block() {
    let world = World::start(Transport::WebSocket).await;
    let (shop, _) = world.clients().await;
    let mut ws = Ws::connect_at(address(&world), "/").await;
    let client_id = ws.log_in(world.warehouse.app_key.expose()).await;
    assert!(ws.ask(&format!("SUB;CLIENT_ID=:{client_id};EVENT_NAME=:{EVENT}")).await.starts_with("+PASS:"));
    publish(&world, &shop, EVENT, 1).await.unwrap();
    let first = soon(ws.record()).await;
    let rollback = |block: &Value| {
        format!(
            "ROLLBACK;CLIENT_ID=:{client_id};EVENT_IDEM=:{};PARTITION_BLOCK=:{block}",
            first["idem"].as_str().unwrap()
        )
    };
    assert!(ws.ask(&rollback(&json!(u32::MAX))).await.starts_with("-FAIL:"), "it is the fence that it names");
    assert!(soon(ws.ask(&rollback(&first["block"]))).await.starts_with("+PASS:"));
    // It comes again at once, and may come before the answer: the engine knows.
    let queue = world.server.queue(EVENT, world.warehouse.app_id).await.unwrap().unwrap();
    assert_eq!((queue.counters.redelivered, queue.in_flight), (1, 1));
}

/// It reads the answer by protobuf's JSON rules, and refuses a field that the stream's message does not have.
#[tokio::test]
async fn a_replay_over_grpc_is_the_streams_message_as_json() {
    let world = World::start(Transport::Grpc).await;
    let (shop, warehouse) = world.clients().await;
    let mut events = warehouse.subscribe(EVENT).await.unwrap();
    let publish = shop.publish(EVENT, &json!({"n": 1})).to(world.warehouse.app_id).header("trace", "t-1");
    let id = publish.await.unwrap().id().clone();
    next(&mut events).await.ack().await.unwrap();
    for user_agent in [GRPC_GO, "grpc-node-js/1.13.0"] {
        let mut grpc = Grpc::connect(address(&world)).await.says(user_agent);
        let client_id = grpc.log_in(world.warehouse.app_key.expose()).await;
        let ask = Message::new().text(1, &client_id).text(2, id.as_str()).text(3, EVENT);
        let answer = soon(grpc.call("ReplayMessage", &ask)).await.unwrap();
        let record: Value = serde_json::from_str(answer.fields.text(3)).unwrap();
        let metadata: Value = serde_json::from_str(record["metadata"].as_str().expect("metadata is text")).unwrap();
        assert_eq!(metadata["$internal"]["replay_info"]["wasAcknowledged"], true, "{user_agent}: {metadata}");
        assert_eq!(record["sender"], world.shop.app_id.to_string());
        let envelope = WirePayload::from_wire(record["payload"].as_str().unwrap().to_owned());
        let keys = Keyring::new(world.warehouse.secret_key.clone());
        assert_eq!(crypto::open(&envelope, &keys).unwrap().as_slice(), br#"{"n":1}"#);
        if user_agent == GRPC_GO {
            let fields: Vec<&String> = record.as_object().unwrap().keys().collect();
            assert_eq!(fields, ["message_idem", "message_name", "metadata", "partition_block", "payload", "sender"]);
            assert!(record.as_object().unwrap().values().all(Value::is_string), "{record}");
        }
    }
}

/// Defer and discard carry no name, and no block.
#[tokio::test]
async fn settling_over_grpc_needs_no_name() {
    let world = World::start(Transport::Grpc).await;
    let (shop, _) = world.clients().await;
    let mut link = soon(world.connector().connect(&world.endpoint(), &world.warehouse.app_key)).await.unwrap();
    let subscribe = Subscribe { event: EVENT.parse().unwrap(), max_in_flight: None, max_bytes_in_flight: None };
    soon(link.transport.call(Command::Subscribe(subscribe))).await.unwrap();
    let id = publish(&world, &shop, EVENT, 1).await.unwrap().id().clone();
    let settle = |how| Command::Settle(Settle { id: id.clone(), event: None, block: None, how });
    let first = soon(link.inbox.next()).await.unwrap().unwrap();
    assert_eq!(first.id, id);
    let defer = Settlement::Defer { delay: ensync_core::Delay::NONE, priority: 0, reason: "later".into() };
    soon(link.transport.call(settle(defer))).await.unwrap();
    let again = soon(link.inbox.next()).await.unwrap().unwrap();
    assert_eq!((&again.id, again.attempt), (&id, Some(2)));
    soon(link.transport.call(settle(Settlement::Discard { reason: "broken".into() }))).await.unwrap();
    assert_eq!(world.server.broker().dead_letters(None, None, 10).await.unwrap()[0].reason, "broken");
}

/// Its default: hybrid also to one recipient, whose entry has the wrapped key under `ciphertext`.
fn seal(payload: &Value, world: &World) -> WirePayload {
    let recipient = Recipient::new(world.warehouse.app_id).unwrap();
    let large = format!("{}{}", payload, " ".repeat(20 << 10));
    let ours = crypto::seal(large.as_bytes(), &[recipient.clone(), recipient]).unwrap().remove(0);
    let mut envelope: Value = serde_json::from_slice(&STANDARD.decode(ours.as_str().unwrap()).unwrap()).unwrap();
    let keys = envelope["keys"].as_object_mut().unwrap();
    keys.retain(|id, _| *id == world.warehouse.app_id.to_string());
    keys.values_mut().for_each(|entry| drop(entry.as_object_mut().unwrap().remove("encryptedKey")));
    WirePayload::from_wire(STANDARD.encode(envelope.to_string()))
}
