//! Connections and engines that break, over gRPC and WebSocket alike, under a publisher and its readers.
//!
//! Under each fault: no accepted event is lost, none is stored twice, every subscription goes on by itself, order holds on first
//! delivery, and `close` comes to its end. What breaks is between the client and a real engine: a proxy, or the engine's process,
//! which is killed.
//!
//! - `proxy`: passes on, delays, stands still, resets in the midst of a frame, cuts, or never answers;
//! - `engine`: in this process, or in one of its own;
//! - `liar`: an engine whose word is not kept, for what must fail then;
//! - `orderly`: engines that are stopped in order and started again;
//! - `traffic`: who publishes and reads, and what was seen;
//! - `scenario`: one fault over one transport.

mod engine;
mod liar;
mod orderly;
mod proxy;
mod scenario;
mod traffic;

use std::time::Duration;

use liar::Word;
use scenario::{Fault, Row, Scenario};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_doubled_and_every_subscription_goes_on() {
    let mut rows = Vec::new();
    for fault in Fault::ALL {
        for transport in ["grpc", "ws"] {
            rows.push(tokio::spawn(scenario::run(Scenario::new(*fault, transport))));
        }
    }
    println!("{}", Row::HEAD);
    let mut failed = Vec::new();
    for row in rows {
        match row.await {
            Ok(row) => println!("{row}"),
            Err(cause) => failed.push(cause.to_string()),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// What such a scenario must say of an engine whose word is not kept.
async fn is_caught(word: Word, complaint: &str) {
    for transport in ["grpc", "ws"] {
        let scenario = Scenario { word, silence: Duration::from_secs(8), ..Scenario::new(Fault::None, transport) };
        let caught = tokio::spawn(scenario::run(scenario)).await.expect_err("it was not noticed").into_panic();
        let says = caught.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(says.contains(complaint), "{word:?} over {transport}: {says}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_engine_that_refuses_everything_does_not_pass() {
    is_caught(Word::RefusesAll, "were accepted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_engine_that_loses_one_event_in_a_thousand_does_not_pass() {
    is_caught(Word::LosesOneInAThousand, "lost: {").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_engine_that_stores_an_event_twice_does_not_pass() {
    is_caught(Word::StoresTwice, "stored twice").await;
}

/// Not a test: what a process of its own runs. See `engine::Process`.
#[test]
fn engine_process() {
    engine::serve_if_asked();
}
