//! Random histories of the state machine, checked against a model that knows only what clients saw. The property test and the
//! fuzzer run the same ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a failed test"
)]
#![cfg_attr(not(test), allow(dead_code, reason = "the tests use more of the bench"))]

mod apps;
pub(super) mod bench;
mod checks;
mod logs;
mod model;
mod op;
mod past;
mod settle;
mod sound;
pub(super) mod state;

use model::World;
use op::Ops;

/// Lives through the history that the bytes spell. Whether anything was delivered in it.
///
/// # Panics
///
/// If a promise is broken: an accepted event vanishes or comes back, is with two clients at a time, comes out of order at first; a
/// counter is not what a recount gives; the log read back, from its start or from a checkpoint, is not what was lived through.
pub fn history(input: &[u8]) -> bool {
    // What is in the first byte decides how many partitions there are.
    let partitions = input.first().map_or(1, |first| if first % 2 == 0 { 1 } else { 4 });
    history_of(input.get(1..).unwrap_or_default(), partitions)
}

/// The same, in so many partitions.
///
/// # Panics
///
/// As [`history`].
pub fn history_of(input: &[u8], partitions: u32) -> bool {
    let mut world = World::new(partitions);
    for op in Ops(input).take(MOST) {
        world.run(op);
        world.remember();
        world.check();
    }
    world.drain();
    world.check();
    world.delivered()
}

/// The most operations of a history: each is checked in time proportional to the log.
const MOST: usize = 160;
