//! Random histories: batches, restarts, ends torn off at random.

use super::*;

/// How many histories; more with `ENSYNC_HISTORIES`.
fn histories() -> u64 {
    std::env::var("ENSYNC_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(8)
}

#[tokio::test]
async fn what_was_answered_is_there_and_what_was_torn_is_not() {
    for seed in 0..histories() {
        let mut random = fastrand::Rng::with_seed(seed);
        let place = Place::new();
        let mut stored: Vec<(Position, Arc<Record>)> = Vec::new();
        let mut epoch = 0;
        for _ in 0..6 {
            let log = place.open();
            assert!(log.epoch() > epoch, "seed {seed}");
            epoch = log.epoch();
            assert_eq!(scanned(&log, Position::START).await, stored, "seed {seed}");
            for _ in 0..random.u32(0..12) {
                let batch: Vec<_> = (0..random.u64(1..6))
                    .map(|seq| if random.bool() { small(seq) } else { large(seq, random.usize(1..9_000)) })
                    .collect();
                let positions = log.store(&batch).await.unwrap();
                stored.extend(positions.into_iter().zip(batch));
            }
            if let Some((at, record)) = stored.get(random.usize(..stored.len().max(1))) {
                assert_eq!(log.fetch(*at).await.unwrap().as_ref(), Some(record));
            }
            drop(log);
            tear(&place, &mut random).await;
        }
    }
}

/// What a crash leaves of a commit that nobody was answered: some of its bytes, in any order.
async fn tear(place: &Place, random: &mut fastrand::Rng) {
    let before = place.files();
    let log = place.open();
    let batch: Vec<_> = (0..random.u64(1..4)).map(|seq| large(seq, random.usize(1..3_000))).collect();
    let positions = log.store(&batch).await.unwrap();
    drop(log);
    let (segment, begin) = split(positions[0]);
    let after = place.files();
    let path = place.segment(segment);
    if !before.contains_key(&path) {
        // As if the run had never been.
        for path in after.keys().filter(|path| !before.contains_key(*path)) {
            fs::remove_file(path).unwrap();
        }
        for (path, bytes) in &before {
            fs::write(path, bytes).unwrap();
        }
        return;
    }
    let mut torn = before[&path].clone();
    torn.resize(after[&path].len().max(torn.len()), 0);
    let begin = begin as usize;
    // The mark that a run begins was on the disk before, here or in the segment before.
    torn[begin - 24..begin].copy_from_slice(&after[&path][begin - 24..begin]);
    // An interrupted write either ends at some byte of the commit, or lost some of the sectors in which disks write.
    let length = after[&path].iter().rposition(|byte| *byte != 0).unwrap() - begin;
    let cut = random.bool().then(|| begin + random.usize(..length));
    for (at, byte) in torn.iter_mut().enumerate().skip(begin) {
        let sector = at / 512 - begin / 512;
        let kept = cut.map_or(sector > 0 && !(sector ^ begin).is_multiple_of(3), |cut| at < cut);
        if kept {
            *byte = after[&path][at];
        }
    }
    fs::write(path, torn).unwrap();
}
