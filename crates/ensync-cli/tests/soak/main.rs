//! The engine under a mixed load for as long as one likes, at half of what it can do at most: its memory and its files stop
//! growing, and nothing is lost.
//!
//! A few seconds, unless `ENSYNC_SOAK` says how many. Half an hour, with figures every five minutes:
//!
//! ```text
//! ENSYNC_SOAK=1800 cargo test --release -p ensync-cli --test soak -- --nocapture
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may panic"
)]

mod admin;
#[path = "../common/mod.rs"]
mod common;
mod engine;
mod ledger;
mod load;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::{Process, Sizes};
use load::{Habit, Pace, Queue};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Per transport.
const PUBLISHERS: usize = 16;
/// How many lines of figures are printed.
const MARKS: u32 = 6;
/// A bound against hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the load goes on.
fn duration() -> Duration {
    Duration::from_secs(
        std::env::var("ENSYNC_SOAK").ok().map_or(6, |seconds| seconds.parse().expect("ENSYNC_SOAK: seconds")),
    )
}

/// The most that was seen in a part of the run.
#[derive(Clone, Copy, Default)]
struct Most {
    memory: u64,
    disk: u64,
}

fn settled(queues: &[Queue]) -> u64 {
    queues.iter().map(|queue| queue.ledger.settled_count.load(Ordering::Relaxed)).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_files_stop_growing_and_nothing_is_lost() {
    let duration = duration();
    let sizes = Sizes::for_run(duration);
    let queues: Arc<[Queue]> = [
        ("soak/plain", Habit::Ack),
        ("soak/deferred", Habit::Defer),
        ("soak/discarded", Habit::Discard),
        ("soak/flapping", Habit::Flap),
    ]
    .map(|(name, habit)| Queue { name, habit, ledger: Default::default() })
    .into();
    let names: Vec<_> = queues.iter().map(|queue| queue.name).collect();
    let process = Arc::new(Process::start(&sizes, &names, (duration / 10).min(Duration::from_secs(120))));
    let to: ensync_sdk::AppId = process.keys["stock"]["ENSYNC_APP_ID"].parse().unwrap();

    let (mut consumers, mut publishers, mut others) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    let mut readers = Vec::new();
    let finishing = Arc::new(AtomicBool::new(false));
    for (index, queue) in queues.iter().enumerate() {
        if queue.habit == Habit::Flap {
            others.spawn(load::flap(process.clone(), queues.clone(), index, finishing.clone()));
            continue;
        }
        for url in &process.urls {
            let client = process.client("stock", url).await;
            readers.push(client.clone());
            consumers.spawn(load::consume(client, queues.clone(), index));
        }
    }
    others.spawn(admin::look_after(process.clone(), queues.clone(), finishing.clone()));
    let pace = Pace::full();
    for url in &process.urls {
        let client = process.client("shop", url).await;
        for turn in 0..PUBLISHERS {
            publishers.spawn(load::publish(client.clone(), to, queues.clone(), turn, pace.clone()));
        }
    }

    // The most it can do: whole messages, from the publish to the answer of the settlement.
    let measure = (duration / 20).clamp(Duration::from_secs(2), Duration::from_secs(30));
    sleep(measure / 2).await;
    let (begun, before) = (Instant::now(), settled(&queues));
    sleep(measure).await;
    let most = (settled(&queues) - before) as f64 / begun.elapsed().as_secs_f64();
    pace.per_second(most / 2.0 / (2 * PUBLISHERS) as f64);
    println!("at most {most:.0} whole messages/s; going on with {:.0}/s for {duration:?}", most / 2.0);

    println!(
        "{:>7} {:>10} {:>10} {:>12} {:>10} {:>8}",
        "time", "RSS MiB", "disk MiB", "published/s", "settled/s", "open"
    );
    let (begun, step) = (Instant::now(), (duration / 600).max(Duration::from_millis(50)));
    let (mut halves, mut mark, mut counted) = ([Most::default(); 2], 1, (begun, 0, 0));
    let accepted = || queues.iter().map(|queue| queue.ledger.accepted_count.load(Ordering::Relaxed)).sum::<u64>();
    counted.1 = accepted();
    counted.2 = settled(&queues);
    while begun.elapsed() < duration {
        sleep(step).await;
        let failed = [consumers.try_join_next(), publishers.try_join_next(), others.try_join_next()];
        if let Some(ended) = failed.into_iter().flatten().next() {
            panic!("a task of the load ended: {ended:?}; the engine says:\n{}", process.log());
        }
        let half = &mut halves[usize::from(begun.elapsed() > duration / 2)];
        let (memory, disk) = (process.memory().unwrap_or(0), process.disk());
        (half.memory, half.disk) = (half.memory.max(memory), half.disk.max(disk));
        if begun.elapsed() >= duration * mark / MARKS {
            let (time, accepted, settled) = (Instant::now(), accepted(), settled(&queues));
            let per_second = |n: u64| n as f64 / (time - counted.0).as_secs_f64();
            println!(
                "{:>6.0}s {:>10.1} {:>10.1} {:>12.0} {:>10.0} {:>8}",
                begun.elapsed().as_secs_f64(),
                memory as f64 / f64::from(1 << 20),
                disk as f64 / f64::from(1 << 20),
                per_second(accepted - counted.1),
                per_second(settled - counted.2),
                accepted.saturating_sub(settled),
            );
            counted = (time, accepted, settled);
            mark += 1;
        }
    }

    // Everything that was accepted is settled in the end.
    pace.stop();
    timeout(PATIENCE, async { while publishers.join_next().await.is_some_and(|ended| ended.is_ok()) {} })
        .await
        .unwrap();
    finishing.store(true, Ordering::Relaxed);
    let rest = async {
        while queues.iter().any(|queue| queue.ledger.open() > 0) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let all = timeout(PATIENCE, rest).await;
    for queue in &*queues {
        let ledger = &queue.ledger;
        let count = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        let lost = ledger.lost();
        println!(
            "{}: {} accepted, {} settled, {} deferred, {} discarded, {} came again, {} lost",
            queue.name,
            count(&ledger.accepted_count),
            count(&ledger.settled_count),
            count(&ledger.deferred),
            count(&ledger.discarded),
            count(&ledger.again),
            lost.len()
        );
        assert!(lost.is_empty() && all.is_ok(), "lost in {}: {lost:?}", queue.name);
        assert!(count(&ledger.accepted_count) > 0);
    }

    let [first, second] = halves;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "the most in each half: RSS {:.1} and {:.1} MiB, disk {:.1} and {:.1} MiB (bound {:.1})",
        mib(first.memory),
        mib(second.memory),
        mib(first.disk),
        mib(second.disk),
        mib(sizes.bound())
    );
    if second.memory == 0 {
        println!("this system does not tell how much memory a process has: not checked");
    }
    assert!(second.memory <= first.memory + first.memory / 4 + (32 << 20), "memory goes on growing");
    assert!(second.disk <= sizes.bound(), "the log goes on growing");

    for reader in readers {
        reader.close().await.unwrap();
    }
    timeout(PATIENCE, async { while consumers.join_next().await.is_some_and(|ended| ended.is_ok()) {} }).await.unwrap();
    timeout(PATIENCE, async { while others.join_next().await.is_some_and(|ended| ended.is_ok()) {} }).await.unwrap();
    let process = Arc::into_inner(process).expect("nobody else has it");
    let (status, log) = process.terminate();
    assert!(status.success(), "{status}: {log}");
    assert!(!log.contains("ERROR"), "{log}");
}
