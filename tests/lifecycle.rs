//! Beginnings and ends: pauses, subscriptions that are left, clients that close, engines that stop.

use std::sync::Arc;

use ensync_client::Event;
use ensync_core::{Error, ErrorKind};
use futures::StreamExt;
use tokio::sync::Notify;

use crate::over_every_transport;
use crate::world::{World, eventually, n_of, next, publish, soon};

const ORDERS: &str = "orders/status/updated";

over_every_transport!(
    pause_and_resume,
    unsubscribe_ends_the_stream,
    dropping_a_subscription_hands_back,
    one_subscription_a_name,
    close_drains,
    dropping_the_client_ends_its_session,
    a_dropped_loop_finishes_what_it_began,
    a_handler_that_panics_at_once_is_a_failed_one,
    controls_of_an_ended_subscription_touch_no_other,
    durations_may_be_endless,
    the_engine_shutting_down_closes_nobody_for_good,
);

async fn pause_and_resume(world: World) {
    let (till, stock) = world.clients().await;
    let other = world.client(&world.warehouse).await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    orders.pause("maintenance; at night").await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let queue = world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap();
    assert_eq!((queue.ready, queue.in_flight), (1, 0));
    // Another client of the same app goes on.
    let mut others = other.subscribe(ORDERS).await.unwrap();
    next(&mut others).await.ack().await.unwrap();
    others.unsubscribe().await.unwrap();
    publish(&world, &till, ORDERS, 2).await.unwrap();
    orders.resume().await.unwrap();
    let event = next(&mut orders).await;
    assert_eq!(n_of(&event), 2);
    event.ack().await.unwrap();
}

async fn unsubscribe_ends_the_stream(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let taken = next(&mut orders).await;
    orders.unsubscribe().await.unwrap();
    assert!(soon(orders.next()).await.is_none());
    taken.ack().await.unwrap();
    publish(&world, &till, ORDERS, 2).await.unwrap();
    let queue = world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap();
    assert_eq!((queue.ready, queue.in_flight, queue.counters.acked), (1, 0, 1));
    let mut again = stock.subscribe(ORDERS).await.unwrap();
    assert_eq!(n_of(&next(&mut again).await), 2);
}

async fn dropping_a_subscription_hands_back(world: World) {
    let (till, stock) = world.clients().await;
    let orders = stock.subscribe(ORDERS).await.unwrap();
    for n in 0..5 {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    eventually(async || world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap().in_flight == 5)
        .await;
    drop(orders);
    eventually(async || world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap().ready == 5).await;
}

async fn one_subscription_a_name(world: World) {
    let (_, stock) = world.clients().await;
    let orders = stock.subscribe(ORDERS).await.unwrap();
    let error = stock.subscribe(ORDERS).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("subscribed to orders/status/updated already"), "{error}");
    drop(orders);
    stock.subscribe(ORDERS).await.unwrap();
}

async fn close_drains(world: World) {
    let (till, stock) = world.clients().await;
    let (started, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (signal, wait) = (started.clone(), gate.clone());
    let handler = stock.subscribe(ORDERS).await.unwrap().on(move |_event: Event| {
        let (signal, wait) = (signal.clone(), wait.clone());
        async move {
            signal.notify_one();
            wait.notified().await;
            Ok::<_, Error>(())
        }
    });
    for n in 0..3 {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    soon(started.notified()).await;
    let closing = tokio::spawn({
        let stock = stock.clone();
        async move { stock.close().await }
    });
    // It waits for the handler that runs, and starts no other.
    eventually(async || stock.subscribe("other/name").await.is_err()).await;
    assert!(!closing.is_finished());
    gate.notify_one();
    soon(closing).await.unwrap().unwrap();
    soon(handler.join()).await.unwrap();
    eventually(async || {
        let queue = world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap();
        (queue.counters.acked, queue.ready) == (1, 2)
    })
    .await;
    assert_eq!(stock.publish(ORDERS, &1).to(world.shop.app_id).await.unwrap_err().kind(), ErrorKind::Closed);
    stock.close().await.unwrap();
}

async fn dropping_the_client_ends_its_session(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let held = next(&mut orders).await;
    let id = held.id().clone();
    drop((stock, orders, held));
    let other = world.client(&world.warehouse).await;
    let mut orders = other.subscribe(ORDERS).await.unwrap();
    assert_eq!(next(&mut orders).await.id(), &id);
}

async fn the_engine_shutting_down_closes_nobody_for_good(world: World) {
    let engine = world.engine().max_reconnect_attempts(0);
    let stock = engine.create_client(&world.warehouse.app_key).await.unwrap();
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    soon(world.server.shutdown()).await;
    let error = soon(orders.next()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("gave up after 0 attempts"), "{error}");
    assert!(soon(orders.next()).await.is_none(), "one error, then the end");
    assert!(!stock.is_connected());
    let error = soon(stock.publish(ORDERS, &1).to(world.shop.app_id).into_future()).await.unwrap_err();
    assert!(error.to_string().contains("gave up"), "{error}");
}

async fn a_dropped_loop_finishes_what_it_began(world: World) {
    let (till, stock) = world.clients().await;
    let (started, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (signal, wait) = (started.clone(), gate.clone());
    let handling = stock.subscribe(ORDERS).await.unwrap().for_each(move |_event: Event| {
        let (signal, wait) = (signal.clone(), wait.clone());
        async move {
            signal.notify_one();
            wait.notified().await;
            Ok::<_, Error>(())
        }
    });
    publish(&world, &till, ORDERS, 1).await.unwrap();
    // The usual shape of a shutdown.
    tokio::select! {
        done = handling.into_future() => panic!("{done:?}"),
        () = soon(started.notified()) => {}
    }
    let closing = tokio::spawn(async move { stock.close().await });
    gate.notify_one();
    soon(closing).await.unwrap().unwrap();
    let queue = world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap();
    assert_eq!((queue.counters.acked, queue.ready, queue.in_flight), (1, 0, 0));
}

async fn a_handler_that_panics_at_once_is_a_failed_one(world: World) {
    let (till, stock) = world.clients().await;
    let handler = stock
        .subscribe(ORDERS)
        .await
        .unwrap()
        .for_each(|event: Event| {
            assert_ne!(n_of(&event), 7, "before there is a future");
            async { Ok::<_, Error>(()) }
        })
        .on_error(ensync_client::OnError::Discard)
        .spawn();
    for n in [7, 1] {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    eventually(async || {
        let queue = world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap();
        (queue.dead, queue.counters.acked) == (1, 1)
    })
    .await;
    soon(handler.stop()).await.unwrap();
}

async fn controls_of_an_ended_subscription_touch_no_other(world: World) {
    let (till, stock) = world.clients().await;
    let first = stock.subscribe(ORDERS).await.unwrap();
    let stale = first.control();
    first.unsubscribe().await.unwrap();
    let mut second = stock.subscribe(ORDERS).await.unwrap();
    assert_eq!(stale.pause("too late").await.unwrap_err().kind(), ErrorKind::Closed);
    stale.unsubscribe().await.unwrap();
    drop(first);
    publish(&world, &till, ORDERS, 1).await.unwrap();
    assert_eq!(n_of(&next(&mut second).await), 1);
}

async fn durations_may_be_endless(world: World) {
    let never = std::time::Duration::MAX;
    let engine = world.engine().heartbeat_interval(never).request_timeout(never).connect_timeout(never);
    let engine = engine.close_timeout(never).reconnect_interval(never);
    let stock =
        engine.create_client(&world.warehouse.app_key).app_secret_key(&world.warehouse.secret_key).await.unwrap();
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    stock.publish(ORDERS, &1).to(world.warehouse.app_id).timeout(never).await.unwrap();
    next(&mut orders).await.ack().await.unwrap();
    soon(stock.close()).await.unwrap();
}

#[test]
fn a_client_whose_runtime_is_gone_closes() {
    let first = tokio::runtime::Runtime::new().unwrap();
    let (world, stock) = first.block_on(async {
        let world = World::start(crate::world::Transport::WebSocket).await;
        let stock = world.client(&world.warehouse).await;
        (world, stock)
    });
    drop(first);
    let second = tokio::runtime::Runtime::new().unwrap();
    second.block_on(async {
        soon(stock.close()).await.unwrap();
        assert_eq!(stock.subscribe(ORDERS).await.unwrap_err().kind(), ErrorKind::Closed);
    });
    drop(world);
}
