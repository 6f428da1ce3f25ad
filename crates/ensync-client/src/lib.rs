//! The EnSync client, whatever the transport: sessions that log in, heartbeat, reconnect and subscribe again; publishing; and
//! subscriptions.
//!
//! Most programs depend on `ensync-sdk`, or on one of `ensync-grpc` and `ensync-ws`, which re-export this crate.

mod dial;
mod transports;

// The public interface is:
pub use dial::{Dialer, Stream, TlsOptions};
pub use ensync_core as core;
pub use transports::Transports;

/// Placeholder until the sessions land.
#[derive(Debug)]
pub struct Engine<T>(std::marker::PhantomData<T>);
