//! Engines that are stopped in order and started again, under many publishers: none of them is refused.
//!
//! `cargo test` restarts three times; `ENSYNC_RESTARTS=20` as often as that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ensync_client::{Attempts, Custom, Dialer, Transports};
use ensync_core::Endpoint;
use ensync_engine::{EventOptions, Server};
use tokio::task::JoinSet;

use crate::proxy::Proxy;

const PUBLISHERS: usize = 64;
const EVENT: &str = "orderly/test/restart";
/// How many publishes are answered between a start and the next stop, at least.
const BETWEEN: u64 = 500;
/// A bound against hanging.
const PATIENCE: Duration = Duration::from_secs(120);

fn restarts() -> u64 {
    std::env::var("ENSYNC_RESTARTS").ok().map_or(3, |text| text.parse().expect("ENSYNC_RESTARTS is no number"))
}

async fn no_publish_is_refused(transport: &'static str) {
    let directory = tempfile::tempdir().unwrap();
    let start = || async { Server::builder().data_dir(directory.path().join("data")).start().await.unwrap() };
    let mut server = start().await;
    server.register_event(EVENT, EventOptions::default()).await.unwrap();
    let (shop, stock) = (server.create_app("shop").await.unwrap(), server.create_app("stock").await.unwrap());
    let proxy = Proxy::to(server.addresses().next().unwrap()).await;
    let endpoint: Endpoint = format!("{transport}://{}", proxy.address).parse().unwrap();
    let connector = match transport {
        "grpc" => ensync_grpc::Grpc::connector(&endpoint, Dialer::default()),
        _ => ensync_ws::Ws::connector(&endpoint, Dialer::default()),
    };
    let engine = ensync_client::Engine::<Custom>::with_connector(endpoint, connector.unwrap())
        .reconnect_interval(Duration::from_millis(100))
        .max_reconnect_attempts(Attempts::Unlimited);
    let client = engine.create_client(&shop.app_key).app_secret_key(&shop.secret_key).await.unwrap();
    let (answered, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let (client, answered, over, to) = (client.clone(), answered.clone(), over.clone(), stock.app_id);
        publishers.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                if let Err(error) = client.publish(EVENT, &"an order").to(to).await {
                    return Some(ensync_core::report(&error));
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
            None
        });
    }
    for restart in 0..restarts() {
        let enough = answered.load(Ordering::Relaxed) + BETWEEN;
        let go_on = async {
            while answered.load(Ordering::Relaxed) < enough && publishers.len() == PUBLISHERS {
                tokio::time::sleep(Duration::from_millis(5)).await;
                assert!(publishers.try_join_next().is_none_or(|ended| panic!("restart {restart}: {ended:?}")));
            }
        };
        tokio::time::timeout(PATIENCE, go_on).await.expect("publishing does not go on");
        server.shutdown().await;
        server = start().await;
        proxy.lead_to(server.addresses().next().unwrap());
    }
    over.store(true, Ordering::Relaxed);
    let refused: Vec<_> = publishers.join_all().await.into_iter().flatten().collect();
    assert_eq!(refused, Vec::<String>::new());
    let (answered, queue) =
        (answered.load(Ordering::Relaxed), server.queue(EVENT, stock.app_id).await.unwrap().unwrap());
    // What was answered is stored, each once.
    assert_eq!(queue.ready as u64, answered, "{queue:?}");
    assert!(answered >= restarts() * BETWEEN);
    println!("{answered} publishes over {transport} through {} orderly restarts, 0 refused", restarts());
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_grpc() {
    no_publish_is_refused("grpc").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_web_socket() {
    no_publish_is_refused("ws").await;
}
