//! A start reads in pieces: whatever is in the files, it does not take more memory than a piece and a record.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::super::io::{Io, SystemIo};
use super::super::segment::PIECE;
use super::*;

/// Notes the longest read, and how much was read in all.
#[derive(Debug, Default)]
struct Measured {
    longest: AtomicUsize,
    all: AtomicU64,
}

impl Io for Measured {
    fn read(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.longest.fetch_max(bytes.len(), Ordering::SeqCst);
        let read = SystemIo.read(file, bytes, offset)?;
        self.all.fetch_add(read as u64, Ordering::SeqCst);
        Ok(read)
    }
}

fn open(place: &Place, segment_bytes: u64, io: Arc<dyn Io>) -> Result<DiskLog> {
    DiskLog::open_with(place.path(), &DiskOptions { segment_bytes, ..options() }, io)
}

/// Records in frames that lie in one piece, over the edge of one, and in many.
async fn filled(place: &Place, segment_bytes: u64, count: u64, most: usize) -> Vec<(Position, Arc<Record>)> {
    let log = open(place, segment_bytes, Arc::new(SystemIo)).unwrap();
    let mut random = fastrand::Rng::with_seed(count);
    let mut stored = Vec::new();
    for seq in 0..count {
        let size = if random.u8(..8) == 0 { most } else { random.usize(..PIECE) };
        let batch = [large(seq, size), small(seq)];
        stored.extend(log.store(&batch).await.unwrap().into_iter().zip(batch));
    }
    stored
}

#[tokio::test]
async fn a_start_reads_in_pieces() {
    let place = Place::quick();
    let largest = 5 * PIECE;
    let stored = filled(&place, 1 << 20, 400, largest).await;
    let segments = split(stored.last().unwrap().0).0;
    assert!(segments > 1);
    let io = Arc::new(Measured::default());
    let log = open(&place, 1 << 20, io.clone()).unwrap();
    assert_eq!(scanned(&log, Position::START).await, stored);
    let longest = io.longest.load(Ordering::SeqCst);
    assert!(longest <= largest + 1_000, "{longest} bytes at once; the largest record has {largest}");
    drop(log);
    // Also if the last segment is mostly space that is kept ready.
    let used: u64 = place.files().values().map(|bytes| bytes.iter().filter(|byte| **byte != 0).count() as u64).sum();
    io.all.store(0, Ordering::SeqCst);
    drop(open(&place, 1 << 20, io.clone()).unwrap());
    let all = io.all.load(Ordering::SeqCst);
    assert!(all < used * 2, "{all} bytes read of {used}");
}

#[tokio::test]
async fn records_are_scanned_from_any_of_them_on() {
    let place = Place::quick();
    let stored = filled(&place, 256 << 10, 60, 9 * PIECE).await;
    let log = open(&place, 256 << 10, Arc::new(SystemIo)).unwrap();
    for (index, (at, _)) in stored.iter().enumerate() {
        assert!(scanned(&log, *at).await == stored[index..], "from {at}");
        assert!(scanned(&log, Position::new(at.as_u64() + 1)).await == stored[index + 1..], "from after {at}");
    }
}

#[tokio::test]
async fn damage_to_a_record_in_many_pieces_is_found() {
    let place = Place::quick();
    let log = open(&place, 256 << 10, Arc::new(SystemIo)).unwrap();
    let positions = log.store(&[small(1), large(2, 9 * PIECE)]).await.unwrap();
    log.store(&[small(3)]).await.unwrap();
    drop(log);
    let at = split(positions[1]).1 as usize;
    let kept = place.files();
    for byte in [at, at + 30, at + PIECE, at + 5 * PIECE + 1, at + 9 * PIECE] {
        place.alter(&place.segment(1), |bytes| bytes[byte] ^= 1);
        place.refused(ErrorKind::InvalidInput, &["damaged at byte", "whole records come after it"]);
        for (path, bytes) in &kept {
            fs::write(path, bytes).unwrap();
        }
    }
    assert_eq!(records(&place.open()).await.len(), 3);
}

/// A commit that was being written, longer than a piece: nothing of it is left.
#[tokio::test]
async fn an_unfinished_commit_in_many_pieces_is_cut_off() {
    let place = Place::quick();
    let log = open(&place, 256 << 10, Arc::new(SystemIo)).unwrap();
    log.store(&[small(1)]).await.unwrap();
    let torn = log.store(&[large(2, 9 * PIECE)]).await.unwrap();
    drop(log);
    let at = split(torn[0]).1 as usize;
    place.alter(&place.segment(1), |bytes| bytes[at + 7 * PIECE..].fill(0));
    let log = open(&place, 256 << 10, Arc::new(SystemIo)).unwrap();
    assert_eq!(records(&log).await, [small(1)]);
    drop(log);
    let bytes = fs::read(place.segment(1)).unwrap();
    assert!(bytes[at + 2 * PIECE..].iter().all(|byte| *byte == 0));
}

/// A segment that was being made when the engine was killed takes space, and is of no use.
#[tokio::test]
async fn what_was_not_finished_is_removed_at_the_next_start() {
    let place = Place::quick();
    drop(open(&place, 64 << 10, Arc::new(SystemIo)).unwrap());
    let names = ["0000000007.unfinished", "checkpoint.unfinished", "notes.unfinished", "0000000007.unfinished.txt"];
    let paths = names.map(|name| place.path().join(name));
    paths.iter().for_each(|path| std::fs::write(path, "half of it").unwrap());
    drop(open(&place, 64 << 10, Arc::new(SystemIo)).unwrap());
    // The others are of use, or somebody else's.
    assert_eq!(paths.map(|path| path.exists()), [false, true, true, true]);
}
