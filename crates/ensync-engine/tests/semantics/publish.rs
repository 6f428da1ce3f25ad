use ensync_core::ErrorKind;

use crate::over_every_log;
use crate::world::*;

over_every_log!(
    a_retried_publish_is_stored_once_within_the_window,
    an_expired_event_is_not_delivered,
    a_client_may_settle_what_expires_while_it_has_it,
    what_is_in_memory_only_is_like_the_others_until_a_restart,
    a_full_log_takes_no_publishes_and_all_else,
    what_the_log_refused_is_not_there,
);

async fn a_retried_publish_is_stored_once_within_the_window(store: Store) {
    let mut world = World::new(store).await;
    let id = world.try_publish(keyed("MDAx", "k-1")).await.unwrap();
    world.advance(seconds(60)).await;
    assert_eq!(world.try_publish(keyed("MDAx", "k-1")).await.unwrap(), id);
    assert_ne!(world.try_publish(keyed("MDAx", "k-2")).await.unwrap(), id);
    // Across a restart, and after the event is long settled.
    world.restart().await;
    let mut client = world.consumer().await;
    for delivery in world.deliveries(&mut client).await {
        world.ack(&client, &delivery).await;
    }
    world.advance(seconds(59)).await;
    assert_eq!(world.try_publish(keyed("MDAx", "k-1")).await.unwrap(), id);
    world.crash().await;
    assert_eq!(world.try_publish(keyed("MDAx", "k-1")).await.unwrap(), id);
    let mut client = world.consumer().await;
    assert_eq!(world.deliveries(&mut client).await, []);
    // The window is over.
    world.advance(seconds(1)).await;
    assert_ne!(world.try_publish(keyed("MDAx", "k-1")).await.unwrap(), id);
    assert_eq!(world.deliveries(&mut client).await.len(), 1);
}

async fn an_expired_event_is_not_delivered(store: Store) {
    let mut world = World::new(store).await;
    world.register(|options| options.ttl = Some(seconds(10))).await;
    world.publish("MDAx").await;
    world.advance(seconds(9)).await;
    world.publish("MDAy").await;
    world.advance(seconds(1)).await;
    assert_eq!((world.counts().await, world.stats().await.counters.expired), ([1, 0, 0, 0], 1));
    // A deferred one expires where it waits, and one that is down does not keep it alive.
    let mut client = world.consumer().await;
    let delivery = world.delivery(&mut client).await;
    assert_eq!(delivery.payload.as_str().unwrap(), "MDAy");
    world.settle(&client, &delivery, defer(seconds(60))).await.unwrap();
    world.publish("MDAz").await;
    world.deliveries(&mut client).await;
    world.logout(&client).await;
    world.engine.clock().advance(seconds(10));
    world.restart().await;
    let mut client = world.consumer().await;
    assert_eq!((world.deliveries(&mut client).await, world.counts().await), (vec![], [0; 4]));
}

async fn a_client_may_settle_what_expires_while_it_has_it(store: Store) {
    let mut world = World::new(store).await;
    world.register(|options| options.ttl = Some(seconds(10))).await;
    let mut client = world.consumer().await;
    for text in ["MDAx", "MDAy", "MDAz"] {
        world.publish(text).await;
    }
    let [acked, discarded, left] = world.deliveries(&mut client).await.try_into().unwrap();
    world.advance(seconds(11)).await;
    world.ack(&client, &acked).await;
    world.settle(&client, &discarded, discard("too late")).await.unwrap();
    assert_eq!(world.counts().await, [0, 1, 0, 1]);
    world.advance(seconds(60)).await;
    assert_eq!((world.deliveries(&mut client).await, world.counts().await), (vec![], [0, 0, 0, 1]));
    assert_eq!(world.settle(&client, &left, discard("")).await.unwrap_err().kind(), ErrorKind::StaleDelivery);
    world.restart().await;
    assert_eq!(world.dead_letters().await[0].id, discarded.id);
}

async fn what_is_in_memory_only_is_like_the_others_until_a_restart(store: Store) {
    let mut world = World::new(store).await;
    let mut client = world.consumer().await;
    let kept = world.publish("MDAx").await;
    let id = world.try_publish(transient("MDAy")).await.unwrap();
    let [_, delivery] = world.deliveries(&mut client).await.try_into().unwrap();
    assert_eq!((&delivery.id, delivery.payload.as_str().unwrap()), (&id, "MDAy"));
    world.settle(&client, &delivery, discard("no")).await.unwrap();
    world.engine.broker().requeue_dead_letter(id.clone()).await.unwrap();
    let again = world.delivery(&mut client).await;
    assert_eq!((&again.id, world.replay(&client, &id).await.unwrap().payload.as_str().unwrap()), (&id, "MDAy"));
    world.restart().await;
    let mut client = world.consumer().await;
    assert_eq!(world.delivery(&mut client).await.id, kept);
    assert_eq!(world.replay(&client, &id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn a_full_log_takes_no_publishes_and_all_else(store: Store) {
    let world = World::new(store).await;
    let mut client = world.consumer().await;
    for _ in 0..4 {
        world.publish("b25l").await;
    }
    let [one, two, three, four] = world.deliveries(&mut client).await.try_into().unwrap();
    let full = world.engine.log_faults().fill();
    let error = world.try_publish(publish("b25l")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
    world.try_publish(transient("b25l")).await.unwrap();
    world.ack(&client, &one).await;
    world.settle(&client, &two, defer(seconds(1))).await.unwrap();
    world.settle(&client, &three, discard("no")).await.unwrap();
    world.replay(&client, &four.id).await.unwrap();
    drop(full);
    world.publish("b25l").await;
    assert_eq!(world.counts().await, [0, 3, 1, 1]);
}

async fn what_the_log_refused_is_not_there(store: Store) {
    let mut world = World::new(store).await;
    let mut client = world.consumer().await;
    world.publish("b25l").await;
    let delivery = world.delivery(&mut client).await;
    world.engine.log_faults().refuse_appends(1);
    let error = world.try_publish(keyed("MDAx", "k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(world.deliveries(&mut client).await, []);
    world.engine.log_faults().refuse_appends(2);
    let error = world.settle(&client, &delivery, ensync_core::Settlement::Ack).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    world.engine.log_faults().refuse_appends(0);
    // Both can be tried again.
    world.ack(&client, &delivery).await;
    world.try_publish(keyed("MDAx", "k")).await.unwrap();
    world.crash().await;
    let mut client = world.consumer().await;
    assert_eq!(texts(&world.deliveries(&mut client).await), ["MDAx"]);
}
