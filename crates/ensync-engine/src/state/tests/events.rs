//! Event names come, change and go.

use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::{ErrorKind, EventName, Publish, Schema};

use super::bench::*;
use crate::model::{AdminCommand, EventChange, EventOptions, Rights};
use crate::state::LetterAction;
use crate::state::State;

fn delete() -> AdminCommand {
    AdminCommand::DeleteEvent { name: event() }
}

#[test]
fn a_name_is_created_once() {
    let mut bench = Bench::new();
    let create = |name: EventName, ttl| {
        let options = EventOptions { ttl: Some(Duration::from_millis(ttl)), ..EventOptions::default() };
        AdminCommand::CreateEvent { name, options }
    };
    refused(bench.administer(create(event(), 1_000)), ErrorKind::Conflict);
    let other = EventName::parse("other").unwrap();
    refused(bench.administer(create(other.clone(), 1)), ErrorKind::InvalidInput);
    bench.administer(create(other.clone(), 1_000)).unwrap();
    assert_eq!(bench.state.event(&other).unwrap().ttl, Some(Duration::from_secs(1)));
    assert_eq!(bench.state.event(&EventName::parse("unknown").unwrap()), None);
}

#[test]
fn a_change_leaves_the_rest() {
    let schema = Schema::parse(r#"{"a":"string"}"#).unwrap();
    let options = EventOptions {
        schema: Some(schema.clone()),
        ttl: Some(Duration::from_secs(9)),
        max_deliveries: NonZeroU32::new(3),
        ack_timeout: None,
    };
    let mut bench = Bench::with(|_| {}, options.clone());
    let new = EventChange {
        ttl: Some(None),
        max_deliveries: Some(NonZeroU32::new(5)),
        ack_timeout: Some(Some(Duration::from_secs(1))),
        ..EventChange::default()
    };
    let change = |change: &EventChange, name: EventName| AdminCommand::ChangeEvent { name, change: change.clone() };
    bench.administer(change(&new, event())).unwrap();
    let changed = bench.state.event(&event()).unwrap();
    assert_eq!((changed.schema, changed.ttl, changed.max_deliveries), (Some(schema), None, NonZeroU32::new(5)));
    assert_eq!(changed.ack_timeout, Some(Duration::from_secs(1)));
    let bad = EventChange { ttl: Some(Some(Duration::ZERO)), ..EventChange::default() };
    refused(bench.administer(change(&bad, event())), ErrorKind::InvalidInput);
    refused(bench.administer(change(&bad, EventName::parse("unknown").unwrap())), ErrorKind::UnknownEvent);
    assert_eq!(bench.replayed().snapshot(), bench.state.snapshot());
}

#[test]
fn a_name_in_use_stays() {
    let mut bench = Bench::new();
    let warehouse = bench.login(WAREHOUSE);
    let id = bench.publish("b25l");
    let error = bench.administer(delete()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("1 unsettled events, 0 dead letters, 0 subscriptions"), "{error}");
    bench.subscribe(&warehouse, None).unwrap();
    bench.deliver(&warehouse);
    bench.settle(&warehouse, &id, None, discard("no")).unwrap();
    let error = bench.administer(delete()).unwrap_err().to_string();
    assert!(error.contains("0 unsettled events, 1 dead letters, 1 subscriptions"), "{error}");
    bench.letter(LetterAction::Drop, &id).unwrap();
    refused(bench.administer(delete()), ErrorKind::Conflict);
    bench.run(&warehouse, Command::Unsubscribe { event: event() }).unwrap();
    bench.administer(delete()).unwrap();
    refused(bench.administer(delete()), ErrorKind::UnknownEvent);
}

#[test]
fn a_deleted_name_takes_its_grants_and_its_past() {
    for restart in [false, true] {
        let mut bench = Bench::new();
        let warehouse = bench.consumer(WAREHOUSE);
        let old = bench.publish("b25l");
        let delivery = bench.deliver_one(&warehouse);
        bench.ack(&warehouse, &delivery).unwrap();
        // A pause alone does not hold it.
        bench.run(&warehouse, Command::Pause { event: event(), reason: String::new() }).unwrap();
        bench.run(&warehouse, Command::Unsubscribe { event: event() }).unwrap();
        bench.run(&warehouse, Command::Pause { event: event(), reason: String::new() }).unwrap();
        bench.administer(AdminCommand::Grant { app: app(SHOP), event: Some(event()), rights: Rights::NONE }).unwrap();
        bench.administer(delete()).unwrap();
        let shop = bench.login(SHOP);
        refused(bench.publish_as(&shop, publish("b25l")), ErrorKind::UnknownEvent);
        refused(bench.subscribe(&warehouse, None), ErrorKind::UnknownEvent);
        assert_eq!((bench.state.queues(), bench.state.apps()[0].grants.len()), (vec![], 0));
        bench.administer(AdminCommand::CreateEvent { name: event(), options: EventOptions::default() }).unwrap();
        if restart {
            bench.restart();
        }
        // The same name again: another queue, without the grant and without the events of before.
        let (shop, warehouse) = (bench.login(SHOP), bench.consumer(WAREHOUSE));
        let new = bench.publish_as(&shop, publish("dHdv")).unwrap();
        refused(bench.replay(&warehouse, &old), ErrorKind::NotFound);
        assert_eq!(bench.deliver_one(&warehouse).id, new);
        assert_eq!(bench.replayed().snapshot(), bench.state.snapshot());
    }
}

#[test]
fn names_of_first_use_make_room_when_they_go() {
    let mut bench = Bench::with(
        |settings| {
            settings.dev = true;
            settings.limits.max_auto_events = 2;
        },
        EventOptions::default(),
    );
    let shop = bench.login(SHOP);
    let named =
        |name: &str| Publish { event: EventName::parse(name).unwrap(), recipient: app(SHOP), ..transient("b25l") };
    for name in ["a", "b"] {
        bench.publish_as(&shop, named(name)).unwrap();
    }
    refused(bench.publish_as(&shop, named("c")), ErrorKind::LimitExceeded);
    // Registered by an administrator, it does not count any more; nor does one that is deleted.
    let name = EventName::parse("a").unwrap();
    bench.administer(AdminCommand::RegisterEvent { name, options: EventOptions::default() }).unwrap();
    bench.publish_as(&shop, named("c")).unwrap();
    bench.restart();
    bench.administer(AdminCommand::DeleteEvent { name: EventName::parse("b").unwrap() }).unwrap();
    let shop = bench.login(SHOP);
    bench.publish_as(&shop, named("d")).unwrap();
    refused(bench.publish_as(&shop, named("e")), ErrorKind::LimitExceeded);
    bench.adopt(State::restore(bench.settings.clone(), bench.state.snapshot()));
    let shop = bench.login(SHOP);
    refused(bench.publish_as(&shop, named("e")), ErrorKind::LimitExceeded);
}

#[test]
fn a_grant_can_be_taken_back() {
    let mut bench = Bench::new();
    let grant = |event, rights| AdminCommand::Grant { app: app(SHOP), event, rights };
    let revoke = |n| AdminCommand::Revoke { app: app(n), event: event() };
    bench.administer(grant(None, Rights::NONE)).unwrap();
    bench.administer(grant(Some(event()), Rights { publish: true, subscribe: false })).unwrap();
    let shop = bench.login(SHOP);
    bench.publish_as(&shop, publish("b25l")).unwrap();
    bench.administer(revoke(SHOP)).unwrap();
    refused(bench.publish_as(&shop, publish("b25l")), ErrorKind::Forbidden);
    refused(bench.administer(revoke(SHOP)), ErrorKind::NotFound);
    refused(bench.administer(revoke(99)), ErrorKind::NotFound);
    assert_eq!(bench.replayed().snapshot(), bench.state.snapshot());
}
