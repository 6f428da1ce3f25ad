//! The EnSync engine: it accepts events that are encrypted end to end, queues them per recipient and event name, and sees each
//! delivered and acknowledged. Every published EnSync client can talk to it, over gRPC and WebSocket.
//!
//! Two lines embed it in a test:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> ensync_core::Result<()> {
//! let server = ensync_engine::Server::dev().start().await?;
//! let app = server.create_app("warehouse").await?;
//! # assert!(server.grpc_url().starts_with("grpc://127.0.0.1:"));
//! # drop(app);
//! # Ok(())
//! # }
//! ```
//!
//! # What a queue does
//!
//! There is one queue for each recipient and event name.
//!
//! - Consumers compete: an event goes to one live client of the recipient that is subscribed and not paused; in order, on first
//!   delivery; and no more than [`max_in_flight`](Limits::max_in_flight) events and
//!   [`max_bytes_in_flight`](Limits::max_bytes_in_flight) bytes are unsettled per subscription.
//! - Each delivery is a lease with a number, the block. Unsettled after [`ack_timeout`](EventOptions::ack_timeout), or when its
//!   client goes, the event is delivered again with a higher attempt; after [`max_deliveries`](EventOptions::max_deliveries) it
//!   goes to the dead letters. An acknowledgement with the block of an earlier delivery is refused.
//! - An event can be deferred, discarded to the dead letters with a reason, rolled back, and replayed by its id.
//! - Dead letters can be listed, delivered again, and dropped: see [`Broker`].
//! - A publish under an idempotency key is stored once within [`dedup_window`](Limits::dedup_window).
//!
//! # Running one
//!
//! [`manual`] is the operator's guide: install, configuration, TLS, metrics, backup, upgrade, troubleshooting.
//!
//! # Who may do what
//!
//! Apps, event names, rights, queues and dead letters are administered through [`Broker`], and over HTTP through the admin API,
//! which [`ServerBuilder::admin`] puts on a listener of its own; [`AdminApi`] is the same without a listener. `/openapi.json` there
//! describes it. An app is named by the public key that it was created with. It can get other access keys and other key pairs
//! without losing an event: see [`Broker::rotate_key`] and [`Broker::rotate_key_pair`].
//!
//! # The parts
//!
//! [`model`] is what is spoken of everywhere: ids, records, rights. [`state`] is all that happens to them, as state machines without
//! I/O or clock: sessions before a registry and partitions of the queues, each a fold over a [`log`] of its own, which know nothing of
//! each other. [`Broker`] drives them. [`Server`] puts
//! listeners around a broker; [`InProcess`] connects to one without sockets. [`testing`] is an engine for your tests, whose clock you
//! move.

mod address;
mod admin;
mod broker;
mod counters;
mod in_process;
pub mod log;
pub mod manual;
mod metrics;
pub mod model;
mod partition;
mod random;
mod registry;
mod seldom;
mod server;
pub mod state;
pub mod store;
pub mod testing;
mod tls;

// The public interface is:
pub use admin::{AdminApi, AdminToken, SettingInForce};
pub use broker::{Broker, BrokerOptions, Clock, Retention, SystemClock, TokioClock};
pub use counters::ConnectionCounts;
pub use in_process::InProcess;
pub use log::{DiskLog, DiskOptions, Log, Logs, MemoryLog, ReadProgress};
#[cfg(feature = "cluster")]
pub use log::{JetStreamLog, JetStreamOptions, Nats};
pub use model::{EventChange, EventOptions, Rights};
pub use server::{ConnectionLimits, NewApp, Server, ServerBuilder, Shutdown};
pub use state::{AppInfo, DeadLetter, Defaults, LetterFilter, Limits, QueueCounters, QueueStats, Quotas, Rate};
pub use tls::{ClientCertificates, ServerTls, TlsFiles};
