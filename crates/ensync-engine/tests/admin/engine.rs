//! What an engine says of itself, and how that goes on.

use std::time::Duration;

use ensync_engine::{Server, SettingInForce};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::Engine;
use super::letters::World;

#[tokio::test]
async fn an_engine_says_how_it_is_and_what_it_was_told() {
    let mut setting = SettingInForce::new("limits.max_sessions", "7");
    (setting.default, setting.about) = (Some("100000".into()), "How many sessions may be open.".into());
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::of(Server::builder().data_dir(directory.path()).settings_in_force([setting])).await;
    engine.create_app("shop").await;
    let info = engine.call("GET", "/v1/info", None).await.ok(200);
    assert_eq!(
        (&info["version"], &info["ready"], &info["trouble"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!(true), &json!(null))
    );
    assert_eq!((&info["apps"], &info["sessions"], &info["dev"]), (&json!(1), &json!(0), &json!(false)));
    assert_eq!(info["settings"][0]["value"], "7");
    assert_eq!((&info["limits"]["max_deliveries"], &info["limits"]["publish_rate"]), (&json!(16), &json!(null)));
    assert!(info["disk"]["bytes"].as_u64().unwrap() > 0 && info["disk"]["free_bytes"].as_u64().unwrap() > 0, "{info}");
    assert_eq!(info["access"], "full");
    assert!(!info.to_string().contains(engine.token().expose()));
    let memory = Engine::start().await;
    assert_eq!(memory.call("GET", "/v1/info", None).await.ok(200)["disk"], Value::Null);
}

#[tokio::test]
async fn the_last_hour_is_there_and_begins_with_the_engine() {
    let (world, _) = World::with(2).await;
    let hour = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let hour = world.engine.call("GET", "/v1/history", None).await.ok(200);
            if !hour["samples"].as_array().unwrap().is_empty() {
                return hour;
            }
            tokio::task::yield_now().await;
        }
    });
    let hour = hour.await.unwrap();
    assert_eq!(hour["every_ms"], 10_000);
    assert!(hour["samples"][0]["at"].as_u64().unwrap() > 1_600_000_000_000);
}

/// A connection that follows.
async fn follow(engine: &Engine, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(engine.address).await.unwrap();
    let head = format!("GET /v1/live HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Reads until a text was there so often, or the end.
async fn read_until(stream: &mut TcpStream, text: &str, times: usize) -> String {
    let (mut all, mut buffer) = (String::new(), [0; 4_096]);
    while all.matches(text).count() < times {
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            read => all.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
        }
    }
    all
}

#[tokio::test]
async fn what_is_counted_can_be_followed() {
    let (world, _) = World::with(3).await;
    let mut stream = follow(&world.engine, world.engine.token().expose()).await;
    let read = tokio::time::timeout(Duration::from_secs(20), read_until(&mut stream, "data: ", 3)).await.unwrap();
    assert!(read.starts_with("HTTP/1.1 200") && read.contains("content-type: text/event-stream"), "{read}");
    let sample = read.lines().filter_map(|line| line.strip_prefix("data: ")).nth(1).unwrap();
    let sample: Value = serde_json::from_str(sample).unwrap();
    assert_eq!((&sample["published"], &sample["in_flight"], &sample["sessions"]), (&json!(6), &json!(6), &json!(1)));
    assert!(sample["oldest_ms"].is_u64() && sample["commits"].is_u64(), "{sample}");
}

#[tokio::test]
async fn as_many_may_follow_as_there_are_places() {
    let engine = Engine::start().await;
    let token = engine.token();
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut stream = follow(&engine, token.expose()).await;
        assert!(read_until(&mut stream, "\r\n\r\n", 1).await.starts_with("HTTP/1.1 200"));
        streams.push(stream);
    }
    let head = format!("Authorization: Bearer {}", token.expose());
    let message = engine.raw("GET", "/v1/live", &head, "").await.refused(429, "limit_exceeded");
    assert!(message.contains("16"), "{message}");
    drop(streams);
    tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let mut stream = follow(&engine, token.expose()).await;
            if read_until(&mut stream, "\r\n\r\n", 1).await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn following_ends_with_the_engine() {
    let engine = Engine::start().await;
    let mut stream = follow(&engine, engine.token().expose()).await;
    read_until(&mut stream, "\r\n\r\n", 1).await;
    engine.server.shutdown().await;
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.unwrap().ok();
}
