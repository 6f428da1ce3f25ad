//! `ensync serve` and `ensync config` as an operator and a service manager see them.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may panic"
)]

mod config;
mod logs;
mod packaging;
mod process;
mod start;
mod stop;
mod watch;
