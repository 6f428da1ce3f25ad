//! EnSync over WebSocket: the whole client, and, behind the feature `server`, the engine's half.
//!
//! ```no_run
//! # async fn example() -> ensync_ws::core::Result<()> {
//! use ensync_ws::Engine;
//!
//! let engine = Engine::new("wss://node.gms.ensync.cloud")?;
//! let client = engine.create_client("the app key").await?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything of `ensync-client` is here too, so a program that speaks only WebSocket depends on this crate alone.

mod activity;
mod client;
pub mod frame;
#[cfg(feature = "server")]
mod server;
mod socket;
mod wire;

use std::sync::Arc;

use ensync_core::{Connector, Endpoint, Result};

// The public interface is:
pub use client::WsConnector;
pub use ensync_client::*;
#[cfg(feature = "server")]
pub use server::{ServerOptions, serve_stream, upgrade};

/// An engine that is reached over WebSocket.
pub type Engine = ensync_client::Engine<Ws>;

/// The WebSocket transport alone, as a choice of transports: `wss://`, `ws://`, `https://` and `http://`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ws;

impl Transports for Ws {
    fn connector(to: &Endpoint, dialer: Dialer) -> Result<Arc<dyn Connector>> {
        client::connector(to, dialer)
    }
}
