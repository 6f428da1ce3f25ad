use ensync_core::{Error, ErrorKind, Publish, Result};

use super::settings::Limits;

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
        let publish = Publish { metadata: publish.metadata.without_engine_keys(), ..publish };
        // Nobody who says nothing wants his event lost.
        let durable = publish.metadata.persist() != Some(false);
        Ok(Self { publish, durable })
    }

    /// What it weighs: payload and metadata, in bytes.
    pub fn size(&self) -> usize {
        self.publish.payload.len().saturating_add(self.publish.metadata.as_str().len())
    }
}
