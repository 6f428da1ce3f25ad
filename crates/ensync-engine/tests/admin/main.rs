//! The admin API over a socket, the good way and the bad ways.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a panic here is a failed test")]

mod apps;
mod client;
mod console;
mod document;
mod edges;
mod engine;
mod events;
mod filters;
mod guards;
mod letters;
mod lookup;
mod partitions;
mod readers;
mod sessions;
