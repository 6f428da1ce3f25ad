//! What needs more than one crate: every test here runs a real engine.
//!
//! - `contract`: what every transport keeps, over gRPC, WebSocket and in-process;
//! - `behaviour`: what clients see, over each of the three;
//! - `flow`: windows, leases, and events that are dropped;
//! - `lifecycle`: pauses, subscriptions that are left, clients that close, engines that stop;
//! - `outage`: connections that are cut;
//! - `sealed`: the suite "aes-256-gcm" between clients;
//! - `shutdown`: what an engine that stops says on the wire;
//! - `tls`: certificates of a CA made for the test;
//! - `wrong_input`: each mistake has a kind and a message that tells what to do.

mod behaviour;
mod contract;
mod flow;
mod lifecycle;
mod outage;
mod sealed;
mod shutdown;
mod tls;
mod world;
mod wrong_input;
