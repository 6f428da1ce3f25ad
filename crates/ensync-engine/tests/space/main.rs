//! Disks that are full: of what, who is refused then, what recovers, and that nothing is lost.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a panic here is a failed test")]

mod recovery;
mod small;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::{Duration, Instant};

use ensync_core::{
    AppId, AppKey, Command, Delay, Delivery, Error, ErrorKind, EventId, EventName, Login, Metadata, Publish, Reply,
    Result, SecretKey, Service, Session, Settle, Settlement, Subscribe, WirePayload,
};
use ensync_engine::{AdminApi, Broker, BrokerOptions, DiskOptions, EventOptions, Logs};
use futures::StreamExt;
use tempfile::TempDir;

const MIB: usize = 1 << 20;
/// The sizes of disks, in MiB. The largest takes minutes where nothing is optimised: only if `ENSYNC_SPACE` is set.
fn disks() -> impl Iterator<Item = usize> {
    [8, 16].into_iter().chain(std::env::var_os("ENSYNC_SPACE").map(|_| 64))
}

const PAYLOAD: usize = 8 << 10;
const SHOP: AppId = AppId::from_bytes([6; 32]);
const STOCK: AppId = AppId::from_bytes([25; 32]);

/// A file system of a size.
struct Disk(TempDir);

impl Disk {
    /// `None`, with a word about it, where nothing can be mounted.
    fn mount(mib: usize) -> Option<Self> {
        let place = TempDir::new().unwrap();
        let mut mount = Process::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(place.path());
        let reason = match mount.output() {
            Ok(output) if output.status.success() => return Some(Self(place)),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(cause) => cause.to_string(),
        };
        assert!(std::env::var_os("ENSYNC_INTEROP").is_none_or(|value| value != "required"), "{reason}");
        // Not with eprintln, which the test harness would keep to itself.
        _ = writeln!(std::io::stderr(), "\nskipped, no small disk can be mounted here: {reason}");
        None
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        _ = Process::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// What came of a disk that was full.
struct Row {
    disk: usize,
    full_of: &'static str,
    accepted: usize,
    waiting: usize,
    refused: &'static str,
    recovered: &'static str,
}

impl Row {
    /// A line of the table. Not with println, which the test harness would keep to itself.
    fn print(&self) {
        let Self { disk, full_of, accepted, waiting, refused, recovered } = self;
        let (accepted, waiting) = (accepted * PAYLOAD / 1_024, waiting * PAYLOAD / 1_024);
        _ = writeln!(
            std::io::stderr(),
            "\n| {disk:>2} MiB, full of {full_of:<26} | accepted {accepted:>6} KiB | owed {waiting:>5} KiB | refused: {refused:<28} | {recovered:<40} | 0 lost |"
        );
    }
}

struct World {
    broker: Broker,
    shop: Session,
    other: Session,
    stock: Session,
    /// What was accepted and not settled.
    owed: BTreeSet<String>,
    accepted: usize,
}

fn event() -> EventName {
    EventName::parse("a/b").unwrap()
}

async fn broker(path: &Path, change: impl FnOnce(&mut BrokerOptions)) -> Broker {
    let mut options = BrokerOptions::default();
    options.limits.max_in_flight = 1_000_000.try_into().unwrap();
    options.limits.max_bytes_in_flight = u64::MAX;
    change(&mut options);
    let log = Logs::open(path, DiskOptions::default()).await.unwrap();
    Broker::start(options, log).await.unwrap()
}

impl World {
    async fn start(disk: &Disk, change: impl FnOnce(&mut BrokerOptions)) -> Self {
        let broker = broker(&disk.path(), change).await;
        for (name, app) in [("shop", SHOP), ("stock", STOCK), ("other", other())] {
            broker.create_app_with_key(name, app, &key(app)).await.unwrap();
        }
        broker.register_event(event(), EventOptions::default()).await.unwrap();
        let (shop, other, stock) =
            (login(&broker, SHOP).await, login(&broker, other()).await, login(&broker, STOCK).await);
        subscribe(&broker, &stock).await;
        Self { broker, shop, other, stock, owed: BTreeSet::new(), accepted: 0 }
    }

    /// Who is refused now: the app that filled the disk, or another too.
    async fn who_is_refused(&mut self) -> &'static str {
        let publish = Publish {
            event: event(),
            recipient: other(),
            payload: WirePayload::from_wire("A".repeat(PAYLOAD)),
            metadata: Metadata::default(),
            payload_metadata: None,
            idempotency_key: None,
        };
        match self.broker.handle(&self.other.peer, Command::Publish(publish)).await {
            // Something was dropped meanwhile.
            Ok(_) => "publishes, for a moment",
            Err(refused) => {
                no_space(&refused);
                "publishes of every app"
            }
        }
    }

    fn row(&self, disk: usize, full_of: &'static str, refused: &'static str, recovered: &'static str) -> Row {
        Row { disk, full_of, accepted: self.accepted, waiting: self.owed.len(), refused, recovered }
    }

    async fn publish(&mut self) -> Result<EventId> {
        let publish = Publish {
            event: event(),
            recipient: STOCK,
            payload: WirePayload::from_wire("A".repeat(PAYLOAD)),
            metadata: Metadata::default(),
            payload_metadata: None,
            idempotency_key: None,
        };
        match self.broker.handle(&self.shop.peer, Command::Publish(publish)).await? {
            Reply::Published { id } => {
                self.accepted += 1;
                self.owed.insert(id.as_str().to_owned());
                Ok(id)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn receive(&mut self) -> Delivery {
        self.stock.inbox.next().await.unwrap()
    }

    async fn settle(&mut self, delivery: &Delivery, how: Settlement) -> Result<()> {
        let done = matches!(how, Settlement::Ack);
        let settle = Settle { id: delivery.id.clone(), event: None, block: Some(delivery.block), how };
        self.broker.handle(&self.stock.peer, Command::Settle(settle)).await?;
        if done {
            self.owed.remove(delivery.id.as_str());
        }
        Ok(())
    }

    /// Publishes until it is refused, for want of space.
    async fn fill(&mut self) {
        let refused = loop {
            if let Err(refused) = self.publish().await {
                break refused;
            }
            assert!(self.accepted * PAYLOAD < 1_000 * MIB, "it never is full");
        };
        no_space(&refused);
    }

    /// Publishes until it is accepted.
    async fn recover(&mut self) {
        let begun = Instant::now();
        while let Err(refused) = self.publish().await {
            no_space(&refused);
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not recover");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts again, and receives all that is owed.
    async fn nothing_is_lost(self, disk: &Disk) {
        self.broker.shutdown().await;
        let broker = broker(&disk.path(), |_| ()).await;
        broker.requeue_dead_letters(None, None).await.unwrap();
        let mut stock = login(&broker, STOCK).await;
        subscribe(&broker, &stock).await;
        let (mut found, stats) = (BTreeSet::new(), broker.queue(event(), STOCK).await.unwrap().unwrap());
        assert_eq!(stats.ready + stats.in_flight + stats.deferred, self.owed.len());
        while found.len() < self.owed.len() - stats.deferred {
            let delivery = tokio::time::timeout(Duration::from_secs(60), stock.inbox.next()).await.unwrap().unwrap();
            assert_eq!(delivery.payload.as_str().unwrap().len(), PAYLOAD);
            found.insert(delivery.id.as_str().to_owned());
        }
        assert!(found.is_subset(&self.owed));
        // What is deferred is read by a replay.
        for id in self.owed.difference(&found) {
            let id: EventId = id.parse().unwrap();
            let replay = Command::Replay { id: id.clone(), event: event() };
            assert!(matches!(broker.handle(&stock.peer, replay).await, Ok(Reply::Replayed(_))), "{id:?}");
        }
        broker.shutdown().await;
        let report = ensync_engine::store::verify(disk.path()).await.unwrap();
        assert_eq!(report.damage, []);
    }
}

/// An app that has nothing to do with the other two.
fn other() -> AppId {
    SecretKey::from_seed([9; 32]).app_id().unwrap()
}

fn key(app: AppId) -> AppKey {
    AppKey::parse(&format!("key-{}", app.as_bytes()[0])).unwrap()
}

async fn login(broker: &Broker, app: AppId) -> Session {
    broker.login(Login { app_key: key(app), transport: "local", remote: None }).await.unwrap()
}

async fn subscribe(broker: &Broker, session: &Session) {
    let subscribe = Subscribe {
        event: event(),
        max_in_flight: 1_000_000.try_into().ok(),
        max_bytes_in_flight: u64::MAX.try_into().ok(),
    };
    broker.handle(&session.peer, Command::Subscribe(subscribe)).await.unwrap();
}

#[track_caller]
fn no_space(refused: &Error) {
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert!(refused.to_string().contains("no space"), "{refused}");
}

fn later() -> Settlement {
    Settlement::Defer { delay: Delay::MAX, priority: 0, reason: String::new() }
}

/// Four times what fits: nobody is refused for what is settled.
#[tokio::test]
async fn settled_events_refuse_nobody() {
    for size in disks() {
        let Some(disk) = Disk::mount(size) else { return };
        let mut world = World::start(&disk, |_| ()).await;
        while world.accepted * PAYLOAD < 4 * size * MIB {
            world.publish().await.unwrap();
            let delivery = world.receive().await;
            world.settle(&delivery, Settlement::Ack).await.unwrap();
        }
        let row = world.row(size, "settled events", "nobody", "by itself: the oldest go");
        world.nothing_is_lost(&disk).await;
        row.print();
    }
}

#[tokio::test]
async fn an_absent_consumers_events_fill_it_and_he_empties_it() {
    for size in disks() {
        let Some(disk) = Disk::mount(size) else { return };
        let mut world = World::start(&disk, |_| ()).await;
        world.fill().await;
        let (full, refused) = (world.accepted, world.who_is_refused().await);
        assert!(full * PAYLOAD * 100 > size * MIB * 35, "{full} events of {PAYLOAD} bytes on {size} MiB");
        for _ in 0..full / 2 {
            let delivery = world.receive().await;
            world.settle(&delivery, Settlement::Ack).await.unwrap();
        }
        world.recover().await;
        world.fill().await;
        assert!(world.accepted > full + full / 4, "the space is used again: {full}, {}", world.accepted);
        let row = world.row(size, "one app's waiting events", refused, "when half are acknowledged");
        world.nothing_is_lost(&disk).await;
        row.print();
    }
}

#[tokio::test]
async fn dead_letters_fill_it_until_somebody_drops_them() {
    for size in disks() {
        let Some(disk) = Disk::mount(size) else { return };
        let mut world = World::start(&disk, |_| ()).await;
        let refused = loop {
            match world.publish().await {
                Ok(_) => {
                    let delivery = world.receive().await;
                    world.settle(&delivery, Settlement::Discard { reason: "no use".into() }).await.unwrap();
                }
                Err(refused) => break refused,
            }
        };
        no_space(&refused);
        let (full, who) = (world.accepted, world.who_is_refused().await);
        for letter in world.broker.dead_letters(None, None, full / 2).await.unwrap() {
            world.broker.drop_dead_letter(letter.id.clone()).await.unwrap();
            world.owed.remove(letter.id.as_str());
        }
        world.recover().await;
        let row = world.row(size, "dead letters", who, "when half are given up");
        world.nothing_is_lost(&disk).await;
        row.print();
    }
}

/// They have a number and an age of their own.
#[tokio::test]
async fn dead_letters_that_are_too_many_or_too_old_go_by_themselves() {
    for size in disks() {
        let Some(disk) = Disk::mount(size) else { return };
        let change = |options: &mut BrokerOptions| {
            options.retention.sweep_every = Duration::from_millis(10);
            options.retention.dead_letters_per_queue = 10;
        };
        let mut world = World::start(&disk, change).await;
        while world.accepted * PAYLOAD < 4 * size * MIB {
            world.publish().await.unwrap();
            let delivery = world.receive().await;
            world.settle(&delivery, Settlement::Discard { reason: "no use".into() }).await.unwrap();
        }
        let row =
            Row { waiting: 0, ..world.row(size, "dead letters with a bound", "nobody", "by itself: the oldest go") };
        world.broker.shutdown().await;
        let old = broker(&disk.path(), |options| options.retention.dead_letter_age = Duration::ZERO).await;
        let begun = Instant::now();
        while !old.dead_letters(None, None, 1).await.unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        row.print();
    }
}

/// One of eight events waits, in every part of the log: those are stored once more, again and again, while there is space for it.
#[tokio::test]
async fn what_waits_is_moved_together_until_it_alone_fills_the_disk() {
    for size in disks() {
        let Some(disk) = Disk::mount(size) else { return };
        let mut world = World::start(&disk, |_| ()).await;
        let refused = 'full: loop {
            for n in 0..8 {
                if let Err(refused) = world.publish().await {
                    break 'full refused;
                }
                let delivery = world.receive().await;
                let how = if n == 0 { later() } else { Settlement::Ack };
                world.settle(&delivery, how).await.unwrap();
            }
        };
        no_space(&refused);
        let (accepted, waiting) = (world.accepted * PAYLOAD, world.owed.len() * PAYLOAD);
        assert!(
            waiting * 100 > size * MIB * 30 && accepted * 10 > size * MIB * 24,
            "{waiting} of {accepted} on {size} MiB"
        );
        let who = world.who_is_refused().await;
        let row = world.row(size, "what was copied forward", who, "not needed: only what waits is there");
        world.nothing_is_lost(&disk).await;
        row.print();
    }
}
