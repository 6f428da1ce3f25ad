//! What each client is put through, and what each is known to make of it.
//!
//! Every step is checked from the other side too: by our own clients, or by how the engine says that its queue stands. Where a
//! client's own defect is in the way, the defect is what is expected, so that a test fails when it goes away.

mod control;
mod publish;
mod reconnect;
mod settle;

use serde_json::{Value, json};

use crate::peer::{Kind, Peer};
use crate::table::{Outcome, Outcome::Defect};
use crate::world::World;

pub use control::{pause, replay, resume, unsubscribe};
pub use publish::{log_in, publish_to_one, publish_to_three, subscribe};
pub use reconnect::{reconnect, reconnect_after_crash};
pub use settle::{auto_ack, defer, discard, manual_ack, rollback};

/// A method that a client does not have, as the script's error says.
fn missing(peer: &Peer, method: &str, answer: Result<Value, String>) -> Outcome {
    let evidence = if peer.kind == Kind::Node { "is not a function" } else { "object has no attribute" };
    let error = answer.unwrap_err();
    assert!(error.contains(evidence) && error.contains(method), "{error}");
    Defect(evidence.to_owned())
}

/// A defect that shows in an error.
fn defect(answer: Result<Value, String>, error: &str) -> Outcome {
    assert_eq!(answer.unwrap_err(), error);
    Defect(error.to_owned())
}

/// The id in what a publish returns: the gRPC clients give it as it is, the WebSocket ones with the frame around it.
fn ids(published: &Value) -> Vec<String> {
    published.as_str().unwrap().split(',').map(|id| id.trim_start_matches("+PASS:").to_owned()).collect()
}

/// Publishes from our client of a transport to the peer; gives the event as the peer's handler gets it.
async fn deliver(world: &World, peer: &mut Peer, name: &str, from: usize, payload: &Value) -> Value {
    let ours = world.client(from).await;
    let receipt = ours.publish(name, payload).to(world.peer.id).header("note", "a;b=:c").await.unwrap();
    let event = peer.event().await;
    assert_eq!(
        (&event["name"], &event["idem"], &event["payload"]),
        (&json!(name), &json!(receipt.id().as_str()), payload)
    );
    assert_eq!(event["metadata"]["headers"], json!({"note": "a;b=:c"}));
    if peer.kind != Kind::Node {
        assert_eq!(event["sender"], world.ours[from].id.to_string());
    }
    event
}

/// What settles an event names it by.
fn about(event: &Value) -> Value {
    json!({"name": event["name"], "idem": event["idem"]})
}

fn with(mut value: Value, key: &str, more: impl Into<Value>) -> Value {
    value[key] = more.into();
    value
}
