//! What is done beside the commits holds them up as little as it can.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::time::Duration;

use super::super::io::{Io, SystemIo};
use super::*;

/// Notes what is written to segments and the pauses, and finds no space behind a length.
#[derive(Debug, Default)]
struct Noted {
    /// From where to where.
    written: Mutex<Vec<(u64, u64)>>,
    pauses: Mutex<Vec<Duration>>,
    /// Where the disk ends, for each file.
    end: Mutex<Option<u64>>,
    /// Has something stored while a checkpoint is written.
    meanwhile: Mutex<Option<Arc<std::sync::atomic::AtomicU64>>>,
}

impl Io for Noted {
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        if self.end.lock().unwrap().is_some_and(|most| end > most) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.lock().unwrap().push((offset, end));
        if let Some(commits) = &*self.meanwhile.lock().unwrap() {
            commits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        SystemIo.write(file, bytes, offset)
    }

    fn pause(&self, lasts: Duration) {
        self.pauses.lock().unwrap().push(lasts);
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn checkpoint(place: &Place, at: Position) -> PathBuf {
    place.path().join(format!("{:020}.checkpoint", at.as_u64()))
}

#[tokio::test]
async fn a_checkpoint_is_written_over_the_oldest() {
    let place = Place::new();
    let log = place.open();
    let at = log.store(&[small(1), small(2), small(3), small(4), small(5)]).await.unwrap();
    let state = |length: usize| vec![Bytes::from(vec![length as u8; length])];
    for (at, length) in at.iter().zip([700_000, 600_000, 500_000]) {
        log.save_checkpoint(*at, state(length)).await.unwrap();
    }
    let aside = place.path().join("checkpoint.unfinished");
    let oldest = inode(&aside);
    assert!(!checkpoint(&place, at[0]).exists());
    log.save_checkpoint(at[3], state(300_000)).await.unwrap();
    assert_eq!(inode(&checkpoint(&place, at[3])), oldest);
    assert_eq!(
        log.load_checkpoint().await.unwrap(),
        Some((at[3], state(300_000).remove(0))),
        "nothing of the longer one"
    );
    // It is found by an engine that starts again, and can be given up for its space.
    let oldest = inode(&aside);
    drop(log);
    let log = place.open();
    log.save_checkpoint(at[4], state(300_001)).await.unwrap();
    assert_eq!(inode(&checkpoint(&place, at[4])), oldest);
    assert_eq!(log.load_checkpoint().await.unwrap(), Some((at[4], state(300_001).remove(0))));
    assert!(aside.exists());
    log.drop_older_checkpoints().await.unwrap();
    assert!(!aside.exists() && !checkpoint(&place, at[3]).exists());
}

#[tokio::test]
async fn a_checkpoint_gives_way_to_commits() {
    let place = Place::new();
    let io = Arc::new(Noted::default());
    let log = place.open_with(io.clone()).unwrap();
    let at = log.store(&[small(1), small(2)]).await.unwrap();
    let state = || vec![Bytes::from(vec![7; 1 << 20]), Bytes::from(vec![8; 1 << 10])];
    log.save_checkpoint(at[0], state()).await.unwrap();
    assert!(io.pauses.lock().unwrap().is_empty(), "nobody else uses the disk");
    assert!(io.written.lock().unwrap().iter().all(|(from, to)| to - from <= 2 << 20));
    *io.meanwhile.lock().unwrap() = Some(log.shared.directory.commits.clone());
    log.save_checkpoint(at[1], state()).await.unwrap();
    let pauses = io.pauses.lock().unwrap();
    assert_eq!(pauses.len(), 4, "one for each 256 KiB");
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_millis(50)));
}

#[tokio::test]
async fn small_commits_are_written_over_zeros() {
    let place = Place::new();
    let io = Arc::new(Noted::default());
    let log = place.open_with(io.clone()).unwrap();
    let mut stored = Vec::new();
    let mut store = async |records: Vec<Arc<Record>>, log: &DiskLog| {
        io.written.lock().unwrap().clear();
        stored.push(log.store(&records).await.unwrap()[0]);
        let written = io.written.lock().unwrap();
        // But for the next segment's header, which is written meanwhile.
        written.iter().copied().filter(|(from, _)| *from > 0).collect::<Vec<_>>()
    };
    // The first goes behind the start of the run, which has zeros behind it for fifteen times its own length.
    let begun = fs::metadata(place.segment(1)).unwrap().len();
    let first = store(vec![large(1, 3_000)], &log).await;
    let [commit, zeros] = first[..] else { panic!("{first:?}") };
    assert!(commit.1 == zeros.0 && zeros.1 - zeros.0 == 15 * (commit.1 - commit.0) && zeros.1 <= begun, "{first:?}");
    for seq in 2..12 {
        let next = store(vec![large(seq, 3_000)], &log).await;
        let [commit] = next[..] else { panic!("{next:?}") };
        assert!(commit.1 <= zeros.1, "{next:?}");
    }
    // What is large is worth its own change of the file's map.
    let large_one = store(vec![large(20, 70_000)], &log).await;
    assert!(large_one.last().is_some_and(|(from, to)| to - from > 70_000), "{large_one:?}");
    // It began another segment, of which nothing is known to be zeros.
    let small_again = store(vec![large(21, 1_000)], &log).await;
    let [.., commit, zeros] = small_again[..] else { panic!("{small_again:?}") };
    assert!(commit.1 == zeros.0 && zeros.1 - zeros.0 == 15 * (commit.1 - commit.0), "{small_again:?}");
    drop(log);
    assert_eq!(records(&place.open()).await.len(), stored.len());
}

#[tokio::test]
async fn where_zeros_find_no_space_a_commit_may() {
    let place = Place::new();
    let io = Arc::new(Noted::default());
    let log = place.open_with(io.clone()).unwrap();
    let at = log.store(&[large(1, 3_000)]).await.unwrap();
    let end = io.written.lock().unwrap().last().unwrap().1;
    // Up to there are zeros; the next commit but some is the first beyond.
    *io.end.lock().unwrap() = Some(end + 4_000);
    let mut last = at;
    for seq in 2..30 {
        match log.store(&[large(seq, 3_000)]).await {
            Ok(at) => last = at,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                break;
            }
        }
    }
    assert!(u64::from(split(last[0]).1) + 3_000 > end, "one that the zeros behind it would have stopped");
    *io.end.lock().unwrap() = None;
    log.store(&[small(99)]).await.unwrap();
    drop(log);
    assert_eq!(records(&place.open()).await.last(), Some(&small(99)));
}
