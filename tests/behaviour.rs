//! What clients see, over each transport.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ensync_client::{Event, OnError};
use ensync_core::{Error, ErrorKind};
use ensync_engine::EventOptions;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use crate::over_every_transport;
use crate::world::{World, eventually, n_of, next, publish, soon};

const ORDERS: &str = "orders/status/updated";

over_every_transport!(
    an_order_arrives_as_it_was_sent,
    payloads_of_every_shape_and_size,
    many_recipients_get_their_own_copy,
    order_is_kept,
    consumers_compete,
    an_ack_is_final_and_can_be_repeated,
    rollback_hands_on_and_fences_off,
    an_event_is_held_for_as_long_as_its_holder_says_so,
    what_nobody_read_is_handed_back_and_does_not_count,
    defer_and_discard,
    the_window_is_kept,
    a_handler_acks_after_ok,
    a_failed_handler_defers_rolls_back_or_discards,
    handlers_run_at_the_same_time_up_to_the_limit,
    a_retried_publish_is_stored_once,
    an_error_about_a_payload_does_not_repeat_it,
);

async fn an_order_arrives_as_it_was_sent(world: World) {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        id: String,
        total: f64,
    }
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    let order = Order { id: "o-1; with \"quotes\" } and Łódź".into(), total: 99.5 };
    let receipt = till
        .publish(ORDERS, &order)
        .to(world.warehouse.app_id)
        .header("k;=", "v;}")
        .metadata("trace", 7)
        .await
        .unwrap();
    let event = next(&mut orders).await;
    assert_eq!(event.payload::<Order>().unwrap(), order);
    assert_eq!((event.id(), event.name().as_str()), (receipt.id(), ORDERS));
    assert_eq!((event.sender().app_id(), event.recipient()), (Some(world.shop.app_id), Some(&world.warehouse.app_id)));
    assert_eq!(event.metadata().header("k;=").unwrap(), "v;}");
    assert_eq!(event.metadata().field("trace").unwrap(), 7);
    assert_eq!(event.metadata().persist(), Some(true));
    assert_eq!(event.attempt(), Some(1));
    assert_eq!(event.payload::<Vec<u8>>().unwrap_err().kind(), ErrorKind::Decode);
    let (payload, acker) = event.split();
    assert_eq!(payload.decode::<Order>().unwrap(), order);
    acker.ack().await.unwrap();
}

async fn payloads_of_every_shape_and_size(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    let large = serde_json::json!({"blob": "x".repeat(1 << 20)});
    for payload in [
        serde_json::json!({}),
        serde_json::json!(0),
        serde_json::json!(""),
        serde_json::json!(false),
        serde_json::json!([]),
        serde_json::json!(null),
        large,
    ] {
        till.publish(ORDERS, &payload).to(world.warehouse.app_id).await.unwrap();
        let event = next(&mut orders).await;
        assert!(event.json().unwrap() == payload, "a payload changed on its way");
        event.ack().await.unwrap();
    }
}

async fn many_recipients_get_their_own_copy(world: World) {
    let till = world.client(&world.shop).await;
    let mut apps = Vec::new();
    for n in 0..5 {
        let app = world.server.create_app(&format!("branch {n}")).await.unwrap();
        let client = world.client(&app).await;
        apps.push((app, client.subscribe(ORDERS).await.unwrap()));
    }
    // Small payloads travel as single boxes, large ones as hybrids.
    for size in [10, 100_000] {
        let payload = serde_json::json!({"text": "y".repeat(size)});
        let receipt = till.publish(ORDERS, &payload).to_all(apps.iter().map(|(app, _)| app.app_id)).await.unwrap();
        assert_eq!(receipt.iter().count(), 5);
        for (app, events) in &mut apps {
            let event = next(events).await;
            assert_eq!(Some(event.id()), receipt.id_for(&app.app_id));
            assert!(event.json().unwrap() == payload);
            event.ack().await.unwrap();
        }
    }
}

async fn order_is_kept(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    for n in 0..300 {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    for n in 0..300 {
        let event = next(&mut orders).await;
        assert_eq!(n_of(&event), n);
        event.ack().await.unwrap();
    }
}

async fn consumers_compete(world: World) {
    let (till, stock) = world.clients().await;
    let other = world.client(&world.warehouse).await;
    let (sender, mut handled) = mpsc::unbounded_channel();
    for (who, client) in [("first", &stock), ("second", &other)] {
        let sender = sender.clone();
        client.subscribe(ORDERS).await.unwrap().on(move |event: Event| {
            let sender = sender.clone();
            async move {
                sender.send((who, n_of(&event))).unwrap();
                Ok::<_, Error>(())
            }
        });
    }
    for n in 0..100 {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..100 {
        seen.push(soon(handled.recv()).await.unwrap());
    }
    for who in ["first", "second"] {
        assert!(seen.iter().any(|(name, _)| *name == who), "{who} got nothing");
    }
    seen.sort_by_key(|(_, n)| *n);
    assert!(seen.iter().map(|(_, n)| *n).eq(0..100), "each event went to exactly one");
}

async fn an_ack_is_final_and_can_be_repeated(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let event = next(&mut orders).await;
    event.ack().await.unwrap();
    event.ack().await.unwrap();
    orders.ack(event.id(), event.block()).await.unwrap();
    let queue = world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap();
    assert_eq!((queue.ready, queue.in_flight, queue.counters.acked), (0, 0, 1));
    let again = orders.replay(event.id()).await.unwrap();
    assert_eq!(n_of(&again), 1);
    assert_eq!(again.metadata().replay_info().unwrap().was_acknowledged, Some(true));
}

async fn rollback_hands_on_and_fences_off(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let first = next(&mut orders).await;
    first.rollback().await.unwrap();
    let second = next(&mut orders).await;
    assert_eq!((second.id(), second.attempt()), (first.id(), Some(2)));
    let stale = first.ack().await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::StaleDelivery, "{stale}");
    second.ack().await.unwrap();
}

async fn an_event_is_held_for_as_long_as_its_holder_says_so(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let event = next(&mut orders).await;
    // What is left of it: a part went by on the way here.
    let minute = Duration::from_secs(60);
    let left = event.lease().unwrap();
    assert!((minute / 2..=minute).contains(&left), "{left:?}");
    assert_eq!(event.extend().await.unwrap(), Some(minute));
    assert_eq!(orders.replay(event.id()).await.unwrap().lease(), None);
    event.ack().await.unwrap();
    let late = event.extend().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::StaleDelivery);
    assert!(late.to_string().starts_with("extend orders/status/updated "), "{late}");
}

async fn what_nobody_read_is_handed_back_and_does_not_count(world: World) {
    let options = EventOptions { max_deliveries: std::num::NonZeroU32::new(1), ..EventOptions::default() };
    world.server.register_event(ORDERS, options).await.unwrap();
    let till = world.client(&world.shop).await;
    publish(&world, &till, ORDERS, 1).await.unwrap();
    for _ in 0..3 {
        let stock = world.client(&world.warehouse).await;
        let _orders = stock.subscribe(ORDERS).await.unwrap();
        in_flight(&world, 1).await;
        soon(stock.close()).await.unwrap();
        in_flight(&world, 0).await;
    }
    let queue = world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap();
    assert_eq!((queue.ready, queue.dead), (1, 0));
}

async fn in_flight(world: &World, n: usize) {
    let queue = async || world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap();
    eventually(async || queue().await.in_flight == n).await;
}

async fn defer_and_discard(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let event = next(&mut orders).await;
    let error = event.defer(Duration::from_millis(10), "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("1 second to 24 hours"), "{error}");
    event.defer(Duration::ZERO, "again").await.unwrap();
    let event = next(&mut orders).await;
    assert_eq!(event.attempt(), Some(2));
    let until = event.defer(Duration::from_secs(3_600), "busy; very").await.unwrap().unwrap();
    assert!(until.since(event.timestamp().unwrap()) >= Duration::from_secs(3_600));
    publish(&world, &till, ORDERS, 2).await.unwrap();
    let event = next(&mut orders).await;
    assert_eq!(n_of(&event), 2, "the deferred one is not back");
    orders.discard(event.id(), "bad; REASON=:x").await.unwrap();
    let queue = world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap();
    assert_eq!((queue.deferred, queue.dead, queue.in_flight), (1, 1, 0));
}

async fn the_window_is_kept(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).max_in_flight(3).await.unwrap();
    for n in 0..10 {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    let held = [next(&mut orders).await, next(&mut orders).await, next(&mut orders).await];
    let queue = world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap();
    assert_eq!((queue.in_flight, queue.ready), (3, 7));
    held[0].ack().await.unwrap();
    assert_eq!(n_of(&next(&mut orders).await), 3);
}

async fn a_handler_acks_after_ok(world: World) {
    let (till, stock) = world.clients().await;
    let (sender, mut handled) = mpsc::unbounded_channel();
    let handler = stock.subscribe(ORDERS).await.unwrap().on(move |event: Event| {
        let sender = sender.clone();
        async move {
            sender.send(n_of(&event)).unwrap();
            Ok::<_, Error>(())
        }
    });
    for n in 0..10 {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    for n in 0..10 {
        assert_eq!(soon(handled.recv()).await, Some(n), "one at a time keeps the order");
    }
    soon(handler.stop()).await.unwrap();
    let queue = world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap();
    assert_eq!((queue.counters.acked, queue.in_flight, queue.ready), (10, 0, 0));
}

async fn a_failed_handler_defers_rolls_back_or_discards(world: World) {
    let (till, stock) = world.clients().await;
    for (event, on_error, dead, deferred) in [
        ("handler/fails/defer", OnError::Defer(Duration::from_secs(60)), 0, 1),
        ("handler/fails/discard", OnError::Discard, 1, 0),
    ] {
        let handler = stock
            .subscribe(event)
            .await
            .unwrap()
            .for_each(|event: Event| async move {
                assert_ne!(n_of(&event), 7, "a panic is a failure too");
                Err::<(), _>("no luck")
            })
            .on_error(on_error)
            .spawn();
        for n in [1, 7] {
            publish(&world, &till, event, n).await.unwrap();
        }
        eventually(async || {
            let queue = world.server.queue(event, world.warehouse.app_id).await.unwrap().unwrap();
            (queue.dead, queue.deferred) == (2 * dead, 2 * deferred)
        })
        .await;
        soon(handler.stop()).await.unwrap();
    }
    let (sender, mut attempts) = mpsc::unbounded_channel();
    let handler = stock
        .subscribe(ORDERS)
        .await
        .unwrap()
        .for_each(move |event: Event| {
            let sender = sender.clone();
            async move {
                sender.send(event.attempt().unwrap()).unwrap();
                if event.attempt() < Some(3) { Err("not yet") } else { Ok(()) }
            }
        })
        .on_error(OnError::Rollback)
        .spawn();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    for attempt in 1..=3 {
        assert_eq!(soon(attempts.recv()).await, Some(attempt));
    }
    soon(handler.stop()).await.unwrap();
}

async fn handlers_run_at_the_same_time_up_to_the_limit(world: World) {
    let (till, stock) = world.clients().await;
    let (running, most, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, peak, gate) = (running.clone(), most.clone(), go.clone());
    let handler = stock
        .subscribe(ORDERS)
        .await
        .unwrap()
        .for_each(move |_event: Event| {
            let (count, peak, gate) = (count.clone(), peak.clone(), gate.clone());
            async move {
                let now = count.fetch_add(1, Ordering::SeqCst) + 1;
                peak.fetch_max(now, Ordering::SeqCst);
                gate.notified().await;
                count.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Error>(())
            }
        })
        .concurrency(4)
        .spawn();
    for n in 0..12 {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    eventually(async || running.load(Ordering::SeqCst) == 4).await;
    eventually(async || {
        go.notify_waiters();
        world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap().counters.acked == 12
    })
    .await;
    assert_eq!(most.load(Ordering::SeqCst), 4);
    soon(handler.stop()).await.unwrap();
}

async fn a_retried_publish_is_stored_once(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    let publish = |n: u64| till.publish(ORDERS, &serde_json::json!({"n": n})).to(world.warehouse.app_id);
    let first = publish(1).idempotency_key("key-1").await.unwrap();
    let again = publish(1).idempotency_key("key-1").await.unwrap();
    assert_eq!(first, again);
    publish(2).await.unwrap();
    for n in [1, 2] {
        let event = next(&mut orders).await;
        assert_eq!(n_of(&event), n);
        event.ack().await.unwrap();
    }
}

async fn an_error_about_a_payload_does_not_repeat_it(world: World) {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[serde(rename = "id")]
        _id: u8,
    }
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    for payload in [
        serde_json::json!("hush"),
        serde_json::json!({"id": "hush"}),
        serde_json::json!({"id": 1, "hush": 1}),
        serde_json::json!({"id": 4711}),
    ] {
        till.publish(ORDERS, &payload).to(world.warehouse.app_id).await.unwrap();
        let event = next(&mut orders).await;
        let error = event.payload::<Order>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        let said = ensync_core::report(&error);
        assert!(!said.contains("hush") && !said.contains("4711"), "{said}");
        assert!(said.contains("line 1, column ") && said.contains("Order"), "{said}");
        event.ack().await.unwrap();
    }
}
