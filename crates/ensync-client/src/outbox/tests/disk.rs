//! Disks without room.

use std::sync::atomic::{AtomicI64, AtomicU64};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use tokio::sync::oneshot;

use super::super::clock::tests::Machine;
use super::super::entry::Reason;
use super::super::reserve::Reserve;
use super::super::store::failed;
use super::super::thread::{Worker, Write, Written};
use super::*;

/// A disk of this much room, which tests can change.
#[derive(Clone, Debug)]
struct Disk {
    bytes: Arc<InMemoryBackend>,
    room: Arc<AtomicU64>,
    /// How many syncs more succeed before some fail.
    syncs: Arc<AtomicI64>,
    /// How many fail then.
    failing: Arc<AtomicI64>,
    /// Whether what was not synced is lost by that; else it is there to be read.
    loses: Arc<AtomicBool>,
    synced: Arc<Mutex<Vec<u8>>>,
}

impl Disk {
    fn of(room: u64) -> Self {
        let (syncs, failing) = (Arc::new(AtomicI64::new(i64::MAX)), Arc::new(AtomicI64::new(1)));
        let (loses, synced) = <_>::default();
        Self { bytes: Arc::default(), room: Arc::new(AtomicU64::new(room)), syncs, failing, loses, synced }
    }

    fn open(&self) -> Result<redb::Database> {
        redb::Builder::new().create_with_backend(self.clone()).map_err(failed)
    }

    fn store(&self, reserve: impl Reserve + 'static) -> Result<Store> {
        self.store_by(reserve, clock::machine())
    }

    fn store_by(&self, reserve: impl Reserve + 'static, clock: clock::Source) -> Result<Store> {
        let disk = self.clone();
        Store::open(
            Box::new(move || disk.open()),
            OutboxOptions::new().max_age(Duration::MAX),
            Box::new(reserve),
            clock,
        )
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
        let left = self.syncs.fetch_sub(1, Ordering::Relaxed);
        if left <= 0 && left > -self.failing.load(Ordering::Relaxed) {
            if self.loses.load(Ordering::Relaxed) {
                let synced = self.synced.lock().unwrap();
                self.bytes.set_len(synced.len() as u64)?;
                self.bytes.write(0, &synced)?;
            }
            return Err(std::io::Error::other("the sync failed"));
        }
        let mut synced = self.synced.lock().unwrap();
        synced.resize(self.bytes.len()? as usize, 0);
        self.bytes.read(0, &mut synced)?;
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

/// No room can be kept once others have filled the disk.
struct Filled(Arc<AtomicBool>);

impl Reserve for Filled {
    fn place(&self) -> String {
        "outbox.reserve".to_owned()
    }
    fn take(&mut self) -> std::io::Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
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

/// A sync that fails does not say whether what it was to sync is there: memory and answers go by what the file says.
#[test]
fn after_a_failed_sync_memory_file_and_answer_say_the_same() {
    let (mut found, mut missing) = (0, 0);
    for nth in 0..8 {
        for removes in [false, true] {
            let disk = Disk::of(u64::MAX);
            disk.loses.store(nth % 2 == 1, Ordering::Relaxed);
            let nth = nth / 2;
            let mut store = disk.store(NoRoom).unwrap();
            put(&mut store, 1).unwrap();
            put(&mut store, 2).unwrap();
            disk.syncs.store(nth, Ordering::Relaxed);
            let outcome = if removes {
                store.transact(|batch| batch.done(QueuedId(2))).map(drop)
            } else {
                put(&mut store, 3).map(drop)
            };
            let failed = disk.syncs.swap(i64::MAX, Ordering::Relaxed) < 0;
            let (entries, _) = taken(&mut store, NOW).unwrap();
            if failed {
                *(if entries.len() == 2 { &mut missing } else { &mut found }) += 1;
            }
            assert_eq!(outcome.is_ok(), entries.len() != 2, "sync {nth}, removes: {removes}");
            assert!(!outcome.is_err_and(|error| error.may_have_happened()), "the file says that it did not");
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
    assert!(found > 0 && missing > 0, "after a failed sync it was there {found} times, and not {missing} times");
}

/// Each that shares a transaction whose sync fails is done once, and knows it: whatever the sync that fails, and also if the disk cannot
/// be read at once.
#[test]
fn what_shares_a_transaction_is_done_once_though_its_sync_fails() {
    let (mut done_anyway, mut again, mut unsure) = (0, 0, 0);
    for nth in 0..6 {
        for (fails, loses) in [(1, false), (1, true), (5, false), (5, true)] {
            let disk = Disk::of(u64::MAX);
            disk.loses.store(loses, Ordering::Relaxed);
            let mut store = disk.store(NoRoom).unwrap();
            for n in 1..=4 {
                put(&mut store, n).unwrap();
            }
            store.transact(|batch| batch.park(QueuedId(1), &entry(1))).unwrap();
            let (status, _) = watch::channel(Now::default());
            let mut worker = Worker { store, status, listeners: broadcast::Sender::new(8) };
            let refused = Reason::of(&Error::new(ErrorKind::Refused, "no"));
            let all = [
                Write::Put(vec![entry(5)]),
                Write::Put(vec![entry(6), entry(7)]),
                Write::Done(QueuedId(2)),
                Write::Park(QueuedId(3), Box::new(entry(3)), refused),
                Write::Discard(QueuedId(1)),
            ];
            let (writes, answers): (Vec<_>, Vec<_>) = all
                .into_iter()
                .map(|write| {
                    let (answer, waiter) = oneshot::channel();
                    ((write, answer), waiter)
                })
                .unzip();
            disk.syncs.store(nth, Ordering::Relaxed);
            disk.failing.store(fails, Ordering::Relaxed);
            worker.write(writes);
            let failed = disk.syncs.swap(i64::MAX, Ordering::Relaxed) < 0;
            disk.failing.store(1, Ordering::Relaxed);
            let answers: Vec<_> = answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect();
            let ok = answers.iter().filter(|answer| answer.is_ok()).count();
            let (entries, _) = taken(&mut worker.store, NOW).unwrap();
            let waiting: Vec<_> = entries.iter().map(|(_, entry)| entry.key.as_str().to_owned()).collect();
            let (before, after) = (["key-2", "key-3", "key-4"], ["key-4", "key-5", "key-6", "key-7"]);
            let parked = worker.store.count.status().parked;
            let context = format!("sync {nth}, {fails} fail: {waiting:?}, {answers:?}", answers = ok);
            if ok == 5 {
                assert_eq!((&waiting[..], parked), (&after.map(String::from)[..], 1), "{context}");
                assert!(matches!(answers[4], Ok(Written::Found(true))), "{context}");
                let names: Vec<_> = entries.iter().map(|(QueuedId(id), _)| *id).collect();
                assert_eq!(names, [4, 5, 6, 7], "each is known by the name that its publisher was told");
                done_anyway += usize::from(failed && !loses);
                again += usize::from(failed && loses);
            } else {
                // All of it or none, and who is not told is told so.
                assert_eq!(ok, 0, "{context}");
                assert!(failed && answers.iter().all(|answer| answer.as_ref().is_err_and(Error::may_have_happened)));
                let there = waiting == after;
                assert!(there || waiting == before, "{context}");
                assert_eq!(parked, 1, "{context}");
                unsure += 1;
            }
        }
    }
    let all = [done_anyway, again, unsure];
    assert!(all.iter().all(|times| *times > 0), "done although the sync failed, done again, not known: {all:?}");
}

/// On a disk that others filled, an empty outbox has nothing to give back.
#[test]
fn an_empty_outbox_is_not_compacted_each_time() {
    let disk = Disk::of(u64::MAX);
    let opened = Arc::new(AtomicU64::new(0));
    let (again, counted) = (disk.clone(), opened.clone());
    let open = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        again.open()
    };
    let others = Arc::new(AtomicBool::new(false));
    let reserve = Box::new(Filled(others.clone()));
    let mut store =
        Store::open(Box::new(open), OutboxOptions::new().max_age(Duration::MAX), reserve, clock::machine()).unwrap();
    store.put(|batch| batch.put(&[entry(1)], NOW)).unwrap();
    store.take_out(|batch| batch.done(QueuedId(1))).unwrap();
    others.store(true, Ordering::Relaxed);
    for _ in 0..20 {
        let error = store.put(|batch| batch.put(&[entry(2)], NOW)).unwrap_err();
        assert!(error.to_string().contains("outbox.reserve"), "{error}");
        store.take_out(|batch| batch.take(1, &HashSet::new(), NOW)).unwrap();
    }
    let times = opened.load(Ordering::Relaxed);
    assert!(times <= 2, "it was opened {times} times");
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

/// To open the file again writes that the clock was set. That is not the event.
#[test]
fn an_event_that_was_lost_is_not_told_as_kept_because_the_clock_was_set() {
    for loses in [true, false] {
        let (disk, machine) = (Disk::of(u64::MAX), Machine::at("1970-01-01T00:00:10Z"));
        let mut store = disk.store_by(NoRoom, machine.source()).unwrap();
        put(&mut store, 1).unwrap();
        machine.set("2026-11-28T10:00:00Z");
        store.look();
        disk.loses.store(loses, Ordering::Relaxed);
        disk.syncs.store(0, Ordering::Relaxed);
        let told = put(&mut store, 2).is_ok();
        disk.syncs.store(i64::MAX, Ordering::Relaxed);
        let now = store.look();
        let (waits, _) = waiting(&mut store, now);
        assert_eq!((waits.len(), told), (if told { 2 } else { 1 }, !loses), "loses: {loses}, {waits:?}");
    }
}
