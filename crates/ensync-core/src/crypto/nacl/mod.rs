//! The suite "nacl", which every published client reads and writes: `crypto_box` and `crypto_secretbox` of NaCl (X25519,
//! HSalsa20, XSalsa20-Poly1305) in JSON, all binary members in base64.
//!
//! ```text
//! single  = {"nonce": 24 B, "ciphertext": box(ephemeral, recipient, payload), "ephemeralPublicKey": 32 B}
//! hybrid  = {"type": "hybrid", "payload": {"nonce": 24 B, "ciphertext": secretbox(K, payload)}, "keys": {id: wrapped, …}}
//! wrapped = {"nonce": 24 B, "encryptedKey" and/or "ciphertext": box(ephemeral, recipient, K or base64(K)), "ephemeralPublicKey": 32 B}
//! ```
//!
//! Every box and secretbox has its own random nonce, so that one agreement may serve many: a writer keeps its agreement with a
//! recipient, and so its ephemeral key, for some events.

mod agreement;
mod hybrid;
mod open;
mod seal;
mod secretbox;

pub(super) use agreement::SharedKey;
pub(super) use hybrid::Hybrid;
pub(super) use open::{BoxParties, Single, require_a_key};
pub(super) use seal::{BoxAgreement, seal};
