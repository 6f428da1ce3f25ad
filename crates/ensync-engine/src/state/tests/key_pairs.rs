//! An app gets other key pairs, and stays who it is.

use std::time::Duration;

use ensync_core::{IdempotencyKey, Publish};

use super::bench::*;
use crate::model::{AdminCommand, EventChange, Record};
use crate::state::Applied;

/// The warehouse's keys after the first.
const SECOND: u8 = 20;
const THIRD: u8 = 21;

fn rotate(app_key: u8, to: u8) -> AdminCommand {
    AdminCommand::RotateKeyPair { app: app(app_key), public_key: app(to) }
}

fn retire(app_key: u8, key: u8) -> AdminCommand {
    AdminCommand::RetireKey { app: app(app_key), public_key: app(key) }
}

fn to(recipient: u8, text: &str) -> Publish {
    Publish { recipient: app(recipient), ..publish(text) }
}

fn send(bench: &mut Bench, recipient: u8, text: &str) -> ensync_core::EventId {
    let shop = bench.login(SHOP);
    let id = bench.publish_as(&shop, to(recipient, text)).unwrap();
    bench.logout(&shop);
    id
}

#[test]
fn events_for_old_and_new_keys_come_in_one_order_and_name_the_key_they_are_for() {
    for restart in [false, true] {
        let mut bench = Bench::new();
        send(&mut bench, WAREHOUSE, "b25l");
        bench.administer(rotate(WAREHOUSE, SECOND)).unwrap();
        send(&mut bench, SECOND, "dHdv");
        send(&mut bench, WAREHOUSE, "dGhyZWU=");
        // Either key names the app.
        bench.administer(rotate(SECOND, THIRD)).unwrap();
        for (key, text) in [(THIRD, "Zm91cg=="), (SECOND, "Zml2ZQ=="), (WAREHOUSE, "c2l4")] {
            send(&mut bench, key, text);
        }
        if restart {
            bench.restart();
        }
        let warehouse = bench.consumer(WAREHOUSE);
        let deliveries = bench.deliver(&warehouse);
        assert_eq!(texts(&deliveries), ["b25l", "dHdv", "dGhyZWU=", "Zm91cg==", "Zml2ZQ==", "c2l4"]);
        let keys: Vec<_> = deliveries.iter().map(|delivery| delivery.recipient.unwrap()).collect();
        assert_eq!(keys, [WAREHOUSE, SECOND, WAREHOUSE, THIRD, SECOND, WAREHOUSE].map(app));
        for delivery in &deliveries {
            bench.ack(&warehouse, delivery).unwrap();
            assert_eq!(bench.replay(&warehouse, &delivery.id).unwrap().recipient, delivery.recipient);
        }
        let info = bench.state.app(&app(THIRD)).unwrap();
        assert_eq!((info.id, info.public_key), (app(WAREHOUSE), app(THIRD)));
        assert_eq!(info.earlier_keys, [WAREHOUSE, SECOND].map(app));
        for key in [WAREHOUSE, SECOND, THIRD] {
            assert_eq!(bench.state.queue(&app(key), &event()).unwrap().recipient, app(WAREHOUSE));
        }
        assert_eq!(bench.state.queues().len(), 1);
    }
}

#[test]
fn what_a_client_held_comes_back_to_the_app_after_a_rotation() {
    let mut bench = Bench::new();
    let first = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&first);
    bench.administer(rotate(WAREHOUSE, SECOND)).unwrap();
    assert_eq!(bench.state.take_ended().len(), 1);
    assert!(bench.state.take_ended().is_empty());
    refused(bench.ack(&first, &delivery), ensync_core::ErrorKind::Unauthenticated);
    let second = bench.consumer(WAREHOUSE);
    assert_eq!(second.app_id, app(WAREHOUSE), "the id stays");
    let again = bench.deliver_one(&second);
    assert_eq!((&again.id, again.recipient), (&delivery.id, Some(app(WAREHOUSE))));
    bench.settle(&second, &again.id, None, discard("no")).unwrap();
    let letters = bench.state.dead_letters(Some(&app(SECOND)), None, 9);
    assert_eq!((letters.len(), letters[0].recipient), (1, app(WAREHOUSE)));
}

#[test]
fn what_it_publishes_is_the_new_keys() {
    let mut bench = Bench::new();
    bench.administer(rotate(SHOP, SECOND)).unwrap();
    assert_eq!(bench.state.public_key(&app(SHOP)), app(SECOND));
    let shop = bench.login(SHOP);
    bench.publish_as(&shop, publish("b25l")).unwrap();
    let warehouse = bench.consumer(WAREHOUSE);
    assert_eq!(bench.deliver_one(&warehouse).sender, Some(app(SECOND)));
}

#[test]
fn a_repeated_publish_is_one_event_whichever_keys_were_used() {
    for restart in [false, true] {
        let mut bench = Bench::new();
        let keyed = |recipient| Publish {
            idempotency_key: Some(IdempotencyKey::parse("once").unwrap()),
            ..to(recipient, "b25l")
        };
        let shop = bench.login(SHOP);
        let first = bench.publish_as(&shop, keyed(WAREHOUSE)).unwrap();
        bench.administer(rotate(WAREHOUSE, SECOND)).unwrap();
        bench.administer(rotate(SHOP, THIRD)).unwrap();
        if restart {
            bench.restart();
        }
        let shop = bench.login(SHOP);
        for key in [WAREHOUSE, SECOND] {
            assert_eq!(bench.publish_as(&shop, keyed(key)).unwrap(), first);
        }
        assert_eq!(bench.counts(), [1, 0, 0, 0]);
    }
}

#[test]
fn a_retired_key_is_nobodys() {
    for restart in [false, true] {
        let mut bench = Bench::new();
        let queued = send(&mut bench, WAREHOUSE, "b25l");
        bench.administer(rotate(WAREHOUSE, SECOND)).unwrap();
        bench.administer(retire(SECOND, WAREHOUSE)).unwrap();
        if restart {
            bench.restart();
        }
        let shop = bench.login(SHOP);
        refused(bench.publish_as(&shop, publish("b25l")), ensync_core::ErrorKind::UnknownRecipient);
        // It was the first, so it is the app's id, and names it to administrators. It is not to be had again.
        assert_eq!(bench.state.app(&app(WAREHOUSE)).unwrap().public_key, app(SECOND));
        for what in [rotate(WAREHOUSE, WAREHOUSE), rotate(SHOP, WAREHOUSE)] {
            refused(bench.administer(what), ensync_core::ErrorKind::Conflict);
        }
        // What was queued is delivered and replayed all the same.
        let warehouse = bench.consumer(WAREHOUSE);
        let delivery = bench.deliver_one(&warehouse);
        assert_eq!((&delivery.id, delivery.recipient), (&queued, Some(app(WAREHOUSE))));
        bench.ack(&warehouse, &delivery).unwrap();
        assert_eq!(bench.replay(&warehouse, &queued).unwrap().payload.as_str().unwrap(), "b25l");
    }
}

#[test]
fn a_retired_key_may_be_anothers_who_then_sees_nothing_of_before() {
    let mut bench = Bench::new();
    bench.administer(rotate(WAREHOUSE, SECOND)).unwrap();
    let old = send(&mut bench, SECOND, "b25l");
    let copy = bench.log.last().unwrap().clone();
    bench.administer(rotate(WAREHOUSE, THIRD)).unwrap();
    bench.administer(retire(WAREHOUSE, SECOND)).unwrap();
    bench.administer(rotate(STRANGER, SECOND)).unwrap();
    let new = send(&mut bench, SECOND, "dHdv");
    // Retention stores the first one's event once more: it is still the warehouse's.
    let copied = bench.commit(&[crate::state::Change { record: copy, durable: true }]);
    assert_eq!(copied, [Applied::Stored(old.clone())]);
    let stranger = bench.consumer(STRANGER);
    let delivery = bench.deliver_one(&stranger);
    assert_eq!(delivery.id, new);
    refused(bench.replay(&stranger, &old), ensync_core::ErrorKind::NotFound);
    refused(bench.settle(&stranger, &old, None, defer(0)), ensync_core::ErrorKind::NotFound);
    let warehouse = bench.consumer(WAREHOUSE);
    assert_eq!(bench.deliver_one(&warehouse).id, old);
    refused(bench.replay(&warehouse, &new), ensync_core::ErrorKind::NotFound);
    assert_eq!(bench.replayed().snapshot(), bench.state.snapshot());
}

#[test]
fn keys_are_refused_with_the_reason() {
    let mut bench = Bench::new();
    for (what, kind) in [
        (rotate(99, SECOND), ensync_core::ErrorKind::NotFound),
        (rotate(WAREHOUSE, WAREHOUSE), ensync_core::ErrorKind::Conflict),
        (rotate(WAREHOUSE, SHOP), ensync_core::ErrorKind::Conflict),
        (retire(99, WAREHOUSE), ensync_core::ErrorKind::NotFound),
        (retire(WAREHOUSE, WAREHOUSE), ensync_core::ErrorKind::Conflict),
        (retire(WAREHOUSE, SHOP), ensync_core::ErrorKind::NotFound),
    ] {
        refused(bench.administer(what), kind);
    }
    for key in 100..116 {
        bench.administer(rotate(WAREHOUSE, key)).unwrap();
    }
    refused(bench.administer(rotate(WAREHOUSE, 116)), ensync_core::ErrorKind::Conflict);
    bench.administer(retire(WAREHOUSE, 100)).unwrap();
    bench.administer(rotate(WAREHOUSE, 116)).unwrap();
    assert_eq!(bench.replayed().snapshot(), bench.state.snapshot());
}

#[test]
fn records_about_keys_that_make_no_sense_are_harmless() {
    let mut bench = Bench::new();
    bench.publish("b25l");
    let before = bench.state.snapshot();
    let (nobody, name, at) = (app(99), event(), bench.now);
    let unknown = ensync_core::EventName::parse("unknown").unwrap();
    let admin = |command| Record::Admin { at, command };
    for record in [
        admin(AdminCommand::RotateKeyPair { app: nobody, public_key: app(SECOND) }),
        admin(AdminCommand::RotateKeyPair { app: app(SHOP), public_key: app(WAREHOUSE) }),
        admin(AdminCommand::RetireKey { app: app(SHOP), public_key: app(SHOP) }),
        admin(AdminCommand::RotateKey { app: nobody, key_hash: key_hash(9), grace: Duration::ZERO }),
        admin(AdminCommand::RotateKey { app: app(SHOP), key_hash: key_hash(WAREHOUSE), grace: Duration::ZERO }),
        admin(AdminCommand::Enable { app: nobody, enabled: false }),
        admin(AdminCommand::DeleteApp { app: nobody }),
        admin(AdminCommand::Revoke { app: app(SHOP), event: name.clone() }),
        admin(AdminCommand::DeleteEvent { name: unknown.clone() }),
        admin(AdminCommand::ChangeEvent { name: unknown, change: EventChange::default() }),
    ] {
        let position = crate::model::Position::new(99);
        assert_eq!(bench.state.apply(Some(position), &record.clone().into()), Applied::Ignored, "{record:?}");
        bench.check();
    }
    assert_eq!(bench.state.snapshot(), before);
}
