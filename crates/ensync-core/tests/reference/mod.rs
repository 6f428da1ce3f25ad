//! The sealed envelope once more, from the `hpke` crate and the primitives, so that the library is not checked with itself.

#![allow(dead_code, unreachable_pub, reason = "each test compiles this for itself and uses a part of it")]

use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hpke::aead::{AeadCtxR, AeadCtxS, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use ensync_core::{AppId, SecretKey, WirePayload};

type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;

pub const EVENT: &str = "orders/status/updated";

/// An app by its seed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct App(pub u8);

impl App {
    fn signing(self) -> SigningKey {
        SigningKey::from_bytes(&[self.0; 32])
    }

    pub fn id(self) -> AppId {
        AppId::from_bytes(self.signing().verifying_key().to_bytes())
    }

    pub fn secret(self) -> SecretKey {
        SecretKey::from_seed([self.0; 32])
    }

    pub fn x25519_secret(self) -> [u8; 32] {
        self.signing().to_scalar_bytes()
    }

    fn private(self) -> PrivateKey {
        PrivateKey::from_bytes(&self.x25519_secret()).unwrap()
    }
}

fn public(id: &AppId) -> PublicKey {
    let point = CompressedEdwardsY(*id.as_bytes()).decompress().unwrap();
    PublicKey::from_bytes(&point.to_montgomery().to_bytes()).unwrap()
}

fn info(to: &AppId, from: Option<&AppId>) -> Vec<u8> {
    let from = from.map(|from| from.as_bytes().as_slice()).unwrap_or_default();
    [b"ensync/sealed/1".as_slice(), to.as_bytes(), from].concat()
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

pub fn aes(key: &[u8; 32], plaintext: &[u8]) -> Vec<u8> {
    Aes256Gcm::new(key.into()).encrypt(&Nonce::default(), plaintext).unwrap()
}

fn aes_open(key: &[u8; 32], boxed: &[u8]) -> Option<Vec<u8>> {
    Aes256Gcm::new(key.into()).decrypt(&Nonce::default(), boxed).ok()
}

pub fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub fn unb64(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

/// The wire form of an envelope's JSON.
pub fn wire(envelope: &Value) -> WirePayload {
    WirePayload::from_wire(b64(envelope.to_string().as_bytes()))
}

/// The envelope of a wire form.
pub fn envelope(sealed: &WirePayload) -> Value {
    serde_json::from_slice(&STANDARD.decode(sealed.as_str().unwrap()).unwrap()).unwrap()
}

/// The header of an envelope.
pub fn header(envelope: &Value) -> Value {
    serde_json::from_slice(&unb64(&envelope["header"])).unwrap()
}

enum Context {
    Sender(AeadCtxS<AesGcm256, HkdfSha256, X25519HkdfSha256>),
    Recipient(AeadCtxR<AesGcm256, HkdfSha256, X25519HkdfSha256>),
}

/// A writer with one context for any number of events.
pub struct Writer {
    to: AppId,
    from: Option<App>,
    enc: Vec<u8>,
    context: Context,
}

/// What one event is made of, beside its context.
pub struct Parts<'a> {
    pub content_key: [u8; 32],
    pub payload: &'a [u8],
    /// Whether another content key is boxed than the payload is under.
    pub wrong_content_key: bool,
    /// Whose signature the envelope carries; the header says "signed" if there is one.
    pub signer: Option<App>,
    /// Members of the header that replace the usual ones; null takes one away.
    pub header: Value,
}

impl Default for Parts<'_> {
    fn default() -> Self {
        Self {
            content_key: [4; 32],
            payload: br#"{"order":7}"#,
            wrong_content_key: false,
            signer: None,
            header: json!({}),
        }
    }
}

impl Writer {
    pub fn new(to: App, from: Option<App>) -> Self {
        let mode = match from {
            Some(from) => OpModeS::Auth((from.private(), public(&from.id()))),
            None => OpModeS::Base,
        };
        let to = to.id();
        let (enc, context) =
            hpke::setup_sender::<_, _, X25519HkdfSha256>(&mode, &public(&to), &info(&to, from.map(App::id).as_ref()))
                .unwrap();
        Self { to, from, enc: enc.to_bytes().to_vec(), context: Context::Sender(context) }
    }

    /// What whoever has the recipient's secret key can do: agree with himself as if it were with somebody else.
    pub fn forging(to: App, from: App) -> Self {
        let (secret, enc) = X25519HkdfSha256::gen_keypair();
        drop(secret);
        let enc = enc.to_bytes().to_vec();
        let context = receive(to, Some(&from.id()), &enc);
        Self { to: to.id(), from: Some(from), enc, context: Context::Recipient(context) }
    }

    fn export(&self, label: &[u8]) -> [u8; 32] {
        let mut key = [0; 32];
        match &self.context {
            Context::Sender(context) => context.export(label, &mut key).unwrap(),
            Context::Recipient(context) => context.export(label, &mut key).unwrap(),
        }
        key
    }

    pub fn envelope(&self, parts: &Parts<'_>) -> Value {
        let mut header = json!({
            "v": 1, "event": EVENT, "to": self.to.to_string(), "id": "01JD8Z3V9K6Q4W2N7X5T1B0C8E", "created": 1_763_769_600_000_u64,
            "enc": b64(&self.enc),
        });
        if let Some(from) = self.from {
            header["from"] = from.id().to_string().into();
        }
        if parts.signer.is_some() {
            header["signed"] = true.into();
        }
        for (name, value) in parts.header.as_object().unwrap() {
            match value {
                Value::Null => drop(header.as_object_mut().unwrap().remove(name)),
                value => header[name] = value.clone(),
            }
        }
        let header = header.to_string();
        let boxed_key = if parts.wrong_content_key { [0xff; 32] } else { parts.content_key };
        let ciphertext = aes(&parts.content_key, parts.payload);
        let transcript = [hash(header.as_bytes()), hash(&ciphertext)].concat();
        let wrap = self.export(&[b"ensync/sealed/1/key".as_slice(), &transcript].concat());
        let mut envelope = json!({
            "type": "sealed",
            "header": b64(header.as_bytes()),
            "key": b64(&aes(&wrap, &boxed_key)),
            "ciphertext": b64(&ciphertext),
        });
        if let Some(signer) = parts.signer {
            let signed = [b"ensync/sealed/1/sig".as_slice(), &transcript, &hash(&boxed_key)].concat();
            envelope["signature"] = b64(&signer.signing().sign(&signed).to_bytes()).into();
        }
        envelope
    }
}

fn receive(to: App, from: Option<&AppId>, enc: &[u8]) -> AeadCtxR<AesGcm256, HkdfSha256, X25519HkdfSha256> {
    let mode = from.map_or(OpModeR::Base, |from| OpModeR::Auth(public(from)));
    let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(enc).unwrap();
    hpke::setup_receiver(&mode, &to.private(), &enc, &info(&to.id(), from)).unwrap()
}

/// A reader with one context for all envelopes of one sender and one `enc`.
pub struct Reader(AeadCtxR<AesGcm256, HkdfSha256, X25519HkdfSha256>);

impl Reader {
    pub fn of(envelope: &Value, to: App) -> Self {
        let header = header(envelope);
        let from = header.get("from").map(|from| AppId::parse(from.as_str().unwrap()).unwrap());
        Self(receive(to, from.as_ref(), &unb64(&header["enc"])))
    }

    /// The payload; `None` if the key, the signature where there is one, or the payload does not open.
    pub fn open(&self, envelope: &Value) -> Option<Vec<u8>> {
        let (header_bytes, ciphertext) = (unb64(&envelope["header"]), unb64(&envelope["ciphertext"]));
        let transcript = [hash(&header_bytes), hash(&ciphertext)].concat();
        let mut wrap = [0; 32];
        self.0.export(&[b"ensync/sealed/1/key".as_slice(), &transcript].concat(), &mut wrap).unwrap();
        let content_key: [u8; 32] = aes_open(&wrap, &unb64(&envelope["key"]))?.try_into().unwrap();
        if header(envelope).get("signed").is_some() {
            let signed = [b"ensync/sealed/1/sig".as_slice(), &transcript, &hash(&content_key)].concat();
            let from = AppId::parse(header(envelope)["from"].as_str().unwrap()).unwrap();
            let signature = Signature::from_slice(&unb64(&envelope["signature"])).unwrap();
            VerifyingKey::from_bytes(from.as_bytes()).unwrap().verify_strict(&signed, &signature).ok()?;
        }
        aes_open(&content_key, &ciphertext)
    }
}
