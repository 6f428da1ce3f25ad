//! One publish of ours to every published client and to ourselves.

use std::path::Path;

use serde_json::{Value, json};

use crate::peer::{Kind, Peer};
use crate::table::Outcome::{self, Defect, Works};
use crate::world::{App, World, next};

type Row = (&'static str, Outcome);

/// What each client makes of it: of a small payload, which goes out as a box for each, and of a large one, which is encrypted once.
pub async fn one_publish_to_all(clients: &Path) -> Vec<(Kind, [Row; 2])> {
    let name = "interop/many";
    let mut world = World::start().await;
    let mut peers: Vec<(App, Peer)> = Vec::new();
    for kind in Kind::ALL {
        let mut peer = Peer::spawn(kind, clients);
        peer.subscribe(&world, name, false).await;
        peers.push((world.next_peer(kind.name()).await, peer));
    }
    let ours = world.clients().await;
    let mut mine = [ours[0].subscribe(name).await.unwrap(), ours[1].subscribe(name).await.unwrap()];
    let everybody: Vec<_> = peers.iter().map(|(app, _)| app.id).chain(world.ours.iter().map(|app| app.id)).collect();
    let small = json!({"order": "ö-1", "total": 7.5, "items": [1, null, true]});
    let large = json!({"order": "ö-2", "text": "x".repeat(32 << 10)});

    // Each of our transports sends.
    for sender in &ours {
        for payload in [&small, &large] {
            let receipt = sender.publish(name, payload).to_all(everybody.clone()).await.unwrap();
            for (events, app) in mine.iter_mut().zip(&world.ours) {
                let event = next(events).await;
                assert_eq!((Some(event.id()), &event.json().unwrap()), (receipt.id_for(&app.id), payload));
                event.ack().await.unwrap();
            }
            for (app, peer) in &mut peers {
                if peer.kind == Kind::Node && *payload == large {
                    // It knows one form of envelope, and this is the other.
                    peer.logged("Failed to decrypt with key").await;
                    assert!(!peer.has_event());
                    // To it alone the event is a box, whatever its size.
                    let receipt = sender.publish(name, payload).to(app.id).await.unwrap();
                    takes(peer, receipt.id().as_str(), payload).await;
                } else {
                    takes(peer, receipt.id_for(&app.id).unwrap().as_str(), payload).await;
                }
            }
        }
    }

    let mut found = Vec::new();
    for (_, mut peer) in peers {
        let opens_large = match peer.kind {
            Kind::Node => Defect(peer.logged("Failed to decrypt with key").await),
            _ => Works,
        };
        found.push((
            peer.kind,
            [("open one of ours to many", Works), ("open a large one of ours to many", opens_large)],
        ));
        peer.close().await;
    }
    found
}

/// The peer's next event is this one, and its acknowledgement reaches the engine.
async fn takes(peer: &mut Peer, id: &str, payload: &Value) {
    let event = peer.event().await;
    assert_eq!((event["idem"].as_str(), &event["payload"]), (Some(id), payload), "at {:?}", peer.kind);
    peer.ask("ack", json!({"name": event["name"], "idem": id, "block": event["block"]})).await;
}
