//! A reader that is slower than events come, and an engine that tells no leases and has no flow control.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensync_client::core::{Command, ErrorKind, Settlement};
use futures::StreamExt;
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted, delivery};

const SECOND: Duration = Duration::from_secs(1);
/// What it tells nobody.
const LEASE: Duration = Duration::from_secs(5);
const EVENTS: u64 = 60;

#[derive(Default)]
struct Backlog {
    /// What is not settled, and its last delivery: the block, and when the engine takes it back.
    waiting: BTreeMap<u64, Option<(u64, Instant)>>,
    blocks: u64,
    paused: bool,
    ignores_pause: bool,
    /// It says so in words of its own.
    in_words: bool,
    settled: u64,
    refused: u64,
}

impl Backlog {
    fn settle(&mut self, id: &str, block: Option<u64>) -> Answer {
        let n: u64 = id[1..].parse().unwrap();
        let current = self.waiting.get(&n).copied().flatten();
        match current.filter(|(current, until)| Some(*current) == block && Instant::now() < *until) {
            Some(_) => {
                self.waiting.remove(&n);
                self.settled += 1;
                Answer::Done
            }
            None => {
                self.refused += 1;
                if self.in_words {
                    Answer::Says("event is not in flight")
                } else {
                    Answer::No(ErrorKind::StaleDelivery)
                }
            }
        }
    }

    /// What is to be delivered now, oldest first, with its block.
    fn due(&mut self) -> Vec<(u64, u64)> {
        if self.paused && !self.ignores_pause {
            return Vec::new();
        }
        let (now, mut due) = (Instant::now(), Vec::new());
        for (n, delivered) in &mut self.waiting {
            if delivered.is_none_or(|(_, until)| until <= now) {
                self.blocks += 1;
                *delivered = Some((self.blocks, now + LEASE));
                due.push((*n, self.blocks));
            }
        }
        due
    }
}

fn engine(backlog: Arc<Mutex<Backlog>>) -> Arc<Scripted> {
    let of_engine = backlog.clone();
    let engine = Scripted::with(&[], move |_, command| {
        let mut backlog = of_engine.lock().unwrap();
        match command {
            Command::Pause { .. } => backlog.paused = true,
            Command::Continue { .. } => backlog.paused = false,
            Command::Settle(settle) if settle.how == Settlement::Ack => {
                return backlog.settle(settle.id.as_str(), settle.block.map(|block| block.as_u64()));
            }
            _ => {}
        }
        Answer::Done
    });
    let delivers = engine.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SECOND / 50).await;
            for (n, block) in backlog.lock().unwrap().due() {
                delivers.push(delivery("a/b", &format!("e{n}"), block));
            }
        }
    });
    engine
}

/// Each event is settled, if to handle one takes less than the engine's lease of one.
#[tokio::test(start_paused = true)]
async fn what_waited_too_long_is_dropped_so_that_the_rest_is_settled_in_time() {
    // One that is not paused sends each anew whenever its lease is over, so it is chance how old the one is that comes out.
    for (in_words, (takes, ignores_pause, leases, in_vain)) in [false, true].into_iter().flat_map(|in_words| {
        [(2, false, 1, 1), (4, false, 2, 2), (2, true, 1, 1), (4, true, 6, 5)].map(|case| (in_words, case))
    }) {
        let backlog = Arc::new(Mutex::new(Backlog { ignores_pause, in_words, ..Backlog::default() }));
        let engine = engine(backlog.clone());
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").max_in_flight(4).await.unwrap();
        backlog.lock().unwrap().waiting = (0..EVENTS).map(|n| (n, None)).collect();
        let begun = Instant::now();
        while backlog.lock().unwrap().settled < EVENTS {
            let event = orders.next().await.unwrap().unwrap();
            tokio::time::sleep(takes * SECOND).await;
            // It may be another's by now; then it comes again.
            _ = event.ack().await;
            let backlog = backlog.lock().unwrap();
            assert!(
                begun.elapsed() < EVENTS as u32 * leases * LEASE,
                "{takes} s each, ignores pauses: {ignores_pause}: {} of {EVENTS} settled, {} too late, in {:?}",
                backlog.settled,
                backlog.refused,
                begun.elapsed()
            );
        }
        let refused = backlog.lock().unwrap().refused;
        println!("{takes} s each, ignores pauses: {ignores_pause}: {refused} too late, in {:?}", begun.elapsed());
        assert!(refused <= in_vain * EVENTS, "{takes} s each: {refused} were handled in vain");
        client.close().await.unwrap();
    }
}

/// What is refused as stale for another reason shows nothing of leases.
#[tokio::test(start_paused = true)]
async fn refusals_that_have_another_cause_have_nothing_dropped() {
    for link_ends in [false, true] {
        let mut acked = std::collections::BTreeSet::new();
        let engine = Scripted::with(&[], move |_, command| match command {
            Command::Settle(settle) if !acked.insert(settle.id.clone()) => Answer::No(ErrorKind::StaleDelivery),
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap();
        for id in ["e1", "e2"] {
            engine.push(delivery("a/b", id, 1));
            let event = orders.next().await.unwrap().unwrap();
            if link_ends {
                engine.end(engine.links(), Some(ErrorKind::Interrupted));
                event.lease_lost().await;
            } else {
                event.ack().await.unwrap();
            }
            assert_eq!(event.ack().await.unwrap_err().kind(), ErrorKind::StaleDelivery, "{link_ends}");
            tokio::time::sleep(10 * SECOND).await;
        }
        engine.push(delivery("a/b", "e3", 1));
        tokio::time::sleep(60 * SECOND).await;
        let event = tokio::time::timeout(SECOND, orders.next()).await.expect("it was dropped").unwrap().unwrap();
        assert_eq!(event.id().as_str(), "e3");
    }
}
