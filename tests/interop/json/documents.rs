//! Random documents through each published client and back.

use std::path::Path;

use ensync_sdk::PayloadJson;
use serde_json::{Value, json};

use super::meaning;
use super::random::Random;
use crate::peer::{Kind, Peer};
use crate::world::{World, next};

/// So many documents stand in one event.
const IN_EACH: usize = 500;

/// How many go through each client; `ENSYNC_DOCUMENTS` asks for another number.
fn events() -> usize {
    let documents: usize = std::env::var("ENSYNC_DOCUMENTS").map_or(10_000, |number| number.parse().unwrap());
    documents.div_ceil(IN_EACH).max(1)
}

/// Documents that a client publishes come to us as they were, and those that we publish come to it. One after the other, for not every
/// client can do both at a time. Each event is acked outside of its handler, for two of the clients wait in a handler for an answer that
/// they could only read after it.
pub async fn go_through(kind: Kind, clients: &Path) {
    let name = "interop/json";
    let world = World::start().await;
    let mut peer = Peer::spawn(kind, clients);
    peer.log_in(&world).await;
    let which = usize::from(!kind.is_grpc());
    let (mine, to) = (world.client(which).await, world.ours[which].id.to_string());
    let mut received = mine.subscribe(name).await.unwrap();
    let mut random = Random(3);
    let mut sent = Vec::new();
    for _ in 0..events() {
        let mut payload = random.object();
        payload.insert("documents".into(), (0..IN_EACH).map(|_| random.value(0)).collect());
        let payload = Value::Object(payload);
        peer.ask("publish", json!({"name": name, "to": [&to], "payload": payload})).await;
        let event = next(&mut received).await;
        same(kind, &event.json().unwrap(), &payload);
        sent.push((PayloadJson::parse(event.text().unwrap()).unwrap(), payload));
        event.ack().await.unwrap();
    }
    peer.close().await;

    peer.subscribe(&world, name, false).await;
    for (text, payload) in sent {
        mine.publish_json(name, text).to(world.peer.id).await.unwrap();
        let event = peer.event().await;
        same(kind, &event["payload"], &payload);
        peer.ask("ack", json!({"name": event["name"], "idem": event["idem"], "block": event["block"]})).await;
    }
    assert_eq!(world.queue(name).await.counters.acked, events() as u64, "{kind:?}");
    peer.close().await;
}

/// Python keeps every number as it is; Node has doubles only.
fn same(kind: Kind, found: &Value, sent: &Value) {
    let same = |found: &Value, sent: &Value| {
        if kind.is_python() { found == sent } else { meaning(found) == meaning(sent) }
    };
    if same(found, sent) {
        return;
    }
    // The first document that is not the same, for all of them are too many to read.
    for (name, sent) in sent.as_object().unwrap() {
        if let (Some(found), Some(sent)) = (found[name].as_array(), sent.as_array()) {
            for (found, sent) in found.iter().zip(sent) {
                assert!(same(found, sent), "{kind:?}: {sent} became {found}");
            }
        }
        assert!(same(&found[name], sent), "{kind:?}: {name:?} changed");
    }
    panic!("{kind:?}: the payload has other members");
}
