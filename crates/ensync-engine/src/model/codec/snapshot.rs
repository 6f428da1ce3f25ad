//! Snapshots: laid out as [`log::format`](crate::log::format) says of a checkpoint's state.

use bytes::Bytes;
use ensync_core::Block;

use super::admin::{read_options, read_rights, write_options, write_rights};
use super::bytes::{Malformed, Read, Reader, Writer};
use super::record::{event, read_event};
use crate::model::{
    KeyHash, PartitionSnapshot, Position, RegistrySnapshot, Snapshot, SnapshotApp, SnapshotEvent, SnapshotName,
    SnapshotPublish, SnapshotPublisher, SnapshotQueue, SnapshotSettled, SnapshotWait,
};

pub(crate) fn encode(state: &Snapshot) -> Bytes {
    let mut out = Vec::new();
    let mut w = Writer(&mut out);
    write_registry(&state.registry, &mut w);
    write_partition(&state.partition, &mut w);
    out.into()
}

fn write_registry(registry: &RegistrySnapshot, w: &mut Writer<'_>) {
    w.time(registry.logged_at);
    w.list(&registry.apps, |w, app| {
        w.array(app.id.as_bytes());
        w.text(&app.name);
        w.array(app.public_key.as_bytes());
        w.list(&app.earlier_keys, |w, key| w.array(key.as_bytes()));
        w.array(app.key_hash.as_bytes());
        w.option(app.old_key, |w, (hash, until)| {
            w.array(hash.as_bytes());
            w.time(until);
        });
        w.u8(u8::from(app.enabled));
        write_rights(w, app.rights);
        w.time(app.created_at);
        w.list(&app.grants, |w, (name, may)| {
            w.text(name.as_str());
            write_rights(w, *may);
        });
    });
    w.list(&registry.events, |w, known| {
        w.text(known.name.as_str());
        write_options(&known.options, w);
        w.u8(u8::from(known.auto));
    });
}

fn write_partition(partition: &PartitionSnapshot, w: &mut Writer<'_>) {
    w.time(partition.logged_at);
    w.u32(partition.next_queue);
    w.list(&partition.queues, |w, queue| {
        w.u32(queue.number);
        w.array(queue.recipient.as_bytes());
        w.text(queue.event.as_str());
        w.u64(queue.next_seq);
        w.list(&queue.events, write_event);
        w.list(&queue.settled, |w, settled| {
            w.u64(settled.first);
            w.u64(settled.last);
            w.option(settled.by.map(Block::as_u64), Writer::u64);
            w.time(settled.at);
        });
        w.list(&queue.moved, |w, (seq, position)| {
            w.u64(*seq);
            w.u64(position.as_u64());
        });
    });
    w.list(&partition.publishes, |w, publisher| {
        w.array(publisher.app.as_bytes());
        w.list(&publisher.publishes, |w, publish| {
            w.array(&publish.fingerprint);
            event(w, publish.event);
            w.u32(publish.tag);
            w.u64(publish.position.as_u64());
            w.time(publish.at);
        });
    });
}

pub(crate) fn decode(bytes: Bytes) -> Read<Snapshot> {
    let mut r = Reader(bytes);
    let state = Snapshot { registry: read_registry(&mut r)?, partition: read_partition(&mut r)? };
    r.end()?;
    Ok(state)
}

fn read_registry(r: &mut Reader) -> Read<RegistrySnapshot> {
    Ok(RegistrySnapshot {
        logged_at: r.time()?,
        apps: r.list(|r| {
            Ok(SnapshotApp {
                id: r.app()?,
                name: r.string()?,
                public_key: r.app()?,
                earlier_keys: r.list(Reader::app)?,
                key_hash: KeyHash::from_bytes(r.array()?),
                old_key: r.option(|r| Ok((KeyHash::from_bytes(r.array()?), r.time()?)))?,
                enabled: r.bool()?,
                rights: read_rights(r)?,
                created_at: r.time()?,
                grants: r.list(|r| Ok((r.event()?, read_rights(r)?)))?,
            })
        })?,
        events: r.list(|r| Ok(SnapshotName { name: r.event()?, options: read_options(r)?, auto: r.bool()? }))?,
    })
}

fn read_partition(r: &mut Reader) -> Read<PartitionSnapshot> {
    Ok(PartitionSnapshot {
        logged_at: r.time()?,
        next_queue: r.u32()?,
        queues: r.list(|r| {
            Ok(SnapshotQueue {
                number: r.u32()?,
                recipient: r.app()?,
                event: r.event()?,
                next_seq: r.u64()?,
                events: r.list(read_unsettled)?,
                settled: r.list(read_settled)?,
                moved: r.list(|r| Ok((r.u64()?, Position::new(r.u64()?))))?,
            })
        })?,
        publishes: r.list(|r| Ok(SnapshotPublisher { app: r.app()?, publishes: r.list(read_publish)? }))?,
    })
}

fn write_event(w: &mut Writer<'_>, event: &SnapshotEvent) {
    w.u64(event.seq);
    w.u64(event.position.as_u64());
    w.u64(event.current.as_u64());
    w.u32(event.tag);
    w.time(event.accepted_at);
    w.option(event.expires_at, Writer::time);
    w.u32(event.size);
    w.u32(event.deliveries);
    w.u8(event.handed_back);
    match &event.waits {
        SnapshotWait::Client => w.u8(0),
        SnapshotWait::Until(until) => {
            w.u8(1);
            w.time(*until);
        }
        SnapshotWait::Administrator { reason, at } => {
            w.u8(2);
            w.time(*at);
            w.text(reason);
        }
    }
}

fn read_settled(r: &mut Reader) -> Read<SnapshotSettled> {
    let (first, last, by) = (r.u64()?, r.u64()?, r.option(Reader::u64)?);
    let by = by.map(Block::new).transpose().map_err(|_| Malformed)?;
    if first <= last { Ok(SnapshotSettled { first, last, by, at: r.time()? }) } else { Err(Malformed) }
}

fn read_publish(r: &mut Reader) -> Read<SnapshotPublish> {
    Ok(SnapshotPublish {
        fingerprint: r.array()?,
        event: read_event(r)?,
        tag: r.u32()?,
        position: Position::new(r.u64()?),
        at: r.time()?,
    })
}

fn read_unsettled(r: &mut Reader) -> Read<SnapshotEvent> {
    Ok(SnapshotEvent {
        seq: r.u64()?,
        position: Position::new(r.u64()?),
        current: Position::new(r.u64()?),
        tag: r.u32()?,
        accepted_at: r.time()?,
        expires_at: r.option(Reader::time)?,
        size: r.u32()?,
        deliveries: r.u32()?,
        handed_back: r.u8()?,
        waits: match r.u8()? {
            0 => SnapshotWait::Client,
            1 => SnapshotWait::Until(r.time()?),
            2 => {
                let at = r.time()?;
                SnapshotWait::Administrator { at, reason: r.string()? }
            }
            _ => return Err(Malformed),
        },
    })
}

#[cfg(test)]
mod tests {
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
    fn a_state_is_read_as_it_was_written_and_no_part_of_it_is_one() {
        for state in [state(), Snapshot::default()] {
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
}
