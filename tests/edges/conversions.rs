//! Whoever is given a name, a key or an id takes every form of it.

use std::borrow::Cow;

use ensync_core::{AppId, AppKey, EventId, EventName, IdempotencyKey, SecretKey};
use ensync_engine::{AdminToken, EventOptions};

use crate::world::{Transport, World, next};

const ORDERS: &str = "orders/status/updated";

/// Does something with each form of a value, which is given with its text.
macro_rules! with_each_form {
    ($value:expr, $text:expr, |$given:ident| $do:expr) => {{
        let (value, text) = ($value, String::from($text));
        with_each_form!(@each $given, $do, [text.as_str(), text.clone(), &text, Cow::Borrowed(text.as_str()), &value, value.clone()])
    }};
    (@each $given:ident, $do:expr, [$($form:expr),*]) => {{
        $({
            let $given = $form;
            $do
        })*
    }};
}

#[tokio::test]
#[allow(clippy::clone_on_copy, reason = "some of the values are Copy")]
async fn every_form_is_taken() {
    let world = World::start(Transport::InProcess).await;
    let (shop, stock) = world.clients().await;
    let (to, name): (AppId, EventName) = (world.warehouse.app_id, ORDERS.parse().unwrap());
    let mut orders = stock.subscribe(ORDERS).await.unwrap();

    with_each_form!(name.clone(), ORDERS, |given| {
        shop.publish(given, &1).to(to).await.unwrap();
        next(&mut orders).await.ack().await.unwrap();
    });
    with_each_form!(to, to.to_string(), |given| {
        shop.publish(ORDERS, &1).to(given).await.unwrap();
        next(&mut orders).await.ack().await.unwrap();
    });
    with_each_form!(to, to.to_string(), |given| {
        shop.publish(ORDERS, &1).to_all([given]).await.unwrap();
        next(&mut orders).await.ack().await.unwrap();
    });
    // One key is one publish, however often.
    with_each_form!(IdempotencyKey::parse("once").unwrap(), "once", |given| {
        shop.publish(ORDERS, &1).to(to).idempotency_key(given).await.unwrap();
    });
    let event = next(&mut orders).await;
    let id: EventId = event.id().clone();
    event.ack().await.unwrap();
    with_each_form!(id.clone(), id.as_str(), |given| {
        assert_eq!(stock.replay(ORDERS, given).await.unwrap().id(), &id);
    });
    with_each_form!(id.clone(), id.as_str(), |given| {
        assert_eq!(orders.control().replay(given).await.unwrap().id(), &id);
    });
    orders.control().unsubscribe().await.unwrap();
    with_each_form!(name.clone(), ORDERS, |given| {
        stock.subscribe(given).await.unwrap().control().unsubscribe().await.unwrap();
    });

    let (app_key, secret): (AppKey, SecretKey) = (world.shop.app_key.clone(), world.shop.secret_key.clone());
    with_each_form!(app_key, world.shop.app_key.expose(), |given| {
        world.engine().create_client(given).app_secret_key(&secret).await.unwrap();
    });
    with_each_form!(secret.clone(), secret.to_base64().unwrap().as_str(), |given| {
        world.engine().create_client(&world.shop.app_key).app_secret_key(given).await.unwrap();
    });
    with_each_form!(name.clone(), ORDERS, |given| {
        world.server.register_event(given, EventOptions::default()).await.unwrap();
    });
    let token = AdminToken::generate().unwrap();
    let text = token.expose().to_owned();
    for read in
        [AdminToken::try_from(text.as_str()), AdminToken::try_from(&text), text.parse(), text.clone().try_into()]
    {
        assert_eq!(read.unwrap(), token);
    }
}
