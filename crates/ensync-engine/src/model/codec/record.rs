//! Records: a kind, and what [`log::format`](crate::log::format) says of it.

use bytes::Bytes;
use ensync_core::{AppId, Block, IdempotencyKey, Metadata, WirePayload};

use super::admin;
use super::bytes::{Malformed, Read, Reader, Writer};
use crate::model::{Encoded, EventRef, PublishRecord, Record, Removed};

const PUBLISH: u8 = 1;
const ACK: u8 = 2;
const DEFER: u8 = 3;
const DISCARD: u8 = 4;
const REQUEUE: u8 = 5;
const DROP: u8 = 6;
const ADMIN: u8 = 7;
const REMOVE: u8 = 8;
const RETURN: u8 = 9;

/// Whether a record that begins like this is an accepted event, whatever the rest is.
pub(crate) fn is_publish(bytes: &[u8]) -> bool {
    bytes.first() == Some(&PUBLISH)
}

impl From<&Record> for Encoded {
    fn from(record: &Record) -> Self {
        let mut out = Vec::with_capacity(64);
        let mut payload = Bytes::new();
        let mut w = Writer(&mut out);
        match record {
            Record::Publish(publish) => {
                w.u8(PUBLISH);
                payload = encode_publish(publish, &mut w);
            }
            Record::Ack { event: at, block, at: time } => {
                w.u8(ACK);
                event(&mut w, *at);
                w.u64(block.as_u64());
                w.time(*time);
            }
            Record::Defer { event: at, until, deliveries, handed_back } => {
                w.u8(DEFER);
                event(&mut w, *at);
                w.time(*until);
                w.u32(*deliveries);
                w.u8(*handed_back);
            }
            Record::Return { event: at, deliveries, handed_back } => {
                w.u8(RETURN);
                event(&mut w, *at);
                w.u32(*deliveries);
                w.u8(*handed_back);
            }
            Record::Discard { event: at, reason, at: time, deliveries } => {
                w.u8(DISCARD);
                event(&mut w, *at);
                w.time(*time);
                w.u32(*deliveries);
                w.text(reason);
            }
            Record::Requeue { event: at, expires_at } => {
                w.u8(REQUEUE);
                event(&mut w, *at);
                w.option(*expires_at, Writer::time);
            }
            Record::Drop { event: at } => {
                w.u8(DROP);
                event(&mut w, *at);
            }
            Record::Remove { queues } => {
                w.u8(REMOVE);
                match queues {
                    Removed::Recipient(app) => {
                        w.u8(0);
                        w.array(app.as_bytes());
                    }
                    Removed::Name(name) => {
                        w.u8(1);
                        w.text(name.as_str());
                    }
                }
            }
            Record::Admin { at, command } => {
                w.u8(ADMIN);
                w.time(*at);
                admin::encode(command, &mut w);
            }
        }
        Self::new(out, payload, false).with_need(record.need())
    }
}

/// Reads a record. What is long in it shares the bytes.
pub(crate) fn decode(bytes: Bytes) -> Read<Record> {
    let mut r = Reader(bytes);
    let record = match r.u8()? {
        PUBLISH => Record::Publish(decode_publish(&mut r)?),
        ACK => {
            let (event, block) = (read_event(&mut r)?, Block::new(r.u64()?).map_err(|_| Malformed)?);
            Record::Ack { event, block, at: r.time()? }
        }
        DEFER => {
            let (event, until) = (read_event(&mut r)?, r.time()?);
            Record::Defer { event, until, deliveries: r.u32()?, handed_back: r.u8()? }
        }
        RETURN => Record::Return { event: read_event(&mut r)?, deliveries: r.u32()?, handed_back: r.u8()? },
        DISCARD => {
            let (event, at, deliveries) = (read_event(&mut r)?, r.time()?, r.u32()?);
            Record::Discard { event, at, deliveries, reason: r.string()? }
        }
        REQUEUE => Record::Requeue { event: read_event(&mut r)?, expires_at: r.option(Reader::time)? },
        DROP => Record::Drop { event: read_event(&mut r)? },
        REMOVE => Record::Remove {
            queues: match r.u8()? {
                0 => Removed::Recipient(AppId::from_bytes(r.array()?)),
                1 => Removed::Name(r.event()?),
                _ => return Err(Malformed),
            },
        },
        ADMIN => Record::Admin { at: r.time()?, command: admin::decode(&mut r)? },
        _ => return Err(Malformed),
    };
    r.end()?;
    Ok(record)
}

/// All but the payload, whose length comes last.
fn encode_publish(publish: &PublishRecord, w: &mut Writer<'_>) -> Bytes {
    event(w, publish.at);
    w.u32(publish.tag);
    for (id, key) in [(&publish.recipient_id, &publish.recipient), (&publish.sender_id, &publish.sender)] {
        w.array(id.as_bytes());
        // Most apps never have another key than their first.
        w.option(Some(key).filter(|key| *key != id), |w, key| w.array(key.as_bytes()));
    }
    w.time(publish.accepted_at);
    w.option(publish.expires_at, Writer::time);
    w.option(publish.idempotency_key.as_ref(), |w, key| w.text(key.as_str()));
    w.text(publish.event.as_str());
    w.text(publish.metadata.as_str());
    let payload = publish.payload.to_bytes();
    w.u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    payload
}

fn decode_publish(r: &mut Reader) -> Read<PublishRecord> {
    let (at, tag) = (read_event(r)?, r.u32()?);
    let ((recipient_id, recipient), (sender_id, sender)) = (read_app(r)?, read_app(r)?);
    Ok(PublishRecord {
        at,
        tag,
        recipient_id,
        recipient,
        sender_id,
        sender,
        accepted_at: r.time()?,
        expires_at: r.option(Reader::time)?,
        idempotency_key: r.option(|r| r.text(IdempotencyKey::parse_stored))?,
        event: r.event()?,
        metadata: r.text(Metadata::parse)?,
        payload: WirePayload::from_wire(r.bytes()?),
    })
}

/// An app's id, and a public key of it.
fn read_app(r: &mut Reader) -> Read<(AppId, AppId)> {
    let id = AppId::from_bytes(r.array()?);
    match r.option(|r| Ok(AppId::from_bytes(r.array()?)))? {
        // It is written once, so that one record has one form.
        Some(key) if key == id => Err(Malformed),
        key => Ok((id, key.unwrap_or(id))),
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
pub(crate) mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use ensync_core::{EventName, Schema, Timestamp};

    use super::*;
    use crate::model::{AdminCommand, EventChange, EventOptions, KeyHash, Rights};

    /// One record of each kind, with and without what is optional.
    pub(crate) fn samples() -> Vec<Record> {
        let event = EventRef { queue: 7, seq: 1 << 40 };
        let at = Timestamp::from_millis(1_700_000_000_123);
        let name = EventName::parse("orders/status/updated").unwrap();
        let app = AppId::from_bytes([7; 32]);
        let publish = PublishRecord {
            at: event,
            tag: 0xdead_beef,
            recipient_id: app,
            recipient: app,
            event: name.clone(),
            sender_id: AppId::from_bytes([6; 32]),
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
        let change = EventChange {
            schema: Some(None),
            ttl: Some(Some(Duration::new(3, 7))),
            max_deliveries: None,
            ack_timeout: Some(Some(Duration::from_millis(500))),
        };
        let (key_hash, public_key) = (KeyHash::from_bytes([3; 32]), AppId::from_bytes([8; 32]));
        let admin = [
            AdminCommand::UseEvent { name: name.clone() },
            AdminCommand::CreateEvent { name: name.clone(), options: EventOptions::default() },
            AdminCommand::RegisterEvent { name: name.clone(), options },
            AdminCommand::ChangeEvent { name: name.clone(), change },
            AdminCommand::CreateApp { id: app, name: "shop".into(), key_hash, rights: Rights::ALL, same_name: true },
            AdminCommand::Grant { app, event: None, rights: Rights { publish: true, subscribe: false } },
            AdminCommand::Grant { app, event: Some(name.clone()), rights: Rights::NONE },
            AdminCommand::RotateKey { app, key_hash: KeyHash::from_bytes([4; 32]), grace: Duration::ZERO },
            AdminCommand::RotateKey { app, key_hash: KeyHash::from_bytes([4; 32]), grace: Duration::from_secs(7) },
            AdminCommand::RotateKeyPair { app, public_key },
            AdminCommand::RetireKey { app, public_key },
            AdminCommand::Enable { app, enabled: false },
            AdminCommand::DeleteApp { app },
            AdminCommand::Revoke { app, event: name.clone() },
            AdminCommand::DeleteEvent { name: name.clone() },
        ];
        let admin = admin.into_iter().map(|command| Record::Admin { at, command });
        let records = [
            Record::Publish(publish.clone()),
            Record::Publish(PublishRecord {
                recipient_id: AppId::from_bytes([5; 32]),
                expires_at: Some(at),
                idempotency_key: Some(IdempotencyKey::parse("once").unwrap()),
                ..publish
            }),
            Record::Ack { event, block: Block::new(1 << 32 | 5).unwrap(), at },
            Record::Defer { event, until: at, deliveries: 2, handed_back: 1 },
            Record::Return { event, deliveries: 3, handed_back: 1 },
            Record::Discard { event, reason: "no; {é}".into(), at, deliveries: 1 },
            Record::Requeue { event, expires_at: None },
            Record::Requeue { event, expires_at: Some(at) },
            Record::Drop { event },
            Record::Remove { queues: Removed::Recipient(app) },
            Record::Remove { queues: Removed::Name(name.clone()) },
        ];
        admin.chain(records).collect()
    }

    /// What was accepted once is read, though it looks like a key to a later version.
    fn of_earlier_versions() -> [Record; 2] {
        let looks = "orders/ensync_key_0123456789abcdefABCDEF";
        let (event, key) = (EventName::parse_stored(looks).unwrap(), IdempotencyKey::parse_stored(looks).unwrap());
        let Some(Record::Publish(publish)) = samples().into_iter().find(|r| matches!(r, Record::Publish(_))) else {
            panic!()
        };
        [
            Record::Publish(PublishRecord { event: event.clone(), idempotency_key: Some(key), ..publish }),
            Record::Remove { queues: Removed::Name(event) },
        ]
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        for record in samples().into_iter().chain(of_earlier_versions()) {
            let bytes = Encoded::from(&record).to_bytes();
            assert_eq!(decode(bytes.clone()), Ok(record.clone()));
            assert_eq!(is_publish(&bytes), matches!(record, Record::Publish(_)));
            // No beginning of one is another, nor is one with something after it.
            for end in 0..bytes.len() {
                assert_eq!(decode(bytes.slice(..end)), Err(Malformed), "{record:?} {end}");
            }
            let longer = Bytes::from([&bytes[..], &[0]].concat());
            assert_eq!(decode(longer), Err(Malformed), "{record:?}");
            for kind in [0, 200] {
                assert_eq!(decode([&[kind], &bytes[1..]].concat().into()), Err(Malformed));
            }
        }
    }

    #[test]
    fn a_payload_is_neither_copied_to_be_stored_nor_to_be_read() {
        let Some(Record::Publish(publish)) = samples().into_iter().find(|r| matches!(r, Record::Publish(_))) else {
            panic!()
        };
        let (payload, encoded) = (publish.payload.to_bytes(), Encoded::from(&Record::Publish(publish)));
        assert_eq!(encoded.parts()[1].as_ptr(), payload.as_ptr());
        let bytes = encoded.to_bytes();
        let Ok(Record::Publish(read)) = decode(bytes.clone()) else { panic!() };
        assert_eq!(read.payload.to_bytes().as_ptr_range().end, bytes.as_ptr_range().end);
    }

    #[test]
    fn altered_bytes_are_another_record_or_none() {
        // The type names of a schema are read in either case.
        let exact = |r: &Record| !matches!(r, Record::Admin { command: AdminCommand::RegisterEvent { options, .. }, .. } if options.schema.is_some());
        for record in samples().into_iter().filter(exact) {
            let bytes = Encoded::from(&record).to_bytes();
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut altered = bytes.to_vec();
                    altered[at] ^= 1 << bit;
                    let read = decode(altered.into());
                    assert!(read.as_ref() != Ok(&record), "{record:?} {at} {bit}: {read:?}");
                }
            }
        }
    }
}
