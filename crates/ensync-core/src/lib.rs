//! EnSync without a runtime and without I/O: the vocabulary that clients, transports and engines share, and the end-to-end
//! encryption, which can be used alone.
//!
//! The page [`security`] says what is encrypted, what is not, and against whom.

mod command;
mod convert;
pub mod crypto;
mod delay;
mod encoding;
mod endpoint;
mod error;
mod id;
mod json;
mod key;
mod metadata;
mod name;
mod payload;
mod random;
mod record;
mod redact;
mod refusal;
mod text;
mod timestamp;
mod transport;
mod welcome;
mod wire_payload;

#[cfg(any(doc, doctest))]
#[doc = include_str!("security.md")]
pub mod security {}

// The public interface is:
pub use bytes::Bytes;
pub use command::{Command, Delivery, Publish, Reply, Settle, Settlement, Subscribe};
pub use delay::Delay;
pub use endpoint::{Endpoint, Scheme};
pub use error::{Error, ErrorKind, Result, report};
pub use id::{Block, ClientId, EventId, IdempotencyKey};
pub use json::{check_json, read_json, skip_json, split_json, write_json};
pub use key::{AppId, AppKey, Keyring, SecretKey};
pub use metadata::{Metadata, ReplayInfo};
pub use name::{AppName, EventName};
pub use payload::{FieldType, PayloadJson, PayloadMetadata, Schema};
pub use redact::{Redact, perhaps_secret_in, redacted, redacted_head, secret_in};
pub use text::{Given, is_unprintable, printable};
pub use timestamp::Timestamp;
pub use transport::{Connector, Link, Login, Peer, Service, Session, Transport};
pub use welcome::{Extension, ServerConfig, Welcome};
pub use wire_payload::WirePayload;
