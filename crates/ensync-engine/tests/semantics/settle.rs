use std::time::Duration;

use ensync_core::{Command, ErrorKind, Reply, Settle, Settlement};

use crate::over_every_log;
use crate::world::*;

over_every_log!(
    an_ack_is_final_and_can_be_repeated,
    a_stale_ack_is_refused,
    a_defer_by_nothing_comes_at_once,
    a_defer_comes_in_its_time,
    a_discard_is_a_dead_letter_with_its_reason,
    a_rollback_goes_to_who_is_free,
    a_replay_says_what_became_of_the_event,
);

async fn an_ack_is_final_and_can_be_repeated(store: Store) {
    let world = World::new(store).await;
    let mut client = world.consumer().await;
    world.publish("b25l").await;
    let delivery = world.delivery(&mut client).await;
    for _ in 0..3 {
        world.ack(&client, &delivery).await;
    }
    assert_eq!((world.counts().await, world.stats().await.counters.acked), ([0; 4], 1));
    for how in [Settlement::Rollback, Settlement::Extend, discard("no"), defer(seconds(1))] {
        let error = world.settle(&client, &delivery, how).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StaleDelivery);
    }
    world.advance(seconds(120)).await;
    assert_eq!(world.deliveries(&mut client).await, []);
}

async fn a_stale_ack_is_refused(store: Store) {
    let world = World::new(store).await;
    let (mut one, mut two) = (world.consumer().await, world.client().await);
    world.publish("b25l").await;
    let first = world.delivery(&mut one).await;
    world.subscribe(&two, None).await;
    world.run(&one, Command::Unsubscribe { event: event() }).await.unwrap();
    world.advance(seconds(60)).await;
    let second = world.delivery(&mut two).await;
    // By its block, without one, and with the other's.
    for block in [Some(first.block), None, Some(second.block)] {
        let settle = Settle { id: first.id.clone(), event: None, block, how: Settlement::Ack };
        let error = world.run(&one, Command::Settle(settle)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StaleDelivery);
        assert!(error.to_string().contains("its lease ended"), "{error}");
    }
    assert_eq!(world.counts().await, [0, 1, 0, 0]);
    world.ack(&two, &second).await;
}

async fn a_defer_by_nothing_comes_at_once(store: Store) {
    let world = World::new(store).await;
    let mut client = world.consumer().await;
    world.publish("b25l").await;
    let delivery = world.delivery(&mut client).await;
    let reply = world.settle(&client, &delivery, defer(Duration::ZERO)).await.unwrap();
    assert_eq!(reply, Reply::Deferred { until: Some(world.engine.now()) });
    assert_eq!(world.delivery(&mut client).await.attempt, Some(2));
}

async fn a_defer_comes_in_its_time(store: Store) {
    let world = World::new(store).await;
    let mut client = world.consumer().await;
    for (n, delay) in [seconds(1), Duration::from_millis(1_001), seconds(24 * 60 * 60)].into_iter().enumerate() {
        world.publish(&format!("{n:0>4}")).await;
        let delivery = world.delivery(&mut client).await;
        let until = world.engine.now().after(delay);
        let reply = world.settle(&client, &delivery, defer(delay)).await.unwrap();
        assert_eq!(reply, Reply::Deferred { until: Some(until) });
        assert_eq!(world.counts().await, [0, 0, 1, 0]);
        world.advance(delay - Duration::from_millis(1)).await;
        assert_eq!(world.deliveries(&mut client).await, []);
        world.advance(Duration::from_millis(1)).await;
        let again = world.delivery(&mut client).await;
        assert_eq!((&again.id, again.attempt), (&delivery.id, Some(2)));
        world.ack(&client, &again).await;
    }
}

async fn a_discard_is_a_dead_letter_with_its_reason(store: Store) {
    let mut world = World::new(store).await;
    let mut client = world.consumer().await;
    let (id, dropped) = (world.publish("MDAx").await, world.publish("MDAy").await);
    for delivery in world.deliveries(&mut client).await {
        world.settle(&client, &delivery, discard("no such order; ever\n")).await.unwrap();
    }
    // Younger than the age at which dead letters are given up.
    world.advance(seconds(29 * 24 * 60 * 60)).await;
    assert_eq!((world.deliveries(&mut client).await, world.counts().await), (vec![], [0, 0, 0, 2]));
    world.restart().await;
    let letters = world.dead_letters().await;
    assert!(letters.iter().map(|letter| &letter.id).eq([&id, &dropped]));
    assert_eq!((letters[0].reason.as_str(), letters[0].deliveries), ("no such order; ever\n", 1));
    let mut client = world.consumer().await;
    world.engine.broker().drop_dead_letter(dropped.clone()).await.unwrap();
    world.engine.broker().requeue_dead_letter(id.clone()).await.unwrap();
    let again = world.delivery(&mut client).await;
    assert_eq!((&again.id, again.attempt), (&id, Some(1)));
    assert_eq!(world.engine.broker().requeue_dead_letter(dropped).await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn a_rollback_goes_to_who_is_free(store: Store) {
    let world = World::new(store).await;
    let (mut one, mut two) = (world.client().await, world.client().await);
    world.subscribe(&one, Some(1)).await;
    world.publish("b25l").await;
    let first = world.delivery(&mut one).await;
    world.subscribe(&two, None).await;
    world.run(&one, Command::Pause { event: event(), reason: String::new() }).await.unwrap();
    world.settle(&one, &first, Settlement::Rollback).await.unwrap();
    let second = world.delivery(&mut two).await;
    assert_eq!((&second.id, second.attempt), (&first.id, Some(2)));
    assert_eq!(world.settle(&one, &first, Settlement::Ack).await.unwrap_err().kind(), ErrorKind::StaleDelivery);
}

async fn a_replay_says_what_became_of_the_event(store: Store) {
    let mut world = World::new(store).await;
    let mut client = world.consumer().await;
    let ids = [world.publish("MDAx").await, world.publish("MDAy").await];
    let deliveries = world.deliveries(&mut client).await;
    world.ack(&client, &deliveries[0]).await;
    for _ in 0..2 {
        world.advance(seconds(1)).await;
        for (id, acknowledged, text) in [(&ids[0], true, "MDAx"), (&ids[1], false, "MDAy")] {
            let replayed = world.replay(&client, id).await.unwrap();
            assert_eq!((&replayed.id, replayed.payload.as_str().unwrap(), replayed.lease), (id, text, None));
            let info = replayed.metadata.replay_info().unwrap();
            assert_eq!((info.is_replayed, info.was_acknowledged), (true, Some(acknowledged)));
            assert_eq!(info.replayed_at, Some(world.engine.now()));
        }
        // A replay is no delivery.
        assert_eq!(world.stats().await.counters.delivered, 2);
        world.restart().await;
        client = world.client().await;
        world.subscribe(&client, None).await;
        world.deliveries(&mut client).await;
        world.publish("b25l").await;
        world.deliveries(&mut client).await;
    }
    let unknown = "no-such-event".parse().unwrap();
    assert_eq!(world.replay(&client, &unknown).await.unwrap_err().kind(), ErrorKind::NotFound);
}
