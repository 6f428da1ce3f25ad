//! What each fuzzer does with its input, and what must hold whatever the input is. The same functions replay the corpora on every
//! test run.
//!
//! Each panics if something does not hold, and says whether the input was taken for what it is meant to be, so that the replay can
//! tell that both sides are reached.

mod admin;
mod endpoint;
mod envelope;
mod json;
mod metadata;
mod sealed_header;
mod secrets;
mod state;
mod ws_frame;

use ensync_core::{Error, ErrorKind};

use json::unique;

pub use admin::admin;
pub use endpoint::endpoint;
pub use envelope::envelope;
pub use json::json;
pub use metadata::metadata;
pub use sealed_header::sealed_header;
pub use secrets::secrets;
pub use state::state;
pub use ws_frame::ws_frame;

/// How long a message may be, in bytes. The longest part of a stranger's text that one repeats is 64 characters, each of which may
/// be escaped.
const MAX_MESSAGE: usize = 1024;

/// A refusal is of one of these kinds, says something, and stays short however long the input was.
fn check_refusal(error: &Error, kinds: &[ErrorKind]) {
    assert!(kinds.contains(&error.kind()), "of kind {:?}: {error}", error.kind());
    let message = error.to_string();
    assert!(!message.is_empty(), "{:?} without a message", error.kind());
    assert!(message.len() <= MAX_MESSAGE, "a message of {} bytes: {message}", message.len());
}
