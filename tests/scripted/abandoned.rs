//! Calls whose callers gave up leave no memory behind, however many there were.
//!
//! `cargo test` abandons a few thousand over each transport; `ENSYNC_SCALE=full` 100,000.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ensync_client::{Client, Custom, Dialer, Engine, Transports};
use ensync_core::{Block, Connector, Endpoint, EventId};
use futures::StreamExt;

use crate::allocated::held;
use crate::engine::{Behaviour, EVENT, Script};
use crate::{ALONE, wire};

const AT_A_TIME: usize = 64;
/// How long a caller waits before it gives up.
const PATIENCE: Duration = Duration::from_millis(2);
/// A bound against hanging.
const SETTLES: Duration = Duration::from_secs(60);

fn calls() -> u64 {
    if std::env::var("ENSYNC_SCALE").is_ok_and(|scale| scale == "full") { 100_000 } else { 3_000 }
}

/// Abandons so many calls at an engine that answers none; then all is well again.
async fn abandon(client: &Client, script: &Arc<Script>, events: &ensync_client::Subscription, count: u64) {
    script.mute(true);
    let (id, abandoned) = (EventId::parse("e-1").unwrap(), AtomicU64::new(0));
    futures::stream::iter(0..count)
        .for_each_concurrent(AT_A_TIME, |n| {
            let (id, abandoned) = (&id, &abandoned);
            async move {
                let outcome = match n % 10 {
                    0 => {
                        let publish = client.publish(EVENT, &serde_json::json!({"n": n})).to(script.app_id);
                        tokio::time::timeout(PATIENCE, publish.header("n", n.to_string()).into_future()).await.is_err()
                    }
                    _ => tokio::time::timeout(PATIENCE, events.ack(id, Block::new(1).unwrap())).await.is_err(),
                };
                abandoned.fetch_add(outcome.into(), Ordering::Relaxed);
            }
        })
        .await;
    let abandoned = abandoned.into_inner();
    assert!(abandoned >= count * 9 / 10, "{abandoned} of {count} were abandoned");
    script.mute(false);
    let publish = client.publish(EVENT, &serde_json::json!({"n": 0})).to(script.app_id);
    tokio::time::timeout(SETTLES, publish.header("n", "0").into_future()).await.expect("it does not go on").unwrap();
}

async fn leave_nothing_behind(scheme: &str) {
    let _alone = ALONE.lock().await;
    let script = Script::new(Behaviour::Well);
    let (authority, accepting) = match scheme {
        "grpc" => wire::grpc(script.clone()).await,
        _ => wire::web_socket(script.clone()).await,
    };
    let endpoint: Endpoint = format!("{scheme}://{authority}").parse().unwrap();
    let connector: Arc<dyn Connector> = match scheme {
        "grpc" => ensync_grpc::Grpc::connector(&endpoint, Dialer::default()).unwrap(),
        _ => ensync_ws::Ws::connector(&endpoint, Dialer::default()).unwrap(),
    };
    let engine: Engine<Custom> = Engine::with_connector(endpoint, connector);
    let engine = engine.reconnect_interval(Duration::from_millis(10));
    let client = engine.create_client("key").app_secret_key(&script.key).await.unwrap();
    let events = client.subscribe("nobody/publishes/this").await.unwrap();
    // What is kept for good is there after some of them.
    abandon(&client, &script, &events, calls() / 10).await;
    let before = held();
    abandon(&client, &script, &events, calls()).await;
    let within = before + before / 10;
    let settled = async {
        while held() > within {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let settled = tokio::time::timeout(SETTLES, settled).await;
    println!("{} calls abandoned over {scheme}: {before} bytes before, {} after", calls(), held());
    assert!(settled.is_ok(), "{before} bytes before, {} after", held());
    client.close().await.unwrap();
    accepting.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_grpc() {
    leave_nothing_behind("grpc").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_web_socket() {
    leave_nothing_behind("ws").await;
}
