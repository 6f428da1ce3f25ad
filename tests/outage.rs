//! Connections that are cut between a client and a running engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensync_client::{Attempts, ConnectionEvent, ConnectionState, Engine};
use ensync_core::{Endpoint, ErrorKind};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::world::{Transport, World, eventually, n_of, next, publish, soon};

const ORDERS: &str = "orders/status/updated";

/// Forwards connections to an engine, and can cut all of them.
struct Proxy {
    address: SocketAddr,
    cut: watch::Sender<u32>,
    shut: Arc<AtomicBool>,
}

impl Proxy {
    async fn to(engine: &Endpoint) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ((cut, cuts), shut) = (watch::channel(0), Arc::new(AtomicBool::new(false)));
        let closed = shut.clone();
        let target = (engine.host(), engine.port());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                if closed.load(Ordering::Relaxed) {
                    continue;
                }
                let (target, mut cuts) = (target.clone(), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect((target.0.as_str(), target.1)).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, cut, shut }
    }

    /// Ends new connections at once, or passes them on again.
    fn shut(&self, shut: bool) {
        self.shut.store(shut, Ordering::Relaxed);
    }

    fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

async fn through_proxy(transport: Transport) -> (World, Proxy, Engine) {
    let world = World::start(transport).await;
    let proxy = Proxy::to(&world.endpoint()).await;
    let near: Endpoint = world
        .endpoint()
        .to_string()
        .replace(&world.endpoint().authority(), &proxy.address.to_string())
        .parse()
        .unwrap();
    let connector = world.connector_to(&near);
    let engine = Engine::with_connector(near, connector).reconnect_interval(Duration::from_millis(5));
    (world, proxy, engine)
}

async fn a_subscription_goes_on_after_cuts(transport: Transport) {
    let (world, proxy, engine) = through_proxy(transport).await;
    let till = world.client(&world.shop).await;
    let stock =
        engine.create_client(&world.warehouse.app_key).app_secret_key(&world.warehouse.secret_key).await.unwrap();
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    for n in 0..5 {
        publish(&world, &till, ORDERS, n).await.unwrap();
        let event = next(&mut orders).await;
        assert_eq!(n_of(&event), n);
        event.ack().await.unwrap();
        proxy.cut();
    }
}

async fn what_was_held_comes_again_and_the_old_ack_is_stale(transport: Transport) {
    let (world, proxy, engine) = through_proxy(transport).await;
    let till = world.client(&world.shop).await;
    let stock =
        engine.create_client(&world.warehouse.app_key).app_secret_key(&world.warehouse.secret_key).await.unwrap();
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let before = next(&mut orders).await;
    proxy.cut();
    let after = next(&mut orders).await;
    assert_eq!((after.id(), after.attempt()), (before.id(), Some(2)));
    assert_eq!(before.ack().await.unwrap_err().kind(), ensync_core::ErrorKind::StaleDelivery);
    after.ack().await.unwrap();
}

async fn publishing_through_cuts_loses_and_doubles_nothing(transport: Transport) {
    let (world, proxy, engine) = through_proxy(transport).await;
    // Every login counts as one that held, however short: the cuts come faster than any would.
    let engine = engine.reconnect_interval(Duration::ZERO);
    let till = engine.create_client(&world.shop.app_key).await.unwrap();
    let stock = world.client(&world.warehouse).await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    for n in 0..100 {
        let publishing = publish(&world, &till, ORDERS, n);
        // Cut before, while and after the command is on its way.
        match n % 3 {
            0 => proxy.cut(),
            1 => drop(tokio::spawn({
                let cut = proxy.cut.clone();
                async move { cut.send_modify(|cuts| *cuts += 1) }
            })),
            _ => {}
        }
        soon(publishing).await.unwrap();
    }
    for n in 0..100 {
        let event = next(&mut orders).await;
        assert_eq!(n_of(&event), n);
        event.ack().await.unwrap();
    }
    let queue = world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap();
    assert_eq!(queue.counters.published, 100, "an event was stored twice");
}

async fn many_subscriptions_go_on_and_none_is_left_behind(transport: Transport) {
    let (world, proxy, engine) = through_proxy(transport).await;
    let till = world.client(&world.shop).await;
    let stock =
        engine.create_client(&world.warehouse.app_key).app_secret_key(&world.warehouse.secret_key).await.unwrap();
    let names: Vec<_> = (0..40).map(|n| format!("many/names/{n}")).collect();
    let mut subscriptions = Vec::new();
    for name in &names {
        subscriptions.push(stock.subscribe(name.as_str()).await.unwrap());
    }
    for round in 0..3 {
        proxy.cut();
        // What arrives while the others are still being restored is not lost.
        for name in &names {
            publish(&world, &till, name, round).await.unwrap();
        }
        for events in &mut subscriptions {
            let event = next(events).await;
            assert_eq!(n_of(&event), round);
            event.ack().await.unwrap();
        }
    }
    // Dropped while they are being restored, or before, they are gone at the engine too: nothing is sent here any more.
    proxy.cut();
    let half = subscriptions.split_off(20);
    let session = stock.client_id();
    drop(subscriptions);
    eventually(async || stock.client_id().is_some_and(|id| Some(id) != session)).await;
    drop(half);
    for name in &names {
        eventually(async || {
            world.server.queue(name.as_str(), world.warehouse.app_id).await.unwrap().unwrap().consumers == 0
        })
        .await;
        publish(&world, &till, name, 9).await.unwrap();
        let queue = world.server.queue(name.as_str(), world.warehouse.app_id).await.unwrap().unwrap();
        assert_eq!((queue.ready, queue.dead), (1, 0));
    }
}

async fn a_slow_subscription_stalls_no_other_after_a_cut(transport: Transport) {
    let (world, proxy, engine) = through_proxy(transport).await;
    let till = world.client(&world.shop).await;
    let stock =
        engine.create_client(&world.warehouse.app_key).app_secret_key(&world.warehouse.secret_key).await.unwrap();
    let slow = stock.subscribe("slow/reader").max_in_flight(8).await.unwrap();
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    for n in 0..50 {
        publish(&world, &till, "slow/reader", n).await.unwrap();
    }
    let queue = || async { world.server.queue("slow/reader", world.warehouse.app_id).await.unwrap().unwrap() };
    eventually(async || queue().await.in_flight == 8).await;
    let session = stock.client_id();
    proxy.cut();
    eventually(async || stock.client_id().is_some_and(|id| Some(id) != session)).await;
    publish(&world, &till, ORDERS, 1).await.unwrap();
    assert_eq!(n_of(&next(&mut orders).await), 1);
    drop(slow);
}

async fn deadlines_hold_while_there_is_no_connection(transport: Transport) {
    let (world, proxy, engine) = through_proxy(transport).await;
    let engine = engine.request_timeout(Duration::from_secs(1)).max_reconnect_attempts(Attempts::Unlimited);
    let stock = engine.create_client(&world.warehouse.app_key).await.unwrap();
    let orders = stock.subscribe(ORDERS).await.unwrap();
    soon(world.server.shutdown()).await;
    proxy.cut();
    eventually(async || !stock.is_connected()).await;
    let error = soon(stock.publish(ORDERS, &1).to(world.shop.app_id).into_future()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connect | ErrorKind::Interrupted), "{error:?}");
    let limit = Duration::from_millis(10);
    soon(stock.publish(ORDERS, &1).to(world.shop.app_id).timeout(limit).into_future()).await.unwrap_err();
    assert!(soon(orders.pause("later")).await.is_err());
    drop(orders);
    let error = soon(stock.subscribe(ORDERS).into_future()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connect | ErrorKind::Timeout), "{error:?}");
    soon(stock.close()).await.unwrap();
}

async fn the_connection_state_is_told(transport: Transport) {
    let (world, proxy, engine) = through_proxy(transport).await;
    let stock = engine.max_reconnect_attempts(2).create_client(&world.warehouse.app_key).await.unwrap();
    let mut states = stock.connection_states();
    let mut state = async || soon(futures::StreamExt::next(&mut states)).await;
    assert!(matches!(state().await, Some(ConnectionState::Live)));
    proxy.cut();
    assert!(matches!(state().await, Some(ConnectionState::Reconnecting { attempt: 1, .. })));
    assert!(matches!(state().await, Some(ConnectionState::Live)));
    soon(world.server.shutdown()).await;
    loop {
        match state().await {
            Some(ConnectionState::Reconnecting { attempt, .. }) => assert!(attempt <= 2),
            Some(ConnectionState::Closed { why }) => break assert!(why.to_string().contains("gave up"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(stock.connection_state(), ConnectionState::Closed { .. }));
    drop(stock);
    assert!(state().await.is_none());
}

async fn a_pause_outlives_the_connection(transport: Transport) {
    let (world, proxy, engine) = through_proxy(transport).await;
    let till = world.client(&world.shop).await;
    let stock =
        engine.create_client(&world.warehouse.app_key).app_secret_key(&world.warehouse.secret_key).await.unwrap();
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    orders.pause("maintenance").await.unwrap();
    // Some wait before the connection is lost, and one comes after.
    for n in 0..50 {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    let session = stock.client_id();
    proxy.cut();
    eventually(async || stock.client_id().is_some_and(|id| Some(id) != session)).await;
    publish(&world, &till, ORDERS, 50).await.unwrap();
    let queue = world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap();
    assert_eq!((queue.ready, queue.in_flight), (51, 0), "still paused");
    orders.resume().await.unwrap();
    assert_eq!(n_of(&next(&mut orders).await), 0);
}

async fn attempts_run_out(transport: Transport) {
    let (world, proxy, engine) = through_proxy(transport).await;
    let engine = engine.max_reconnect_attempts(10);
    let stock = engine.create_client(&world.warehouse.app_key).await.unwrap();
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    soon(world.server.shutdown()).await;
    proxy.cut();
    let error = soon(futures::StreamExt::next(&mut orders)).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("gave up after 10 attempts"), "{error}");
}

async fn every_change_is_heard_in_order(transport: Transport) {
    let (world, proxy, engine) = through_proxy(transport).await;
    let stock = engine.max_reconnect_attempts(2).create_client(&world.warehouse.app_key).await.unwrap();
    let (mut events, mut late) = (stock.events(), stock.events());
    let mut next = async || soon(futures::StreamExt::next(&mut events)).await.unwrap();
    assert!(matches!(next().await, ConnectionEvent::Connected));
    proxy.cut();
    assert!(matches!(next().await, ConnectionEvent::Disconnected { .. }));
    assert!(matches!(next().await, ConnectionEvent::Reconnecting { attempt: 1, .. }));
    assert!(matches!(next().await, ConnectionEvent::Reconnected { attempt: 1 }));
    stock.wait_until_live().await.unwrap();
    soon(world.server.shutdown()).await;
    let closed = loop {
        match next().await {
            ConnectionEvent::Closed { why } => break why,
            ConnectionEvent::Disconnected { .. }
            | ConnectionEvent::Reconnecting { .. }
            | ConnectionEvent::Reconnected { .. }
            | ConnectionEvent::Failed { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    // Attempts and cause; and nothing that is asked for now is carried out.
    assert!(closed.to_string().contains("gave up after 2 attempts"), "{closed}");
    assert!(std::error::Error::source(&closed).is_some());
    assert_eq!((closed.kind(), closed.may_have_happened()), (ErrorKind::Closed, false));
    assert!(soon(stock.wait_until_live()).await.is_err());
    // Who listens late hears all of it too, and the end is the end.
    let mut heard = 0;
    while soon(futures::StreamExt::next(&mut late)).await.is_some() {
        heard += 1;
    }
    assert!(heard >= 6, "{heard}");
    assert!(matches!(stock.events().next_now().await, Some(ConnectionEvent::Closed { .. })));
}

/// The engine comes up after its client.
async fn the_first_connection_is_tried_again(transport: Transport) {
    let (world, proxy, engine) = through_proxy(transport).await;
    proxy.shut(true);
    let refused = engine.create_client(&world.shop.app_key).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Connect, "{refused}");
    let engine = engine.retry_first_connect(true).max_reconnect_attempts(Attempts::Unlimited);
    let till = engine.create_client(&world.shop.app_key).await.unwrap();
    assert!(!till.is_connected());
    let early = till.publish(ORDERS, &1).to(world.warehouse.app_id).timeout(Duration::from_millis(20)).await;
    assert_eq!(early.unwrap_err().kind(), ErrorKind::Connect);
    let publishing = tokio::spawn(till.publish(ORDERS, &2).to(world.warehouse.app_id).into_future());
    proxy.shut(false);
    soon(till.wait_until_live()).await.unwrap();
    soon(publishing).await.unwrap().unwrap();
    assert!(matches!(till.connection_state(), ConnectionState::Live));
    // A key that is refused is not tried again.
    let stranger = engine.create_client("no-such-key").await.unwrap();
    let error = soon(stranger.wait_until_live()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
}

trait NextNow: futures::Stream + Unpin + Sized {
    async fn next_now(mut self) -> Option<Self::Item> {
        soon(futures::StreamExt::next(&mut self)).await
    }
}

impl<S: futures::Stream + Unpin> NextNow for S {}

macro_rules! over_both {
    ($($name:ident),* $(,)?) => {
        mod grpc { $(#[tokio::test] async fn $name() { super::$name(crate::world::Transport::Grpc).await })* }
        mod web_socket { $(#[tokio::test] async fn $name() { super::$name(crate::world::Transport::WebSocket).await })* }
    };
}

over_both!(
    a_subscription_goes_on_after_cuts,
    what_was_held_comes_again_and_the_old_ack_is_stale,
    publishing_through_cuts_loses_and_doubles_nothing,
    many_subscriptions_go_on_and_none_is_left_behind,
    a_slow_subscription_stalls_no_other_after_a_cut,
    deadlines_hold_while_there_is_no_connection,
    the_connection_state_is_told,
    a_pause_outlives_the_connection,
    attempts_run_out,
    every_change_is_heard_in_order,
    the_first_connection_is_tried_again,
);
