use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::{
    AppId, AppKey, ClientId, Command, EventName, Metadata, Peer, Publish, Settle, Settlement, Subscribe, Timestamp,
    WirePayload,
};

use super::*;
use crate::log::{Log, MemoryLog};
use crate::model::{AdminCommand, EventOptions, KeyHash, Rights};
use crate::state::{Settings, Source, State, Step};
use crate::testing::{FaultyLog, LogFaults};

/// A state whose deliveries go to one session, and where their records are.
struct Fixture {
    state: State,
    records: Arc<Records>,
    peer: Peer,
    sender: Option<Sender>,
    inbox: Inbox,
    sent: usize,
    text: String,
}

impl Fixture {
    async fn new(ack_timeout: Duration) -> Self {
        Self::over(Arc::new(MemoryLog::new()), ack_timeout).await
    }

    async fn over(log: Arc<dyn Log>, ack_timeout: Duration) -> Self {
        let mut state = State::new(Settings::default());
        state.tick(Timestamp::from_millis(1_000_000));
        let records = Arc::new(Records::new(log, 0));
        let (id, name): (_, EventName) = (AppId::from_bytes([1; 32]), "a".parse().unwrap());
        let key = KeyHash::of(&AppKey::parse("key").unwrap());
        let options = EventOptions { ack_timeout: Some(ack_timeout), ..EventOptions::default() };
        let app =
            AdminCommand::CreateApp { id, name: "app".into(), key_hash: key, rights: Rights::ALL, same_name: false };
        for command in [app, AdminCommand::RegisterEvent { name: name.clone(), options }] {
            for change in state.administer(command).unwrap() {
                state.apply(None, &change.record);
            }
        }
        let client_id = ClientId::parse("client").unwrap();
        let (_, app_id) = state.login(&key, client_id.clone()).unwrap();
        let peer = Peer { client_id, app_id };
        let max_in_flight = NonZeroU32::new(1_000);
        let subscribe = Subscribe { event: name, max_in_flight, max_bytes_in_flight: None };
        state.decide(&peer, Command::Subscribe(subscribe)).unwrap();
        let (sender, inbox) = channel(&records);
        Self { state, records, peer, sender: Some(sender), inbox, sent: 0, text: "e30=".into() }
    }

    /// Publishes an event and gives it out.
    async fn send(&mut self) {
        let publish = Publish {
            event: "a".parse().unwrap(),
            recipient: self.peer.app_id,
            payload: WirePayload::from_wire(self.text.clone()),
            metadata: Metadata::default(),
            payload_metadata: None,
            idempotency_key: None,
        };
        let Step::Commit(changes) = self.state.decide(&self.peer, Command::Publish(publish)).unwrap() else { panic!() };
        let batch: Vec<_> = changes.iter().map(|change| change.record.clone()).collect();
        let positions = self.records.append(&batch).await.unwrap();
        for (at, record) in positions.into_iter().zip(&batch) {
            self.state.apply(Some(at), record);
        }
        self.give_out();
    }

    fn give_out(&mut self) {
        for outgoing in self.state.dispatch(usize::MAX) {
            self.sent += 1;
            assert!(self.sender.as_ref().unwrap().send(outgoing));
        }
    }

    /// Lets time pass, for the leases too.
    async fn pass(&mut self, ms: u64) {
        tokio::time::advance(Duration::from_millis(ms)).await;
        let now = self.state.next_due().unwrap_or_default();
        self.state.tick(now.after(Duration::from_millis(ms)));
        for change in self.state.pending(usize::MAX) {
            self.state.apply(None, &change.record);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_begins_when_its_delivery_is_taken() {
    let mut fixture = Fixture::new(Duration::from_secs(60)).await;
    fixture.send().await;
    tokio::time::advance(Duration::from_secs(20)).await;
    fixture.send().await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(fixture.inbox.next().await.unwrap().lease, seconds(60));
    assert_eq!(fixture.inbox.next().await.unwrap().lease, seconds(60));
    fixture.send().await;
    // The next is somebody else's.
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(fixture.inbox.next().now_or_never().is_none());
    fixture.sender = None;
    assert!(fixture.inbox.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_back_is_not_sent() {
    let mut fixture = Fixture::new(Duration::from_secs(60)).await;
    fixture.send().await;
    let release = Command::Release { event: "a".parse().unwrap() };
    fixture.state.decide(&fixture.peer, release).unwrap();
    assert!(fixture.inbox.next().now_or_never().is_none(), "it is nobody's now");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_takes_does_not_add_up() {
    let mut fixture = Fixture::new(Duration::from_millis(100)).await;
    for _ in 0..100 {
        fixture.send().await;
    }
    // Leases end, and the same events come again, while nobody reads.
    for _ in 0..12 {
        fixture.pass(100).await;
        fixture.give_out();
    }
    assert!(fixture.sent > 1_000, "{}", fixture.sent);
    let waiting = fixture.inbox.shared.lock().deliveries.len();
    assert!(waiting <= MANY + 100, "{waiting}");
}

/// Few, but large: what is in memory only is held by them alone once it has expired.
#[tokio::test(start_paused = true)]
async fn references_to_what_is_over_weigh_no_more_than_those_to_what_is_not() {
    let mut fixture = Fixture::new(Duration::from_secs(1)).await;
    fixture.text = "A".repeat(1 << 20);
    for _ in 0..3 {
        fixture.send().await;
    }
    for _ in 0..12 {
        fixture.pass(1_000).await;
        fixture.give_out();
    }
    assert!(fixture.sent >= 20, "{}", fixture.sent);
    let waiting = fixture.inbox.shared.lock();
    let held: u64 = waiting.deliveries.iter().map(|(_, delivery)| delivery.size()).sum();
    assert!(held <= 8 << 20, "{held}");
    assert_eq!(held, waiting.bytes);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_read_ahead_than_there_is_room_for() {
    let mut fixture = Fixture::new(Duration::from_secs(60)).await;
    for _ in 0..READS.0 + 10 {
        fixture.send().await;
    }
    assert!(fixture.inbox.next().await.is_some());
    assert_eq!(fixture.inbox.reading.len(), READS.0 - 1);
    assert_eq!(fixture.inbox.bytes, 6 * (READS.0 as u64 - 1));
    for _ in 1..READS.0 + 10 {
        assert!(fixture.inbox.next().await.is_some());
    }
    assert_eq!((fixture.inbox.bytes, fixture.inbox.reading.len()), (0, 0));
}

/// Far more often than an event may be delivered.
#[tokio::test(start_paused = true)]
async fn what_was_never_handed_over_was_not_delivered() {
    let mut fixture = Fixture::new(Duration::from_millis(100)).await;
    fixture.send().await;
    for _ in 0..40 {
        fixture.pass(100).await;
        fixture.give_out();
    }
    assert!(fixture.sent >= 40, "{}", fixture.sent);
    assert_eq!(fixture.inbox.next().await.unwrap().attempt, Some(1));
    // This one was seen.
    fixture.pass(100).await;
    fixture.give_out();
    assert_eq!(fixture.inbox.next().await.unwrap().attempt, Some(2));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_was_not_delivered() {
    let faults = LogFaults::default();
    let log = FaultyLog { inner: Arc::new(MemoryLog::new()), faults: faults.clone(), crashed: Arc::default() };
    let mut fixture = Fixture::over(Arc::new(log), Duration::from_millis(100)).await;
    faults.fail_reads(40);
    fixture.send().await;
    for _ in 0..40 {
        while !fixture.inbox.reading.is_empty() || fixture.inbox.shared.lock().deliveries.front().is_some() {
            assert!(tokio::time::timeout(Duration::ZERO, fixture.inbox.next()).await.is_err());
        }
        fixture.pass(100).await;
        fixture.give_out();
    }
    assert_eq!(fixture.inbox.next().await.unwrap().attempt, Some(1));
}

/// A place in the log where something else lies is damage like one where nothing does.
#[tokio::test(start_paused = true)]
async fn another_record_in_its_place_is_told() {
    let mut fixture = Fixture::new(Duration::from_secs(60)).await;
    fixture.send().await;
    fixture.send().await;
    let mut waiting = std::mem::take(&mut fixture.inbox.shared.lock().deliveries);
    let (second, first) = (waiting.pop_back().unwrap().1, waiting.pop_front().unwrap().1);
    let record = fixture.records.read(second.source()).await.unwrap().unwrap();
    assert!(first.delivery(&record).is_none());
    let records = Arc::new(Records::new(Arc::new(MemoryLog::new()), 0));
    // The second one's record is where the first one's would be.
    records.append(&[record]).await.unwrap();
    let Source::Log(at) = first.source() else { panic!() };
    assert!(records.read_at(*at).await.unwrap().is_some());
    assert!(read(records.clone(), Instant::now(), first).await.record.is_none());
    assert_eq!(records.take_lost().len(), 1);
}

/// More waits than a line carries in a lease's time: what is sent still arrives, and is settled, before its lease is over.
#[tokio::test(start_paused = true)]
async fn over_a_slow_line_every_event_arrives_within_its_lease() {
    const COUNT: u64 = 200;
    /// What one event takes of the line, and how many are on their way.
    const EACH: Duration = Duration::from_millis(360);
    const WAY: usize = 4;
    let step = Duration::from_millis(20);
    let mut fixture = Fixture::new(Duration::from_secs(8)).await;
    fixture.text = "A".repeat(30_000);
    for _ in 0..COUNT {
        fixture.send().await;
    }
    let (begun, mut free) = (Instant::now(), Instant::now());
    let (mut now, mut acked, mut line) = (Timestamp::from_millis(1_000_000), 0, VecDeque::new());
    while acked < COUNT {
        while line.len() < WAY
            && let Some(Some(delivery)) = fixture.inbox.next().now_or_never()
        {
            free = free.max(Instant::now()) + EACH;
            line.push_back((free, delivery));
        }
        while let Some((_, delivery)) = line.pop_front_if(|(arrives, _)| *arrives <= Instant::now()) {
            assert_eq!(delivery.attempt, Some(1), "it was sent before");
            let (id, block) = (delivery.id, Some(delivery.block));
            let settle = Settle { id, event: None, block, how: Settlement::Ack };
            let step = fixture.state.decide(&fixture.peer, Command::Settle(settle));
            let Ok(Step::Commit(changes)) = step else { panic!("after {:?}: {step:?}", begun.elapsed()) };
            changes.iter().for_each(|change| _ = fixture.state.apply(None, &change.record));
            acked += 1;
        }
        tokio::time::advance(step).await;
        now = now.after(step);
        fixture.state.tick(now);
        assert!(fixture.state.pending(usize::MAX).is_empty(), "a delivery came to nothing");
        fixture.give_out();
    }
    let least = EACH * COUNT as u32;
    assert!(begun.elapsed() < least * 11 / 10, "the line was idle: {:?} of {least:?}", begun.elapsed());
}
