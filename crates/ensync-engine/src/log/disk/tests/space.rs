//! Disks that are full, and disks that fail.

use super::faults::Faults;
use super::*;

fn refused<T: std::fmt::Debug>(stored: Result<T>, words: &str) {
    let error = stored.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(words), "{error}");
}

#[tokio::test]
async fn without_space_acks_go_on_longer_than_publishes_and_all_goes_on_with_space() {
    let (place, faults) = (Place::new(), Arc::new(Faults::default()));
    let log = place.open_with(faults.clone()).unwrap();
    faults.full(1);
    let mut stored = Vec::new();
    let refusal = loop {
        let record = large(stored.len() as u64, 1_000);
        match log.store(std::slice::from_ref(&record)).await {
            Ok(_) => stored.push(record),
            Err(refusal) => break refusal,
        }
    };
    assert!(stored.len() > 40, "{}", stored.len());
    refused::<()>(Err(refusal), "no space for the log in");
    // As many as the records of two segments.
    for seq in 0..3_000 {
        log.store(&[small(seq)]).await.unwrap();
        stored.push(small(seq));
        // Before that the last segment has room for it, too.
        if seq == 0 || seq >= 2_000 && seq % 500 == 0 {
            refused(log.store(&[large(0, 1_000)]).await, "is kept for acknowledgements");
        }
    }
    while log.store(&[small(7)]).await.is_ok() {
        stored.push(small(7));
    }
    refused(log.store(&[small(7)]).await, "no space");
    faults.full(0);
    for seq in 0..100 {
        let record = large(seq, 1_000);
        log.store(std::slice::from_ref(&record)).await.unwrap();
        stored.push(record);
    }
    drop(log);
    assert_eq!(records(&place.open()).await, stored);
}

/// Acknowledgements leave some for what is stored once more, and both leave what the next checkpoint takes.
#[tokio::test]
async fn what_is_kept_of_the_disk_is_for_copies_acks_and_the_next_checkpoint() {
    let (place, faults) = (Place::new(), Arc::new(Faults::default()));
    let log = place.open_with(faults.clone()).unwrap();
    let checkpoint = 300_000;
    log.expect_checkpoint(checkpoint as u64);
    let mut stored = Vec::new();
    let mut last = Position::START;
    for seq in 0..200 {
        if seq == 100 {
            faults.full(1);
        }
        match log.store(&[large(seq, 1_000)]).await {
            Ok(at) => {
                last = at[0];
                stored.push(large(seq, 1_000));
            }
            Err(refusal) => {
                refused::<()>(Err(refusal), "is kept for acknowledgements");
                break;
            }
        }
    }
    assert!(stored.len() >= 100, "{}", stored.len());
    let mut acks = 0;
    while log.store(&[small(acks)]).await.is_ok() {
        stored.push(small(acks));
        acks += 1;
    }
    assert!(acks > 500, "{acks}");
    let copy = async |seq| log.append(vec![Encoded::from(&*large(seq, 1_000)).with_need(Need::Frees)]).await;
    let mut copies = 0;
    while copy(copies).await.is_ok() {
        stored.push(large(copies, 1_000));
        copies += 1;
    }
    assert!((20..150).contains(&copies), "the rest of a segment: {copies}");
    let state = || vec![Bytes::from(vec![7; checkpoint])];
    log.save_checkpoint(last, state()).await.unwrap();
    assert_eq!(log.load_checkpoint().await.unwrap(), Some((last, state().remove(0))));
    // What is dropped is kept first.
    log.drop_range(Position::START, last).await.unwrap();
    refused(log.store(&[large(0, 1_000)]).await, "is kept for acknowledgements");
    faults.full(0);
    log.store(&[large(0, 1_000)]).await.unwrap();
    assert_eq!(log.space().await.unwrap().unwrap().lacking, 0);
}

/// It is not used up by those who come next.
#[tokio::test]
async fn what_is_kept_of_the_disk_outlives_the_engine() {
    let place = Place::new();
    place.open().store(&[small(1)]).await.unwrap();
    let faults = Arc::new(Faults::default());
    faults.full(1);
    let log = place.open_with(faults).unwrap();
    for seq in 0..3_000 {
        log.store(&[small(seq)]).await.unwrap();
    }
}

#[tokio::test]
async fn a_checkpoint_that_finds_no_space_keeps_the_file_it_would_be_written_over() {
    let (place, faults) = (Place::new(), Arc::new(Faults::default()));
    let log = place.open_with(faults.clone()).unwrap();
    let at = log.store(&[small(1), small(2), small(3), small(4), small(5)]).await.unwrap();
    for at in &at[..3] {
        log.save_checkpoint(*at, vec![Bytes::from(vec![1; 100_000])]).await.unwrap();
    }
    faults.full(1);
    refused(log.save_checkpoint(at[3], vec![Bytes::from(vec![1; 900_000])]).await, "cannot write");
    assert!(fs::metadata(place.path().join("checkpoint.unfinished")).unwrap().len() >= 100_000);
    log.save_checkpoint(at[4], vec![Bytes::from(vec![2; 100_000])]).await.unwrap();
}

#[tokio::test]
async fn a_write_that_finds_no_space_half_way_leaves_nothing() {
    let (place, faults) = (Place::new(), Arc::new(Faults::default()));
    let log = place.open_with(faults.clone()).unwrap();
    log.store(&[small(1)]).await.unwrap();
    for reopen in [false, true] {
        faults.full(2);
        refused(log.store(&[small(2), small(3), large(4, 500), small(5)]).await, "no space");
        if reopen {
            break;
        }
        faults.full(0);
        // Shorter than what lies there from before.
        log.store(&[small(6)]).await.unwrap();
    }
    drop(log);
    assert_eq!(records(&place.open()).await, [small(1), small(6)]);
}

#[tokio::test]
async fn a_failed_sync_is_final() {
    let (place, faults) = (Place::new(), Arc::new(Faults::default()));
    let log = place.open_with(faults.clone()).unwrap();
    let positions = log.store(&[small(1)]).await.unwrap();
    assert!(log.failure().is_none());
    faults.fail_sync();
    let error = log.store(&[small(2)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "it may be stored: {error}");
    assert!(error.to_string().contains("shows when the engine is started again"), "{error}");
    for seq in 0..3 {
        refused(log.store(&[small(seq)]).await, "start the engine again");
    }
    assert!(log.failure().unwrap().to_string().contains("0000000001.log"));
    assert!(log.fetch(positions[0]).await.unwrap().is_some(), "reads go on");
    drop(log);
    // Here it was stored.
    assert_eq!(records(&place.open()).await, [small(1), small(2)]);
}

#[tokio::test]
async fn an_engine_starts_on_a_full_disk_again_and_again() {
    let (place, faults) = (Place::new(), Arc::new(Faults::default()));
    faults.full(0);
    let log = place.open_with(faults.clone()).unwrap();
    faults.full(1);
    let mut stored = Vec::new();
    for make in [|seq| large(seq, 700), small] {
        while log.store(&[make(stored.len() as u64)]).await.is_ok() {
            stored.push(make(stored.len() as u64));
        }
    }
    drop(log);
    // The space that is left to marks holds 85 of them.
    for _ in 0..300 {
        let log = place.open_with(faults.clone()).unwrap();
        refused(log.store(&[small(0)]).await, "no space");
    }
    faults.full(0);
    let log = place.open_with(faults.clone()).unwrap();
    assert_eq!(log.epoch(), 302, "no two runs have one number");
    log.store(&[small(0)]).await.unwrap();
    stored.push(small(0));
    assert_eq!(records(&log).await, stored);
}

#[tokio::test]
async fn the_next_segment_is_made_once() {
    let place = Place::new();
    let log = place.open();
    for seq in 0..4 {
        log.store(&[large(seq, 9_000)]).await.unwrap();
    }
    drop(log);
    assert!(place.segment(2).exists(), "made ahead");
    let faults = Arc::new(Faults::default());
    faults.full(1);
    let log = place.open_with(faults).unwrap();
    for seq in 4..9 {
        log.store(&[large(seq, 9_000)]).await.unwrap();
    }
    drop(log);
    assert_eq!(records(&place.open()).await.len(), 9);
}

#[tokio::test]
async fn what_a_full_disk_left_is_gone_before_anything_else_is_written() {
    let (place, faults) = (Place::new(), Arc::new(Faults::default()));
    let log = place.open_with(faults.clone()).unwrap();
    log.store(&[small(1)]).await.unwrap();
    let before = place.files();
    faults.full(2);
    refused(log.store(&[small(2), large(3, 900), small(4)]).await, "no space");
    assert!(place.files() != before, "half of it was written");
    faults.full(0);
    log.store(&[small(5)]).await.unwrap();
    let bytes = fs::read(place.segment(1)).unwrap();
    let frame = 40;
    // The mark of the run, and two records.
    assert!(bytes[HEADER as usize + 24 + 2 * frame..].iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_says_which() {
    let place = Place::new();
    fs::write(place.path(), "a file").unwrap();
    let error = place.try_open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(place.path().to_str().unwrap()), "{error}");
    assert!(error.to_string().contains("there is a file in its place"), "{error}");
    let options = DiskOptions { segment_bytes: 1, ..DiskOptions::default() };
    let error = DiskLog::open(place.path(), options).await.unwrap_err();
    assert!(error.to_string().contains("64 KiB to 1 GiB"), "{error}");
}

/// As a user who has no rights there: root, who runs tests in many places, is made one, on a thread of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_may_not_be_written_says_who_can_help() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    fs::create_dir(place.path()).unwrap();
    fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let path = place.path();
    let opened = std::thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        DiskLog::open_with(path, &options(), Arc::new(SystemIo)).map(drop)
    });
    let error = opened.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("give the user that runs the engine the right to write there"), "{error}");
}
