use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::{ErrorKind, Reply, Settlement};

use super::bench::*;
use crate::model::{AdminCommand, EventOptions};
use crate::partition::{MAX_HANDED_BACK, MAX_IN_EPOCH, block};
use crate::state::LetterAction;

#[test]
fn a_lease_that_runs_out_is_redelivered_with_a_higher_attempt_and_block() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let first = bench.deliver_one(&warehouse);
    assert_eq!(bench.state.next_due(), Some(bench.now.after(Duration::from_secs(60))));
    bench.advance(59_999);
    assert_eq!(bench.deliver(&warehouse), []);
    bench.advance(1);
    let second = bench.deliver_one(&warehouse);
    assert_eq!((second.id.clone(), second.attempt), (first.id.clone(), Some(2)));
    assert!(second.block > first.block);
    refused(bench.ack(&warehouse, &first), ErrorKind::StaleDelivery);
    bench.ack(&warehouse, &second).unwrap();
    let counters = bench.stats().counters;
    assert_eq!((counters.delivered, counters.redelivered, counters.acked), (2, 1, 1));
}

#[test]
fn the_ack_timeout_is_the_names_own() {
    let options = EventOptions { ack_timeout: Some(Duration::from_secs(5)), ..EventOptions::default() };
    let mut bench = Bench::with(|_| {}, options);
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    bench.deliver_one(&warehouse);
    bench.advance(5_000);
    assert_eq!(bench.deliver_one(&warehouse).attempt, Some(2));
}

#[test]
fn a_late_settlement_is_stale_even_before_the_redelivery() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let first = bench.deliver_one(&warehouse);
    bench.advance(60_000);
    for how in [Settlement::Ack, Settlement::Rollback, defer(1_000), discard("")] {
        refused(bench.settle(&warehouse, &first.id, Some(first.block), how.clone()), ErrorKind::StaleDelivery);
        refused(bench.settle(&warehouse, &first.id, None, how), ErrorKind::StaleDelivery);
    }
}

#[test]
fn too_many_deliveries_make_a_dead_letter() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    let id = bench.publish("b25l");
    for attempt in 1..=16 {
        assert_eq!(bench.deliver_one(&warehouse).attempt, Some(attempt));
        bench.advance(60_000);
    }
    assert_eq!(bench.deliver(&warehouse), []);
    let letters = bench.state.dead_letters(None, None, 10);
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0].id, letters[0].reason.as_str(), letters[0].deliveries), (&id, "max deliveries", 16));
    assert_eq!((bench.counts(), bench.stats().counters.dead), ([0, 0, 0, 1], 1));
    bench.restart();
    assert_eq!(bench.state.dead_letters(None, None, 10), letters);
}

#[test]
fn roll_backs_count_and_ends_of_sessions_do_not() {
    let mut bench = Bench::with(|_| {}, deliveries(3));
    bench.publish("b25l");
    let mut attempt = 0;
    for _ in 0..5 {
        let warehouse = bench.consumer(WAREHOUSE);
        for release in [true, true, false] {
            attempt += 1;
            assert_eq!(bench.deliver_one(&warehouse).attempt, Some(attempt));
            if release {
                bench.run(&warehouse, Command::Release { event: event() }).unwrap();
            }
        }
        bench.logout(&warehouse);
    }
    let warehouse = bench.consumer(WAREHOUSE);
    for left in [2, 1, 0] {
        assert_eq!(bench.counts(), [1, 0, 0, 0], "{left} left");
        attempt += 1;
        let delivery = bench.deliver_one(&warehouse);
        assert_eq!(delivery.attempt, Some(attempt));
        bench.settle(&warehouse, &delivery.id, None, Settlement::Rollback).unwrap();
    }
    assert_eq!(bench.counts(), [0, 0, 0, 1]);
    let letter = bench.state.dead_letters(None, None, 9).pop().unwrap();
    assert_eq!(letter.deliveries, attempt);
    // Put back, it has as many deliveries as at first.
    bench.letter(LetterAction::Requeue, &letter.id).unwrap();
    for left in [2, 1, 0] {
        assert_eq!(bench.counts(), [1, 0, 0, 0], "{left} left");
        bench.deliver_one(&warehouse);
        bench.advance(60_000);
    }
    assert_eq!(bench.counts(), [0, 0, 0, 1]);
}

#[test]
fn what_ends_every_session_that_reads_it_dies_in_the_end() {
    let mut bench = Bench::with(|_| {}, deliveries(2));
    bench.publish("b25l");
    for _ in 0..u32::from(MAX_HANDED_BACK) + 2 {
        assert_eq!(bench.counts(), [1, 0, 0, 0]);
        let warehouse = bench.consumer(WAREHOUSE);
        bench.deliver_one(&warehouse);
        bench.logout(&warehouse);
    }
    assert_eq!(bench.counts(), [0, 0, 0, 1]);
}

#[test]
fn a_lease_that_is_extended_starts_anew() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    let minute = Duration::from_secs(60);
    assert_eq!(delivery.lease, Some(minute));
    for _ in 0..100 {
        bench.advance(59_999);
        let extended = bench.settle(&warehouse, &delivery.id, Some(delivery.block), Settlement::Extend).unwrap();
        assert_eq!(extended, Reply::Extended { lease: Some(minute) });
        assert_eq!(bench.state.next_due(), Some(bench.now.after(minute)));
    }
    assert_eq!((bench.deliver(&warehouse), bench.counts()), (vec![], [0, 1, 0, 0]));
    bench.advance(60_000);
    assert_eq!(bench.deliver_one(&warehouse).attempt, Some(2));
}

#[test]
fn an_extension_lasts_as_long_as_the_name_says_now() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    let options = EventOptions { ack_timeout: Some(Duration::from_secs(5)), ..EventOptions::default() };
    bench.administer(AdminCommand::RegisterEvent { name: event(), options }).unwrap();
    let extended = bench.settle(&warehouse, &delivery.id, None, Settlement::Extend).unwrap();
    assert_eq!(extended, Reply::Extended { lease: Some(Duration::from_secs(5)) });
    bench.advance(5_000);
    assert_eq!(bench.deliver_one(&warehouse).lease, Some(Duration::from_secs(5)));
}

#[test]
fn only_the_live_delivery_is_extended_or_released_and_only_by_who_holds_it() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let first = bench.deliver_one(&warehouse);
    bench.advance(60_000);
    let second = bench.deliver_one(&warehouse);
    let (colleague, stranger) = (bench.login(WAREHOUSE), bench.login(STRANGER));
    for how in [Settlement::Extend, Settlement::Release] {
        refused(bench.settle(&warehouse, &first.id, Some(first.block), how.clone()), ErrorKind::StaleDelivery);
        for block in [None, Some(second.block)] {
            refused(bench.settle(&colleague, &second.id, block, how.clone()), ErrorKind::StaleDelivery);
            refused(bench.settle(&stranger, &second.id, block, how.clone()), ErrorKind::NotFound);
        }
    }
    assert_eq!(bench.counts(), [0, 1, 0, 0]);
    bench.ack(&warehouse, &second).unwrap();
    for how in [Settlement::Extend, Settlement::Release] {
        refused(bench.settle(&warehouse, &second.id, Some(second.block), how), ErrorKind::StaleDelivery);
    }
}

#[test]
fn what_is_released_comes_again_at_once_and_does_not_count() {
    let mut bench = Bench::with(|_| {}, deliveries(1));
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    for attempt in 1..=u32::from(MAX_HANDED_BACK) + 1 {
        let delivery = bench.deliver_one(&warehouse);
        assert_eq!(delivery.attempt, Some(attempt));
        bench.settle(&warehouse, &delivery.id, Some(delivery.block), Settlement::Release).unwrap();
    }
    // Not for ever, or whoever releases all it gets would keep an event going in circles.
    assert_eq!(bench.counts(), [0, 0, 0, 1]);
}

fn deliveries(max: u32) -> EventOptions {
    EventOptions { max_deliveries: NonZeroU32::new(max), ..EventOptions::default() }
}

#[test]
fn a_dead_letter_waits_for_the_log_and_goes_to_nobody_meanwhile() {
    let mut bench = Bench::with(|_| {}, deliveries(1));
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    bench.state.tick(bench.now.after(Duration::from_secs(60)));
    // The log refuses for a while: the verdict stays to be stored, and the event is with nobody.
    for _ in 0..2 {
        assert_eq!(bench.state.pending(10).len(), 1);
        assert_eq!(bench.deliver(&warehouse), []);
        assert_eq!(bench.counts(), [0, 1, 0, 0]);
        refused(bench.state.decide(&warehouse, ack_command(&delivery)), ErrorKind::StaleDelivery);
    }
    bench.verdicts();
    assert_eq!((bench.counts(), bench.state.pending(10).len()), ([0, 0, 0, 1], 0));
}

fn ack_command(delivery: &ensync_core::Delivery) -> Command {
    let (id, block) = (delivery.id.clone(), Some(delivery.block));
    Command::Settle(ensync_core::Settle { id, event: None, block, how: Settlement::Ack })
}

#[test]
fn a_logout_hands_everything_back_at_once() {
    let mut bench = Bench::new();
    let (one, two) = (bench.login(WAREHOUSE), bench.login(WAREHOUSE));
    bench.subscribe(&one, None).unwrap();
    let ids: Vec<_> = (0..3).map(|_| bench.publish("b25l")).collect();
    assert_eq!(bench.deliver(&one).len(), 3);
    bench.subscribe(&two, None).unwrap();
    bench.logout(&one);
    let again = bench.deliver(&two);
    assert!(again.iter().map(|delivery| &delivery.id).eq(&ids));
    assert!(again.iter().all(|delivery| delivery.attempt == Some(2)));
    // Nothing of the session is left.
    refused(bench.run(&one, Command::Heartbeat), ErrorKind::Unauthenticated);
    assert_eq!(bench.state.logout(&one.client_id), None);
}

#[test]
fn returned_events_come_before_new_ones() {
    let mut bench = Bench::new();
    let warehouse = bench.login(WAREHOUSE);
    bench.subscribe(&warehouse, Some(1)).unwrap();
    bench.publish("b25l");
    bench.publish("dHdv");
    let first = bench.deliver_one(&warehouse);
    bench.settle(&warehouse, &first.id, Some(first.block), Settlement::Rollback).unwrap();
    assert_eq!(bench.deliver_one(&warehouse).id, first.id);
}

#[test]
fn blocks_grow_over_restarts() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let first = bench.deliver_one(&warehouse);
    bench.restart();
    let warehouse = bench.consumer(WAREHOUSE);
    let second = bench.deliver_one(&warehouse);
    assert_eq!((first.block.as_u64(), second.block.as_u64()), ((1 << 20) | 1, (2 << 20) | 1));
    assert_eq!(first.id, second.id);
    refused(bench.ack(&warehouse, &first), ErrorKind::StaleDelivery);
    bench.ack(&warehouse, &second).unwrap();
}

#[test]
fn a_block_is_never_used_twice_even_at_its_end() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    let id = bench.publish("b25l");
    let entry = bench.state.partitions[0].queues.get_mut(&0).unwrap().entries.get_mut(0).unwrap();
    entry.in_epoch = MAX_IN_EPOCH - 1;
    let last = bench.deliver_one(&warehouse);
    assert_eq!(last.block.as_u64(), (2 << 20) - 1);
    bench.settle(&warehouse, &id, Some(last.block), Settlement::Rollback).unwrap();
    assert_eq!(bench.counts(), [0, 0, 0, 1]);
    // Putting it back is no way around.
    bench.letter(LetterAction::Requeue, &id).unwrap();
    bench.verdicts();
    assert_eq!((bench.deliver(&warehouse), bench.counts()), (vec![], [0, 0, 0, 1]));
}

#[test]
fn blocks_stay_below_two_to_the_53() {
    assert_eq!(block(u64::MAX, u32::MAX).as_u64(), (1 << 53) - 1);
    assert!(block(1, 1).as_u64() >= 1);
}

#[test]
fn a_restart_and_a_checkpoint_forget_no_delivery_that_came_back() {
    for from_checkpoint in [false, true] {
        let mut bench = Bench::with(|_| {}, EventOptions { max_deliveries: NonZeroU32::new(4), ..Default::default() });
        bench.publish("b25l");
        let warehouse = bench.consumer(WAREHOUSE);
        let restart = |bench: &mut Bench| {
            if from_checkpoint {
                bench.base = (bench.state.snapshot(), bench.log.len());
            }
            bench.restart();
            bench.consumer(WAREHOUSE)
        };
        // Rolled back, run out, and handed back, which does not count.
        let first = bench.deliver_one(&warehouse);
        bench.settle(&warehouse, &first.id, None, Settlement::Rollback).unwrap();
        assert_eq!(bench.deliver_one(&warehouse).attempt, Some(2));
        bench.advance(60_000);
        assert_eq!(bench.deliver_one(&warehouse).attempt, Some(3));
        bench.logout(&warehouse);
        let warehouse = restart(&mut bench);
        assert_eq!(bench.deliver_one(&warehouse).attempt, Some(4), "{from_checkpoint}");
        // What is with a client when the engine is killed is as if the connection had ended, and nobody was told of it.
        let warehouse = restart(&mut bench);
        assert_eq!(bench.deliver_one(&warehouse).attempt, Some(4), "{from_checkpoint}");
        bench.advance(60_000);
        let warehouse_again = restart(&mut bench);
        assert_eq!(bench.deliver_one(&warehouse_again).attempt, Some(5), "{from_checkpoint}");
        bench.advance(60_000);
        // Four that count, and one that does not.
        assert_eq!(bench.counts(), [0, 0, 0, 1], "{from_checkpoint}");
        assert_eq!(bench.state.dead_letters(None, None, 9)[0].deliveries, 5);
    }
}

#[test]
fn what_came_back_waits_until_the_log_has_that() {
    let mut bench = Bench::new();
    bench.publish("b25l");
    let warehouse = bench.consumer(WAREHOUSE);
    let first = bench.deliver_one(&warehouse);
    bench.state.decide(&warehouse, rollback(&first)).unwrap();
    assert!(bench.state.dispatch(9).is_empty(), "the log does not know of the first delivery yet");
    assert_eq!((bench.counts(), bench.state.pending(9).len()), ([1, 0, 0, 0], 1));
    bench.verdicts();
    assert_eq!(bench.deliver_one(&warehouse).attempt, Some(2));
}

fn rollback(delivery: &ensync_core::Delivery) -> Command {
    let (id, block) = (delivery.id.clone(), Some(delivery.block));
    Command::Settle(ensync_core::Settle { id, event: None, block, how: Settlement::Rollback })
}

#[test]
fn what_came_back_after_its_defer_is_read_back_so() {
    let mut bench = Bench::new();
    bench.publish("b25l");
    let warehouse = bench.consumer(WAREHOUSE);
    let first = bench.deliver_one(&warehouse);
    bench.settle(&warehouse, &first.id, None, defer(1_000)).unwrap();
    bench.advance(1_000);
    let second = bench.deliver_one(&warehouse);
    bench.run(&warehouse, rollback(&second)).unwrap();
    assert_eq!(bench.replayed().snapshot(), bench.state.snapshot());
    bench.restart();
    let warehouse = bench.consumer(WAREHOUSE);
    assert_eq!(bench.deliver_one(&warehouse).attempt, Some(3));
}
