//! Logging in, publishing, subscribing.

use std::num::NonZeroU32;

use ensync_engine::EventOptions;
use ensync_sdk::Sender;
use serde_json::{Value, json};

use super::{deliver, ids};
use crate::peer::{Kind, Peer};
use crate::table::{Outcome, Outcome::*};
use crate::world::{World, eventually, next};

pub async fn log_in(world: &mut World, peer: &mut Peer) -> Outcome {
    peer.new_client(world).await;
    let wrong = peer.call("login", json!({"key": "not-the-key", "secret": ""})).await.unwrap_err();
    assert!(wrong.contains("app key"), "{wrong}");
    peer.ask("abandon", json!({})).await;
    peer.new_client(world).await;
    let key = peer.ask("login", world.peer.login()).await;
    if peer.kind.is_python() {
        assert_eq!(key, world.peer.id.to_string());
    }
    peer.close().await;
    Works
}

pub async fn publish_to_one(world: &mut World, peer: &mut Peer) -> Outcome {
    let name = "interop/publish/one";
    peer.log_in(world).await;
    for (ours, app) in world.clients().await.iter().zip(&world.ours) {
        let mut events = ours.subscribe(name).await.unwrap();
        let payload = json!({"order": "ö-1; x=:", "total": 7.5, "items": [1, {"a": null}], "open": true});
        let publish = json!({
            "name": name, "to": [app.id.to_string()], "payload": payload,
            // What splits a frame at every semicolon would read a recipient here.
            "metadata": {"persist": true, "headers": {"note": "a;DELIVERY_TO=:b"}, "own": 1},
        });
        let published = peer.ask("publish", publish).await;
        let event = next(&mut events).await;
        assert_eq!([event.id().to_string()], *ids(&published));
        assert_eq!(event.json().unwrap(), payload);
        assert_eq!(event.sender(), Sender::Unverified { claimed: Some(world.peer.id) });
        let metadata: Value = serde_json::from_str(event.metadata().as_str()).unwrap();
        assert_eq!(metadata, json!({"persist": true, "headers": {"note": "a;DELIVERY_TO=:b"}, "own": 1}));
        event.ack().await.unwrap();
    }
    peer.close().await;
    Works
}

/// To our clients of both transports, and to itself.
pub async fn publish_to_three(world: &mut World, peer: &mut Peer) -> Outcome {
    let name = "interop/publish/three";
    let publish = async |peer: &mut Peer, payload: &Value, options: Value| {
        let to = [&world.ours[0], &world.ours[1], &world.peer].map(|app| app.id.to_string());
        let mut publish = json!({"name": name, "to": to, "payload": payload});
        if !options.is_null() {
            publish["options"] = options;
        }
        ids(&peer.ask("publish", publish).await)
    };
    let [grpc, ws] = world.clients().await;
    let mut ours = [grpc.subscribe(name).await.unwrap(), ws.subscribe(name).await.unwrap()];
    peer.subscribe(world, name, false).await;
    let mut both_open = async |ids: &[String], payload: &Value| {
        for (events, id) in ours.iter_mut().zip(ids) {
            let event = next(events).await;
            assert_eq!((event.id().as_str(), &event.json().unwrap()), (id.as_str(), payload));
            event.ack().await.unwrap();
        }
    };

    let payload = json!({"three": "by default"});
    let sent = publish(peer, &payload, Value::Null).await;
    both_open(&sent, &payload).await;
    if peer.kind == Kind::Node {
        assert_eq!(peer.event().await["payload"], payload);
        peer.close().await;
        return Works;
    }
    // The hybrid form of the Python clients: we read it, they cannot.
    let evidence = peer.logged("Failed to decrypt hybrid message").await;
    assert!(!peer.has_event());
    assert_eq!(world.queue(name).await.in_flight, 1);

    let payload = json!({"three": "a box for each"});
    let sent = publish(peer, &payload, json!({"useHybridEncryption": false})).await;
    both_open(&sent, &payload).await;
    let event = peer.event().await;
    assert_eq!((&event["payload"], &event["idem"]), (&payload, &json!(sent[2])));
    peer.close().await;

    // They do not settle what they cannot open; it does not come for ever.
    let name = "interop/publish/poison";
    let options = EventOptions {
        max_deliveries: Some(NonZeroU32::MIN),
        ack_timeout: Some(EventOptions::MIN_DURATION),
        ..EventOptions::default()
    };
    world.register(name, options).await;
    peer.subscribe(world, name, true).await;
    let to = [&world.peer, &world.bystander].map(|app| app.id.to_string());
    peer.ask("publish", json!({"name": name, "to": to, "payload": {"a": 1}})).await;
    eventually("a dead letter", async || !world.dead_letters(name).await.is_empty()).await;
    assert_eq!(world.dead_letters(name).await[0].reason, "max deliveries");
    peer.close().await;
    Defect(evidence.trim().to_owned())
}

pub async fn subscribe(world: &mut World, peer: &mut Peer) -> Outcome {
    let name = "interop/subscribe";
    let outcome = if matches!(peer.kind, Kind::Grpc044 | Kind::WebSocket043) {
        // In the order of its documentation: log in, then register a handler.
        peer.log_in(world).await;
        peer.ask("subscribe", json!({"name": name, "auto_ack": false})).await;
        let to_itself = json!({"name": name, "to": [world.peer.id.to_string()], "payload": {"n": 0}});
        peer.ask("publish", to_itself).await;
        let queue = world.queue(name).await;
        assert_eq!((queue.consumers, queue.ready), (0, 1));
        peer.close().await;
        peer.subscribe(world, name, false).await;
        assert_eq!(peer.event().await["payload"], json!({"n": 0}));
        Defect("0 consumers".to_owned())
    } else {
        peer.subscribe(world, name, false).await;
        Works
    };
    for from in [0, 1] {
        let payload = json!({"from": from, "text": "ö;=:{}", "list": [1, 2.5, null]});
        deliver(world, peer, name, from, &payload).await;
    }
    peer.close().await;
    outcome
}
