//! A state with a log in a vector and a clock in a number.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::{AppKey, Block, Delivery, EventId, Metadata, Publish, Sealed, Settle, Settlement, Subscribe};

use super::super::entries::{Place, chunk_of};
use super::super::*;
use crate::log::{EventOptions, Rights};

pub(super) use ensync_core::Command;

/// The event name that is registered.
pub(super) const EVENT: &str = "orders/status/updated";

pub(super) fn app(n: u8) -> AppId {
    AppId::from_bytes([n; 32])
}

pub(super) const SHOP: u8 = 1;
pub(super) const WAREHOUSE: u8 = 2;
pub(super) const STRANGER: u8 = 3;

pub(super) fn event() -> EventName {
    EventName::parse(EVENT).unwrap()
}

pub(super) fn key_hash(n: u8) -> KeyHash {
    KeyHash::of(&AppKey::parse(&format!("key-{n}")).unwrap())
}

#[derive(Debug)]
pub(super) struct Bench {
    pub(super) state: State,
    /// The record at position n is at index n − 1.
    pub(super) log: Vec<Arc<Record>>,
    pub(super) now: Timestamp,
    pub(super) settings: Settings,
    clients: u64,
    /// Live events when the counters began, per queue.
    base: BTreeMap<u32, u64>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| {}, EventOptions::default())
    }

    pub(super) fn with(change: impl FnOnce(&mut Settings), options: EventOptions) -> Self {
        let mut settings = Settings { epoch: 1, tag: 0xfeed, ..Settings::default() };
        change(&mut settings);
        let mut bench = Self {
            state: State::new(settings.clone()),
            log: Vec::new(),
            now: Timestamp::from_millis(1_000_000),
            settings,
            clients: 0,
            base: BTreeMap::new(),
        };
        bench.state.tick(bench.now);
        for n in [SHOP, WAREHOUSE, STRANGER] {
            let (name, rights) = (format!("app {n}"), Rights::ALL);
            bench.provision(Provision::CreateApp { id: app(n), name, key_hash: key_hash(n), rights }).unwrap();
        }
        bench.provision(Provision::RegisterEvent { name: event(), options }).unwrap();
        bench
    }

    pub(super) fn login(&mut self, n: u8) -> Peer {
        self.clients += 1;
        let client_id = ClientId::parse(&format!("client-{}", self.clients)).unwrap();
        let (_, app_id) = self.state.login(&key_hash(n), client_id.clone()).unwrap();
        Peer { client_id, app_id }
    }

    /// A session of an app that is subscribed.
    pub(super) fn consumer(&mut self, n: u8) -> Peer {
        let peer = self.login(n);
        self.subscribe(&peer, None).unwrap();
        peer
    }

    pub(super) fn subscribe(&mut self, peer: &Peer, max: Option<u32>) -> Result<Reply> {
        let max_in_flight = max.map(|max| NonZeroU32::new(max).unwrap());
        self.run(peer, Command::Subscribe(Subscribe { event: event(), max_in_flight, max_bytes_in_flight: None }))
    }

    pub(super) fn logout(&mut self, peer: &Peer) {
        self.state.logout(&peer.client_id);
        self.verdicts();
    }

    /// Stores and applies changes, as the broker does; what each came to.
    pub(super) fn commit(&mut self, changes: &[Change]) -> Vec<Applied> {
        let mut apply = |change: &Change| {
            let position = change.durable.then(|| {
                self.log.push(change.record.clone());
                Position::new(self.log.len() as u64)
            });
            self.state.apply(position, &change.record)
        };
        changes.iter().map(&mut apply).collect()
    }

    pub(super) fn run(&mut self, peer: &Peer, command: Command) -> Result<Reply> {
        let reply = match self.state.decide(peer, command)? {
            Step::Answer(reply) => Ok(reply),
            Step::Commit(changes) => self.commit(&changes).pop().unwrap().answer(),
            Step::Replay(replay) => replay.answer(self.read(&replay.source).as_deref()),
        };
        self.verdicts();
        self.check();
        reply
    }

    pub(super) fn provision(&mut self, what: Provision) -> Result<Reply> {
        let change = self.state.provision(what)?;
        let reply = self.commit(&[change]).pop().unwrap().answer();
        self.check();
        reply
    }

    pub(super) fn publish(&mut self, text: &str) -> EventId {
        let peer = self.login(SHOP);
        let id = self.publish_as(&peer, publish(text)).unwrap();
        self.logout(&peer);
        id
    }

    pub(super) fn publish_as(&mut self, peer: &Peer, publish: Publish) -> Result<EventId> {
        match self.run(peer, Command::Publish(publish))? {
            Reply::Published { id } => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn settle(&mut self, peer: &Peer, id: &EventId, block: Option<Block>, how: Settlement) -> Result<Reply> {
        self.run(peer, Command::Settle(Settle { id: id.clone(), event: None, block, how }))
    }

    pub(super) fn ack(&mut self, peer: &Peer, delivery: &Delivery) -> Result<Reply> {
        self.settle(peer, &delivery.id, Some(delivery.block), Settlement::Ack)
    }

    pub(super) fn replay(&mut self, peer: &Peer, id: &EventId) -> Result<Delivery> {
        match self.run(peer, Command::Replay { id: id.clone(), event: event() })? {
            Reply::Replayed(delivery) => Ok(*delivery),
            other => panic!("{other:?}"),
        }
    }

    fn read(&self, source: &Source) -> Option<Arc<Record>> {
        match source {
            Source::Memory(record) => Some(record.clone()),
            Source::Log(position) => self.log.get(position.as_u64().checked_sub(1)? as usize).cloned(),
        }
    }

    /// What is delivered now, in order, with the session that gets it.
    pub(super) fn deliver_all(&mut self) -> Vec<(ClientId, Delivery)> {
        let deliveries = self.deliver_some(usize::MAX);
        assert!(!self.state.has_work());
        deliveries
    }

    /// At most `budget` of it.
    pub(super) fn deliver_some(&mut self, budget: usize) -> Vec<(ClientId, Delivery)> {
        let outgoing = self.state.dispatch(budget);
        let deliveries = outgoing.iter().map(|outgoing| {
            let record = self.read(&outgoing.source).unwrap();
            let client = self.state.sessions.get(outgoing.session).unwrap().client_id.clone();
            (client, outgoing.delivery(&record).unwrap())
        });
        let deliveries = deliveries.collect();
        self.check();
        deliveries
    }

    /// What is delivered now to one session; nothing may go to others.
    pub(super) fn deliver(&mut self, peer: &Peer) -> Vec<Delivery> {
        let deliveries = self.deliver_all();
        assert!(deliveries.iter().all(|(client, _)| *client == peer.client_id));
        deliveries.into_iter().map(|(_, delivery)| delivery).collect()
    }

    /// The one delivery that is made now.
    pub(super) fn deliver_one(&mut self, peer: &Peer) -> Delivery {
        let deliveries = self.deliver(peer);
        assert_eq!(deliveries.len(), 1, "{deliveries:?}");
        deliveries.into_iter().next().unwrap()
    }

    pub(super) fn advance(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
        self.state.tick(self.now);
        self.verdicts();
        self.check();
    }

    pub(super) fn verdicts(&mut self) {
        let verdicts = self.state.verdicts(usize::MAX);
        for applied in self.commit(&verdicts) {
            assert_eq!(applied, Applied::Done);
        }
    }

    /// Forgets all but the log, and reads that back.
    pub(super) fn restart(&mut self) {
        self.settings.epoch += 1;
        self.settings.tag = self.settings.tag.wrapping_add(1);
        self.adopt(self.replayed());
    }

    /// Goes on with another state.
    pub(super) fn adopt(&mut self, state: State) {
        self.state = state;
        self.state.recovered(self.now);
        self.base = self.state.queues.iter().map(|(&n, queue)| (n, queue.entries.from(0).count() as u64)).collect();
        self.check();
    }

    /// The state that the log makes.
    pub(super) fn replayed(&self) -> State {
        let mut state = State::new(self.settings.clone());
        for (record, position) in self.log.iter().zip(1..) {
            state.apply(Some(Position::new(position)), record);
        }
        state.tick(self.now);
        state
    }

    pub(super) fn stats(&self) -> QueueStats {
        self.state.queue(&app(WAREHOUSE), &event()).unwrap()
    }

    /// Ready, in flight, deferred, dead.
    pub(super) fn counts(&self) -> [usize; 4] {
        let stats = self.stats();
        [stats.ready, stats.in_flight, stats.deferred, stats.dead]
    }

    /// What must hold at any time.
    pub(super) fn check(&self) {
        let state = &self.state;
        let mut timers = 0;
        for (&number, queue) in &state.queues {
            let in_place = |place: Place| {
                let found = queue.entries.from(0).filter(move |(_, entry)| entry.place == place);
                found.map(|(seq, _)| seq).collect::<Vec<_>>()
            };
            assert_eq!(queue.fresh, in_place(Place::Fresh).len());
            assert!(queue.returned.iter().copied().eq(in_place(Place::Returned)));
            assert!(queue.leases.keys().copied().eq(in_place(Place::Leased)));
            assert!(queue.deferred.keys().copied().eq(in_place(Place::Deferred)));
            assert!(queue.dead.keys().copied().eq(in_place(Place::Dead)));
            assert_eq!(queue.doomed, in_place(Place::Doomed).len());
            timers += queue.leases.len() + queue.deferred.len();

            let live = queue.entries.from(0).count() as u64;
            let gone = queue.counters.acked + queue.counters.expired + queue.counters.dropped;
            assert_eq!(self.base.get(&number).unwrap_or(&0) + queue.counters.published, live + gone);

            for (&seq, lease) in &queue.leases {
                let consumer = &state.sessions.get(lease.session).unwrap().consumers[&number];
                assert!(consumer.held.contains(&seq));
            }
            let mut queue_entries = queue.entries.from(0);
            assert!(queue_entries.all(|(seq, entry)| {
                let waits = matches!(entry.place, Place::Fresh | Place::Returned | Place::Deferred);
                let armed = queue.entries.armed(chunk_of(seq));
                !waits || armed <= entry.expires_at
            }));
            let ready = queue.ready() > 0 && !queue.ring.is_empty();
            assert!(!ready || queue.hot, "queue {number} would be forgotten");
        }
        let doomed: usize = state.queues.values().map(|queue| queue.doomed).sum();
        assert_eq!(doomed, state.doomed.len());
        assert_eq!(timers, state.timers.iter().filter(|timer| !matches!(timer, Timer::Expiry { .. })).count());
        for (number, session) in state.sessions.iter() {
            for (queue_number, consumer) in &session.consumers {
                let queue = &state.queues[queue_number];
                assert_eq!(queue.recipient, session.app);
                let sizes = consumer.held.iter().map(|&seq| {
                    assert_eq!(queue.leases[&seq].session, number);
                    u64::from(queue.entries.get(seq).unwrap().size)
                });
                assert_eq!(sizes.sum::<u64>(), consumer.bytes);
                let turns = queue.ring.iter().filter(|&&session| session == number).count();
                assert_eq!(turns, usize::from(consumer.in_ring));
                // Who wants something has a turn, unless he was passed over for an event that did not fit beside what he has.
                assert!(consumer.in_ring || !consumer.wants() || !consumer.held.is_empty());
            }
        }
        let consumers = |number| {
            let sessions = state.sessions.iter();
            sessions.filter(|(_, session)| session.consumers.get(&number).is_some_and(|c| c.active)).count()
        };
        assert!(state.queues.iter().all(|(&number, queue)| queue.consumers == consumers(number)));
    }
}

/// A publish of `text` to the warehouse.
pub(super) fn publish(text: &str) -> Publish {
    Publish {
        event: event(),
        recipient: app(WAREHOUSE),
        payload: Sealed::from_wire(text.to_owned()),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: None,
    }
}

/// The same, kept in memory only.
pub(super) fn transient(text: &str) -> Publish {
    Publish { metadata: Metadata::parse(r#"{"persist":false}"#).unwrap(), ..publish(text) }
}

pub(super) fn defer(ms: u64) -> Settlement {
    Settlement::Defer { delay: Duration::from_millis(ms), priority: 0, reason: String::new() }
}

pub(super) fn discard(reason: &str) -> Settlement {
    Settlement::Discard { reason: reason.to_owned() }
}

/// The payloads, in order.
pub(super) fn texts<'a>(deliveries: impl IntoIterator<Item = &'a Delivery>) -> Vec<&'a str> {
    deliveries.into_iter().map(|delivery| delivery.payload.as_str()).collect()
}

/// Asserts which kind of refusal it was.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) {
    assert_eq!(result.unwrap_err().kind(), kind);
}
