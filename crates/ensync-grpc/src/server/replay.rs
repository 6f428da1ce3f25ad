//! The two forms of a replayed event.

use ensync_core::{Delivery, Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::value::RawValue;

/// `message_data` for a caller with this user agent: the Python peer decodes it as the payload, the Node peer, and everybody else,
/// reads it as a JSON record.
pub(super) fn message_data(delivery: &Delivery, user_agent: &str) -> Result<String> {
    if user_agent.starts_with("grpc-python") {
        return Ok(delivery.payload.as_str().to_owned());
    }
    let broken =
        |cause| Error::new(ErrorKind::Internal, "a replayed event cannot be written as JSON").with_source(cause);
    let metadata = RawValue::from_string(delivery.metadata.as_str().to_owned()).map_err(broken)?;
    let record = Record {
        message_name: delivery.event.as_str(),
        message_idem: delivery.id.as_str(),
        partition_block: delivery.block.to_string(),
        payload: delivery.payload.as_str(),
        metadata: &metadata,
        sender: delivery.sender.map(|key| key.to_string()),
        recipient: delivery.recipient.map(|key| key.to_string()),
        logged_at: delivery.timestamp.map(|at| at.as_millis()),
        attempt: delivery.attempt,
    };
    serde_json::to_string(&record).map_err(broken)
}

#[derive(Serialize)]
struct Record<'a> {
    message_name: &'a str,
    message_idem: &'a str,
    /// Text: JavaScript would round a large number.
    partition_block: String,
    payload: &'a str,
    metadata: &'a RawValue,
    sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logged_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
}
