use std::time::Duration;

use ensync_core::{ErrorKind, Settlement};

use super::bench::*;
use crate::model::{AdminCommand, EventOptions};
use crate::state::LetterAction;

fn bench(ttl: u64) -> Bench {
    Bench::with(|_| {}, EventOptions { ttl: Some(Duration::from_millis(ttl)), ..EventOptions::default() })
}

#[test]
fn an_event_that_nobody_takes_expires() {
    let mut bench = bench(10_000);
    bench.publish("b25l");
    bench.advance(5_000);
    bench.publish("dHdv");
    assert_eq!(bench.state.next_due(), Some(bench.now.after(Duration::from_secs(5))));
    bench.advance(5_000);
    assert_eq!((bench.counts(), bench.stats().counters.expired), ([1, 0, 0, 0], 1));
    let warehouse = bench.consumer(WAREHOUSE);
    assert_eq!(texts(&bench.deliver(&warehouse)), ["dHdv"]);
}

#[test]
fn the_engine_may_have_a_default() {
    let ttl = |settings: &mut crate::state::Settings| settings.defaults.ttl = Some(Duration::from_secs(1));
    let mut bench = Bench::with(ttl, EventOptions::default());
    bench.publish("b25l");
    bench.advance(1_000);
    assert_eq!(bench.counts(), [0; 4]);
}

#[test]
fn a_client_may_finish_what_expires_in_its_hands() {
    let mut bench = bench(10_000);
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    bench.publish("dHdv");
    let deliveries = bench.deliver(&warehouse);
    bench.advance(20_000);
    assert_eq!(bench.counts(), [0, 2, 0, 0]);
    bench.ack(&warehouse, &deliveries[0]).unwrap();
    bench.settle(&warehouse, &deliveries[1].id, None, Settlement::Rollback).unwrap();
    assert_eq!(bench.deliver(&warehouse), []);
    let counters = bench.stats().counters;
    assert_eq!((counters.acked, counters.expired, bench.counts()), (1, 1, [0; 4]));
}

#[test]
fn a_deferred_event_expires_while_it_waits() {
    let mut bench = bench(10_000);
    let warehouse = bench.consumer(WAREHOUSE);
    let id = bench.publish("b25l");
    bench.deliver_one(&warehouse);
    bench.settle(&warehouse, &id, None, defer(60_000)).unwrap();
    bench.advance(10_000);
    assert_eq!((bench.counts(), bench.stats().counters.expired), ([0; 4], 1));
    // Also one that had expired when it was deferred.
    let id = bench.publish("b25l");
    bench.deliver_one(&warehouse);
    bench.advance(10_000);
    bench.settle(&warehouse, &id, None, defer(60_000)).unwrap();
    bench.advance(0);
    assert_eq!(bench.counts(), [0; 4]);
}

#[test]
fn dead_letters_do_not_expire_and_get_a_new_time_when_put_back() {
    let mut bench = bench(10_000);
    let warehouse = bench.consumer(WAREHOUSE);
    let id = bench.publish("b25l");
    bench.deliver_one(&warehouse);
    bench.settle(&warehouse, &id, None, discard("no")).unwrap();
    bench.logout(&warehouse);
    bench.advance(100_000);
    assert_eq!(bench.counts(), [0, 0, 0, 1]);
    bench.letter(LetterAction::Requeue, &id).unwrap();
    bench.advance(9_999);
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
    bench.restart();
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
    bench.advance(1);
    assert_eq!(bench.counts(), [0; 4]);
}

#[test]
fn a_shorter_time_to_live_overtakes_a_longer_one() {
    let mut bench = Bench::new();
    bench.publish("b25l");
    let options = EventOptions { ttl: Some(Duration::from_secs(1)), ..EventOptions::default() };
    bench.administer(AdminCommand::RegisterEvent { name: event(), options }).unwrap();
    bench.publish("dHdv");
    bench.advance(1_000);
    let warehouse = bench.consumer(WAREHOUSE);
    assert_eq!(texts(&bench.deliver(&warehouse)), ["b25l"]);
}

#[test]
fn what_expired_while_the_engine_was_down_is_not_delivered() {
    let mut bench = bench(10_000);
    bench.publish("b25l");
    bench.now = bench.now.after(Duration::from_secs(10));
    bench.restart();
    let warehouse = bench.consumer(WAREHOUSE);
    assert_eq!((bench.deliver(&warehouse), bench.counts()), (vec![], [0; 4]));
}

#[test]
fn settled_events_leave_no_timers_behind() {
    let mut bench = bench(3_600_000);
    let warehouse = bench.consumer(WAREHOUSE);
    for _ in 0..200 {
        bench.publish("b25l");
        let delivery = bench.deliver_one(&warehouse);
        bench.ack(&warehouse, &delivery).unwrap();
        bench.advance(1);
    }
    assert_eq!(bench.state.next_due(), None);
}

#[test]
fn an_expired_event_is_stale_or_gone() {
    let mut bench = bench(10_000);
    let id = bench.publish("b25l");
    bench.advance(10_000);
    let warehouse = bench.consumer(WAREHOUSE);
    refused(bench.settle(&warehouse, &id, None, Settlement::Ack), ErrorKind::StaleDelivery);
    let replayed = bench.replay(&warehouse, &id).unwrap();
    assert_eq!(replayed.metadata.replay_info().unwrap().was_acknowledged, Some(false));
}
