use std::sync::Arc;

use ensync_engine::{Broker, BrokerOptions, Clock, DiskOptions, EventOptions, Logs, Server, SystemClock};
use ensync_sdk::Engine;
use ensync_sdk::core::{
    AppId, Command, EventName, Login, Metadata, Publish, Reply, Service, Settle, Settlement, Subscribe, Timestamp,
    WirePayload,
};
use futures::StreamExt;
use tokio::time::{Duration, timeout};

use super::shell::Shell;

/// Starts as soon as the directory is free.
async fn start(directory: &tempfile::TempDir) -> Server {
    let free = async {
        loop {
            match Server::builder().data_dir(directory.path()).admin(([127, 0, 0, 1], 0)).start().await {
                Ok(server) => return server,
                Err(error) => assert_eq!(error.kind(), ensync_sdk::ErrorKind::Unavailable, "{error}"),
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), free).await.unwrap()
}

#[tokio::test]
async fn what_is_done_without_an_engine_is_there_when_it_starts() {
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell::offline(&directory);
    let made = shell.run("app create shop").await.keys();
    shell.run("event create a/b --ttl 1h").await.ok();
    shell.run("event grant shop a/b --rights publish").await.ok();
    let second = shell.run("app rotate-keypair shop").await.keys();
    let rotated = shell.run("app rotate-key shop").await.keys();
    shell.run("app create other").await.ok();
    shell.run("app disable other").await.ok();
    let before = shell.run("app list --json").await.json();
    assert_eq!(before.as_array().unwrap().len(), 2);
    assert_eq!(shell.run("queue list --json").await.json(), serde_json::json!([]));
    assert_eq!(shell.run("dead-letter drop --all --yes").await.ok(), "0\n");

    let server = start(&directory).await;
    let engine = Engine::new(&server.grpc_url()).unwrap();
    let client = engine.create_client(rotated["ENSYNC_APP_KEY"].as_str()).await.unwrap();
    assert_eq!(client.app_id().unwrap().to_string(), second["ENSYNC_APP_ID"]);
    engine.create_client(made["ENSYNC_APP_KEY"].as_str()).await.unwrap_err();
    // It is the same over its admin API, but for the session.
    let online = Shell::of(&server);
    let mut after = online.run("app list --json").await.json();
    let shop = after.as_array_mut().unwrap().iter_mut().find(|app| app["name"] == "shop").unwrap();
    assert_eq!(std::mem::replace(&mut shop["sessions"], 0.into()), 1);
    assert_eq!(after, before);
    client.publish("a/b", &1).to(made["ENSYNC_APP_ID"].as_str()).await.unwrap();
    client.close().await.unwrap();

    let said = shell.run("app list").await.failed();
    assert!(said.contains("leave --data out"), "{said}");
    server.shutdown().await;
    drop(server);
    let stopped = async {
        while !shell.run("app list").await.ok {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), stopped).await.unwrap();
    // The event that was published to the first key.
    assert_eq!(shell.run("queue list --json").await.json()[0]["ready"], 1);
    shell.run("app delete shop --yes").await.ok();
    assert_eq!(shell.run("queue list --json").await.json(), serde_json::json!([]));
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let said = Shell::bare().with(&["app", "list", "--data", missing.to_str().unwrap()]).await.failed();
    assert!(said.contains("ensync serve --data") && !missing.exists(), "{said}");
    // Nor is another made an engine's by whoever looks: also if it is empty.
    let foreign = directory.path().join("photos");
    std::fs::create_dir(&foreign).unwrap();
    for named in ["", "one.png"] {
        if !named.is_empty() {
            std::fs::write(foreign.join(named), "").unwrap();
        }
        let said = Shell::bare().with(&["app", "list", "--data", foreign.to_str().unwrap()]).await.failed();
        assert!(said.contains("holds no log of an engine"), "{said}");
        assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), usize::from(!named.is_empty()), "{said}");
    }
    let said = Shell::bare().with(&["app", "create", "shop", "--data", foreign.to_str().unwrap()]).await.failed();
    assert!(said.contains("holds no log of an engine") && std::fs::read_dir(&foreign).unwrap().count() == 1, "{said}");
    std::fs::remove_dir_all(&foreign).unwrap();
    // No token is made where no engine serves an admin API.
    Shell::offline(&directory).run("app create shop").await.ok();
    assert!(!directory.path().join("admin.token").exists());
}

/// How many they are never changes: an engine that is told another number would be refused for good.
#[tokio::test]
async fn a_store_that_a_command_makes_has_as_many_partitions_as_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell::offline(&directory);
    shell.run("app create shop --partitions 4").await.ok();
    assert!(std::fs::read_to_string(directory.path().join("store")).unwrap().contains("\npartitions 4\n"));
    let said = shell.run("app list --partitions 2").await.failed();
    assert!(said.contains("has 4 partitions"), "{said}");
    shell.run("app list").await.ok();
}

/// The system's clock, a year ago.
#[derive(Debug)]
struct Behind;

impl Clock for Behind {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(Timestamp::now().as_millis() - 365 * 24 * 3_600 * 1_000)
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed()
    }
}

#[tokio::test]
async fn a_look_takes_nothing_away_that_the_engine_may_be_told_to_keep() {
    let directory = tempfile::tempdir().unwrap();
    let options = BrokerOptions { clock: Arc::new(Behind), ..BrokerOptions::default() };
    let logs = Logs::open(directory.path(), DiskOptions::default()).await.unwrap();
    let broker = Broker::start(options, logs).await.unwrap();
    let (app, event) = (AppId::from_bytes([6; 32]), EventName::parse("a/b").unwrap());
    let app_key = broker.create_app("shop", app).await.unwrap();
    broker.register_event(event.clone(), EventOptions::default()).await.unwrap();
    let mut session = broker.login(Login { app_key, transport: "local", remote: None }).await.unwrap();
    let subscribe = Subscribe { event: event.clone(), max_in_flight: None, max_bytes_in_flight: None };
    broker.handle(&session.peer, Command::Subscribe(subscribe)).await.unwrap();
    let publish = Publish {
        event,
        recipient: app,
        payload: WirePayload::from_wire("b25l".to_owned()),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: None,
    };
    let reply = broker.handle(&session.peer, Command::Publish(publish)).await.unwrap();
    assert!(matches!(reply, Reply::Published { .. }));
    let delivery = session.inbox.next().await.unwrap();
    let how = Settlement::Discard { reason: "address".into() };
    let settle = Settle { id: delivery.id.clone(), event: None, block: Some(delivery.block), how };
    broker.handle(&session.peer, Command::Settle(settle)).await.unwrap();
    broker.shutdown().await;
    let shell = Shell::offline(&directory);
    for _ in 0..2 {
        shell.run("app list").await.ok();
        assert_eq!(shell.run("dead-letter list --json").await.json().as_array().unwrap().len(), 1);
    }
}
