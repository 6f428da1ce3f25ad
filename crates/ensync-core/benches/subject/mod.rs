//! What is measured.

#![allow(dead_code, unreachable_pub, reason = "each benchmark compiles this for itself and uses a part of it")]

use ensync_core::crypto::{Expected, Keep, Opened, Opener, Recipient, SealOptions, Sealer, Suite};
use ensync_core::{EventName, Keyring, SecretKey, WirePayload};

/// The sizes of a payload, in bytes.
pub const SIZES: [usize; 2] = [1024, 100 * 1024];

type Options = fn() -> SealOptions;

/// The ways to seal.
pub const KINDS: [(&str, Options); 3] = [
    ("nacl", || Suite::Nacl.into()),
    ("aes-256-gcm", || Suite::Aes256Gcm.into()),
    ("aes-256-gcm signed", || SealOptions::from(Suite::Aes256Gcm).signed()),
];

/// A writer, a reader and a payload between them.
pub struct Subject {
    sealer: Sealer,
    opener: Opener,
    to: [Recipient; 1],
    event: EventName,
    options: SealOptions,
    plaintext: Vec<u8>,
    sealed: WirePayload,
}

impl Subject {
    /// With an agreement that is kept as long as it may.
    pub fn new(options: SealOptions, size: usize) -> Self {
        let (own, other) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let to = [Recipient::new(other.app_id().unwrap()).unwrap()];
        let sealer = Sealer::new().own_key(own).keep(Keep::new(Keep::MAX_EVENTS, Keep::MAX_TIME).unwrap());
        let event: EventName = "orders/status/updated".parse().unwrap();
        let mut plaintext = br#"{"text":""#.to_vec();
        plaintext.resize(size - 2, b'x');
        plaintext.extend_from_slice(br#""}"#);
        let sealed = sealer.seal(&plaintext, &to, &event, options).unwrap().remove(0);
        let subject = Self { sealer, opener: Opener::new(Keyring::new(other)), to, event, options, plaintext, sealed };
        subject.open();
        subject
    }

    /// One copy.
    pub fn seal(&self) -> WirePayload {
        self.sealer.seal(&self.plaintext, &self.to, &self.event, self.options).unwrap().remove(0)
    }

    /// One opened.
    pub fn open(&self) -> Opened {
        self.opener.open(&self.sealed, &Expected::event(&self.event)).unwrap()
    }
}
