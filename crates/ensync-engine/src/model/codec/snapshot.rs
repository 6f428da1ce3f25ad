//! Snapshots: laid out as [`log::format`](crate::log::format) says of a checkpoint's state.

use std::collections::BTreeMap;

use bytes::Bytes;
use ensync_core::{AppId, Block, Timestamp};

use super::admin::{read_options, read_rights, write_options, write_rights};
use super::bytes::{Malformed, Read, Reader, Writer};
use super::record::{event, read_event};
use crate::model::{
    KeyHash, PartitionSnapshot, Position, RegistrySnapshot, Snapshot, SnapshotApp, SnapshotEvent, SnapshotName,
    SnapshotPart, SnapshotPublish, SnapshotPublisher, SnapshotQueue, SnapshotSettled, SnapshotWait,
};

/// What parts begin with, and the end.
const END: u8 = 0;
const QUEUE: u8 = 1;
const EVENTS: u8 = 2;
const MOVED: u8 = 3;
const PUBLISHES: u8 = 4;
/// Instead of [`END`], if apps were deleted.
const DELETED: u8 = 5;

/// All of a snapshot at once.
#[cfg(test)]
pub(crate) fn encode(state: &Snapshot) -> Bytes {
    let mut out = begin(&state.registry, state.partition.logged_at, state.partition.next_queue);
    let mut w = Writer(&mut out);
    for queue in &state.partition.queues {
        write_queue(&mut w, queue);
        write_events(&mut w, queue.number, &queue.events);
        write_moved(&mut w, queue.number, &queue.moved);
    }
    for publisher in &state.partition.publishes {
        write_publishes(&mut w, publisher);
    }
    end_registry(&mut out, &state.registry);
    out.into()
}

/// A snapshot of the registry alone.
pub(crate) fn of_registry(registry: &RegistrySnapshot) -> Bytes {
    let PartitionSnapshot { logged_at, next_queue, .. } = PartitionSnapshot::default();
    let mut out = begin(registry, logged_at, next_queue);
    end_registry(&mut out, registry);
    out.into()
}

/// The beginning of a snapshot. [`part`]s follow, and the [`end`].
pub(crate) fn begin(registry: &RegistrySnapshot, logged_at: Timestamp, next_queue: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut w = Writer(&mut out);
    write_registry(registry, &mut w);
    w.time(logged_at);
    w.u32(next_queue);
    out
}

pub(crate) fn part(out: &mut Vec<u8>, part: &SnapshotPart) {
    let mut w = Writer(out);
    match part {
        SnapshotPart::Queue(queue) => write_queue(&mut w, queue),
        SnapshotPart::Events { queue, events } => write_events(&mut w, *queue, events),
        SnapshotPart::Moved { queue, moved } => write_moved(&mut w, *queue, moved),
        SnapshotPart::Publishes(publisher) => write_publishes(&mut w, publisher),
    }
}

pub(crate) fn end(out: &mut Vec<u8>) {
    out.push(END);
}

fn end_registry(out: &mut Vec<u8>, registry: &RegistrySnapshot) {
    if registry.deleted.is_empty() {
        return end(out);
    }
    let mut w = Writer(out);
    w.u8(DELETED);
    w.list(&registry.deleted, |w, app| w.array(app.as_bytes()));
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

fn write_queue(w: &mut Writer<'_>, queue: &SnapshotQueue) {
    w.u8(QUEUE);
    w.u32(queue.number);
    w.array(queue.recipient.as_bytes());
    w.text(queue.event.as_str());
    w.u64(queue.next_seq);
    w.list(&queue.settled, |w, settled| {
        w.u64(settled.first);
        w.u64(settled.last);
        w.option(settled.by.map(Block::as_u64), Writer::u64);
        w.time(settled.at);
    });
}

fn write_events(w: &mut Writer<'_>, queue: u32, events: &[SnapshotEvent]) {
    if !events.is_empty() {
        w.u8(EVENTS);
        w.u32(queue);
        w.list(events, write_event);
    }
}

fn write_moved(w: &mut Writer<'_>, queue: u32, moved: &[(u64, Position)]) {
    if !moved.is_empty() {
        w.u8(MOVED);
        w.u32(queue);
        w.list(moved, |w, (seq, position)| {
            w.u64(*seq);
            w.u64(position.as_u64());
        });
    }
}

fn write_publishes(w: &mut Writer<'_>, publisher: &SnapshotPublisher) {
    w.u8(PUBLISHES);
    w.array(publisher.app.as_bytes());
    w.list(&publisher.publishes, |w, publish| {
        w.array(&publish.fingerprint);
        event(w, publish.event);
        w.u32(publish.tag);
        w.u64(publish.position.as_u64());
        w.time(publish.at);
    });
}

pub(crate) fn decode(bytes: Bytes) -> Read<Snapshot> {
    let mut r = Reader(bytes);
    let mut registry = read_registry(&mut r)?;
    let (partition, deleted) = read_partition(&mut r)?;
    registry.deleted = deleted;
    r.end()?;
    Ok(Snapshot { registry, partition })
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
        deleted: Vec::new(),
    })
}

/// A partition, and the apps that were deleted.
fn read_partition(r: &mut Reader) -> Read<(PartitionSnapshot, Vec<AppId>)> {
    let (logged_at, next_queue) = (r.time()?, r.u32()?);
    let mut parts = Parts::default();
    let deleted = loop {
        match r.u8()? {
            END => break Vec::new(),
            DELETED => break r.list(Reader::app)?,
            QUEUE => {
                let queue = SnapshotQueue {
                    number: r.u32()?,
                    recipient: r.app()?,
                    event: r.event()?,
                    next_seq: r.u64()?,
                    events: Vec::new(),
                    settled: r.list(read_settled)?,
                    moved: Vec::new(),
                };
                if parts.queues.insert(queue.number, queue).is_some() {
                    return Err(Malformed);
                }
            }
            EVENTS => parts.events.entry(r.u32()?).or_default().append(&mut r.list(read_unsettled)?),
            MOVED => {
                let queue = r.u32()?;
                let mut moved = r.list(|r| Ok((r.u64()?, Position::new(r.u64()?))))?;
                parts.moved.entry(queue).or_default().append(&mut moved);
            }
            PUBLISHES => parts.publishes.entry(r.app()?).or_default().append(&mut r.list(read_publish)?),
            _ => return Err(Malformed),
        }
    };
    Ok((parts.join(logged_at, next_queue)?, deleted))
}

/// Parts of a partition, in whatever order they were written.
#[derive(Default)]
struct Parts {
    queues: BTreeMap<u32, SnapshotQueue>,
    events: BTreeMap<u32, Vec<SnapshotEvent>>,
    moved: BTreeMap<u32, Vec<(u64, Position)>>,
    publishes: BTreeMap<AppId, Vec<SnapshotPublish>>,
}

impl Parts {
    fn join(mut self, logged_at: Timestamp, next_queue: u32) -> Read<PartitionSnapshot> {
        for (number, mut events) in self.events {
            // Most of them are in order.
            events.sort_by_key(|event| event.seq);
            if !events.is_sorted_by(|a, b| a.seq < b.seq) {
                return Err(Malformed);
            }
            self.queues.get_mut(&number).ok_or(Malformed)?.events = events;
        }
        for (number, mut moved) in self.moved {
            let queue = self.queues.get_mut(&number).ok_or(Malformed)?;
            moved.sort_unstable();
            moved.retain(|(seq, _)| queue.events.binary_search_by_key(seq, |event| event.seq).is_err());
            queue.moved = moved;
        }
        let publishes = self.publishes.into_iter().map(|(app, publishes)| SnapshotPublisher { app, publishes });
        let queues = self.queues.into_values().collect();
        Ok(PartitionSnapshot { logged_at, next_queue, queues, publishes: publishes.collect() })
    }
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
mod tests;
