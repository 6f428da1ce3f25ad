//! What apps may use up.

use std::num::NonZeroU32;

use ensync_core::{AppKey, ClientId, ErrorKind};

use super::bench::*;
use crate::model::{AdminCommand, EventOptions, KeyHash};
use crate::state::{LetterAction, Quotas, Rate};

#[test]
fn an_app_has_so_many_sessions_and_others_do_not_notice() {
    let mut bench = Bench::with(|settings| settings.limits.max_sessions_per_app = 2, EventOptions::default());
    let first = bench.login(SHOP);
    bench.login(SHOP);
    let client = |n: u32| ClientId::parse(&format!("more-{n}")).unwrap();
    let error = bench.state.login(&key_hash(SHOP), client(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.to_string().contains("2 sessions") && error.to_string().contains("max_sessions_per_app"), "{error}");
    bench.login(WAREHOUSE);
    bench.logout(&first);
    bench.state.login(&key_hash(SHOP), client(2)).unwrap();
    bench.state.login(&key_hash(SHOP), client(3)).unwrap_err();
}

#[test]
fn an_app_publishes_so_fast_and_others_do_not_notice() {
    let rate = Rate { per_second: NonZeroU32::new(10).unwrap(), burst: NonZeroU32::new(3).unwrap() };
    let mut bench = Bench::with(|settings| settings.limits.publish_rate = Some(rate), EventOptions::default());
    // The limit is the app's, not the session's.
    let (one, two, other) = (bench.login(SHOP), bench.login(SHOP), bench.login(WAREHOUSE));
    for peer in [&one, &two, &one] {
        bench.publish_as(peer, publish("b25l")).unwrap();
    }
    let error = bench.publish_as(&two, publish("b25l")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.is_retryable());
    assert!(error.to_string().contains("publish_rate") && error.to_string().contains("in 100 ms"), "{error}");
    bench.publish_as(&other, publish("b25l")).unwrap();
    bench.advance(100);
    bench.publish_as(&two, publish("b25l")).unwrap();
    refused(bench.publish_as(&one, publish("b25l")), ErrorKind::LimitExceeded);
}

#[test]
fn hashes_of_keys_are_equal_when_all_of_them_is() {
    let hash = KeyHash::of(&AppKey::parse("key").unwrap());
    assert_eq!(hash, KeyHash::from_bytes(*hash.as_bytes()));
    for bit in 0..256 {
        let mut other = *hash.as_bytes();
        other[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(hash, KeyHash::from_bytes(other));
    }
}

/// Publishes until a quota is used up; how many were taken, and which quota.
fn fill(bench: &mut Bench, what: impl Fn() -> ensync_core::Publish) -> (usize, String) {
    let shop = bench.login(SHOP);
    for taken in 0..100 {
        if let Err(error) = bench.publish_as(&shop, what()) {
            assert_eq!(error.kind(), ErrorKind::LimitExceeded);
            return (taken, error.to_string());
        }
    }
    panic!("no end");
}

#[test]
fn each_quota_has_an_end_and_says_which_it_is() {
    let to_shop = || ensync_core::Publish { recipient: app(SHOP), ..publish("b25l") };
    for (set, memory, taken, name) in [
        ((|q| q.queue_events = 3) as fn(&mut Quotas), false, 3, "queue_events"),
        // "b25l" and "{}".
        (|q| q.queue_bytes = 13, false, 2, "queue_bytes"),
        (|q| q.app_events = 3, false, 3, "app_events"),
        (|q| q.app_bytes = 18, false, 3, "app_bytes"),
        (|q| q.app_memory = 1_200, true, 2, "app_memory"),
        (|q| q.memory = 1_200, true, 2, "memory"),
    ] {
        let mut bench = Bench::with(|settings| set(&mut settings.limits.quotas), EventOptions::default());
        let (found, said) = fill(&mut bench, || if memory { transient("b25l") } else { publish("b25l") });
        assert!(said.contains(&format!("(quotas.{name})")), "{said}");
        assert_eq!(found, taken, "{said}");
        // Another recipient has a quota of its own; memory is one for all.
        let shop = bench.login(SHOP);
        bench.publish_as(&shop, to_shop()).unwrap();
        // What is settled makes room, also for what was there before a restart.
        if !memory {
            bench.restart();
            fill(&mut bench, || publish("b25l"));
        }
        let warehouse = bench.consumer(WAREHOUSE);
        let delivered = bench.deliver_all();
        let (_, first) = delivered.iter().find(|(client, _)| *client == warehouse.client_id).unwrap();
        bench.ack(&warehouse, first).unwrap();
        let (again, _) = fill(&mut bench, || if memory { transient("b25l") } else { publish("b25l") });
        assert_eq!(again, 1, "{name}");
    }
}

#[test]
fn dead_letters_count_until_they_are_given_up() {
    let mut bench = Bench::with(|settings| settings.limits.quotas.queue_events = 1, EventOptions::default());
    bench.publish("b25l");
    let warehouse = bench.consumer(WAREHOUSE);
    let delivery = bench.deliver_one(&warehouse);
    bench.settle(&warehouse, &delivery.id, None, discard("no")).unwrap();
    assert_eq!(fill(&mut bench, || publish("b25l")).0, 0);
    bench.letter(LetterAction::Drop, &delivery.id).unwrap();
    assert_eq!(fill(&mut bench, || publish("b25l")).0, 1);
    // What goes with its app is not counted any more.
    bench.administer(AdminCommand::DeleteApp { app: app(WAREHOUSE) }).unwrap();
    assert!(bench.state.partitions[0].usage.is_empty());
}
