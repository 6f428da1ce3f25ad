//! Engines that end and come back.

use std::time::Duration;

use ensync_engine::EventOptions;
use serde_json::{Value, json};

use super::{about, defect, deliver, with};
use crate::peer::{Kind, Peer};
use crate::table::{Outcome, Outcome::*};
use crate::world::{Ends, World, eventually, next, soon};

pub async fn reconnect(world: &mut World, peer: &mut Peer) -> Outcome {
    after(Ends::InOrder, world, peer).await
}

pub async fn reconnect_after_crash(world: &mut World, peer: &mut Peer) -> Outcome {
    after(Ends::Killed, world, peer).await
}

/// After a restart of the engine, at which our own client needs no help. The peer holds an event meanwhile.
async fn after(ends: Ends, world: &mut World, peer: &mut Peer) -> Outcome {
    let name = if ends == Ends::InOrder { "interop/restart" } else { "interop/crash" };
    let loses = matches!(peer.kind, Kind::WebSocket033 | Kind::WebSocket043);
    if loses {
        // What comes right behind the answer to its SUB it drops unseen. Its lease brings that again.
        let options = EventOptions { ack_timeout: Some(Duration::from_secs(1)), ..EventOptions::default() };
        world.register(name, options).await;
    }
    let ours = world.client(0).await;
    let mut mine = ours.subscribe("interop/reconnect/ours").await.unwrap();
    peer.subscribe(world, name, false).await;
    let held = deliver(world, peer, name, 1, &json!({"held": true})).await;
    world.restart(ends).await;

    let outcome = match peer.kind {
        Kind::Grpc033 | Kind::Node => Works,
        Kind::Grpc044 => {
            let end = peer.ask("listener", json!({"name": name})).await;
            let error = "TypeError: EnSyncGrpcClient.close() got an unexpected keyword argument 'should_reconnect'";
            defect(Err(end.as_str().unwrap().to_owned()), error)
        }
        Kind::WebSocket033 | Kind::WebSocket043 => {
            // It takes a goodbye for the end of its work, and without one it cancels the very task that is to connect again.
            let end = if ends == Ends::InOrder { "returned" } else { "cancelled" };
            assert_eq!(peer.ask("listener", json!({})).await, end);
            Defect(format!("listener {end}"))
        }
    };
    if !matches!(outcome, Works) {
        peer.ask("reconnect", json!({})).await;
    }
    if peer.kind == Kind::WebSocket043 {
        // It loses its subscriptions besides.
        peer.logged("object SubscriptionDecorator can't be used in 'await' expression").await;
        peer.ask("subscribe", json!({"name": name, "auto_ack": false})).await;
        peer.ask("send_sub", json!({"name": name})).await;
    }
    eventually("the subscription after the restart", async || world.queue(name).await.consumers == 1).await;
    let publish = ours.publish(name, &json!({"n": 1})).to(world.peer.id).timeout(Duration::from_secs(50));
    let published = soon("our publish after the restart", publish.into_future()).await.unwrap();
    let mut wanted = vec![held["idem"].clone(), json!(published.id().as_str())];
    let (mut calls, mut event) = (0, Value::Null);
    while !wanted.is_empty() {
        event = peer.event().await;
        wanted.retain(|idem| event["idem"] != *idem);
        calls += 1;
    }
    if !loses {
        // Connecting by hand has registered the handler a second time.
        let twice = peer.kind == Kind::Grpc044;
        assert_eq!((calls, &event["payload"]), (if twice { 3 } else { 2 }, &json!({"n": 1})));
        peer.ask("ack", with(about(&event), "block", event["block"].clone())).await;
        assert_eq!(world.queue(name).await.counters.acked, 1);
    }
    let to = [world.ours[0].id.to_string()];
    peer.ask("publish", json!({"name": "interop/reconnect/ours", "to": to, "payload": {"n": 2}})).await;
    let event = next(&mut mine).await;
    assert_eq!(event.json().unwrap(), json!({"n": 2}));
    event.ack().await.unwrap();
    peer.close().await;
    outcome
}
