//! What is stored is there, until it is dropped.

use bytes::Bytes;

use super::super::format::RECORD;
use super::*;
use crate::model::codec::snapshot;

#[tokio::test]
async fn every_kind_of_record_is_read_back_after_a_restart() {
    let place = Place::new();
    let batch: Vec<_> = samples().into_iter().map(Arc::new).collect();
    let log = place.open();
    let positions = log.store(&batch).await.unwrap();
    assert!(positions.is_sorted() && positions.len() == batch.len());
    drop(log);
    for _ in 0..2 {
        let log = place.open();
        for (at, record) in positions.iter().zip(&batch) {
            assert_eq!(log.fetch(*at).await.unwrap().as_ref(), Some(record));
        }
        let all: Vec<_> = positions.iter().copied().zip(batch.iter().cloned()).collect();
        assert_eq!(scanned(&log, Position::START).await, all);
        assert_eq!(scanned(&log, positions[3]).await, all[3..]);
        assert!(scanned(&log, Position::new(u64::MAX)).await.is_empty());
    }
}

#[tokio::test]
async fn epochs_and_positions_rise_over_restarts_and_segments() {
    let place = Place::new();
    let (mut last, mut all) = (Position::START, Vec::new());
    for epoch in 1..=5 {
        let log = place.open();
        assert_eq!(log.epoch(), epoch);
        for seq in 0..10 {
            let batch = [large(epoch * 100 + seq, 10_000), small(seq)];
            let positions = log.store(&batch).await.unwrap();
            assert!(positions[0] > last && positions[1] > positions[0]);
            last = positions[1];
            all.extend(batch);
        }
    }
    assert!(split(last).0 > 5, "{last}");
    assert_eq!(records(&place.open()).await, all);
}

#[tokio::test]
async fn a_batch_larger_than_a_segment_has_one_of_its_own() {
    let place = Place::new();
    let log = place.open();
    let batch: Vec<_> = (0..40).map(|seq| large(seq, 10_000)).collect();
    let positions = log.store(&batch).await.unwrap();
    assert!(positions.iter().all(|at| split(*at).0 == 2));
    log.store(&[small(1)]).await.unwrap();
    drop(log);
    assert_eq!(records(&place.open()).await.len(), 41);
}

#[tokio::test]
async fn batches_that_come_together_are_all_answered() {
    let place = Place::new();
    let log = place.open();
    let batches: Vec<Vec<_>> = (0..100).map(|n| (0..n % 5).map(|m| small(n * 10 + m)).collect()).collect();
    let stored = futures::future::join_all(batches.iter().map(|batch| log.store(batch))).await;
    for (positions, batch) in stored.into_iter().zip(&batches) {
        let positions = positions.unwrap();
        assert_eq!(positions.len(), batch.len());
        for (at, record) in positions.iter().zip(batch) {
            assert_eq!(log.fetch(*at).await.unwrap().as_ref(), Some(record));
        }
    }
    drop(log);
    assert!(records(&place.open()).await.iter().eq(batches.iter().flatten()));
}

#[tokio::test]
async fn forged_positions_read_nothing() {
    let place = Place::new();
    // A client may put into a record what it likes; here, all that a frame is but for what it cannot know.
    let mut inner = Vec::new();
    let body = |out: &mut Vec<u8>| out.extend_from_slice(&Encoded::from(&*small(1)).to_bytes());
    super::super::format::Frame::write(&mut inner, &[0; 16], Position::START, (1, 1, RECORD), body);
    let inner = String::from_utf8_lossy(&inner).into_owned();
    let discard = Record::Discard {
        event: EventRef { queue: 0, seq: 0 },
        reason: inner,
        at: Timestamp::default(),
        deliveries: 1,
    };
    let log = place.open();
    let mut positions = log.store(&[Arc::new(discard), large(1, 100), small(2)]).await.unwrap();
    positions.extend(log.store(&[large(3, 5_000)]).await.unwrap());
    drop(log);
    let log = place.open();
    let base = Position::new(1 << 32).as_u64();
    for at in (base..base + 16_384).chain([0, 1, u64::MAX, 2 << 32 | 64, u64::from(u32::MAX), 1 << 63 | 64]) {
        let found = log.fetch(Position::new(at)).await.unwrap();
        assert_eq!(found.is_some(), positions.contains(&Position::new(at)), "{at}");
    }
}

#[tokio::test]
async fn the_directory_is_of_one_engine() {
    let place = Place::new();
    let log = place.open();
    let error = place.try_open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("in use by another engine"), "{error}");
    log.store(&[small(1)]).await.unwrap();
    log.close().await;
    let next = place.open();
    assert_eq!(log.store(&[small(2)]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(records(&next).await, [small(1)]);
}

#[cfg(unix)]
#[tokio::test]
async fn others_cannot_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    drop(place.open());
    assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o700);
}

/// A part between others goes, and is still told from a file that is missing.
#[tokio::test]
async fn a_part_in_the_middle_is_dropped() {
    let place = Place::new();
    let log = place.open();
    let mut positions = Vec::new();
    for seq in 0..40 {
        positions.extend(log.store(&[large(seq, 10_000)]).await.unwrap());
    }
    let at = *positions.last().unwrap();
    log.save_checkpoint(at, vec![snapshot::encode(&crate::model::Snapshot::default())]).await.unwrap();
    let parts = log.space().await.unwrap().unwrap().parts;
    assert!(parts.len() > 4);
    let is_in = |from: usize, at: &Position| parts[from].from <= *at && *at < parts[from].to;
    for middle in [2, 1] {
        log.drop_range(parts[middle].from, parts[middle].to).await.unwrap();
    }
    let left: Vec<_> = positions.iter().copied().filter(|at| !is_in(1, at) && !is_in(2, at)).collect();
    let found: Vec<_> = scanned(&log, Position::START).await.into_iter().map(|(at, _)| at).collect();
    assert_eq!(found, left);
    drop(log);
    let log = place.open();
    let found: Vec<_> = scanned(&log, Position::START).await.into_iter().map(|(at, _)| at).collect();
    assert_eq!(found, left, "after a start too");
    for at in &positions {
        assert_eq!(log.fetch(*at).await.unwrap().is_some(), left.contains(at));
    }
    assert_eq!(log.space().await.unwrap().unwrap().parts.len(), parts.len() - 2);
    drop(log);
    let report = crate::store::one::verify(place.path()).await.unwrap();
    assert_eq!(report.damage, [], "it was dropped, not lost");
    crate::store::one::backup(place.path(), place.0.path().join("copy"), true).await.unwrap();
    // With the first, those behind it that are empty go as well.
    let log = place.open();
    log.drop_range(parts[0].from, parts[0].to).await.unwrap();
    for number in 1..=3 {
        assert!(!place.segment(number).exists());
    }
    assert!(place.segment(4).exists());
    drop(log);
    fs::remove_file(place.segment(5)).unwrap();
    place.refused(ErrorKind::InvalidInput, &["lacks a part of its log"]);
}

#[tokio::test]
async fn only_what_no_checkpoint_needs_is_dropped() {
    let place = Place::new();
    let log = place.open();
    let mut positions = Vec::new();
    for seq in 0..40 {
        positions.extend(log.store(&[large(seq, 10_000)]).await.unwrap());
    }
    let last = *positions.last().unwrap();
    log.drop_range(Position::START, last).await.unwrap();
    assert_eq!(records(&log).await.len(), 40, "there is no checkpoint");
    assert!(log.space().await.unwrap().unwrap().parts.is_empty());

    for at in [5, 20, 39] {
        log.save_checkpoint(positions[at], vec![Bytes::from(format!("state {at}"))]).await.unwrap();
    }
    assert_eq!(
        fs::read_dir(place.path())
            .unwrap()
            .filter(|f| f.as_ref().unwrap().path().extension() == Some("checkpoint".as_ref()))
            .count(),
        2
    );
    let space = log.space().await.unwrap().unwrap();
    let parts = space.parts;
    assert_eq!(parts.len() as u32, split(positions[20]).0 - 1);
    assert!(parts.iter().all(|part| part.bytes > 50_000 && part.from < part.to));
    assert!(space.used > parts.iter().map(|part| part.bytes).sum() && space.free <= space.total);

    log.drop_range(Position::START, parts[0].to).await.unwrap();
    let first = positions.partition_point(|at| *at < parts[0].to);
    assert_eq!(scanned(&log, Position::START).await[0].0, positions[first]);
    log.drop_range(Position::START, Position::new(u64::MAX)).await.unwrap();
    drop(log);
    let log = place.open();
    let kept = positions.partition_point(|at| split(*at).0 < split(positions[20]).0);
    assert!(kept > 0 && kept <= 20);
    assert_eq!(log.fetch(positions[kept - 1]).await.unwrap(), None);
    assert!(log.fetch(positions[kept]).await.unwrap().is_some());
    assert_eq!(log.load_checkpoint().await.unwrap(), Some((positions[39], Bytes::from("state 39"))));
    let next = log.store(&[small(1)]).await.unwrap();
    assert!(next[0] > last);
}

#[tokio::test]
async fn the_second_checkpoint_stands_in_for_a_damaged_one() {
    let place = Place::new();
    let log = place.open();
    let positions = log.store(&[small(1), small(2)]).await.unwrap();
    assert_eq!(log.load_checkpoint().await.unwrap(), None);
    for (at, state) in positions.iter().zip(["one", "two"]) {
        log.save_checkpoint(*at, vec![Bytes::from(state)]).await.unwrap();
    }
    drop(log);
    let path = place.path().join(format!("{:020}.checkpoint", positions[1].as_u64()));
    place.alter(&path, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let log = place.open();
    assert_eq!(log.load_checkpoint().await.unwrap(), Some((positions[0], Bytes::from("one"))));
    // It does so for the next one, too: of two that are kept none is the damaged one.
    let at = log.store(&[small(3)]).await.unwrap()[0];
    log.save_checkpoint(at, vec![Bytes::from("three")]).await.unwrap();
    drop(log);
    let path = place.path().join(format!("{:020}.checkpoint", at.as_u64()));
    place.alter(&path, |bytes| *bytes.last_mut().unwrap() ^= 1);
    assert_eq!(place.open().load_checkpoint().await.unwrap(), Some((positions[0], Bytes::from("one"))));
}
