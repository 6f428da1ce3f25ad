//! Disks without room.

use std::sync::atomic::AtomicU64;

use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use tokio::sync::oneshot;

use super::super::entry::Reason;
use super::super::reserve::Reserve;
use super::super::thread::{Worker, Write};
use super::*;

/// A disk of this much room, which tests can change.
#[derive(Clone, Debug)]
struct Disk {
    bytes: Arc<InMemoryBackend>,
    room: Arc<AtomicU64>,
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
    let room = Arc::new(AtomicU64::new(u64::MAX));
    let disk = Disk { bytes: Arc::default(), room: room.clone() };
    let open = move || {
        let database = redb::Builder::new().create_with_backend(disk.clone());
        database.map_err(|cause| Error::new(ErrorKind::Unavailable, "open").with_source(cause))
    };
    let reserve = Room { disk: room.clone(), taken: false };
    let store = Store::open(Box::new(open), OutboxOptions::new().max_age(Duration::MAX), Box::new(reserve)).unwrap();
    let (status, _) = watch::channel(Now::default());
    let mut worker = Worker { store, status, listeners: broadcast::Sender::new(1) };
    let mut write = |write: Write| {
        let (answer, mut waiter) = oneshot::channel();
        worker.write(vec![(write, answer)]);
        let waiting = worker.status.borrow().status.waiting;
        (waiter.try_recv().unwrap().map(drop).map_err(|error| error.kind()), waiting)
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
    let disk = Disk { bytes: Arc::default(), room: Arc::new(AtomicU64::new(u64::MAX)) };
    let opened = disk.clone();
    let open = move || {
        let database = redb::Builder::new().create_with_backend(opened.clone());
        database.map_err(|cause| Error::new(ErrorKind::Unavailable, "open").with_source(cause))
    };
    let mut store = Store::open(Box::new(open), OutboxOptions::new(), Box::new(NoRoom)).unwrap();
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
    let disk = Disk { bytes: Arc::default(), room: Arc::new(AtomicU64::new(SIZE)) };
    let opened = disk.clone();
    let open = move || {
        let database = redb::Builder::new().create_with_backend(opened.clone());
        database.map_err(|cause| Error::new(ErrorKind::Unavailable, "open").with_source(cause))
    };
    let reserve = Shared { disk, kept: SIZE / 8, taken: false };
    let options = OutboxOptions::new().max_age(Duration::MAX);
    let mut store = Store::open(Box::new(open), options, Box::new(reserve)).unwrap();
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
