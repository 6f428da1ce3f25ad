//! A checkpoint is told in slices while everything goes on: it holds what was when it was begun, whatever changed before it was complete.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use ensync_core::{Block, EventName, IdempotencyKey, Peer, Publish, Settle, Settlement, Subscribe};

use super::bench::*;
use crate::model::codec::snapshot;
use crate::model::{AdminCommand, EventOptions, EventRef, Position, Record, Removed, Rights};
use crate::state::State;
use crate::state::harness::state::Durable;
use crate::state::{Change, Step};

/// How much is done at a time: less than 32 events, which are told together.
const TURN: usize = 10;
/// How many events of each of the first two queues are delivered, and how many come after them.
const DELIVERED: usize = 64;
const FRESH: usize = 34;
/// The most slices that a checkpoint of all that takes, and the least.
const SLICES: (usize, usize) = (40, 8);

/// What a record does. A new kind of record does not compile here until it has one, and then belongs in [`CHANGES`] too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Publish,
    Ack,
    Defer,
    Return,
    Discard,
    Requeue,
    Drop,
    RemoveRecipient,
    RemoveName,
    /// The last one.
    Admin,
}

fn kind(record: &Record) -> Kind {
    match record {
        Record::Publish(_) => Kind::Publish,
        Record::Ack { .. } => Kind::Ack,
        Record::Defer { .. } => Kind::Defer,
        Record::Return { .. } => Kind::Return,
        Record::Discard { .. } => Kind::Discard,
        Record::Requeue { .. } => Kind::Requeue,
        Record::Drop { .. } => Kind::Drop,
        Record::Remove { queues: Removed::Recipient(_) } => Kind::RemoveRecipient,
        Record::Remove { queues: Removed::Name(_) } => Kind::RemoveName,
        Record::Admin { .. } => Kind::Admin,
    }
}

fn names() -> [EventName; 3] {
    [event(), EventName::parse("second/name").unwrap(), EventName::parse("once/only").unwrap()]
}

/// In each eight events of the first two queues: one is with a client, one is dead, one is deferred, one came back, one came back and was
/// moved, one is acknowledged, one is dead, one comes back. Then some that nobody had yet. In the third queue, what was delivered too often.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.set_turn(TURN);
    let once = EventOptions { max_deliveries: NonZeroU32::new(1), ..EventOptions::default() };
    for (name, options) in names().into_iter().skip(1).zip([EventOptions::default(), once]) {
        bench.administer(AdminCommand::RegisterEvent { name, options }).unwrap();
    }
    let (warehouse, shop) = (bench.login(WAREHOUSE), bench.login(SHOP));
    for event in names() {
        let subscribe = Subscribe { event, max_in_flight: None, max_bytes_in_flight: None };
        bench.run(&warehouse, Command::Subscribe(subscribe)).unwrap();
    }
    for n in 0..DELIVERED {
        names().into_iter().take(2).for_each(|name| send(&mut bench, &shop, name, n));
    }
    (0..3).for_each(|n| send(&mut bench, &shop, names()[2].clone(), n));
    let mut outgoing = bench.state.dispatch(usize::MAX);
    assert_eq!(outgoing.len(), 2 * DELIVERED + 3);
    outgoing.sort_by_key(|outgoing| outgoing.event);
    for round in [0, 1] {
        for outgoing in &outgoing {
            let EventRef { queue, seq } = outgoing.event;
            let how = match (queue, seq % 8) {
                (2, _) | (_, 7) if round == 1 => Settlement::Rollback,
                (2, _) | (_, 7 | 0) => continue,
                _ if round == 1 => continue,
                (_, 1 | 6) => discard("no"),
                (_, 2) => defer(60_000),
                (_, 5) => Settlement::Ack,
                _ => Settlement::Rollback,
            };
            settle(&mut bench, &warehouse, outgoing.id.clone(), how);
        }
        if round == 0 {
            let back = bench.state.pending(usize::MAX);
            bench.commit(&back);
        }
    }
    for queue in [0, 1] {
        for seq in (4..DELIVERED as u64).step_by(8) {
            copy(&mut bench, EventRef { queue, seq });
        }
    }
    for n in DELIVERED..DELIVERED + FRESH {
        names().into_iter().take(2).for_each(|name| send(&mut bench, &shop, name, n));
    }
    bench
}

/// Some are in memory only, and some have a key.
fn send(bench: &mut Bench, shop: &Peer, event: EventName, n: usize) {
    let base = if n % 12 == 11 { transient("b25l") } else { publish("b25l") };
    let idempotency_key = n.is_multiple_of(4).then(|| IdempotencyKey::parse(&format!("{event}-{n}")).unwrap());
    let step = bench.state.decide(shop, Command::Publish(Publish { event, idempotency_key, ..base }));
    let Ok(Step::Commit(changes)) = step else { panic!("{step:?}") };
    bench.commit(&changes);
}

fn settle(bench: &mut Bench, peer: &Peer, id: ensync_core::EventId, how: Settlement) {
    let settle = Settle { id, event: None, block: None, how };
    match bench.state.decide(peer, Command::Settle(settle)).unwrap() {
        Step::Commit(changes) => _ = bench.commit(&changes),
        Step::Answer(_) => {}
        other => panic!("{other:?}"),
    }
}

fn published(bench: &Bench, event: EventRef) -> Arc<Record> {
    let is = |record: &&Arc<Record>| matches!(&***record, Record::Publish(publish) if publish.at == event);
    bench.log.iter().find(is).unwrap().clone()
}

fn copy(bench: &mut Bench, event: EventRef) {
    let record = published(bench, event);
    bench.commit(&[Change { record, durable: true }]);
}

fn store(bench: &mut Bench, record: Record) {
    bench.commit(&[Change::new(record, true)]);
}

/// Changes something of a queue, near the event of a number that is divisible by eight.
type Make = fn(&mut Bench, u32, u64);

/// Where the events of a kind lie, of each eight: see [`bench`].
const LEASED: u64 = 0;
const DEAD: u64 = 1;
const DEFERRED: u64 = 2;
const RETURNED: u64 = 3;
const MOVED: u64 = 4;
const ACKED: u64 = 5;
const RETURNING: u64 = 7;

/// Everything that can happen between two slices. The second is the kind of record, if it is one.
const CHANGES: &[(&str, Option<Kind>, Make)] = &[
    ("a new event", Some(Kind::Publish), |bench, queue, _| {
        let Record::Publish(mut publish) = (*published(bench, EventRef { queue, seq: 0 })).clone() else { panic!() };
        publish.at.seq = 1_000;
        // Its key was used before, or is new.
        store(bench, Record::Publish(publish.clone()));
        publish.at.seq = 1_001;
        publish.idempotency_key = IdempotencyKey::parse("new").ok();
        publish.accepted_at = bench.now.after(std::time::Duration::from_millis(1));
        store(bench, Record::Publish(publish));
    }),
    ("an event is stored once more", Some(Kind::Publish), |bench, queue, base| {
        for kind in [RETURNED, LEASED, DEAD, DEFERRED] {
            copy(bench, EventRef { queue, seq: base + kind });
        }
    }),
    ("an event is stored a third time", Some(Kind::Publish), |bench, queue, base| {
        copy(bench, EventRef { queue, seq: base + MOVED });
    }),
    ("an event that was moved is stored once more and goes", Some(Kind::Ack), |bench, queue, base| {
        let event = EventRef { queue, seq: base + MOVED };
        copy(bench, event);
        store(bench, Record::Ack { event, block: Block::new(9).unwrap(), at: bench.now });
    }),
    ("acknowledged", Some(Kind::Ack), |bench, queue, base| {
        for kind in [LEASED, RETURNED, MOVED, DEFERRED] {
            let event = EventRef { queue, seq: base + kind };
            store(bench, Record::Ack { event, block: Block::new(9).unwrap(), at: bench.now });
        }
    }),
    ("deferred", Some(Kind::Defer), |bench, queue, base| {
        let until = bench.now.after(std::time::Duration::from_secs(5));
        for kind in [LEASED, RETURNED, DEFERRED] {
            let event = EventRef { queue, seq: base + kind };
            store(bench, Record::Defer { event, until, deliveries: 7, handed_back: 1 });
        }
    }),
    ("back", Some(Kind::Return), |bench, queue, base| {
        for kind in [RETURNING, RETURNED, DEFERRED] {
            store(bench, Record::Return { event: EventRef { queue, seq: base + kind }, deliveries: 9, handed_back: 2 });
        }
    }),
    ("a dead letter", Some(Kind::Discard), |bench, queue, base| {
        for kind in [LEASED, RETURNED, DEFERRED, RETURNING] {
            let event = EventRef { queue, seq: base + kind };
            store(bench, Record::Discard { event, reason: "why".into(), at: bench.now, deliveries: 5 });
        }
    }),
    ("a dead letter is put back", Some(Kind::Requeue), |bench, queue, base| {
        let expires_at = Some(bench.now.after(std::time::Duration::from_secs(9)));
        store(bench, Record::Requeue { event: EventRef { queue, seq: base + DEAD }, expires_at });
    }),
    ("given up", Some(Kind::Drop), |bench, queue, base| {
        for kind in [DEAD, DEFERRED, RETURNED, MOVED] {
            store(bench, Record::Drop { event: EventRef { queue, seq: base + kind } });
        }
    }),
    ("all of a recipient", Some(Kind::RemoveRecipient), |bench, _, _| {
        store(bench, Record::Remove { queues: Removed::Recipient(app(WAREHOUSE)) });
    }),
    ("all of a name", Some(Kind::RemoveName), |bench, queue, _| {
        store(bench, Record::Remove { queues: Removed::Name(names()[queue as usize].clone()) });
    }),
    ("for an administrator", Some(Kind::Admin), |bench, _, _| {
        let command = AdminCommand::Grant { app: app(SHOP), event: Some(event()), rights: Rights::NONE };
        store(bench, Record::Admin { at: bench.now, command });
    }),
    ("a part of the log is dropped", None, |bench, _, _| {
        bench.state.dropped(Position::START, Position::new(bench.log.len() as u64 + 1));
    }),
    ("deliveries", None, |bench, _, _| _ = bench.state.dispatch(50)),
    ("much time", None, |bench, _, _| {
        bench.now = bench.now.after(std::time::Duration::from_secs(600));
        (0..99).for_each(|_| bench.state.tick(bench.now));
    }),
    ("time", None, |bench, _, _| {
        bench.now = bench.now.after(std::time::Duration::from_secs(61));
        (0..9).for_each(|_| bench.state.tick(bench.now));
        let back = bench.state.pending(20);
        bench.commit(&back);
    }),
];

/// Makes a checkpoint, and one change once so many slices are there; how many there were.
fn checkpoint((what, kind_of, change): (&str, Option<Kind>, Make), queue: u32, base: u64, after: usize) -> usize {
    let place = format!("{what}, queue {queue}, event {base}, after {after} slices");
    let mut bench = bench();
    let (begun, expected) = (bench.log.len(), bench.state.snapshot());
    let registry = expected.registry.clone();
    let mut bytes = bench.state.partitions[0].begin_checkpoint().to_vec();
    let mut slices = 0;
    let mut made = false;
    loop {
        if slices == after {
            change(&mut bench, queue, base);
            made = true;
        }
        let Some(slice) = bench.state.partitions[0].go_on_with_checkpoint(TURN) else { break };
        bytes.extend_from_slice(&slice);
        slices += 1;
    }
    if !made {
        return slices;
    }
    let decoded = Durable { registry, partitions: vec![snapshot::decode(bytes.into()).unwrap().partition] };
    assert_eq!(decoded, expected, "{place}");
    let Some(kind_of) = kind_of else { return slices };
    assert!(bench.log.iter().skip(begun).any(|record| kind(record) == kind_of), "{place}");
    assert_ne!(bench.state.snapshot(), expected, "{place}: nothing changed");
    // With what came after it, it is what was lived.
    let restored = State::restore(bench.settings.clone(), decoded);
    let restored = bench.replayed_onto(restored, begun..bench.log.len());
    assert_eq!(restored.snapshot(), bench.state.snapshot(), "{place}");
    slices
}

#[test]
fn whatever_changes_between_two_slices_a_checkpoint_holds_what_was_before() {
    let kinds: BTreeSet<Kind> = CHANGES.iter().filter_map(|(_, kind, _)| *kind).collect();
    assert_eq!(kinds.len(), Kind::Admin as usize + 1, "{kinds:?}");
    for &change in CHANGES {
        // What is told early, and what late.
        for (queue, base) in [(0, 0), (1, 48)] {
            let mut after = 0;
            // As long as there are as many slices before the change.
            while after <= checkpoint(change, queue, base, after) {
                after += if after < 4 { 1 } else { 2 };
                assert!(after <= SLICES.0);
            }
            assert!(after >= SLICES.1, "{after}");
        }
    }
}

#[test]
fn nothing_is_due_of_what_went_with_an_app() {
    let mut bench = bench();
    assert!(bench.state.next_due().is_some());
    let changes = bench.state.administer(AdminCommand::DeleteApp { app: app(WAREHOUSE) }).unwrap();
    bench.commit(&changes);
    while bench.state.has_work() {
        bench.state.tick(bench.now);
        bench.check();
    }
    let partition = &bench.state.partitions[0];
    assert!(partition.leaving.is_empty() && partition.memory.is_empty() && partition.usage.is_empty());
    assert!(partition.returning.is_empty() && partition.doomed.is_empty() && partition.consumers.is_empty());
    assert_eq!((partition.timers.iter().count(), partition.lease_ends.iter().count()), (0, 0));
    assert!(bench.state.next_due().is_none() && bench.state.pending(1).is_empty());
}

/// What [`ACKED`] names is used by no change: it is what a record finds that comes too late.
#[test]
fn a_record_that_comes_too_late_changes_nothing() {
    let mut bench = bench();
    let before = bench.state.snapshot();
    let event = EventRef { queue: 0, seq: ACKED };
    copy(&mut bench, event);
    for record in [
        Record::Drop { event },
        Record::Requeue { event, expires_at: None },
        Record::Return { event, deliveries: 3, handed_back: 0 },
        Record::Discard { event, reason: String::new(), at: bench.now, deliveries: 3 },
    ] {
        store(&mut bench, record);
    }
    assert_eq!(bench.state.snapshot(), before);
}
