//! Disks without room.

use std::sync::atomic::{AtomicI64, AtomicU64};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use tokio::sync::oneshot;

use super::super::entry::Reason;
use super::super::reserve::Reserve;
use super::super::store::failed;
use super::super::thread::{Worker, Write};
use super::*;

/// A disk of this much room, which tests can change.
#[derive(Clone, Debug)]
struct Disk {
    bytes: Arc<InMemoryBackend>,
    room: Arc<AtomicU64>,
    /// How many syncs more succeed before one fails.
    syncs: Arc<AtomicI64>,
}

impl Disk {
    fn of(room: u64) -> Self {
        Self { bytes: Arc::default(), room: Arc::new(AtomicU64::new(room)), syncs: Arc::new(AtomicI64::new(i64::MAX)) }
    }

    fn open(&self) -> Result<redb::Database> {
        redb::Builder::new().create_with_backend(self.clone()).map_err(failed)
    }

    fn store(&self, reserve: impl Reserve + 'static) -> Result<Store> {
        let disk = self.clone();
        Store::open(Box::new(move || disk.open()), OutboxOptions::new().max_age(Duration::MAX), Box::new(reserve))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        self.bytes.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.bytes.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        if len > self.room.load(Ordering::Relaxed) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        }
        self.bytes.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        if self.syncs.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(std::io::Error::other("the sync failed"));
        }
        self.bytes.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        if self.room.load(Ordering::Relaxed) == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        }
        self.bytes.write(offset, data)
    }
}

/// No room is kept.
struct NoRoom;

impl Reserve for NoRoom {
    fn place(&self) -> String {
        "nowhere".to_owned()
    }
    fn take(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    fn give_up(&mut self) -> bool {
        false
    }
}

/// Room on such a disk: there is as much as a file takes, while the disk is full.
struct Room {
    disk: Arc<AtomicU64>,
    taken: bool,
}

impl Reserve for Room {
    fn place(&self) -> String {
        "outbox.reserve".to_owned()
    }
    fn take(&mut self) -> std::io::Result<()> {
        self.taken |= self.disk.load(Ordering::Relaxed) == u64::MAX;
        if self.taken { Ok(()) } else { Err(std::io::ErrorKind::StorageFull.into()) }
    }
    fn give_up(&mut self) -> bool {
        if self.taken {
            self.disk.store(u64::MAX - 1, Ordering::Relaxed);
        }
        std::mem::take(&mut self.taken)
    }
}

#[test]
fn what_filled_the_disk_can_be_taken_out_and_nothing_is_put_in_meanwhile() {
    let disk = Disk::of(u64::MAX);
    let room = disk.room.clone();
    let store = disk.store(Room { disk: room.clone(), taken: false }).unwrap();
    let (status, _) = watch::channel(Now::default());
    let mut worker = Worker { store, status, listeners: broadcast::Sender::new(1) };
    let mut write = |write: Write| {
        let (answer, mut waiter) = oneshot::channel();
        worker.write(vec![(write, answer)]);
        let waiting = worker.status.borrow().status.waiting;
        let written = waiter.try_recv().unwrap().map(drop);
        if let Err(error) = &written {
            assert!(error.to_string().contains("outbox.reserve") || waiting == 3, "{error}");
        }
        (written.map_err(|error| error.kind()), waiting)
    };
    for n in 1..=3 {
        assert_eq!(write(Write::Put(vec![entry(n)])), (Ok(()), n.into()));
    }
    room.store(0, Ordering::Relaxed);
    assert_eq!(write(Write::Put(vec![entry(4)])), (Err(ErrorKind::Unavailable), 3));
    assert_eq!(write(Write::Done(QueuedId(1))), (Ok(()), 2));
    // The room that was given up is not for new events.
    assert_eq!(write(Write::Put(vec![entry(4)])), (Err(ErrorKind::Unavailable), 2));
    assert_eq!(
        write(Write::Park(QueuedId(2), Box::new(entry(2)), Reason::of(&Error::new(ErrorKind::Refused, "no")))),
        (Ok(()), 1)
    );
    room.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(write(Write::Put(vec![entry(4)])), (Ok(()), 2));
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let disk = Disk::of(u64::MAX);
    let mut store = disk.store(NoRoom).unwrap();
    put(&mut store, 1).unwrap();
    disk.room.store(0, Ordering::Relaxed);
    for _ in 0..3 {
        let error = put(&mut store, 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(store.count.status().waiting, 1);
    }
    disk.room.store(u64::MAX, Ordering::Relaxed);
    put(&mut store, 3).unwrap();
    let (entries, _) = taken(&mut store, NOW).unwrap();
    let entries: Vec<_> = entries.into_iter().map(|(_, entry)| entry).collect();
    assert_eq!(entries, [entry(1), entry(3)]);
}

/// A sync that fails does not say whether what it was to sync is there: memory goes by what the file says.
#[test]
fn after_a_failed_sync_memory_and_file_say_the_same() {
    let (mut failures, mut found) = (0, 0);
    for nth in 0..4 {
        for removes in [false, true] {
            let disk = Disk::of(u64::MAX);
            let mut store = disk.store(NoRoom).unwrap();
            put(&mut store, 1).unwrap();
            put(&mut store, 2).unwrap();
            disk.syncs.store(nth, Ordering::Relaxed);
            let outcome = if removes {
                store.transact(|batch| batch.done(QueuedId(2))).map(drop)
            } else {
                put(&mut store, 3).map(drop)
            };
            disk.syncs.store(i64::MAX, Ordering::Relaxed);
            let Err(error) = outcome else { continue };
            failures += 1;
            assert!(error.may_have_happened(), "{error}");
            let (entries, _) = taken(&mut store, NOW).unwrap();
            found += usize::from(entries.len() != 2);
            assert_eq!(store.count.status().waiting, entries.len() as u64, "sync {nth}, removes: {removes}");
            // What is said again changes nothing.
            for (id, _) in entries.iter().chain(&entries) {
                store.take_out(|batch| batch.done(*id)).unwrap();
            }
            assert_eq!((store.count.status(), store.now().first), (OutboxStatus::default(), None));
            drop(store);
            let store = disk.store(NoRoom).unwrap();
            assert_eq!(store.count.status(), OutboxStatus::default(), "sync {nth}, removes: {removes}");
        }
    }
    assert!(failures > 1 && found > 0, "of {failures} failures {found} had happened");
}

/// What a killed process left must be put in order, for which a full disk has no room.
#[test]
fn a_file_that_takes_room_to_open_gets_what_was_kept_for_it() {
    let disk = Disk::of(u64::MAX);
    let mut store = disk.store(NoRoom).unwrap();
    for n in 1..=3 {
        put(&mut store, n).unwrap();
    }
    disk.room.store(0, Ordering::Relaxed);
    drop(store);
    let error = disk.store(NoRoom).err().unwrap();
    assert!(error.to_string().contains("the disk is full"), "{error}");
    let mut store = disk.store(Room { disk: disk.room.clone(), taken: true }).unwrap();
    assert_eq!(taken(&mut store, NOW).unwrap().0.len(), 3);
}

/// How much room there is on it.
const SIZE: u64 = 16 << 20;

/// A disk that a file and the room kept for it share.
#[derive(Clone)]
struct Shared {
    disk: Disk,
    kept: u64,
    taken: bool,
}

impl Reserve for Shared {
    fn place(&self) -> String {
        "outbox.reserve".to_owned()
    }
    fn take(&mut self) -> std::io::Result<()> {
        if !self.taken && self.disk.bytes.len()? + self.kept > SIZE {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.taken = true;
        self.disk.room.store(SIZE - self.kept, Ordering::Relaxed);
        Ok(())
    }
    fn give_up(&mut self) -> bool {
        self.disk.room.store(SIZE, Ordering::Relaxed);
        std::mem::take(&mut self.taken)
    }
}

/// The database keeps the room of what was taken out of it, which is what the reserve needs.
#[test]
fn an_outbox_that_filled_its_disk_takes_events_again_once_it_is_drained() {
    let disk = Disk::of(SIZE);
    let mut store = disk.store(Shared { disk: disk.clone(), kept: SIZE / 8, taken: false }).unwrap();
    let large = || {
        let mut large = entry(1);
        large.publish.payload = ensync_core::WirePayload::from_wire("A".repeat(200_000));
        large
    };
    for round in 0..3 {
        let mut put = 0u64;
        while store.put(|batch| batch.put(&[large()], NOW)).is_ok() {
            put += 1;
            assert!(put < 100, "the disk is not full");
        }
        assert!(put >= 5, "round {round}: {put}");
        while store.count.status().waiting > 0 {
            let (entries, _) = taken(&mut store, NOW).unwrap();
            for (id, _) in entries {
                store.take_out(|batch| batch.done(id)).unwrap();
            }
        }
        assert_eq!(store.count.status().waiting, 0);
        let (ids, _) = store.put(|batch| batch.put(&[entry(2)], NOW)).unwrap();
        store.take_out(|batch| batch.done(ids[0])).unwrap();
    }
}
