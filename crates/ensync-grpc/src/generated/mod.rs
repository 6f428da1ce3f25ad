//! Generated from `proto/ensync.proto`: messages, the client, and the server behind its feature. `tests/generated.rs` keeps it so.

#![allow(missing_docs, unreachable_pub, missing_debug_implementations, clippy::all, reason = "generated")]

#[rustfmt::skip]
mod ensync;

pub(crate) use ensync::*;
