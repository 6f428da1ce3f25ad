//! The admin API: what administrators ask of an engine, as JSON over HTTP, on a listener of its own.
//!
//! ```text
//! connection ── place ── TLS ── hyper ── guard ── bound ── router ─┬─ open routes: health, the OpenAPI document
//!                                                                  ├─ token ── body ── /v1 routes ── Broker
//!                                                                  └─ console: the page; session ── body ── /v1 routes
//! ```
//!
//! The OpenAPI document is made of the routes themselves, so that none can be missing in it.

mod answer;
mod api;
mod audit;
mod auth;
mod body;
mod bound;
mod config_manager;
mod console;
mod context;
mod error;
mod guard;
mod history;
mod in_process;
mod listener;
mod open;
mod places;
mod router;
mod said;
mod schema;
mod token;
mod tokens;

pub(crate) use config_manager::{BASE as CONFIG_MANAGER_BASE, router as config_manager_router};
pub(crate) use console::Console;
pub use context::SettingInForce;
pub use in_process::AdminApi;
pub(crate) use listener::{AdminListener, CONNECTIONS};
pub(crate) use router::{Served, router};
pub use token::AdminToken;
pub(crate) use tokens::{OVERLAP, Tokens};
