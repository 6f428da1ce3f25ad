//! Full of events that are hardly larger than what acknowledges them: all of it is stored in the same log.

use super::*;

const SMALL: usize = 40;

fn small(recipient: AppId) -> Command {
    Command::Publish(Publish {
        event: event(),
        recipient,
        payload: WirePayload::from_wire("A".repeat(SMALL)),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: None,
    })
}

/// Nobody has to hurry.
async fn start(disk: &Disk) -> World {
    let world = World::start(disk, |_| ()).await;
    let hour = Some(Duration::from_secs(3_600));
    let options = EventOptions { max_deliveries: 100.try_into().ok(), ack_timeout: hour, ..EventOptions::default() };
    world.broker.register_event(event(), options).await.unwrap();
    world
}

/// Publishes until it is accepted.
async fn recover(world: &World) {
    let begun = Instant::now();
    while world.broker.handle(&world.shop.peer, small(STOCK)).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Many at once, until a disk of so many MiB is full; how many of each recipient.
async fn fill(world: &World, recipients: &[AppId]) -> usize {
    let mut accepted = 0;
    loop {
        let publishes = (0..512).map(|n| {
            let recipient = recipients[n % recipients.len()];
            world.broker.handle(&world.shop.peer, small(recipient))
        });
        let done = futures::future::join_all(publishes).await;
        let taken = done.iter().filter(|done| done.is_ok()).count();
        accepted += taken;
        if taken < 512 {
            let refused = done.into_iter().find_map(Result::err).unwrap();
            no_space(&refused);
        }
        if taken == 0 {
            return accepted;
        }
    }
}

/// Takes what waits for the warehouse, and settles it; what is refused is tried again, as a client does.
async fn settle_all(world: &mut World, count: usize, how: Settlement) {
    let begun = Instant::now();
    let mut left = count;
    while left > 0 {
        let mut some = Vec::new();
        while some.len() < 512.min(left) {
            some.push(tokio::time::timeout(Duration::from_secs(60), world.receive()).await.unwrap());
        }
        left -= some.len();
        while !some.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(240), "{left} of {count} are left");
            let settles = some.iter().map(|delivery| {
                let (id, block) = (delivery.id.clone(), Some(delivery.block));
                let settle = Settle { id, event: None, block, how: how.clone() };
                world.broker.handle(&world.stock.peer, Command::Settle(settle))
            });
            let done = futures::future::join_all(settles).await;
            let refused = some.into_iter().zip(done).filter_map(|(delivery, done)| {
                let refused = done.err()?;
                assert_ne!(refused.kind(), ErrorKind::StaleDelivery, "{refused}");
                Some(delivery)
            });
            some = refused.collect();
            if !some.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// An acknowledgement takes as much as a third of such an event, and nothing can be dropped without a checkpoint, of which there is none yet.
#[tokio::test]
async fn small_events_fill_it_and_acknowledgements_empty_it() {
    let Some(disk) = Disk::mount(8) else { return };
    let mut world = start(&disk).await;
    let accepted = fill(&world, &[STOCK]).await;
    assert!(accepted > 8_000, "{accepted}");
    settle_all(&mut world, accepted, Settlement::Ack).await;
    recover(&world).await;
    world.broker.shutdown().await;
    assert_eq!(ensync_engine::store::verify(disk.path()).await.unwrap().damage, []);
}

/// A consumer that hands back what it gets, for it is in trouble too, and then is not.
#[tokio::test]
async fn what_is_handed_back_on_a_full_disk_is_delivered_again() {
    let Some(disk) = Disk::mount(8) else { return };
    let mut world = start(&disk).await;
    let accepted = fill(&world, &[STOCK]).await;
    for _ in 0..3 {
        settle_all(&mut world, accepted, Settlement::Rollback).await;
    }
    settle_all(&mut world, accepted, Settlement::Ack).await;
    world.broker.shutdown().await;
    assert_eq!(ensync_engine::store::verify(disk.path()).await.unwrap().damage, []);
}

/// Of another app something waits in every part of the log: what is left of a part is stored once more.
#[tokio::test]
async fn small_events_of_an_absent_app_keep_nobody_from_making_space() {
    let Some(disk) = Disk::mount(8) else { return };
    let mut world = start(&disk).await;
    let accepted = fill(&world, &[STOCK, STOCK, STOCK, other()]).await;
    let stats = world.broker.queue(event(), STOCK).await.unwrap().unwrap();
    let theirs = stats.ready + stats.in_flight;
    settle_all(&mut world, theirs, Settlement::Ack).await;
    recover(&world).await;
    let left = world.broker.queue(event(), other()).await.unwrap().unwrap().ready;
    assert_eq!(left + theirs, accepted);
    world.broker.shutdown().await;
    assert_eq!(ensync_engine::store::verify(disk.path()).await.unwrap().damage, []);
}
