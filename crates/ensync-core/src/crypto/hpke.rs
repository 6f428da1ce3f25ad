//! HPKE (RFC 9180), of which the sealed envelope needs Setup and Export, in the modes base and auth.
//!
//! One suite: KEM 0x0020 (DHKEM with X25519 and HKDF-SHA256), KDF 0x0001 (HKDF-SHA256), AEAD 0x0002 (AES-256-GCM, which enters
//! the key schedule through its number alone: nothing here encrypts). Labels and names are the RFC's.
//!
//! ```text
//! LabeledExtract(salt, label, ikm)    = Extract(salt, "HPKE-v1" ‖ suite_id ‖ label ‖ ikm)                          §4
//! LabeledExpand(prk, label, info, L)  = Expand(prk, I2OSP(L, 2) ‖ "HPKE-v1" ‖ suite_id ‖ label ‖ info, L)          §4
//! suite_id                            = "KEM" ‖ 0x0020                            in the KEM                       §4.1
//!                                     = "HPKE" ‖ 0x0020 ‖ 0x0001 ‖ 0x0002         in the key schedule              §5.1
//! ```

use std::fmt;

use hkdf::{Hkdf, HkdfExtract};
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use crate::{Error, ErrorKind, Result};

/// The length of everything that is derived here, and of a hash, in bytes: Nsecret and Nh of the RFC.
const LENGTH: u16 = 32;

/// An X25519 public key as RFC 7748 writes it.
type Public = [u8; 32];

type Secret = Zeroizing<[u8; 32]>;

/// An X25519 key pair.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) secret: &'a StaticSecret,
    pub(super) public: &'a Public,
}

/// Where an agreement has led: `exporter_secret` of §5.1. It is immutable and counts nothing, so any number of threads may export
/// from it in any order. Wiped when dropped.
pub(super) struct Context {
    exporter_secret: Secret,
}

impl Context {
    /// `Context.Export(exporter_context, 32)` of §5.3, of an exporter context in parts.
    ///
    /// ```text
    /// LabeledExpand(exporter_secret, "sec", exporter_context, 32)
    /// ```
    pub(super) fn export(&self, exporter_context: &[&[u8]]) -> Result<Secret> {
        labeled_expand(&self.exporter_secret, Scope::Hpke, "sec", exporter_context)
    }

    #[cfg(test)]
    pub(super) fn exporter_secret(&self) -> &[u8; 32] {
        &self.exporter_secret
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context(..)")
    }
}

/// The sender's side: `SetupBaseS` of §5.1.1; with a sender's key pair, `SetupAuthS` of §5.1.3. The public half of `ephemeral` is
/// the RFC's `enc`; its secret half serves this one call.
///
/// ```text
/// Encap(pkR):           dh = DH(skE, pkR)                       kem_context = enc ‖ pkR
/// AuthEncap(pkR, skS):  dh = DH(skE, pkR) ‖ DH(skS, pkR)        kem_context = enc ‖ pkR ‖ pkS
/// ```
///
/// # Errors
///
/// [`ErrorKind::DoesNotOpen`] if an agreement is all zero.
pub(super) fn setup_sender(
    ephemeral: Pair<'_>,
    recipient: &Public,
    info: &[&[u8]],
    sender: Option<Pair<'_>>,
) -> Result<Context> {
    let first = dh(ephemeral.secret, recipient)?;
    let second = sender.map(|sender| dh(sender.secret, recipient)).transpose()?;
    setup(first, second, [ephemeral.public, recipient], sender.map(|sender| sender.public), info)
}

/// The recipient's side: `SetupBaseR` of §5.1.1; with a sender's public key, `SetupAuthR` of §5.1.3.
///
/// ```text
/// Decap(enc, skR):           dh = DH(skR, pkE)                  kem_context = enc ‖ pkR
/// AuthDecap(enc, skR, pkS):  dh = DH(skR, pkE) ‖ DH(skR, pkS)   kem_context = enc ‖ pkR ‖ pkS
/// ```
///
/// # Errors
///
/// [`ErrorKind::DoesNotOpen`] if an agreement is all zero.
pub(super) fn setup_recipient(
    enc: &Public,
    recipient: Pair<'_>,
    info: &[&[u8]],
    sender: Option<&Public>,
) -> Result<Context> {
    let first = dh(recipient.secret, enc)?;
    let second = sender.map(|sender| dh(recipient.secret, sender)).transpose()?;
    setup(first, second, [enc, recipient.public], sender, info)
}

/// `DH` of §4.1. Each agreement is refused by itself when it is all zero (§7.1.4): beside the other one it would be hidden.
fn dh(secret: &StaticSecret, public: &Public) -> Result<Secret> {
    #[cfg(test)]
    super::cost::agreed();
    let agreement = secret.diffie_hellman(&PublicKey::from(*public));
    if !agreement.was_contributory() {
        return Err(Error::new(ErrorKind::DoesNotOpen, "an X25519 agreement is all zero: a key is of small order"));
    }
    Ok(Zeroizing::new(*agreement.as_bytes()))
}

fn setup(
    first: Secret,
    second: Option<Secret>,
    [enc, recipient]: [&Public; 2],
    sender: Option<&Public>,
    info: &[&[u8]],
) -> Result<Context> {
    let dh: Vec<&[u8]> = std::iter::once(&first).chain(&second).map(|dh| dh.as_slice()).collect();
    let kem_context: Vec<&[u8]> = [enc, recipient].into_iter().chain(sender).map(<[u8; 32]>::as_slice).collect();
    let mode = if sender.is_some() { Mode::Auth } else { Mode::Base };
    key_schedule(mode, &*extract_and_expand(&dh, &kem_context)?, info)
}

/// `ExtractAndExpand` of §4.1, which gives `shared_secret`.
///
/// ```text
/// LabeledExpand(LabeledExtract("", "eae_prk", dh), "shared_secret", kem_context, 32)
/// ```
fn extract_and_expand(dh: &[&[u8]], kem_context: &[&[u8]]) -> Result<Secret> {
    labeled_expand(&labeled_extract(&[], Scope::Kem, "eae_prk", dh), Scope::Kem, "shared_secret", kem_context)
}

/// The modes of §5, Table 1, that serve here.
#[derive(Clone, Copy)]
enum Mode {
    Base = 0x00,
    Auth = 0x02,
}

/// `KeySchedule` of §5.1 with an empty `psk` and `psk_id`, as far as `exporter_secret`.
///
/// ```text
/// exporter_secret = LabeledExpand(LabeledExtract(shared_secret, "secret", ""), "exp", key_schedule_context, 32)
/// ```
fn key_schedule(mode: Mode, shared_secret: &[u8; 32], info: &[&[u8]]) -> Result<Context> {
    let secret = labeled_extract(shared_secret, Scope::Hpke, "secret", &[]);
    let exporter_secret = labeled_expand(&secret, Scope::Hpke, "exp", &[&key_schedule_context(mode, info)])?;
    Ok(Context { exporter_secret })
}

/// ```text
/// key_schedule_context = mode ‖ LabeledExtract("", "psk_id_hash", "") ‖ LabeledExtract("", "info_hash", info)
/// ```
fn key_schedule_context(mode: Mode, info: &[&[u8]]) -> Vec<u8> {
    let psk_id_hash = labeled_extract(&[], Scope::Hpke, "psk_id_hash", &[]);
    let info_hash = labeled_extract(&[], Scope::Hpke, "info_hash", info);
    [&[mode as u8], psk_id_hash.as_slice(), info_hash.as_slice()].concat()
}

/// Whose `suite_id` a label belongs to.
#[derive(Clone, Copy)]
enum Scope {
    Kem,
    Hpke,
}

impl Scope {
    const fn id(self) -> &'static [u8] {
        match self {
            Self::Kem => b"KEM\x00\x20",
            Self::Hpke => b"HPKE\x00\x20\x00\x01\x00\x02",
        }
    }
}

const VERSION: &[u8] = b"HPKE-v1";

fn labeled_extract(salt: &[u8], scope: Scope, label: &str, ikm: &[&[u8]]) -> Secret {
    let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
    for part in [VERSION, scope.id(), label.as_bytes()].iter().chain(ikm) {
        extract.input_ikm(part);
    }
    let (mut prk, _) = extract.finalize();
    let secret = Zeroizing::new(prk.into());
    prk.as_mut_slice().zeroize();
    secret
}

fn labeled_expand(prk: &[u8; 32], scope: Scope, label: &str, info: &[&[u8]]) -> Result<Secret> {
    let length = LENGTH.to_be_bytes();
    let labeled: Vec<&[u8]> =
        [&length, VERSION, scope.id(), label.as_bytes()].into_iter().chain(info.iter().copied()).collect();
    let mut okm = Secret::default();
    // Neither can happen: a pseudorandom key of 32 bytes is long enough, and 32 bytes are not too many to ask for.
    let impossible = |_| Error::new(ErrorKind::Internal, "HKDF-SHA256 refuses 32 bytes");
    let hkdf = Hkdf::<Sha256>::from_prk(prk).map_err(|_| impossible(()))?;
    hkdf.expand_multi_info(&labeled, okm.as_mut_slice()).map_err(|_| impossible(()))?;
    Ok(okm)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// RFC 9180's own vectors of this suite, in the layout of its `test-vectors.json`.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Vector {
        mode: u8,
        info: String,
        #[serde(rename = "skRm")]
        recipient: String,
        #[serde(rename = "skSm")]
        sender: Option<String>,
        #[serde(rename = "skEm")]
        ephemeral: String,
        #[serde(rename = "pkRm")]
        recipient_public: String,
        #[serde(rename = "pkSm")]
        sender_public: Option<String>,
        enc: String,
        #[serde(rename = "shared_secret")]
        shared_secret: String,
        #[serde(rename = "key_schedule_context")]
        key_schedule_context: String,
        secret: String,
        #[serde(rename = "exporter_secret")]
        exporter_secret: String,
        exports: Vec<Export>,
    }

    #[derive(Deserialize)]
    struct Export {
        exporter_context: String,
        #[serde(rename = "L")]
        length: usize,
        exported_value: String,
    }

    fn vectors() -> Vec<Vector> {
        serde_json::from_str(include_str!("../../tests/vectors/hpke-rfc9180.json")).unwrap()
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn key(text: &str) -> [u8; 32] {
        hex(text).try_into().unwrap()
    }

    /// A key pair whose halves are the vector's own.
    fn owned(secret: &str) -> (StaticSecret, [u8; 32]) {
        let secret = StaticSecret::from(key(secret));
        let public = PublicKey::from(&secret).to_bytes();
        (secret, public)
    }

    fn pair((secret, public): &(StaticSecret, [u8; 32])) -> Pair<'_> {
        Pair { secret, public }
    }

    #[test]
    fn both_sides_match_the_rfc_in_both_modes() {
        let vectors = vectors();
        assert!(vectors.iter().map(|vector| vector.mode).eq([0, 2]));
        for vector in vectors {
            let (recipient, ephemeral) = (owned(&vector.recipient), owned(&vector.ephemeral));
            let sender = vector.sender.as_deref().map(owned);
            assert_eq!(recipient.1, key(&vector.recipient_public));
            assert_eq!(ephemeral.1, key(&vector.enc));
            assert_eq!(sender.as_ref().map(|pair| pair.1), vector.sender_public.as_deref().map(key));

            let info = hex(&vector.info);
            let (front, back) = info.split_at(7);
            let sending =
                setup_sender(pair(&ephemeral), &recipient.1, &[front, back], sender.as_ref().map(pair)).unwrap();
            let public = sender.as_ref().map(|pair| &pair.1);
            let receiving = setup_recipient(&ephemeral.1, pair(&recipient), &[&info], public).unwrap();
            for context in [sending, receiving] {
                assert_eq!(*context.exporter_secret, key(&vector.exporter_secret));
                assert_eq!(vector.exports.len(), 3);
                for export in &vector.exports {
                    assert_eq!(export.length, 32);
                    let exporter_context = hex(&export.exporter_context);
                    let exported = context.export(&[&exporter_context]).unwrap();
                    assert_eq!(*exported, key(&export.exported_value));
                    let bytes: Vec<&[u8]> = exporter_context.chunks(1).collect();
                    assert_eq!(*context.export(&bytes).unwrap(), *exported);
                }
            }
        }
    }

    #[test]
    fn the_steps_between_match_the_rfc() {
        for vector in vectors() {
            let (secret, enc) = (owned(&vector.recipient), key(&vector.enc));
            let sender = vector.sender_public.as_deref().map(key);
            let first = dh(&secret.0, &enc).unwrap();
            let second = sender.map(|sender| dh(&secret.0, &sender).unwrap());
            let dhs: Vec<&[u8]> = std::iter::once(&first).chain(&second).map(|dh| dh.as_slice()).collect();
            let kem_context =
                [enc.to_vec(), secret.1.to_vec(), sender.map(|s| s.to_vec()).unwrap_or_default()].concat();
            let shared_secret = extract_and_expand(&dhs, &[&kem_context]).unwrap();
            assert_eq!(*shared_secret, key(&vector.shared_secret));

            let mode = if vector.mode == 2 { Mode::Auth } else { Mode::Base };
            assert_eq!(key_schedule_context(mode, &[&hex(&vector.info)]), hex(&vector.key_schedule_context));
            let secret = labeled_extract(shared_secret.as_slice(), Scope::Hpke, "secret", &[]);
            assert_eq!(*secret, key(&vector.secret));
        }
    }

    #[test]
    fn an_agreement_that_is_all_zero_is_refused_also_beside_a_good_one() {
        let (me, other) = (owned(&"11".repeat(32)), owned(&"22".repeat(32)));
        let mut one = [0; 32];
        one[0] = 1;
        for small in [[0; 32], one] {
            let refused = [
                setup_sender(pair(&other), &small, &[], None),
                setup_sender(pair(&other), &small, &[], Some(pair(&me))),
                setup_recipient(&small, pair(&me), &[], None),
                setup_recipient(&small, pair(&me), &[], Some(&other.1)),
                setup_recipient(&other.1, pair(&me), &[], Some(&small)),
            ];
            for context in refused {
                assert_eq!(context.unwrap_err().kind(), ErrorKind::DoesNotOpen);
            }
        }
    }

    #[test]
    fn keys_info_and_mode_all_decide() {
        let (me, other, third) = (owned(&"11".repeat(32)), owned(&"22".repeat(32)), owned(&"33".repeat(32)));
        let context = setup_recipient(&other.1, pair(&me), &[b"info"], Some(&third.1)).unwrap();
        let same = setup_sender(pair(&other), &me.1, &[b"in", b"fo"], Some(pair(&third))).unwrap();
        assert_eq!(same.exporter_secret, context.exporter_secret);
        for different in [
            setup_recipient(&other.1, pair(&me), &[b"info"], None),
            setup_recipient(&other.1, pair(&me), &[b"infO"], Some(&third.1)),
            setup_recipient(&third.1, pair(&me), &[b"info"], Some(&other.1)),
            setup_recipient(&other.1, pair(&third), &[b"info"], Some(&me.1)),
        ] {
            assert_ne!(different.unwrap().exporter_secret, context.exporter_secret);
        }
        // The highest bit of an X25519 key is no part of it, but of its bytes, which are agreed on too.
        let mut unused_bit = other.1;
        unused_bit[31] |= 0x80;
        let twin = setup_recipient(&unused_bit, pair(&me), &[b"info"], Some(&third.1)).unwrap();
        assert_ne!(twin.exporter_secret, context.exporter_secret);
    }

    #[test]
    fn debug_is_redacted() {
        let (me, other) = (owned(&"11".repeat(32)), owned(&"22".repeat(32)));
        let context = setup_recipient(&other.1, pair(&me), &[], None).unwrap();
        assert_eq!(format!("{context:?}"), "Context(..)");
    }
}
