//! Connections and engines that break, over gRPC and WebSocket alike, under a publisher and its readers.
//!
//! Under each fault: no accepted event is lost, none is stored twice, every subscription goes on by itself, order holds on first
//! delivery, and `close` comes to its end. What breaks is between the client and a real engine: a proxy, or the engine's process,
//! which is killed.
//!
//! - `proxy`: passes on, delays, stands still, resets in the midst of a frame, cuts, or never answers;
//! - `engine`: in this process, or in one of its own;
//! - `traffic`: who publishes and reads, and what was seen;
//! - `scenario`: one fault over one transport.

mod engine;
mod proxy;
mod scenario;
mod traffic;

use scenario::{Fault, Row};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_doubled_and_every_subscription_goes_on() {
    let mut rows = Vec::new();
    for fault in Fault::ALL {
        for transport in ["grpc", "ws"] {
            rows.push(tokio::spawn(scenario::run(*fault, transport)));
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

/// Not a test: what a process of its own runs. See `engine::Process`.
#[test]
fn engine_process() {
    engine::serve_if_asked();
}
