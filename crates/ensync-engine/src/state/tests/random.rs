//! Random histories against a model that knows only what clients saw.

mod op;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::{
    Block, ClientId, Delivery, EventId, EventName, IdempotencyKey, Peer, Publish, Reply, Settle, Settlement, Subscribe,
    Timestamp,
};
use proptest::prelude::*;

use op::{Op, op};

use super::bench::*;
use crate::log::EventOptions;
use crate::state::{Admitted, Applied, Durable, Provision, State, Step};

/// The second name's events live 3 s and are delivered twice at most; its leases last 1 s.
const SHORT: &str = "short/lived";

fn names() -> [EventName; 2] {
    [event(), EventName::parse(SHORT).unwrap()]
}

/// What clients saw of an event.
#[derive(Debug)]
struct Seen {
    queue: (u8, usize),
    transient: bool,
    accepted: (usize, Timestamp),
    delivered: bool,
    last_block: u64,
    /// Who has it, under which block, until when.
    lease: Option<(ClientId, Block, Timestamp)>,
    /// Acknowledged, or given up.
    over: bool,
}

#[derive(Debug)]
struct World {
    bench: Bench,
    peers: Vec<Peer>,
    /// Windows of subscriptions, and who is paused.
    windows: HashMap<(ClientId, usize), usize>,
    paused: HashSet<(ClientId, usize)>,
    events: BTreeMap<usize, EventId>,
    seen: HashMap<EventId, Seen>,
    deliveries: Vec<(Peer, Delivery)>,
    /// The last event of each queue that was delivered for the first time.
    first: HashMap<(u8, usize), usize>,
}

impl World {
    fn new() -> Self {
        let mut bench = Bench::new();
        let ms = |ms| Some(Duration::from_millis(ms));
        let (ttl, ack_timeout) = (ms(3_000), ms(1_000));
        let options = EventOptions { ttl, ack_timeout, max_deliveries: NonZeroU32::new(2), schema: None };
        bench.provision(Provision::RegisterEvent { name: names()[1].clone(), options }).unwrap();
        Self {
            bench,
            peers: Vec::new(),
            windows: HashMap::new(),
            paused: HashSet::new(),
            events: BTreeMap::new(),
            seen: HashMap::new(),
            deliveries: Vec::new(),
            first: HashMap::new(),
        }
    }

    fn peer(&self, session: usize) -> Option<Peer> {
        let index = session.checked_rem(self.peers.len())?;
        self.peers.get(index).cloned()
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Publish { recipient, name, transient, key, refused } => {
                self.publish(recipient, name, transient, key, refused)
            }
            Op::Login(n) => {
                let peer = self.bench.login(n);
                self.peers.push(peer);
            }
            Op::Logout(session) => {
                let Some(peer) = self.peer(session) else { return };
                self.bench.logout(&peer);
                self.peers.retain(|other| *other != peer);
                self.forget(&peer);
            }
            Op::Subscribe { session, name, max } => {
                let Some(peer) = self.peer(session) else { return };
                let subscribe = Subscribe {
                    event: names()[name].clone(),
                    max_in_flight: max.and_then(NonZeroU32::new),
                    max_bytes_in_flight: None,
                };
                self.bench.run(&peer, Command::Subscribe(subscribe)).unwrap();
                self.windows.insert((peer.client_id, name), max.unwrap_or(256) as usize);
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
                self.bench.run(&peer, pause).unwrap();
                self.paused.insert((peer.client_id, name));
            }
            Op::Continue { session, name } => {
                let Some(peer) = self.peer(session) else { return };
                self.bench.run(&peer, Command::Continue { event: names()[name].clone() }).unwrap();
                self.paused.remove(&(peer.client_id, name));
            }
            Op::Settle { which, refused } => self.settle(which, refused),
            Op::Deliver(budget) => self.deliver(budget),
            Op::Advance(ms) => {
                self.bench.advance(ms);
                let now = self.bench.now;
                for seen in self.seen.values_mut() {
                    seen.lease = seen.lease.take().filter(|(_, _, until)| *until > now);
                }
            }
            Op::Requeue(index) => {
                if let Some(letter) = self.bench.state.dead_letters(None, None, 9).get(index) {
                    self.bench.provision(Provision::Requeue(letter.id.clone())).unwrap();
                    self.seen.get_mut(&letter.id).unwrap().accepted.1 = self.bench.now;
                }
            }
            Op::DropDead(index) => {
                if let Some(letter) = self.bench.state.dead_letters(None, None, 9).get(index) {
                    self.bench.provision(Provision::DropDead(letter.id.clone())).unwrap();
                    self.seen.get_mut(&letter.id).unwrap().over = true;
                }
            }
            Op::Restart => {
                self.bench.restart();
                self.after_restart();
            }
            Op::Checkpoint => {
                self.bench.settings.epoch += 1;
                self.bench.settings.tag += 1;
                let restored = State::restore(self.bench.settings.clone(), self.bench.state.durable());
                self.bench.adopt(restored);
                self.after_restart();
            }
        }
    }

    fn publish(&mut self, recipient: u8, name: usize, transient_too: bool, key: Option<u8>, refused: bool) {
        let peer = self.bench.login(SHOP);
        let base = if transient_too { transient("b25l") } else { publish("b25l") };
        let publish = Publish {
            event: names()[name].clone(),
            recipient: app(recipient),
            // Names and sorts of events do not share keys, so one text may serve them all.
            idempotency_key: key.map(|n| IdempotencyKey::parse(&n.to_string()).unwrap()),
            ..base
        };
        if refused {
            let admitted = Admitted::new(publish, &self.bench.settings.limits).unwrap();
            self.bench.state.publish(&peer, admitted).unwrap();
            return;
        }
        let id = self.bench.publish_as(&peer, publish).unwrap();
        self.bench.logout(&peer);
        if !self.seen.contains_key(&id) {
            let accepted = (self.events.len(), self.bench.now);
            self.events.insert(accepted.0, id.clone());
            let (queue, transient) = ((recipient, name), transient_too);
            let seen = Seen { queue, transient, accepted, delivered: false, last_block: 0, lease: None, over: false };
            self.seen.insert(id, seen);
        }
    }

    fn settle(&mut self, which: Vec<(usize, u8, bool)>, refused: bool) {
        let (mut changes, mut answers) = (Vec::new(), Vec::new());
        for (index, how, with_block) in which {
            let Some(index) = index.checked_rem(self.deliveries.len()) else { return };
            let (peer, delivery) = self.deliveries[index].clone();
            let how =
                [Settlement::Ack, Settlement::Rollback, defer(1_000), defer(0), discard("no")][how as usize].clone();
            let block = with_block.then_some(delivery.block);
            let settle = Settle { id: delivery.id.clone(), event: None, block, how: how.clone() };
            let live = self.seen[&delivery.id]
                .lease
                .as_ref()
                .is_some_and(|(client, held, _)| *client == peer.client_id && block.is_none_or(|block| block == *held));
            let over = self.seen[&delivery.id].over;
            match self.bench.state.decide(&peer, Command::Settle(settle)) {
                Ok(Step::Commit(found)) => {
                    assert!(live, "settled what it does not have");
                    changes.extend(found);
                    answers.push((changes.len(), delivery.id, how));
                }
                Ok(Step::Answer(reply)) => {
                    assert!(live || (over && how == Settlement::Ack), "{reply:?} {how:?}");
                    if live {
                        self.seen.get_mut(&delivery.id).unwrap().lease = None;
                    }
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => assert!(!live, "refused to settle what it has"),
            }
        }
        if refused {
            return;
        }
        let applied = self.bench.commit(&changes);
        for (end, id, how) in answers {
            let seen = self.seen.get_mut(&id).unwrap();
            seen.lease = None;
            let done = applied[end - 1].clone().answer().is_ok();
            seen.over |= done && how == Settlement::Ack;
            assert!(done || applied[end - 1] == Applied::Stale);
        }
        self.bench.verdicts();
    }

    fn deliver(&mut self, budget: usize) {
        let deliveries = self.bench.deliver_some(budget);
        for (client, delivery) in deliveries {
            let name = names().iter().position(|name| *name == delivery.event).unwrap();
            let held = self.held(&client, name);
            let peer = self.peers.iter().find(|peer| peer.client_id == client).unwrap().clone();
            let window = self.windows[&(client.clone(), name)];
            assert!(held < window && !self.paused.contains(&(client.clone(), name)));
            let seen = self.seen.get_mut(&delivery.id).expect("an event that was accepted");
            assert_eq!((app(seen.queue.0), seen.queue.1), (peer.app_id, name));
            assert!(seen.lease.is_none(), "two leases");
            assert!(!seen.over, "came back");
            assert!(delivery.block.as_u64() > seen.last_block, "a block twice");
            seen.last_block = delivery.block.as_u64();
            if !std::mem::replace(&mut seen.delivered, true)
                && let Some(before) = self.first.insert(seen.queue, seen.accepted.0)
            {
                assert!(before < seen.accepted.0, "out of order");
            }
            let timeout = Duration::from_secs(if name == 0 { 60 } else { 1 });
            seen.lease = Some((client, delivery.block, self.bench.now.after(timeout)));
            self.deliveries.push((peer, delivery));
        }
    }

    fn held(&self, client: &ClientId, name: usize) -> usize {
        let theirs = |seen: &&Seen| seen.queue.1 == name && seen.lease.as_ref().is_some_and(|(by, ..)| by == client);
        self.seen.values().filter(theirs).count()
    }

    fn forget(&mut self, peer: &Peer) {
        self.windows.retain(|(client, _), _| *client != peer.client_id);
        self.paused.retain(|(client, _)| *client != peer.client_id);
        self.deliveries.retain(|(other, _)| other != peer);
        for seen in self.seen.values_mut() {
            seen.lease = seen.lease.take().filter(|(client, ..)| *client != peer.client_id);
        }
    }

    fn after_restart(&mut self) {
        for peer in std::mem::take(&mut self.peers) {
            self.forget(&peer);
        }
        for seen in self.seen.values_mut().filter(|seen| seen.transient) {
            seen.over = true;
        }
    }

    /// Every event that was accepted is there, unless it is over or had time to expire; and nothing else is.
    fn check(&self) {
        self.bench.check();
        let state = &self.bench.state;
        let mut there = HashSet::new();
        for (&queue, q) in &state.queues {
            for (seq, entry) in q.entries.from(0) {
                let event = crate::log::EventRef { queue, seq };
                there.insert(super::super::dispatch::key_of(event, entry).to_id());
            }
        }
        for (id, seen) in &self.seen {
            let expired = seen.queue.1 == 1 && self.bench.now.since(seen.accepted.1) >= Duration::from_secs(3);
            assert!(there.contains(id) || seen.over || expired, "{id} vanished: {seen:?}");
            assert!(!(there.contains(id) && seen.over), "{id} is still there: {seen:?}");
        }
        assert!(there.iter().all(|id| self.seen.contains_key(id)));
        assert_eq!(comparable(self.bench.replayed().durable()), comparable(state.durable()));
    }

    /// In the end one client takes and acknowledges everything that is not dead.
    fn drain(&mut self) {
        self.bench.advance(61_000);
        for peer in std::mem::take(&mut self.peers) {
            self.bench.logout(&peer);
            self.forget(&peer);
        }
        for n in [SHOP, WAREHOUSE] {
            self.bench.advance(1);
            let peer = self.bench.login(n);
            self.peers.push(peer.clone());
            for name in 0..2 {
                let subscribe =
                    Subscribe { event: names()[name].clone(), max_in_flight: None, max_bytes_in_flight: None };
                self.bench.run(&peer, Command::Subscribe(subscribe)).unwrap();
                self.windows.insert((peer.client_id.clone(), name), 256);
            }
            self.deliveries.clear();
            self.deliver(usize::MAX);
            for (peer, delivery) in std::mem::take(&mut self.deliveries) {
                assert_eq!(self.bench.ack(&peer, &delivery).unwrap(), Reply::Done);
                self.seen.get_mut(&delivery.id).unwrap().over = true;
            }
        }
        for queue in self.bench.state.queues() {
            assert_eq!((queue.ready, queue.in_flight, queue.deferred), (0, 0, 0));
        }
    }
}

/// Sequence numbers of events in memory only, and queues of nothing but them, are not in the log.
fn comparable(mut durable: Durable) -> Durable {
    durable.queues.retain(|queue| !queue.events.is_empty());
    for queue in &mut durable.queues {
        queue.next_seq = 0;
    }
    durable
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_promises(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            world.check();
        }
        world.drain();
        world.check();
    }
}
