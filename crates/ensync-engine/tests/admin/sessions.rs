//! Who is connected.

use ensync_core::{Login, Service};
use futures::StreamExt;
use serde_json::json;

use super::client::{Engine, encoded};
use super::letters::World;

#[tokio::test]
async fn sessions_are_listed_shown_and_ended() {
    let (mut world, deliveries) = World::with(2).await;
    let (_, key) = world.engine.create_app("other").await;
    let remote = Some(([192, 0, 2, 7], 4_711).into());
    let login = Login { app_key: key.parse().unwrap(), transport: "grpc", remote };
    let mut other = world.engine.server.broker().login(login).await.unwrap();

    let all = world.engine.call("GET", "/v1/sessions", None).await.ok(200);
    let (ours, theirs) = (&all["sessions"][0], &all["sessions"][1]);
    assert_eq!((all["sessions"].as_array().unwrap().len(), &all["next"]), (2, &json!(null)));
    assert_eq!((&ours["app"], &ours["app_name"]), (&json!(world.stock), &json!("stock")));
    assert_eq!((&ours["subscriptions"], &ours["held"], &ours["held_bytes"]), (&json!(2), &json!(4), &json!(24)));
    assert_eq!((&ours["transport"], &ours["remote"]), (&json!("local"), &json!(null)));
    assert_eq!((&theirs["transport"], &theirs["remote"]), (&json!("grpc"), &json!("192.0.2.7:4711")));
    assert!(theirs["since"].as_u64().unwrap() > 1_600_000_000_000);
    // Whoever holds a client id may act as that session.
    assert!(!all.to_string().contains(other.peer.client_id.expose()));

    let page = world.engine.call("GET", "/v1/sessions?limit=1", None).await.ok(200);
    let rest = format!("/v1/sessions?limit=1&after={}", page["next"].as_str().unwrap());
    assert_eq!(world.engine.call("GET", &rest, None).await.ok(200)["sessions"][0], *theirs);
    let of = format!("/v1/sessions?app={}", encoded(&world.stock));
    assert_eq!(world.engine.call("GET", &of, None).await.ok(200)["sessions"], json!([ours]));

    let path = format!("/v1/sessions/{}", ours["session"]);
    let shown = world.engine.call("GET", &path, None).await.ok(200);
    assert_eq!(shown["session"], *ours);
    let subscription = json!({"event": "a/b", "active": true, "paused": false, "held": 2, "held_bytes": 12});
    assert_eq!(shown["subscriptions"][0], subscription);

    let path = format!("/v1/sessions/{}", theirs["session"]);
    assert_eq!(world.engine.call("DELETE", &path, None).await.status, 204);
    assert!(other.inbox.next().await.is_none(), "its inbox has ended");
    for method in ["GET", "DELETE"] {
        world.engine.call(method, &path, None).await.refused(404, "not_found");
    }
    // What the other holds is not touched by that.
    world.settle(&deliveries[0], ensync_core::Settlement::Ack).await;
    assert!(futures::poll!(world.reader.inbox.next()).is_pending());
}

#[tokio::test]
async fn a_session_that_is_ended_gives_back_what_it_holds() {
    let (world, _) = World::with(2).await;
    let all = world.engine.call("GET", "/v1/sessions", None).await.ok(200);
    let path = format!("/v1/sessions/{}", all["sessions"][0]["session"]);
    assert_eq!(world.engine.call("DELETE", &path, None).await.status, 204);
    let queue = world.engine.call("GET", &world.queue("a/b", ""), None).await.ok(200);
    assert_eq!((&queue["ready"], &queue["in_flight"], &queue["consumers"]), (&json!(2), &json!(0), &json!(0)));
}

#[tokio::test]
async fn what_is_no_session_is_said_so() {
    let engine = Engine::start().await;
    assert_eq!(engine.call("GET", "/v1/sessions", None).await.ok(200), json!({"sessions": [], "next": null}));
    engine.call("GET", "/v1/sessions/7", None).await.refused(404, "not_found");
    for path in ["/v1/sessions/x", "/v1/sessions/-1", "/v1/sessions?nmae=1"] {
        engine.call("GET", path, None).await.refused(400, "invalid_input");
    }
    engine.call("GET", "/v1/sessions?after=x", None).await.refused(422, "invalid_input");
}
