//! Publishers and consumers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ensync_sdk::{AppId, Client, Event};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::engine::Process;
use crate::ledger::Ledger;

/// 1 KiB of payload, with what is around it.
const FILL: usize = 1_000;
/// How many events may be unsettled before publishers at full speed wait.
const OPEN: u64 = 2_000;

#[derive(Serialize, Deserialize)]
struct Payload {
    n: u64,
    fill: String,
}

/// What consumers of a queue do with what they get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Habit {
    Ack,
    /// Defer every eighth event by a second when it comes first.
    Defer,
    /// Discard every sixteenth.
    Discard,
    /// Go away with unsettled events, and come back.
    Flap,
}

pub(crate) struct Queue {
    pub(crate) name: &'static str,
    pub(crate) habit: Habit,
    pub(crate) ledger: Ledger,
}

/// How fast publishers go: events per second and publisher, or as fast as they can; and whether at all.
pub(crate) struct Pace {
    /// Nanoseconds from one publish to the next; 0 is full speed.
    gap: AtomicU64,
    stop: AtomicBool,
}

impl Pace {
    pub(crate) fn full() -> Arc<Self> {
        Arc::new(Self { gap: AtomicU64::new(0), stop: AtomicBool::new(false) })
    }

    /// From now on so many events per second and publisher.
    pub(crate) fn per_second(&self, rate: f64) {
        self.gap.store((1e9 / rate.max(0.1)) as u64, Ordering::Relaxed);
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Publishes until it is told to stop.
pub(crate) async fn publish(client: Client, to: AppId, queues: Arc<[Queue]>, turn: usize, pace: Arc<Pace>) {
    let fill = "x".repeat(FILL);
    let (mut gap, mut ticks) = (0, interval(Duration::from_secs(1)));
    for turn in turn.. {
        // The last queue's clients mostly come and go: it gets little, so that they do not set the pace.
        let queue = &queues[if turn % 16 == 0 { queues.len() - 1 } else { turn % (queues.len() - 1) }];
        if pace.stop.load(Ordering::Relaxed) {
            return;
        }
        let wanted = pace.gap.load(Ordering::Relaxed);
        if wanted == 0 {
            while queues.iter().map(|queue| queue.ledger.open()).sum::<u64>() > OPEN {
                sleep(Duration::from_millis(2)).await;
            }
        } else {
            if wanted != gap {
                gap = wanted;
                ticks = interval(Duration::from_nanos(gap));
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            }
            ticks.tick().await;
        }
        let n = queue.ledger.number();
        client.publish(queue.name, &Payload { n, fill: fill.clone() }).to(to).await.unwrap();
        queue.ledger.accept(n);
    }
}

/// Settles what comes in a queue, until the client is closed.
pub(crate) async fn consume(client: Client, queues: Arc<[Queue]>, index: usize) {
    let events = client.subscribe(queues[index].name).await.unwrap();
    let settle = |event: ensync_sdk::Result<Event>| {
        let queues = queues.clone();
        async move { settle(event.unwrap(), &queues[index]).await }
    };
    events.for_each_concurrent(64, settle).await;
}

async fn settle(event: Event, queue: &Queue) {
    let (ledger, n) = (&queue.ledger, event.payload::<Payload>().unwrap().n);
    let attempt = event.attempt().unwrap();
    ledger.receive(n, attempt);
    match queue.habit {
        Habit::Defer if n.is_multiple_of(8) && attempt == 1 => {
            event.defer(Duration::from_secs(1), "later").await.unwrap();
            ledger.deferred.fetch_add(1, Ordering::Relaxed);
        }
        Habit::Discard if n.is_multiple_of(16) && !ledger.is_revived(n) => {
            event.discard("of no use").await.unwrap();
            ledger.discard(event.id().to_string(), n);
        }
        _ => {
            event.ack().await.unwrap();
            ledger.settle(n);
        }
    }
}

/// Takes up to 200 events, settles every other one, and goes away with the rest; again and again, until it is told to stop. What
/// it leaves comes back to it.
pub(crate) async fn flap(process: Arc<Process>, queues: Arc<[Queue]>, index: usize, stop: Arc<AtomicBool>) {
    let ledger = &queues[index].ledger;
    for round in 0.. {
        let client = process.client("stock", &process.urls[round % process.urls.len()]).await;
        let mut events = client.subscribe(queues[index].name).await.unwrap();
        let finish = stop.load(Ordering::Relaxed);
        let mut held = Vec::new();
        for seen in 0.. {
            let next = tokio::time::timeout(Duration::from_millis(200), events.next()).await;
            let Ok(Some(event)) = next else { break };
            let event = event.unwrap();
            let n = event.payload::<Payload>().unwrap().n;
            ledger.receive(n, event.attempt().unwrap());
            if finish || n % 2 == round as u64 % 2 || event.attempt().unwrap() > 4 {
                event.ack().await.unwrap();
                ledger.settle(n);
            } else {
                held.push(event);
            }
            if seen == 200 && !finish {
                break;
            }
        }
        if round % 4 < 2 {
            client.close().await.unwrap();
        }
        drop((held, events, client));
        if finish && ledger.open() == 0 {
            return;
        }
    }
}
