use ensync_core::{AppId, EventName, Timestamp};

use super::*;
use crate::model::{EventOptions, EventRef, Rights};

fn state() -> Snapshot {
    let (app, name) = (AppId::from_bytes([1; 32]), EventName::parse("a/b").unwrap());
    let at = Timestamp::from_millis(1_700_000_000_000);
    let event = |seq, waits| SnapshotEvent {
        seq,
        position: Position::new(64),
        current: Position::new(128),
        tag: 9,
        accepted_at: at,
        expires_at: (seq > 1).then_some(at),
        size: 7,
        deliveries: 2,
        handed_back: 1,
        waits,
    };
    let dead = SnapshotWait::Administrator { reason: "no".into(), at };
    let registry = RegistrySnapshot {
        logged_at: at,
        apps: vec![SnapshotApp {
            id: app,
            name: "shop".into(),
            public_key: AppId::from_bytes([6; 32]),
            earlier_keys: vec![app, AppId::from_bytes([5; 32])],
            key_hash: KeyHash::from_bytes([2; 32]),
            old_key: Some((KeyHash::from_bytes([3; 32]), at)),
            enabled: false,
            rights: Rights::ALL,
            grants: vec![(name.clone(), Rights::NONE)],
            created_at: at,
        }],
        events: vec![SnapshotName { name: name.clone(), options: EventOptions::default(), auto: true }],
        deleted: Vec::new(),
    };
    let partition = PartitionSnapshot {
        logged_at: at,
        next_queue: 4,
        queues: vec![SnapshotQueue {
            number: 3,
            recipient: app,
            event: name,
            next_seq: 9,
            settled: [None, Block::new(7).ok()].map(|by| SnapshotSettled { first: 4, last: 5, by, at }).into(),
            moved: vec![(4, Position::new(192))],
            events: vec![event(1, SnapshotWait::Client), event(2, SnapshotWait::Until(at)), event(3, dead)],
        }],
        publishes: vec![SnapshotPublisher {
            app,
            publishes: vec![SnapshotPublish {
                fingerprint: [4; 16],
                event: EventRef { queue: 3, seq: 2 },
                tag: 9,
                position: Position::new(64),
                at,
            }],
        }],
    };
    Snapshot { registry, partition }
}

#[test]
fn parts_make_the_same_state_in_whatever_order() {
    let state = state();
    let queue = state.partition.queues[0].clone();
    let (number, events) = (queue.number, queue.events.clone());
    let events_of = |range: std::ops::Range<usize>| SnapshotPart::Events { queue: 3, events: events[range].to_vec() };
    let publisher = |seqs: &[u64]| {
        let first = &state.partition.publishes[0].publishes[0];
        let publish = |seq| SnapshotPublish { event: EventRef { queue: 3, seq }, ..first.clone() };
        let publishes = seqs.iter().copied().map(publish).collect();
        SnapshotPublisher { app: state.partition.publishes[0].app, publishes }
    };
    let mut moved = queue.moved.clone();
    // Of an unsettled one.
    moved.push((1, Position::new(128)));
    let parts = [
        events_of(1..3),
        SnapshotPart::Publishes(publisher(&[5, 4])),
        SnapshotPart::Moved { queue: number, moved },
        events_of(0..1),
        SnapshotPart::Queue(queue),
        SnapshotPart::Publishes(publisher(&[6])),
    ];
    let mut bytes = begin(&state.registry, state.partition.logged_at, state.partition.next_queue);
    parts.iter().for_each(|each| part(&mut bytes, each));
    assert_eq!(decode(bytes.clone().into()), Err(Malformed), "it has no end");
    let (mut twice, mut orphans) = (bytes.clone(), bytes.clone());
    end(&mut bytes);
    let mut expected = state.clone();
    expected.partition.publishes = vec![publisher(&[5, 4, 6])];
    assert_eq!(decode(bytes.into()), Ok(expected));
    part(&mut twice, &events_of(2..3));
    part(&mut orphans, &SnapshotPart::Events { queue: 9, events: events[..1].to_vec() });
    for mut wrong in [twice, orphans] {
        end(&mut wrong);
        assert_eq!(decode(wrong.into()), Err(Malformed));
    }
}

#[test]
fn a_state_is_read_as_it_was_written_and_no_part_of_it_is_one() {
    let mut deleted = state();
    deleted.registry.deleted = vec![AppId::from_bytes([8; 32]), AppId::from_bytes([9; 32])];
    for state in [state(), deleted, Snapshot::default()] {
        let bytes = encode(&state);
        assert_eq!(decode(bytes.clone()), Ok(state));
        for end in 0..bytes.len() {
            assert_eq!(decode(bytes.slice(..end)), Err(Malformed));
        }
        assert_eq!(decode([&bytes[..], &[0]].concat().into()), Err(Malformed));
    }
    // A count that nothing follows takes no memory.
    assert_eq!(decode(Bytes::from_static(&[0xff; 4])), Err(Malformed));
}
