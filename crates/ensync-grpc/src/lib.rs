//! EnSync over gRPC.
//!
//! This is the whole EnSync client for engines reached by `grpcs://` and `grpc://`: everything of `ensync-client` is re-exported
//! here, and [`Engine`] is its engine over gRPC.
//!
//! ```no_run
//! # async fn run() -> ensync_grpc::core::Result<()> {
//! use ensync_grpc::Engine;
//!
//! let engine = Engine::new("grpcs://node.gms.ensync.cloud")?;
//! let client = engine.create_client("my-app-key").await?;
//! # Ok(())
//! # }
//! ```
//!
//! The feature `server` adds the engine's side of the wire, `server()`.

mod client;
mod generated;
#[cfg(feature = "server")]
mod server;
mod status;
#[cfg(test)]
#[cfg(feature = "server")]
mod tests;

use std::time::Duration;

// The public interface is:
pub use client::{Grpc, GrpcConnector};
pub use ensync_client::*;
#[cfg(feature = "server")]
pub use server::{Connection, GrpcServer, ServerOptions, refusal, server};

/// An engine reached over gRPC: see [`ensync_client::Engine`].
pub type Engine = ensync_client::Engine<Grpc>;

/// A timer's interval as timers can take it: from 1 ms to a year. None at all would spin, and the end of `Duration::MAX` from now is
/// no instant.
fn interval(wanted: Duration) -> Duration {
    wanted.clamp(Duration::from_millis(1), Duration::from_secs(365 * 24 * 60 * 60))
}
