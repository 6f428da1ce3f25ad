//! Many subscriptions on one client, many clients in one process, over both transports; and the memory that takes.
//!
//! `cargo test` runs a twentieth of it. `ENSYNC_SCALE=full cargo test -p ensync-tests --test scale -- --nocapture --test-threads 1`
//! runs 10,000 subscriptions and 1,000 clients, and prints what they cost. It needs 4,096 open files (`ulimit -n`).

use std::time::Duration;

use ensync_client::{Client, Custom, Dialer, Engine, Transports};
use ensync_core::Endpoint;
use ensync_engine::{BrokerOptions, NewApp, Server};
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};

/// A bound against hanging.
const PATIENCE: Duration = Duration::from_secs(300);

fn scaled(full: usize) -> usize {
    if std::env::var("ENSYNC_SCALE").is_ok_and(|scale| scale == "full") { full } else { full / 20 }
}

/// Resident memory of this process, in bytes. Linux only; elsewhere nothing is said.
fn resident() -> Option<usize> {
    let pages: usize = std::fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}

fn report(what: &str, transport: &str, count: usize, before: Option<usize>) {
    if let (Some(before), Some(after)) = (before, resident()) {
        let grown = after.saturating_sub(before);
        println!(
            "{count} {what} over {transport}: {:.1} MiB more, {:.1} KiB each, engine included",
            grown as f64 / (1 << 20) as f64,
            grown as f64 / 1024.0 / count as f64
        );
    }
}

struct World {
    server: Server,
    app: NewApp,
    transport: &'static str,
}

impl World {
    async fn start(transport: &'static str) -> Self {
        let mut options = BrokerOptions::dev();
        (options.limits.max_subscriptions, options.limits.max_auto_events) = (20_000, 20_000);
        let server = Server::dev().options(options).start().await.unwrap();
        let app = server.create_app("app").await.unwrap();
        Self { server, app, transport }
    }

    async fn client(&self) -> Client {
        let url = if self.transport == "grpc" { self.server.grpc_url() } else { self.server.ws_url() };
        let endpoint: Endpoint = url.parse().unwrap();
        let connector = match self.transport {
            "grpc" => ensync_grpc::Grpc::connector(&endpoint, Dialer::default()),
            _ => ensync_ws::Ws::connector(&endpoint, Dialer::default()),
        };
        let engine = Engine::<Custom>::with_connector(endpoint, connector.unwrap()).connect_timeout(PATIENCE);
        let engine = engine.request_timeout(PATIENCE);
        engine.create_client(&self.app.app_key).app_secret_key(&self.app.secret_key).await.unwrap()
    }
}

async fn subscriptions(transport: &'static str) {
    let (world, count) = (World::start(transport).await, scaled(10_000));
    let client = world.client().await;
    let before = resident();
    let names: Vec<_> = (0..count).map(|n| format!("scale/test/{n}")).collect();
    let subscribing = futures::stream::iter(&names).map(|name| client.subscribe(name.as_str()).into_future());
    let mut subscriptions: Vec<_> = subscribing.buffered(64).try_collect().await.unwrap();
    report("idle subscriptions on one client", transport, count, before);
    for (name, n) in names.iter().zip(0..) {
        client.publish(name.as_str(), &n).to(world.app.app_id).await.unwrap();
    }
    for (events, expected) in subscriptions.iter_mut().zip(0..) {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(event.payload::<usize>().unwrap(), expected);
        event.ack().await.unwrap();
    }
    report("subscriptions that each had an event", transport, count, before);
    client.close().await.unwrap();
}

async fn clients(transport: &'static str) {
    let (world, count) = (World::start(transport).await, scaled(1_000));
    let before = resident();
    let connecting = futures::stream::iter(0..count).map(|_| world.client());
    let clients: Vec<_> = connecting.buffered(32).collect().await;
    report("idle clients", transport, count, before);
    let mut subscriptions = Vec::new();
    for (client, n) in clients.iter().zip(0..) {
        let name = format!("scale/test/{n}");
        subscriptions.push(client.subscribe(name.as_str()).await.unwrap());
        client.publish(name.as_str(), &n).to(world.app.app_id).await.unwrap();
    }
    for (events, expected) in subscriptions.iter_mut().zip(0..) {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(event.payload::<usize>().unwrap(), expected);
        event.ack().await.unwrap();
    }
    report("clients that each published, subscribed and had an event", transport, count, before);
    let closing: FuturesUnordered<_> = clients.iter().map(Client::close).collect();
    closing.try_collect::<Vec<_>>().await.unwrap();
}

macro_rules! over_both {
    ($($name:ident),*) => {
        mod grpc { $(#[tokio::test] async fn $name() { super::$name("grpc").await })* }
        mod web_socket { $(#[tokio::test] async fn $name() { super::$name("ws").await })* }
    };
}

over_both!(subscriptions, clients);
