//! Flow control, leases, and what becomes of events that are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ensync_client::{Client, Custom, Engine, Event, OnError};
use ensync_core::{AppKey, Connector, Endpoint, Error, ErrorKind, Link, Result, ServerConfig};
use ensync_engine::{BrokerOptions, EventOptions, NewApp, QueueStats, Server};
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::over_every_transport;
use crate::world::{Transport, World, eventually, n_of, next, publish, soon};

const ORDERS: &str = "orders/status/updated";
const OTHERS: &str = "orders/others/updated";

over_every_transport!(
    the_window_in_bytes_is_kept,
    what_is_dropped_is_delivered_again_at_once,
    a_reader_that_panics_hands_back,
    what_is_left_waits_for_its_lease,
    what_is_split_is_the_ackers,
    a_replay_is_nobodys_duty,
    a_stale_ack_is_refused_and_says_so,
    an_engine_without_flow_control_is_paused,
    a_pause_of_the_users_own_stays,
    publishes_wait_for_room,
    a_publish_tells_of_each_recipient,
);

async fn queue(world: &World, event: &str) -> QueueStats {
    world.server.queue(event, world.warehouse.app_id).await.unwrap().unwrap()
}

async fn the_window_in_bytes_is_kept(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).max_bytes_in_flight(3_000).await.unwrap();
    for _ in 0..5 {
        till.publish(ORDERS, &"x".repeat(600)).to(world.warehouse.app_id).await.unwrap();
    }
    eventually(async || queue(&world, ORDERS).await.in_flight == 2).await;
    let first = next(&mut orders).await;
    assert_eq!(queue(&world, ORDERS).await.ready, 3);
    first.ack().await.unwrap();
    eventually(async || queue(&world, ORDERS).await.ready == 2).await;
}

async fn what_is_dropped_is_delivered_again_at_once(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let first = next(&mut orders).await;
    let block = first.block();
    drop(first);
    // It had been in somebody's hands, so this is a second attempt; and it comes once.
    let again = next(&mut orders).await;
    assert_eq!((n_of(&again), again.attempt()), (1, Some(2)));
    assert_ne!(again.block(), block);
    again.ack().await.unwrap();
    drop(again);
    publish(&world, &till, ORDERS, 2).await.unwrap();
    assert_eq!(n_of(&next(&mut orders).await), 2, "what was settled stays so");
}

async fn a_reader_that_panics_hands_back(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let event = next(&mut orders).await;
    let reader = tokio::spawn(async move { panic!("with {} in hand", event.id()) });
    assert!(reader.await.unwrap_err().is_panic());
    assert_eq!(next(&mut orders).await.attempt(), Some(2));
}

async fn what_is_left_waits_for_its_lease(world: World) {
    let options = EventOptions { ack_timeout: Some(Duration::from_millis(300)), ..EventOptions::default() };
    world.server.register_event(ORDERS, options).await.unwrap();
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let event = next(&mut orders).await;
    assert!(event.lease().is_some_and(|left| left <= Duration::from_millis(300)));
    event.leave();
    stock.publish(OTHERS, &0).to(world.shop.app_id).await.unwrap();
    assert_eq!(queue(&world, ORDERS).await.counters.redelivered, 0, "it was handed back");
    assert_eq!(next(&mut orders).await.attempt(), Some(2), "the lease ran out");
}

async fn what_is_split_is_the_ackers(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let (payload, acker) = next(&mut orders).await.split();
    drop(payload);
    let clone = acker.clone();
    drop(acker);
    assert_eq!(queue(&world, ORDERS).await.in_flight, 1);
    drop(clone);
    assert_eq!(next(&mut orders).await.attempt(), Some(2));
}

async fn a_replay_is_nobodys_duty(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let event = next(&mut orders).await;
    drop(stock.replay(ORDERS, event.id().clone()).await.unwrap());
    event.ack().await.unwrap();
    assert_eq!(queue(&world, ORDERS).await.counters.redelivered, 0);
}

async fn a_stale_ack_is_refused_and_says_so(world: World) {
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let first = next(&mut orders).await;
    first.rollback().await.unwrap();
    let second = next(&mut orders).await;
    let error = first.ack().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StaleDelivery);
    assert!(!error.may_have_happened());
    assert!(error.to_string().starts_with(&format!("ack {ORDERS} {}", first.id())), "{error}");
    second.ack().await.unwrap();
}

/// Connects to an engine and hides what it announces.
#[derive(Debug)]
struct Plain(Arc<dyn Connector>);

#[async_trait]
impl Connector for Plain {
    async fn connect(&self, to: &Endpoint, app_key: &AppKey) -> Result<Link> {
        let mut link = self.0.connect(to, app_key).await?;
        link.welcome.config = ServerConfig::default();
        Ok(link)
    }
}

impl World {
    fn plain(&self) -> Engine<Custom> {
        Engine::with_connector(self.endpoint(), Arc::new(Plain(self.connector())))
    }

    async fn plain_client(&self, app: &NewApp) -> Client {
        self.plain().create_client(&app.app_key).app_secret_key(&app.secret_key).await.unwrap()
    }
}

/// The engine grants 256 at a time whatever the client wants; the client keeps it at 8, and the rest of the connection goes on.
async fn an_engine_without_flow_control_is_paused(world: World) {
    let (till, stock) = (world.client(&world.shop).await, world.plain_client(&world.warehouse).await);
    let mut slow = stock.subscribe(ORDERS).max_bytes_in_flight(1).await.unwrap();
    let mut others = stock.subscribe(OTHERS).await.unwrap();
    for n in 0..40 {
        publish(&world, &till, ORDERS, n).await.unwrap();
        publish(&world, &till, OTHERS, n).await.unwrap();
    }
    for n in 0..40 {
        let event = next(&mut others).await;
        assert_eq!(n_of(&event), n);
        event.ack().await.unwrap();
    }
    // Paused, and gone on with, as often as need be; in order all the while.
    for n in 0..40 {
        let event = next(&mut slow).await;
        assert_eq!(n_of(&event), n);
        event.ack().await.unwrap();
    }
    let held = queue(&world, ORDERS).await;
    assert_eq!((held.ready, held.in_flight, held.counters.redelivered), (0, 0, 0));
    publish(&world, &till, ORDERS, 41).await.unwrap();
    let kept = next(&mut slow).await;
    eventually(async || {
        publish(&world, &till, ORDERS, 42).await.unwrap();
        queue(&world, ORDERS).await.ready > 0
    })
    .await;
    kept.ack().await.unwrap();
}

async fn a_pause_of_the_users_own_stays(world: World) {
    let (till, stock) = (world.client(&world.shop).await, world.plain_client(&world.warehouse).await);
    let mut slow = stock.subscribe(ORDERS).max_in_flight(2).await.unwrap();
    for n in 0..2 {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    let (first, second) = (next(&mut slow).await, next(&mut slow).await);
    slow.pause("by hand").await.unwrap();
    first.ack().await.unwrap();
    second.ack().await.unwrap();
    publish(&world, &till, ORDERS, 2).await.unwrap();
    let queue = queue(&world, ORDERS).await;
    assert_eq!((queue.ready, queue.in_flight), (1, 0), "there is room, and the user paused");
    slow.resume().await.unwrap();
    assert_eq!(n_of(&next(&mut slow).await), 2);
}

async fn publishes_wait_for_room(world: World) {
    let engine = world.engine().max_publishes_in_flight(2);
    let till = engine.create_client(&world.shop.app_key).await.unwrap();
    let all = (0..100).map(|n| publish(&world, &till, ORDERS, n));
    for outcome in soon(futures::future::join_all(all)).await {
        outcome.unwrap();
    }
    assert_eq!(queue(&world, ORDERS).await.counters.published, 100);
    // No time, no publish; and it is known that there was none.
    let error = till.publish(ORDERS, &1).to(world.warehouse.app_id).timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_happened()), (ErrorKind::InvalidInput, false), "{error}");
    assert_eq!(queue(&world, ORDERS).await.counters.published, 100);
}

async fn a_publish_tells_of_each_recipient(world: World) {
    let till = world.client(&world.shop).await;
    let stranger = ensync_core::SecretKey::generate().unwrap().app_id().unwrap();
    let publish = till.publish(ORDERS, &1).to_all([world.warehouse.app_id, stranger, world.shop.app_id]);
    let error = publish.await.unwrap_err();
    assert!(error.may_have_happened(), "{error}");
    let partial = ensync_client::PartialPublish::of(&error).unwrap();
    let accepted: Vec<_> = partial.accepted.iter().map(|(app, _)| *app).collect();
    assert_eq!(accepted, [world.warehouse.app_id, world.shop.app_id]);
    assert_eq!((partial.failed[0].0, partial.failed[0].1.kind()), (stranger, ErrorKind::UnknownRecipient));
}

/// With tokio's time paused, a lease of a minute is over at once, for the engine as for the client.
async fn paused() -> World {
    let server = Server::dev().options(BrokerOptions::dev()).start().await.unwrap();
    World::around(server, Transport::InProcess).await
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_take_longer_than_the_lease() {
    let world = paused().await;
    let (till, stock) = world.clients().await;
    let handled = Arc::new(AtomicUsize::new(0));
    let count = handled.clone();
    let handler = stock.subscribe(ORDERS).await.unwrap().on(move |_event: Event| {
        count.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            Ok::<_, Error>(())
        }
    });
    publish(&world, &till, ORDERS, 1).await.unwrap();
    for minute in 0.. {
        if queue(&world, ORDERS).await.counters.acked > 0 {
            break;
        }
        assert!(minute < 120, "it is never settled: handled {} times", handled.load(Ordering::SeqCst));
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    handler.stop().await.unwrap();
    assert_eq!(handled.load(Ordering::SeqCst), 1, "the lease was kept for an hour");
}

#[tokio::test(start_paused = true)]
async fn where_leases_cannot_be_extended_a_slow_handler_sees_the_event_again() {
    let world = paused().await;
    let (till, stock) = (world.client(&world.shop).await, world.plain_client(&world.warehouse).await);
    let (sender, mut attempts) = mpsc::unbounded_channel();
    let handler = stock
        .subscribe(ORDERS)
        .await
        .unwrap()
        .for_each(move |event: Event| {
            let sender = sender.clone();
            async move {
                let _ = sender.send(event.attempt());
                tokio::time::sleep(Duration::from_secs(90)).await;
                Ok::<_, Error>(())
            }
        })
        .on_error(OnError::Leave)
        .spawn();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    assert_eq!((attempts.recv().await, attempts.recv().await), (Some(Some(1)), Some(Some(2))));
    drop(handler);
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_slow_handler_does_not_wear_out() {
    let world = paused().await;
    let options = EventOptions { max_deliveries: std::num::NonZeroU32::new(2), ..EventOptions::default() };
    world.server.register_event(ORDERS, options).await.unwrap();
    let (till, stock) = world.clients().await;
    let (sender, mut handled) = mpsc::unbounded_channel();
    let handler = stock.subscribe(ORDERS).await.unwrap().on(move |event: Event| {
        let sender = sender.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(50)).await;
            sender.send(n_of(&event)).unwrap();
            Ok::<_, Error>(())
        }
    });
    for n in 0..20 {
        publish(&world, &till, ORDERS, n).await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.push(handled.recv().await.unwrap());
    }
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..20), "each is handled once, the last one after a thousand seconds: {seen:?}");
    handler.stop().await.unwrap();
    assert_eq!(queue(&world, ORDERS).await.dead, 0);
}

#[tokio::test(start_paused = true)]
async fn what_ran_out_of_its_lease_is_not_handed_out() {
    let world = paused().await;
    // It knows how long a lease lasts, but not that it may hand back what waits.
    let late = world.plain_client(&world.warehouse).await;
    let mut late = late.subscribe(ORDERS).await.unwrap();
    let (till, prompt) = world.clients().await;
    publish(&world, &till, ORDERS, 1).await.unwrap();
    // The engine is in this process, so that no more than some turns of the others are waited for.
    for turn in 0.. {
        if queue(&world, ORDERS).await.in_flight > 0 {
            break;
        }
        assert!(turn < 10_000, "it is not delivered");
        tokio::task::yield_now().await;
    }
    let mut prompt = prompt.subscribe(ORDERS).await.unwrap();
    let event = prompt.next().await.unwrap().unwrap();
    // The late one may have had it more than once: nobody can tell that it does not read.
    assert!((n_of(&event), event.attempt() > Some(1)) == (1, true));
    event.ack().await.unwrap();
    prompt.unsubscribe().await.unwrap();
    publish(&world, &till, ORDERS, 2).await.unwrap();
    assert_eq!(n_of(&next(&mut late).await), 2);
    assert!(late.ran_out() >= 1);
}
