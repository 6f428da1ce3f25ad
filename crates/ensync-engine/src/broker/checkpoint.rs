//! The durable state as bytes: what a checkpoint holds. Numbers, texts and the like are laid out as in the log's records.
//!
//! ```text
//! state    = count ‖ apps, count ‖ event names, next queue (4), count ‖ queues, count ‖ publishers,
//!            count ‖ settled
//! app      = id app, name text, its public key app, count ‖ earlier public keys app, SHA-256 of its access key (32), old key?,
//!            whether it may log in (1), rights, created time, count ‖ grants
//! old key  = SHA-256 of the access key before (32), until time
//! grant    = name text, rights
//! name     = name text, options, registered by first use (1)
//! queue    = number (4), app, name text, next seq (8), count ‖ events
//! event    = seq (8), position (8), current position (8), tag (4), accepted time, expires time?, size (4), deliveries (4), waits
//! waits    = 0 for a client | 1, until time | 2 for an administrator, since time, reason text
//! publisher = id app, count ‖ publishes
//! publish  = fingerprint (16), event, tag (4), position (8), time
//! settled  = event, block (8)?
//! ```
//!
//! A count is 4 bytes.

use bytes::Bytes;
use ensync_core::Block;

use crate::log::disk::bytes::{Malformed, Read, Reader, Writer};
use crate::log::disk::record::{decode_options, encode_options, event, read_event, read_rights, rights};
use crate::log::{KeyHash, Position};
use crate::state::{
    Durable, DurableApp, DurableEvent, DurableName, DurablePublish, DurablePublisher, DurableQueue, DurableSettled,
    DurableWait,
};

pub(crate) fn encode(state: &Durable) -> Bytes {
    let mut out = Vec::new();
    let mut w = Writer(&mut out);
    w.list(&state.apps, |w, app| {
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
        rights(w, app.rights);
        w.time(app.created_at);
        w.list(&app.grants, |w, (name, may)| {
            w.text(name.as_str());
            rights(w, *may);
        });
    });
    w.list(&state.events, |w, known| {
        w.text(known.name.as_str());
        encode_options(&known.options, w);
        w.u8(u8::from(known.auto));
    });
    w.u32(state.next_queue);
    w.list(&state.queues, |w, queue| {
        w.u32(queue.number);
        w.array(queue.recipient.as_bytes());
        w.text(queue.event.as_str());
        w.u64(queue.next_seq);
        w.list(&queue.events, write_event);
    });
    w.list(&state.publishes, |w, publisher| {
        w.array(publisher.app.as_bytes());
        w.list(&publisher.publishes, |w, publish| {
            w.array(&publish.fingerprint);
            event(w, publish.event);
            w.u32(publish.tag);
            w.u64(publish.position.as_u64());
            w.time(publish.at);
        });
    });
    w.list(&state.settled, |w, settled| {
        event(w, settled.event);
        w.option(settled.by.map(Block::as_u64), Writer::u64);
    });
    out.into()
}

pub(crate) fn decode(bytes: Bytes) -> Read<Durable> {
    let mut r = Reader(bytes);
    let state = Durable {
        apps: r.list(|r| {
            Ok(DurableApp {
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
        events: r.list(|r| Ok(DurableName { name: r.event()?, options: decode_options(r)?, auto: r.bool()? }))?,
        next_queue: r.u32()?,
        queues: r.list(|r| {
            Ok(DurableQueue {
                number: r.u32()?,
                recipient: r.app()?,
                event: r.event()?,
                next_seq: r.u64()?,
                events: r.list(read_unsettled)?,
            })
        })?,
        publishes: r.list(|r| Ok(DurablePublisher { app: r.app()?, publishes: r.list(read_publish)? }))?,
        settled: r.list(|r| {
            let (event, by) = (read_event(r)?, r.option(Reader::u64)?);
            Ok(DurableSettled { event, by: by.map(Block::new).transpose().map_err(|_| Malformed)? })
        })?,
    };
    r.end()?;
    Ok(state)
}

fn write_event(w: &mut Writer<'_>, event: &DurableEvent) {
    w.u64(event.seq);
    w.u64(event.position.as_u64());
    w.u64(event.current.as_u64());
    w.u32(event.tag);
    w.time(event.accepted_at);
    w.option(event.expires_at, Writer::time);
    w.u32(event.size);
    w.u32(event.deliveries);
    match &event.waits {
        DurableWait::Client => w.u8(0),
        DurableWait::Until(until) => {
            w.u8(1);
            w.time(*until);
        }
        DurableWait::Administrator { reason, at } => {
            w.u8(2);
            w.time(*at);
            w.text(reason);
        }
    }
}

fn read_publish(r: &mut Reader) -> Read<DurablePublish> {
    Ok(DurablePublish {
        fingerprint: r.array()?,
        event: read_event(r)?,
        tag: r.u32()?,
        position: Position::new(r.u64()?),
        at: r.time()?,
    })
}

fn read_unsettled(r: &mut Reader) -> Read<DurableEvent> {
    Ok(DurableEvent {
        seq: r.u64()?,
        position: Position::new(r.u64()?),
        current: Position::new(r.u64()?),
        tag: r.u32()?,
        accepted_at: r.time()?,
        expires_at: r.option(Reader::time)?,
        size: r.u32()?,
        deliveries: r.u32()?,
        waits: match r.u8()? {
            0 => DurableWait::Client,
            1 => DurableWait::Until(r.time()?),
            2 => {
                let at = r.time()?;
                DurableWait::Administrator { at, reason: r.string()? }
            }
            _ => return Err(Malformed),
        },
    })
}

#[cfg(test)]
mod tests {
    use ensync_core::{AppId, EventName, Timestamp};

    use super::*;
    use crate::log::{EventOptions, EventRef, Rights};

    fn state() -> Durable {
        let (app, name) = (AppId::from_bytes([1; 32]), EventName::parse("a/b").unwrap());
        let at = Timestamp::from_millis(1_700_000_000_000);
        let event = |seq, waits| DurableEvent {
            seq,
            position: Position::new(64),
            current: Position::new(128),
            tag: 9,
            accepted_at: at,
            expires_at: (seq > 1).then_some(at),
            size: 7,
            deliveries: 2,
            waits,
        };
        let dead = DurableWait::Administrator { reason: "no".into(), at };
        Durable {
            apps: vec![DurableApp {
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
            events: vec![DurableName { name: name.clone(), options: EventOptions::default(), auto: true }],
            next_queue: 4,
            queues: vec![DurableQueue {
                number: 3,
                recipient: app,
                event: name,
                next_seq: 9,
                events: vec![event(1, DurableWait::Client), event(2, DurableWait::Until(at)), event(3, dead)],
            }],
            publishes: vec![DurablePublisher {
                app,
                publishes: vec![DurablePublish {
                    fingerprint: [4; 16],
                    event: EventRef { queue: 3, seq: 2 },
                    tag: 9,
                    position: Position::new(64),
                    at,
                }],
            }],
            settled: [None, Block::new(7).ok()]
                .map(|by| DurableSettled { event: EventRef { queue: 3, seq: 0 }, by })
                .into(),
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written_and_no_part_of_it_is_one() {
        for state in [state(), Durable::default()] {
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
