//! What is much is done a bit at a time, and nobody sees more than that it takes its time.

use std::time::Duration;

use ensync_core::{Delay, ErrorKind, Settle, Settlement};

use super::bench::*;
use crate::model::codec::snapshot;
use crate::model::{AdminCommand, EventOptions, Position};
use crate::state::{Step, Walk};

const TURN: usize = 10;
const MANY: usize = 200;

fn bench(ttl: Option<u64>) -> Bench {
    let mut bench =
        Bench::with(|_| {}, EventOptions { ttl: ttl.map(Duration::from_millis), ..EventOptions::default() });
    bench.set_turn(TURN);
    bench
}

fn fill(bench: &mut Bench, count: usize) {
    let shop = bench.login(SHOP);
    for n in 0..count {
        let publish = if n % 2 == 0 { publish("b25l") } else { transient("b25l") };
        bench.publish_as(&shop, publish).unwrap();
    }
}

/// Ticks at one time until nothing is left: how often that was necessary. `left` is how much there is; no tick takes more than it may.
fn ticks(bench: &mut Bench, most: usize, left: impl Fn(&Bench) -> usize) -> usize {
    let mut count = 0;
    loop {
        let before = left(bench);
        bench.state.tick(bench.now);
        bench.check();
        assert!(left(bench) + most >= before, "{before} -> {}", left(bench));
        count += 1;
        if !bench.state.has_work() {
            return count;
        }
    }
}

#[test]
fn events_that_expire_together_go_a_bit_at_a_time() {
    let mut bench = bench(Some(1_000));
    fill(&mut bench, MANY);
    bench.now = bench.now.after(Duration::from_secs(1));
    // A chunk of 32 goes as a whole.
    assert!(ticks(&mut bench, TURN + 32, |bench| bench.counts()[0]) >= MANY / (TURN + 32));
    assert_eq!((bench.counts(), bench.stats().counters.expired), ([0; 4], MANY as u64));
}

#[test]
fn what_has_expired_is_not_delivered_though_it_is_there() {
    let mut bench = bench(Some(1_000));
    bench.consumer(WAREHOUSE);
    fill(&mut bench, MANY);
    bench.now = bench.now.after(Duration::from_millis(999));
    bench.state.tick(bench.now);
    let last = bench.publish("dHdv");
    bench.now = bench.now.after(Duration::from_millis(1));
    bench.state.tick(bench.now);
    let (mut rounds, mut left) = (0, bench.counts()[0]);
    assert!(left > MANY / 2, "{left}");
    let delivered = loop {
        // Time stands still: deliveries have to get past the rest by themselves.
        let delivered = bench.state.dispatch(9);
        assert!(bench.counts()[0] + TURN + 1 >= left);
        (rounds, left) = (rounds + 1, bench.counts()[0]);
        if !delivered.is_empty() {
            break delivered;
        }
        assert!(bench.state.has_work());
    };
    assert!(rounds > 2 && delivered.len() == 1 && delivered[0].id == last);
}

#[test]
fn deferred_events_and_leases_end_a_bit_at_a_time() {
    for defers in [true, false] {
        let mut bench = bench(None);
        let warehouse = bench.consumer(WAREHOUSE);
        fill(&mut bench, MANY);
        let outgoing = bench.state.dispatch(usize::MAX);
        assert_eq!(outgoing.len(), MANY);
        let delay = Delay::from_millis(60_000).unwrap();
        for event in outgoing.iter().filter(|_| defers) {
            let how = Settlement::Defer { delay, priority: 0, reason: String::new() };
            let settle = Settle { id: event.id.clone(), event: None, block: None, how };
            let Ok(Step::Commit(changes)) = bench.state.decide(&warehouse, Command::Settle(settle)) else { panic!() };
            bench.commit(&changes);
        }
        bench.run(&warehouse, Command::Unsubscribe { event: event() }).unwrap();
        bench.now = bench.now.after(Duration::from_secs(60));
        let waits = |bench: &Bench| bench.counts()[if defers { 2 } else { 1 }];
        assert_eq!(waits(&bench), MANY);
        assert!(ticks(&mut bench, TURN, waits) >= MANY / TURN);
        bench.verdicts();
        assert_eq!(bench.counts(), [MANY, 0, 0, 0]);
    }
}

#[test]
fn what_a_consumer_had_goes_back_a_bit_at_a_time() {
    let mut bench = bench(None);
    let warehouse = bench.consumer(WAREHOUSE);
    fill(&mut bench, MANY);
    let outgoing = bench.state.dispatch(usize::MAX);
    bench.state.logout(&warehouse.client_id);
    bench.check();
    assert!(bench.counts()[1] >= MANY - TURN);
    // Nobody can settle it any more.
    let settle = Settle { id: outgoing[MANY - 1].id.clone(), event: None, block: None, how: Settlement::Ack };
    refused(bench.state.decide(&warehouse, Command::Settle(settle)), ErrorKind::Unauthenticated);
    // What its leases bring back meanwhile comes back once.
    bench.now = bench.now.after(Duration::from_secs(60));
    bench.state.tick(bench.now);
    assert!(ticks(&mut bench, 2 * TURN, |bench| bench.counts()[1]) > 1);
    bench.verdicts();
    let again = bench.consumer(WAREHOUSE);
    assert_eq!(bench.deliver(&again).len(), MANY);
}

#[test]
fn a_queue_that_is_gone_is_emptied_a_bit_at_a_time() {
    let mut bench = bench(Some(600_000));
    let warehouse = bench.consumer(WAREHOUSE);
    fill(&mut bench, MANY);
    assert_eq!(bench.state.dispatch(50).len(), 50);
    let changes = bench.state.administer(AdminCommand::DeleteApp { app: app(WAREHOUSE) }).unwrap();
    bench.commit(&changes);
    bench.check();
    // For everybody it is gone at once.
    assert!(bench.state.queues().is_empty() && bench.state.snapshot().partitions[0].queues.is_empty());
    refused(bench.run(&warehouse, Command::Heartbeat), ErrorKind::Unauthenticated);
    let left = |bench: &Bench| {
        bench.state.partitions[0].leaving.values().map(|queue| queue.entries.from(0).count()).sum::<usize>()
    };
    assert!(left(&bench) >= MANY - TURN - 32);
    assert!(ticks(&mut bench, TURN + 32, left) > 1);
    assert!(bench.state.partitions[0].leaving.is_empty() && bench.state.partitions[0].memory.is_empty());
    assert!(bench.state.next_due().is_none());
}

#[test]
fn a_checkpoint_is_told_in_slices_and_holds_what_was_when_it_was_begun() {
    let mut bench = bench(None);
    let warehouse = bench.consumer(WAREHOUSE);
    fill(&mut bench, 2 * MANY);
    let expected = bench.state.partitions[0].snapshot();
    let mut bytes = bench.state.partitions[0].begin_checkpoint().to_vec();
    let mut slices = 0;
    while let Some(slice) = bench.state.partitions[0].go_on_with_checkpoint(TURN) {
        // An event takes less than 100 bytes, and those of a chunk are told together.
        assert!(slice.len() < 100 * (TURN + 32), "{}", slice.len());
        bytes.extend_from_slice(&slice);
        slices += 1;
        if slices == 2 {
            // What comes before its turn is in the next slice; these are few.
            let outgoing = bench.state.dispatch(1);
            let settle = Settle { id: outgoing[0].id.clone(), event: None, block: None, how: Settlement::Ack };
            let Ok(Step::Commit(changes)) = bench.state.decide(&warehouse, Command::Settle(settle)) else { panic!() };
            bench.commit(&changes);
        }
    }
    assert!(slices > MANY / (TURN + 32));
    assert_eq!(snapshot::decode(bytes.into()).unwrap().partition, expected);
    assert!(bench.state.partitions[0].go_on_with_checkpoint(TURN).is_none());
}

#[test]
fn a_queue_that_goes_while_a_checkpoint_is_told_is_in_it() {
    let mut bench = bench(None);
    fill(&mut bench, MANY);
    let expected = bench.state.partitions[0].snapshot();
    let mut bytes = bench.state.partitions[0].begin_checkpoint().to_vec();
    bytes.extend(bench.state.partitions[0].go_on_with_checkpoint(TURN).unwrap());
    let changes = bench.state.administer(AdminCommand::DeleteApp { app: app(WAREHOUSE) }).unwrap();
    bench.commit(&changes);
    bench.state.tick(bench.now);
    while let Some(slice) = bench.state.partitions[0].go_on_with_checkpoint(TURN) {
        bytes.extend_from_slice(&slice);
    }
    assert_eq!(snapshot::decode(bytes.into()).unwrap().partition, expected);
    // Then it is forgotten.
    while bench.state.has_work() {
        bench.state.tick(bench.now);
    }
    assert!(bench.state.partitions[0].leaving.is_empty());
}

#[test]
fn a_walk_goes_on_where_it_was_whatever_happens_meanwhile() {
    let mut bench = bench(None);
    let warehouse = bench.consumer(WAREHOUSE);
    fill(&mut bench, MANY);
    let end = Position::new(bench.log.len() as u64 + 1);
    let expected = bench.waiting_before(end);
    assert_eq!(expected.len(), MANY / 2);
    let (mut walk, mut found) = (Walk::default(), Vec::new());
    let mut steps = 0;
    while !walk.is_over() {
        let before = found.len();
        bench.state.partitions[0].walk(&mut walk, TURN, |at, size| found.push((at, size)));
        assert!(found.len() <= before + TURN);
        steps += 1;
        // What was settled meanwhile may have been shown; what waits has to be.
        let settle = |id| Settle { id, event: None, block: None, how: Settlement::Ack };
        for outgoing in bench.state.dispatch(1) {
            let step = bench.state.decide(&warehouse, Command::Settle(settle(outgoing.id)));
            let Ok(Step::Commit(changes)) = step else { panic!() };
            bench.commit(&changes);
        }
        fill(&mut bench, 1);
    }
    found.retain(|(at, _)| *at < end);
    assert!(steps > MANY / TURN && bench.waiting_before(end).iter().all(|waits| found.contains(waits)));
}
