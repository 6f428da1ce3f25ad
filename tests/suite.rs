//! What needs more than one crate: every test here runs a real engine.
//!
//! - `contract`: what every transport keeps, over gRPC, WebSocket and in-process;
//! - `behaviour`: what clients see, over each of the three;
//! - `kit`: the engine for users' own tests;
//! - `edges`: text that becomes a value, at every edge: secrets in wrong places, JSON, keys, names;
//! - `flow`: windows, leases, and events that are dropped;
//! - `go_client`: requests in the forms of the Go SDK, written by hand;
//! - `lifecycle`: pauses, subscriptions that are left, clients that close, engines that stop;
//! - `isolation`: what an app can do with what belongs to another: nothing;
//! - `limits`: what connections and apps may use up, and what whoever exceeds it is told;
//! - `outage`: connections that are cut;
//! - `rotation`: keys that are rotated, apps that are disabled and deleted;
//! - `sealed`: the suite "aes-256-gcm" between clients;
//! - `shutdown`: what an engine that stops says on the wire;
//! - `tls`: certificates of a CA made for the test;
//! - `tls_reload`: certificates that change while the engine runs;
//! - `wrong_input`: each mistake has a kind and a message that tells what to do.

mod behaviour;
mod contract;
mod edges;
mod flow;
mod go_client;
mod isolation;
mod kit;
mod lifecycle;
mod limits;
mod outage;
mod raw;
mod rotation;
mod sealed;
mod shutdown;
mod tls;
mod tls_reload;
mod world;
mod wrong_input;
