//! Ways to an engine, and what a client tells of itself. Every test here runs a real engine.
//!
//! - `fallback`: more than one URL, and what lies between that lets only one of them through;
//! - `proxy`: CONNECT proxies of the tests' own;
//! - `outbox`: events that wait on disk, across outages and killed processes;
//! - `outbox_lanes`: recipients in trouble, a client that closes, and another key pair;
//! - `observe`: spans, log events, metrics and trace context, by the names in the documentation.

mod ca;
mod fallback;
mod middlebox;
mod observe;
mod outbox;
mod outbox_lanes;
mod proxy;
#[path = "../world.rs"]
#[allow(dead_code, unused_macros, reason = "shared with the other suite, which uses the rest")]
mod world;

/// Makes each named async function, which takes a [`world::Transport`], a test over gRPC and over WebSocket.
#[macro_export]
macro_rules! over_both {
    ($($name:ident),* $(,)?) => {
        mod grpc { $(#[tokio::test] async fn $name() { super::$name($crate::world::Transport::Grpc).await })* }
        mod web_socket { $(#[tokio::test] async fn $name() { super::$name($crate::world::Transport::WebSocket).await })* }
    };
}
