//! What strangers, and apps that turned hostile, send an engine; and what is logged of all that.
//!
//! One process of its own, because panics and memory are counted in it. `ENSYNC_HOSTILE=10000` sets how many connections attack
//! (default: some hundreds), `ENSYNC_SEED` repeats a run, and `ENSYNC_KIND` names the one attack to make.

mod attack;
mod connections;
mod good;
mod logs;
mod mutate;
#[path = "../raw/mod.rs"]
mod raw;

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many threads or tasks panicked.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts panics from now on.
fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            before(info);
        }));
    });
}

/// What the process has in memory, in MiB.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096 / (1 << 20)
}
