use std::collections::BTreeSet;

use async_trait::async_trait;
use ensync_core::{AppId, ClientId, Login, WirePayload};
use futures::FutureExt;
use tokio::task::JoinHandle;
use tonic::Status;

use super::super::room::{SESSION, STREAM};
use super::*;
use crate::generated::StreamResponse;
use crate::tests::fake::{delivery, name};

/// What each delivery weighs here.
const WEIGHT: usize = 10 << 10;

/// An engine that takes note of what is handed back.
#[derive(Default)]
struct Engine(Mutex<Vec<u64>>);

#[async_trait]
impl Service for Engine {
    async fn login(&self, _: Login) -> Result<ensync_core::Session> {
        Err(Error::new(ErrorKind::Internal, "nobody logs in here"))
    }

    async fn handle(&self, _: &Peer, command: Command) -> Result<Reply> {
        if let Command::Settle(Settle { block: Some(block), how: Settlement::Release, .. }) = command {
            self.0.lock().unwrap().push(block.as_u64() - 1);
        }
        Ok(Reply::Done)
    }

    async fn logout(&self, _: &Peer) {}
}

struct Fixture {
    engine: Arc<Engine>,
    session: Arc<Session>,
    inbox: mpsc::UnboundedSender<Delivery>,
    _feeding: JoinHandle<End>,
}

impl Fixture {
    fn new(multiplexed: bool) -> Self {
        let peer = Peer { client_id: ClientId::parse("client").unwrap(), app_id: AppId::from_bytes([1; 32]) };
        let (inbox, receiver) = mpsc::unbounded_channel::<Delivery>();
        let receiver = futures::stream::unfold(receiver, |mut receiver| async move {
            let next = receiver.recv().await?;
            Some((next, receiver))
        });
        let traits = Traits { multiplexed, ends_with_streams: false, max_message: usize::MAX };
        let engine = Arc::<Engine>::default();
        let (session, feed) = Session::new(peer, engine.clone(), receiver.boxed(), traits);
        // Else it ends with the connections that it has not.
        session.touch(&Connection::unknown());
        let feeding = session.clone();
        let _feeding = tokio::spawn(async move { feeding.feed(feed, Duration::from_secs(90)).await });
        Self { engine, session, inbox, _feeding }
    }

    async fn subscribe(&self, event: &str) -> Deliveries {
        let subscribe = Subscribe { event: name(event), max_in_flight: None, max_bytes_in_flight: None };
        self.session.subscribe(subscribe).await.unwrap()
    }

    fn push(&self, event: &str, block: u64, lease: Option<Duration>) {
        let payload = WirePayload::from_wire("A".repeat(WEIGHT));
        // A block is never 0.
        self.inbox.send(Delivery { payload, lease, ..delivery(event, block + 1) }).unwrap();
    }

    fn handed_back(&self) -> Vec<u64> {
        self.engine.0.lock().unwrap().clone()
    }
}

/// Which one it was.
fn number(next: Result<StreamResponse, Status>) -> u64 {
    next.unwrap().partition_block.cast_unsigned() - 1
}

/// What is in a stream without anybody waiting for it.
fn drain(deliveries: &mut Deliveries) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some(Some(next)) = deliveries.next().now_or_never() {
        found.push(number(next));
    }
    found
}

async fn pass(seconds: u64) {
    for _ in 0..seconds * 4 {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Lease after lease, whatever the engine delivers.
#[tokio::test(start_paused = true)]
async fn of_what_nobody_reads_little_is_held() {
    for multiplexed in [false, true] {
        let fixture = Fixture::new(multiplexed);
        let mut streams = Vec::new();
        for number in 0..100 {
            streams.push(fixture.subscribe(&format!("event/{number}")).await);
        }
        for round in 0..4 {
            for block in 0..1_000 {
                fixture.push(&format!("event/{}", block % 100), round * 1_000 + block, Some(Duration::from_secs(60)));
            }
            pass(70).await;
        }
        // What the streams hold that could still be taken, and what they hold in all.
        let held: usize = streams.iter().map(Deliveries::waiting).sum();
        assert!(held * WEIGHT <= SESSION + STREAM, "{held}");
        assert!(held > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_gets_all_in_order_and_nothing_is_handed_back() {
    let fixture = Fixture::new(false);
    let mut stream = fixture.subscribe("a").await;
    for block in 0..500 {
        fixture.push("a", block, Some(Duration::from_secs(60)));
    }
    for block in 0..500 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(number(stream.next().await.unwrap()), block);
    }
    assert!(fixture.handed_back().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_does_not_hold_up_the_others() {
    let fixture = Fixture::new(false);
    let (mut stalled, mut read) = (fixture.subscribe("stalled").await, fixture.subscribe("read").await);
    for block in 0..200 {
        fixture.push("stalled", block, Some(Duration::from_secs(60)));
    }
    fixture.push("read", 200, None);
    let next = tokio::time::timeout(Duration::from_secs(5), read.next()).await.expect("in time");
    assert_eq!(number(next.unwrap()), 200);
    fixture.push("read", 201, None);
    let next = tokio::time::timeout(Duration::from_millis(100), read.next()).await.expect("nobody waits any more");
    assert_eq!(number(next.unwrap()), 201);
    // Once it is read again, what found no room goes back, to be delivered anew; and nothing is lost or doubled.
    assert!(fixture.handed_back().is_empty());
    let mut found = drain(&mut stalled);
    pass(1).await;
    found.extend(drain(&mut stalled));
    let back = fixture.handed_back();
    assert!(found.len() * WEIGHT <= STREAM && !back.is_empty());
    assert_eq!(found.len() + back.len(), 200);
    assert_eq!(found.into_iter().chain(back).collect::<BTreeSet<_>>(), (0..200).collect());
    fixture.push("stalled", 300, None);
    pass(1).await;
    assert_eq!(drain(&mut stalled), [300]);
}

/// An end of its lease would count as a delivery that the client saw.
#[tokio::test(start_paused = true)]
async fn what_finds_no_room_goes_back_before_its_lease_ends() {
    let fixture = Fixture::new(false);
    let mut stalled = fixture.subscribe("a").await;
    for block in 0..50 {
        fixture.push("a", block, Some(Duration::from_secs(20)));
    }
    pass(19).await;
    let back = fixture.handed_back();
    assert_eq!(back.len(), 50 - drain(&mut stalled).len());
    assert!(back.len() > 40, "{back:?}");
}
