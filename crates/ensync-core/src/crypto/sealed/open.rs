use std::sync::Arc;

use ed25519_dalek::{Signature, VerifyingKey};
use zeroize::Zeroizing;

use super::aead::{self, KEY};
use super::envelope::Envelope;
use super::header::Header;
use super::{Transcript, hash, info, pair};
use crate::crypto::agreements::Reading;
use crate::crypto::hpke::{self, Context};
use crate::crypto::json::Object;
use crate::crypto::recipient::Recipient;
use crate::crypto::{Expected, Opened, SenderProof};
use crate::{AppId, Error, ErrorKind, Keyring, Result, SecretKey};

/// What tells one agreement of a reader from another: `to`, `from`, `enc`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::crypto) struct HpkeParties {
    to: AppId,
    from: Option<AppId>,
    enc: [u8; 32],
}

/// Opens an envelope, in this order, each step with its own error:
///
/// ```text
/// 1  its form is strict                                                               malformed, unsupported
/// 2  `to` is one of the reader's keys                                                 not for me
/// 3  `event` is the name expected, and the engine's sender, if it gave one, is `from`  misdirected
/// 4  if senders are required: `from` is there and allowed                             sender not verified
/// 5  `key` opens                                                                      does not open
/// 6  the signature, if there is one, is that of `from`                                bad signature
/// 7  the payload opens                                                                does not open
/// ```
pub(in crate::crypto) fn open(
    members: Object<'_>,
    keys: &Keyring,
    expected: &Expected<'_>,
    kept: &Reading<HpkeParties, Context>,
) -> Result<Opened> {
    let envelope = Envelope::of(members)?;
    let header = &envelope.header;
    let own = own_key(header, keys)?;
    expected.check_place(header)?;
    expected.senders.check(header.from.as_ref())?;

    let parties = HpkeParties { to: header.to, from: header.from, enc: header.enc };
    let context = kept.find(&parties).map_or_else(|| agree(header, own).map(Arc::new), Ok)?;
    let transcript = Transcript { header: hash(&envelope.header_bytes), ciphertext: hash(&envelope.ciphertext) };
    let content_key = aead::open(&*transcript.wrapping_key(&context)?, envelope.key.to_vec())
        .and_then(|key| <[u8; KEY]>::try_from(key.as_slice()).ok())
        .map(Zeroizing::new)
        .ok_or_else(|| does_not_open("the envelope's key does not open: the envelope was altered or forged"))?;

    if let Some((from, signature)) = header.from.zip(envelope.signature) {
        verify(&from, &transcript.signed(&content_key), &signature)?;
    }
    let plaintext = aead::open(&content_key, envelope.ciphertext)
        .ok_or_else(|| does_not_open("the envelope's key opens but the payload does not: its sender made it wrong"))?;

    kept.opened(parties, context);
    let signed = envelope.signature.is_some();
    let Header { from, id, created, .. } = envelope.header;
    let sender = from.map_or(SenderProof::Unverified, |key| SenderProof::Verified { key, signed });
    Ok(Opened { plaintext, sender, id: Some(id), created: Some(created) })
}

fn own_key<'k>(header: &Header, keys: &'k Keyring) -> Result<&'k SecretKey> {
    keys.iter().find(|key| key.is_of(&header.to)).ok_or_else(|| {
        Error::new(
            ErrorKind::NotForMe,
            match keys.len() {
                0 => "no secret key was given to open the envelope with; give the client its app secret key".to_owned(),
                n => format!("the envelope is for app {}, and none of the {n} secret keys is that app's", header.to),
            },
        )
    })
}

fn agree(header: &Header, own: &SecretKey) -> Result<Context> {
    let sender = header.from.map(Recipient::new).transpose().map_err(|cause| {
        does_not_open("the envelope's from is not a usable key: the envelope was altered or forged").with_source(cause)
    })?;
    let info = info(&header.to, header.from.as_ref());
    hpke::setup_recipient(&header.enc, pair(own), &info, sender.as_ref().map(Recipient::x25519))
}

/// RFC 8032 §5.1.7, and strictly so: neither the key nor `R` is of small order, so a signature is good for one message and key.
fn verify(from: &AppId, message: &[u8], signature: &[u8; 64]) -> Result<()> {
    VerifyingKey::from_bytes(from.as_bytes())
        .and_then(|key| key.verify_strict(message, &Signature::from_bytes(signature)))
        .map_err(|_| Error::new(ErrorKind::BadSignature, format!("the envelope's signature is not that of app {from}")))
}

fn does_not_open(why: &'static str) -> Error {
    Error::new(ErrorKind::DoesNotOpen, why)
}
