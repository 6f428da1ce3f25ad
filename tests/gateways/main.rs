//! Clients behind nginx, HAProxy and Envoy, with TLS ended there, while the gateway is reloaded and the engine restarted in order.
//!
//! Nothing reaches the caller but answers: no publish, subscription or acknowledgement fails, nothing accepted is lost, and with
//! deduplication nothing is stored twice.
//!
//! - `setup`: finds the programs, or gets them;
//! - `gateway`: their configurations, and their lives;
//! - `scenario`: one gateway and one transport.
//!
//! It takes longer on request: `ENSYNC_GATEWAYS_SECONDS`; `ENSYNC_GATEWAYS_ONLY=haproxy/grpcs` runs one row.

// Certificates are made as the tests of `reach` make them.
#[path = "../reach/ca.rs"]
mod ca;
mod gateway;
mod scenario;

use gateway::Kind;

/// How long there is traffic, unless the environment says otherwise.
const SECONDS: u64 = 25;
/// How many publishes each row must see accepted for each second of traffic: a floor, far below what there is, under which
/// nothing was tested.
const FLOOR: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_reaches_the_caller_but_answers() {
    let Some(programs) = gateway::programs().await else { return };
    let seconds = std::env::var("ENSYNC_GATEWAYS_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let only = std::env::var("ENSYNC_GATEWAYS_ONLY").ok();
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        for transport in ["grpcs", "wss"] {
            if only.as_ref().is_some_and(|only| *only != format!("{}/{transport}", kind.name())) {
                continue;
            }
            rows.push(tokio::spawn(scenario::run(kind, transport, programs.clone(), seconds)));
        }
    }
    let rows_are_none = rows.is_empty();
    println!("{}", scenario::HEAD);
    let mut failed = Vec::new();
    for row in rows {
        match row.await {
            Ok(row) => {
                println!("{row}");
                failed.extend(row.faults(FLOOR * seconds));
            }
            Err(cause) => failed.push(cause.to_string()),
        }
    }
    assert!(!rows_are_none, "ENSYNC_GATEWAYS_ONLY names no row: {only:?}");
    assert!(failed.is_empty(), "{failed:#?}");
}
