//! Backups, and what is restored of them.

use super::*;

#[tokio::test]
async fn a_backup_is_a_copy_and_restoring_it_numbers_on() {
    let mut history = History::new(&mut fastrand::Rng::with_seed(6), &[20, 40]).await;
    let to = Place::new();
    for replays in [true, false] {
        let log = history.place.open();
        if !replays {
            // Once nothing waits, nothing of before is needed.
            let block = ensync_core::Block::new(9).unwrap();
            let drops = |event| {
                [
                    Arc::new(Record::Ack { event, block, at: Timestamp::from_millis(1) }),
                    Arc::new(Record::Drop { event }),
                ]
            };
            let batch: Vec<_> = waiting(&fold(&history.stored)).into_iter().flat_map(drops).collect();
            history.stored.extend(log.store(&batch).await.unwrap().into_iter().zip(batch));
            let at = history.stored.last().unwrap().0;
            log.save_checkpoint(at, vec![snapshot::encode(&fold(&history.stored).snapshot())]).await.unwrap();
        }
        let _ = fs::remove_dir_all(to.path());
        let made = backup(history.place.path(), to.path(), replays).await.unwrap();
        let all = made.report.records == history.stored.len() as u64 + u64::from(QUEUES);
        assert!(all == replays, "{:?}", made.report);
        drop(log);
        let error = backup(history.place.path(), to.path(), replays).await.unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("not empty"), "{error}");

        let back = Place::new();
        restore(to.path(), back.path()).await.unwrap();
        let (state, found) = started(&back).await;
        assert_eq!(state.snapshot(), fold(&history.stored).snapshot());
        let known = |at: &Position, record: &Arc<Record>| {
            matches!(**record, Record::Admin { .. }) || history.stored.contains(&(*at, record.clone()))
        };
        assert!(found.iter().all(|(at, record)| known(at, record)));
        let source = history.place.open().epoch();
        let log = back.open();
        assert!(log.epoch() > source + 65_000, "{} {source}", log.epoch());
        let next = log.store(&[small(1)]).await.unwrap();
        assert!(next[0] > history.stored.last().unwrap().0);
        drop(log);
        let error = restore(to.path(), back.path()).await.unwrap_err();
        assert!(error.to_string().contains("not empty"), "{error}");
        assert_eq!(verify(back.path()).await.unwrap().damage, []);
    }
}

#[tokio::test]
async fn nothing_is_copied_of_a_damaged_log() {
    let history = History::new(&mut fastrand::Rng::with_seed(7), &[]).await;
    history.damage(&BTreeSet::from([20]), |frame| frame[30] ^= 1);
    let to = Place::new();
    let error = backup(history.place.path(), to.path(), true).await.unwrap_err();
    assert!(error.to_string().contains("ensync store repair"), "{error}");
    assert!(fs::read_dir(to.path()).unwrap().next().is_none());
    // And nothing of a damaged backup comes back.
    let error = restore(history.place.path(), to.path()).await.unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
}
