//! What a publish under an idempotency key is remembered by.

use ensync_core::{AppId, EventName, IdempotencyKey};
use sha2::{Digest, Sha256};

/// Names a publish: the ids of sender and recipient, the event name, the key and whether it went to the log, hashed, so that long names
/// and keys cost no memory. 128 bits of SHA-256 are far from a collision at the number that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::partition) struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// What is in memory only does not count for what is in the log: after a restart nobody would know of the former.
    pub(in crate::partition) fn new(
        sender: &AppId,
        recipient: &AppId,
        event: &EventName,
        key: &IdempotencyKey,
        transient: bool,
    ) -> Self {
        let hash = Sha256::new().chain_update(sender.as_bytes()).chain_update(recipient.as_bytes());
        // A name holds no zero byte, so where it ends and the key begins is in the hash too.
        let hash = hash.chain_update([u8::from(transient)]).chain_update(event.as_str()).chain_update([0]);
        let hash: [u8; 32] = hash.chain_update(key.as_str()).finalize().into();
        let [first, ..] = hash.as_chunks::<16>().0 else { return Self([0; 16]) };
        Self(*first)
    }

    pub(in crate::partition) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(in crate::partition) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}
