use std::num::NonZeroU32;

use ensync_core::{ErrorKind, Reply, Settlement};

use crate::over_every_log;
use crate::world::*;

over_every_log!(
    a_lease_runs_out_and_the_event_comes_again,
    a_lease_that_is_extended_lasts,
    time_may_pass_while_handlers_extend_their_leases,
    each_lease_ends_in_its_time_however_much_passes_at_once,
    what_its_client_left_comes_again_at_once,
    too_many_deliveries_make_a_dead_letter,
    what_is_released_does_not_count,
    the_log_may_refuse_a_dead_letter_for_a_while,
    what_cannot_be_read_comes_again_and_was_no_delivery,
);

async fn a_lease_runs_out_and_the_event_comes_again(store: Store) {
    let world = World::new(store).await;
    let mut client = world.consumer().await;
    world.publish("b25l").await;
    let first = world.delivery(&mut client).await;
    assert_eq!(first.attempt, Some(1));
    // What is left of it: the way here took a moment.
    assert!(first.lease.is_some_and(|left| left > seconds(55) && left <= seconds(60)), "{:?}", first.lease);
    world.advance(seconds(59)).await;
    assert_eq!(world.deliveries(&mut client).await, []);
    world.advance(seconds(1)).await;
    let second = world.delivery(&mut client).await;
    assert_eq!((&second.id, second.attempt), (&first.id, Some(2)));
    assert!(second.block > first.block);
    for how in [Settlement::Ack, Settlement::Rollback, Settlement::Extend, Settlement::Release, discard("")] {
        let error = world.settle(&client, &first, how).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StaleDelivery);
    }
    world.ack(&client, &second).await;
    let counters = world.stats().await.counters;
    assert_eq!((counters.delivered, counters.redelivered, counters.acked), (2, 1, 1));
}

async fn time_may_pass_while_handlers_extend_their_leases(store: Store) {
    let world = World::new(store).await;
    let mut client = world.consumer().await;
    world.publish("b25l").await;
    let handled = world.delivery(&mut client).await;
    world.publish("dHdv").await;
    let later = world.delivery(&mut client).await;
    world.settle(&client, &later, defer(seconds(90))).await.unwrap();
    // In steps of any size.
    for step in [1_u64, 30_000, 600_000].into_iter().chain([500; 20]) {
        world.engine.advance_while_handled(std::time::Duration::from_millis(step)).await.unwrap();
    }
    let again = world.delivery(&mut client).await;
    assert_eq!((&again.id, again.attempt), (&later.id, Some(2)), "what is deferred comes in its time");
    assert_eq!(world.deliveries(&mut client).await, [], "and what is handled comes to nobody else");
    world.ack(&client, &again).await;
    // Afterwards leases end as ever, with what was left of them.
    world.advance(seconds(59)).await;
    assert_eq!(world.deliveries(&mut client).await, []);
    world.advance(seconds(1)).await;
    let ended = world.delivery(&mut client).await;
    assert_eq!((&ended.id, ended.attempt), (&handled.id, Some(2)));
}

async fn a_lease_that_is_extended_lasts(store: Store) {
    let world = World::new(store).await;
    world.register(|options| options.ack_timeout = Some(seconds(5))).await;
    let mut client = world.consumer().await;
    world.publish("b25l").await;
    let delivery = world.delivery(&mut client).await;
    for _ in 0..20 {
        world.advance(seconds(4)).await;
        let extended = world.settle(&client, &delivery, Settlement::Extend).await.unwrap();
        assert_eq!(extended, Reply::Extended { lease: Some(seconds(5)) });
    }
    assert_eq!((world.counts().await, world.deliveries(&mut client).await), ([0, 1, 0, 0], vec![]));
    world.ack(&client, &delivery).await;
    assert_eq!(world.stats().await.counters.redelivered, 0);
}

async fn each_lease_ends_in_its_time_however_much_passes_at_once(store: Store) {
    let world = World::new(store).await;
    let mut client = world.consumer().await;
    world.publish("b25l").await;
    let before = world.engine.now();
    world.advance(seconds(5 * 60 + 1)).await;
    let attempts: Vec<_> = world.deliveries(&mut client).await.iter().map(|delivery| delivery.attempt).collect();
    // Nobody took the five before it while their leases lasted: they were no deliveries.
    assert_eq!(attempts, [Some(1)]);
    assert_eq!(world.stats().await.counters.delivered, 6);
    assert_eq!(world.engine.now(), before.after(seconds(301)));
}

async fn what_its_client_left_comes_again_at_once(store: Store) {
    let world = World::new(store).await;
    let (mut one, two) = (world.consumer().await, world.client().await);
    for _ in 0..3 {
        world.publish("b25l").await;
    }
    let ids: Vec<_> = world.deliveries(&mut one).await.into_iter().map(|delivery| delivery.id).collect();
    world.subscribe(&two, None).await;
    world.logout(&one).await;
    let mut two = two;
    let again = world.deliveries(&mut two).await;
    assert!(again.iter().map(|delivery| &delivery.id).eq(&ids), "in their order");
    assert!(again.iter().all(|delivery| delivery.attempt == Some(2)));
}

async fn too_many_deliveries_make_a_dead_letter(store: Store) {
    let mut world = World::new(store).await;
    world.register(|options| options.max_deliveries = NonZeroU32::new(3)).await;
    let mut client = world.consumer().await;
    let id = world.publish("b25l").await;
    for attempt in 1..=3 {
        assert_eq!(world.delivery(&mut client).await.attempt, Some(attempt));
        world.advance(seconds(60)).await;
    }
    assert_eq!((world.deliveries(&mut client).await, world.counts().await), (vec![], [0, 0, 0, 1]));
    let letters = world.dead_letters().await;
    assert_eq!((&letters[0].id, letters[0].reason.as_str(), letters[0].deliveries), (&id, "max deliveries", 3));
    assert_eq!(letters[0].at, world.engine.now());
    world.restart().await;
    assert_eq!(world.dead_letters().await, letters);
    // Put back, it counts anew.
    let mut client = world.consumer().await;
    world.engine.broker().requeue_dead_letter(id).await.unwrap();
    assert_eq!(world.delivery(&mut client).await.attempt, Some(1));
}

async fn what_is_released_does_not_count(store: Store) {
    let world = World::new(store).await;
    world.register(|options| options.max_deliveries = NonZeroU32::new(1)).await;
    let mut client = world.consumer().await;
    world.publish("b25l").await;
    for attempt in 1..=10 {
        let delivery = world.delivery(&mut client).await;
        assert_eq!(delivery.attempt, Some(attempt));
        world.settle(&client, &delivery, Settlement::Release).await.unwrap();
    }
    let delivery = world.delivery(&mut client).await;
    world.settle(&client, &delivery, Settlement::Rollback).await.unwrap();
    assert_eq!(world.counts().await, [0, 0, 0, 1]);
}

async fn the_log_may_refuse_a_dead_letter_for_a_while(store: Store) {
    let world = World::new(store).await;
    world.register(|options| options.max_deliveries = NonZeroU32::new(1)).await;
    let mut client = world.consumer().await;
    world.publish("b25l").await;
    world.delivery(&mut client).await;
    world.engine.log_faults().refuse_appends(2);
    world.engine.clock().advance(seconds(60));
    let stats = world.engine.wait_for(event(), WAREHOUSE, |stats| stats.dead == 1).await.unwrap();
    assert_eq!((stats.ready, stats.in_flight), (0, 0));
    assert_eq!(world.deliveries(&mut client).await, []);
}

async fn what_cannot_be_read_comes_again_and_was_no_delivery(store: Store) {
    let world = World::new(store).await;
    world.register(|options| options.max_deliveries = NonZeroU32::new(3)).await;
    let mut client = world.consumer().await;
    world.engine.log_faults().fail_reads(1);
    world.publish("b25l").await;
    assert_eq!((world.deliveries(&mut client).await, world.counts().await), (vec![], [0, 1, 0, 0]));
    world.engine.log_faults().fail_reads(0);
    world.advance(seconds(60)).await;
    assert_eq!(world.delivery(&mut client).await.attempt, Some(1));
    world.engine.log_faults().fail_reads(u64::MAX);
    for _ in 0..5 {
        world.advance(seconds(60)).await;
        assert_eq!(world.deliveries(&mut client).await, []);
    }
    world.engine.log_faults().fail_reads(0);
    world.advance(seconds(60)).await;
    assert_eq!(world.delivery(&mut client).await.attempt, Some(2));
}
