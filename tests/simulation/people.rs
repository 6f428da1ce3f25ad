//! Who publishes and who reads.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use ensync_client::{Client, Event, OnError, Subscription};
use ensync_core::{AppId, ErrorKind, Result};
use futures::StreamExt;
use tokio::time::Instant;

use crate::world::{LEASE, NAMES, World};

/// Somebody with a client.
#[derive(Clone)]
pub struct Person {
    pub who: &'static str,
    pub client: Client,
    /// The deadline of a call.
    pub limit: Duration,
}

/// How much is published, and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    Usual,
    /// For minutes, in which there is always something under way.
    Steady,
    /// For two minutes, after others.
    Late,
}

/// Publishes one event after the other to an app, and now and then one to nobody.
pub async fn publish(
    world: Arc<World>,
    by: Person,
    (to, nobody): (AppId, AppId),
    (name, pace): (usize, Pace),
    mut random: fastrand::Rng,
) {
    let (pause, most) = match random.u8(0..4) {
        _ if pace == Pace::Steady => (800, 400..500),
        _ if pace == Pace::Late => (3_000, 80..100),
        0 => (6_000, 5..25),
        _ => (1_500, 5..25),
    };
    let first = if pace == Pace::Late { 1_000 } else { 0 };
    for n in first..first + random.u64(most) {
        // Some may outlast everything.
        let limit = if random.u8(0..4) == 0 { random.u64(200..600) } else { random.u64(1..60) };
        let (limit, begun) = (Duration::from_secs(limit), Instant::now());
        let outcome = by.client.publish(NAMES[name], &n).to(to).timeout(limit).await;
        world.ledger.took("a publish", begun, limit);
        world.ledger.published(by.who, (name, n), begun, &outcome);
        if random.u8(0..6) == 0 {
            let (limit, begun) = (Duration::from_secs(20), Instant::now());
            let outcome = by.client.publish(NAMES[name], &n).to(nobody).timeout(limit).await;
            world.ledger.took("a publish to nobody", begun, limit);
            world.ledger.refused(by.who, begun, &outcome);
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..pause))).await;
    }
}

/// Reads one name until the client closes, in a way that the seed decides.
pub async fn read(world: Arc<World>, by: Person, name: usize, mut random: fastrand::Rng) {
    let window = random.u32(1..20);
    // Some come and go before they stay.
    let visits = if random.u8(0..3) == 0 { random.u8(2..8) } else { 0 };
    for _ in 0..visits {
        let Some(events) = subscribe(&world, &by, name, window).await else { return };
        visit(&world, &by, events, name, &mut random).await;
    }
    let Some(events) = subscribe(&world, &by, name, window).await else { return };
    if random.bool() {
        handle(world, events, by, name, random).await
    } else {
        take(world, events, by, name, random).await
    }
}

async fn subscribe(world: &World, by: &Person, name: usize, window: u32) -> Option<Subscription> {
    loop {
        let begun = Instant::now();
        let events = by.client.subscribe(NAMES[name]).max_in_flight(window).await;
        world.ledger.took("a subscribe", begun, by.limit);
        match events {
            Ok(events) => {
                world.ledger.note(format_args!("{} subscribed to {name}", by.who));
                return Some(events);
            }
            Err(error) if error.kind() == ErrorKind::Closed => return None,
            Err(error) => world.ledger.note(format_args!("not subscribed to {name}: {:?}", error.kind())),
        }
    }
}

/// Takes a few events and unsubscribes.
async fn visit(world: &World, by: &Person, mut events: Subscription, name: usize, random: &mut fastrand::Rng) {
    let until = Instant::now() + Duration::from_millis(random.u64(0..4_000));
    while let Ok(Some(event)) = tokio::time::timeout_at(until, events.next()).await {
        let event = event.expect("a subscription goes on by itself");
        let key = (name, event.payload().unwrap());
        world.ledger.delivered(by.who, key, &event);
        ack(world, by, key, &event).await;
    }
    // An engine that is told to pause before it is told to subscribe again has more that may cross what comes next.
    if random.u8(0..3) == 0 {
        let paused = timed(world, by, "a pause", events.pause("before it leaves")).await.is_ok();
        tokio::time::sleep(Duration::from_millis(random.u64(0..2_000))).await;
        world.ledger.met("left while paused");
        world.ledger.note(format_args!("{} is to leave {name}, paused: {paused}", by.who));
    }
    // Waiting for it; beside what comes next, which may be another subscription to the name; or by dropping it.
    let how = random.u8(0..3);
    if how == 0 {
        let begun = Instant::now();
        let outcome = events.unsubscribe().await;
        world.ledger.took("an unsubscribe", begun, by.limit);
        let outcome = outcome.map_err(|error| error.kind());
        world.ledger.note(format_args!("{} left {name}: {outcome:?}", by.who));
        let passes = [ErrorKind::Timeout, ErrorKind::LimitExceeded, ErrorKind::Unavailable];
        let told = outcome.is_ok() || outcome.is_err_and(|kind| passes.contains(&kind));
        // Or it is another's answer.
        let told = told || world.ledger.is_doubtful(by.who, begun);
        world.ledger.check(told, format_args!("a link's end is no failure to unsubscribe: {outcome:?}"));
    } else if how == 1 {
        let control = events.control();
        tokio::spawn(async move { drop(control.unsubscribe().await) });
        tokio::time::sleep(Duration::from_millis(random.u64(0..100))).await;
        world.ledger.note(format_args!("{} leaves {name}", by.who));
    } else {
        world.ledger.note(format_args!("{} drops its subscription to {name}", by.who));
    }
}

async fn ack(world: &World, by: &Person, key: (usize, u64), event: &Event) {
    let begun = Instant::now();
    let outcome = event.ack().await;
    world.ledger.took("an ack", begun, by.limit);
    match outcome {
        Ok(()) => {
            let fenced = !world.network.engine.lacks("fencing");
            world.ledger.acked(by.who, key, event.block(), begun, fenced);
        }
        Err(error) => world.ledger.note(format_args!("not acked {key:?}: {:?}", error.kind())),
    }
}

/// By a stream, and not always as one should.
async fn take(world: Arc<World>, mut events: Subscription, by: Person, name: usize, mut random: fastrand::Rng) {
    while let Some(event) = events.next().await {
        let event = event.expect("a subscription goes on by itself");
        let key = (name, event.payload().unwrap());
        world.ledger.delivered(by.who, key, &event);
        if random.u8(0..10) == 0 {
            let pause = timed(&world, &by, "a pause", events.pause("a break")).await.is_ok();
            tokio::time::sleep(Duration::from_millis(random.u64(0..3_000))).await;
            let resumed = timed(&world, &by, "a resume", events.resume()).await.is_ok();
            world.ledger.note(format_args!("paused {name}: {pause}, resumed: {resumed}"));
        }
        match random.u8(0..20) {
            0 => drop(event),
            1 => event.leave(),
            2 => drop(timed(&world, &by, "a rollback", event.rollback()).await),
            3 => {
                let delay = Duration::from_secs(random.u64(0..5));
                drop(timed(&world, &by, "a defer", event.defer(delay, "later")).await);
            }
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
                ack(&world, &by, key, &event).await;
            }
        }
    }
}

async fn timed<T>(world: &World, by: &Person, what: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
    let begun = Instant::now();
    let outcome = call.await;
    world.ledger.took(what, begun, by.limit);
    outcome
}

/// By a handler, which may fail, panic, or take longer than the lease.
async fn handle(world: Arc<World>, events: Subscription, by: Person, name: usize, mut random: fastrand::Rng) {
    let on_error = match random.u8(0..3) {
        0 => OnError::Rollback,
        1 => OnError::Leave,
        _ => OnError::Defer(Duration::from_secs(1)),
    };
    let concurrency = random.usize(1..5);
    let random = Arc::new(Mutex::new(random));
    let handler = move |event: Event| {
        let (world, random, who) = (world.clone(), random.clone(), by.who);
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
