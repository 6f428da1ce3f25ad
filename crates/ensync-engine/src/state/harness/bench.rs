//! A state with its logs in a vector and a clock in a number.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ensync_core::{
    AppKey, AppName, Block, Delay, Delivery, EventId, EventName, Metadata, Publish, Reply, Settle, Settlement,
    Subscribe, WirePayload,
};

use super::super::*;
use super::state::{Durable, State};
use crate::model::{AdminCommand, EventOptions, PartitionSnapshot, Record, Rights};
use crate::state::decide::Use;

pub(in crate::state) use ensync_core::Command;

/// The event name that is registered.
pub(in crate::state) const EVENT: &str = "orders/status/updated";

pub(in crate::state) fn app(n: u8) -> AppId {
    AppId::from_bytes([n; 32])
}

pub(in crate::state) fn app_name(n: u8) -> AppName {
    AppName::parse(&format!("app {n}")).unwrap()
}

pub(in crate::state) const SHOP: u8 = 1;
pub(in crate::state) const WAREHOUSE: u8 = 2;
pub(in crate::state) const STRANGER: u8 = 3;

pub(in crate::state) fn event() -> EventName {
    EventName::parse(EVENT).unwrap()
}

pub(in crate::state) fn key_hash(n: u8) -> KeyHash {
    KeyHash::of(&AppKey::parse(&format!("key-{n}")).unwrap())
}

#[derive(Debug)]
pub(in crate::state) struct Bench {
    pub(in crate::state) state: State,
    /// All logs, in one order: the record at position n is at index n − 1.
    pub(in crate::state) log: Vec<Arc<Record>>,
    /// Of a record that each partition's log has by itself: whose it is, by its index.
    pub(super) copies: BTreeMap<usize, usize>,
    /// Records that went with the end of the log they were in, by index; those of other logs that come later stayed.
    pub(super) lost: BTreeSet<usize>,
    /// How many records there were when the engine started last.
    pub(super) started: usize,
    /// A checkpoint, and how many records it covers.
    pub(in crate::state) base: (Durable, usize),
    /// How many records retention has dropped.
    pub(in crate::state) dropped: usize,
    /// Dead letters that were made because of too many deliveries.
    pub(in crate::state) doomed: u64,
    pub(in crate::state) now: Timestamp,
    pub(in crate::state) settings: Settings,
    clients: u64,
    /// How much is done at a time.
    pub(super) turn: usize,
    /// Of which partition a checkpoint is being made, what it has to be, and what there is of it.
    pub(super) checkpoint: Option<(usize, PartitionSnapshot, Vec<u8>)>,
    /// How many were made.
    pub(in crate::state) checkpoints: usize,
    /// Live events when the counters began, per queue.
    pub(super) live: BTreeMap<u32, u64>,
}

impl Bench {
    pub(in crate::state) fn new() -> Self {
        Self::with(|_| {}, EventOptions::default())
    }

    pub(in crate::state) fn with(change: impl FnOnce(&mut Settings), options: EventOptions) -> Self {
        let mut settings = Settings { epoch: 1, tag: 0xfeed, ..Settings::default() };
        change(&mut settings);
        let mut bench = Self {
            state: State::new(settings.clone()),
            log: Vec::new(),
            copies: BTreeMap::new(),
            lost: BTreeSet::new(),
            started: 0,
            base: (Durable::new(settings.share.count()), 0),
            dropped: 0,
            doomed: 0,
            now: Timestamp::from_millis(1_000_000),
            settings,
            clients: 0,
            turn: 1_024,
            checkpoint: None,
            checkpoints: 0,
            live: BTreeMap::new(),
        };
        bench.state.tick(bench.now);
        for n in [SHOP, WAREHOUSE, STRANGER] {
            let (name, rights) = (app_name(n).into(), Rights::ALL);
            let new = AdminCommand::CreateApp { id: app(n), name, key_hash: key_hash(n), rights, same_name: false };
            bench.administer(new).unwrap();
        }
        bench.administer(AdminCommand::RegisterEvent { name: event(), options }).unwrap();
        bench
    }

    pub(in crate::state) fn login(&mut self, n: u8) -> Peer {
        self.login_with(n).unwrap()
    }

    /// With a key that need not be an app's first.
    pub(in crate::state) fn login_with(&mut self, key: u8) -> Result<Peer> {
        self.clients += 1;
        let client_id = ClientId::parse(&format!("client-{}", self.clients)).unwrap();
        let (_, app_id) = self.state.login(&key_hash(key), client_id.clone())?;
        Ok(Peer { client_id, app_id })
    }

    /// A session of an app that is subscribed.
    pub(in crate::state) fn consumer(&mut self, n: u8) -> Peer {
        let peer = self.login(n);
        self.subscribe(&peer, None).unwrap();
        peer
    }

    pub(in crate::state) fn subscribe(&mut self, peer: &Peer, max: Option<u32>) -> Result<Reply> {
        let max_in_flight = max.map(|max| NonZeroU32::new(max).unwrap());
        self.run(peer, Command::Subscribe(Subscribe { event: event(), max_in_flight, max_bytes_in_flight: None }))
    }

    pub(in crate::state) fn logout(&mut self, peer: &Peer) {
        self.state.logout(&peer.client_id);
        self.verdicts();
    }

    pub(in crate::state) fn run(&mut self, peer: &Peer, command: Command) -> Result<Reply> {
        let first = Use::of(&command).and_then(|used| self.state.access.first_use(peer, used)).cloned();
        if let Some(name) = first {
            self.administer(AdminCommand::UseEvent { name })?;
        }
        let reply = match self.state.decide(peer, command)? {
            Step::Answer(reply) => Ok(reply),
            Step::Commit(changes) => self.commit(&changes).pop().unwrap().answer(),
            Step::Replay(replay) => replay.answer(self.read(&replay.source).as_deref()),
            Step::Same(_) => panic!("nothing else was decided"),
        };
        self.verdicts();
        self.check();
        reply
    }

    pub(in crate::state) fn administer(&mut self, command: AdminCommand) -> Result<Reply> {
        let changes = self.state.administer(command)?;
        self.made(&changes)
    }

    pub(in crate::state) fn letter(&mut self, what: LetterAction, id: &EventId) -> Result<Reply> {
        let change = self.state.dead_letter(what, id)?;
        self.made(&[change])
    }

    fn made(&mut self, changes: &[Change]) -> Result<Reply> {
        let reply = self.commit(changes).pop().unwrap().answer();
        self.check();
        reply
    }

    pub(in crate::state) fn publish(&mut self, text: &str) -> EventId {
        let peer = self.login(SHOP);
        let id = self.publish_as(&peer, publish(text)).unwrap();
        self.logout(&peer);
        id
    }

    pub(in crate::state) fn publish_as(&mut self, peer: &Peer, publish: Publish) -> Result<EventId> {
        match self.run(peer, Command::Publish(publish))? {
            Reply::Published { id } => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    pub(in crate::state) fn settle(
        &mut self,
        peer: &Peer,
        id: &EventId,
        block: Option<Block>,
        how: Settlement,
    ) -> Result<Reply> {
        self.run(peer, Command::Settle(Settle { id: id.clone(), event: None, block, how }))
    }

    pub(in crate::state) fn ack(&mut self, peer: &Peer, delivery: &Delivery) -> Result<Reply> {
        self.settle(peer, &delivery.id, Some(delivery.block), Settlement::Ack)
    }

    pub(in crate::state) fn replay(&mut self, peer: &Peer, id: &EventId) -> Result<Delivery> {
        match self.run(peer, Command::Replay { id: id.clone(), event: event() })? {
            Reply::Replayed(delivery) => Ok(*delivery),
            other => panic!("{other:?}"),
        }
    }

    /// What is delivered now, in order, with the session that gets it.
    pub(in crate::state) fn deliver_all(&mut self) -> Vec<(ClientId, Delivery)> {
        let deliveries = self.deliver_some(usize::MAX);
        self.check_idle();
        deliveries
    }

    /// Nothing waits for somebody who could take it.
    pub(in crate::state) fn check_idle(&mut self) {
        self.catch_up();
        assert!(!self.state.has_work());
        let partitions = self.state.partitions.iter_mut();
        for queue in partitions.flat_map(|partition| partition.queues.values_mut()) {
            let Some((_, next)) = queue.next_ready() else { continue };
            let mut consumers = queue.consumers.values();
            assert!(!consumers.any(|c| c.wants() && c.fits(next.size)), "an event is kept from who could take it");
        }
    }

    /// At most `budget` of it.
    pub(in crate::state) fn deliver_some(&mut self, budget: usize) -> Vec<(ClientId, Delivery)> {
        let mut outgoing = self.state.dispatch(budget);
        while outgoing.len() < budget && self.state.has_work() {
            self.catch_up();
            outgoing.extend(self.state.dispatch(budget - outgoing.len()));
        }
        let deliveries = outgoing.iter().map(|outgoing| {
            let record = self.read(outgoing.source()).unwrap();
            let client = self.client(outgoing.consumer);
            (client, outgoing.delivery(&record).unwrap())
        });
        let deliveries = deliveries.collect();
        self.check();
        deliveries
    }

    fn client(&self, number: SessionNumber) -> ClientId {
        let (_, session) = self.state.access.sessions.iter().find(|(other, _)| *other == number).unwrap();
        session.client_id.clone()
    }

    /// What is delivered now to one session; nothing may go to others.
    pub(in crate::state) fn deliver(&mut self, peer: &Peer) -> Vec<Delivery> {
        let deliveries = self.deliver_all();
        assert!(deliveries.iter().all(|(client, _)| *client == peer.client_id));
        deliveries.into_iter().map(|(_, delivery)| delivery).collect()
    }

    /// The one delivery that is made now.
    pub(in crate::state) fn deliver_one(&mut self, peer: &Peer) -> Delivery {
        let deliveries = self.deliver(peer);
        assert_eq!(deliveries.len(), 1, "{deliveries:?}");
        deliveries.into_iter().next().unwrap()
    }

    pub(in crate::state) fn advance(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
        self.state.tick(self.now);
        self.check();
        self.slice();
        self.verdicts();
        self.check();
    }

    /// Has everything done that is due. In between everything holds, too, and a checkpoint goes on.
    pub(super) fn catch_up(&mut self) {
        while self.state.is_behind() {
            self.state.tick(self.now);
            self.check();
            self.slice();
        }
    }

    /// How much is done at a time.
    pub(in crate::state) fn set_turn(&mut self, turn: usize) {
        self.turn = turn.max(1);
        self.state.set_turn(turn);
    }

    pub(in crate::state) fn verdicts(&mut self) {
        self.catch_up();
        let verdicts = self.state.pending(usize::MAX);
        self.doomed += verdicts.iter().filter(|change| matches!(*change.record, Record::Discard { .. })).count() as u64;
        for applied in self.commit(&verdicts) {
            assert_eq!(applied, Applied::Done);
        }
    }

    pub(in crate::state) fn stats(&self) -> QueueStats {
        self.state.queue(&app(WAREHOUSE), &event()).unwrap()
    }

    /// Ready, in flight, deferred, dead.
    pub(in crate::state) fn counts(&self) -> [usize; 4] {
        let stats = self.stats();
        [stats.ready, stats.in_flight, stats.deferred, stats.dead]
    }
}

/// A publish of `text` to the warehouse.
pub(in crate::state) fn publish(text: &str) -> Publish {
    Publish {
        event: event(),
        recipient: app(WAREHOUSE),
        payload: WirePayload::from_wire(text.to_owned()),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: None,
    }
}

/// The same, kept in memory only.
pub(in crate::state) fn transient(text: &str) -> Publish {
    Publish { metadata: Metadata::parse(r#"{"persist":false}"#).unwrap(), ..publish(text) }
}

pub(in crate::state) fn defer(ms: u64) -> Settlement {
    Settlement::Defer { delay: Delay::from_millis(ms).unwrap(), priority: 0, reason: String::new() }
}

pub(in crate::state) fn discard(reason: &str) -> Settlement {
    Settlement::Discard { reason: reason.to_owned() }
}

/// The payloads, in order.
pub(in crate::state) fn texts<'a>(deliveries: impl IntoIterator<Item = &'a Delivery>) -> Vec<&'a str> {
    deliveries.into_iter().map(|delivery| delivery.payload.as_str().unwrap()).collect()
}

/// Asserts which kind of refusal it was.
#[track_caller]
pub(in crate::state) fn refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) {
    assert_eq!(result.unwrap_err().kind(), kind);
}
