//! What a repair says, and what it leaves.

use super::*;

/// A byte is turned in some records, anywhere in the log: they are lost, and nothing else is.
#[tokio::test]
async fn what_repair_says_is_lost_is_lost_and_nothing_else_is() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let checkpoints: &[usize] = [&[][..], &[30], &[15, 45]][seed as usize % 3];
        let history = History::new(&mut random, checkpoints).await;
        let all = fold(&history.stored);
        // Not the very end, which is no damage.
        let count = random.usize(1..6);
        let some: BTreeSet<_> = (0..count).map(|_| random.usize(..history.stored.len() - 6)).collect();
        history.damage(&some, |frame| {
            // Not in the length, so that it can be told how many there were.
            let at = random.usize(4..frame.len());
            frame[at] ^= 1 << random.u8(..8);
        });
        let text = |error: ensync_core::Error| error.to_string();
        if checkpoints.is_empty() {
            let error = text(history.place.try_open().unwrap_err());
            assert!(error.contains("ensync store repair"), "{error}");
        }
        assert!(!verify(history.place.path()).await.unwrap().damage.is_empty());
        let said = repaired(&history).await;

        // The magic of a frame may have been hit too: then its length is not believed either.
        if let Some(records) = said.records {
            assert_eq!(records, some.len() as u64, "seed {seed}");
        }
        let (state, found) = started(&history.place).await;
        for (index, (at, record)) in history.stored.iter().enumerate() {
            assert_eq!(found.get(at), (!some.contains(&index)).then_some(record), "seed {seed}, record {index}");
        }
        // What is known: the checkpoint, and every record after it that is left.
        let covered = history.checkpoints.last().copied();
        let lost_after = |index: &usize| covered.is_none_or(|at| history.stored[*index].0 > at);
        let left = history.stored.iter().enumerate().filter(|(index, _)| !(some.contains(index) && lost_after(index)));
        let left: Vec<_> = left.map(|(_, stored)| stored.clone()).collect();
        let unreadable: BTreeSet<EventRef> = some
            .iter()
            .filter_map(|index| match &*history.stored[*index].1 {
                Record::Publish(publish) => Some(publish.at),
                _ => None,
            })
            .collect();
        let known = waiting(&fold(&left));
        let gone: BTreeSet<_> = known.intersection(&unreadable).copied().collect();
        assert_eq!(waiting(&state), known.difference(&gone).copied().collect(), "seed {seed}");
        let told: u64 = said.events.iter().map(|queue| queue.waiting).sum();
        assert_eq!(told, gone.len() as u64, "seed {seed}");
        for queue in &said.events {
            let number = u32::from(queue.recipient.as_bytes()[0]) - 1;
            let of_queue = |events: &BTreeSet<EventRef>| events.iter().filter(|event| event.queue == number).count();
            assert_eq!(queue.waiting, of_queue(&gone) as u64, "seed {seed}");
            let after: BTreeSet<_> = unreadable.difference(&known).copied().collect();
            assert!(queue.perhaps <= of_queue(&after) as u64, "seed {seed}");
        }
        // Whatever waited and is not said to be lost is delivered.
        let came_again: Vec<_> = waiting(&state).difference(&waiting(&all)).copied().collect();
        assert!(came_again.is_empty() || said.settlements, "seed {seed}");
    }
}

/// Large pieces, whole files, headers, lengths: something is always left, and the engine starts.
#[tokio::test]
async fn whatever_is_damaged_the_rest_is_there_after_a_repair() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(1_000 + seed);
        let checkpoints: &[usize] = [&[][..], &[30], &[15, 45]][seed as usize % 3];
        let history = History::new(&mut random, checkpoints).await;
        let segments: Vec<_> = (1..=split(history.stored.last().unwrap().0).0).collect();
        let number = segments[random.usize(..segments.len() - 1)];
        let path = history.place.segment(number);
        let what = ["garbage", "zeros", "header", "cut", "missing", "checkpoint", "tail"][random.usize(..7)];
        let mut touched = None;
        match what {
            "missing" => fs::remove_file(&path).unwrap(),
            "header" => history.place.alter(&path, |bytes| bytes[random.usize(..64)] ^= 1 << random.u8(..8)),
            "cut" => history.place.alter(&path, |bytes| bytes.truncate(random.usize(..bytes.len()))),
            "checkpoint" if !checkpoints.is_empty() => {
                let index = random.usize(..history.checkpoints.len());
                history.place.alter(&history.checkpoint(index), |bytes| bytes[random.usize(12..40)] ^= 8);
            }
            "tail" => {
                // The disk forgot all of the end.
                for number in &segments[segments.len() / 2..] {
                    fs::remove_file(history.place.segment(*number)).unwrap();
                }
                _ = fs::remove_file(history.place.segment(segments.len() as u32 + 1));
            }
            _ => {
                let fill = if what == "zeros" { 0 } else { 0xa5 };
                history.place.alter(&path, |bytes| {
                    let from = random.usize(64..bytes.len());
                    let to = random.usize(from..bytes.len());
                    bytes[from..=to].fill(fill);
                    touched = Some(from..=to);
                });
            }
        }
        let which = format!("seed {seed}, {what} of {number}");
        if assess(history.place.path()).await.unwrap().damage.is_empty() {
            // It hit nothing, or made a log that ends earlier: without a checkpoint there that cannot be told.
            let report = verify(history.place.path()).await.unwrap();
            let tail =
                what == "tail" && history.checkpoints.last().is_none_or(|at| split(*at).0 <= segments.len() as u32 / 2);
            let whole = report.records == history.stored.len() as u64;
            assert!(tail || whole || what == "checkpoint", "{which}");
            history.place.open();
            continue;
        }
        repaired(&history).await;
        let (_, found) = started(&history.place).await;
        for (index, (at, record)) in history.stored.iter().enumerate() {
            let (frame_path, frame) = history.frame(index);
            let hit = match (&touched, what) {
                (Some(range), _) => frame_path == path && frame.start <= *range.end() && *range.start() < frame.end,
                (None, "header" | "checkpoint") => false,
                (None, "tail") => split(*at).0 > segments.len() as u32 / 2,
                _ => frame_path == path,
            };
            let same = found.get(at) == Some(record);
            assert!(same || hit, "{which}: record {index} was not touched");
        }
        let log = history.place.open();
        log.store(&[small(1)]).await.unwrap();
    }
}

#[tokio::test]
async fn a_log_without_its_beginning_goes_on() {
    let history = History::new(&mut fastrand::Rng::with_seed(5), &[50]).await;
    let log = history.place.open();
    log.drop_range(Position::START, Position::new(3 << 32)).await.unwrap();
    drop(log);
    history.place.alter(&history.checkpoint(0), |bytes| bytes[70] ^= 1);
    history.place.refused(ErrorKind::InvalidInput, &["no checkpoint", "ensync store repair"]);
    let said = repaired(&history).await;
    assert!(said.beginning);
    let (_, found) = started(&history.place).await;
    let left = history.stored.iter().filter(|(at, _)| split(*at).0 >= 3);
    assert!(left.clone().all(|(at, record)| found.get(at) == Some(record)) && left.count() > 5);
}
