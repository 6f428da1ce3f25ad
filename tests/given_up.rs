//! Deliveries that are left, and settlements whose callers give up: neither holds a window.

use ensync_engine::QueueStats;
use futures::StreamExt;

use crate::over_every_transport;
use crate::world::{World, eventually, n_of, next, publish, soon};

const ORDERS: &str = "orders/status/updated";

over_every_transport!(
    what_is_left_holds_no_window,
    what_cannot_be_opened_and_is_left_holds_no_window,
    a_settlement_that_is_given_up_holds_no_window,
);

async fn queue(world: &World) -> QueueStats {
    world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap()
}

async fn what_is_left_holds_no_window(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).max_in_flight(3).await.unwrap();
    for n in 0..20 {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    for n in 0..20 {
        let event = next(&mut orders).await;
        assert_eq!((n_of(&event), event.attempt()), (n, Some(1)));
        event.leave();
    }
    eventually(async || queue(&world).await.deferred == 20).await;
    let QueueStats { ready, in_flight, dead, counters, .. } = queue(&world).await;
    assert_eq!((ready, in_flight, dead, counters.redelivered), (0, 0, 0, 0), "they wait for the end of their leases");
    // With the session's end too: none of them comes back at once.
    soon(stock.close()).await.unwrap();
    assert_eq!(queue(&world).await.deferred, 20);
}

async fn what_cannot_be_opened_and_is_left_holds_no_window(world: World) {
    let till = world.client(&world.shop).await;
    // Of the warehouse's app, without its secret key.
    let stock = world.engine().create_client(&world.warehouse.app_key).await.unwrap();
    let orders = stock.subscribe(ORDERS).max_in_flight(3).unopenable(ensync_client::Unopenable::Leave);
    let mut orders = orders.await.unwrap();
    for n in 0..20 {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    let reading = tokio::spawn(async move { orders.next().await.is_some() });
    eventually(async || queue(&world).await.deferred == 20).await;
    assert!(!reading.is_finished(), "nothing comes out");
    reading.abort();
}

async fn a_settlement_that_is_given_up_holds_no_window(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).max_in_flight(1).await.unwrap();
    for n in 0..20 {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    for n in 0..20 {
        let event = next(&mut orders).await;
        assert_eq!((n_of(&event), event.attempt()), (n, Some(1)), "what was settled does not come again");
        // Polled once, as by a `select!` whose other branch is ready.
        let mut settling = std::pin::pin!(event.ack());
        let _ready = futures::poll!(&mut settling);
    }
    eventually(async || queue(&world).await.counters.acked == 20).await;
}
