//! The model: what clients saw.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use ensync_core::{
    Block, ClientId, Delivery, ErrorKind, EventId, EventName, IdempotencyKey, Peer, Publish, Reply, Result, Subscribe,
    Timestamp, WirePayload,
};

use super::apps::Apps;
use super::bench::*;
use super::op::{How, Op};
use super::state::Durable;
use crate::model::{AdminCommand, EventOptions, Share};
use crate::partition::EventKey;
use crate::state::{Admitted, LetterAction, QueueCounters};

/// The second name's events live 3 s and are delivered twice at most; its leases last 1 s.
const SHORT: &str = "short/lived";

pub(super) fn names() -> [EventName; 2] {
    [event(), EventName::parse(SHORT).unwrap()]
}

pub(super) fn options(name: usize) -> EventOptions {
    let ms = |ms| Some(Duration::from_millis(ms));
    let (ttl, ack_timeout) = (ms(3_000), ms(1_000));
    let short = EventOptions { ttl, ack_timeout, max_deliveries: NonZeroU32::new(2), schema: None };
    if name == 0 { EventOptions::default() } else { short }
}

pub(super) fn lease(name: usize) -> Duration {
    Duration::from_secs(if name == 0 { 60 } else { 1 })
}

/// What clients saw of an event.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) queue: (u8, usize),
    /// The public key that it was published to.
    pub(super) key: u8,
    pub(super) transient: bool,
    pub(super) size: u64,
    /// How long the log was when it was accepted, and each time it was put back, and when that was.
    pub(super) accepted: Vec<(usize, Timestamp)>,
    pub(super) order: usize,
    pub(super) delivered: bool,
    pub(super) last_block: u64,
    /// Who has it, under which block, until when.
    pub(super) lease: Option<(ClientId, Block, Timestamp)>,
    /// How long the log was when it was acknowledged or given up, or its recipient was deleted.
    pub(super) over: Option<usize>,
    /// The block that acknowledged it, and when.
    pub(super) acked: Option<(Block, Timestamp)>,
}

/// A subscription's window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) events: usize,
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) bench: Bench,
    pub(super) apps: Apps,
    /// What they were when the log was so long, since it last was.
    pub(super) past: BTreeMap<usize, Apps>,
    pub(super) peers: Vec<Peer>,
    /// The access keys that sessions logged in with.
    pub(super) keys: HashMap<ClientId, u8>,
    pub(super) windows: HashMap<(ClientId, usize), Window>,
    pub(super) paused: HashSet<(ClientId, usize)>,
    pub(super) accepted: usize,
    pub(super) seen: HashMap<EventId, Seen>,
    pub(super) deliveries: Vec<(Peer, Delivery)>,
    /// The last event of each queue that was delivered for the first time.
    pub(super) first: HashMap<(u8, usize), usize>,
    /// What the engine should have counted since it started.
    pub(super) tally: BTreeMap<(u8, usize), QueueCounters>,
    /// A log may not end before this: what lies before was copied or dropped on the strength of it.
    pub(super) floor: usize,
    /// What a checkpoint would have held when the log was so long, from `floor` on.
    pub(super) snapshots: BTreeMap<usize, Durable>,
    pub(super) any: bool,
}

impl World {
    pub(super) fn new(partitions: u32) -> Self {
        let share = Share::all(NonZeroU32::new(partitions).unwrap()).next().unwrap();
        let mut bench = Bench::with(|settings| settings.share = share, EventOptions::default());
        bench.administer(AdminCommand::RegisterEvent { name: names()[1].clone(), options: options(1) }).unwrap();
        bench.set_turn(3);
        let floor = bench.log.len();
        let mut world = Self {
            bench,
            apps: Apps::new(),
            past: BTreeMap::from([(floor, Apps::new())]),
            peers: Vec::new(),
            keys: HashMap::new(),
            windows: HashMap::new(),
            paused: HashSet::new(),
            accepted: 0,
            seen: HashMap::new(),
            deliveries: Vec::new(),
            first: HashMap::new(),
            tally: BTreeMap::new(),
            floor,
            snapshots: BTreeMap::new(),
            any: false,
        };
        world.remember();
        world
    }

    /// Whether anything was delivered.
    pub(super) fn delivered(&self) -> bool {
        self.any
    }

    fn peer(&self, session: usize) -> Option<Peer> {
        let index = session.checked_rem(self.peers.len())?;
        self.peers.get(index).cloned()
    }

    pub(super) fn tally(&mut self, queue: (u8, usize)) -> &mut QueueCounters {
        self.tally.entry(queue).or_default()
    }

    pub(super) fn run(&mut self, op: Op) {
        self.bench.slice();
        match op {
            Op::Publish { recipient, to, name, transient: memory, key, size, refused } => {
                let to = to.unwrap_or_else(|| self.apps.public_key(recipient));
                let base = if memory { transient("") } else { publish("") };
                let publish = Publish {
                    event: names()[name].clone(),
                    recipient: app(to),
                    payload: WirePayload::from_wire("b25l".repeat(size)),
                    // Names and sorts of events do not share keys, so one text may serve them all.
                    idempotency_key: key.map(|n| IdempotencyKey::parse(&n.to_string()).unwrap()),
                    ..base
                };
                self.publish((to, name), publish, memory, refused);
            }
            Op::Login(n, old) => self.login(self.apps.key(n, old)),
            Op::Admin(what) => self.administer(what),
            Op::Logout(session) => {
                let Some(peer) = self.peer(session) else { return };
                self.bench.logout(&peer);
                self.peers.retain(|other| *other != peer);
                self.forget(&peer);
            }
            Op::Subscribe { session, name, max, bytes } => {
                let Some(peer) = self.peer(session) else { return };
                self.subscribe(&peer, name, max, bytes);
            }
            Op::Unsubscribe { session, name } => {
                let Some(peer) = self.peer(session) else { return };
                self.bench.run(&peer, Command::Unsubscribe { event: names()[name].clone() }).unwrap();
                self.windows.remove(&(peer.client_id.clone(), name));
                self.paused.remove(&(peer.client_id, name));
            }
            Op::Pause { session, name } => {
                let Some(peer) = self.peer(session) else { return };
                let pause = Command::Pause { event: names()[name].clone(), reason: String::new() };
                let done = self.bench.run(&peer, pause);
                if self.known(name, done) {
                    self.paused.insert((peer.client_id, name));
                }
            }
            Op::Continue { session, name } => {
                let Some(peer) = self.peer(session) else { return };
                let resume = Command::Continue { event: names()[name].clone() };
                let done = self.bench.run(&peer, resume);
                self.known(name, done);
                self.paused.remove(&(peer.client_id, name));
            }
            Op::Release { session, name } => {
                let Some(peer) = self.peer(session) else { return };
                self.bench.run(&peer, Command::Release { event: names()[name].clone() }).unwrap();
                let theirs = self.seen.values_mut().filter(|seen| seen.queue.1 == name);
                theirs.for_each(|seen| seen.lease = seen.lease.take().filter(|(by, ..)| *by != peer.client_id));
            }
            Op::Settle { which, refused } => self.settle(which, refused),
            Op::Deliver(budget) => self.deliver(budget),
            Op::DeliverAll => {
                self.deliver(usize::MAX);
                self.bench.check_idle();
            }
            Op::Advance(ms) => {
                self.bench.advance(ms);
                let now = self.bench.now;
                for seen in self.seen.values_mut() {
                    seen.lease = seen.lease.take().filter(|(_, _, until)| *until > now);
                }
                self.end_old_keys();
            }
            Op::Requeue(index) => {
                if let Some(letter) = self.bench.state.dead_letters(None, None, 9).get(index) {
                    self.bench.letter(LetterAction::Requeue, &letter.id).unwrap();
                    let at = (self.bench.log.len(), self.bench.now);
                    self.bench.verdicts();
                    let seen = self.seen.get_mut(&letter.id).unwrap();
                    seen.accepted.push(at);
                    let queue = seen.queue;
                    self.tally(queue).requeued += 1;
                }
            }
            Op::DropDead(index) => {
                if let Some(letter) = self.bench.state.dead_letters(None, None, 9).get(index) {
                    self.bench.letter(LetterAction::Drop, &letter.id).unwrap();
                    let seen = self.seen.get_mut(&letter.id).unwrap();
                    seen.over = Some(self.bench.log.len());
                    let queue = seen.queue;
                    self.tally(queue).dropped += 1;
                }
            }
            Op::Checkpoint(back) => {
                let (&at, durable) = self.snapshots.iter().rev().nth(back % self.snapshots.len()).unwrap();
                self.bench.base = (durable.clone(), at);
                self.set_floor(at);
            }
            Op::Retain(back) => self.retain(back),
            Op::Restart => {
                self.bench.restart();
                self.after_restart();
            }
            Op::Cut(back) => self.cut(back),
            Op::Turn(turn) => self.bench.set_turn(turn),
        }
    }

    /// Logs in with a key, if that is an app's.
    pub(super) fn login(&mut self, key: u8) {
        let peer = self.bench.login_with(key);
        let found = peer.as_ref().map(|peer| peer.app_id).map_err(|error| error.kind());
        assert_eq!(found, self.apps.login(key, self.bench.now).map(app), "key {key}");
        if let Ok(peer) = peer {
            self.keys.insert(peer.client_id.clone(), key);
            self.peers.push(peer);
        }
    }

    /// Whether a command was carried out, which it is if the name is registered.
    fn known(&self, name: usize, done: Result<Reply>) -> bool {
        let registered = self.apps.registered[name];
        assert_eq!(done.map_err(|error| error.kind()).err(), (!registered).then_some(ErrorKind::UnknownEvent));
        registered
    }

    /// The shop publishes, or a stranger in its place.
    fn publish(&mut self, (key, name): (u8, usize), publish: Publish, transient: bool, refused: bool) {
        let shop = self.bench.login_with(self.apps.key(SHOP, false));
        let peer = shop.unwrap_or_else(|_| self.bench.login(STRANGER));
        let size = (publish.payload.len() + publish.metadata.as_str().len()) as u64;
        let recipient = self.apps.recipient(key);
        let (Some(recipient), true) = (recipient, self.apps.registered[name]) else {
            let kind = if recipient.is_some() { ErrorKind::UnknownEvent } else { ErrorKind::UnknownRecipient };
            super::bench::refused(self.bench.publish_as(&peer, publish), kind);
            self.bench.logout(&peer);
            return;
        };
        if refused {
            let admitted = Admitted::new(publish, &self.bench.settings.limits).unwrap();
            self.bench.state.publish(&peer, admitted).unwrap();
            self.bench.state.batch_ends();
            self.bench.logout(&peer);
            return;
        }
        let queue = (recipient, name);
        let id = self.bench.publish_as(&peer, publish).unwrap();
        self.bench.logout(&peer);
        if let Some(seen) = self.seen.get(&id) {
            assert!(seen.queue == queue && seen.transient == transient, "not the same publish: {seen:?}");
        } else {
            self.accepted += 1;
            // Its place in the log: dead letters that were due may come behind it.
            let length = EventKey::of(&id).unwrap().position.as_u64() as usize;
            let seen = Seen {
                queue,
                key,
                transient,
                size,
                accepted: vec![(length, self.bench.now)],
                order: self.accepted,
                delivered: false,
                last_block: 0,
                lease: None,
                over: None,
                acked: None,
            };
            self.seen.insert(id, seen);
            self.tally(queue).published += 1;
        }
    }

    fn subscribe(&mut self, peer: &Peer, name: usize, max: Option<u32>, bytes: Option<u64>) {
        let subscribe = Subscribe {
            event: names()[name].clone(),
            max_in_flight: max.and_then(NonZeroU32::new),
            max_bytes_in_flight: bytes.and_then(NonZeroU64::new),
        };
        let done = self.bench.run(peer, Command::Subscribe(subscribe));
        if !self.known(name, done) {
            return;
        }
        let window = Window { events: max.unwrap_or(256) as usize, bytes: bytes.unwrap_or(8 << 20) };
        self.windows.insert((peer.client_id.clone(), name), window);
    }

    pub(super) fn forget(&mut self, peer: &Peer) {
        self.windows.retain(|(client, _), _| *client != peer.client_id);
        self.paused.retain(|(client, _)| *client != peer.client_id);
        self.deliveries.retain(|(other, _)| other != peer);
        for seen in self.seen.values_mut() {
            seen.lease = seen.lease.take().filter(|(client, ..)| *client != peer.client_id);
        }
    }

    /// In the end one client takes and acknowledges everything that is not dead.
    pub(super) fn drain(&mut self) {
        self.run(Op::Advance(61_000));
        for peer in std::mem::take(&mut self.peers) {
            self.bench.logout(&peer);
            self.forget(&peer);
        }
        self.enable_all();
        for n in [SHOP, WAREHOUSE] {
            self.run(Op::Advance(1));
            self.login(self.apps.key(n, false));
            // It may be gone for good: its id is the other app's public key now.
            let Some(peer) = self.peers.last().cloned() else { continue };
            self.subscribe(&peer, 0, None, None);
            self.subscribe(&peer, 1, None, None);
            self.deliveries.clear();
            self.run(Op::DeliverAll);
            while !self.deliveries.is_empty() {
                self.settle(vec![(0, How::Ack, true)], false);
                let (_, delivery) = self.deliveries.pop().unwrap();
                assert!(self.seen[&delivery.id].over.is_some());
            }
        }
        for queue in self.bench.state.queues() {
            assert_eq!((queue.ready, queue.in_flight, queue.deferred), (0, 0, 0));
        }
    }
}
