use ensync_core::ErrorKind;

use super::bench::*;
use crate::model::EventOptions;

#[test]
fn each_event_goes_to_one_client_in_turn() {
    let mut bench = Bench::new();
    let peers = [bench.consumer(WAREHOUSE), bench.consumer(WAREHOUSE), bench.consumer(WAREHOUSE)];
    let ids: Vec<_> = (0..9).map(|_| bench.publish("b25l")).collect();
    let delivered = bench.deliver_all();
    assert!(delivered.iter().map(|(_, delivery)| &delivery.id).eq(&ids));
    for (index, (client, _)) in delivered.iter().enumerate() {
        assert_eq!(*client, peers[index % 3].client_id);
    }
}

#[test]
fn events_come_in_the_order_they_were_accepted() {
    let mut bench = Bench::new();
    let ids: Vec<_> = (0..100).map(|_| bench.publish("b25l")).collect();
    let warehouse = bench.consumer(WAREHOUSE);
    assert!(bench.deliver(&warehouse).iter().map(|delivery| &delivery.id).eq(&ids));
}

#[test]
fn an_event_that_is_no_bodys_waits() {
    let mut bench = Bench::new();
    bench.publish("b25l");
    let shop = bench.consumer(SHOP);
    assert_eq!(bench.deliver(&shop), []);
    let warehouse = bench.login(WAREHOUSE);
    assert_eq!(bench.deliver(&warehouse), []);
    bench.subscribe(&warehouse, None).unwrap();
    assert_eq!(texts(&bench.deliver(&warehouse)), ["b25l"]);
}

#[test]
fn the_window_counts_events() {
    let mut bench = Bench::new();
    let warehouse = bench.login(WAREHOUSE);
    bench.subscribe(&warehouse, Some(2)).unwrap();
    for _ in 0..5 {
        bench.publish("b25l");
    }
    let first = bench.deliver(&warehouse);
    assert_eq!(first.len(), 2);
    bench.ack(&warehouse, &first[1]).unwrap();
    let second = bench.deliver_one(&warehouse);
    assert_eq!(bench.counts(), [2, 2, 0, 0]);
    // A larger window by subscribing again.
    bench.subscribe(&warehouse, Some(3)).unwrap();
    bench.deliver_one(&warehouse);
    // A smaller one takes nothing back.
    bench.subscribe(&warehouse, Some(1)).unwrap();
    bench.ack(&warehouse, &second).unwrap();
    assert_eq!(bench.deliver(&warehouse), []);
}

/// What a client cannot use now, or at all, need not keep others from it until its lease ends.
#[test]
fn a_deferred_event_makes_room_at_once() {
    let mut bench = Bench::new();
    let warehouse = bench.login(WAREHOUSE);
    bench.subscribe(&warehouse, Some(2)).unwrap();
    for text in ["b25l", "dHdv", "dHJl"] {
        bench.publish(text);
    }
    let held = bench.deliver(&warehouse);
    assert_eq!(held.len(), 2);
    bench.settle(&warehouse, &held[0].id, Some(held[0].block), defer(60_000)).unwrap();
    assert_eq!(texts(&bench.deliver(&warehouse)), ["dHJl"]);
    assert_eq!(bench.counts(), [0, 2, 1, 0]);
}

#[test]
fn the_engine_has_the_last_word_on_windows() {
    let mut bench = Bench::with(
        |settings| settings.limits.max_in_flight = std::num::NonZeroU32::new(3).unwrap(),
        EventOptions::default(),
    );
    for _ in 0..9 {
        bench.publish("b25l");
    }
    for asked in [None, Some(100)] {
        let warehouse = bench.login(WAREHOUSE);
        bench.subscribe(&warehouse, asked).unwrap();
        assert_eq!(bench.deliver(&warehouse).len(), 3);
    }
}

#[test]
fn the_window_counts_bytes_but_always_takes_one() {
    // Each event weighs its text and two bytes of metadata.
    let mut bench = Bench::with(|settings| settings.limits.max_bytes_in_flight = 20, EventOptions::default());
    let warehouse = bench.consumer(WAREHOUSE);
    for text in ["AAAABBBB", "AAAABBBB", "AAAA", "AAAABBBBCCCCDDDDEEEEFFFF", "AAAA"] {
        bench.publish(text);
    }
    let first = bench.deliver(&warehouse);
    assert_eq!(texts(&first), ["AAAABBBB", "AAAABBBB"]);
    bench.ack(&warehouse, &first[0]).unwrap();
    assert_eq!(texts(&bench.deliver(&warehouse)), ["AAAA"]);
    // The large one waits until the window is empty, and order is kept meanwhile.
    bench.ack(&warehouse, &first[1]).unwrap();
    assert_eq!(bench.deliver(&warehouse), []);
    let other = bench.consumer(WAREHOUSE);
    let found = bench.deliver_all();
    assert_eq!(found.iter().filter(|(client, _)| *client == other.client_id).count(), 1);
    // And what came behind it goes to who was passed over.
    assert_eq!(texts(found.iter().map(|(_, delivery)| delivery)), ["AAAABBBBCCCCDDDDEEEEFFFF", "AAAA"]);
    assert_eq!(found[1].0, warehouse.client_id);
}

#[test]
fn a_client_may_ask_for_a_smaller_window_of_bytes() {
    let mut bench = Bench::with(|settings| settings.limits.max_bytes_in_flight = 30, EventOptions::default());
    for _ in 0..9 {
        bench.publish("AAAABBBB");
    }
    // Three of ten bytes each are what the engine allows at most.
    for (asked, got) in [(1, 1), (19, 1), (20, 2), (1_000, 3)] {
        let warehouse = bench.login(WAREHOUSE);
        let max_bytes_in_flight = std::num::NonZeroU64::new(asked);
        let subscribe = ensync_core::Subscribe { event: event(), max_in_flight: None, max_bytes_in_flight };
        bench.run(&warehouse, Command::Subscribe(subscribe)).unwrap();
        assert_eq!(bench.deliver(&warehouse).len(), got, "of {asked} bytes");
        bench.logout(&warehouse);
    }
}

#[test]
fn who_is_full_does_not_hold_up_the_others() {
    let mut bench = Bench::new();
    let (small, large) = (bench.login(WAREHOUSE), bench.login(WAREHOUSE));
    bench.subscribe(&small, Some(1)).unwrap();
    bench.subscribe(&large, None).unwrap();
    for _ in 0..10 {
        bench.publish("b25l");
    }
    let delivered = bench.deliver_all();
    assert_eq!(delivered.iter().filter(|(client, _)| *client == small.client_id).count(), 1);
    assert_eq!(delivered.len(), 10);
}

#[test]
fn a_pause_halts_one_client_only() {
    let mut bench = Bench::new();
    let (one, two) = (bench.consumer(WAREHOUSE), bench.consumer(WAREHOUSE));
    bench.run(&one, Command::Pause { event: event(), reason: "lunch".into() }).unwrap();
    bench.publish("b25l");
    bench.publish("dHdv");
    assert_eq!(bench.deliver(&two).len(), 2);
    bench.run(&two, Command::Pause { event: event(), reason: String::new() }).unwrap();
    bench.publish("dHJlZQ");
    assert_eq!(bench.deliver(&one), []);
    bench.run(&one, Command::Continue { event: event() }).unwrap();
    assert_eq!(texts(&bench.deliver(&one)), ["dHJlZQ"]);
}

#[test]
fn a_pause_may_come_first_and_ends_with_the_session() {
    let mut bench = Bench::new();
    let one = bench.login(WAREHOUSE);
    bench.run(&one, Command::Pause { event: event(), reason: String::new() }).unwrap();
    bench.subscribe(&one, None).unwrap();
    bench.publish("b25l");
    assert_eq!(bench.deliver(&one), []);
    bench.logout(&one);
    let two = bench.consumer(WAREHOUSE);
    assert_eq!(texts(&bench.deliver(&two)), ["b25l"]);
}

#[test]
fn a_paused_client_may_settle_what_it_has() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    bench.run(&warehouse, Command::Pause { event: event(), reason: String::new() }).unwrap();
    bench.ack(&warehouse, &delivery).unwrap();
    assert_eq!(bench.counts(), [0, 0, 0, 0]);
}

#[test]
fn unsubscribing_stops_deliveries_and_leaves_leases_alone() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    for _ in 0..2 {
        bench.run(&warehouse, Command::Unsubscribe { event: event() }).unwrap();
    }
    bench.publish("dHdv");
    assert_eq!(bench.deliver(&warehouse), []);
    assert_eq!(bench.counts(), [1, 1, 0, 0]);
    bench.ack(&warehouse, &delivery).unwrap();
    bench.subscribe(&warehouse, None).unwrap();
    assert_eq!(texts(&bench.deliver(&warehouse)), ["dHdv"]);
}

#[test]
fn releasing_hands_back_what_is_held() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    bench.run(&warehouse, Command::Unsubscribe { event: event() }).unwrap();
    bench.run(&warehouse, Command::Release { event: event() }).unwrap();
    bench.run(&warehouse, Command::Release { event: "never/used".parse().unwrap() }).unwrap();
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
    assert_eq!(bench.ack(&warehouse, &delivery).unwrap_err().kind(), ErrorKind::StaleDelivery);
    let other = bench.consumer(WAREHOUSE);
    let again = bench.deliver_one(&other);
    assert_eq!((again.id, again.attempt), (delivery.id, Some(2)));
}

#[test]
fn what_is_still_held_counts_in_a_new_subscription() {
    let mut bench = Bench::new();
    let warehouse = bench.login(WAREHOUSE);
    bench.subscribe(&warehouse, Some(1)).unwrap();
    bench.publish("b25l");
    bench.publish("dHdv");
    bench.deliver_one(&warehouse);
    bench.run(&warehouse, Command::Unsubscribe { event: event() }).unwrap();
    bench.subscribe(&warehouse, Some(1)).unwrap();
    assert_eq!(bench.deliver(&warehouse), []);
}

#[test]
fn subscribing_over_and_over_piles_nothing_up() {
    let mut bench = Bench::new();
    let warehouse = bench.login(WAREHOUSE);
    for _ in 0..10 {
        bench.subscribe(&warehouse, None).unwrap();
        bench.subscribe(&warehouse, None).unwrap();
        bench.run(&warehouse, Command::Unsubscribe { event: event() }).unwrap();
        let other = bench.consumer(WAREHOUSE);
        bench.logout(&other);
    }
    assert!(bench.state.partitions[0].queues.values().all(|queue| queue.ring.is_empty()));
    assert!(bench.state.partitions[0].queues.values().all(|queue| queue.consumers.is_empty()));
}

#[test]
fn sessions_and_subscriptions_have_their_limits() {
    let mut bench = Bench::with(
        |settings| {
            settings.dev = true;
            settings.limits.max_subscriptions = 1;
            settings.limits.max_sessions = 2;
        },
        EventOptions::default(),
    );
    let warehouse = bench.consumer(WAREHOUSE);
    bench.subscribe(&warehouse, Some(1)).unwrap();
    let other = ensync_core::EventName::parse("other").unwrap();
    let subscribe = ensync_core::Subscribe { event: other.clone(), max_in_flight: None, max_bytes_in_flight: None };
    refused(bench.run(&warehouse, Command::Subscribe(subscribe)), ErrorKind::LimitExceeded);
    bench.login(WAREHOUSE);
    let third = bench.state.login(&key_hash(SHOP), ensync_core::ClientId::parse("third").unwrap());
    refused(third, ErrorKind::LimitExceeded);
}

#[test]
fn a_budget_is_kept_and_the_rest_comes_next() {
    let mut bench = Bench::new();
    let _warehouse = bench.consumer(WAREHOUSE);
    for _ in 0..100 {
        bench.publish("b25l");
    }
    assert_eq!(bench.state.dispatch(70).len(), 70);
    assert!(bench.state.has_work());
    assert_eq!(bench.state.dispatch(70).len(), 30);
    assert!(!bench.state.has_work());
}
