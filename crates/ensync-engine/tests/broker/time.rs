//! Clocks that are set, and an engine that stands still.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::{Command, Delay, ErrorKind, IdempotencyKey, Publish, Reply, Service, Session, Settlement, Timestamp};
use ensync_engine::{Broker, BrokerOptions, Clock, EventOptions, MemoryLog, Rate};
use tokio::sync::watch;

use super::{SHOP, WAREHOUSE, consumer, create_apps, event, login, publish, settle, waiting};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// When the tests begin, by a clock that is right.
const NOON: u64 = 1_790_000_000_000;

/// A time of day that a test sets, and a time that passes when the test says so.
#[derive(Debug)]
struct Hands {
    wall: AtomicU64,
    elapsed: watch::Sender<Duration>,
    runs_alone: bool,
}

impl Hands {
    fn at(wall: u64) -> Arc<Self> {
        Arc::new(Self { wall: wall.into(), elapsed: watch::Sender::new(Duration::ZERO), runs_alone: false })
    }

    fn pass(&self, time: Duration) {
        self.set(time.as_millis() as i64);
        self.elapsed.send_modify(|elapsed| *elapsed += time);
    }

    /// Sets the time of day.
    fn set(&self, by_ms: i64) {
        self.wall.fetch_add(by_ms as u64, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for Hands {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.wall.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        *self.elapsed.borrow()
    }

    async fn reach(&self, elapsed: Duration) {
        let _ = self.elapsed.subscribe().wait_for(|now| *now >= elapsed).await;
    }

    fn standstill(&self) -> Option<Duration> {
        self.runs_alone.then_some(Duration::from_secs(1))
    }
}

async fn start(clock: &Arc<Hands>, log: &MemoryLog) -> Broker {
    let mut options = BrokerOptions { dev: true, clock: clock.clone(), ..BrokerOptions::default() };
    options.limits.publish_rate = Some(Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::new(20).unwrap() });
    Broker::start(options, log.clone()).await.unwrap()
}

/// A broker at noon, or what its clock takes for that, whose events live for an hour.
async fn broker(clock: &Arc<Hands>, log: &MemoryLog) -> Broker {
    let broker = start(clock, log).await;
    create_apps(&broker).await;
    let options = EventOptions { ttl: Some(HOUR), ..EventOptions::default() };
    broker.register_event(event(), options).await.unwrap();
    broker
}

async fn once(broker: &Broker, session: &Session) -> String {
    let idempotency_key = Some(IdempotencyKey::parse("once").unwrap());
    let publish = Publish { idempotency_key, ..publish("b25l") };
    match broker.handle(&session.peer, Command::Publish(publish)).await.unwrap() {
        Reply::Published { id } => id.as_str().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// Lives through leases, defers, deduplication, rates and times to live, while `set` does something to the time of day.
async fn live(broker: &Broker, clock: &Hands, set: impl Fn()) {
    let (shop, mut warehouse) = (login(broker, SHOP).await, consumer(broker, None).await);
    let first = once(broker, &shop).await;
    assert_eq!(waiting(broker, &mut warehouse).await.len(), 1);
    set();
    assert_eq!(once(broker, &shop).await, first, "a repetition within the window");
    clock.pass(Duration::from_millis(59_999));
    assert_eq!(waiting(broker, &mut warehouse).await, [], "the lease has not ended");
    set();
    clock.pass(Duration::from_millis(1));
    let again = waiting(broker, &mut warehouse).await;
    assert_eq!(again.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [Some(2)]);

    let how = Settlement::Defer { delay: Delay::from_millis(600_000).unwrap(), priority: 0, reason: String::new() };
    settle(broker, &warehouse.peer, &again[0], how).await.unwrap();
    set();
    clock.pass(Duration::from_millis(599_999));
    assert_eq!(waiting(broker, &mut warehouse).await, [], "it was deferred for longer");
    clock.pass(Duration::from_millis(1));
    let back = waiting(broker, &mut warehouse).await;
    assert_eq!(back.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [Some(3)]);
    settle(broker, &warehouse.peer, &back[0], Settlement::Ack).await.unwrap();
    let second = once(broker, &shop).await;
    assert_ne!(second, first, "the window is over");
    let found = waiting(broker, &mut warehouse).await;
    settle(broker, &warehouse.peer, &found[0], Settlement::Ack).await.unwrap();
    broker.logout(&warehouse.peer).await;

    // Each event costs what a second brings, and twenty may come at once.
    for _ in 0..19 {
        broker.handle(&shop.peer, Command::Publish(publish("b25l"))).await.unwrap();
    }
    set();
    let refused = broker.handle(&shop.peer, Command::Publish(publish("b25l"))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
    clock.pass(Duration::from_secs(1));
    broker.handle(&shop.peer, Command::Publish(publish("b25l"))).await.unwrap();
    let ready = async || broker.queue(event(), WAREHOUSE).await.unwrap().unwrap().ready;
    set();
    clock.pass(HOUR - Duration::from_secs(2));
    assert_eq!(ready().await, 20, "their time is not over");
    clock.pass(Duration::from_secs(2));
    broker.handle(&shop.peer, Command::Heartbeat).await.unwrap();
    assert_eq!(ready().await, 0, "now it is");
}

#[tokio::test(start_paused = true)]
async fn a_time_of_day_that_is_set_changes_nothing() {
    let (hour, day) = (HOUR.as_millis() as i64, DAY.as_millis() as i64);
    for steps in [vec![0], vec![-hour], vec![hour], vec![day, -day], vec![-365 * day], vec![day, -2 * day, day]] {
        let (clock, log) = (Hands::at(NOON), MemoryLog::new());
        let broker = broker(&clock, &log).await;
        let step = AtomicU64::new(0);
        live(&broker, &clock, || {
            clock.set(steps[step.fetch_add(1, Ordering::SeqCst) as usize % steps.len()]);
        })
        .await;
        broker.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_wrong_before_a_restart_or_is_wrong_after_it_holds_nothing_up() {
    let day = DAY.as_millis() as u64;
    for (before, after) in [(NOON + day, NOON), (NOON, NOON - day), (NOON + 365 * day, NOON), (NOON, 0)] {
        let (clock, log) = (Hands::at(before), MemoryLog::new());
        let first_run = broker(&clock, &log).await;
        let (shop, mut warehouse) = (login(&first_run, SHOP).await, consumer(&first_run, None).await);
        let first = once(&first_run, &shop).await;
        let delivery = waiting(&first_run, &mut warehouse).await.remove(0);
        let how = Settlement::Defer { delay: Delay::from_millis(60_000).unwrap(), priority: 0, reason: String::new() };
        settle(&first_run, &warehouse.peer, &delivery, how).await.unwrap();
        first_run.shutdown().await;

        let clock = Hands::at(after);
        let broker = start(&clock, &log.reopen()).await;
        let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
        assert_eq!(once(&broker, &shop).await, first);
        clock.pass(Duration::from_secs(59));
        assert_eq!(waiting(&broker, &mut warehouse).await, []);
        clock.pass(Duration::from_secs(1));
        let back = waiting(&broker, &mut warehouse).await.remove(0);
        assert_eq!(back.id.as_str(), first);
        settle(&broker, &warehouse.peer, &back, Settlement::Ack).await.unwrap();
        clock.pass(Duration::from_secs(60));
        broker.logout(&warehouse.peer).await;
        live(&broker, &clock, || ()).await;
        broker.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn leases_last_longer_by_the_time_that_the_engine_stood_still() {
    let hands = Hands { wall: NOON.into(), elapsed: watch::Sender::new(Duration::ZERO), runs_alone: true };
    let (clock, log) = (Arc::new(hands), MemoryLog::new());
    let broker = broker(&clock, &log).await;
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    for _ in 0..2 {
        broker.handle(&shop.peer, Command::Publish(publish("b25l"))).await.unwrap();
    }
    let held = waiting(&broker, &mut warehouse).await;
    // Nobody could look at what clients sent meanwhile, but for the second that is usual.
    clock.pass(Duration::from_secs(90));
    settle(&broker, &warehouse.peer, &held[0], Settlement::Ack).await.unwrap();
    for half_seconds in 0.. {
        let again = waiting(&broker, &mut warehouse).await;
        if let [again] = &again[..] {
            assert_eq!((&again.id, again.attempt, half_seconds), (&held[1].id, Some(2), 2 * 59));
            break;
        }
        assert!(half_seconds < 200, "the other one comes again");
        clock.pass(Duration::from_millis(500));
    }
}

/// Every round takes longer than is usual then, and clients can settle in each.
#[tokio::test(start_paused = true)]
async fn leases_end_on_a_disk_that_is_slow_for_good() {
    let hands = Hands { wall: NOON.into(), elapsed: watch::Sender::new(Duration::ZERO), runs_alone: true };
    let (clock, log) = (Arc::new(hands), MemoryLog::new());
    let broker = broker(&clock, &log).await;
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    broker.handle(&shop.peer, Command::Publish(publish("b25l"))).await.unwrap();
    assert_eq!(waiting(&broker, &mut warehouse).await.len(), 1);
    let mut rounds = 0;
    while waiting(&broker, &mut warehouse).await.is_empty() {
        rounds += 1;
        assert!(rounds < 100, "the lease of a minute has not ended");
        clock.pass(Duration::from_millis(1_100));
    }
    assert!(rounds >= 55, "{rounds}");
}
