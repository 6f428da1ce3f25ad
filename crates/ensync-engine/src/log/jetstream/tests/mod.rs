//! The log against a real nats-server, which `tests/cluster/setup` finds. Without one, or without the environment variable `ENSYNC_CLUSTER`, these
//! tests are skipped, and say so. If it is `required`, they fail without one.

mod answers;
mod fencing;
mod proxy;
mod refusals;
mod server;
mod trouble;

use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ensync_core::{ErrorKind, Result};
use futures::StreamExt;

use super::{JetStreamLog, JetStreamOptions, Nats};
use crate::log::Log;
use crate::log::conformance::{Bench, suite};
use crate::model::{Encoded, Position};
use proxy::Proxy;
use server::Server;

/// Small parts, one replica, and no long waits.
fn options() -> JetStreamOptions {
    JetStreamOptions {
        replicas: NonZeroU8::MIN,
        part_bytes: 64 << 10,
        message_bytes: 32 << 10,
        answer_within: Duration::from_secs(2),
        ..JetStreamOptions::default()
    }
}

async fn open(nats: &Nats, name: &str) -> JetStreamLog {
    JetStreamLog::open(nats, name, options()).await.unwrap()
}

/// One that waits for no answer for long. To make a stream a busy disk may take longer.
async fn open_impatient(nats: &Nats) -> JetStreamLog {
    let opened = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let options = JetStreamOptions { answer_within: Duration::from_millis(200), ..options() };
            match JetStreamLog::open(nats, "LOG", options).await {
                Ok(log) => return log,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
        }
    });
    opened.await.expect("it does not open")
}

fn record(text: &str) -> Encoded {
    Encoded::new(text.to_owned(), "", true)
}

/// Everything that counts, as text.
async fn texts(log: &JetStreamLog) -> Vec<String> {
    let text = |found: Result<(Position, Bytes)>| String::from_utf8(found.unwrap().1.to_vec()).unwrap();
    log.scan(Position::START).map(text).collect().await
}

/// Waits until something is so.
async fn until(mut so: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("it does not happen");
}

struct OnJetStream {
    nats: Nats,
    name: String,
    cache_bytes: usize,
}

impl Bench for OnJetStream {
    async fn open(&self) -> Result<Arc<dyn Log>> {
        let options = JetStreamOptions { cache_bytes: self.cache_bytes, ..options() };
        Ok(Arc::new(JetStreamLog::open(&self.nats, &self.name, options).await?))
    }
}

async fn conforms(cache_bytes: usize) {
    let Some(server) = Server::start().await else { return };
    let nats = server.connect().await;
    let number = AtomicU32::new(0);
    suite(async || {
        let name = format!("LOG-{}", number.fetch_add(1, Ordering::SeqCst));
        OnJetStream { nats: nats.clone(), name, cache_bytes }
    })
    .await;
    assert!(number.into_inner() > 8);
}

#[tokio::test]
async fn a_log_on_jetstream_keeps_what_logs_keep() {
    conforms(32 << 20).await;
}

/// Everything is read from the server.
#[tokio::test]
async fn a_log_on_jetstream_without_a_cache_keeps_what_logs_keep() {
    conforms(0).await;
}
