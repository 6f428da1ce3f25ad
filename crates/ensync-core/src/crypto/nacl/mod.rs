//! The suite "nacl", which every published client reads and writes: `crypto_box` and `crypto_secretbox` of NaCl (X25519,
//! HSalsa20, XSalsa20-Poly1305) in JSON, all binary members in base64.
//!
//! ```text
//! single  = {"nonce": 24 B, "ciphertext": box(ephemeral, recipient, payload), "ephemeralPublicKey": 32 B}
//! hybrid  = {"type": "hybrid", "payload": {"nonce": 24 B, "ciphertext": secretbox(K, payload)}, "keys": {id: wrapped, …}}
//! wrapped = {"nonce": 24 B, "encryptedKey" or "ciphertext": box(ephemeral, recipient, K or base64(K)), "ephemeralPublicKey": 32 B}
//! ```
//!
//! Every box and secretbox has its own random nonce, every recipient of every event its own ephemeral key.

mod agreement;
mod open;
mod seal;
mod secretbox;

pub(super) use open::{open_hybrid, open_single};
pub(super) use seal::seal;
