//! A lease begins when its delivery is handed over.

use std::time::Duration;

use ensync_core::Settlement;

use super::bench::*;
use crate::state::Outgoing;

/// An event that is given to a session, and waits to be handed over.
fn given() -> (Bench, ensync_core::Peer, Outgoing) {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let outgoing = bench.state.dispatch(usize::MAX).pop().unwrap();
    outgoing.wait();
    (bench, warehouse, outgoing)
}

#[test]
fn what_was_handed_over_late_has_all_of_its_lease() {
    let (mut bench, warehouse, outgoing) = given();
    bench.advance(50_000);
    assert_eq!(outgoing.hand_over(Duration::from_secs(50)), Some(Duration::from_secs(60)));
    for ms in [10_000, 49_999] {
        bench.advance(ms);
        assert!(bench.counts()[1] == 1 && outgoing.is_live(), "{ms}");
    }
    bench.advance(1);
    assert_eq!((outgoing.is_live(), outgoing.hand_over(Duration::ZERO)), (false, None));
    assert_eq!(bench.deliver_one(&warehouse).attempt, Some(2));
    // That one was handed over at once.
    bench.advance(60_000);
    assert_eq!(bench.deliver_one(&warehouse).attempt, Some(3));
}

#[test]
fn what_is_extended_lasts_from_then_on() {
    let (mut bench, warehouse, outgoing) = given();
    bench.advance(50_000);
    assert_eq!(outgoing.hand_over(Duration::from_secs(50)), Some(Duration::from_secs(60)));
    bench.advance(5_000);
    bench.settle(&warehouse, &outgoing.id, None, Settlement::Extend).unwrap();
    bench.advance(59_999);
    assert!(outgoing.is_live());
    bench.advance(1);
    assert!(!outgoing.is_live());
    // Handed over and extended, before the time was over that it might wait.
    let (mut bench, warehouse, outgoing) = given();
    assert_eq!(outgoing.hand_over(Duration::from_millis(1)), Some(Duration::from_millis(59_999)));
    bench.advance(59_999);
    bench.settle(&warehouse, &outgoing.id, None, Settlement::Extend).unwrap();
    bench.advance(59_999);
    assert!(outgoing.is_live());
    bench.advance(1);
    assert!(!outgoing.is_live());
}

#[test]
fn what_waits_for_as_long_as_a_lease_is_given_to_somebody_and_counts_for_nothing() {
    let (mut bench, warehouse, outgoing) = given();
    for _ in 0..40 {
        bench.advance(60_000);
        assert_eq!(outgoing.hand_over(Duration::from_secs(60)), None);
        let again = bench.state.dispatch(usize::MAX).pop().unwrap();
        again.wait();
    }
    bench.advance(60_000);
    assert_eq!(bench.deliver_one(&warehouse).attempt, Some(1));
}
