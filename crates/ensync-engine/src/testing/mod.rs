//! An engine for the tests of your app: its clock stands still until the test moves it, and what can go wrong in production goes
//! wrong when the test says so.
//!
//! ```
//! use std::time::Duration;
//!
//! use ensync_engine::testing::TestEngine;
//! # use ensync_client::Engine;
//! # use futures::TryStreamExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> ensync_core::Result<()> {
//! let engine = TestEngine::start().await?;
//! let (shop, warehouse) = (engine.create_app("shop").await?, engine.create_app("warehouse").await?);
//! # let connect = || Engine::with_connector(engine.grpc_url().parse().unwrap(), std::sync::Arc::new(engine.in_process()));
//! # let stock = connect().create_client(&warehouse.app_key).app_secret_key(&warehouse.secret_key).await?;
//! # let till = connect().create_client(&shop.app_key).await?;
//! // Clients connect to engine.grpc_url() or engine.ws_url(), as to any engine; here `till` and `stock` are two of them.
//! let mut orders = stock.subscribe("orders/new").await?;
//! till.publish("orders/new", &1).to(warehouse.app_id).await?;
//! let first = orders.try_next().await?.unwrap();
//!
//! // Nobody settles it, and a minute passes: it comes again, and the first delivery is void.
//! engine.advance(Duration::from_secs(60)).await?;
//! let second = orders.try_next().await?.unwrap();
//! assert_eq!((second.id(), second.attempt()), (first.id(), Some(2)));
//! assert!(first.ack().await.is_err());
//!
//! // An engine whose disk is full takes no publishes; acknowledgements go on.
//! let full = engine.log_faults().fill();
//! assert!(till.publish("orders/new", &2).to(warehouse.app_id).await.is_err());
//! second.ack().await?;
//! drop(full);
//! engine.wait_until_empty("orders/new", warehouse.app_id).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | to see what your app does when | |
//! |---|---|
//! | a handler takes too long, a defer is over, an event expires | [`advance`](TestEngine::advance) |
//! | a defer is over while handlers are at work | [`advance_while_handled`](TestEngine::advance_while_handled) |
//! | connections are cut | [`cut`](TestEngine::cut), [`cut_app`](TestEngine::cut_app) |
//! | the engine cannot be reached | [`unreachable`](TestEngine::unreachable) |
//! | it is connected to and says nothing (half-open) | [`stall`](TestEngine::stall) |
//! | it does what it is asked and the answer is lost | [`mute`](TestEngine::mute), then [`cut`](TestEngine::cut) |
//! | logins are refused | [`refuse_logins`](TestEngine::refuse_logins) |
//! | its disk is full, slow or broken | [`log_faults`](TestEngine::log_faults) |
//! | it is restarted, or crashes | [`restart`](TestEngine::restart), [`crash`](TestEngine::crash) |
//!
//! Only the engine goes by the manual clock. Timeouts, heartbeats and reconnects of clients go by tokio's, as ever.

mod clock;
mod engine;
mod fault;
mod gate;
mod log;
mod network;

pub use clock::ManualClock;
pub use engine::{TestEngine, TestEngineBuilder};
pub use fault::Fault;
#[cfg(test)]
pub(crate) use log::FaultyLog;
pub use log::LogFaults;
