//! Replaying, pausing, resuming, unsubscribing.

use serde_json::json;

use super::{about, defect, deliver, missing, with};
use crate::peer::{Kind, Peer};
use crate::table::{Outcome, Outcome::*};
use crate::world::World;

/// Of an event that was acknowledged.
pub async fn replay(world: &mut World, peer: &mut Peer) -> Outcome {
    let name = "interop/replay";
    peer.subscribe(world, name, false).await;
    let event = deliver(world, peer, name, 1, &json!({"n": 1, "text": "once more"})).await;
    peer.ask("ack", with(about(&event), "block", event["block"].clone())).await;
    let answer = peer.call("replay", about(&event)).await;
    let (outcome, replayed) = match peer.kind {
        Kind::Node => {
            peer.close().await;
            return missing(peer, "replay", answer);
        }
        Kind::WebSocket043 => {
            let error = "AttributeError: 'EnSyncEngine' object has no attribute '_replay_message'";
            // What the method means to call is there, under another name.
            (defect(answer, error), peer.ask("replay_inside", about(&event)).await)
        }
        _ => (Works, answer.unwrap()),
    };
    assert_eq!(replayed, event["payload"]);
    let nothing = peer.call(if peer.kind == Kind::WebSocket043 { "replay_inside" } else { "replay" }, {
        with(about(&event), "idem", "nothing")
    });
    assert!(nothing.await.unwrap_err().contains("no such event"), "of {:?}", peer.kind);
    peer.close().await;
    outcome
}

pub async fn pause(world: &mut World, peer: &mut Peer) -> Outcome {
    let name = "interop/pause";
    peer.subscribe(world, name, false).await;
    let answer = peer.call("pause", json!({"name": name})).await;
    if peer.kind == Kind::Node {
        peer.close().await;
        return missing(peer, "pause", answer);
    }
    assert_eq!(answer.unwrap()["action"], "paused");
    let ours = world.client(0).await;
    ours.publish(name, &json!({"n": 1})).to(world.peer.id).await.unwrap();
    let queue = world.queue(name).await;
    assert_eq!((queue.consumers, queue.ready, queue.counters.delivered), (1, 1, 0));
    assert_eq!(peer.ask("resume", json!({"name": name})).await["action"], "continued");
    assert_eq!(peer.event().await["payload"], json!({"n": 1}));
    peer.close().await;
    Works
}

pub async fn resume(world: &mut World, peer: &mut Peer) -> Outcome {
    let name = "interop/resume";
    peer.subscribe(world, name, false).await;
    let answer = peer.call("resume", json!({"name": name})).await;
    peer.close().await;
    if peer.kind == Kind::Node {
        return missing(peer, "resume", answer);
    }
    // Without a pause it changes nothing; after one, see `pause`.
    assert_eq!(answer.unwrap()["action"], "continued");
    Works
}

pub async fn unsubscribe(world: &mut World, peer: &mut Peer) -> Outcome {
    let name = "interop/unsubscribe";
    peer.subscribe(world, name, false).await;
    peer.ask("unsubscribe", json!({"name": name})).await;
    assert_eq!(world.queue(name).await.consumers, 0);
    let ours = world.client(1).await;
    ours.publish(name, &json!({"n": 1})).to(world.peer.id).await.unwrap();
    let queue = world.queue(name).await;
    assert_eq!((queue.ready, queue.counters.delivered), (1, 0));
    // The session goes on.
    let to = [world.ours[0].id.to_string()];
    peer.ask("publish", json!({"name": name, "to": to, "payload": {"n": 2}})).await;
    peer.close().await;
    Works
}
