//! The session logic under seeded faults, on virtual time and a virtual network, against a real broker.
//!
//! A seed decides everything: what is published and how it is read, how long each word travels, what breaks and when. The same
//! seed gives the same run. `cargo test` runs 1,000 of them; `ENSYNC_SEEDS=100000` runs that many, `ENSYNC_SEED=7` one, with all that
//! happened in it.
//!
//! - `network`: the way to the broker, which can be cut, stalled, slowed and refused;
//! - `direct`, `web_socket`: links over it, one that answers each call by itself, and the WebSocket client as it is;
//! - `engine`: what is done with a command, by good engines and by others;
//! - `ledger`: what was seen, and what must hold;
//! - `world`: the engine, its restarts, and the faults;
//! - `people`: who publishes and who reads.
//!
//! `faults/` holds changes to the client that this must find: see the page there.

mod direct;
mod engine;
mod ledger;
#[path = "../../crates/ensync-client/tests/session/link.rs"]
mod link;
mod network;
mod people;
mod web_socket;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use ledger::Ledger;

/// Runs one seed to its end; gives what happened.
fn run(seed: u64) -> std::sync::Arc<Ledger> {
    let ledger = Ledger::new(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(world::live(seed, ledger.clone()));
        assert_eq!(ledger.broken(), Vec::<String>::new());
    }));
    if let Err(cause) = outcome {
        println!("{}", ledger.history());
        println!("seed {seed} failed; again: ENSYNC_SEED={seed} cargo test -p ensync-tests --test simulation");
        std::panic::resume_unwind(cause);
    }
    ledger
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// If one seed fails, no other is begun.
struct StopAll<'a>(&'a AtomicU64);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(u64::MAX / 2, Ordering::Relaxed);
        }
    }
}

#[test]
fn nothing_is_lost_or_doubled_whatever_breaks() {
    if let Some(seed) = number("ENSYNC_SEED") {
        // With `RUST_LOG=debug` also what client and engine say of it.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
        println!("{}", run(seed).history());
        return;
    }
    let (count, next) = (number("ENSYNC_SEEDS").unwrap_or(1_000), AtomicU64::new(0));
    let sums = std::sync::Mutex::new(ledger::Sums::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |n| n.get().min(8)) {
            scope.spawn(|| {
                let _stop = StopAll(&next);
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // Far above if another failed.
                    if seed >= count {
                        return;
                    }
                    let ledger = run(seed);
                    sums.lock().unwrap().add(&ledger);
                }
            });
        }
    });
    let sums = sums.into_inner().unwrap();
    println!("{count} seeds: {sums}");
    if count >= 100 {
        sums.check(count);
    }
}

#[test]
fn a_seed_repeats() {
    for seed in 0..20 {
        let (first, second) = (run(seed).history(), run(seed).history());
        let differs = first.lines().zip(second.lines()).find(|(first, second)| first != second);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.lines().count(), second.lines().count(), "seed {seed}");
    }
}
