//! Every command, tried with another app's event.

use ensync_core::{ErrorKind, Peer, Settlement};

use super::bench::*;

#[test]
fn another_apps_events_do_not_exist() {
    let mut bench = Bench::new();
    let (warehouse, stranger) = (bench.consumer(WAREHOUSE), bench.consumer(STRANGER));
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    let before = format!("{:?}", bench.state.snapshot());
    for block in [None, Some(delivery.block)] {
        for how in [Settlement::Ack, Settlement::Rollback, defer(0), defer(1_000), discard("")] {
            let error = bench.settle(&stranger, &delivery.id, block, how).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(!error.to_string().contains("orders"), "{error}");
        }
    }
    let unknown = bench.replay(&stranger, &ensync_core::EventId::parse("x").unwrap()).unwrap_err();
    let foreign = bench.replay(&stranger, &delivery.id).unwrap_err();
    assert_eq!(unknown.to_refusal(), foreign.to_refusal());
    assert_eq!(foreign.kind(), ErrorKind::NotFound);
    for command in [
        Command::Pause { event: event(), reason: String::new() },
        Command::Continue { event: event() },
        Command::Unsubscribe { event: event() },
    ] {
        bench.run(&stranger, command).unwrap();
    }
    assert_eq!(format!("{:?}", bench.state.snapshot()), before);
    assert_eq!(bench.counts(), [0, 1, 0, 0]);
    bench.ack(&warehouse, &delivery).unwrap();
    // A settled one neither, and its acknowledgement cannot be repeated by others.
    refused(bench.ack(&stranger, &delivery), ErrorKind::NotFound);
}

#[test]
fn a_client_id_is_worth_nothing_with_another_app() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    let forged = Peer { client_id: warehouse.client_id.clone(), app_id: app(STRANGER) };
    refused(bench.run(&forged, Command::Heartbeat), ErrorKind::Unauthenticated);
    refused(bench.run(&forged, Command::Publish(publish("b25l"))), ErrorKind::Unauthenticated);
}

#[test]
fn an_unknown_key_opens_nothing() {
    let mut bench = Bench::new();
    let client = ensync_core::ClientId::parse("client").unwrap();
    refused(bench.state.login(&key_hash(99), client.clone()), ErrorKind::Unauthenticated);
    bench.state.login(&key_hash(SHOP), client.clone()).unwrap();
    refused(bench.state.login(&key_hash(SHOP), client), ErrorKind::Internal);
}
