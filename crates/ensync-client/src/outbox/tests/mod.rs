mod aged;
mod disk;
mod drain;
mod lanes;
mod told;
mod whose;

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::oneshot;

use super::entry::tests::entry;
use super::reserve::ReserveFile;
use super::store::{Now, Store, open_file};
use super::thread::{Worker, Write};
use super::*;

const NOW: Timestamp = Timestamp::from_millis(2_000);

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("outbox")
    }

    fn store(&self, options: OutboxOptions) -> Result<Store> {
        self.store_by(options, clock::machine())
    }

    fn store_by(&self, options: OutboxOptions, clock: clock::Source) -> Result<Store> {
        let path = self.path();
        let reserve = Box::new(ReserveFile::beside(&path));
        Store::open(Box::new(move || open_file(&path)), options, reserve, clock)
    }
}

fn put(store: &mut Store, n: u8) -> Result<(Vec<QueuedId>, Vec<OutboxOutcome>)> {
    store.transact(|batch| batch.put(&[entry(n)], NOW))
}

fn waiting(store: &mut Store, now: Timestamp) -> (Vec<u64>, Vec<OutboxOutcome>) {
    let (entries, outcomes) = taken(store, now).unwrap();
    (entries.into_iter().map(|(QueuedId(id), _)| id).collect(), outcomes)
}

/// All that waits, in the order it was queued.
type Waiting = Vec<(QueuedId, Entry)>;

fn taken(store: &mut Store, now: Timestamp) -> Result<(Waiting, Vec<OutboxOutcome>)> {
    let (turns, outcomes) = store.transact(|batch| batch.take(100, &HashSet::new(), now))?;
    let mut entries: Vec<_> = turns.into_iter().flat_map(|(_, entries)| entries).collect();
    entries.sort_by_key(|(id, _)| *id);
    Ok((entries, outcomes))
}

#[test]
fn what_was_put_is_there_after_a_restart_in_its_order() {
    let place = Place::new();
    let mut store = place.store(OutboxOptions::new()).unwrap();
    for n in 1..=3 {
        assert_eq!(put(&mut store, n).unwrap().0, [QueuedId(n.into())]);
    }
    store.transact(|batch| batch.done(QueuedId(2))).unwrap();
    let before = store.count;
    drop(store);
    let mut store = place.store(OutboxOptions::new()).unwrap();
    assert_eq!(store.count, before);
    assert_eq!(store.count.status().waiting, 2);
    let (entries, _) = taken(&mut store, NOW).unwrap();
    assert_eq!(entries, [(QueuedId(1), entry(1)), (QueuedId(3), entry(3))]);
    for id in [1, 3] {
        store.transact(|batch| batch.done(QueuedId(id))).unwrap();
    }
    assert_eq!(store.count.status(), OutboxStatus::default());
    drop(store);
    // Names are not given twice, though nothing is there.
    let mut store = place.store(OutboxOptions::new()).unwrap();
    assert_eq!(put(&mut store, 4).unwrap().0, [QueuedId(4)]);
}

#[test]
fn a_full_outbox_refuses_or_drops_the_oldest() {
    let one = u64::try_from(entry(1).encode().unwrap().len()).unwrap();
    for options in [OutboxOptions::new().max_events(2), OutboxOptions::new().max_bytes(2 * one)] {
        let place = Place::new();
        let mut store = place.store(options).unwrap();
        put(&mut store, 1).unwrap();
        put(&mut store, 2).unwrap();
        let error = put(&mut store, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.to_string().contains("2 events wait and 0 are parked"), "{error}");
        assert_eq!(waiting(&mut store, NOW).0, [1, 2]);
        drop(store);
        let mut store = place.store(options.when_full(WhenFull::DropOldest)).unwrap();
        store.transact(|batch| batch.park(QueuedId(2), &entry(2))).unwrap();
        let (_, outcomes) = put(&mut store, 3).unwrap();
        assert!(
            matches!(&outcomes[..], [OutboxOutcome::Dropped { about }] if about.queued == QueuedId(2)),
            "{outcomes:?}"
        );
        let (_, outcomes) = put(&mut store, 4).unwrap();
        assert!(
            matches!(&outcomes[..], [OutboxOutcome::Dropped { about }] if about.queued == QueuedId(1)),
            "{outcomes:?}"
        );
        // What fits nowhere drops nobody.
        let many: Vec<_> = (0..3).map(entry).collect();
        store.transact(|batch| batch.put(&many, NOW)).unwrap_err();
        assert_eq!(store.count.status().waiting, 2);
    }
}

#[test]
fn what_is_too_old_is_told_and_makes_room() {
    let place = Place::new();
    let options = OutboxOptions::new().max_events(1).max_age(Duration::from_secs(10));
    let mut store = place.store(options).unwrap();
    put(&mut store, 1).unwrap();
    let later = Timestamp::from_millis(11_000);
    assert_eq!(waiting(&mut store, later).0, [1], "exactly as old as allowed");
    let later = Timestamp::from_millis(11_001);
    let (_, outcomes) = store.transact(|batch| batch.put(&[entry(2)], later)).unwrap();
    assert!(matches!(&outcomes[..], [OutboxOutcome::Expired { about }] if about.queued == QueuedId(1)));
    assert_eq!(store.count.status().waiting, 1);
    let (left, outcomes) = waiting(&mut store, later);
    assert_eq!((left.len(), outcomes.len(), store.count.status().bytes), (0, 1, 0));
}

#[test]
fn a_parked_event_waits_again_in_its_place() {
    let place = Place::new();
    let mut store = place.store(OutboxOptions::new()).unwrap();
    put(&mut store, 1).unwrap();
    put(&mut store, 2).unwrap();
    store.transact(|batch| batch.park(QueuedId(1), &entry(1))).unwrap();
    assert_eq!((store.count.status().waiting, store.count.status().parked), (1, 1));
    assert_eq!(store.transact(|batch| batch.list_parked()).unwrap().0.len(), 1);
    assert!(store.transact(|batch| batch.unpark(QueuedId(1), Some(NOW))).unwrap().0);
    assert!(!store.transact(|batch| batch.unpark(QueuedId(1), Some(NOW))).unwrap().0);
    assert_eq!(waiting(&mut store, NOW).0, [1, 2]);
}

/// Whoever lets it be sent again, after longer than events may wait, does not want it dropped.
#[test]
fn a_parked_event_is_not_too_old_when_it_waits_again() {
    let place = Place::new();
    let mut store = place.store(OutboxOptions::new().max_age(Duration::from_secs(10))).unwrap();
    put(&mut store, 1).unwrap();
    store.transact(|batch| batch.park(QueuedId(1), &entry(1))).unwrap();
    let later = Timestamp::from_millis(100_000);
    let (waits, outcomes) = waiting(&mut store, later);
    assert_eq!((waits.len(), outcomes.len()), (0, 0));
    assert!(store.transact(|batch| batch.unpark(QueuedId(1), Some(later))).unwrap().0);
    assert_eq!(waiting(&mut store, Timestamp::from_millis(110_000)).0, [1]);
    assert_eq!(waiting(&mut store, Timestamp::from_millis(110_001)).0, [0; 0], "its age began anew");
}

#[test]
fn one_at_a_time_and_another_s_file_are_told() {
    let place = Place::new();
    let store = place.store(OutboxOptions::new()).unwrap();
    let error = place.store(OutboxOptions::new()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("another process"), "{error}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }
    drop(store);
    for content in [&b"not an outbox"[..], &[0xff; 10_000]] {
        std::fs::write(place.path(), content).unwrap();
        let error = place.store(OutboxOptions::new()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error} {:?}", std::error::Error::source(&error));
        assert!(error.to_string().contains("no outbox, or is damaged"), "{error}");
    }
}

#[tokio::test]
async fn errors_name_the_file() {
    let place = Place::new();
    let missing = place.0.path().join("no/such/directory");
    let error = Outbox::open(&missing, OutboxOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&missing.display().to_string()), "{error}");
    std::fs::write(place.path(), [7; 5_000]).unwrap();
    let error = Outbox::open(place.path(), OutboxOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
async fn a_closed_outbox_is_free_at_once_and_says_that_it_is_closed() {
    let place = Place::new();
    let outbox = Outbox::open(place.path(), OutboxOptions::new()).await.unwrap();
    outbox.put(vec![entry(1)]).await.unwrap();
    let error = outbox.flush().await.unwrap_err();
    assert!(error.to_string().contains("1 events wait and no client drains them"), "{error}");
    outbox.close().await;
    assert_eq!(outbox.put(vec![entry(2)]).await.unwrap_err().kind(), ErrorKind::Closed);
    let again = Outbox::open(place.path(), OutboxOptions::new()).await.unwrap();
    assert_eq!(again.status().waiting, 1);
}

/// A file that was written to before, and whose every part was then altered, one at a time: it opens, or says why not, and what it
/// gives is what was put.
#[test]
fn an_altered_file_gives_nothing_that_was_not_put() {
    let place = Place::new();
    let mut store = place.store(OutboxOptions::new()).unwrap();
    (1..=20).for_each(|n| drop(put(&mut store, n).unwrap()));
    drop(store);
    let whole = std::fs::read(place.path()).unwrap();
    let known: Vec<_> = (1..=20).map(entry).collect();
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..60 {
        let mut altered = whole.clone();
        let at = random.usize(..altered.len());
        let until = (at + random.usize(1..64)).min(altered.len());
        altered[at..until].fill(random.u8(..));
        std::fs::write(place.path(), altered).unwrap();
        // redb may panic on what it finds; the thread of an outbox turns that into an error.
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut store = place.store(OutboxOptions::new()).ok()?;
            taken(&mut store, NOW).ok()
        }));
        if let Ok(Some((entries, _))) = read {
            assert!(entries.iter().all(|(_, entry)| known.contains(entry)), "round {round}");
        }
    }
}

#[test]
fn a_lane_that_is_held_is_passed_over() {
    let place = Place::new();
    let mut store = place.store(OutboxOptions::new()).unwrap();
    for _ in 0..300 {
        put(&mut store, 1).unwrap();
    }
    for n in [2, 3, 2] {
        put(&mut store, n).unwrap();
    }
    let turns = |store: &mut Store, most, not: &[u8]| {
        let not = not.iter().map(|n| entry(*n).lane()).collect();
        let (turns, _) = store.transact(|batch| batch.take(most, &not, NOW)).unwrap();
        turns.iter().map(|(lane, entries)| (lane.1.as_bytes()[0], entries.len())).collect::<Vec<_>>()
    };
    assert_eq!(turns(&mut store, 9, &[]), [(1, 32), (2, 2), (3, 1)]);
    assert_eq!(turns(&mut store, 9, &[1]), [(2, 2), (3, 1)]);
    assert_eq!(turns(&mut store, 1, &[1]), [(2, 2)]);
    drop(store);
    // The same after a restart, and each turn begins with the oldest.
    let mut store = place.store(OutboxOptions::new()).unwrap();
    assert_eq!(turns(&mut store, 9, &[3]), [(1, 32), (2, 2)]);
    assert_eq!(store.now().first, Some(1));
    store.transact(|batch| batch.done(QueuedId(301))).unwrap();
    assert_eq!(turns(&mut store, 9, &[1]), [(3, 1), (2, 1)]);
}

#[test]
fn what_shares_a_transaction_shares_no_refusal() {
    let place = Place::new();
    // By the clock of the thread, which is the machine's, these events are old.
    let store = place.store(OutboxOptions::new().max_events(2).max_age(Duration::MAX)).unwrap();
    let (status, _) = watch::channel(Now::default());
    let mut worker = Worker { store, status, listeners: broadcast::Sender::new(1) };
    let (writes, answers): (Vec<_>, Vec<_>) = (1..=4)
        .map(|n| {
            let (answer, waiter) = oneshot::channel();
            let entries = if n == 2 { vec![entry(2), entry(2), entry(2)] } else { vec![entry(n)] };
            ((Write::Put(entries), answer), waiter)
        })
        .unzip();
    worker.write(writes);
    let accepted: Vec<_> = answers.into_iter().map(|mut answer| answer.try_recv().unwrap().is_ok()).collect();
    assert_eq!(accepted, [true, false, true, false]);
    assert_eq!(worker.status.borrow().status.waiting, 2);
}

#[tokio::test]
async fn many_publishes_at_a_time_are_all_kept() {
    let place = Place::new();
    let outbox = Outbox::open(place.path(), OutboxOptions::new()).await.unwrap();
    let ids = Mutex::new(Vec::new());
    futures::stream::iter(0..200u8)
        .for_each_concurrent(None, |n| {
            let (outbox, ids) = (outbox.clone(), &ids);
            async move {
                let id = outbox.put(vec![entry(n)]).await.unwrap();
                ids.lock().unwrap().extend(id);
            }
        })
        .await;
    let mut ids = ids.into_inner().unwrap();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), outbox.status().waiting), (200, 200));
}
