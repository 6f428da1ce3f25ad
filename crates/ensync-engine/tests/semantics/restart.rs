use std::time::Duration;

use ensync_core::{ErrorKind, Settlement};

use crate::over_every_log;
use crate::world::*;

over_every_log!(
    what_is_unsettled_comes_again_and_nothing_else,
    defers_outlive_it,
    an_ack_is_repeated_across_it,
    deliveries_of_before_are_stale,
    a_crash_loses_nothing_that_was_answered,
);

async fn what_is_unsettled_comes_again_and_nothing_else(store: Store) {
    let mut world = World::new(store).await;
    let mut client = world.consumer().await;
    for n in 0..5 {
        world.publish(&format!("{n:0>4}")).await;
    }
    let deliveries = world.deliveries(&mut client).await;
    world.ack(&client, &deliveries[0]).await;
    world.settle(&client, &deliveries[1], discard("no")).await.unwrap();
    world.settle(&client, &deliveries[2], Settlement::Rollback).await.unwrap();
    for crash in [false, true, false] {
        if crash {
            world.crash().await
        } else {
            world.restart().await
        }
        let mut client = world.consumer().await;
        assert_eq!(texts(&world.deliveries(&mut client).await), ["0002", "0003", "0004"]);
        assert_eq!(world.counts().await, [0, 3, 0, 1]);
    }
}

async fn defers_outlive_it(store: Store) {
    let mut world = World::new(store).await;
    let mut client = world.consumer().await;
    for _ in 0..2 {
        world.publish("b25l").await;
    }
    let [soon, late] = world.deliveries(&mut client).await.try_into().unwrap();
    world.settle(&client, &soon, defer(seconds(60))).await.unwrap();
    world.settle(&client, &late, defer(seconds(24 * 60 * 60))).await.unwrap();
    world.crash().await;
    world.advance(seconds(59)).await;
    world.restart().await;
    let mut client = world.consumer().await;
    assert_eq!((world.deliveries(&mut client).await, world.counts().await), (vec![], [0, 0, 2, 0]));
    world.advance(seconds(1)).await;
    let again = world.delivery(&mut client).await;
    assert_eq!((&again.id, again.attempt), (&soon.id, Some(2)));
    world.ack(&client, &again).await;
    // While the engine is down time goes on.
    world.engine.clock().advance(seconds(24 * 60 * 60) - Duration::from_millis(1));
    world.restart().await;
    let mut client = world.consumer().await;
    assert_eq!(world.delivery(&mut client).await.id, late.id);
}

async fn an_ack_is_repeated_across_it(store: Store) {
    let mut world = World::new(store).await;
    let mut client = world.consumer().await;
    world.publish("b25l").await;
    let delivery = world.delivery(&mut client).await;
    world.ack(&client, &delivery).await;
    // In order, which leaves a checkpoint, and after a crash, which does not.
    for crash in [true, false, true] {
        if crash {
            world.crash().await
        } else {
            world.restart().await
        }
        let client = world.client().await;
        world.ack(&client, &delivery).await;
        let error = world.settle(&client, &delivery, Settlement::Rollback).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StaleDelivery);
        assert_eq!(world.replay(&client, &delivery.id).await.unwrap().block, delivery.block);
    }
}

async fn deliveries_of_before_are_stale(store: Store) {
    let mut world = World::new(store).await;
    let mut client = world.consumer().await;
    world.publish("b25l").await;
    let before = world.delivery(&mut client).await;
    world.restart().await;
    assert_eq!(world.settle(&client, &before, Settlement::Ack).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    let mut client = world.consumer().await;
    let after = world.delivery(&mut client).await;
    assert!(after.id == before.id && after.block > before.block);
    for how in [Settlement::Ack, Settlement::Extend] {
        assert_eq!(world.settle(&client, &before, how).await.unwrap_err().kind(), ErrorKind::StaleDelivery);
    }
    world.ack(&client, &after).await;
}

async fn a_crash_loses_nothing_that_was_answered(store: Store) {
    let mut world = World::new(store).await;
    let mut accepted = Vec::new();
    for round in 0..5 {
        for n in 0..20 {
            accepted.push(world.publish(&format!("{round:0>2}{n:0>2}")).await);
        }
        let mut client = world.consumer().await;
        let found = world.deliveries(&mut client).await;
        assert!(found.iter().map(|delivery| &delivery.id).eq(&accepted));
        for delivery in &found[..5] {
            world.ack(&client, delivery).await;
        }
        accepted.drain(..5);
        world.crash().await;
    }
}
