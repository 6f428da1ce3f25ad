use std::sync::Arc;

use ensync_core::ErrorKind;
use ensync_core::{Settlement, Timestamp};

use super::bench::*;
use crate::model::{AdminCommand, EventRef, Position, Record};
use crate::state::Applied;
use crate::state::State;

#[test]
fn everything_unsettled_is_deliverable_again_and_nothing_else() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    let ids: Vec<_> = (0..5).map(|_| bench.publish("b25l")).collect();
    let deliveries = bench.deliver(&warehouse);
    bench.ack(&warehouse, &deliveries[0]).unwrap();
    bench.settle(&warehouse, &ids[1], None, discard("no")).unwrap();
    bench.settle(&warehouse, &ids[2], None, Settlement::Rollback).unwrap();
    bench.restart();
    let warehouse = bench.consumer(WAREHOUSE);
    assert!(bench.deliver(&warehouse).iter().map(|delivery| &delivery.id).eq(&ids[2..]));
}

#[test]
fn a_checkpoint_and_the_records_after_it_are_as_good_as_all() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    let ids: Vec<_> = (0..4).map(|_| bench.publish("b25l")).collect();
    bench.deliver(&warehouse);
    bench.settle(&warehouse, &ids[0], None, Settlement::Ack).unwrap();
    bench.settle(&warehouse, &ids[1], None, defer(5_000)).unwrap();
    bench.settle(&warehouse, &ids[2], None, discard("no")).unwrap();
    let (checkpoint, after) = (bench.state.snapshot(), bench.log.len());
    bench.publish("dHdv");
    bench.settle(&warehouse, &ids[3], None, Settlement::Ack).unwrap();

    let mut restored = State::restore(bench.settings.clone(), checkpoint);
    for (index, record) in bench.log.iter().enumerate().skip(after) {
        restored.apply(Some(Position::new(index as u64 + 1)), record);
    }
    restored.tick(bench.now);
    assert_eq!(restored.snapshot(), bench.state.snapshot());
    assert_eq!(restored.snapshot(), bench.replayed().snapshot());
}

#[test]
fn an_event_may_move_in_the_log_and_keeps_its_id() {
    let mut bench = Bench::new();
    let ids = [bench.publish("b25l"), bench.publish("dHdv")];
    let end = Position::new(bench.log.len() as u64);
    let unsettled = bench.waiting_before(end);
    assert_eq!(unsettled.len(), 1);
    // What retention does: append again, then drop what lies before.
    let copy = bench.log[unsettled[0].0.as_u64() as usize - 1].clone();
    bench.log.push(copy.clone());
    let moved = Position::new(bench.log.len() as u64);
    assert_eq!(bench.state.apply(Some(moved), &copy), Applied::Stored(ids[0].clone()));
    assert_eq!(bench.waiting_before(end), []);
    bench.log[unsettled[0].0.as_u64() as usize - 1] = Arc::new(Record::Drop { event: EventRef { queue: 9, seq: 9 } });

    bench.adopt(State::restore(bench.settings.clone(), bench.state.snapshot()));
    let warehouse = bench.consumer(WAREHOUSE);
    assert!(bench.deliver(&warehouse).iter().map(|delivery| &delivery.id).eq(&ids));
    assert_eq!(bench.replay(&warehouse, &ids[0]).unwrap().payload.as_str().unwrap(), "b25l");
    // For as long as the log has it: also once it is settled, and after another start.
    for id in &ids {
        bench.settle(&warehouse, id, None, Settlement::Ack).unwrap();
    }
    assert_eq!(bench.replay(&warehouse, &ids[0]).unwrap().payload.as_str().unwrap(), "b25l");
    bench.adopt(State::restore(bench.settings.clone(), bench.state.snapshot()));
    let warehouse = bench.consumer(WAREHOUSE);
    assert_eq!(bench.replay(&warehouse, &ids[0]).unwrap().payload.as_str().unwrap(), "b25l");
    bench.state.dropped(Position::START, moved);
    assert_eq!(bench.replay(&warehouse, &ids[0]).unwrap().payload.as_str().unwrap(), "b25l");
    bench.state.dropped(moved, Position::new(moved.as_u64() + 1));
    refused(bench.replay(&warehouse, &ids[0]), ErrorKind::NotFound);
    assert!(bench.state.snapshot().partitions[0].queues.iter().all(|queue| queue.moved.is_empty()));
}

#[test]
fn a_settled_event_does_not_come_back_with_a_copy_of_its_record() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let copy = bench.log.last().unwrap().clone();
    let delivery = bench.deliver_one(&warehouse);
    bench.ack(&warehouse, &delivery).unwrap();
    assert_eq!(bench.state.apply(Some(Position::new(99)), &copy), Applied::Ignored);
    assert_eq!(bench.counts(), [0; 4]);
}

#[test]
fn records_that_make_no_sense_are_harmless() {
    let mut bench = Bench::new();
    bench.publish("b25l");
    let publish = bench.log.last().unwrap().clone();
    let Record::Publish(good) = &*publish else { panic!() };
    let before = bench.state.snapshot();
    let event = EventRef { queue: 0, seq: 0 };
    let nowhere = [EventRef { queue: 7, seq: 0 }, EventRef { queue: 0, seq: u64::MAX }];
    let mut records = vec![
        // A queue under another number, a number under another name, another event in the same place.
        Record::Publish(crate::model::PublishRecord { at: EventRef { queue: 5, seq: 9 }, ..good.clone() }),
        Record::Publish(crate::model::PublishRecord {
            at: EventRef { queue: 0, seq: 9 },
            recipient_id: app(SHOP),
            ..good.clone()
        }),
        Record::Publish(crate::model::PublishRecord { tag: 1, ..good.clone() }),
        Record::Requeue { event, expires_at: None },
        Record::Admin {
            at: bench.now,
            command: AdminCommand::Grant { app: app(99), event: None, rights: Default::default() },
        },
    ];
    let block = ensync_core::Block::new(1).unwrap();
    for event in nowhere {
        records.extend([
            Record::Ack { event, block, at: Timestamp::default() },
            Record::Defer { event, until: Timestamp::from_millis(u64::MAX), deliveries: u32::MAX, handed_back: 9 },
            Record::Return { event, deliveries: u32::MAX, handed_back: u8::MAX },
            Record::Discard { event, reason: String::new(), at: Timestamp::default(), deliveries: 0 },
            Record::Requeue { event, expires_at: None },
            Record::Drop { event },
        ]);
    }
    for record in records {
        let applied = bench.state.apply(Some(Position::new(99)), &Arc::new(record.clone()));
        assert!(matches!(applied, Applied::Ignored | Applied::Stale), "{record:?}: {applied:?}");
        bench.check();
    }
    assert_eq!(bench.state.snapshot(), before);
    // What waits is given up as a dead letter is: a purge says so of each event.
    let drop = Arc::new(Record::Drop { event });
    assert!(matches!(bench.state.apply(Some(Position::new(100)), &drop), Applied::Done));
    bench.check();
    assert!(matches!(bench.state.apply(Some(Position::new(101)), &drop), Applied::Ignored));
}

#[test]
fn the_ends_of_the_numbers_are_survived() {
    let mut bench = Bench::new();
    bench.publish("b25l");
    let Record::Publish(good) = &**bench.log.last().unwrap() else { panic!() };
    let last = EventRef { queue: 0, seq: u64::MAX };
    let record = Record::Publish(crate::model::PublishRecord { at: last, ..good.clone() });
    bench.state.apply(Some(Position::new(99)), &Arc::new(record));
    let shop = bench.login(SHOP);
    refused(bench.publish_as(&shop, publish("b25l")), ensync_core::ErrorKind::LimitExceeded);
    assert_eq!(bench.counts(), [2, 0, 0, 0]);
}
