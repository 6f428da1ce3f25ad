//! Backups of a log that is written and reclaimed meanwhile.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::store::one::backup_with;

/// Does something once so many reads were made.
struct At {
    left: AtomicU64,
    reads: AtomicU64,
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl At {
    fn new(reads: u64, then: impl FnOnce() + Send + 'static) -> Arc<Self> {
        Arc::new(Self { left: reads.into(), reads: 0.into(), then: Mutex::new(Some(Box::new(then))) })
    }

    fn happened(&self) -> bool {
        self.then.lock().unwrap().is_none()
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("At")
    }
}

impl Io for At {
    fn read(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            (self.then.lock().unwrap().take().unwrap())();
        }
        SystemIo.read(file, bytes, offset)
    }
}

/// A log with an event that waits in its first segment, a checkpoint, and behind that another one that waits.
struct Busy {
    place: Place,
    log: DiskLog,
    stored: Vec<(Position, Arc<Record>)>,
    next: u64,
}

impl Busy {
    async fn new() -> Self {
        let place = Place::quick();
        let log = place.open();
        let mut busy = Self { place, log, stored: Vec::new(), next: 0 };
        for record in apps() {
            busy.store(record).await;
        }
        busy.publish().await;
        busy.fill(3).await;
        busy.save().await;
        busy
    }

    async fn store(&mut self, record: Arc<Record>) -> Position {
        let at = self.log.store(std::slice::from_ref(&record)).await.unwrap()[0];
        self.stored.push((at, record));
        at
    }

    async fn publish(&mut self) -> u64 {
        let seq = self.next;
        self.next += 1;
        self.store(publish(0, seq, 9_000)).await;
        seq
    }

    /// Stores events that are acknowledged at once, over so many segments.
    async fn fill(&mut self, segments: u32) {
        let block = ensync_core::Block::new(9).unwrap();
        let to = split(self.end()).0 + segments;
        while split(self.end()).0 < to {
            let event = EventRef { queue: 0, seq: self.publish().await };
            self.store(Arc::new(Record::Ack { event, block, at: Timestamp::from_millis(1) })).await;
        }
    }

    fn end(&self) -> Position {
        self.stored.last().unwrap().0
    }

    async fn save(&self) {
        let state = snapshot::encode(&fold(&self.stored).snapshot());
        self.log.save_checkpoint(self.end(), vec![state]).await.unwrap();
    }

    /// Stores an event once more at the end, makes the checkpoints before that superfluous, and drops where it was.
    async fn move_on(&mut self, waiting: u64) {
        let from = split(self.end()).0;
        self.fill(1).await;
        self.store(publish(0, waiting, 9_000)).await;
        self.fill(1).await;
        self.save().await;
        self.fill(1).await;
        self.save().await;
        let end = Position::new(u64::from(from + 1) << 32);
        self.log.drop_range(Position::new(2 << 32), end).await.unwrap();
    }
}

/// What was accepted before a backup began is in it, though the engine saves checkpoints and drops parts while it is made.
#[tokio::test]
async fn what_is_dropped_while_it_is_copied_is_in_the_copy() {
    let mut happened = 0;
    for reads in [2, 6, 12, 20, 40, 60, 80, 100, 120, 160, 200] {
        let mut busy = Busy::new().await;
        let waiting = busy.publish().await;
        let admin = AdminCommand::RegisterEvent { name: "late".parse().unwrap(), options: Default::default() };
        busy.store(Arc::new(Record::Admin { at: Timestamp::from_millis(1), command: admin })).await;
        let path = busy.place.path();
        let busy = Arc::new(tokio::sync::Mutex::new(busy));
        let (handle, moving) = (tokio::runtime::Handle::current(), busy.clone());
        let io = At::new(reads, move || {
            handle.block_on(async {
                for _ in 0..2 {
                    moving.lock().await.move_on(waiting).await;
                }
            });
        });
        for replays in [false, true] {
            let to = Place::new();
            let report = backup_with(path.clone(), to.path(), replays, io.clone()).await;
            let report = report.unwrap_or_else(|error| panic!("after {reads} reads: {error}")).report;
            assert_eq!(report.unsettled, 2, "after {reads} reads: {report:?}");
            let back = Place::new();
            restore(to.path(), back.path()).await.unwrap();
            let state = started(&back).await.0;
            let expected = [0, waiting].map(|seq| EventRef { queue: 0, seq });
            assert_eq!(super::waiting(&state), BTreeSet::from(expected), "after {reads} reads");
            let names = state.snapshot().registry.events;
            assert!(names.iter().any(|event| event.name.as_str() == "late"), "after {reads} reads: {names:?}");
        }
        happened += usize::from(io.happened());
    }
    assert!(happened > 5, "{happened}");
}

/// A checkpoint and a log that lacks what came behind it go together nowhere.
#[tokio::test]
async fn what_was_dropped_behind_the_checkpoint_is_missing() {
    let mut busy = Busy::new().await;
    let waiting = busy.publish().await;
    let checkpoints = |place: &Place| -> Vec<PathBuf> {
        let names = place.files().into_keys();
        names.filter(|path| path.extension().is_some_and(|extension| extension == "checkpoint")).collect()
    };
    let first = checkpoints(&busy.place).pop().unwrap();
    let saved = fs::read(&first).unwrap();
    busy.move_on(waiting).await;
    let Busy { place, log, stored, .. } = busy;
    drop(log);
    assert_eq!(verify(place.path()).await.unwrap().damage, []);
    for path in checkpoints(&place) {
        fs::remove_file(path).unwrap();
    }
    fs::write(&first, saved).unwrap();
    place.refused(ErrorKind::InvalidInput, &["no checkpoint", "ensync store repair"]);
    let report = verify(place.path()).await.unwrap();
    assert!(report.damage.iter().any(|damage| damage.what.contains("in no checkpoint")), "{:?}", report.damage);
    let to = Place::new();
    let error = backup(place.path(), to.path(), true).await.unwrap_err();
    assert!(error.to_string().contains("lacks a part"), "{error}");
    let said = repaired(&History { place, stored, checkpoints: Vec::new() }).await;
    assert!(said.beginning && said.settlements);
}
