use ensync_core::{AppId, Error, ErrorKind, Publish, Result};

use crate::model::Limits;

/// What gRPC libraries take of one message unless the program asks for more, which the published clients do not: 4 MiB. An event is
/// refused that could not be delivered to them, or replayed. Whoever allows larger payloads than that has other clients.
const MESSAGE_BYTES: usize = 4 << 20;
/// What a field of a skeleton takes beside its name.
const FIELD: usize = 64;
/// What a message has beside payload and metadata: names, ids, keys, what the engine says of a replay, framing.
const MESSAGE_OVERHEAD: usize = 2 << 10;

/// What the largest message about an event weighs: the replay, which carries the metadata as text within JSON text.
fn message_bytes(publish: &Publish) -> usize {
    let metadata = publish.metadata.as_str();
    let escaped = metadata.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    publish.payload.len() + metadata.len() + escaped + MESSAGE_OVERHEAD
}

/// A publish whose own form is in order, checked without the state: so the work is spread over the callers' tasks.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub(super) publish: Publish,
    /// Whether it goes to the log.
    pub(super) durable: bool,
}

impl Admitted {
    /// Checks a publish, and takes out of its metadata what only an engine may write there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PayloadTooLarge`], [`ErrorKind::MalformedEnvelope`] if the payload is not base64,
    /// [`ErrorKind::InvalidInput`] if the metadata is too large.
    pub fn new(publish: Publish, limits: &Limits) -> Result<Self> {
        let size = publish.payload.len();
        if size > limits.max_payload_bytes {
            return Err(Error::new(
                ErrorKind::PayloadTooLarge,
                format!(
                    "the payload has {size} bytes on the wire, this engine takes {}; send less, or a reference to it",
                    limits.max_payload_bytes
                ),
            ));
        }
        if !publish.payload.looks_like_base64() {
            return Err(Error::new(
                ErrorKind::MalformedEnvelope,
                "the payload is not base64; send the base64 of the sealed envelope",
            ));
        }
        let size = publish.metadata.as_str().len();
        if size > limits.max_metadata_bytes {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the metadata has {size} bytes, this engine takes {}", limits.max_metadata_bytes),
            ));
        }
        let whole = message_bytes(&publish);
        if whole > MESSAGE_BYTES && limits.max_payload_bytes <= MESSAGE_BYTES {
            return Err(Error::new(
                ErrorKind::PayloadTooLarge,
                format!(
                    "payload and metadata make a message of {whole} bytes, gRPC clients take {MESSAGE_BYTES}; send less, or a \
                     reference to it"
                ),
            ));
        }
        let publish = Publish { metadata: publish.metadata.without_engine_keys(), ..publish };
        // Nobody who says nothing wants his event lost.
        let durable = publish.metadata.persist() != Some(false);
        Ok(Self { publish, durable })
    }

    /// The public key that it is for.
    pub(crate) fn recipient(&self) -> &AppId {
        &self.publish.recipient
    }

    /// What it weighs: payload, metadata, and what is said of the payload, in bytes.
    pub fn size(&self) -> usize {
        let skeleton = self.publish.payload_metadata.as_ref().and_then(|payload| payload.skeleton.as_ref());
        let said = skeleton.map_or(0, |fields| fields.keys().map(|name| name.len() + FIELD).sum());
        self.publish.payload.len().saturating_add(self.publish.metadata.as_str().len()).saturating_add(said)
    }
}
