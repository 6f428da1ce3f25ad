//! Lists over several partitions, a page at a time.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use ensync_core::{
    AppId, Command, EventName, Login, Metadata, Publish, Service, Settle, Settlement, Subscribe, WirePayload,
};
use ensync_engine::{MemoryLog, Server};
use futures::StreamExt;
use serde_json::{Value, json};

use super::client::{Engine, encoded};

const APPS: usize = 9;

/// All of a list, so many at a time, and no more pages than that takes.
async fn paged(engine: &Engine, path: &str, of: &str, limit: usize) -> Vec<Value> {
    let (mut found, mut after) = (Vec::new(), String::new());
    for _ in 0..=APPS * 3 {
        let page = engine.call("GET", &format!("{path}?limit={limit}{after}"), None).await.ok(200);
        let some = page[of].as_array().unwrap();
        assert!(some.len() <= limit);
        found.extend(some.iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", encoded(next)),
            None => return found,
        }
    }
    panic!("{path} does not end");
}

#[tokio::test]
async fn each_page_goes_on_where_the_one_before_ended() {
    let partitions = NonZeroU32::new(4).unwrap();
    let engine = Engine::of(Server::builder().logs(MemoryLog::with_partitions(partitions))).await;
    let broker = engine.server.broker().clone();
    engine.call("POST", "/v1/events", Some(json!({"name": "a/b"}))).await.ok(201);
    let event = EventName::parse("a/b").unwrap();
    let mut ids = BTreeSet::new();
    for n in 0..APPS {
        let (app, key) = engine.create_app(&format!("app {n}")).await;
        let login = Login { app_key: key.parse().unwrap(), transport: "local", remote: None };
        let mut session = broker.login(login).await.unwrap();
        let subscribe = Subscribe { event: event.clone(), max_in_flight: None, max_bytes_in_flight: None };
        broker.handle(&session.peer, Command::Subscribe(subscribe)).await.unwrap();
        for _ in 0..3 {
            let publish = Publish {
                event: event.clone(),
                recipient: AppId::parse(&app).unwrap(),
                payload: WirePayload::from_wire("b25l".to_owned()),
                metadata: Metadata::default(),
                payload_metadata: None,
                idempotency_key: None,
            };
            broker.handle(&session.peer, Command::Publish(publish)).await.unwrap();
            let delivery = session.inbox.next().await.unwrap();
            ids.insert(delivery.id.to_string());
            let how = Settlement::Discard { reason: "no".into() };
            let settle = Settle { id: delivery.id, event: None, block: None, how };
            broker.handle(&session.peer, Command::Settle(settle)).await.unwrap();
        }
    }
    for limit in [1, 2, 3, 4, 100] {
        let queues = paged(&engine, "/v1/queues", "queues", limit).await;
        let apps: BTreeSet<_> = queues.iter().map(|queue| queue["app"].to_string()).collect();
        assert_eq!((queues.len(), apps.len()), (APPS, APPS), "{limit}");
        let letters = paged(&engine, "/v1/dead-letters", "dead_letters", limit).await;
        let found: BTreeSet<_> = letters.iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!((letters.len(), &found), (3 * APPS, &ids), "{limit}");
        let sessions = paged(&engine, "/v1/sessions", "sessions", limit).await;
        assert_eq!(sessions.len(), APPS, "{limit}");
        assert!(sessions.iter().all(|session| session["subscriptions"] == 1));
    }
    for id in &ids {
        let found = engine.call("GET", &format!("/v1/lookup/{id}"), None).await;
        assert_eq!(found.status, 200, "{}", found.body);
    }
}
