//! A client that is connected, and a gateway that turns everything away for a moment: whatever its words, over both transports, nothing
//! is lost but the moment.

use std::sync::Arc;
use std::time::Duration;

use ensync_client::{Client, Custom, Dialer, Engine, Subscription, Transports};
use ensync_core::{Connector, Endpoint};
use ensync_ws::WsConnector;
use futures::StreamExt;

use crate::engine::{Behaviour, EVENT, Gateway, Script};
use crate::{Over, wire};

/// For how long the gateway turns everything away.
const AWAY: Duration = Duration::from_millis(1_500);
/// How long after that all must be well.
const WELL: Duration = Duration::from_secs(15);
const PAGES: [u16; 10] = [400, 401, 403, 404, 407, 429, 500, 502, 503, 504];
/// Cancelled, unknown, permission denied, resource exhausted, aborted, unimplemented, internal, unavailable, unauthenticated.
const STATUSES: [u8; 9] = [1, 2, 7, 8, 10, 12, 13, 14, 16];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connected_client_outlasts_a_gateway_that_turns_everything_away() {
    let _alone = crate::ALONE.lock().await;
    let pages = || PAGES.into_iter().map(Gateway::Http);
    let rows = pages().map(|page| (Over::WebSocket, page, true));
    // Over gRPC each request passes the gateway, also of a connection that stays.
    let over_grpc = pages().chain(STATUSES.into_iter().map(Gateway::Grpc));
    let rows = rows.chain(over_grpc.flat_map(|says| [true, false].map(|cut| (Over::Grpc, says, cut))));
    let tried = rows.map(|(over, says, cut)| async move {
        let outcome = outlasts(over, says, cut).await;
        (format!("{over:?}, {says:?}, {}", if cut { "connections cut" } else { "connections left" }), outcome)
    });
    let tried = futures::future::join_all(tried).await;
    assert_eq!(tried.len(), PAGES.len() * 3 + STATUSES.len() * 2);
    let failed: Vec<_> = tried.iter().filter_map(|(row, outcome)| Some((row, outcome.as_ref().err()?))).collect();
    println!("{} ways to be turned away, {} not outlasted", tried.len(), failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
}

async fn outlasts(over: Over, says: Gateway, cut: bool) -> Result<(), String> {
    let script = Script::new(Behaviour::Well);
    let (scheme, (authority, accepting)) = match over {
        Over::Grpc => ("grpc", wire::grpc(script.clone()).await),
        _ => ("ws", wire::web_socket(script.clone()).await),
    };
    let endpoint: Endpoint = format!("{scheme}://{authority}").parse().unwrap();
    let connector: Arc<dyn Connector> = match over {
        Over::Grpc => ensync_grpc::Grpc::connector(&endpoint, Dialer::default()).unwrap(),
        _ => Arc::new(WsConnector::new(Dialer::default())),
    };
    let engine: Engine<Custom> =
        Engine::with_connector(endpoint, connector).reconnect_interval(Duration::from_millis(300));
    let client = engine.create_client("key").app_secret_key(&script.key).await.unwrap();
    let mut events = client.subscribe(EVENT).await.unwrap();
    comes(&script, &client, &mut events, 1).await?;
    script.turn_away(Some(says));
    if cut {
        script.mute(false);
    }
    let back = async {
        tokio::time::sleep(AWAY).await;
        script.turn_away(None);
    };
    // One that begins meanwhile, and one after it.
    let meanwhile = async {
        tokio::time::sleep(AWAY / 5).await;
        comes(&script, &client, &mut events, 2).await
    };
    let ((), outcome) = tokio::join!(back, meanwhile);
    outcome?;
    comes(&script, &client, &mut events, 3).await?;
    let twice: Vec<_> = script.stored().into_iter().filter(|(_, times)| *times > 1).collect();
    _ = client.close().await;
    accepting.abort();
    if twice.is_empty() { Ok(()) } else { Err(format!("stored twice: {twice:?}")) }
}

/// Publishes to itself, and waits for what comes.
async fn comes(script: &Script, client: &Client, events: &mut Subscription, n: u64) -> Result<(), String> {
    let publish = client.publish(EVENT, &serde_json::json!({"n": n})).to(script.app_id);
    publish
        .header("n", n.to_string())
        .await
        .map_err(|error| format!("publish {n}: {}", ensync_core::report(&error)))?;
    loop {
        let event = match tokio::time::timeout(WELL, events.next()).await {
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => return Err(format!("event {n}: {}", ensync_core::report(&error))),
            Ok(None) => return Err(format!("event {n}: the stream ended")),
            Err(_) => return Err(format!("event {n} did not come")),
        };
        let is = event.json().map_err(|error| error.to_string())?["n"] == n;
        // It may be another session's by now; then it comes again.
        _ = event.ack().await;
        if is {
            return Ok(());
        }
    }
}
