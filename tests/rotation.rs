//! Keys that are rotated, and apps that are disabled and deleted, while clients of them are connected.

use std::time::Duration;

use ensync_client::{Client, Subscription};
use ensync_core::{AppId, AppKey, ErrorKind, Keyring, SecretKey};
use futures::StreamExt;

use crate::over_every_transport;
use crate::world::{World, eventually, n_of, next, publish, soon};

const ORDERS: &str = "orders/status/updated";

/// A client that comes back at once.
async fn client(world: &World, app_key: &AppKey, keys: Keyring) -> ensync_core::Result<Client> {
    world.engine().reconnect_interval(Duration::from_millis(5)).create_client(app_key).keyring(keys).await
}

async fn stock(world: &World) -> Client {
    client(world, &world.warehouse.app_key, Keyring::new(world.warehouse.secret_key.clone())).await.unwrap()
}

/// Publishes `{"n": n}` to one of the warehouse's keys.
async fn send(from: &Client, to: AppId, n: u64) -> ensync_core::Result<()> {
    from.publish(ORDERS, &serde_json::json!({"n": n})).to(to).await.map(drop)
}

/// The error with which a subscription ends, and that it ends.
async fn end_of(events: &mut Subscription) -> ensync_core::Error {
    let error = soon(events.next()).await.expect("it says why it ends").expect_err("it is not to go on");
    assert!(soon(events.next()).await.is_none());
    error
}

async fn events_for_both_key_pairs_come_in_order_to_who_has_both(world: World) {
    let (till, broker) = (world.client(&world.shop).await, world.server.broker());
    let first = world.warehouse.app_id;
    // Nobody reads yet: the first ones are queued for the old key.
    stock(&world).await.subscribe(ORDERS).await.unwrap().unsubscribe().await.unwrap();
    for n in 0..3 {
        send(&till, first, n).await.unwrap();
    }
    let secret_key = SecretKey::generate().unwrap();
    let second = secret_key.app_id().unwrap();
    broker.rotate_key_pair(first, second).await.unwrap();
    // A publisher who has not heard of it goes on with the old one.
    for n in 3..9 {
        send(&till, if n % 2 == 0 { first } else { second }, n).await.unwrap();
    }
    let keys = Keyring::new(secret_key).with_previous(world.warehouse.secret_key.clone());
    let stock = client(&world, &world.warehouse.app_key, keys).await.unwrap();
    assert_eq!(stock.app_id(), Some(second));
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    for n in 0..9 {
        let event = next(&mut orders).await;
        assert_eq!(n_of(&event), n);
        assert_eq!(event.recipient(), Some(&if n < 3 || n % 2 == 0 { first } else { second }));
        event.ack().await.unwrap();
    }
    // What it publishes is the new key's, and answers find it.
    stock.publish(ORDERS, &1).to(world.shop.app_id).await.unwrap();
    let event = next(&mut till.subscribe(ORDERS).await.unwrap()).await;
    assert_eq!(event.sender(), ensync_client::Sender::Unverified { claimed: Some(second) });
    broker.retire_key(second, first).await.unwrap();
    assert_eq!(send(&till, first, 9).await.unwrap_err().kind(), ErrorKind::UnknownRecipient);
    send(&till, second, 10).await.unwrap();
    assert_eq!(n_of(&next(&mut orders).await), 10);
}

async fn a_live_client_learns_of_its_new_key_pair(world: World) {
    let (till, stock) = (world.client(&world.shop).await, stock(&world).await);
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    send(&till, world.warehouse.app_id, 1).await.unwrap();
    let held = next(&mut orders).await;
    let second = SecretKey::generate().unwrap().app_id().unwrap();
    world.server.broker().rotate_key_pair(world.warehouse.app_id, second).await.unwrap();
    // It is logged in again by itself, gets what it held once more, and opens what is for its old key.
    eventually(async || stock.app_id() == Some(second)).await;
    let again = next(&mut orders).await;
    assert_eq!((again.id(), n_of(&again)), (held.id(), 1));
    again.ack().await.unwrap();
    // For the new key it needs the new secret, and says so.
    send(&till, second, 2).await.unwrap();
    let closed = soon(orders.next()).await.unwrap().unwrap();
    assert_eq!(closed.json().unwrap_err().kind(), ErrorKind::DoesNotOpen);
}

async fn a_disabled_apps_client_gives_up_and_says_why(world: World) {
    let (till, stock) = (world.client(&world.shop).await, stock(&world).await);
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    let broker = world.server.broker();
    broker.enable_app(world.warehouse.app_id, false).await.unwrap();
    let error = end_of(&mut orders).await;
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(ensync_core::report(&error).contains("disabled"), "{}", ensync_core::report(&error));
    assert_eq!(soon(send(&stock, world.shop.app_id, 1)).await.unwrap_err().kind(), ErrorKind::Forbidden);
    // What is sent to it waits until it may come back.
    publish(&world, &till, ORDERS, 2).await.unwrap();
    let keys = || Keyring::new(world.warehouse.secret_key.clone());
    let refused = client(&world, &world.warehouse.app_key, keys()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden);
    broker.enable_app(world.warehouse.app_id, true).await.unwrap();
    let stock = client(&world, &world.warehouse.app_key, keys()).await.unwrap();
    assert_eq!(n_of(&next(&mut stock.subscribe(ORDERS).await.unwrap()).await), 2);
}

async fn a_rotated_access_key_ends_its_clients_and_the_new_one_goes_on(world: World) {
    let (till, old) = (world.client(&world.shop).await, stock(&world).await);
    let mut orders = old.subscribe(ORDERS).await.unwrap();
    publish(&world, &till, ORDERS, 1).await.unwrap();
    let held = next(&mut orders).await;
    let app_key = world.server.broker().rotate_key(world.warehouse.app_id, Duration::ZERO).await.unwrap();
    assert_eq!(end_of(&mut orders).await.kind(), ErrorKind::Unauthenticated);
    let stock = client(&world, &app_key, Keyring::new(world.warehouse.secret_key.clone())).await.unwrap();
    let event = next(&mut stock.subscribe(ORDERS).await.unwrap()).await;
    assert_eq!((event.id(), event.attempt()), (held.id(), Some(2)));
    event.ack().await.unwrap();
    // Others saw nothing of it.
    publish(&world, &till, ORDERS, 2).await.unwrap();
}

async fn a_deleted_app_is_gone_for_everybody(world: World) {
    let (till, stock) = (world.client(&world.shop).await, stock(&world).await);
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    world.server.broker().delete_app(world.warehouse.app_id).await.unwrap();
    assert_eq!(end_of(&mut orders).await.kind(), ErrorKind::Unauthenticated);
    let refused = publish(&world, &till, ORDERS, 1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::UnknownRecipient);
    assert_eq!(world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap(), None);
}

over_every_transport!(
    events_for_both_key_pairs_come_in_order_to_who_has_both,
    a_live_client_learns_of_its_new_key_pair,
    a_disabled_apps_client_gives_up_and_says_why,
    a_rotated_access_key_ends_its_clients_and_the_new_one_goes_on,
    a_deleted_app_is_gone_for_everybody,
);
