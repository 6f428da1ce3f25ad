//! Records and snapshots as bytes.

mod admin;
pub(crate) mod bytes;
pub(crate) mod record;
pub(crate) mod snapshot;
