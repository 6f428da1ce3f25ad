use std::time::Duration;

use ensync_core::{Block, ErrorKind, EventId, Reply, Settle, Settlement};

use super::bench::*;
use crate::model::{EventOptions, Position, Record};
use crate::state::{Applied, LetterAction, Source, Step};

#[test]
fn an_acknowledged_event_is_gone() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    assert_eq!(bench.ack(&warehouse, &delivery).unwrap(), Reply::Done);
    bench.logout(&warehouse);
    let warehouse = bench.consumer(WAREHOUSE);
    assert_eq!((bench.deliver(&warehouse), bench.counts()), (vec![], [0; 4]));
    bench.restart();
    assert_eq!(bench.counts(), [0; 4]);
}

#[test]
fn acknowledging_again_is_done_also_from_another_session_and_after_a_restart() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    for _ in 0..2 {
        bench.ack(&warehouse, &delivery).unwrap();
    }
    bench.restart();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.ack(&warehouse, &delivery).unwrap();
    // Only for the delivery that did it, and only for the same settlement.
    let other = Block::new(delivery.block.as_u64() + 1).unwrap();
    refused(bench.settle(&warehouse, &delivery.id, Some(other), Settlement::Ack), ErrorKind::StaleDelivery);
    for how in [Settlement::Rollback, defer(1_000), discard("")] {
        let result = bench.settle(&warehouse, &delivery.id, Some(delivery.block), how);
        refused(result, ErrorKind::StaleDelivery);
    }
}

/// Settles one delivery several ways in one batch.
fn settle_at_once(ways: &[Settlement]) -> (Vec<Applied>, [usize; 4]) {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    let mut batch = Vec::new();
    for how in ways {
        let (id, block) = (delivery.id.clone(), Some(delivery.block));
        let settle = ensync_core::Settle { id, event: None, block, how: how.clone() };
        match bench.state.decide(&warehouse, Command::Settle(settle)).unwrap() {
            Step::Commit(changes) => batch.extend(changes),
            other => panic!("{other:?}"),
        }
    }
    let applied = bench.commit(&batch);
    bench.check();
    assert_eq!(bench.replayed().snapshot(), bench.state.snapshot());
    (applied, bench.counts())
}

#[test]
fn two_acknowledgements_in_one_batch_are_both_done() {
    let ways = [Settlement::Ack, Settlement::Ack, defer(1_000), discard("")];
    assert_eq!(settle_at_once(&ways), (vec![Applied::Done, Applied::Done, Applied::Stale, Applied::Stale], [0; 4]));
}

#[test]
fn nothing_undoes_a_discard_in_one_batch() {
    let ways = [discard(""), Settlement::Ack, defer(1_000), discard("")];
    let applied = vec![Applied::Done, Applied::Stale, Applied::Stale, Applied::Stale];
    assert_eq!(settle_at_once(&ways), (applied, [0, 0, 0, 1]));
}

#[test]
fn who_defers_and_then_acknowledges_in_one_batch_is_done_with_it() {
    let (applied, counts) = settle_at_once(&[defer(1_000), Settlement::Ack]);
    assert!(matches!(applied[..], [Applied::Deferred(_), Applied::Done]), "{applied:?}");
    assert_eq!(counts, [0; 4]);
}

#[test]
fn without_a_block_the_sessions_live_delivery_is_meant() {
    let mut bench = Bench::new();
    let (one, two) = (bench.consumer(WAREHOUSE), bench.login(WAREHOUSE));
    let id = bench.publish("b25l");
    refused(bench.settle(&one, &id, None, Settlement::Ack), ErrorKind::StaleDelivery);
    bench.deliver_one(&one);
    refused(bench.settle(&two, &id, None, Settlement::Ack), ErrorKind::StaleDelivery);
    bench.settle(&one, &id, None, Settlement::Ack).unwrap();
}

#[test]
fn another_clients_delivery_is_not_to_be_settled() {
    let mut bench = Bench::new();
    let (one, two) = (bench.consumer(WAREHOUSE), bench.login(WAREHOUSE));
    bench.publish("b25l");
    let delivery = bench.deliver_one(&one);
    for how in [Settlement::Ack, Settlement::Rollback, defer(0), defer(1_000), discard("")] {
        refused(bench.settle(&two, &delivery.id, Some(delivery.block), how), ErrorKind::StaleDelivery);
    }
    bench.ack(&one, &delivery).unwrap();
}

#[test]
fn a_defer_waits_and_is_logged() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    let until = bench.now.after(std::time::Duration::from_secs(5));
    let reply = bench.settle(&warehouse, &delivery.id, Some(delivery.block), defer(5_000)).unwrap();
    assert_eq!((reply, bench.counts()), (Reply::Deferred { until: Some(until) }, [0, 0, 1, 0]));
    bench.advance(4_999);
    assert_eq!(bench.deliver(&warehouse), []);
    bench.restart();
    let warehouse = bench.consumer(WAREHOUSE);
    assert_eq!((bench.deliver(&warehouse), bench.counts()), (vec![], [0, 0, 1, 0]));
    bench.advance(1);
    assert_eq!(bench.deliver_one(&warehouse).attempt, Some(2));
}

#[test]
fn a_defer_by_nothing_is_a_redelivery_now() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    let reply = bench.settle(&warehouse, &delivery.id, Some(delivery.block), defer(0)).unwrap();
    assert_eq!(reply, Reply::Deferred { until: Some(bench.now) });
    assert_eq!(bench.deliver_one(&warehouse).attempt, Some(2));
}

#[test]
fn defers_alone_never_make_a_dead_letter() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    for attempt in 1..=40 {
        let delivery = bench.deliver_one(&warehouse);
        assert_eq!(delivery.attempt, Some(attempt));
        bench.settle(&warehouse, &delivery.id, None, defer(1_000)).unwrap();
        bench.advance(1_000);
    }
    // Nor does the end of a session. Who then lets the lease run out has had his chances.
    bench.deliver_one(&warehouse);
    bench.logout(&warehouse);
    let warehouse = bench.consumer(WAREHOUSE);
    assert_eq!(bench.deliver_one(&warehouse).attempt, Some(42));
    bench.advance(60_000);
    assert_eq!(bench.counts(), [0, 0, 0, 1]);
}

#[test]
fn a_discard_is_a_dead_letter_with_its_reason() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    bench.settle(&warehouse, &delivery.id, None, discard("cannot read it")).unwrap();
    let letters = bench.state.dead_letters(Some(&app(WAREHOUSE)), Some(&event()), 10);
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].reason.as_str(), letters[0].at, letters[0].deliveries), ("cannot read it", bench.now, 1));
    assert_eq!(bench.state.dead_letters(Some(&app(SHOP)), None, 10), []);
    assert_eq!(bench.state.dead_letters(None, None, 0), []);
    refused(bench.ack(&warehouse, &delivery), ErrorKind::StaleDelivery);
    bench.restart();
    assert_eq!(bench.state.dead_letters(None, None, 10), letters);
}

#[test]
fn a_dead_letter_can_be_put_back() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let first = bench.deliver_one(&warehouse);
    bench.settle(&warehouse, &first.id, None, discard("no")).unwrap();
    bench.letter(LetterAction::Requeue, &first.id).unwrap();
    refused(bench.letter(LetterAction::Requeue, &first.id), ErrorKind::NotFound);
    let second = bench.deliver_one(&warehouse);
    assert_eq!((second.id.clone(), second.attempt), (first.id, Some(1)));
    assert!(second.block > first.block);
    bench.restart();
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
}

#[test]
fn a_dead_letter_can_be_given_up() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    let id = bench.publish("b25l");
    refused(bench.letter(LetterAction::Drop, &id), ErrorKind::NotFound);
    bench.deliver_one(&warehouse);
    bench.settle(&warehouse, &id, None, discard("no")).unwrap();
    bench.letter(LetterAction::Drop, &id).unwrap();
    for what in [LetterAction::Drop, LetterAction::Requeue] {
        refused(bench.letter(what, &id), ErrorKind::NotFound);
    }
    bench.restart();
    assert_eq!(bench.counts(), [0; 4]);
}

#[test]
fn a_rolled_back_event_goes_to_who_is_next() {
    let mut bench = Bench::new();
    let one = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&one);
    let two = bench.consumer(WAREHOUSE);
    bench.settle(&one, &delivery.id, Some(delivery.block), Settlement::Rollback).unwrap();
    let all = bench.deliver_all();
    assert_eq!(all.len(), 1);
    assert!(all[0].0 == one.client_id || all[0].0 == two.client_id);
    assert_eq!(all[0].1.attempt, Some(2));
}

#[test]
fn ids_of_nothing_are_not_found() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    let id = bench.publish("b25l");
    bench.deliver_one(&warehouse);
    let key = crate::partition::EventKey::of(&id).unwrap();
    let forge = |change: fn(&mut crate::partition::EventKey)| {
        let mut key = key;
        change(&mut key);
        key.to_id()
    };
    let forged = [
        forge(|key| key.event.seq = 7),
        forge(|key| key.event.queue = 7),
        forge(|key| key.tag += 1),
        forge(|key| key.position = crate::model::Position::new(1)),
        forge(|key| key.transient = true),
        EventId::parse("01J8ZQ4V9T0000000000000000").unwrap(),
    ];
    for id in forged {
        refused(bench.settle(&warehouse, &id, None, Settlement::Ack), ErrorKind::NotFound);
        refused(bench.replay(&warehouse, &id), ErrorKind::NotFound);
    }
    assert!(!bench.log.iter().any(|record| matches!(**record, Record::Ack { .. })));
}

#[test]
fn what_is_settled_twice_in_a_batch_is_read_back_as_it_was_lived() {
    let ttl = Some(Duration::from_secs(3));
    let mut bench = Bench::with(|_| {}, EventOptions { ttl, ..EventOptions::default() });
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    bench.advance(3_000);
    // It has expired, but its holder may still settle it: discards it, and rolls it back before that is stored.
    let settle = |how| Command::Settle(Settle { id: delivery.id.clone(), event: None, block: None, how });
    let Step::Commit(changes) = bench.state.decide(&warehouse, settle(discard("no"))).unwrap() else { panic!() };
    bench.state.decide(&warehouse, settle(Settlement::Rollback)).unwrap();
    assert_eq!(bench.commit(&changes), [Applied::Done]);
    assert_eq!(bench.counts(), [0, 0, 0, 1]);
    bench.restart();
    assert_eq!(bench.counts(), [0, 0, 0, 1]);
}

/// An event that was stored once more while somebody looked for it in its earlier place is not lost, and comes from its new place
/// without waiting for the lease.
#[test]
fn only_what_is_not_in_its_present_place_is_lost() {
    let mut bench = Bench::new();
    let _warehouse = bench.consumer(WAREHOUSE);
    let id = bench.publish("b25l");
    let early = bench.state.dispatch(1).remove(0);
    let (copy, elsewhere) = (bench.log.last().unwrap().clone(), Position::new(1 << 40));
    bench.state.apply(Some(elsewhere), &copy);
    assert!(bench.state.unreadable(&early).is_none());
    let back = bench.state.pending(9);
    assert_eq!(bench.commit(&back), [Applied::Done]);
    let outgoing = bench.state.dispatch(1).remove(0);
    assert!(matches!(outgoing.source(), Source::Log(at) if *at == elsewhere) && outgoing.is_live());
    // What is known late of the delivery before takes nothing from this one.
    assert!(bench.state.unreadable(&early).is_none() && outgoing.is_live());
    let lost = bench.state.unreadable(&outgoing).unwrap();
    assert_eq!((bench.commit(&[lost]), bench.counts()[3]), (vec![Applied::Done], 1));
    let dead = bench.state.dead_letters(None, None, 9);
    assert!(dead[0].id == id && dead[0].reason.contains("the log is damaged"), "{dead:?}");
    assert!(bench.state.unreadable(&outgoing).is_none());
}
