//! What a session promises when the other side keeps none of its own promises: against a scripted engine, with paused time.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod awaited;
mod bounds;
mod closing;
mod delivered;
mod echoes;
mod ended;
mod gateway;
mod keys;
mod leases;
mod leaving;
mod link;
mod links;
#[cfg(feature = "metrics")]
mod observed;
#[cfg(feature = "outbox")]
mod outbox;
mod pauses;
mod retries;
mod scripted;
mod settling;
mod slow;
mod stale;
mod streams;
mod subscriptions;
