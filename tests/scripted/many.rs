//! A publish to many recipients: what is not sent yet is not sealed yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ensync_client::{Dialer, Engine, Transports};
use ensync_core::crypto::Suite;
use ensync_core::{AppId, Connector, Endpoint, SecretKey};

use crate::allocated::held;
use crate::engine::{Behaviour, EVENT, Script};
use crate::{ALONE, wire};

const RECIPIENTS: usize = 1_600;
/// All copies together are some 370 MB.
const PAYLOAD: usize = 128 << 10;
/// What may be under way.
const UNDER_WAY: u64 = 4 << 20;
/// That, some times over, for the engine's half of it is in this process too; and what is sealed for the next: 64 copies of 230 KB each,
/// and a part.
const MOST: usize = 32 << 20;
const LIMIT: Duration = Duration::from_secs(8);

/// An engine that answers nothing holds everything up, and no memory beyond what is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealing_waits_for_room() {
    let _alone = ALONE.lock().await;
    let recipients: Vec<AppId> = (0..RECIPIENTS).map(|_| SecretKey::generate().unwrap().app_id().unwrap()).collect();
    for suite in [Suite::Nacl, Suite::Aes256Gcm] {
        let script = Script::new(Behaviour::Well);
        let (authority, accepting) = wire::web_socket(script.clone()).await;
        let endpoint: Endpoint = format!("ws://{authority}").parse().unwrap();
        let connector: Arc<dyn Connector> = ensync_ws::Ws::connector(&endpoint, Dialer::default()).unwrap();
        let engine = Engine::with_connector(endpoint, connector).max_publish_bytes_in_flight(UNDER_WAY);
        let client = engine.create_client("key").app_secret_key(&script.key).await.unwrap();
        script.mute(true);
        let before = held();
        let payload = serde_json::json!({"n": 1, "text": "x".repeat(PAYLOAD)});
        let publish = client.publish(EVENT, &payload).to_all(recipients.clone()).suite(suite).header("n", "1");
        let begun = Instant::now();
        let publishing = tokio::spawn(publish.timeout(LIMIT).into_future());
        let mut most = 0;
        while !publishing.is_finished() {
            most = most.max(held().saturating_sub(before));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        publishing.await.unwrap().unwrap_err();
        let took = begun.elapsed();
        println!("{suite:?}: {most} bytes at most for {RECIPIENTS} recipients, in {took:?}");
        assert!(most > 8 << 20, "{suite:?}: {most}: nothing was sealed");
        assert!(most < MOST, "{suite:?}: {most}");
        assert!(took < LIMIT + LIMIT / 2, "{suite:?}: {took:?}: it seals what comes too late");
        accepting.abort();
    }
}
