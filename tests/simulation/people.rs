//! Who publishes and who reads.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use ensync_client::{Client, Event, OnError, Subscription};
use ensync_core::{AppId, ErrorKind};
use futures::StreamExt;

use crate::world::{LEASE, NAMES, World};

/// Publishes one event after the other.
pub async fn publish(world: Arc<World>, client: Client, to: AppId, name: usize, mut random: fastrand::Rng) {
    for n in 0..random.u64(5..25) {
        let publish = client.publish(NAMES[name], &n).to(to).timeout(Duration::from_secs(random.u64(1..60)));
        let outcome = publish.await;
        world.ledger.published((name, n), &outcome);
        tokio::time::sleep(Duration::from_millis(random.u64(0..1_500))).await;
    }
}

/// Reads one name until the client closes, in a way that the seed decides.
pub async fn read(world: Arc<World>, (who, client): (&'static str, Client), name: usize, mut random: fastrand::Rng) {
    // Without leases nothing keeps what waits, or is at work, from running out.
    let window = if world.network.hides("leases") { 1 } else { random.u32(1..20) };
    let events = loop {
        match client.subscribe(NAMES[name]).max_in_flight(window).await {
            Ok(events) => break events,
            Err(error) if error.kind() == ErrorKind::Closed => return,
            Err(error) => world.ledger.note(format_args!("not subscribed to {name}: {:?}", error.kind())),
        }
    };
    world.ledger.note(format_args!("subscribed to {name}"));
    if random.bool() {
        handle(world, events, (who, name), random).await
    } else {
        take(world, events, (who, name), random).await
    }
}

/// By a stream, and not always as one should.
async fn take(
    world: Arc<World>,
    mut events: Subscription,
    (who, name): (&'static str, usize),
    mut random: fastrand::Rng,
) {
    while let Some(event) = events.next().await {
        let event = event.expect("a subscription goes on by itself");
        let key = (name, event.payload().unwrap());
        world.ledger.delivered(who, key, &event);
        if random.u8(0..10) == 0 {
            let pause = events.pause("a break").await.is_ok();
            tokio::time::sleep(Duration::from_millis(random.u64(0..3_000))).await;
            let resumed = events.resume().await.is_ok();
            world.ledger.note(format_args!("paused {name}: {pause}, resumed: {resumed}"));
        }
        match random.u8(0..20) {
            0 => drop(event),
            1 => event.leave(),
            2 => drop(event.rollback().await),
            3 => drop(event.defer(Duration::from_secs(random.u64(0..5)), "later").await),
            4 => {
                // Kept too long, and then forgotten.
                let keeps = Duration::from_millis(random.u64(0..30_000));
                tokio::spawn(async move {
                    tokio::time::sleep(keeps).await;
                    drop(event);
                });
            }
            5 => {
                // As if the task that has it were cancelled.
                let _ = tokio::time::timeout(Duration::from_millis(random.u64(0..30)), event.ack()).await;
            }
            what => {
                if what < 8 {
                    tokio::time::sleep(Duration::from_millis(random.u64(0..8_000))).await;
                }
                match event.ack().await {
                    Ok(()) => world.ledger.acked(key, event.block()),
                    Err(error) => world.ledger.note(format_args!("not acked {key:?}: {:?}", error.kind())),
                }
            }
        }
    }
}

/// By a handler, which may fail, panic, or take longer than the lease.
async fn handle(
    world: Arc<World>,
    events: Subscription,
    (who, name): (&'static str, usize),
    mut random: fastrand::Rng,
) {
    let on_error = match random.u8(0..3) {
        0 => OnError::Rollback,
        1 => OnError::Leave,
        _ => OnError::Defer(Duration::from_secs(1)),
    };
    let concurrency = random.usize(1..5);
    let random = Arc::new(Mutex::new(random));
    let handler = move |event: Event| {
        let (world, random) = (world.clone(), random.clone());
        async move {
            let key = (name, event.payload().unwrap());
            world.ledger.delivered(who, key, &event);
            let (takes, fails) = {
                let mut random = random.lock().unwrap();
                let takes = match random.u8(0..10) {
                    0 => Duration::from_millis(random.u64(0..=3 * LEASE.as_millis() as u64)),
                    _ => Duration::from_millis(random.u64(0..200)),
                };
                (takes, random.u8(0..10) == 0)
            };
            tokio::time::sleep(takes).await;
            if fails { Err("no luck") } else { Ok(()) }
        }
    };
    // The first failure is an error of the subscription.
    let handled = events.for_each(handler).concurrency(concurrency).on_error(on_error).max_attempts(u32::MAX).await;
    handled.expect("a subscription goes on by itself");
}
