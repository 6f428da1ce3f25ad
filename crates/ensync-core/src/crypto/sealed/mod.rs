//! The suite "aes-256-gcm": the sealed envelope.
//!
//! `‖` joins bytes, quoted labels are ASCII, `H` is SHA-256, `b64` standard padded base64. `to` and `from` are raw Ed25519 public
//! keys; `from` is empty, and absent from the header, in mode base. `X` converts a key to X25519 (see [`Recipient::new`](super::Recipient::new)).
//!
//! ```text
//! envelope   = {"type":"sealed", "header":b64, "key":b64 of 48 B, "ciphertext":b64, "signature":b64 of 64 B, optional}
//! header     = {"v":1, "event":name, "to":b64, "from":b64?, "id":text, "created":ms, "enc":b64 of 32 B, "signed":true?}
//! K          = a key that encrypts this payload and no other (so its nonce may be zero): see `content_key.rs`
//! ciphertext = AES-256-GCM(K, nonce 0⁹⁶, aad "", payload)                            -- once for all recipients
//! enc, ctx   = HPKE SetupAuthS (sender's key known) or SetupBaseS, to X(to), info = "ensync/sealed/1" ‖ to ‖ from
//! T          = H(header bytes as they are) ‖ H(ciphertext)                           -- 64 bytes
//! key        = AES-256-GCM(ctx.Export("ensync/sealed/1/key" ‖ T, 32), nonce 0⁹⁶, aad "", K)      -- per recipient
//! signature  = Ed25519(sender, "ensync/sealed/1/sig" ‖ T ‖ H(K))                     -- on request, mode auth only
//! ```
//!
//! One agreement may serve many events, for `T` is in each event's key: two different events never meet under one key, not even
//! after a fork or a restored snapshot that repeats everything else. And whoever learns `K`, as each recipient does, can put
//! nothing else under it for the others, for `T` holds the ciphertext.

mod aead;
mod content_key;
mod envelope;
mod header;
mod open;
mod seal;
mod strict_json;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::hpke::{Context, Pair};
use crate::{AppId, Result, SecretKey};

pub(super) use envelope::Envelope;
pub(super) use header::Header;
pub use header::SealedId;
pub(super) use open::{HpkeParties, open};
pub(super) use seal::{HpkeAgreement, Payload, seal};

const INFO: &[u8] = b"ensync/sealed/1";
const KEY_LABEL: &[u8] = b"ensync/sealed/1/key";
const SIGNATURE_LABEL: &[u8] = b"ensync/sealed/1/sig";

/// The parts of HPKE's `info`.
fn info<'a>(to: &'a AppId, from: Option<&'a AppId>) -> [&'a [u8]; 3] {
    [INFO, to.as_bytes(), from.map_or(&[], |from| from.as_bytes().as_slice())]
}

/// `H`.
fn hash(bytes: &[u8]) -> [u8; 32] {
    #[cfg(test)]
    super::cost::hashed(bytes.len());
    Sha256::digest(bytes).into()
}

/// `T`: what the key of one envelope depends on.
struct Transcript {
    header: [u8; 32],
    ciphertext: [u8; 32],
}

impl Transcript {
    /// The key that the content key is boxed under.
    fn wrapping_key(&self, context: &Context) -> Result<Zeroizing<[u8; 32]>> {
        context.export(&[KEY_LABEL, &self.header, &self.ciphertext])
    }

    /// What is signed.
    fn signed(&self, content_key: &[u8; 32]) -> Vec<u8> {
        [SIGNATURE_LABEL, &self.header, &self.ciphertext, &hash(content_key)].concat()
    }
}

fn pair(key: &SecretKey) -> Pair<'_> {
    Pair { secret: key.agreement(), public: key.x25519_public() }
}
