use ensync_core::{IdempotencyKey, Metadata, PayloadMetadata, Publish, Schema, WirePayload};

use super::bench::*;
use crate::model::{AdminCommand, EventOptions, Record, Rights};
use crate::state::{Admitted, LetterAction, Step};
use ensync_core::{ErrorKind, EventName};

fn keyed(text: &str, key: &str) -> Publish {
    Publish { idempotency_key: Some(IdempotencyKey::parse(key).unwrap()), ..publish(text) }
}

#[test]
fn an_accepted_event_reaches_its_recipient_as_it_was() {
    let mut bench = Bench::new();
    let (shop, warehouse) = (bench.login(SHOP), bench.consumer(WAREHOUSE));
    let metadata = Metadata::parse(r#"{"headers":{"a":1},"k":12345678901234567890}"#).unwrap();
    let id = bench.publish_as(&shop, Publish { metadata: metadata.clone(), ..publish("b25l") }).unwrap();
    let delivery = bench.deliver_one(&warehouse);
    assert_eq!((delivery.id, delivery.event, delivery.payload.as_str().unwrap()), (id, event(), "b25l"));
    assert_eq!((delivery.metadata, delivery.attempt), (metadata, Some(1)));
    assert_eq!((delivery.sender, delivery.recipient), (Some(app(SHOP)), Some(app(WAREHOUSE))));
    assert_eq!((delivery.timestamp, delivery.block.as_u64()), (Some(bench.now), (1 << 20) + 1));
}

#[test]
fn names_must_be_registered() {
    let mut bench = Bench::new();
    let shop = bench.login(SHOP);
    let event = EventName::parse("orders/unknown").unwrap();
    let result = bench.publish_as(&shop, Publish { event: event.clone(), ..publish("b25l") });
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownEvent);
    assert!(error.to_string().contains("orders/unknown"), "{error}");
    let subscribe = ensync_core::Subscribe { event: event.clone(), max_in_flight: None, max_bytes_in_flight: None };
    refused(bench.run(&shop, Command::Subscribe(subscribe)), ErrorKind::UnknownEvent);
    for command in
        [Command::Pause { event: event.clone(), reason: String::new() }, Command::Continue { event: event.clone() }]
    {
        refused(bench.run(&shop, command), ErrorKind::UnknownEvent);
    }
}

#[test]
fn first_use_registers_in_a_dev_engine_within_a_limit() {
    let options = EventOptions::default();
    let mut bench = Bench::with(
        |settings| {
            settings.dev = true;
            settings.limits.max_auto_events = 2;
        },
        options,
    );
    let shop = bench.login(SHOP);
    let name = |n: u32| EventName::parse(&format!("new/{n}")).unwrap();
    bench.publish_as(&shop, Publish { event: name(1), ..publish("b25l") }).unwrap();
    bench.publish_as(&shop, Publish { event: name(1), ..publish("b25l") }).unwrap();
    let subscribe = ensync_core::Subscribe { event: name(2), max_in_flight: None, max_bytes_in_flight: None };
    bench.run(&shop, Command::Subscribe(subscribe)).unwrap();
    let third = bench.publish_as(&shop, Publish { event: name(3), ..publish("b25l") });
    refused(third, ErrorKind::LimitExceeded);
    bench.restart();
    assert_eq!(bench.state.events().len(), 3);
}

#[test]
fn recipients_must_be_known_in_a_dev_engine_too() {
    for dev in [false, true] {
        let mut bench = Bench::with(|settings| settings.dev = dev, EventOptions::default());
        let shop = bench.login(SHOP);
        let result = bench.publish_as(&shop, Publish { recipient: app(99), ..publish("b25l") });
        refused(result, ErrorKind::UnknownRecipient);
        assert!(bench.state.queues().is_empty());
    }
}

#[test]
fn the_payload_has_its_limit_and_is_base64() {
    let mut bench = Bench::with(|settings| settings.limits.max_payload_bytes = 8, EventOptions::default());
    let shop = bench.login(SHOP);
    bench.publish_as(&shop, publish("AAAABBBB")).unwrap();
    let error = bench.publish_as(&shop, publish("AAAABBBBC")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PayloadTooLarge);
    assert!(error.to_string().contains("9 bytes") && error.to_string().contains('8'), "{error}");
    for bad in ["", "a;b", "{}"] {
        refused(bench.publish_as(&shop, publish(bad)), ErrorKind::MalformedEnvelope);
    }
    let large = Metadata::parse(&format!(r#"{{"a":"{}"}}"#, "x".repeat(70_000))).unwrap();
    let result = bench.publish_as(&shop, Publish { metadata: large, ..publish("b25l") });
    refused(result, ErrorKind::InvalidInput);
}

#[test]
fn what_no_published_client_could_take_is_not_accepted() {
    let mut bench = Bench::with(|_| {}, EventOptions::default());
    let shop = bench.login(SHOP);
    let of = |bytes: usize| WirePayload::from_wire("A".repeat(bytes));
    let most = (4 << 20) - (2 << 10);
    bench.publish_as(&shop, Publish { payload: of(most - 2), ..publish("b25l") }).unwrap();
    let result = bench.publish_as(&shop, Publish { payload: of(most + 4), ..publish("b25l") });
    refused(result, ErrorKind::PayloadTooLarge);
    // A replay carries metadata as text, in which each quotation mark takes two bytes.
    let metadata = Metadata::parse(&format!(r#"{{"a":[{}0]}}"#, r#""","#.repeat(10_000))).unwrap();
    let with = |bytes| Publish { payload: of(bytes), metadata: metadata.clone(), ..publish("b25l") };
    bench.publish_as(&shop, with(most - 51_000)).unwrap();
    refused(bench.publish_as(&shop, with(most - 49_000)), ErrorKind::PayloadTooLarge);
    // Who allows more has clients that take more.
    let mut bench = Bench::with(|settings| settings.limits.max_payload_bytes = 8 << 20, EventOptions::default());
    let shop = bench.login(SHOP);
    bench.publish_as(&shop, Publish { payload: of(5 << 20), ..publish("b25l") }).unwrap();
}

#[test]
fn a_schema_is_checked_on_what_the_sender_says() {
    let schema = Schema::parse(r#"{"order":"string"}"#).unwrap();
    let mut bench = Bench::with(|_| {}, EventOptions { schema: Some(schema), ..EventOptions::default() });
    let shop = bench.login(SHOP);
    let about = |text: &str| Some(PayloadMetadata::of_json(text).unwrap());
    let mut publish_about =
        |payload_metadata| bench.publish_as(&shop, Publish { payload_metadata, ..publish("b25l") }).map(drop);
    publish_about(about(r#"{"order":"o-1","more":1}"#)).unwrap();
    publish_about(None).unwrap();
    publish_about(Some(PayloadMetadata { byte_size: 1, ..PayloadMetadata::default() })).unwrap();
    let error = publish_about(Some(PayloadMetadata { unread: true, ..PayloadMetadata::default() })).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PayloadTooLarge);
    let error = publish_about(about(r#"{"order":1}"#)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
    assert!(error.to_string().contains(EVENT), "{error}");
}

#[test]
fn rights_are_per_name_or_for_all() {
    let mut bench = Bench::new();
    let (shop, warehouse) = (bench.login(SHOP), bench.login(WAREHOUSE));
    let read = Rights { publish: false, subscribe: true };
    let grant = |n, event, rights| AdminCommand::Grant { app: app(n), event, rights };
    bench.administer(grant(SHOP, Some(event()), read)).unwrap();
    refused(bench.publish_as(&shop, publish("b25l")), ErrorKind::Forbidden);
    bench.subscribe(&shop, None).unwrap();

    bench.administer(grant(WAREHOUSE, None, Rights::NONE)).unwrap();
    refused(bench.subscribe(&warehouse, None), ErrorKind::Forbidden);
    refused(bench.run(&warehouse, Command::Pause { event: event(), reason: String::new() }), ErrorKind::Forbidden);
    bench.administer(grant(WAREHOUSE, Some(event()), Rights::ALL)).unwrap();
    bench.restart();
    let (shop, warehouse) = (bench.login(SHOP), bench.login(WAREHOUSE));
    bench.subscribe(&warehouse, None).unwrap();
    refused(bench.publish_as(&shop, publish("b25l")), ErrorKind::Forbidden);
}

#[test]
fn a_publish_is_deduplicated_by_sender_recipient_name_and_key() {
    let mut bench = Bench::new();
    let (shop, other, warehouse) = (bench.login(SHOP), bench.login(STRANGER), bench.consumer(WAREHOUSE));
    let first = bench.publish_as(&shop, keyed("b25l", "k")).unwrap();
    assert_eq!(bench.publish_as(&shop, keyed("dHdv", "k")).unwrap(), first);
    // Across sessions, and after the event is settled.
    let delivery = bench.deliver_one(&warehouse);
    bench.ack(&warehouse, &delivery).unwrap();
    let again = bench.login(SHOP);
    assert_eq!(bench.publish_as(&again, keyed("b25l", "k")).unwrap(), first);
    assert_eq!(bench.deliver(&warehouse), []);

    assert_ne!(bench.publish_as(&shop, keyed("b25l", "l")).unwrap(), first);
    assert_ne!(bench.publish_as(&other, keyed("b25l", "k")).unwrap(), first);
    let name = EventName::parse("orders/status/other").unwrap();
    bench.administer(AdminCommand::RegisterEvent { name: name.clone(), options: EventOptions::default() }).unwrap();
    let named = Publish { event: name, ..keyed("b25l", "k") };
    let second = bench.publish_as(&shop, named.clone()).unwrap();
    assert_ne!(second, first);
    assert_eq!(bench.publish_as(&shop, named).unwrap(), second);
    let elsewhere = Publish { recipient: app(STRANGER), ..keyed("b25l", "k") };
    assert_ne!(bench.publish_as(&shop, elsewhere).unwrap(), first);
    assert_eq!(bench.stats().counters.published, 3);
}

#[test]
fn deduplication_survives_a_restart_and_ends_with_the_window() {
    let mut bench = Bench::new();
    let shop = bench.login(SHOP);
    let first = bench.publish_as(&shop, keyed("b25l", "k")).unwrap();
    bench.advance(60_000);
    bench.restart();
    let shop = bench.login(SHOP);
    assert_eq!(bench.publish_as(&shop, keyed("b25l", "k")).unwrap(), first);
    bench.advance(59_999);
    assert_eq!(bench.publish_as(&shop, keyed("b25l", "k")).unwrap(), first);
    bench.advance(1);
    assert_ne!(bench.publish_as(&shop, keyed("b25l", "k")).unwrap(), first);
}

/// Those who look at a log do not know how its engine was set up.
#[test]
fn a_key_that_was_used_again_is_two_events_whatever_the_window_is_later() {
    let mut bench = Bench::new();
    let shop = bench.login(SHOP);
    bench.publish_as(&shop, keyed("b25l", "k")).unwrap();
    bench.advance(120_000);
    bench.publish_as(&shop, keyed("dHdv", "k")).unwrap();
    bench.settings.limits.dedup_window = std::time::Duration::MAX;
    bench.restart();
    assert_eq!(bench.counts(), [2, 0, 0, 0]);
}

#[test]
fn one_app_does_not_shorten_the_window_of_another() {
    let mut bench = Bench::with(|settings| settings.limits.dedup_entries_per_app = 2, EventOptions::default());
    let (shop, stranger) = (bench.login(SHOP), bench.login(STRANGER));
    let quiet = bench.publish_as(&stranger, keyed("b25l", "k")).unwrap();
    let busy: Vec<_> = ["a", "b", "c"].map(|key| bench.publish_as(&shop, keyed("b25l", key)).unwrap()).into();
    bench.restart();
    let (shop, stranger) = (bench.login(SHOP), bench.login(STRANGER));
    assert_eq!(bench.publish_as(&stranger, keyed("b25l", "k")).unwrap(), quiet);
    assert_eq!(bench.publish_as(&shop, keyed("b25l", "c")).unwrap(), busy[2]);
    assert_ne!(bench.publish_as(&shop, keyed("b25l", "a")).unwrap(), busy[0]);
    bench.adopt(crate::state::State::restore(bench.settings.clone(), bench.state.snapshot()));
    assert_eq!(bench.state.snapshot(), bench.replayed().snapshot());
}

#[test]
fn two_publishes_of_one_key_in_one_batch_are_one_event() {
    let mut bench = Bench::new();
    let (shop, warehouse) = (bench.login(SHOP), bench.consumer(WAREHOUSE));
    let mut decide = |text| {
        let admitted = Admitted::new(keyed(text, "k"), &bench.settings.limits).unwrap();
        bench.state.publish(&shop, admitted).unwrap()
    };
    let Step::Commit(changes) = decide("b25l") else { panic!() };
    let Step::Same(event) = decide("dHdv") else { panic!() };
    assert_eq!(changes[0].record.event(), Some(event));
    bench.commit(&changes);
    assert_eq!(bench.deliver_one(&warehouse).payload, WirePayload::from_wire("b25l"));
    bench.restart();
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
}

#[test]
fn what_the_log_refused_leaves_no_trace() {
    let mut bench = Bench::new();
    let (shop, warehouse) = (bench.login(SHOP), bench.consumer(WAREHOUSE));
    let step = bench.state.decide(&shop, Command::Publish(keyed("b25l", "k"))).unwrap();
    assert!(matches!(step, Step::Commit(_)));
    bench.state.batch_ends();
    assert_eq!(bench.deliver(&warehouse), []);
    bench.publish_as(&shop, keyed("dHdv", "k")).unwrap();
    assert_eq!(texts(&bench.deliver(&warehouse)), ["dHdv"]);
}

#[test]
fn an_event_that_need_not_persist_is_not_logged_and_otherwise_the_same() {
    let mut bench = Bench::new();
    let (shop, warehouse) = (bench.login(SHOP), bench.consumer(WAREHOUSE));
    let logged = bench.log.len();
    let kept = Publish { idempotency_key: IdempotencyKey::parse("k").ok(), ..transient("b25l") };
    let id = bench.publish_as(&shop, kept.clone()).unwrap();
    assert_eq!(bench.publish_as(&shop, kept).unwrap(), id);
    let first = bench.deliver_one(&warehouse);
    bench.settle(&warehouse, &id, None, defer(1_000)).unwrap();
    bench.advance(1_000);
    let second = bench.deliver_one(&warehouse);
    assert_eq!((second.attempt, second.id == first.id), (Some(2), true));
    bench.settle(&warehouse, &id, None, discard("no")).unwrap();
    let letter = bench.state.dead_letters(None, None, 9).pop().unwrap();
    bench.letter(LetterAction::Requeue, &letter.id).unwrap();
    let third = bench.deliver_one(&warehouse);
    assert_eq!(bench.replay(&warehouse, &id).unwrap().payload, third.payload);
    bench.ack(&warehouse, &third).unwrap();
    refused(bench.replay(&warehouse, &id), ErrorKind::NotFound);
    assert_eq!((bench.log.len(), bench.state.partitions[0].memory.len()), (logged, 0));
}

#[test]
fn what_is_in_memory_only_is_gone_after_a_restart_and_its_id_with_it() {
    let mut bench = Bench::new();
    let shop = bench.login(SHOP);
    let kept = bench.publish_as(&shop, publish("b25l")).unwrap();
    let lost = bench.publish_as(&shop, transient("dHdv")).unwrap();
    assert_eq!(bench.counts(), [2, 0, 0, 0]);
    bench.restart();
    let (shop, warehouse) = (bench.login(SHOP), bench.consumer(WAREHOUSE));
    // Its sequence number is given out again; its id still names nothing.
    let next = bench.publish_as(&shop, transient("dHJlZQ")).unwrap();
    let found = bench.deliver(&warehouse);
    assert_eq!(found.iter().map(|delivery| &delivery.id).collect::<Vec<_>>(), [&kept, &next]);
    refused(bench.settle(&warehouse, &lost, None, ensync_core::Settlement::Ack), ErrorKind::NotFound);
    refused(bench.replay(&warehouse, &lost), ErrorKind::NotFound);
}

#[test]
fn persistence_is_the_default_and_only_false_ends_it() {
    let mut bench = Bench::new();
    let shop = bench.login(SHOP);
    for metadata in ["{}", r#"{"persist":true}"#, r#"{"persist":0}"#, r#"{"headers":{"persist":false}}"#] {
        let metadata = Metadata::parse(metadata).unwrap();
        bench.publish_as(&shop, Publish { metadata, ..publish("b25l") }).unwrap();
        assert!(matches!(&**bench.log.last().unwrap(), Record::Publish(_)));
    }
    bench.restart();
    assert_eq!(bench.counts(), [4, 0, 0, 0]);
}
