//! Settling what was delivered.

use serde_json::json;

use super::{about, defect, deliver, missing, with};
use crate::peer::{Kind, Peer};
use crate::table::{Outcome, Outcome::*};
use crate::world::{World, eventually};

/// What both 0.4 packages fail with after the engine has deferred or discarded.
const NO_MESSAGE_LOOP: &str = "EnSyncError: EnSyncDXError: module 'asyncio' has no attribute 'get_message_loop'";

pub async fn auto_ack(world: &mut World, peer: &mut Peer) -> Outcome {
    let name = "interop/auto/ack";
    peer.subscribe(world, name, true).await;
    deliver(world, peer, name, 0, &json!({"n": 1})).await;
    eventually("the ack", async || world.queue(name).await.counters.acked == 1).await;
    let outcome = if matches!(peer.kind, Kind::WebSocket033 | Kind::WebSocket043) {
        // The task that waits for the answer is the one that would read it.
        assert_eq!(peer.ask("waiting", json!({})).await, 1);
        Defect("1 answer not read".to_owned())
    } else {
        deliver(world, peer, name, 1, &json!({"n": 2})).await;
        eventually("the second ack", async || world.queue(name).await.counters.acked == 2).await;
        Works
    };
    peer.close().await;
    outcome
}

pub async fn manual_ack(world: &mut World, peer: &mut Peer) -> Outcome {
    let name = "interop/manual/ack";
    peer.subscribe(world, name, false).await;
    let event = deliver(world, peer, name, 0, &json!({"n": 1})).await;
    let block = event["block"].clone();
    let stale = peer.call("ack", with(about(&event), "block", block.as_u64().unwrap() - 1)).await.unwrap_err();
    assert!(stale.contains("stale"), "{stale}");
    assert_eq!(world.queue(name).await.in_flight, 1);
    peer.ask("ack", with(about(&event), "block", block)).await;
    assert_eq!(world.queue(name).await.counters.acked, 1);
    peer.close().await;
    if !matches!(peer.kind, Kind::Grpc033 | Kind::WebSocket033) {
        return Works;
    }
    // The option's name in its documentation is not the one that it reads.
    let name = "interop/manual/documented";
    peer.log_in(world).await;
    peer.ask("subscribe", json!({"name": name, "auto_ack": false, "option": "auto_ack"})).await;
    deliver(world, peer, name, 0, &json!({"n": 1})).await;
    eventually("an ack", async || world.queue(name).await.counters.acked == 1).await;
    peer.close().await;
    Defect("1 acked".to_owned())
}

pub async fn defer(world: &mut World, peer: &mut Peer) -> Outcome {
    let name = "interop/defer";
    peer.subscribe(world, name, false).await;
    let event = deliver(world, peer, name, 1, &json!({"n": 1})).await;
    let answer = peer.call("defer", with(about(&event), "delay", 1_000)).await;
    if peer.kind == Kind::Node {
        assert_eq!(world.queue(name).await.in_flight, 1);
        peer.close().await;
        return missing(peer, "defer", answer);
    }
    let outcome = match peer.kind {
        Kind::Grpc044 | Kind::WebSocket043 => defect(answer, &NO_MESSAGE_LOOP.replace('X', "efer")),
        _ => {
            let answer = answer.unwrap();
            assert_eq!((&answer["action"], &answer["delayMs"]), (&json!("deferred"), &json!(1_000)));
            Works
        }
    };
    let again = peer.event().await;
    assert_eq!((&again["idem"], &again["payload"]), (&event["idem"], &event["payload"]));
    assert!(again["block"].as_u64() > event["block"].as_u64());
    assert_eq!(world.queue(name).await.counters.redelivered, 1);
    peer.ask("ack", with(about(&again), "block", again["block"].clone())).await;
    peer.close().await;
    outcome
}

pub async fn discard(world: &mut World, peer: &mut Peer) -> Outcome {
    let name = "interop/discard";
    peer.subscribe(world, name, false).await;
    let event = deliver(world, peer, name, 0, &json!({"n": 1})).await;
    let answer = peer.call("discard", with(about(&event), "reason", "broken; EVENT_IDEM=:x")).await;
    if peer.kind == Kind::Node {
        assert_eq!(world.queue(name).await.in_flight, 1);
        peer.close().await;
        return missing(peer, "discard", answer);
    }
    let dead = world.dead_letters(name).await;
    assert_eq!(dead.iter().map(|dead| dead.reason.as_str()).collect::<Vec<_>>(), ["broken; EVENT_IDEM=:x"]);
    assert_eq!(dead[0].id.as_str(), event["idem"]);
    peer.close().await;
    match peer.kind {
        Kind::Grpc044 | Kind::WebSocket043 => defect(answer, &NO_MESSAGE_LOOP.replace('X', "iscard")),
        _ => {
            assert_eq!(answer.unwrap()["action"], "discarded");
            Works
        }
    }
}

pub async fn rollback(world: &mut World, peer: &mut Peer) -> Outcome {
    let name = "interop/rollback";
    peer.subscribe(world, name, false).await;
    let event = deliver(world, peer, name, 0, &json!({"n": 1})).await;
    let answer = peer.call("rollback", with(about(&event), "block", event["block"].clone())).await;
    if !matches!(peer.kind, Kind::WebSocket033 | Kind::Node) {
        peer.close().await;
        return missing(peer, "rollback", answer);
    }
    answer.unwrap();
    let again = peer.event().await;
    assert_eq!(again["idem"], event["idem"]);
    assert!(again["block"].as_u64() > event["block"].as_u64());
    peer.close().await;
    Works
}
