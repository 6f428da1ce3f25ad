//! Records as bytes: a kind, and a body that is laid out in the module's documentation.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use ensync_core::{AppId, Block, EventName, IdempotencyKey, Metadata, Schema, WirePayload};

use super::bytes::{Malformed, Read, Reader, Writer};
use crate::log::{EventOptions, EventRef, KeyHash, PublishRecord, Record, Rights};

/// The kind of a mark; it holds no record.
pub(super) const MARK: u8 = 0;
pub(super) const PUBLISH: u8 = 1;
const ACK: u8 = 2;
const DEFER: u8 = 3;
const DISCARD: u8 = 4;
const REQUEUE: u8 = 5;
const DROP: u8 = 6;
const APP: u8 = 7;
const EVENT: u8 = 8;
const GRANT: u8 = 9;
const ACCESS_KEY: u8 = 10;
const KEY_PAIR: u8 = 11;
const RETIRE_KEY: u8 = 12;
const ENABLE: u8 = 13;
const DELETE_APP: u8 = 14;
const REVOKE: u8 = 15;
const DELETE_EVENT: u8 = 16;
/// The kind of what could not be read when the log was repaired; it holds no record.
pub(super) const LOST: u8 = 255;

/// Whether a frame of this kind holds a record.
pub(super) fn is_kind(kind: u8) -> bool {
    !matches!(kind, MARK | LOST)
}

pub(super) fn kind(record: &Record) -> u8 {
    match record {
        Record::Publish(_) => PUBLISH,
        Record::Ack { .. } => ACK,
        Record::Defer { .. } => DEFER,
        Record::Discard { .. } => DISCARD,
        Record::Requeue { .. } => REQUEUE,
        Record::Drop { .. } => DROP,
        Record::App { .. } => APP,
        Record::Event { .. } => EVENT,
        Record::Grant { .. } => GRANT,
        Record::AccessKey { .. } => ACCESS_KEY,
        Record::KeyPair { .. } => KEY_PAIR,
        Record::RetireKey { .. } => RETIRE_KEY,
        Record::Enable { .. } => ENABLE,
        Record::DeleteApp { .. } => DELETE_APP,
        Record::Revoke { .. } => REVOKE,
        Record::DeleteEvent { .. } => DELETE_EVENT,
    }
}

/// Appends a record's body.
pub(super) fn encode(record: &Record, out: &mut Vec<u8>) {
    let mut w = Writer(out);
    match record {
        Record::Publish(publish) => encode_publish(publish, &mut w),
        Record::Ack { event: at, block } => {
            event(&mut w, *at);
            w.u64(block.as_u64());
        }
        Record::Defer { event: at, until, deliveries } => {
            event(&mut w, *at);
            w.time(*until);
            w.u32(*deliveries);
        }
        Record::Discard { event: at, reason, at: time, deliveries } => {
            event(&mut w, *at);
            w.time(*time);
            w.u32(*deliveries);
            w.text(reason);
        }
        Record::Requeue { event: at, expires_at } => {
            event(&mut w, *at);
            w.option(*expires_at, Writer::time);
        }
        Record::Drop { event: at } => event(&mut w, *at),
        Record::App { id, name, key_hash, rights: may, at } => {
            w.array(id.as_bytes());
            w.array(key_hash.as_bytes());
            rights(&mut w, *may);
            w.time(*at);
            w.text(name);
        }
        Record::Event { name, options, auto } => {
            w.text(name.as_str());
            w.u8(u8::from(*auto));
            encode_options(options, &mut w);
        }
        Record::Grant { app, event, rights: may } => {
            w.array(app.as_bytes());
            w.option(event.as_ref(), |w, event: &EventName| w.text(event.as_str()));
            rights(&mut w, *may);
        }
        Record::AccessKey { app, key_hash, at, old_until } => {
            w.array(app.as_bytes());
            w.array(key_hash.as_bytes());
            w.time(*at);
            w.option(*old_until, Writer::time);
        }
        Record::KeyPair { app, public_key } | Record::RetireKey { app, public_key } => {
            w.array(app.as_bytes());
            w.array(public_key.as_bytes());
        }
        Record::Enable { app, enabled } => {
            w.array(app.as_bytes());
            w.u8(u8::from(*enabled));
        }
        Record::DeleteApp { app } => w.array(app.as_bytes()),
        Record::Revoke { app, event } => {
            w.array(app.as_bytes());
            w.text(event.as_str());
        }
        Record::DeleteEvent { name } => w.text(name.as_str()),
    }
}

/// Reads a record's body.
pub(super) fn decode(kind: u8, body: Bytes) -> Read<Record> {
    let mut r = Reader(body);
    let record = match kind {
        PUBLISH => Record::Publish(decode_publish(&mut r)?),
        ACK => Record::Ack { event: read_event(&mut r)?, block: Block::new(r.u64()?).map_err(|_| Malformed)? },
        DEFER => Record::Defer { event: read_event(&mut r)?, until: r.time()?, deliveries: r.u32()? },
        DISCARD => {
            let (event, at, deliveries) = (read_event(&mut r)?, r.time()?, r.u32()?);
            Record::Discard { event, at, deliveries, reason: r.string()? }
        }
        REQUEUE => Record::Requeue { event: read_event(&mut r)?, expires_at: r.option(Reader::time)? },
        DROP => Record::Drop { event: read_event(&mut r)? },
        APP => {
            let (id, key_hash) = (r.app()?, KeyHash::from_bytes(r.array()?));
            let (rights, at) = (read_rights(&mut r)?, r.time()?);
            Record::App { id, key_hash, rights, at, name: r.string()? }
        }
        EVENT => {
            let (name, auto) = (r.event()?, r.bool()?);
            Record::Event { name, auto, options: decode_options(&mut r)? }
        }
        GRANT => {
            let (app, event) = (r.app()?, r.option(Reader::event)?);
            Record::Grant { app, event, rights: read_rights(&mut r)? }
        }
        ACCESS_KEY => {
            let (app, key_hash) = (r.app()?, KeyHash::from_bytes(r.array()?));
            Record::AccessKey { app, key_hash, at: r.time()?, old_until: r.option(Reader::time)? }
        }
        KEY_PAIR => Record::KeyPair { app: r.app()?, public_key: r.app()? },
        RETIRE_KEY => Record::RetireKey { app: r.app()?, public_key: r.app()? },
        ENABLE => Record::Enable { app: r.app()?, enabled: r.bool()? },
        DELETE_APP => Record::DeleteApp { app: r.app()? },
        REVOKE => Record::Revoke { app: r.app()?, event: r.event()? },
        DELETE_EVENT => Record::DeleteEvent { name: r.event()? },
        _ => return Err(Malformed),
    };
    r.end()?;
    Ok(record)
}

fn encode_publish(publish: &PublishRecord, w: &mut Writer<'_>) {
    event(w, publish.at);
    w.u32(publish.tag);
    w.array(publish.recipient.as_bytes());
    w.array(publish.sender.as_bytes());
    w.time(publish.accepted_at);
    w.option(publish.expires_at, Writer::time);
    w.option(publish.idempotency_key.as_ref(), |w, key| w.text(key.as_str()));
    w.text(publish.event.as_str());
    w.text(publish.metadata.as_str());
    w.bytes(publish.payload.as_str().as_bytes());
}

fn decode_publish(r: &mut Reader) -> Read<PublishRecord> {
    Ok(PublishRecord {
        at: read_event(r)?,
        tag: r.u32()?,
        recipient: r.app()?,
        sender: AppId::from_bytes(r.array()?),
        accepted_at: r.time()?,
        expires_at: r.option(Reader::time)?,
        idempotency_key: r.option(|r| r.text(IdempotencyKey::parse))?,
        event: r.event()?,
        metadata: r.text(Metadata::parse)?,
        payload: WirePayload::from_wire(r.bytes()?),
    })
}

/// Appends the options of an event name.
pub(crate) fn encode_options(options: &EventOptions, w: &mut Writer<'_>) {
    let duration = |w: &mut Writer<'_>, duration: Duration| {
        w.u64(duration.as_secs());
        w.u32(duration.subsec_nanos());
    };
    w.option(options.schema.as_ref(), |w, schema| w.text(&schema.to_json()));
    w.option(options.ttl, duration);
    w.option(options.max_deliveries, |w, max| w.u32(max.get()));
    w.option(options.ack_timeout, duration);
}

/// Reads the options of an event name.
pub(crate) fn decode_options(r: &mut Reader) -> Read<EventOptions> {
    let duration = |r: &mut Reader| {
        let (seconds, nanos) = (r.u64()?, r.u32()?);
        if nanos < 1_000_000_000 { Ok(Duration::new(seconds, nanos)) } else { Err(Malformed) }
    };
    Ok(EventOptions {
        schema: r.option(|r| r.text(Schema::parse))?,
        ttl: r.option(duration)?,
        max_deliveries: r.option(|r| NonZeroU32::new(r.u32()?).ok_or(Malformed))?,
        ack_timeout: r.option(duration)?,
    })
}

/// Appends rights: bit 0 to publish, bit 1 to subscribe.
pub(crate) fn rights(w: &mut Writer<'_>, rights: Rights) {
    w.u8(u8::from(rights.publish) | u8::from(rights.subscribe) << 1);
}

/// Reads rights.
pub(crate) fn read_rights(r: &mut Reader) -> Read<Rights> {
    match r.u8()? {
        bits @ 0..=3 => Ok(Rights { publish: bits & 1 != 0, subscribe: bits & 2 != 0 }),
        _ => Err(Malformed),
    }
}

/// Appends a queue's number and a sequence number.
pub(crate) fn event(w: &mut Writer<'_>, event: EventRef) {
    w.u32(event.queue);
    w.u64(event.seq);
}

/// Reads a queue's number and a sequence number.
pub(crate) fn read_event(r: &mut Reader) -> Read<EventRef> {
    Ok(EventRef { queue: r.u32()?, seq: r.u64()? })
}

#[cfg(test)]
pub(super) mod tests {
    use ensync_core::Timestamp;

    use super::*;

    /// One record of each kind, with and without what is optional.
    pub(in crate::log::disk) fn samples() -> Vec<Record> {
        let event = EventRef { queue: 7, seq: 1 << 40 };
        let at = Timestamp::from_millis(1_700_000_000_123);
        let name = EventName::parse("orders/status/updated").unwrap();
        let app = AppId::from_bytes([7; 32]);
        let publish = PublishRecord {
            at: event,
            tag: 0xdead_beef,
            recipient: app,
            event: name.clone(),
            sender: AppId::from_bytes([9; 32]),
            payload: WirePayload::from_wire("cGF5bG9hZA==".to_owned()),
            metadata: Metadata::parse(r#"{"headers":{"é":1}}"#).unwrap(),
            accepted_at: at,
            expires_at: None,
            idempotency_key: None,
        };
        let options = EventOptions {
            schema: Some(Schema::parse(r#"{"order":"string","n":"long"}"#).unwrap()),
            ttl: Some(Duration::new(3, 7)),
            max_deliveries: NonZeroU32::new(3),
            ack_timeout: Some(Duration::from_millis(500)),
        };
        vec![
            Record::Event { name: name.clone(), options: EventOptions::default(), auto: true },
            Record::Event { name: name.clone(), options, auto: false },
            Record::App {
                id: app,
                name: "shop".into(),
                key_hash: KeyHash::from_bytes([3; 32]),
                rights: Rights::ALL,
                at,
            },
            Record::Grant { app, event: None, rights: Rights { publish: true, subscribe: false } },
            Record::Grant { app, event: Some(name.clone()), rights: Rights::NONE },
            Record::AccessKey { app, key_hash: KeyHash::from_bytes([4; 32]), at, old_until: None },
            Record::AccessKey { app, key_hash: KeyHash::from_bytes([4; 32]), at, old_until: Some(at) },
            Record::KeyPair { app, public_key: AppId::from_bytes([8; 32]) },
            Record::RetireKey { app, public_key: AppId::from_bytes([8; 32]) },
            Record::Enable { app, enabled: false },
            Record::DeleteApp { app },
            Record::Revoke { app, event: name.clone() },
            Record::DeleteEvent { name },
            Record::Publish(publish.clone()),
            Record::Publish(PublishRecord {
                expires_at: Some(at),
                idempotency_key: Some(IdempotencyKey::parse("once").unwrap()),
                ..publish
            }),
            Record::Ack { event, block: Block::new(1 << 32 | 5).unwrap() },
            Record::Defer { event, until: at, deliveries: 2 },
            Record::Discard { event, reason: "no; {é}".into(), at, deliveries: 1 },
            Record::Requeue { event, expires_at: None },
            Record::Requeue { event, expires_at: Some(at) },
            Record::Drop { event },
        ]
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        for record in samples() {
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            let bytes = Bytes::from(bytes);
            assert_eq!(decode(kind(&record), bytes.clone()), Ok(record.clone()));
            // No beginning of one is another, nor is one with something after it.
            for end in 0..bytes.len() {
                assert_eq!(decode(kind(&record), bytes.slice(..end)), Err(Malformed), "{record:?} {end}");
            }
            let longer = Bytes::from([&bytes[..], &[0]].concat());
            assert_eq!(decode(kind(&record), longer), Err(Malformed), "{record:?}");
            assert_eq!(decode(MARK, bytes.clone()), Err(Malformed));
            assert_eq!(decode(200, bytes), Err(Malformed));
        }
    }

    #[test]
    fn altered_bytes_are_another_record_or_none() {
        // The type names of a schema are read in either case.
        let exact = |r: &Record| !matches!(r, Record::Event { options, .. } if options.schema.is_some());
        for record in samples().into_iter().filter(exact) {
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut altered = bytes.clone();
                    altered[at] ^= 1 << bit;
                    let read = decode(kind(&record), altered.into());
                    assert!(read.as_ref() != Ok(&record), "{record:?} {at} {bit}: {read:?}");
                }
            }
        }
    }
}
