use std::time::Duration;

use ensync_core::{ErrorKind, EventName, Schema};

use super::bench::*;
use crate::model::{AdminCommand, EventOptions, Rights};
use crate::state::Applied;

fn create(id: u8, key: u8, name: &str) -> AdminCommand {
    let (name, key_hash) = (name.into(), key_hash(key));
    AdminCommand::CreateApp { id: app(id), name, key_hash, rights: Rights::ALL, same_name: false }
}

#[test]
fn an_id_and_a_key_belong_to_one_app() {
    let mut bench = Bench::new();
    refused(bench.administer(create(SHOP, 50, "twice")), ErrorKind::Conflict);
    refused(bench.administer(create(50, SHOP, "same key")), ErrorKind::Conflict);
    // Two at once: the second is refused when it is applied.
    let both = [create(50, 50, "one"), create(50, 51, "two")].map(|what| bench.state.administer(what).unwrap());
    let applied = bench.commit(&both.concat());
    assert_eq!(applied, [Applied::Done, Applied::Taken]);
    refused(applied[1].clone().answer(), ErrorKind::Conflict);
    bench.restart();
    let apps = bench.state.apps();
    assert_eq!((apps.len(), apps[3].name.as_str()), (4, "one"));
}

#[test]
fn a_second_app_of_a_name_is_made_only_when_told() {
    let mut bench = Bench::new();
    refused(bench.administer(create(50, 50, "app 1")), ErrorKind::Conflict);
    let AdminCommand::CreateApp { id, name, key_hash, rights, .. } = create(50, 50, "app 1") else { unreachable!() };
    bench.administer(AdminCommand::CreateApp { id, name, key_hash, rights, same_name: true }).unwrap();
    assert_eq!(bench.state.apps().iter().filter(|app| app.name == "app 1").count(), 2);
}

#[test]
fn a_name_that_looks_like_another_apps_is_taken_only_when_told() {
    let mut bench = Bench::new();
    bench.administer(create(50, 50, "caf\u{e9} du nord")).unwrap();
    for name in ["cafe\u{301} du nord", "caf\u{e9}\u{a0}du nord", "caf\u{e9}  du\u{2003}nord"] {
        let error = bench.administer(create(51, 51, name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{name}");
        assert!(error.to_string().contains("a name that looks like"), "{error}");
    }
    let AdminCommand::CreateApp { id, name, key_hash, rights, .. } = create(51, 51, "cafe\u{301} du nord") else {
        unreachable!()
    };
    bench.administer(AdminCommand::CreateApp { id, name, key_hash, rights, same_name: true }).unwrap();
    bench.administer(create(52, 52, "cafe du nord")).unwrap();
}

#[test]
fn options_are_checked_and_replaced_and_first_use_does_not_touch_them() {
    let mut bench = Bench::with(|settings| settings.dev = true, EventOptions::default());
    let options = EventOptions {
        schema: Some(Schema::parse(r#"{"a":"string"}"#).unwrap()),
        ttl: Some(Duration::from_secs(9)),
        ..EventOptions::default()
    };
    let register = |options: &EventOptions| AdminCommand::RegisterEvent { name: event(), options: options.clone() };
    bench.administer(register(&options)).unwrap();
    let shop = bench.login(SHOP);
    bench.publish_as(&shop, publish("b25l")).unwrap();
    let bad = EventOptions { ttl: Some(Duration::ZERO), ..EventOptions::default() };
    refused(bench.administer(register(&bad)), ErrorKind::InvalidInput);
    bench.restart();
    assert_eq!(bench.state.events(), [(event(), options)]);
}

#[test]
fn rights_are_for_what_exists() {
    let mut bench = Bench::new();
    let grant = |n, event| AdminCommand::Grant { app: app(n), event, rights: Rights::NONE };
    refused(bench.administer(grant(99, None)), ErrorKind::NotFound);
    let unknown = EventName::parse("unknown").unwrap();
    refused(bench.administer(grant(SHOP, Some(unknown))), ErrorKind::UnknownEvent);
    bench.administer(grant(SHOP, Some(event()))).unwrap();
    bench.consumer(WAREHOUSE);
    let apps = bench.state.apps();
    assert_eq!((apps[0].id, apps[0].grants.clone()), (app(SHOP), vec![(event(), Rights::NONE)]));
    assert_eq!((apps[1].sessions, bench.state.sessions()), (1, 1));
}

#[test]
fn a_queues_numbers_add_up() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    let first = bench.now;
    for _ in 0..4 {
        bench.publish("b25l");
        bench.advance(10);
    }
    let deliveries = bench.deliver(&warehouse);
    bench.ack(&warehouse, &deliveries[0]).unwrap();
    bench.settle(&warehouse, &deliveries[1].id, None, defer(1_000)).unwrap();
    bench.settle(&warehouse, &deliveries[2].id, None, discard("no")).unwrap();
    bench.run(&warehouse, Command::Unsubscribe { event: event() }).unwrap();
    bench.publish("b25l");
    let stats = bench.stats();
    assert_eq!((bench.counts(), stats.consumers), ([1, 1, 1, 1], 0));
    assert_eq!(stats.oldest, Some(first.after(Duration::from_millis(10))));
    let counters = stats.counters;
    let all = [counters.published, counters.delivered, counters.redelivered, counters.acked, counters.dead];
    assert_eq!(all, [5, 4, 0, 1, 1]);
    assert_eq!(bench.state.queues(), [stats]);
}
