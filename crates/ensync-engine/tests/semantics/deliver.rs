use ensync_core::Command;

use crate::over_every_log;
use crate::world::*;

over_every_log!(
    consumers_compete,
    order_is_kept_per_queue,
    the_window_of_unsettled_events_is_kept,
    who_holds_a_long_one_still_gets_others,
    a_paused_client_gets_nothing_and_the_others_go_on,
    an_unsubscribed_client_settles_what_it_has_and_gets_no_more,
    what_nobody_reads_waits,
);

async fn consumers_compete(store: Store) {
    let world = World::new(store).await;
    let mut clients = [world.consumer().await, world.consumer().await, world.consumer().await];
    for _ in 0..9 {
        world.publish("b25l").await;
    }
    let mut ids = Vec::new();
    for client in &mut clients {
        let found = world.deliveries(client).await;
        assert_eq!(found.len(), 3);
        ids.extend(found.into_iter().map(|delivery| delivery.id));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 9, "each went to one");
}

async fn order_is_kept_per_queue(store: Store) {
    let mut world = World::new(store).await;
    let mut expected = Vec::new();
    for n in 0..200 {
        expected.push(format!("{n:0>4}"));
        world.publish(&expected[n]).await;
    }
    let mut client = world.consumer().await;
    let found = world.deliveries(&mut client).await;
    assert_eq!(texts(&found), expected);
    for delivery in &found[..100] {
        world.ack(&client, delivery).await;
    }
    world.restart().await;
    let mut client = world.consumer().await;
    assert_eq!(texts(&world.deliveries(&mut client).await), expected[100..]);
}

async fn the_window_of_unsettled_events_is_kept(store: Store) {
    let world = World::new(store).await;
    let mut client = world.client().await;
    world.subscribe(&client, Some(3)).await;
    for _ in 0..10 {
        world.publish("b25l").await;
    }
    let mut seen = 0;
    while seen < 10 {
        let found = world.deliveries(&mut client).await;
        assert!((1..=3).contains(&found.len()));
        seen += found.len();
        assert_eq!(world.counts().await, [10 - seen, found.len(), 0, 0]);
        for delivery in found {
            world.ack(&client, &delivery).await;
        }
    }
}

async fn who_holds_a_long_one_still_gets_others(store: Store) {
    let world = World::new(store).await;
    let mut client = world.client().await;
    world.subscribe(&client, Some(2)).await;
    for text in ["MDAx", "MDAy", "MDAz", "MDA0"] {
        world.publish(text).await;
    }
    let [long, other] = world.deliveries(&mut client).await.try_into().unwrap();
    world.ack(&client, &other).await;
    for expected in ["MDAz", "MDA0"] {
        let next = world.delivery(&mut client).await;
        assert_eq!(next.payload.as_str().unwrap(), expected);
        world.ack(&client, &next).await;
    }
    world.ack(&client, &long).await;
}

async fn a_paused_client_gets_nothing_and_the_others_go_on(store: Store) {
    let mut world = World::new(store).await;
    let (mut paused, mut other) = (world.consumer().await, world.consumer().await);
    world.run(&paused, Command::Pause { event: event(), reason: "lunch".into() }).await.unwrap();
    for _ in 0..4 {
        world.publish("b25l").await;
    }
    assert_eq!(world.deliveries(&mut paused).await, []);
    assert_eq!(world.deliveries(&mut other).await.len(), 4);
    world.logout(&other).await;
    assert_eq!((world.counts().await, world.stats().await.consumers), ([4, 0, 0, 0], 1));
    world.run(&paused, Command::Continue { event: event() }).await.unwrap();
    assert_eq!(world.deliveries(&mut paused).await.len(), 4);
    // It is the session's: another one of the app starts without.
    world.run(&paused, Command::Pause { event: event(), reason: String::new() }).await.unwrap();
    world.restart().await;
    let mut again = world.consumer().await;
    assert_eq!(world.deliveries(&mut again).await.len(), 4);
}

async fn an_unsubscribed_client_settles_what_it_has_and_gets_no_more(store: Store) {
    let world = World::new(store).await;
    let mut client = world.consumer().await;
    world.publish("MDAx").await;
    let held = world.delivery(&mut client).await;
    world.run(&client, Command::Unsubscribe { event: event() }).await.unwrap();
    world.publish("MDAy").await;
    assert_eq!(world.deliveries(&mut client).await, []);
    assert_eq!((world.counts().await, world.stats().await.consumers), ([1, 1, 0, 0], 0));
    world.ack(&client, &held).await;
    world.subscribe(&client, None).await;
    assert_eq!(world.delivery(&mut client).await.payload.as_str().unwrap(), "MDAy");
}

async fn what_nobody_reads_waits(store: Store) {
    let mut world = World::new(store).await;
    let id = world.publish("b25l").await;
    world.advance(seconds(30 * 24 * 60 * 60)).await;
    world.restart().await;
    let mut client = world.consumer().await;
    let found = world.delivery(&mut client).await;
    assert_eq!((found.id, found.attempt), (id, Some(1)));
}
