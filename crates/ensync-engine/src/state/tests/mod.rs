//! The state machine's promises, one test each; pure, without a runtime.

mod admin;
mod apps;
mod checkpoints;
mod deliver;
mod events;
mod expiry;
mod fates;
mod handed;
mod isolation;
mod key_pairs;
mod leases;
mod letters;
mod limits;
mod publish;
mod random;
mod replay;
mod restart;
mod settle;
mod turns;

use super::harness::bench;
