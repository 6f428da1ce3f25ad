//! Recipients in trouble, and the others: over a file that is read and written in its turn, so that only paused time passes.

use tokio::time::Instant;

use super::super::thread::Request;
use super::drain::{Far, drained};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn recipient(n: u16) -> AppId {
    let mut id = [7; 32];
    id[..2].copy_from_slice(&n.to_le_bytes());
    AppId::from_bytes(id)
}

fn event_for(n: u16) -> Entry {
    let mut entry = entry(1);
    entry.publish.recipient = recipient(n);
    entry
}

/// An outbox with a client, and some recipients in trouble: an event waits for each of them.
struct Troubled {
    far: Arc<Far>,
    client: Client,
    _place: Place,
}

impl Troubled {
    async fn new(count: u16) -> Self {
        let far = Arc::new(Far::default());
        far.troubled.lock().unwrap().extend((0..count).map(recipient));
        far.now.send_replace(Now::default());
        let place = Place::new();
        let store = place.store(OutboxOptions::new().max_age(Duration::MAX)).unwrap();
        let (client, mut asked) = drained(&far).await;
        let (status, listeners) = (far.now.clone(), broadcast::Sender::new(1));
        tokio::spawn(async move {
            let mut worker = Worker { store, status, listeners };
            while let Some(request) = asked.recv().await {
                match request {
                    Request::Write(write, answer) => worker.write(vec![(write, answer)]),
                    Request::Take(most, not, answer) => {
                        let taken = worker.store.take_out(|batch| batch.take(most, &not, NOW));
                        assert!(answer.send(taken.map(|(turns, _)| turns)).is_ok());
                    }
                    _ => panic!("nobody asks for that"),
                }
            }
        });
        let troubled = Self { far, client, _place: place };
        troubled.put((0..count).map(event_for).collect()).await;
        troubled
    }

    async fn put(&self, entries: Vec<Entry>) {
        self.client.outbox.as_ref().unwrap().outbox().put(entries).await.unwrap();
    }

    /// How long it takes until so many wait.
    async fn until_waiting(&self, count: u64) -> Duration {
        let (begun, mut now) = (Instant::now(), self.far.now.subscribe());
        tokio::time::timeout(3_600 * SECOND, now.wait_for(|now| now.status.waiting <= count)).await.unwrap().unwrap();
        begun.elapsed()
    }

    fn attempts(&self) -> usize {
        self.far.tried.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn however_many_are_in_trouble_the_others_events_go() {
    for count in [12, 100] {
        let troubled = Troubled::new(count).await;
        tokio::time::sleep(200 * SECOND).await;
        let (begun, before) = (Instant::now(), troubled.attempts());
        for _ in 0..20 {
            troubled.put(vec![event_for(60_000)]).await;
            let took = troubled.until_waiting(count.into()).await;
            assert!(took < 5 * SECOND, "{count} are in trouble: {took:?}");
            tokio::time::sleep(10 * SECOND).await;
        }
        // And those in trouble are not asked without end: each waits half of the longest wait at least.
        let (attempts, most) = (troubled.attempts() - before, usize::from(count) * 200 / 15 + 20 + 32);
        assert!(attempts < most, "{count} are in trouble: {attempts} attempts in {:?}", begun.elapsed());
    }
}

/// Nothing at all goes for long: then one that goes again is found, whichever it is.
#[tokio::test(start_paused = true)]
async fn each_of_those_in_trouble_has_its_turn() {
    let troubled = Troubled::new(30).await;
    tokio::time::sleep(200 * SECOND).await;
    let before = troubled.attempts();
    tokio::time::sleep(300 * SECOND).await;
    let attempts = troubled.attempts() - before;
    assert!((50..150).contains(&attempts), "{attempts} in five minutes, while nothing goes");
    troubled.far.troubled.lock().unwrap().remove(&recipient(29));
    let took = troubled.until_waiting(29).await;
    assert!(took < 180 * SECOND, "{took:?}");
}

/// There are more than it is known of that they failed.
#[tokio::test(start_paused = true)]
async fn more_in_trouble_than_are_held_keep_no_other_from_its_turn() {
    let troubled = Troubled::new(1_200).await;
    // That so many fail, at their pace, takes a minute.
    tokio::time::sleep(60 * SECOND).await;
    let (begun, before) = (Instant::now(), troubled.attempts());
    troubled.put(vec![event_for(60_000)]).await;
    let took = troubled.until_waiting(1_200).await;
    assert!(took < 180 * SECOND, "{took:?}");
    tokio::time::sleep(20 * SECOND).await;
    let (attempts, took) = (troubled.attempts() - before, begun.elapsed());
    assert!(attempts as f64 / took.as_secs_f64() < 30.0, "{attempts} attempts in {took:?}");
}
