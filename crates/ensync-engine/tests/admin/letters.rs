//! Queues and dead letters.

use ensync_core::{
    AppId, Command, Delivery, EventName, Login, Metadata, Publish, Service, Session, Settle, Settlement, Subscribe,
    WirePayload,
};
use ensync_engine::{Server, ServerBuilder};
use futures::StreamExt;
use serde_json::{Value, json};

use super::client::{Engine, encoded};

const NAMES: [&str; 2] = ["a/b", "c"];

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) reader: Session,
    pub(crate) stock: String,
}

impl World {
    /// An app with `count` events of each of two names delivered to it.
    pub(crate) async fn with(count: usize) -> (Self, Vec<Delivery>) {
        Self::of(Server::builder(), count).await
    }

    pub(crate) async fn of(builder: ServerBuilder, count: usize) -> (Self, Vec<Delivery>) {
        let engine = Engine::of(builder).await;
        let (stock, key) = engine.create_app("stock").await;
        let login = Login { app_key: key.parse().unwrap(), transport: "local", remote: None };
        let reader = engine.server.broker().login(login).await.unwrap();
        let mut world = Self { engine, reader, stock };
        for name in NAMES {
            world.engine.call("POST", "/v1/events", Some(json!({"name": name}))).await.ok(201);
            let event = EventName::parse(name).unwrap();
            world.handle(Command::Subscribe(Subscribe { event, max_in_flight: None, max_bytes_in_flight: None })).await;
        }
        let deliveries = world.publish(count).await;
        (world, deliveries)
    }

    pub(crate) async fn publish(&mut self, count: usize) -> Vec<Delivery> {
        for name in NAMES {
            self.publish_only(name, count).await;
        }
        self.reader.inbox.by_ref().take(2 * count).collect().await
    }

    pub(crate) async fn publish_only(&self, name: &str, count: usize) {
        for _ in 0..count {
            let publish = Publish {
                event: EventName::parse(name).unwrap(),
                recipient: AppId::parse(&self.stock).unwrap(),
                payload: WirePayload::from_wire("b25l".to_owned()),
                metadata: Metadata::default(),
                payload_metadata: None,
                idempotency_key: None,
            };
            self.handle(Command::Publish(publish)).await;
        }
    }

    pub(crate) async fn handle(&self, command: Command) {
        self.engine.server.broker().handle(&self.reader.peer, command).await.unwrap();
    }

    async fn discard(&self, delivery: &Delivery) {
        self.settle(delivery, Settlement::Discard { reason: "no use".into() }).await;
    }

    pub(crate) async fn settle(&self, delivery: &Delivery, how: Settlement) {
        let settle = Settle { id: delivery.id.clone(), event: None, block: Some(delivery.block), how };
        self.handle(Command::Settle(settle)).await;
    }

    pub(crate) async fn listed(&self, query: &str) -> Vec<Value> {
        let listed = self.engine.call("GET", &format!("/v1/dead-letters{query}"), None).await.ok(200);
        listed["dead_letters"].as_array().unwrap().clone()
    }

    pub(crate) async fn post(&self, what: &str, which: Value) -> u64 {
        let path = format!("/v1/dead-letters/{what}");
        self.engine.call("POST", &path, Some(which)).await.ok(200)["count"].as_u64().unwrap()
    }
}

#[tokio::test]
async fn a_queue_shows_how_it_stands() {
    let (world, deliveries) = World::with(3).await;
    world.discard(&deliveries[0]).await;
    let path = format!("/v1/queues?app={}", encoded(&world.stock));
    let queues = world.engine.call("GET", &path, None).await.ok(200);
    let queue = &queues["queues"][0];
    assert_eq!(
        (&queue["app"], &queue["app_name"], &queue["event"]),
        (&json!(world.stock), &json!("stock"), &json!("a/b"))
    );
    let counts = ["ready", "in_flight", "deferred", "dead", "consumers"].map(|name| queue[name].as_u64().unwrap());
    assert_eq!(counts, [0, 2, 0, 1, 1]);
    assert_eq!((&queue["counters"]["published"], &queue["counters"]["dead"]), (&json!(3), &json!(1)));
    assert_eq!(queues["queues"].as_array().unwrap().len(), 2);
    let page = world.engine.call("GET", "/v1/queues?limit=1", None).await.ok(200);
    let rest = format!("/v1/queues?limit=1&after={}", page["next"].as_str().unwrap());
    assert_eq!(world.engine.call("GET", &rest, None).await.ok(200)["queues"][0]["event"], "c");
    assert_eq!(
        world.engine.call("GET", "/v1/queues?event=a/b", None).await.ok(200)["queues"].as_array().unwrap().len(),
        1
    );
    let nobody = format!("/v1/queues?app={}", encoded(&super::client::new_key()));
    assert_eq!(world.engine.call("GET", &nobody, None).await.ok(200)["queues"], json!([]));
}

#[tokio::test]
async fn dead_letters_are_listed_requeued_and_dropped() {
    let (mut world, deliveries) = World::with(4).await;
    for delivery in &deliveries {
        world.discard(delivery).await;
    }
    let all = world.listed("").await;
    assert_eq!((all.len(), &all[0]["reason"], &all[0]["deliveries"]), (8, &json!("no use"), &json!(1)));
    let ids: Vec<_> = all.iter().map(|letter| letter["id"].as_str().unwrap()).collect();
    assert_eq!(world.listed(&format!("?limit=3&after={}", ids[1])).await, all[2..5]);
    assert_eq!(world.listed("?event=c").await, all[4..]);
    assert_eq!(world.listed(&format!("?event=c&app={}", encoded(&world.stock))).await.len(), 4);

    assert_eq!(world.post("requeue", json!({"id": ids[0]})).await, 1);
    assert_eq!(world.reader.inbox.next().await.unwrap().id.as_str(), ids[0]);
    assert_eq!(world.post("drop", json!({"id": ids[1]})).await, 1);
    for (what, id) in [("requeue", ids[0]), ("drop", ids[1]), ("drop", "nonsense")] {
        let path = format!("/v1/dead-letters/{what}");
        world.engine.call("POST", &path, Some(json!({"id": id}))).await.refused(404, "not_found");
    }
    assert_eq!(world.post("requeue", json!({"event": "c", "app": world.stock})).await, 4);
    let again: Vec<_> = world.reader.inbox.by_ref().take(4).collect().await;
    assert!(again.iter().map(|delivery| delivery.id.as_str()).eq(ids[4..].iter().copied()));
    assert_eq!(world.post("requeue", json!({"event": "c"})).await, 0);
    assert_eq!(world.post("drop", json!({"all": true})).await, 2);
    assert!(world.listed("").await.is_empty());
}

#[tokio::test]
async fn which_dead_letters_has_to_be_said_without_doubt() {
    let engine = Engine::start().await;
    for which in [json!({}), json!({"all": false}), json!({"id": "x", "all": true}), json!({"event": "a", "all": true})]
    {
        for what in ["requeue", "drop"] {
            let path = format!("/v1/dead-letters/{what}");
            let message = engine.call("POST", &path, Some(which.clone())).await.refused(422, "invalid_input");
            assert!(message.contains("say which"), "{message}");
        }
    }
}

#[tokio::test]
async fn more_of_them_than_go_at_once_go_in_one_request() {
    let (mut world, mut deliveries) = World::with(100).await;
    for round in 0.. {
        for delivery in &deliveries {
            world.discard(delivery).await;
        }
        if round == 5 {
            break;
        }
        deliveries = world.publish(100).await;
    }
    // They come back while it goes on, and become dead letters again later: nothing is counted twice.
    assert_eq!(world.post("requeue", json!({"all": true})).await, 1_200);
    let returned: Vec<_> = world.reader.inbox.by_ref().take(512).collect().await;
    for delivery in &returned {
        world.discard(delivery).await;
    }
    assert_eq!(world.post("drop", json!({"app": world.stock})).await, 512);
}
