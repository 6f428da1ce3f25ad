//! The part of the state that the log holds: for checkpoints, and to compare.

use ensync_core::{AppId, Block, EventName, Timestamp};

use super::dedup::Fingerprint;
use super::dispatch::key_of;
use super::entries::{Entry, Place};
use super::event_id::EventKey;
use super::queue::{Dead, Queue};
use super::registry::{App, Name};
use super::settled::Fate;
use super::timers::{NEVER, Timer};
use super::{Settings, State};
use crate::log::{EventOptions, EventRef, KeyHash, Position, Record, Rights};

/// What is left of a [`State`] when sessions, leases and events in memory are gone. [`State::restore`] goes on from it, so that
/// only later records have to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    /// Apps, by id.
    pub apps: Vec<DurableApp>,
    /// Event names.
    pub events: Vec<DurableName>,
    /// The number after the largest that a queue with an event in the log ever had.
    pub next_queue: u32,
    /// Queues that ever had an event in the log, by number. One that only had others is made anew when it is used, and may then
    /// get another number.
    pub queues: Vec<DurableQueue>,
    /// Publishes under idempotency keys, by the id of who sent them.
    pub publishes: Vec<DurablePublisher>,
    /// The last events that are settled, in the order in which they were.
    pub settled: Vec<DurableSettled>,
}

/// An app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurableApp {
    /// The public key that it was created with.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// The public key that it has now.
    pub public_key: AppId,
    /// Those before it that can still be published to, oldest first.
    pub earlier_keys: Vec<AppId>,
    /// What its access key hashes to.
    pub key_hash: KeyHash,
    /// What the one before hashes to, and until when that logs in.
    pub old_key: Option<(KeyHash, Timestamp)>,
    /// Whether it may log in.
    pub enabled: bool,
    /// Its rights where it has no grant.
    pub rights: Rights,
    /// Its rights for single names.
    pub grants: Vec<(EventName, Rights)>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// An event name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurableName {
    /// The name.
    pub name: EventName,
    /// What holds for it.
    pub options: EventOptions,
    /// Whether it was registered by its first use.
    pub auto: bool,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurableQueue {
    /// Its number.
    pub number: u32,
    /// Its recipient's id.
    pub recipient: AppId,
    /// Its event name.
    pub event: EventName,
    /// The sequence number after its last event in the log.
    pub next_seq: u64,
    /// Its unsettled events, in order.
    pub events: Vec<DurableEvent>,
}

/// An unsettled event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurableEvent {
    /// Its sequence number.
    pub seq: u64,
    /// Where the log had it first.
    pub position: Position,
    /// Where its payload is now.
    pub current: Position,
    /// See [`PublishRecord::tag`](crate::log::PublishRecord::tag).
    pub tag: u32,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it expires, if ever.
    pub expires_at: Option<Timestamp>,
    /// Payload and metadata, in bytes.
    pub size: u32,
    /// How often it was delivered, as far as the log knows: 0 unless it is deferred or dead.
    pub deliveries: u32,
    /// What it waits for.
    pub waits: DurableWait,
}

/// What an unsettled event waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurableWait {
    /// A client.
    Client,
    /// A time.
    Until(Timestamp),
    /// An administrator: it is a dead letter.
    Administrator {
        /// Why.
        reason: String,
        /// Since when.
        at: Timestamp,
    },
}

/// An app that published under idempotency keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurablePublisher {
    /// Its id.
    pub app: AppId,
    /// What it published, in the order it came.
    pub publishes: Vec<DurablePublish>,
}

/// A publish under an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurablePublish {
    /// The hash of sender, recipient, event name and key.
    pub fingerprint: [u8; 16],
    /// The event that was stored.
    pub event: EventRef,
    /// See [`PublishRecord::tag`](crate::log::PublishRecord::tag).
    pub tag: u32,
    /// Where the log had it first.
    pub position: Position,
    /// When it was accepted.
    pub at: Timestamp,
}

/// An event that was settled, so that a repeated acknowledgement is answered as the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurableSettled {
    /// Which.
    pub event: EventRef,
    /// The delivery that acknowledged it; `None` if it was a dead letter that was given up.
    pub by: Option<Block>,
}

impl State {
    /// The durable part. What has expired by now, and is with nobody, is not in it.
    pub fn durable(&self) -> Durable {
        let publish = |(fingerprint, key, at): (Fingerprint, EventKey, Timestamp)| DurablePublish {
            fingerprint: *fingerprint.as_bytes(),
            event: key.event,
            tag: key.tag,
            position: key.position,
            at,
        };
        Durable {
            apps: self.registry.apps().map(|(id, app)| self.durable_app(*id, app)).collect(),
            events: self.registry.events().map(|(name, known)| durable_name(name, known)).collect(),
            next_queue: self.next_stored,
            queues: self
                .queues
                .iter()
                .filter(|(_, q)| q.logged_seq > 0)
                .map(|(n, q)| self.durable_queue(*n, q))
                .collect(),
            publishes: self
                .dedup
                .iter()
                .map(|(app, publishes)| DurablePublisher { app, publishes: publishes.map(publish).collect() })
                .collect(),
            settled: self
                .settled
                .logged()
                .map(|(event, fate)| DurableSettled {
                    event,
                    by: match fate {
                        Fate::Acked(block) => Some(block),
                        Fate::Expired | Fate::Dropped => None,
                    },
                })
                .collect(),
        }
    }

    /// A state that goes on from a durable part. The log's records after the one that was applied last come next.
    pub fn restore(settings: Settings, durable: Durable) -> Self {
        let mut state = Self::new(settings);
        for app in durable.apps {
            let grants = app.grants.into_iter().collect();
            let DurableApp {
                id, name, public_key, earlier_keys, key_hash, old_key, enabled, rights, created_at, ..
            } = app;
            let app = App { name, public_key, earlier_keys, key_hash, old_key, enabled, rights, grants, created_at };
            state.registry.add_app(id, app);
        }
        for DurableName { name, options, auto } in durable.events {
            state.registry.add_event(name, options, auto);
        }
        (state.next_number, state.next_stored) = (durable.next_queue, durable.next_queue);
        for queue in durable.queues {
            if state.add_queue(queue.number, queue.recipient, &queue.event) {
                state.restore_queue(queue);
            }
        }
        for DurablePublisher { app, publishes } in durable.publishes {
            for DurablePublish { fingerprint, event, tag, position, at } in publishes {
                let key = EventKey { transient: false, tag, event, position };
                state.dedup.restore(app, Fingerprint::from_bytes(fingerprint), key, at);
            }
        }
        for DurableSettled { event, by } in durable.settled {
            state.settled.insert(event, by.map_or(Fate::Dropped, Fate::Acked), true);
        }
        state
    }

    /// Where the log has the payloads of unsettled events before a position: what must be appended again, as it is, before
    /// that part of the log can be dropped. Takes time in proportion to the number of unsettled events.
    pub fn unsettled_before(&self, position: Position) -> Vec<Position> {
        self.waiting_before(position).into_iter().map(|(current, _)| current).collect()
    }

    /// The same, each with the bytes of its payload and metadata.
    pub(crate) fn waiting_before(&self, position: Position) -> Vec<(Position, u32)> {
        let mut found: Vec<_> = self
            .queues
            .iter()
            .flat_map(|(&queue, q)| q.entries.from(0).map(move |(seq, entry)| (EventRef { queue, seq }, entry)))
            .filter(|(_, entry)| !entry.transient)
            .map(|(event, entry)| (self.current(event, entry), entry.size))
            .filter(|(current, _)| *current < position)
            .collect();
        found.sort_unstable();
        found
    }

    /// Whether an event of this record is unsettled still. A copy of another would bring back what was deleted.
    pub(crate) fn holds(&self, record: &Record) -> bool {
        let Record::Publish(publish) = record else { return false };
        let entry = self.queues.get(&publish.at.queue).and_then(|queue| queue.entries.get(publish.at.seq));
        entry.is_some_and(|entry| entry.tag == publish.tag)
    }

    fn current(&self, event: EventRef, entry: &Entry) -> Position {
        self.moved.get(&event).copied().unwrap_or(Position::new(entry.position))
    }

    fn durable_app(&self, id: AppId, app: &App) -> DurableApp {
        DurableApp {
            id,
            name: app.name.clone(),
            public_key: app.public_key,
            earlier_keys: app.earlier_keys.clone(),
            key_hash: app.key_hash,
            old_key: app.old_key.filter(|(_, until)| *until > self.now),
            enabled: app.enabled,
            rights: app.rights,
            grants: app.grants.iter().map(|(event, rights)| (event.clone(), *rights)).collect(),
            created_at: app.created_at,
        }
    }

    fn durable_queue(&self, number: u32, queue: &Queue) -> DurableQueue {
        // A client may still settle what it has when that expires.
        let kept = |entry: &Entry| matches!(entry.place, Place::Leased | Place::Doomed | Place::Dead);
        let lasts = |entry: &Entry| !entry.transient && (kept(entry) || entry.expires_at > self.now);
        let event = |(seq, entry): (u64, &Entry)| {
            let event = EventRef { queue: number, seq };
            let waits = match entry.place {
                Place::Deferred => queue.deferred.get(&seq).map(|until| DurableWait::Until(*until)),
                Place::Dead => queue
                    .dead
                    .get(&seq)
                    .map(|dead| DurableWait::Administrator { reason: dead.reason.clone(), at: dead.at }),
                _ => None,
            };
            DurableEvent {
                seq,
                position: key_of(event, entry).position,
                current: self.current(event, entry),
                tag: entry.tag,
                accepted_at: entry.accepted_at,
                expires_at: (entry.expires_at != NEVER).then_some(entry.expires_at),
                size: entry.size,
                deliveries: waits.as_ref().map_or(0, |_| entry.deliveries),
                waits: waits.unwrap_or(DurableWait::Client),
            }
        };
        DurableQueue {
            number,
            recipient: queue.recipient,
            event: queue.event.clone(),
            next_seq: queue.logged_seq,
            events: queue.entries.from(0).filter(|(_, entry)| lasts(entry)).map(event).collect(),
        }
    }

    fn restore_queue(&mut self, durable: DurableQueue) {
        for event in durable.events {
            let DurableEvent { seq, position, current, tag, accepted_at, expires_at, size, deliveries, waits } = event;
            let event = EventRef { queue: durable.number, seq };
            let Some(queue) = self.queues.get_mut(&durable.number) else { return };
            let place = match waits {
                DurableWait::Client => {
                    queue.fresh += 1;
                    Place::Fresh
                }
                DurableWait::Until(until) => {
                    queue.deferred.insert(seq, until);
                    self.timers.arm(until, Timer::Defer(event));
                    Place::Deferred
                }
                DurableWait::Administrator { reason, at } => {
                    queue.dead.insert(seq, Dead { reason, at });
                    Place::Dead
                }
            };
            let expires_at = expires_at.unwrap_or(NEVER);
            let entry = Entry {
                position: position.as_u64(),
                accepted_at,
                expires_at,
                tag,
                size,
                deliveries,
                in_epoch: 0,
                handed_back: 0,
                place,
                transient: false,
                slot: 0,
            };
            queue.entries.insert(seq, entry);
            if current != position {
                self.moved.insert(event, current);
            }
            if place != Place::Dead {
                self.arm_expiry(event, expires_at);
            }
        }
        if let Some(queue) = self.queues.get_mut(&durable.number) {
            (queue.next_seq, queue.logged_seq) = (durable.next_seq, durable.next_seq);
        }
    }
}

fn durable_name(name: &EventName, known: &Name) -> DurableName {
    DurableName { name: name.clone(), options: known.options.clone(), auto: known.auto }
}
