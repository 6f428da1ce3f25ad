//! What a queue does, through the broker: each promise over a log in memory, and over four partitions' on a disk.
//!
//! - `deliver`: who gets which event, in which order, and how many at a time;
//! - `leases`: deliveries that run out, are extended, released, and made too often;
//! - `settle`: what becomes of deliveries;
//! - `publish`: deduplication, expiry, events in memory only;
//! - `restart`: what outlives the process, in order and after a crash.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a panic here is a failed test")]

mod deliver;
mod leases;
mod publish;
mod restart;
mod settle;
mod world;
