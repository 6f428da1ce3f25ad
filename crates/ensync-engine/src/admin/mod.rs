//! The admin API: what administrators ask of an engine, as JSON over HTTP, on a listener of its own.
//!
//! ```text
//! connection ── limit ── TLS ── hyper ── router ─┬─ open routes: the OpenAPI document
//!                                                └─ token ── body ── /v1 routes ── Broker
//! ```
//!
//! The OpenAPI document is made of the routes themselves, so that none can be missing in it.

mod api;
mod auth;
mod body;
mod config_manager;
mod error;
mod in_process;
mod listener;
mod open;
mod router;
mod token;

pub(crate) use config_manager::{BASE as CONFIG_MANAGER_BASE, router as config_manager_router};
pub use in_process::AdminApi;
pub(crate) use listener::AdminListener;
pub(crate) use router::router;
pub use token::AdminToken;
