//! What was dropped since the last checkpoint, or without one.

use super::*;

/// How many events are stored, about seven in a segment.
const EVENTS: u64 = 28;

/// A log of several segments, with a checkpoint at its end: events of one queue, which are acknowledged, but for some.
struct Dropping {
    place: Place,
    log: DiskLog,
    stored: Vec<(Position, Arc<Record>)>,
}

impl Dropping {
    async fn new(waiting: &[u64], change: impl Fn(&mut PublishRecord)) -> Self {
        let place = Place::quick();
        let log = place.open();
        log.store(&apps()).await.unwrap();
        let mut made = Self { place, log, stored: Vec::new() };
        for seq in 0..EVENTS {
            let Record::Publish(mut event) = (*publish(0, seq, 9_000)).clone() else { panic!() };
            change(&mut event);
            made.store(Record::Publish(event)).await;
        }
        let block = ensync_core::Block::new(9).unwrap();
        for seq in (0..EVENTS).filter(|seq| !waiting.contains(seq)) {
            let event = EventRef { queue: 0, seq };
            made.store(Record::Ack { event, block, at: Timestamp::from_millis(1) }).await;
        }
        assert!(split(made.end()).0 > 3, "{}", made.end());
        let state = snapshot::encode(&fold(&made.stored).snapshot());
        made.log.save_checkpoint(made.end(), vec![state]).await.unwrap();
        made
    }

    fn end(&self) -> Position {
        self.stored.last().unwrap().0
    }

    async fn store(&mut self, record: Record) {
        let record = Arc::new(record);
        let at = self.log.store(std::slice::from_ref(&record)).await.unwrap();
        self.stored.push((at[0], record));
    }

    /// Drops a segment, as retention does.
    async fn drop_segment(&self, number: u64) {
        self.log.drop_range(Position::new(number << 32), Position::new((number + 1) << 32)).await.unwrap();
    }

    fn checkpoint(&self) -> PathBuf {
        let mut names = self.place.files().into_keys();
        names.find(|path| path.extension().is_some_and(|extension| extension == "checkpoint")).unwrap()
    }
}

/// The checkpoint says where it was, the log where it is.
#[tokio::test]
async fn a_backup_goes_by_where_events_are_now() {
    for (waits, first) in [(0, true), (9, false), (9, true)] {
        let mut made = Dropping::new(&[waits], |_| ()).await;
        let Record::Publish(event) = (*made.stored[waits as usize].1).clone() else { panic!() };
        made.store(Record::Publish(event)).await;
        let number = u64::from(split(made.stored[waits as usize].0).0);
        for number in (if first { 1 } else { number })..=number {
            made.drop_segment(number).await;
        }
        for replays in [false, true] {
            let to = Place::new();
            let report = backup(made.place.path(), to.path(), replays).await.unwrap().report;
            assert_eq!(report.unsettled, 1, "{report:?}");
            let back = Place::new();
            restore(to.path(), back.path()).await.unwrap();
            let (state, found) = started(&back).await;
            assert_eq!(state.snapshot(), fold(&made.stored).snapshot());
            assert_eq!(found.get(&made.end()), Some(&made.stored.last().unwrap().1));
        }
    }
}

/// That an event has expired is in no record: the log lacks it, and may.
#[tokio::test]
async fn an_event_that_expired_since_the_checkpoint_may_be_dropped() {
    let expires = |at: u64| move |event: &mut PublishRecord| event.expires_at = Some(Timestamp::from_millis(at));
    let century = 100 * 365 * 24 * 3_600_000;
    for (seq, at, sound) in [(0, 1_000, true), (9, 1_000, true), (0, century, false), (9, century, false)] {
        let made = Dropping::new(&[seq], expires(at)).await;
        made.drop_segment(u64::from(split(made.stored[seq as usize].0).0)).await;
        for replays in [false, true] {
            let to = Place::new();
            let copied = backup(made.place.path(), to.path(), replays).await;
            assert_eq!(copied.is_ok(), sound, "{copied:?}");
            let left = fs::read_dir(to.path()).unwrap().count();
            assert_eq!(left > 0, sound, "what is no backup is not left there");
        }
        drop(made.log);
        let report = verify(made.place.path()).await.unwrap();
        assert_eq!((report.damage.is_empty(), report.unsettled), (sound, u64::from(!sound)), "{:?}", report.damage);
        let said = assess(made.place.path()).await.unwrap();
        assert_eq!((said.damage.is_empty(), said.events.is_empty()), (sound, sound), "{said:?}");
    }
}

/// What the dropped part did to the state is nowhere then.
#[tokio::test]
async fn without_a_checkpoint_a_log_of_which_a_part_was_dropped_is_refused() {
    // Also as a stop while parts are dropped leaves it: what is before the emptied one is gone.
    for without_first in [false, true] {
        let made = Dropping::new(&[0, 20], |_| ()).await;
        made.drop_segment(2).await;
        let checkpoint = made.checkpoint();
        let Dropping { place, log, stored } = made;
        drop(log);
        if without_first {
            fs::remove_file(place.segment(1)).unwrap();
        }
        let there = started(&place).await.1;
        fs::remove_file(checkpoint).unwrap();
        place.refused(ErrorKind::InvalidInput, &["no checkpoint", "ensync store repair"]);
        let report = verify(place.path()).await.unwrap();
        assert!(report.damage.iter().any(|damage| damage.what.contains("no checkpoint")), "{:?}", report.damage);
        let history = History { place, stored, checkpoints: Vec::new() };
        let said = repaired(&history).await;
        assert!(said.beginning && said.settlements);
        let (_, found) = started(&history.place).await;
        assert_eq!(found, there, "what is there is read");
        history.place.open().store(&[small(1)]).await.unwrap();
    }
}
