//! How long it is remembered what became of events, and how much of that.

use std::time::Duration;

use ensync_core::{Block, EventName, Publish, Reply, Settle, Settlement};

use super::bench::*;
use crate::model::codec::snapshot;
use crate::model::{AdminCommand, EventOptions, Record};
use crate::partition::EventKey;
use crate::state::{Change, Step};

fn name(n: usize) -> EventName {
    EventName::parse(&format!("name/{n}")).unwrap()
}

fn bench(names: usize) -> Bench {
    let mut bench = Bench::new();
    for n in 0..names {
        let options = EventOptions::default();
        bench.administer(AdminCommand::RegisterEvent { name: name(n), options }).unwrap();
    }
    bench
}

/// Publishes events and has them acknowledged by first and second deliveries in turn: the last one's key and block.
fn acknowledge(bench: &mut Bench, to: u8, n: usize, count: usize) -> Vec<(EventKey, Block)> {
    let shop = bench.login(SHOP);
    let mut acked = Vec::new();
    for turn in 0..count {
        let publish = Publish { event: name(n), recipient: app(to), ..publish("b25l") };
        let Ok(Step::Commit(changes)) = bench.state.decide(&shop, Command::Publish(publish)) else { panic!() };
        let Ok(Reply::Published { id }) = bench.commit(&changes).pop().unwrap().answer() else { panic!() };
        let (key, block) = (EventKey::of(&id).unwrap(), Block::new(1 + turn as u64 % 2).unwrap());
        let record = Record::Ack { event: key.event, block, at: bench.state.partitions[0].now };
        bench.commit(&[Change::new(record, true)]);
        acked.push((key, block));
    }
    bench.logout(&shop);
    acked
}

/// Whether an acknowledgement that is sent once more is known.
fn is_known(bench: &mut Bench, by: u8, (key, block): (EventKey, Block)) -> bool {
    let peer = bench.login(by);
    let settle = Settle { id: key.to_id(), event: None, block: Some(block), how: Settlement::Ack };
    let known = matches!(bench.state.decide(&peer, Command::Settle(settle)), Ok(Step::Answer(Reply::Done)));
    bench.logout(&peer);
    known
}

fn settled(bench: &Bench) -> usize {
    bench.state.snapshot().partitions[0].queues.iter().map(|queue| queue.settled.len()).sum()
}

#[test]
fn acknowledgements_are_known_for_the_window_however_many_come() {
    let mut bench = bench(1);
    let acked = acknowledge(&mut bench, WAREHOUSE, 0, 20_000);
    assert_eq!(settled(&bench), 20_000);
    bench.now = bench.now.after(Duration::from_secs(119));
    bench.state.tick(bench.now);
    for n in [0, 1, 3_000, 19_999] {
        assert!(is_known(&mut bench, WAREHOUSE, acked[n]), "{n}");
    }
}

#[test]
fn what_is_over_is_forgotten_in_queues_in_which_nothing_happens() {
    let mut bench = bench(30);
    bench.set_turn(100);
    let mut acked = Vec::new();
    for n in 0..30 {
        acked.extend(acknowledge(&mut bench, WAREHOUSE, n, 50));
    }
    assert_eq!(settled(&bench), 30 * 50);
    bench.now = bench.now.after(Duration::from_secs(241));
    bench.state.tick(bench.now);
    // What is left to do is no matter for a checkpoint.
    assert!(bench.state.is_behind() && settled(&bench) == 0);
    let mut ticks = 1;
    while bench.state.is_behind() {
        bench.state.tick(bench.now);
        bench.check();
        ticks += 1;
    }
    assert!((15..20).contains(&ticks), "{ticks}");
    assert!(!is_known(&mut bench, WAREHOUSE, acked[0]));
    let state = bench.state.snapshot();
    bench.restart();
    assert_eq!(bench.state.snapshot(), state);
}

#[test]
fn an_app_pushes_out_its_own_and_who_has_the_most_gives_way() {
    let mut bench = bench(2);
    bench.state.partitions[0].fates.set_bounds(100, 150);
    let theirs = acknowledge(&mut bench, STRANGER, 0, 30);
    let first = acknowledge(&mut bench, WAREHOUSE, 0, 70);
    bench.now = bench.now.after(Duration::from_millis(1));
    bench.state.tick(bench.now);
    let second = acknowledge(&mut bench, WAREHOUSE, 1, 50);
    bench.check();
    let known = |bench: &mut Bench, by, acked: &[(EventKey, Block)]| {
        acked.iter().filter(|acked| is_known(bench, by, **acked)).count()
    };
    // One app, in all of its queues: the oldest go.
    assert_eq!(
        [
            known(&mut bench, WAREHOUSE, &first),
            known(&mut bench, WAREHOUSE, &second),
            known(&mut bench, STRANGER, &theirs)
        ],
        [50, 50, 30]
    );
    assert!(!is_known(&mut bench, WAREHOUSE, first[19]) && is_known(&mut bench, WAREHOUSE, first[20]));
    // All together: of whoever has the most.
    let more = acknowledge(&mut bench, STRANGER, 1, 40);
    assert_eq!(
        [
            known(&mut bench, STRANGER, &theirs),
            known(&mut bench, STRANGER, &more),
            known(&mut bench, WAREHOUSE, &second)
        ],
        [30, 40, 50]
    );
    assert_eq!(known(&mut bench, WAREHOUSE, &first), 30);
    bench.check();
    // A checkpoint that is begun holds what goes meanwhile.
    let expected = bench.state.partitions[0].snapshot();
    let mut bytes = bench.state.partitions[0].begin_checkpoint().to_vec();
    acknowledge(&mut bench, STRANGER, 1, 9);
    while let Some(slice) = bench.state.partitions[0].go_on_with_checkpoint(10) {
        bytes.extend_from_slice(&slice);
    }
    assert_eq!(snapshot::decode(bytes.into()).unwrap().partition, expected);
}

#[test]
fn what_became_of_events_of_an_app_goes_with_it() {
    let mut bench = bench(1);
    bench.set_turn(10);
    acknowledge(&mut bench, WAREHOUSE, 0, 100);
    let changes = bench.state.administer(AdminCommand::DeleteApp { app: app(WAREHOUSE) }).unwrap();
    bench.commit(&changes);
    let mut ticks = 0;
    while bench.state.has_work() {
        bench.state.tick(bench.now);
        bench.check();
        ticks += 1;
    }
    assert!(ticks >= 10 && bench.state.partitions[0].leaving.is_empty(), "{ticks}");
}
