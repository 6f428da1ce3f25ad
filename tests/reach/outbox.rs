//! Events that wait on disk, across outages and killed processes.

use std::collections::HashSet;
use std::io::BufRead;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use ensync_client::{Attempts, Client, Engine, Outbox, OutboxOptions, OutboxOutcome, Subscription};
use ensync_core::{AppId, ErrorKind, SecretKey};
use futures::StreamExt;

use crate::middlebox::{Middlebox, Mode};
use crate::over_both;
use crate::world::{Transport, World, eventually, n_of, next, soon};

const ORDERS: &str = "orders/placed";
const STOCK: &str = "stock/changed";

/// An engine behind a middlebox, and an outbox.
struct Place {
    world: World,
    between: Middlebox,
    directory: tempfile::TempDir,
}

impl Place {
    async fn new(transport: Transport, mode: Mode) -> Self {
        let world = World::start(transport).await;
        let at = world.endpoint().authority().parse().unwrap();
        Self { between: Middlebox::to(at, mode).await, world, directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("shop.outbox")
    }

    async fn outbox(&self) -> Outbox {
        Outbox::open(self.path(), OutboxOptions::new()).await.unwrap()
    }

    fn engine(&self) -> Engine {
        let endpoint = self.world.endpoint().to_string();
        let near = endpoint.replace(&self.world.endpoint().authority(), &self.between.address.to_string());
        let near: ensync_core::Endpoint = near.parse().unwrap();
        Engine::with_connector(near.clone(), self.world.connector_to(&near))
    }

    /// The shop's client, whose events go by the outbox; it is there whether there is a connection or not.
    async fn till(&self, outbox: &Outbox) -> Client {
        let engine = self.engine().retry_first_connect(true).max_reconnect_attempts(Attempts::Unlimited);
        let engine = engine.reconnect_interval(Duration::from_millis(5));
        engine.create_client(&self.world.shop.app_key).outbox(outbox.clone()).await.unwrap()
    }

    async fn published(&self, event: &str) -> u64 {
        self.world
            .server
            .queue(event, self.world.warehouse.app_id)
            .await
            .unwrap()
            .map_or(0, |queue| queue.counters.published)
    }
}

async fn queue(client: &Client, event: &str, n: u64, to: &[AppId]) {
    client.publish(event, &serde_json::json!({"n": n})).to_all(to.iter().copied()).queue().await.unwrap();
}

async fn numbers(events: &mut Subscription, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        let event = next(events).await;
        numbers.push(n_of(&event));
        event.ack().await.unwrap();
    }
    numbers
}

async fn what_is_queued_through_an_outage_arrives_in_order_and_once(transport: Transport) {
    let place = Place::new(transport, Mode::Closed).await;
    let outbox = place.outbox().await;
    // There never was a connection yet.
    let till = place.till(&outbox).await;
    let (shop, warehouse) = (place.world.shop.app_id, place.world.warehouse.app_id);
    for n in 0..30 {
        queue(&till, if n % 3 == 0 { STOCK } else { ORDERS }, n, &[warehouse, shop]).await;
    }
    let status = outbox.status();
    assert_eq!((status.waiting, status.parked), (60, 0));
    assert!(status.bytes > 0 && status.oldest.is_some());
    place.between.set(Mode::Open);
    let status = soon(outbox.flush()).await.unwrap();
    assert_eq!((status.waiting, status.parked, status.bytes, status.oldest), (0, 0, 0, None));
    for app in [&place.world.warehouse, &place.world.shop] {
        let reader = place.world.client(app).await;
        let mut orders = reader.subscribe(ORDERS).await.unwrap();
        assert_eq!(numbers(&mut orders, 20).await, (0..30).filter(|n| n % 3 != 0).collect::<Vec<_>>());
        let mut stock = reader.subscribe(STOCK).await.unwrap();
        assert_eq!(numbers(&mut stock, 10).await, (0..30).filter(|n| n % 3 == 0).collect::<Vec<_>>());
    }
    assert_eq!((place.published(ORDERS).await, place.published(STOCK).await), (20, 10));
    soon(till.close()).await.unwrap();
}

async fn what_an_earlier_client_left_is_sent_by_the_next(transport: Transport) {
    let place = Place::new(transport, Mode::Closed).await;
    let outbox = place.outbox().await;
    let till = place.till(&outbox).await;
    queue(&till, ORDERS, 1, &[place.world.warehouse.app_id]).await;
    let taken = place.engine().create_client(&place.world.shop.app_key).outbox(outbox.clone()).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::InvalidInput);
    assert!(taken.to_string().contains("another client drains it"), "{taken}");
    queue(&till, ORDERS, 2, &[place.world.warehouse.app_id]).await;
    soon(till.close()).await.unwrap();
    let late = till.publish(ORDERS, &serde_json::json!({"n": 3})).to(place.world.warehouse.app_id).queue().await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Closed, "nobody would send it");
    let error = soon(outbox.flush()).await.unwrap_err();
    assert!(error.to_string().contains("2 events wait and no client drains them"), "{error}");
    outbox.close().await;
    let outbox = place.outbox().await;
    place.between.set(Mode::Open);
    let next_till = place.till(&outbox).await;
    soon(outbox.flush()).await.unwrap();
    let reader = place.world.client(&place.world.warehouse).await;
    assert_eq!(numbers(&mut reader.subscribe(ORDERS).await.unwrap(), 2).await, [1, 2]);
    drop(next_till);
    // Dropped, it lets go of the outbox as well.
    eventually(async || {
        let again = place.engine().create_client(&place.world.shop.app_key).outbox(outbox.clone()).await;
        again.is_ok()
    })
    .await;
}

async fn what_the_engine_refuses_is_parked_and_holds_up_nobody(transport: Transport) {
    let place = Place::new(transport, Mode::Open).await;
    let outbox = place.outbox().await;
    let mut outcomes = outbox.outcomes();
    let till = place.till(&outbox).await;
    let nobody = SecretKey::generate().unwrap().app_id().unwrap();
    let queued = till.publish(ORDERS, &1).to(nobody).queue().await.unwrap();
    queue(&till, ORDERS, 2, &[place.world.warehouse.app_id]).await;
    soon(outbox.flush()).await.unwrap();
    let (mut parked, mut accepted) = (None, None);
    while parked.is_none() || accepted.is_none() {
        match soon(outcomes.next()).await.unwrap() {
            OutboxOutcome::Parked { about, why } => parked = Some((about, why)),
            OutboxOutcome::Accepted { about, id } => accepted = Some((about, id)),
            other => panic!("{other:?}"),
        }
    }
    let (about, why) = parked.unwrap();
    assert_eq!((about.recipient, why.kind()), (nobody, ErrorKind::UnknownRecipient));
    assert_eq!(queued.iter().collect::<Vec<_>>(), [(&nobody, about.queued)]);
    let listed = outbox.parked().await.unwrap();
    assert_eq!((listed.len(), &listed[0].about), (1, &about));
    assert_eq!(listed[0].why.kind(), ErrorKind::UnknownRecipient);
    // Again, with the same answer; and given up.
    assert!(outbox.retry(about.queued).await.unwrap());
    soon(outbox.flush()).await.unwrap();
    assert_eq!(outbox.status().parked, 1);
    assert!(outbox.discard(about.queued).await.unwrap());
    assert!(!outbox.discard(about.queued).await.unwrap());
    assert_eq!((outbox.status().parked, outbox.status().bytes), (0, 0));
    let reader = place.world.client(&place.world.warehouse).await;
    let mut orders = reader.subscribe(ORDERS).await.unwrap();
    let event = next(&mut orders).await;
    assert_eq!((n_of(&event), event.id()), (2, &accepted.unwrap().1));
}

async fn lost_answers_double_nothing(transport: Transport) {
    let place = Place::new(transport, Mode::Open).await;
    let outbox = place.outbox().await;
    let till = place.till(&outbox).await;
    for n in 0..40 {
        queue(&till, ORDERS, n, &[place.world.warehouse.app_id]).await;
        if n % 5 == 0 {
            // Whatever is on its way is cut off from its answer.
            place.between.set(Mode::Open);
        }
    }
    soon(outbox.flush()).await.unwrap();
    let reader = place.world.client(&place.world.warehouse).await;
    let mut orders = reader.subscribe(ORDERS).await.unwrap();
    assert_eq!(numbers(&mut orders, 40).await, (0..40).collect::<Vec<_>>());
    assert_eq!(place.published(ORDERS).await, 40);
}

async fn another_app_s_events_are_not_sent_as_this_one_s(transport: Transport) {
    let place = Place::new(transport, Mode::Closed).await;
    let outbox = place.outbox().await;
    let engine = place.engine().retry_first_connect(true).reconnect_interval(Duration::from_millis(5));
    let (shop, warehouse) = (&place.world.shop, &place.world.warehouse);
    let till = engine.create_client(&shop.app_key).app_secret_key(&shop.secret_key).outbox(outbox.clone());
    let till = till.await.unwrap();
    queue(&till, ORDERS, 1, &[warehouse.app_id]).await;
    soon(till.close()).await.unwrap();
    place.between.set(Mode::Open);
    let _other = engine.create_client(&warehouse.app_key).outbox(outbox.clone()).await.unwrap();
    soon(outbox.flush()).await.unwrap();
    let parked = outbox.parked().await.unwrap();
    assert_eq!(parked[0].why.kind(), ErrorKind::InvalidKey);
    assert!(parked[0].why.to_string().contains("an outbox is for one app"), "{:?}", parked[0].why);
    assert_eq!(place.published(ORDERS).await, 0);
}

async fn a_client_without_an_outbox_says_so(transport: Transport) {
    let world = World::start(transport).await;
    let till = world.client(&world.shop).await;
    let error = till.publish(ORDERS, &1).to(world.warehouse.app_id).queue().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("has no outbox"), "{error}");
}

over_both!(
    what_is_queued_through_an_outage_arrives_in_order_and_once,
    what_an_earlier_client_left_is_sent_by_the_next,
    what_the_engine_refuses_is_parked_and_holds_up_nobody,
    lost_answers_double_nothing,
    another_app_s_events_are_not_sent_as_this_one_s,
    a_client_without_an_outbox_says_so,
    killed_processes_lose_and_double_nothing,
);

const CHILD: &str = "ENSYNC_TEST_OF_THE_OUTBOX";

/// Runs a child that queues events from `first` on, and kills it once it has told of `count` that were accepted.
fn child(place: &Place, url: &str, first: u64, count: u64) -> Vec<u64> {
    let world = &place.world;
    let given =
        format!("{} {url} {} {} {first}", place.path().display(), world.shop.app_key.expose(), world.warehouse.app_id);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "outbox::a_child_queues_until_it_is_killed", "--nocapture"])
        .env(CHILD, given)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let accepted = |line: String| line.split("accepted ").nth(1).map(|n| n.trim().parse().unwrap());
    let mut told = lines.filter_map(accepted);
    let mut numbers: Vec<u64> = told.by_ref().take(usize::try_from(count).unwrap()).collect();
    child.kill().unwrap();
    // What it had said before it died counts.
    numbers.extend(told);
    child.wait().unwrap();
    numbers
}

/// Kills processes while they queue without a connection, and while they queue and send; the last one sends the rest.
async fn killed_processes_lose_and_double_nothing(transport: Transport) {
    let place = Place::new(transport, Mode::Open).await;
    let url = match transport {
        Transport::Grpc => place.world.server.grpc_url(),
        _ => place.world.server.ws_url(),
    };
    let nowhere = if url.starts_with("grpc") { "grpc://127.0.0.1:1" } else { "ws://127.0.0.1:1" };
    let (accepted, place) = tokio::task::spawn_blocking(move || {
        let mut accepted = Vec::new();
        for (round, url) in [nowhere, &url, nowhere, &url, &url].into_iter().enumerate() {
            let first = u64::try_from(round).unwrap() * 10_000;
            let told = child(&place, url, first, 25);
            assert!(told.len() >= 25, "round {round}: {told:?}");
            accepted.extend(told);
        }
        (accepted, place)
    })
    .await
    .unwrap();
    let outbox = place.outbox().await;
    let _till = place.till(&outbox).await;
    let status = soon(outbox.flush()).await.unwrap();
    assert_eq!((status.waiting, status.parked), (0, 0));
    let published = place.published(ORDERS).await;
    let reader = place.world.client(&place.world.warehouse).await;
    let mut orders = reader.subscribe(ORDERS).await.unwrap();
    let arrived = numbers(&mut orders, usize::try_from(published).unwrap()).await;
    // In order, and none twice; all that was accepted; and besides at most the one a process that died had on disk and not told of.
    assert!(arrived.windows(2).all(|pair| pair[0] < pair[1]), "{arrived:?}");
    let known: HashSet<_> = arrived.iter().collect();
    assert!(accepted.iter().all(|n| known.contains(n)), "{accepted:?} {arrived:?}");
    assert!(arrived.len() <= accepted.len() + 5, "{} {}", arrived.len(), accepted.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_queues_until_it_is_killed() {
    let Ok(given) = std::env::var(CHILD) else { return };
    let [path, url, app_key, to, first] = given.split(' ').collect::<Vec<_>>()[..] else { panic!("{given}") };
    let outbox = Outbox::open(path, OutboxOptions::new()).await.unwrap();
    let engine = ensync_sdk::Engine::new(url).unwrap().retry_first_connect(true);
    let engine = engine.max_reconnect_attempts(Attempts::Unlimited);
    let client = engine.create_client(app_key).outbox(outbox).await.unwrap();
    let mut n: u64 = first.parse().unwrap();
    loop {
        client.publish(ORDERS, &serde_json::json!({"n": n})).to(to).queue().await.unwrap();
        println!("accepted {n}");
        n += 1;
    }
}

/// What lies on disk: no part of the payload.
#[tokio::test]
async fn only_ciphertext_is_on_disk() {
    let place = Place::new(Transport::WebSocket, Mode::Closed).await;
    let outbox = place.outbox().await;
    let till = place.till(&outbox).await;
    let secret = "the quick brown fox jumps over the lazy dog";
    let publish = till.publish(ORDERS, &serde_json::json!({"text": secret})).to(place.world.warehouse.app_id);
    publish.header("in-clear", "yes").queue().await.unwrap();
    outbox.close().await;
    let bytes = std::fs::read(place.path()).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(ORDERS) && holds("in-clear"));
    assert!(!holds("quick") && !holds(place.world.shop.app_key.expose()) && !holds(secret));
}
