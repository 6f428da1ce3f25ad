//! The Rust lines of the table, run. Each stands here as it stands in `rows.json`.

use std::time::Duration;

use ensync_engine::{NewApp, Server};
use ensync_sdk::{Attempts, ConnectionEvent, Engine, Error, ErrorKind, Event, Keyring, Result, Scheme, Subscription};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

const NAME: &str = "company/service/action";

/// An engine, one of its apps that sends and one that receives.
struct World {
    server: Server,
    shop: NewApp,
    warehouse: NewApp,
}

impl World {
    async fn start() -> Self {
        let server = Server::dev().start().await.unwrap();
        let (shop, warehouse) =
            (server.create_app("shop").await.unwrap(), server.create_app("warehouse").await.unwrap());
        Self { server, shop, warehouse }
    }

    /// How often the engine was told `ack`, and how many dead letters it has.
    async fn acked_and_dead(&self) -> (u64, usize) {
        let queue = self.server.queue(NAME, self.warehouse.app_id).await.unwrap().unwrap();
        (queue.counters.acked, queue.dead)
    }
}

async fn next(subscription: &mut Subscription) -> Event {
    tokio::time::timeout(Duration::from_secs(60), subscription.try_next()).await.unwrap().unwrap().unwrap()
}

fn place(engine: &Engine) -> (Scheme, bool, String, u16) {
    let to = engine.endpoint();
    (to.scheme(), to.tls(), to.host(), to.port())
}

#[test]
fn urls() -> Result<()> {
    let node = || "node.gms.ensync.cloud".to_owned();
    let engine = Engine::new("node.gms.ensync.cloud")?;
    assert_eq!(place(&engine), (Scheme::Grpc, true, node(), 443));
    let engine = Engine::new("localhost")?;
    assert_eq!(place(&engine), (Scheme::Grpc, false, "localhost".into(), 50051));
    let engine = Engine::new("grpcs://node.gms.ensync.cloud")?;
    assert_eq!(place(&engine), (Scheme::Grpc, true, node(), 443));
    let engine = Engine::new("grpc://localhost:50051")?;
    assert_eq!(place(&engine), (Scheme::Grpc, false, "localhost".into(), 50051));
    let engine = Engine::new("node.gms.ensync.cloud:9090")?;
    assert_eq!(place(&engine), (Scheme::Grpc, true, node(), 9090));
    let engine = Engine::new("wss://node.gms.ensync.cloud")?;
    assert_eq!(place(&engine), (Scheme::WebSocket, true, node(), 443));
    let engine = Engine::new("ws://localhost:8080")?;
    assert_eq!(place(&engine), (Scheme::WebSocket, false, "localhost".into(), 8080));
    Ok(())
}

/// Each option is taken, and the default is what the table says: `shown` there is a part of this text.
#[test]
fn options() -> Result<()> {
    let engine = Engine::new("localhost")?;
    let before = format!("{engine:?}");
    for shown in crate::rows().iter().filter_map(|row| row.shown.as_deref()) {
        assert!(before.contains(shown), "{shown} is not in {before}");
    }
    let engine = engine.heartbeat_interval(Duration::from_secs(10));
    let engine = engine.reconnect_interval(Duration::from_secs(1));
    let engine = engine.max_reconnect_attempts(5);
    let after = format!("{engine:?}");
    for shown in ["heartbeat_interval: 10s", "reconnect_interval: 1s", "max_reconnect_attempts: AtMost(5)"] {
        assert!(after.contains(shown), "{shown} is not in {after}");
    }
    Ok(())
}

async fn everything(url: String, world: World) -> Result<()> {
    let World { shop, warehouse, .. } = &world;
    let (app_key, secret_key, recipient) = (warehouse.app_key.clone(), &warehouse.secret_key, warehouse.app_id);
    let engine = Engine::new(&url)?;
    let client = engine.create_client(app_key.clone()).await?;
    assert!(client.client_id().is_some() && client.app_id() == Some(recipient));
    client.close().await?;
    let client = engine.create_client(app_key).app_secret_key(secret_key).await?;
    let mut subscription = client.subscribe(NAME).await?;

    let second = engine.create_client(&warehouse.app_key).await?;
    assert_ne!(
        client.client_id().map(|id| id.expose().to_owned()),
        second.client_id().map(|id| id.expose().to_owned())
    );

    let sender = engine.create_client(&shop.app_key).await?;
    let payload = json!({"data": "your payload"});
    let receipt = sender.publish(NAME, &payload).to(recipient).await?;
    let event_id = receipt.id();
    let event = next(&mut subscription).await;
    assert_eq!(event.id(), event_id);
    assert_eq!((event.name().as_str(), event.json()?), (NAME, payload.clone()));
    assert_eq!(event.metadata().persist(), Some(true));
    assert_eq!(event.metadata().headers().len(), 0);
    assert!(event.timestamp().is_some());
    assert_eq!(event.recipient(), Some(&recipient));
    assert_eq!(event.sender().app_id(), Some(shop.app_id));
    let (id, block) = (event.id().clone(), event.block());
    subscription.ack(&id, block).await?;
    assert_eq!(world.acked_and_dead().await.0, 1);

    let publish = sender.publish(NAME, &payload).to(recipient);
    let publish = publish.persist(false);
    let publish = publish.header("source", "order-system");
    let publish = publish.metadata("custom_field", "value");
    publish.await?;
    let event = next(&mut subscription).await;
    assert_eq!(event.metadata().persist(), Some(false));
    assert_eq!(event.metadata().header("source"), Some("order-system".into()));
    assert_eq!(event.metadata().field("custom_field"), Some(Value::from("value")));

    let delay_ms = 3_600_000; // so that it does not come while this runs
    let until = event.defer(Duration::from_millis(delay_ms), "Waiting for resources to be available").await?;
    assert!(until.is_some_and(|until| Some(until) > event.timestamp()), "the engine says when");
    sender.publish(NAME, &payload).to(recipient).await?;
    let event = next(&mut subscription).await;
    event.defer(Duration::ZERO, "").await?;
    let event = next(&mut subscription).await;
    assert_eq!(event.attempt(), Some(2));
    event.discard("Invalid data format").await?;
    assert_eq!(world.acked_and_dead().await.1, 1);

    let replayed = subscription.replay(&id).await?;
    assert_eq!((replayed.id(), replayed.block(), replayed.json()?), (&id, block, payload.clone()));
    let info = replayed.metadata().replay_info();
    let info = info.expect("a replay says so");
    assert!(info.is_replayed && info.replayed_at.is_some() && info.was_acknowledged == Some(true));

    let mut other = client.subscribe("other/name").await?;
    subscription.pause("Performing maintenance").await?;
    sender.publish(NAME, &payload).to(recipient).await?;
    // The pause is of one name.
    sender.publish("other/name", &payload).to(recipient).await?;
    next(&mut other).await.ack().await?;
    subscription.resume().await?;
    let event = next(&mut subscription).await;
    event.reply(&json!({"status": "received"})).await?;
    event.ack().await?;
    subscription.unsubscribe().await?;

    // A handler, and its acknowledgement after `Ok`.
    let acked = world.acked_and_dead().await.0;
    let subscription = client.subscribe(NAME).app_secret_key(secret_key).await?;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let handler = subscription.on(move |event: Event| {
        let handled = told.send(event.json());
        async move { handled.map_err(|_| Error::new(ErrorKind::Closed, "nobody listens")) }
    });
    sender.publish(NAME, &payload).to(recipient).await?;
    assert_eq!(heard.recv().await.unwrap()?, payload);
    handler.stop().await?;
    assert_eq!(world.acked_and_dead().await.0, acked + 1);
    let manual = client.subscribe(NAME).await?.for_each(|_| async { Ok::<_, Error>(()) });
    let manual = manual.auto_ack(false);
    manual.spawn().stop().await?;

    let mut events = client.events();
    assert!(matches!(events.next().await, Some(ConnectionEvent::Connected)));
    client.close().await?;
    assert!(second.is_connected(), "another client of the app and of the engine handle goes on");
    let last = events.collect::<Vec<_>>().await.pop();
    assert!(matches!(last, Some(ConnectionEvent::Closed { .. })), "{last:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_over_grpc() -> Result<()> {
    let world = World::start().await;
    everything(world.server.grpc_url(), world).await
}

#[tokio::test]
async fn a_client_over_web_socket() -> Result<()> {
    let world = World::start().await;
    everything(world.server.ws_url(), world).await
}

#[tokio::test]
async fn errors() -> Result<()> {
    let world = World::start().await;
    let engine = Engine::new(&world.server.grpc_url())?.max_reconnect_attempts(Attempts::AtMost(0));
    let kind = |error: Error| error.kind();
    let refused = engine.create_client("no-such-key").await.map_err(kind);
    assert_eq!(refused.unwrap_err(), ErrorKind::Unauthenticated);
    let refused = Engine::new("grpc://127.0.0.1:1")?.create_client("a-key").await.map_err(kind);
    assert_eq!(refused.unwrap_err(), ErrorKind::Connect);
    let client = engine.create_client(&world.shop.app_key).await?;
    let refused = client.publish("a name", &1).to(world.shop.app_id).await.map_err(kind);
    assert_eq!(refused.unwrap_err(), ErrorKind::InvalidEventName);
    let stranger = ensync_sdk::SecretKey::generate()?.app_id().unwrap();
    let refused = client.publish(NAME, &1).to(stranger).await.map_err(kind);
    assert_eq!(refused.unwrap_err(), ErrorKind::UnknownRecipient);
    client.close().await?;
    let refused = client.subscribe(NAME).await.map(drop).map_err(kind);
    assert_eq!(refused, Err(ErrorKind::Closed));
    let refused = Keyring::parse("rubbish").map(drop).map_err(kind);
    assert_eq!(refused, Err(ErrorKind::InvalidKey));
    Ok(())
}
