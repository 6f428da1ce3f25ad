//! The commands that administer an engine: on one that runs, and on the data directory of one that does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod hostile;
mod look;
mod mistakes;
mod names;
mod offline;
mod online;
mod shell;
mod tls;
