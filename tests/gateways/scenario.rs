//! Traffic through one gateway over one transport.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensync_engine::{EventOptions, NewApp, Server};
use ensync_sdk::{AppId, Client, Engine, Error, ErrorKind, Event, EventId, TlsOptions};
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ca::Ca;
use crate::gateway::{Gateway, Kind, Programs, free_address};

const EVENT: &str = "gateway/test/passed";
/// Who publishes, each one event after the other.
const PUBLISHERS: u64 = 8;
/// How many events the reader settles at once.
const IN_HAND: usize = 32;
/// Between the reloads of the gateway, and the restarts of the engine: 20 and 30 s of a run of five minutes.
const RELOADS: u32 = 15;
const RESTARTS: u32 = 10;
/// A bound against hanging, after the traffic.
const PATIENCE: Duration = Duration::from_secs(90);

pub const HEAD: &str = "| gateway | transport | accepted | received | delivered again | reloads | restarts | longest publish | failed |\n\
                        |---|---|---|---|---|---|---|---|---|";

/// What came of it.
pub struct Row {
    kind: Kind,
    transport: &'static str,
    book: Book,
    reloads: u32,
    restarts: u32,
    /// How many events the engine still holds.
    waiting: usize,
}

#[derive(Clone, Default)]
struct Book {
    accepted: BTreeSet<u64>,
    ids: BTreeMap<u64, EventId>,
    twice: BTreeSet<u64>,
    acked: BTreeSet<u64>,
    /// Acknowledged, and the answer was lost with the link: if it was not carried out, the event comes again.
    unsure: BTreeSet<u64>,
    deliveries: u64,
    longest: Duration,
    /// What reached a caller and was no answer.
    failures: Vec<String>,
}

impl Row {
    /// What must not be, in words.
    pub fn faults(&self, floor: u64) -> Vec<String> {
        let of = |what: String| format!("{} over {}: {what}", self.kind.name(), self.transport);
        let mut faults: Vec<_> = self.book.failures.iter().take(5).map(|failure| of(failure.clone())).collect();
        let left = self.book.left();
        if !left.is_empty() || self.waiting > 0 {
            faults.push(of(format!("{} accepted events did not come, {} wait", left.len(), self.waiting)));
        }
        if !self.book.twice.is_empty() {
            faults.push(of(format!("{} events are stored twice", self.book.twice.len())));
        }
        if (self.book.accepted.len() as u64) < floor || self.restarts == 0 || self.reloads == 0 {
            faults.push(of(format!("too little happened: {} accepted", self.book.accepted.len())));
        }
        faults
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, transport, book, reloads, restarts, .. } = self;
        let (accepted, received) = (book.accepted.len(), book.ids.len());
        let again = book.deliveries - received as u64;
        let (longest, failed) = (book.longest.as_millis(), book.failures.len());
        let kind = kind.name();
        write!(
            f,
            "| {kind} | {transport} | {accepted} | {received} | {again} | {reloads} | {restarts} | {longest} ms | {failed} |"
        )
    }
}

impl Book {
    /// What was accepted, and never came so that it could be settled.
    fn left(&self) -> Vec<u64> {
        self.accepted.iter().filter(|n| !self.acked.contains(n) && !self.unsure.contains(n)).copied().collect()
    }
}

type Shared = Arc<Mutex<Book>>;

pub async fn run(kind: Kind, transport: &'static str, programs: Arc<Programs>, seconds: u64) -> Row {
    let (ca, directory, address) = (Ca::new(), tempfile::tempdir().unwrap(), free_address());
    let mut server = engine(address, directory.path()).await;
    let options = EventOptions { ack_timeout: Some(Duration::from_secs(5)), ..EventOptions::default() };
    server.register_event(EVENT, options).await.unwrap();
    let (shop, warehouse) = (server.create_app("shop").await.unwrap(), server.create_app("warehouse").await.unwrap());
    let mut gateway = Gateway::start(kind, programs, &ca, address).await;
    let url = format!("{transport}://localhost:{}", gateway.address.port());
    let (till, stock) = (client(&url, &ca.trusting(), &shop).await, client(&url, &ca.trusting(), &warehouse).await);

    let (book, over) = (Shared::default(), CancellationToken::new());
    let reader = tokio::spawn(read(stock.clone(), book.clone()));
    let mut publishers = JoinSet::new();
    for first in 0..PUBLISHERS {
        publishers.spawn(publish(till.clone(), warehouse.app_id, first, book.clone(), over.clone()));
    }

    let whole = Duration::from_secs(seconds);
    let (mut reloads, mut restarts, begun) = (0, 0, Instant::now());
    while begun.elapsed() < whole {
        let reload = whole * (reloads + 1) / (RELOADS + 1);
        let restart = whole * (restarts + 1) / (RESTARTS + 1);
        tokio::time::sleep_until(begun + reload.min(restart).min(whole)).await;
        if begun.elapsed() >= reload && reloads < RELOADS {
            gateway.reload().await;
            reloads += 1;
        } else if restarts < RESTARTS && begun.elapsed() >= restart {
            server.shutdown().await;
            drop(server);
            server = engine(address, directory.path()).await;
            restarts += 1;
        }
    }
    over.cancel();
    let settled = async {
        while let Some(ended) = publishers.join_next().await {
            ended.unwrap();
        }
        while !book.lock().unwrap().left().is_empty() || waiting(&server, warehouse.app_id).await > 0 {
            assert!(!reader.is_finished(), "the subscription ended: {:?}", book.lock().unwrap().failures);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let hung = tokio::time::timeout(PATIENCE, settled).await.is_err();
    for client in [till, stock] {
        if let Err(error) = client.close().await {
            book.lock().unwrap().failures.push(format!("close: {}", ensync_core::report(&error)));
        }
    }
    if !hung {
        reader.await.unwrap();
    }
    let waiting = waiting(&server, warehouse.app_id).await;
    server.shutdown().await;
    let book = book.lock().unwrap().clone();
    if hung || !book.failures.is_empty() {
        println!("{} over {transport}: the gateway's log:\n{}", kind.name(), gateway.log());
    }
    gateway.stop().await;
    Row { kind, transport, book, reloads, restarts, waiting }
}

/// How many events the engine holds for the reader.
async fn waiting(server: &Server, reader: AppId) -> usize {
    server
        .queue(EVENT, reader)
        .await
        .unwrap()
        .map_or(0, |queue| queue.ready + queue.in_flight + queue.deferred + queue.dead)
}

async fn engine(address: SocketAddr, directory: &Path) -> Server {
    let begun = Instant::now();
    loop {
        match Server::builder().listen(address).data_dir(directory.join("data")).start().await {
            Ok(server) => return server,
            // Its connections of before may hold the port for a moment.
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{}", ensync_core::report(&error)),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn client(url: &str, tls: &TlsOptions, app: &NewApp) -> Client {
    let engine = Engine::new(url).unwrap().tls(tls.clone());
    engine.create_client(&app.app_key).app_secret_key(&app.secret_key).await.unwrap()
}

async fn publish(client: Client, to: AppId, first: u64, book: Shared, over: CancellationToken) {
    let mut n = first;
    while !over.is_cancelled() {
        let begun = Instant::now();
        let outcome = client.publish(EVENT, &n).to(to).await;
        {
            let mut book = book.lock().unwrap();
            book.longest = book.longest.max(begun.elapsed());
            match outcome {
                Ok(_) => _ = book.accepted.insert(n),
                Err(error) => book.failures.push(format!("publish: {}", ensync_core::report(&error))),
            }
        }
        n += PUBLISHERS;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn read(client: Client, book: Shared) {
    let events = match client.subscribe(EVENT).await {
        Ok(events) => events,
        Err(error) => return book.lock().unwrap().failures.push(format!("subscribe: {}", ensync_core::report(&error))),
    };
    // Acknowledgements do not wait for each other, so that the reader keeps up with the publishers.
    events.for_each_concurrent(IN_HAND, |event| settle(event, &book)).await;
}

async fn settle(event: Result<Event, Error>, book: &Shared) {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            book.lock().unwrap().failures.push(format!("subscription: {}", ensync_core::report(&error)));
            return;
        }
    };
    let n: u64 = event.payload().unwrap();
    {
        let mut book = book.lock().unwrap();
        book.deliveries += 1;
        if book.ids.entry(n).or_insert_with(|| event.id().clone()) != event.id() {
            book.twice.insert(n);
        }
    }
    match event.ack().await {
        Ok(()) => _ = book.lock().unwrap().acked.insert(n),
        // The delivery was given up with its session; the event comes again, and is acknowledged then.
        Err(error) if error.kind() == ErrorKind::StaleDelivery => {}
        Err(error) if error.may_have_happened() => _ = book.lock().unwrap().unsure.insert(n),
        Err(error) => book.lock().unwrap().failures.push(format!("ack: {}", ensync_core::report(&error))),
    }
}
