//! The EnSync client, whatever the transport: sessions that log in, heartbeat, reconnect and subscribe again; publishing; and
//! subscriptions.
//!
//! Most programs depend on `ensync-sdk`, or on one of `ensync-grpc` and `ensync-ws`, which re-export this crate. On its own it is
//! for whoever writes a transport: implement [`Connector`](core::Connector) and hand it to [`Engine::with_connector`].

mod acker;
mod client;
mod connection;
mod dial;
mod engine;
mod event;
mod finished;
mod lease;
mod observe;
mod options;
#[cfg(feature = "outbox")]
mod outbox;
mod publish;
mod reach;
mod reading;
mod receipt;
mod sealing;
mod session;
mod settle;
mod subscription;
mod transports;

#[cfg(any(doc, doctest))]
#[doc = include_str!("observability.md")]
pub mod observability {}

// The public interface is:
pub use acker::Acker;
pub use client::Client;
pub use connection::{ConnectionEvent, ConnectionState};
#[doc(hidden)]
pub use dial::tls_refusal;
pub use dial::{Dialer, Stream, TlsOptions};
pub use engine::{CreateClient, Custom, Engine};
pub use ensync_core as core;
pub use event::{Event, Payload};
#[cfg(feature = "metrics")]
pub use observe::describe_metrics;
pub use options::Attempts;
#[cfg(feature = "outbox")]
pub use outbox::{
    Outbox, OutboxOptions, OutboxOutcome, OutboxStatus, ParkedEvent, QueuedEvent, QueuedId, QueuedPublish, WhenFull,
};
pub use publish::Publish;
pub use reading::{Sender, Unopenable};
pub use receipt::{PartialPublish, Receipt};
pub use session::RetryPolicy;
pub use subscription::{Control, ForEach, Handler, OnError, Subscribe, Subscription};
pub use transports::Transports;
