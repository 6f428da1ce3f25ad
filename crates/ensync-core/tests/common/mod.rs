//! What several tests share: the vectors' files, and NaCl's two boxes made anew from the primitives, so that the library is not
//! checked with itself.

#![allow(dead_code, unreachable_pub, reason = "each test compiles this for itself and uses a part of it")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use salsa20::cipher::consts::U10;
use salsa20::cipher::{KeyIvInit, StreamCipher};
use salsa20::{XSalsa20, hsalsa};
use serde::Deserialize;

use ensync_core::{Keyring, SecretKey, WirePayload};

#[derive(Deserialize)]
pub struct Vectors {
    pub apps: Vec<App>,
    pub cases: Vec<Case>,
    pub malformed: Vec<Malformed>,
}

#[derive(Deserialize)]
pub struct App {
    pub name: String,
    pub seed_hex: String,
    pub ed25519_public_base64: String,
    pub ed25519_public_hex: String,
    pub app_secret_key_base64: String,
    pub x25519_public_hex: String,
    pub x25519_secret_hex: String,
}

#[derive(Deserialize)]
pub struct Case {
    pub generator: String,
    pub kind: String,
    pub payload: String,
    pub recipients: Vec<String>,
    pub plaintext: String,
    pub wire_payload_base64: String,
}

#[derive(Deserialize)]
pub struct Malformed {
    pub why: String,
    pub wire_payload_base64: String,
}

pub fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../vectors/envelopes.json")).unwrap()
}

/// Envelopes in the forms of the Go client, for the same apps.
#[derive(Deserialize)]
pub struct GoVectors {
    pub cases: Vec<Case>,
    pub malformed: Vec<Malformed>,
}

pub fn go_vectors() -> GoVectors {
    serde_json::from_str(include_str!("../vectors/go.json")).unwrap()
}

impl App {
    pub fn secret_key(&self) -> SecretKey {
        SecretKey::parse(&self.app_secret_key_base64).unwrap()
    }

    pub fn keyring(&self) -> Keyring {
        Keyring::new(self.secret_key())
    }

    pub fn x25519_secret(&self) -> [u8; 32] {
        hex(&self.x25519_secret_hex).try_into().unwrap()
    }
}

pub fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub fn decode(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

/// The wire form of an envelope's JSON.
pub fn wire(json: &str) -> WirePayload {
    WirePayload::from_wire(encode(json.as_bytes()))
}

/// The envelope of a wire form.
pub fn json(sealed: &WirePayload) -> serde_json::Value {
    serde_json::from_slice(&decode(sealed.as_str().unwrap())).unwrap()
}

/// `crypto_box_beforenm`.
pub fn box_key(secret: [u8; 32], public: [u8; 32]) -> [u8; 32] {
    hsalsa::<U10>(&x25519_dalek::x25519(secret, public).into(), &[0; 16].into()).into()
}

pub fn x25519_public(secret: [u8; 32]) -> [u8; 32] {
    x25519_dalek::x25519(secret, x25519_dalek::X25519_BASEPOINT_BYTES)
}

/// `crypto_secretbox`, as it is defined: 32 zero bytes before the message, the whole enciphered.
pub fn secretbox(key: [u8; 32], nonce: [u8; 24], message: &[u8]) -> Vec<u8> {
    let mut text = [&[0; 32], message].concat();
    XSalsa20::new(&key.into(), &nonce.into()).apply_keystream(&mut text);
    let one_time_key: [u8; 32] = text[..32].try_into().unwrap();
    let tag = Poly1305::new(&one_time_key.into()).compute_unpadded(&text[32..]);
    [tag.as_slice(), &text[32..]].concat()
}

/// `crypto_secretbox_open`.
pub fn secretbox_open(key: [u8; 32], nonce: [u8; 24], boxed: &[u8]) -> Option<Vec<u8>> {
    // Enciphering twice deciphers.
    let message = secretbox(key, nonce, boxed.get(16..)?)[16..].to_vec();
    (secretbox(key, nonce, &message) == boxed).then_some(message)
}
