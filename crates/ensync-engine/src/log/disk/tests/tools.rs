//! What can be done from outside: checked, repaired, copied.

mod copies;
mod dropped;
mod moving;
mod repairs;

use std::collections::BTreeSet;

use ensync_core::{AppId, EventName};

use super::*;
use crate::model::AdminCommand;
use crate::model::PublishRecord;
use crate::model::codec::snapshot;
use crate::state::Settings;
use crate::store::Fold;
use crate::store::one::{assess, backup, repair, restore, verify};
use crate::store::{Assessment, Contents};

const QUEUES: u32 = 3;

fn recipient(queue: u32) -> AppId {
    AppId::from_bytes([queue as u8 + 1; 32])
}

/// The recipients.
fn apps() -> Vec<Arc<Record>> {
    let app = |queue| Record::Admin {
        at: Timestamp::from_millis(1),
        command: AdminCommand::CreateApp {
            id: recipient(queue),
            name: format!("app {queue}"),
            key_hash: crate::model::KeyHash::from_bytes([queue as u8; 32]),
            rights: crate::model::Rights::ALL,
            same_name: true,
        },
    };
    (0..QUEUES).map(|queue| Arc::new(app(queue))).collect()
}

fn publish(queue: u32, seq: u64, bytes: usize) -> Arc<Record> {
    let sample = large(seq, bytes);
    let Record::Publish(sample) = &*sample else { panic!() };
    let (at, event) = (EventRef { queue, seq }, EventName::parse("orders/paid").unwrap());
    Arc::new(Record::Publish(PublishRecord {
        at,
        event,
        recipient_id: recipient(queue),
        recipient: recipient(queue),
        ..sample.clone()
    }))
}

/// A log with a history: publishes to three queues, acknowledgements, dead letters, and checkpoints where they are asked for.
struct History {
    place: Place,
    stored: Vec<(Position, Arc<Record>)>,
    checkpoints: Vec<Position>,
}

impl History {
    async fn new(random: &mut fastrand::Rng, checkpoints: &[usize]) -> Self {
        let place = Place::quick();
        let mut history = Self { place, stored: Vec::new(), checkpoints: Vec::new() };
        // Nothing is kept for who is no app.
        history.place.open().store(&apps()).await.unwrap();
        let mut next = [0; QUEUES as usize];
        for commit in 0..60 {
            // Several runs.
            let log = history.place.open();
            let mut batch = Vec::new();
            for _ in 0..random.u32(1..4) {
                let queue = random.u32(..QUEUES);
                let seq = &mut next[queue as usize];
                if *seq > 0 && random.u8(..3) == 0 {
                    let event = EventRef { queue, seq: random.u64(..*seq) };
                    let at = Timestamp::from_millis(5);
                    batch.push(Arc::new(match random.bool() {
                        true => Record::Ack {
                            event,
                            block: ensync_core::Block::new(9).unwrap(),
                            at: Timestamp::from_millis(1),
                        },
                        false => Record::Discard { event, reason: "no".into(), at, deliveries: 1 },
                    }));
                } else {
                    batch.push(publish(queue, *seq, random.usize(1..9_000)));
                    *seq += 1;
                }
            }
            let positions = log.store(&batch).await.unwrap();
            history.stored.extend(positions.into_iter().zip(batch));
            if checkpoints.contains(&commit) {
                let at = history.stored.last().unwrap().0;
                let state = fold(&history.stored);
                log.save_checkpoint(at, vec![snapshot::encode(&state.snapshot())]).await.unwrap();
                history.checkpoints.push(at);
            }
        }
        history
    }

    fn checkpoint(&self, index: usize) -> PathBuf {
        self.place.path().join(format!("{:020}.checkpoint", self.checkpoints[index].as_u64()))
    }

    /// The bytes of a record's frame.
    fn frame(&self, index: usize) -> (PathBuf, std::ops::Range<usize>) {
        let (number, offset) = split(self.stored[index].0);
        let body = Encoded::from(&*self.stored[index].1);
        let offset = offset as usize;
        (self.place.segment(number), offset..offset + 24 + body.len())
    }

    /// Damages the records of these numbers.
    fn damage(&self, indexes: &BTreeSet<usize>, mut how: impl FnMut(&mut [u8])) {
        for index in indexes {
            let (path, range) = self.frame(*index);
            self.place.alter(&path, |bytes| how(&mut bytes[range]));
        }
    }
}

fn fold(stored: &[(Position, Arc<Record>)]) -> Fold {
    let mut state = Fold::new(Settings::default());
    for app in apps() {
        state.apply(Position::new(1), &app);
    }
    for (at, record) in stored {
        state.apply(*at, record);
    }
    state
}

/// Which events wait, and which are dead letters.
fn waiting(state: &Fold) -> BTreeSet<EventRef> {
    let durable = state.snapshot();
    let of = |queue: &crate::model::SnapshotQueue| {
        let number = queue.number;
        queue.events.iter().map(move |event| EventRef { queue: number, seq: event.seq }).collect::<Vec<_>>()
    };
    durable.partition.queues.iter().flat_map(of).collect()
}

/// The state as an engine that starts has it.
async fn started(place: &Place) -> (Fold, BTreeMap<Position, Arc<Record>>) {
    let log = place.open();
    let found: BTreeMap<_, _> = scanned(&log, Position::START).await.into_iter().collect();
    let (mut state, from) = match log.load_checkpoint().await.unwrap() {
        None => (Fold::new(Settings::default()), Position::START),
        Some((at, bytes)) => (Fold::restore(Settings::default(), snapshot::decode(bytes).unwrap()), at),
    };
    for (at, record) in found.iter().filter(|(at, _)| **at > from) {
        state.apply(*at, record);
    }
    (state, found)
}

/// Repairs, having looked first; what both said.
async fn repaired(history: &History) -> Assessment {
    let before = history.place.files_below();
    let said = assess(history.place.path()).await.unwrap();
    assert!(history.place.files_below() == before, "looking changes nothing");
    assert!(!said.damage.is_empty());
    let done = repair(history.place.path()).await.unwrap();
    assert_eq!(Assessment { kept: Vec::new(), ..done.clone() }, said, "what was done is what was said");
    if let [kept] = &done.kept[..] {
        for entry in fs::read_dir(kept).unwrap() {
            let path = entry.unwrap().path();
            let original = history.place.path().join(path.file_name().unwrap());
            assert!(before[&original] == fs::read(&path).unwrap(), "it is kept as it was");
        }
    }
    let report = verify(history.place.path()).await.unwrap();
    assert_eq!(report.damage, [], "all is well then");
    let again = assess(history.place.path()).await.unwrap();
    assert_eq!(again.damage, []);
    done
}

#[tokio::test]
async fn a_sound_directory_is_verified() {
    let history = History::new(&mut fastrand::Rng::with_seed(1), &[20, 40]).await;
    let report = verify(history.place.path()).await.unwrap();
    let records = history.stored.len() as u64 + u64::from(QUEUES);
    assert_eq!((report.damage, report.records, report.compared), (vec![], records, 2));
    // One for each run, and one for each batch.
    assert_eq!(report.commits, 122);
    assert_eq!(report.unsettled + report.dead, waiting(&fold(&history.stored)).len() as u64);
    let mut files = history.place.files();
    // It holds nothing.
    files.retain(|path, _| !path.ends_with("reserve"));
    assert_eq!(report.bytes, files.values().map(|bytes| bytes.len() as u64).sum::<u64>());
    assert_eq!(report.files.len(), files.len());
    assert!(report.files.iter().any(|file| matches!(file.contents, Contents::Checkpoint { unsettled: Some(_) })));
    assert_eq!(assess(history.place.path()).await.unwrap().damage, []);
    assert_eq!(repair(history.place.path()).await.unwrap().kept, Vec::<PathBuf>::new(), "nothing to do");

    let log = history.place.open();
    let error = verify(history.place.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("in use") && error.to_string().contains("backup"), "{error}");
    assert_eq!(repair(history.place.path()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(log);
    let error = verify(history.place.path().join("nowhere")).await.unwrap_err();
    assert!(error.to_string().contains("it is not there"), "{error}");
    let empty = Place::new();
    fs::create_dir(empty.path()).unwrap();
    let error = verify(empty.path()).await.unwrap_err();
    assert!(error.to_string().contains("holds no log"), "{error}");
    assert!(fs::read_dir(empty.path()).unwrap().next().is_none(), "nothing was made there");
}

#[tokio::test]
async fn a_checkpoint_that_the_log_does_not_come_to_is_found() {
    let history = History::new(&mut fastrand::Rng::with_seed(2), &[20]).await;
    let at = history.checkpoints[0];
    let mut wrong = fold(&history.stored[..10]).snapshot();
    wrong.partition.queues.pop();
    let log = history.place.open();
    log.save_checkpoint(at, vec![snapshot::encode(&wrong)]).await.unwrap();
    drop(log);
    let report = verify(history.place.path()).await.unwrap();
    let said = report.damage.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    assert!(said.contains("not what the log comes to"), "{said}");
}

/// The log says until when an event is deferred and an old access key works, but not when a checkpoint was saved.
#[tokio::test]
async fn a_checkpoint_after_what_was_waited_for_is_no_damage() {
    let (place, due) = (Place::quick(), Timestamp::from_millis(1_000));
    let event = EventRef { queue: 0, seq: 0 };
    let key_hash = crate::model::KeyHash::from_bytes([9; 32]);
    let at = Timestamp::from_millis(5);
    let mut records = apps();
    records.push(publish(0, 0, 100));
    records.push(Arc::new(Record::Defer { event, until: due, deliveries: 3, handed_back: 0 }));
    let command = AdminCommand::RotateKey { app: recipient(1), key_hash, grace: due.since(at) };
    records.push(Arc::new(Record::Admin { at, command }));
    let positions = place.open().store(&records).await.unwrap();
    let stored: Vec<_> = positions.into_iter().zip(records).collect();
    let mut state = fold(&stored);
    let before = state.snapshot();
    state.tick(due);
    let after = state.snapshot();
    assert!(after.partition != before.partition && after.registry.apps != before.registry.apps);
    let mut wrong = before.clone();
    wrong.partition.queues[0].events[0].deliveries = 4;
    for (saved, is_right) in [(before, true), (after, true), (wrong, false)] {
        place.open().save_checkpoint(stored.last().unwrap().0, vec![snapshot::encode(&saved)]).await.unwrap();
        let report = verify(place.path()).await.unwrap();
        assert_eq!((report.compared, report.damage.is_empty()), (1, is_right), "{:?}", report.damage);
    }
}

#[tokio::test]
async fn an_unfinished_commit_is_no_damage() {
    let history = History::new(&mut fastrand::Rng::with_seed(3), &[]).await;
    let last = history.stored.len() - 1;
    let (path, range) = history.frame(last);
    history.place.alter(&path, |bytes| bytes[range.start + 20..].fill(0));
    let report = verify(history.place.path()).await.unwrap();
    assert_eq!(report.damage, []);
    assert!(report.unfinished.len() == 1);
}
