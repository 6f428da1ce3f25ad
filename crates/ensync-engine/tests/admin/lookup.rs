//! One event by its id, the events of a queue, and the purge of one.

use std::time::Duration;

use ensync_core::{Command, Delay, EventName, Settlement};
use futures::StreamExt;
use serde_json::{Value, json};

use super::client::{encoded, new_key};
use super::letters::World;

impl World {
    pub(crate) async fn found(&self, id: &str) -> Value {
        self.engine.call("GET", &format!("/v1/lookup/{id}"), None).await.ok(200)
    }

    pub(crate) fn queue(&self, event: &str, rest: &str) -> String {
        format!("/v1/queues/{}/{}{rest}", encoded(&self.stock), encoded(event))
    }
}

fn defer(time: Duration) -> Settlement {
    Settlement::Defer { delay: Delay::try_from(time).unwrap(), priority: Default::default(), reason: String::new() }
}

#[tokio::test]
async fn an_event_is_found_however_it_stands() {
    let (world, deliveries) = World::with(5).await;
    let id = |n: usize| deliveries[n].id.as_str().to_owned();
    world.settle(&deliveries[1], Settlement::Ack).await;
    world.settle(&deliveries[2], Settlement::Discard { reason: "<b>no</b> use".into() }).await;
    world.settle(&deliveries[3], defer(Duration::from_secs(600))).await;
    world.settle(&deliveries[4], Settlement::Discard { reason: "gone".into() }).await;
    assert_eq!(world.post("drop", json!({"id": id(4)})).await, 1);
    let session = world.engine.call("GET", "/v1/sessions", None).await.ok(200)["sessions"][0]["session"].clone();

    for (n, state) in ["in_flight", "acked", "dead", "deferred", "dropped"].into_iter().enumerate() {
        let found = world.found(&id(n)).await;
        let standing = &found["standing"];
        assert_eq!((&standing["id"], &standing["state"]), (&json!(id(n)), &json!(state)));
        assert_eq!((&standing["event"], &standing["app"]), (&json!("a/b"), &json!(world.stock)));
        assert_eq!((&found["app_name"], &found["sender_name"]), (&json!("stock"), &json!("stock")));
        assert_eq!((&found["payload_bytes"], &found["metadata"]), (&json!(4), &json!({})));
        assert_eq!((&found["payload"], &found["suite"]), (&Value::Null, &Value::Null), "nobody asked for the payload");
        assert!(standing["accepted_at"].is_u64());
    }
    let held = world.found(&id(0)).await;
    assert_eq!((&held["standing"]["session"], &held["standing"]["deliveries"]), (&session, &json!(1)));
    let now = held["standing"]["accepted_at"].as_u64().unwrap();
    assert!((now + 50_000..now + 70_000).contains(&held["standing"]["until"].as_u64().unwrap()), "{held}");
    let dead = world.found(&id(2)).await;
    assert_eq!(dead["standing"]["reason"], "<b>no</b> use");
    assert!(world.found(&id(3)).await["standing"]["until"].as_u64().unwrap() > now + 500_000);
    let whole = world.engine.call("GET", &format!("/v1/lookup/{}?payload=true", id(1)), None).await.ok(200);
    assert_eq!(whole["payload"], "b25l");

    // One that waits.
    let event = EventName::parse("a/b").unwrap();
    world.handle(Command::Unsubscribe { event }).await;
    world.settle(&deliveries[0], Settlement::Release).await;
    assert_eq!(world.found(&id(0)).await["standing"]["state"], "ready");
}

/// Whoever sends what nobody can use chooses how deep its metadata is.
#[tokio::test]
async fn the_deepest_metadata_hides_no_event() {
    let server = ensync_engine::Server::dev().start().await.unwrap();
    let (shop, stock) = (server.create_app("shop").await.unwrap(), server.create_app("stock").await.unwrap());
    let connector = std::sync::Arc::new(server.in_process());
    let endpoint = server.grpc_url().parse().unwrap();
    let link = ensync_core::Connector::connect(&*connector, &endpoint, &shop.app_key).await.unwrap();
    let api = ensync_engine::AdminApi::new(server.broker().clone());
    for (depth, is_object) in [(1, true), (100, true), (101, false), (127, false)] {
        let text = format!(r#"{{"a":{}1e2{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
        let publish = ensync_core::Publish {
            event: EventName::parse("a/b").unwrap(),
            recipient: stock.app_id,
            payload: ensync_core::WirePayload::from_wire("b25l"),
            metadata: ensync_core::Metadata::parse(&text).unwrap(),
            payload_metadata: None,
            idempotency_key: None,
        };
        let reply = ensync_core::Transport::call(&*link.transport, Command::Publish(publish)).await.unwrap();
        let ensync_core::Reply::Published { id } = reply else { panic!("not published") };
        let request = http::Request::get(format!("/v1/lookup/{id}")).body(bytes::Bytes::new()).unwrap();
        let answer = api.call(request).await.unwrap();
        let found = ensync_core::read_json("the answer", answer.body()).unwrap();
        assert_eq!((&found["metadata_text"], found["metadata"].is_object()), (&json!(text), is_object), "{depth}");
    }
}

#[tokio::test]
async fn an_id_of_nothing_finds_nothing() {
    let (world, deliveries) = World::with(1).await;
    let id = deliveries[0].id.as_str();
    for forged in ["nonsense", &id[1..], &format!("{id}A"), "AQAAAAAAAAA", &"x".repeat(80)] {
        world.engine.call("GET", &format!("/v1/lookup/{forged}"), None).await.refused(404, "not_found");
    }
    world.engine.call("GET", &format!("/v1/lookup/{id}?paylod=true"), None).await.refused(400, "invalid_input");
    assert_eq!(world.engine.call("GET", "/v1/lookup/%20", None).await.status / 100, 4);
}

#[tokio::test]
async fn a_queue_is_looked_into_and_nothing_is_delivered_by_that() {
    let (world, deliveries) = World::with(4).await;
    world.settle(&deliveries[1], Settlement::Discard { reason: "no use".into() }).await;
    world.settle(&deliveries[2], defer(Duration::from_secs(600))).await;
    world.settle(&deliveries[3], Settlement::Ack).await;
    world.handle(Command::Unsubscribe { event: EventName::parse("a/b").unwrap() }).await;
    world.publish_only("a/b", 3).await;
    let peek = async |query: &str| {
        let path = world.queue("a/b", &format!("/events{query}"));
        let found = world.engine.call("GET", &path, None).await.ok(200);
        let states =
            found["events"].as_array().unwrap().iter().map(|event| event["state"].as_str().unwrap().to_owned());
        (states.collect::<Vec<_>>(), found["next"].clone(), found)
    };
    let (all, next, found) = peek("").await;
    assert_eq!(
        (all, next),
        (["in_flight", "dead", "deferred", "ready", "ready", "ready"].map(str::to_owned).to_vec(), Value::Null)
    );
    assert_eq!(found["events"][0]["id"], deliveries[0].id.as_str());
    assert_eq!((&found["events"][3]["deliveries"], &found["events"][3]["bytes"]), (&json!(0), &json!(6)));
    for (state, count) in [("ready", 3), ("in_flight", 1), ("deferred", 1), ("dead", 1)] {
        assert_eq!(peek(&format!("?state={state}")).await.0, vec![state; count]);
    }
    let (first, next, _) = peek("?state=ready&limit=2").await;
    assert_eq!(first.len(), 2);
    let (rest, next, _) = peek(&format!("?state=ready&limit=2&after={}", next.as_str().unwrap())).await;
    assert_eq!((rest.len(), next), (1, Value::Null));
    assert_eq!(peek("").await.0.len(), 6, "a look changes nothing");
    let (last, next, found_last) = peek("?last=4").await;
    assert_eq!((last, next), (["deferred", "ready", "ready", "ready"].map(str::to_owned).to_vec(), Value::Null));
    assert_eq!(found_last["events"][3]["id"], found["events"][5]["id"], "the last one stands last");
    assert_eq!(peek("?last=1000").await.0.len(), 6);

    let shown = world.engine.call("GET", &world.queue("a/b", ""), None).await.ok(200);
    assert_eq!((&shown["ready"], &shown["app_name"]), (&json!(3), &json!("stock")));
    for path in
        [world.queue("nobody", ""), world.queue("nobody", "/events"), format!("/v1/queues/{}/c", encoded(&new_key()))]
    {
        world.engine.call("GET", &path, None).await.refused(404, "not_found");
    }
    for query in ["?state=acked", "?limit=0", "?limit=1001", "?last=0", "?last=1001", "?last=2&limit=2"] {
        world
            .engine
            .call("GET", &world.queue("a/b", &format!("/events{query}")), None)
            .await
            .refused(422, "invalid_input");
    }
    world.engine.call("GET", &world.queue("a/b", "/events?state=x"), None).await.refused(400, "invalid_input");
}

#[tokio::test]
async fn a_purge_takes_what_waits_and_nothing_else() {
    let (mut world, deliveries) = World::with(4).await;
    world.settle(&deliveries[1], Settlement::Discard { reason: "no use".into() }).await;
    world.settle(&deliveries[2], defer(Duration::from_secs(600))).await;
    world.settle(&deliveries[3], Settlement::Release).await;
    let back = world.reader.inbox.next().await.unwrap();
    world.handle(Command::Unsubscribe { event: EventName::parse("a/b").unwrap() }).await;
    // More than go at once.
    world.publish_only("a/b", 2_500).await;
    let path = world.queue("a/b", "/purge");
    assert_eq!(world.engine.call("POST", &path, None).await.ok(200), json!({"count": 2_501}));
    assert_eq!(world.engine.call("POST", &path, None).await.ok(200), json!({"count": 0}));
    let queue = world.engine.call("GET", &world.queue("a/b", ""), None).await.ok(200);
    let counts = ["ready", "in_flight", "deferred", "dead"].map(|name| queue[name].as_u64().unwrap());
    assert_eq!((counts, &queue["counters"]["dropped"]), ([0, 2, 0, 1], &json!(2_501)));
    // What is with a client is settled as ever, and the other queue is as it was.
    world.settle(&deliveries[0], Settlement::Ack).await;
    world.settle(&back, Settlement::Ack).await;
    assert_eq!(world.engine.call("GET", &world.queue("c", ""), None).await.ok(200)["in_flight"], 4);
    assert_eq!(world.found(deliveries[2].id.as_str()).await["standing"]["state"], "dropped");
    world.engine.call("POST", &world.queue("nobody", "/purge"), None).await.refused(404, "not_found");
}

#[tokio::test]
async fn what_was_purged_stays_gone_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let builder = || ensync_engine::Server::builder().data_dir(directory.path());
    let (world, deliveries) = World::of(builder(), 2).await;
    for delivery in &deliveries {
        world.settle(delivery, Settlement::Ack).await;
    }
    world.handle(Command::Unsubscribe { event: EventName::parse("a/b").unwrap() }).await;
    world.publish_only("a/b", 3).await;
    assert_eq!(world.engine.call("POST", &world.queue("a/b", "/purge"), None).await.ok(200), json!({"count": 3}));
    world.publish_only("a/b", 1).await;
    world.engine.server.shutdown().await;
    drop(world.engine);
    let log = ensync_engine::Logs::open(directory.path(), Default::default()).await.unwrap();
    let broker = ensync_engine::Broker::start(Default::default(), log).await.unwrap();
    let queue = broker.queue("a/b".parse().unwrap(), world.stock.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((queue.ready, queue.dead), (1, 0));
}
