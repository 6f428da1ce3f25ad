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
