//! Reading many records, by many readers.

use std::fs::File;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};

use super::super::files::OPEN_FILES;
use super::super::folder::Folder;
use super::super::io::{Io, SystemIo};
use super::*;

/// Counts reads, and holds the next one until it is told to go on.
#[derive(Debug, Default)]
struct Watched {
    reads: AtomicU64,
    /// The most that was read at once, in bytes.
    most: AtomicU64,
    hold: Mutex<Option<Receiver<()>>>,
    /// The same for the next sync of a directory.
    hold_sync: Mutex<Option<Receiver<()>>>,
    /// And for the sync of a file after so many others.
    hold_nth_sync: Mutex<Option<(u64, Receiver<()>)>>,
}

impl Io for Watched {
    fn sync_directory(&self, folder: &Folder) -> io::Result<()> {
        let held = self.hold_sync.lock().unwrap().take();
        if let Some(held) = held {
            _ = held.recv();
        }
        SystemIo.sync_directory(folder)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut hold = self.hold_nth_sync.lock().unwrap();
        let held = hold.take_if(|(others, _)| *others == 0);
        if let Some((others, _)) = &mut *hold {
            *others -= 1;
        }
        drop(hold);
        if let Some((_, held)) = held {
            _ = held.recv();
        }
        SystemIo.sync(file)
    }

    fn read(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.most.fetch_max(bytes.len() as u64, Ordering::SeqCst);
        let held = self.hold.lock().unwrap().take();
        if let Some(held) = held {
            _ = held.recv();
        }
        SystemIo.read(file, bytes, offset)
    }
}

async fn filled(place: &Place, io: Arc<dyn Io>, sizes: impl IntoIterator<Item = usize>) -> (DiskLog, Vec<Position>) {
    let log = place.open_with(io).unwrap();
    let mut positions = Vec::new();
    for (seq, size) in (0..).zip(sizes) {
        positions.extend(log.store(&[large(seq, size)]).await.unwrap());
    }
    (log, positions)
}

#[tokio::test]
async fn many_are_read_as_one_by_one() {
    let place = Place::quick();
    let mut random = fastrand::Rng::with_seed(7);
    let mut sizes: Vec<usize> = (0..300).map(|_| random.usize(..5_000)).collect();
    sizes.extend([300 << 10, 10, 3 << 20, 4_000, 300 << 10]);
    let (log, mut positions) = filled(&place, Arc::new(SystemIo), sizes).await;
    let forged = positions.iter().step_by(7).flat_map(|at| [at.as_u64() + 8, at.as_u64() + 1]).map(Position::new);
    let forged = forged.chain([Position::START, Position::new(u64::MAX), Position::new(9 << 32)]);
    positions.extend(forged.collect::<Vec<_>>());
    let mut found = 0;
    for round in 0..8 {
        if round > 0 {
            random.shuffle(&mut positions);
        }
        let many = log.read_many(&positions, usize::MAX).await;
        assert_eq!(many.len(), positions.len());
        for (at, many) in positions.iter().zip(many) {
            let many = many.unwrap();
            found += usize::from(many.is_some());
            assert_eq!(log.read(*at).await.unwrap(), many, "{at}");
        }
    }
    assert_eq!(found, 8 * 305);
    assert!(log.read_many(&[], 10).await.is_empty());
}

#[tokio::test]
async fn no_more_is_read_than_wanted_but_always_one() {
    let place = Place::quick();
    let (log, positions) = filled(&place, Arc::new(SystemIo), [1_000; 10]).await;
    let size = log.read(positions[0]).await.unwrap().unwrap().len();
    let memory = crate::MemoryLog::new();
    let batch: Vec<_> = (0..10).map(|seq| Encoded::from(&*large(seq, 1_000))).collect();
    let places = memory.append(batch).await.unwrap();
    for (bytes, count) in [(0, 1), (1, 1), (size, 1), (size + 1, 2), (size * 3, 3), (size * 99, 10)] {
        assert_eq!(log.read_many(&positions, bytes).await.len(), count, "{bytes}");
        assert_eq!(memory.read_many(&places, bytes).await.len(), count, "{bytes}");
    }
    assert_eq!(
        memory.read_many(&places, usize::MAX).await.last().unwrap().as_ref().unwrap(),
        &log.read(positions[9]).await.unwrap()
    );
}

#[tokio::test]
async fn what_lies_near_is_read_together() {
    let place = Place::quick();
    let io = Arc::new(Watched::default());
    let (log, positions) = filled(&place, io.clone(), [1_000; 48]).await;
    assert_eq!(split(positions[47]).0, 1);
    io.reads.store(0, Ordering::SeqCst);
    assert!(log.read_many(&positions, usize::MAX).await.iter().all(|read| read.as_ref().is_ok_and(Option::is_some)));
    assert_eq!(io.reads.load(Ordering::SeqCst), 1);
    let far: Vec<_> = positions.iter().rev().step_by(20).copied().collect();
    log.read_many(&far, usize::MAX).await;
    assert_eq!(io.reads.load(Ordering::SeqCst), 1 + far.len() as u64);
}

/// Within what clients send, keys say, may lie what looks like the beginning of a large frame. Nobody takes memory for it.
#[tokio::test]
async fn what_looks_like_a_large_frame_within_a_record_is_not_read_as_one() {
    let place = Place::quick();
    let io = Arc::new(Watched::default());
    let log = place.open_with(io.clone()).unwrap();
    let mut body = vec![b'A'; 3 << 20];
    let mut forged = Vec::new();
    // Longer than its segment, by far and by little; and one that lies in it.
    for (offset, length) in [(40, 200_u32 << 20), (400, 3 << 20), (800, 2 << 20), (1_200, u32::MAX)] {
        let mut head = [0_u8; 24];
        head[..4].copy_from_slice(&length.to_le_bytes());
        (head[8], head[16], head[20]) = (2, 1, 1);
        head[22..].copy_from_slice(&[0xe5, 0xc1]);
        body[offset..offset + 24].copy_from_slice(&head);
        forged.push(offset as u64 + 24);
    }
    let at = log.append(vec![Encoded::new(body.clone(), Bytes::new(), true)]).await.unwrap()[0];
    log.store(&[small(1)]).await.unwrap();
    let last = log.store(&[large(2, 70_000)]).await.unwrap()[0];
    assert!(split(last).0 > split(at).0);
    log.save_checkpoint(last, vec![Bytes::from("state")]).await.unwrap();
    let mut log = log;
    for reopened in [false, true] {
        if reopened {
            drop(log);
            // Where segments before the checkpoint end is not looked up.
            log = place.open_with(io.clone()).unwrap();
        }
        io.most.store(0, Ordering::SeqCst);
        for offset in &forged {
            assert_eq!(log.read(Position::new(at.as_u64() + offset)).await.unwrap(), None, "{offset}");
        }
        let most = io.most.load(Ordering::SeqCst);
        assert!(most <= 256 << 10, "{most}");
        assert_eq!(log.read(at).await.unwrap().unwrap(), body);
    }
}

#[tokio::test]
async fn a_disk_that_takes_its_time_over_one_holds_up_no_other() {
    let place = Place::quick();
    let io = Arc::new(Watched::default());
    let (log, positions) = filled(&place, io.clone(), [1_000; 3]).await;
    let log = Arc::new(log);
    let (go, held) = channel();
    *io.hold.lock().unwrap() = Some(held);
    io.reads.store(0, Ordering::SeqCst);
    let slow = tokio::spawn({
        let (log, at) = (log.clone(), positions[0]);
        async move { log.read(at).await }
    });
    while io.reads.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    for at in &positions {
        assert!(log.read(*at).await.unwrap().is_some());
    }
    log.store(&[small(9)]).await.unwrap();
    assert!(!slow.is_finished());
    drop(go);
    assert!(slow.await.unwrap().unwrap().is_some());
}

/// The broker waits for more than appends, and who watches it has to know for what.
#[tokio::test]
async fn whoever_is_at_the_disk_is_known() {
    let place = Place::quick();
    let io = Arc::new(Watched::default());
    let (log, positions) = filled(&place, io.clone(), [30_000; 10]).await;
    log.save_checkpoint(*positions.last().unwrap(), vec![Bytes::from("state")]).await.unwrap();
    assert!(log.shared.visits.oldest().is_none());
    let (go, held) = channel();
    *io.hold_sync.lock().unwrap() = Some(held);
    let log = Arc::new(log);
    let dropping = tokio::spawn({
        let log = log.clone();
        async move { log.drop_range(Position::START, Position::new(2 << 32)).await }
    });
    while log.shared.visits.oldest().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(log.hangs().is_none() && !dropping.is_finished(), "it only takes a moment, so far");
    drop(go);
    dropping.await.unwrap().unwrap();
    assert!(log.shared.visits.oldest().is_none());
}

/// Nobody waits for a mark; but whoever appends while it is made does.
#[tokio::test]
async fn a_writer_that_is_at_the_disk_for_a_mark_is_known_too() {
    let place = Place::quick();
    let io = Arc::new(Watched::default());
    let marking = DiskOptions { mark_after: Duration::from_millis(20), ..options() };
    let log = DiskLog::open_with(place.path(), &marking, io.clone()).unwrap();
    let (go, held) = channel();
    *io.hold_nth_sync.lock().unwrap() = Some((1, held));
    log.store(&[small(1)]).await.unwrap();
    while io.hold_nth_sync.lock().unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(log.shared.waits_since().is_some());
    drop(go);
    while log.shared.waits_since().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    log.store(&[small(2)]).await.unwrap();
}

#[tokio::test]
async fn files_are_kept_open_but_not_too_many_and_not_those_that_are_dropped() {
    let place = Place::quick();
    let (log, positions) = filled(&place, Arc::new(SystemIo), [30_000; 100]).await;
    let at = *positions.last().unwrap();
    assert!(split(at).0 > OPEN_FILES as u32 + 5, "{at}");
    for at in positions.iter().chain(&positions[..1]) {
        assert!(log.read(*at).await.unwrap().is_some());
    }
    let open = log.shared.files.numbers();
    assert_eq!((open.len(), open.last()), (OPEN_FILES, Some(&1)), "the one that was used last is the last");
    assert!(!open.contains(&2));
    log.save_checkpoint(at, vec![Bytes::from("state")]).await.unwrap();
    let parts = log.space().await.unwrap().unwrap().parts;
    let middle = parts[parts.len() - 2];
    log.read(positions[positions.len() - 1]).await.unwrap();
    for part in [middle, parts[0]] {
        let number = split(part.from).0;
        assert!(log.shared.files.numbers().contains(&number));
        log.drop_range(part.from, part.to).await.unwrap();
        assert!(!log.shared.files.numbers().contains(&number), "its space would stay taken");
        for at in positions.iter().filter(|at| split(**at).0 == number) {
            assert_eq!(log.read(*at).await.unwrap(), None);
        }
    }
}

/// One that was opened before its segment was dropped, and would be kept after.
#[test]
fn a_file_that_was_given_up_meanwhile_is_not_kept() {
    let file = || tempfile::tempfile();
    let files = super::super::files::OpenFiles::default();
    let given_up = || {
        files.forget(1);
        file()
    };
    assert!(files.open(1, given_up).unwrap().is_some());
    assert!(files.numbers().is_empty());
    assert!(files.open(1, file).unwrap().is_some());
    assert!(files.open(1, || panic!("it is held")).unwrap().is_some());
    assert!(files.open(7, || Err(io::ErrorKind::NotFound.into())).unwrap().is_none());
    assert!(files.open(7, || Err(io::ErrorKind::PermissionDenied.into())).is_err());
    assert_eq!(files.numbers(), [1]);
}
