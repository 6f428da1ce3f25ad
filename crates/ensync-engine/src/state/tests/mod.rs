//! The state machine's promises, one test each; pure, without a runtime.

mod deliver;
mod expiry;
mod isolation;
mod leases;
mod provision;
mod publish;
mod random;
mod replay;
mod restart;
mod settle;

use super::harness::bench;
