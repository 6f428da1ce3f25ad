//! Torn ends are cut, damage is refused.

use bytes::Bytes;

use super::*;

/// A log with a commit of one record, then one of three; where the second one begins and ends.
async fn two_commits(place: &Place) -> (usize, usize) {
    let log = place.open();
    log.store(&[small(1)]).await.unwrap();
    let positions = log.store(&[small(2), large(3, 300), small(4)]).await.unwrap();
    // A frame of 24 bytes, and a body of 13, make 40 with the space between frames.
    (split(positions[0]).1 as usize, split(positions[2]).1 as usize + 40)
}

#[tokio::test]
async fn a_commit_torn_anywhere_goes_as_a_whole() {
    let place = Place::new();
    let (begin, end) = two_commits(&place).await;
    let whole = fs::read(place.segment(1)).unwrap();
    assert!(whole[end..].iter().all(|byte| *byte == 0) && whole[end - 11] != 0);
    for torn in (begin..end - 10).step_by(5) {
        for (truncate, filler) in [(true, 0), (false, 0), (false, 0xa5)] {
            let mut bytes = whole.clone();
            if truncate {
                bytes.truncate(torn);
            } else {
                bytes[torn..end].fill(filler);
            }
            fs::write(place.segment(1), bytes).unwrap();
            // From the round before.
            _ = fs::remove_file(place.segment(2));
            let log = place.open();
            assert_eq!(records(&log).await, [small(1)], "{torn}");
            log.store(&[small(5)]).await.unwrap();
            drop(log);
            assert_eq!(records(&place.open()).await, [small(1), small(5)], "{torn}");
        }
        // What was cut off was written by a process that is gone: its epoch is not used again.
        let log = place.open();
        assert_eq!(log.epoch(), 4);
    }
}

#[tokio::test]
async fn the_first_page_may_be_missing_and_the_last_be_there() {
    let place = Place::new();
    let (begin, _) = two_commits(&place).await;
    // The disk wrote the later part of the commit only.
    place.alter(&place.segment(1), |bytes| bytes[begin..begin + 40].fill(0));
    let log = place.open();
    assert_eq!(records(&log).await, [small(1)]);
    // The rest of the torn commit lies no more where the next frames come.
    log.store(&[small(6)]).await.unwrap();
    drop(log);
    assert_eq!(records(&place.open()).await, [small(1), small(6)]);
}

#[tokio::test]
async fn every_flipped_byte_before_the_last_commit_is_refused() {
    let place = Place::new();
    let (begin, end) = two_commits(&place).await;
    let whole = fs::read(place.segment(1)).unwrap();
    // Not the zeros that fill a frame up: nobody reads those.
    let frame = HEADER as usize;
    for at in (frame..frame + 24).chain(frame + 24..frame + 60) {
        place.alter(&place.segment(1), |bytes| {
            *bytes = whole.clone();
            bytes[at] ^= 0x40;
        });
        let place_of_frame = if at < frame + 24 { frame } else { frame + 24 };
        place.refused(
            ErrorKind::InvalidInput,
            &[&format!("damaged at byte {place_of_frame} of"), "0000000001.log", "whole records", "restore"],
        );
    }
    // In the last commit too, if more of it comes after: an interrupted write leaves zeros.
    for at in [begin, begin + 1, begin + 30, begin + 60] {
        place.alter(&place.segment(1), |bytes| {
            *bytes = whole.clone();
            bytes[at] ^= 1;
        });
        place.refused(ErrorKind::InvalidInput, &["damaged at byte", "whole records", "ensync store repair"]);
    }
    // Its last frame cannot be told from a torn one.
    place.alter(&place.segment(1), |bytes| {
        *bytes = whole.clone();
        bytes[end - 20] ^= 1;
    });
    assert_eq!(records(&place.open()).await, [small(1)]);
}

#[tokio::test]
async fn a_mark_tells_damage_at_the_end_from_a_torn_commit() {
    let place = Place::new();
    let options = DiskOptions { mark_after: Duration::from_millis(1), ..options() };
    let log = DiskLog::open_with(place.path(), &options, Arc::new(SystemIo)).unwrap();
    let at = log.store(&[small(1)]).await.unwrap()[0];
    let mark = split(at).1 as usize + 40;
    while fs::read(place.segment(1)).unwrap()[mark..mark + 24] == [0; 24] {
        tokio::task::yield_now().await;
    }
    drop(log);
    let bytes = fs::read(place.segment(1)).unwrap();
    assert!(bytes[mark + 24..].iter().all(|byte| *byte == 0), "one is enough");
    place.alter(&place.segment(1), |bytes| bytes[split(at).1 as usize + 30] ^= 1);
    place.refused(ErrorKind::InvalidInput, &["damaged at byte 88 of"]);
}

#[tokio::test]
async fn a_checkpoint_tells_damage_at_the_end_from_a_torn_commit() {
    let place = Place::new();
    let log = place.open();
    let positions = log.store(&[small(1), small(2)]).await.unwrap();
    log.save_checkpoint(positions[1], vec![Bytes::from("state")]).await.unwrap();
    drop(log);
    place.alter(&place.segment(1), |bytes| bytes[split(positions[1]).1 as usize + 30] ^= 1);
    place.refused(ErrorKind::InvalidInput, &["before its own checkpoint", "0000000001.log", "restore"]);
}

#[tokio::test]
async fn damage_in_an_earlier_segment_is_refused() {
    let place = Place::new();
    let log = place.open();
    for seq in 0..20 {
        log.store(&[large(seq, 10_000)]).await.unwrap();
    }
    drop(log);
    assert!(place.files().len() >= 4);
    let good = fs::read(place.segment(2)).unwrap();
    for change in [
        // The last record, then one in the middle, then everything but the header.
        |bytes: &mut Vec<u8>| {
            let near_the_end = bytes.len() - 16;
            bytes[near_the_end] ^= 1;
        },
        |bytes: &mut Vec<u8>| bytes.truncate(40_000),
        |bytes: &mut Vec<u8>| bytes[20_000] ^= 8,
        |bytes: &mut Vec<u8>| bytes[64..].fill(0),
    ] {
        place.alter(&place.segment(2), |bytes| {
            bytes.clone_from(&good);
            change(bytes);
        });
        place.refused(ErrorKind::InvalidInput, &["damaged at byte", "restore"]);
    }
    place.alter(&place.segment(2), |bytes| {
        bytes.clone_from(&good);
        bytes[3] ^= 1;
    });
    place.refused(ErrorKind::InvalidInput, &["0000000002.log is damaged in its first 64 bytes"]);
    fs::remove_file(place.segment(2)).unwrap();
    place.refused(ErrorKind::InvalidInput, &["lacks a part of its log"]);
    fs::remove_file(place.segment(1)).unwrap();
    place.refused(ErrorKind::InvalidInput, &["no checkpoint"]);
}

#[tokio::test]
async fn files_of_another_log_are_refused() {
    let (place, other) = (Place::new(), Place::new());
    for place in [&place, &other] {
        let log = place.open();
        for seq in 0..10 {
            log.store(&[large(seq, 10_000)]).await.unwrap();
        }
    }
    fs::copy(other.segment(2), place.segment(2)).unwrap();
    place.refused(ErrorKind::InvalidInput, &["files of two logs"]);
}

#[tokio::test]
async fn another_format_is_refused_in_words() {
    let place = Place::new();
    let log = place.open();
    let positions = log.store(&[small(1)]).await.unwrap();
    log.save_checkpoint(positions[0], vec![Bytes::from("state")]).await.unwrap();
    drop(log);
    let checkpoint = place.path().join(format!("{:020}.checkpoint", positions[0].as_u64()));
    for path in [place.segment(1), checkpoint] {
        for (other, words) in [
            (4, ["is of format 4", "reads format 3", "the engine that wrote it, or a later one"]),
            (2, ["is of format 2", "reads only format 3", "start this one on another directory"]),
        ] {
            place.alter(&path, |bytes| bytes[8] = other);
            place.refused(ErrorKind::InvalidInput, &words);
        }
        place.alter(&path, |bytes| bytes[8] = 3);
    }
    place.open();
}

#[tokio::test]
async fn what_was_being_made_when_the_engine_stopped_is_in_nobodys_way() {
    let place = Place::new();
    let log = place.open();
    log.store(&[small(1)]).await.unwrap();
    drop(log);
    fs::write(place.path().join("0000000002.unfinished"), "half").unwrap();
    fs::write(place.path().join("notes.txt"), "mine").unwrap();
    // A segment made ahead, and one that was begun.
    let id = fs::read(place.segment(1)).unwrap()[16..32].try_into().unwrap();
    fs::write(place.segment(2), [&super::super::format::header(&id, 2)[..], &[0; 1000]].concat()).unwrap();
    let log = place.open();
    assert_eq!(records(&log).await, [small(1)]);
    for seq in 0..20 {
        log.store(&[large(seq, 10_000)]).await.unwrap();
    }
    drop(log);
    assert_eq!(records(&place.open()).await.len(), 21);
}
