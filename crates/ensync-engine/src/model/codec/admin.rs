//! What administrators ask for: a kind, and what [`log::format`](crate::log::format) says of it.

use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::{EventName, Schema};

use super::bytes::{Malformed, Read, Reader, Writer};
use crate::model::{AdminCommand, EventChange, EventOptions, KeyHash, Rights};

const CREATE_APP: u8 = 1;
const ROTATE_KEY: u8 = 2;
const ROTATE_KEY_PAIR: u8 = 3;
const RETIRE_KEY: u8 = 4;
const ENABLE: u8 = 5;
const DELETE_APP: u8 = 6;
const CREATE_EVENT: u8 = 7;
const REGISTER_EVENT: u8 = 8;
const USE_EVENT: u8 = 9;
const CHANGE_EVENT: u8 = 10;
const DELETE_EVENT: u8 = 11;
const GRANT: u8 = 12;
const REVOKE: u8 = 13;

pub(super) fn encode(command: &AdminCommand, w: &mut Writer<'_>) {
    match command {
        AdminCommand::CreateApp { id, name, key_hash, rights, same_name: _ } => {
            w.u8(CREATE_APP);
            w.array(id.as_bytes());
            w.array(key_hash.as_bytes());
            write_rights(w, *rights);
            w.text(name);
        }
        AdminCommand::RotateKey { app, key_hash, grace } => {
            w.u8(ROTATE_KEY);
            w.array(app.as_bytes());
            w.array(key_hash.as_bytes());
            write_duration(w, *grace);
        }
        AdminCommand::RotateKeyPair { app, public_key } => {
            w.u8(ROTATE_KEY_PAIR);
            w.array(app.as_bytes());
            w.array(public_key.as_bytes());
        }
        AdminCommand::RetireKey { app, public_key } => {
            w.u8(RETIRE_KEY);
            w.array(app.as_bytes());
            w.array(public_key.as_bytes());
        }
        AdminCommand::Enable { app, enabled } => {
            w.u8(ENABLE);
            w.array(app.as_bytes());
            w.u8(u8::from(*enabled));
        }
        AdminCommand::DeleteApp { app } => {
            w.u8(DELETE_APP);
            w.array(app.as_bytes());
        }
        AdminCommand::CreateEvent { name, options } => {
            w.u8(CREATE_EVENT);
            w.text(name.as_str());
            write_options(options, w);
        }
        AdminCommand::RegisterEvent { name, options } => {
            w.u8(REGISTER_EVENT);
            w.text(name.as_str());
            write_options(options, w);
        }
        AdminCommand::UseEvent { name } => {
            w.u8(USE_EVENT);
            w.text(name.as_str());
        }
        AdminCommand::ChangeEvent { name, change } => {
            w.u8(CHANGE_EVENT);
            w.text(name.as_str());
            write_change(change, w);
        }
        AdminCommand::DeleteEvent { name } => {
            w.u8(DELETE_EVENT);
            w.text(name.as_str());
        }
        AdminCommand::Grant { app, event, rights } => {
            w.u8(GRANT);
            w.array(app.as_bytes());
            w.option(event.as_ref(), |w, event: &EventName| w.text(event.as_str()));
            write_rights(w, *rights);
        }
        AdminCommand::Revoke { app, event } => {
            w.u8(REVOKE);
            w.array(app.as_bytes());
            w.text(event.as_str());
        }
    }
}

pub(super) fn decode(r: &mut Reader) -> Read<AdminCommand> {
    Ok(match r.u8()? {
        CREATE_APP => {
            let (id, key_hash, rights) = (r.app()?, KeyHash::from_bytes(r.array()?), read_rights(r)?);
            AdminCommand::CreateApp { id, key_hash, rights, name: r.string()?, same_name: true }
        }
        ROTATE_KEY => {
            let (app, key_hash) = (r.app()?, KeyHash::from_bytes(r.array()?));
            AdminCommand::RotateKey { app, key_hash, grace: read_duration(r)? }
        }
        ROTATE_KEY_PAIR => AdminCommand::RotateKeyPair { app: r.app()?, public_key: r.app()? },
        RETIRE_KEY => AdminCommand::RetireKey { app: r.app()?, public_key: r.app()? },
        ENABLE => AdminCommand::Enable { app: r.app()?, enabled: r.bool()? },
        DELETE_APP => AdminCommand::DeleteApp { app: r.app()? },
        CREATE_EVENT => AdminCommand::CreateEvent { name: r.event()?, options: read_options(r)? },
        REGISTER_EVENT => AdminCommand::RegisterEvent { name: r.event()?, options: read_options(r)? },
        USE_EVENT => AdminCommand::UseEvent { name: r.event()? },
        CHANGE_EVENT => AdminCommand::ChangeEvent { name: r.event()?, change: read_change(r)? },
        DELETE_EVENT => AdminCommand::DeleteEvent { name: r.event()? },
        GRANT => {
            let (app, event) = (r.app()?, r.option(Reader::event)?);
            AdminCommand::Grant { app, event, rights: read_rights(r)? }
        }
        REVOKE => AdminCommand::Revoke { app: r.app()?, event: r.event()? },
        _ => return Err(Malformed),
    })
}

/// What is new, each behind a byte that says whether it is.
fn write_change(change: &EventChange, w: &mut Writer<'_>) {
    let EventChange { schema, ttl, max_deliveries, ack_timeout } = change;
    w.option(schema.as_ref(), |w, schema| w.option(schema.as_ref(), write_schema));
    w.option(*ttl, |w, ttl| w.option(ttl, write_duration));
    w.option(*max_deliveries, |w, max| w.option(max, |w, max| w.u32(max.get())));
    w.option(*ack_timeout, |w, timeout| w.option(timeout, write_duration));
}

fn read_change(r: &mut Reader) -> Read<EventChange> {
    Ok(EventChange {
        schema: r.option(|r| r.option(read_schema))?,
        ttl: r.option(|r| r.option(read_duration))?,
        max_deliveries: r.option(|r| r.option(read_count))?,
        ack_timeout: r.option(|r| r.option(read_duration))?,
    })
}

/// Appends the options of an event name.
pub(crate) fn write_options(options: &EventOptions, w: &mut Writer<'_>) {
    w.option(options.schema.as_ref(), write_schema);
    w.option(options.ttl, write_duration);
    w.option(options.max_deliveries, |w, max| w.u32(max.get()));
    w.option(options.ack_timeout, write_duration);
}

/// Reads the options of an event name.
pub(crate) fn read_options(r: &mut Reader) -> Read<EventOptions> {
    Ok(EventOptions {
        schema: r.option(read_schema)?,
        ttl: r.option(read_duration)?,
        max_deliveries: r.option(read_count)?,
        ack_timeout: r.option(read_duration)?,
    })
}

fn write_schema(w: &mut Writer<'_>, schema: &Schema) {
    w.text(&schema.to_json());
}

fn read_schema(r: &mut Reader) -> Read<Schema> {
    r.text(Schema::parse)
}

fn read_count(r: &mut Reader) -> Read<NonZeroU32> {
    NonZeroU32::new(r.u32()?).ok_or(Malformed)
}

fn write_duration(w: &mut Writer<'_>, duration: Duration) {
    w.u64(duration.as_secs());
    w.u32(duration.subsec_nanos());
}

fn read_duration(r: &mut Reader) -> Read<Duration> {
    let (seconds, nanos) = (r.u64()?, r.u32()?);
    if nanos < 1_000_000_000 { Ok(Duration::new(seconds, nanos)) } else { Err(Malformed) }
}

/// Appends rights: bit 0 to publish, bit 1 to subscribe.
pub(crate) fn write_rights(w: &mut Writer<'_>, rights: Rights) {
    w.u8(u8::from(rights.publish) | u8::from(rights.subscribe) << 1);
}

/// Reads rights.
pub(crate) fn read_rights(r: &mut Reader) -> Read<Rights> {
    match r.u8()? {
        bits @ 0..=3 => Ok(Rights { publish: bits & 1 != 0, subscribe: bits & 2 != 0 }),
        _ => Err(Malformed),
    }
}
