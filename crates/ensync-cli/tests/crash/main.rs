//! The engine, killed at random moments, on a full disk, and copied while it runs: what it accepted is delivered, and what was
//! settled stays so.
//!
//! Five kills, unless `ENSYNC_KILLS` says how many:
//!
//! ```text
//! ENSYNC_KILLS=50 cargo test -p ensync-cli --test crash -- --nocapture
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may panic"
)]

mod backup;
#[path = "../common/mod.rs"]
mod common;
mod damage;
mod files;
mod kills;
mod ledger;
mod load;
mod process;
#[cfg(target_os = "linux")]
mod space;

use std::time::Duration;

/// The event name that everything goes by.
const EVENT: &str = "crash/test/event";
/// A bound against hanging.
const PATIENCE: Duration = Duration::from_secs(120);
