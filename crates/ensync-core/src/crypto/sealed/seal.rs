use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::aead::{self, KEY};
use super::envelope::{BOXED_KEY, Writer};
use super::header::{Header, SealedId};
use super::{Transcript, content_key, hash, info, pair};
use crate::crypto::agreements::Writing;
use crate::crypto::hpke::{self, Context, Pair};
use crate::crypto::recipient::Recipient;
use crate::{AppId, Error, ErrorKind, EventName, Result, SecretKey, Timestamp, WirePayload, random};

/// What a writer has agreed on with one recipient. The ephemeral secret is gone already.
pub(in crate::crypto) struct HpkeAgreement {
    enc: [u8; 32],
    context: Context,
}

impl HpkeAgreement {
    fn fresh(to: &Recipient, own: Option<&SecretKey>) -> Result<Self> {
        let random = Zeroizing::new(random::array::<32>()?);
        Self::with_ephemeral(&StaticSecret::from(*random), to, own)
    }

    /// Mode auth with an own key that has an id, else mode base.
    fn with_ephemeral(ephemeral: &StaticSecret, to: &Recipient, own: Option<&SecretKey>) -> Result<Self> {
        let enc = PublicKey::from(ephemeral).to_bytes();
        let from = own.and_then(SecretKey::app_id);
        let sender = own.filter(|_| from.is_some()).map(pair);
        let ephemeral = Pair { secret: ephemeral, public: &enc };
        let context = hpke::setup_sender(ephemeral, to.x25519(), &info(to.id(), from.as_ref()), sender)
            // A `Recipient` is never of small order, so there is always an agreement.
            .map_err(|cause| Error::new(ErrorKind::Internal, format!("app {}: {cause}", to.id())))?;
        Ok(Self { enc, context })
    }
}

/// Seals `plaintext` for each recipient: in mode auth where the own key has an id, signed if `sign` and mode auth.
pub(in crate::crypto) fn seal(
    plaintext: &[u8],
    to: &[Recipient],
    event: &EventName,
    own: Option<&SecretKey>,
    sign: bool,
    kept: &Writing<AppId, HpkeAgreement>,
) -> Result<Vec<WirePayload>> {
    Payload::encrypt(plaintext, event, own, to.len() > 1)?.copies(to, own, sign, kept)
}

/// One payload, encrypted.
pub(in crate::crypto) struct Payload {
    event: EventName,
    id: SealedId,
    created: Timestamp,
    content_key: Zeroizing<[u8; KEY]>,
    ciphertext_hash: [u8; 32],
    writer: Writer,
}

impl Payload {
    /// Encrypts `plaintext` under a fresh content key; `many` if more than one copy of it will be made.
    pub(in crate::crypto) fn encrypt(
        plaintext: &[u8],
        event: &EventName,
        own: Option<&SecretKey>,
        many: bool,
    ) -> Result<Self> {
        let content_key = content_key::fresh(plaintext, own)?;
        let created = Timestamp::from_millis(Timestamp::now().as_millis().min(Header::CREATED_LIMIT - 1));
        Self::new(plaintext, event.clone(), content_key, SealedId::random()?, created, many)
    }

    /// A copy for each recipient: in mode auth where the own key has an id, signed if `sign` and mode auth.
    pub(in crate::crypto) fn copies(
        &mut self,
        to: &[Recipient],
        own: Option<&SecretKey>,
        sign: bool,
        kept: &Writing<AppId, HpkeAgreement>,
    ) -> Result<Vec<WirePayload>> {
        let one = |recipient: &Recipient| {
            let agreement = kept.agree(recipient.id(), || HpkeAgreement::fresh(recipient, own))?;
            self.copy_for(recipient.id(), &agreement, own, sign)
        };
        to.iter().map(one).collect()
    }

    /// `content_key` is new and serves nothing else.
    fn new(
        plaintext: &[u8],
        event: EventName,
        content_key: Zeroizing<[u8; KEY]>,
        id: SealedId,
        created: Timestamp,
        many: bool,
    ) -> Result<Self> {
        let ciphertext = aead::seal(&content_key, plaintext)?;
        let ciphertext_hash = hash(&ciphertext);
        Ok(Self { event, id, created, content_key, ciphertext_hash, writer: Writer::new(&ciphertext, many) })
    }

    fn copy_for(
        &mut self,
        to: &AppId,
        agreement: &HpkeAgreement,
        own: Option<&SecretKey>,
        sign: bool,
    ) -> Result<WirePayload> {
        let from = own.and_then(SecretKey::app_id);
        let signer = own.filter(|_| sign && from.is_some());
        let header = Header {
            event: self.event.clone(),
            to: *to,
            from,
            id: self.id.clone(),
            created: self.created,
            enc: agreement.enc,
            signed: signer.is_some(),
        };
        let header = header.to_json();
        let transcript = Transcript { header: hash(header.as_bytes()), ciphertext: self.ciphertext_hash };
        let boxed = aead::seal(&*transcript.wrapping_key(&agreement.context)?, self.content_key.as_slice())?;
        let key: [u8; BOXED_KEY] =
            boxed.try_into().map_err(|_| Error::new(ErrorKind::Internal, "a boxed content key of a wrong length"))?;
        let signature = signer.and_then(|signer| signer.sign(&transcript.signed(&self.content_key)));
        Ok(WirePayload::written(self.writer.write(&header, &key, signature.as_ref())))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::crypto::json::Object;
    use crate::crypto::sealed::Envelope;
    use crate::encoding;

    /// Whole envelopes that another implementation made.
    #[derive(Deserialize)]
    struct Vector {
        mode: String,
        signed: bool,
        sender_seed: Option<String>,
        recipient_seed: String,
        ephemeral_secret: String,
        content_key: String,
        plaintext: String,
        envelope: String,
        exporter_secret: String,
        #[serde(rename = "T")]
        transcript: String,
        wrap: String,
        #[serde(rename = "K")]
        opened_key: String,
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn array(text: &str) -> [u8; 32] {
        hex(text).try_into().unwrap()
    }

    #[test]
    fn the_vectors_are_written_byte_for_byte() {
        let vectors: Vec<Vector> = serde_json::from_str(include_str!("../../../tests/vectors/sealed.json")).unwrap();
        let kinds: Vec<(&str, bool)> = vectors.iter().map(|vector| (&*vector.mode, vector.signed)).collect();
        assert_eq!(kinds, [("auth", true), ("auth", false), ("base", false)]);
        for vector in &vectors {
            let own = vector.sender_seed.as_deref().map(|seed| SecretKey::from_seed(array(seed)));
            assert_eq!(own.is_some(), vector.mode == "auth");
            let to = Recipient::new(SecretKey::from_seed(array(&vector.recipient_seed)).app_id().unwrap()).unwrap();
            let ephemeral = StaticSecret::from(array(&vector.ephemeral_secret));
            let agreement = HpkeAgreement::with_ephemeral(&ephemeral, &to, own.as_ref()).unwrap();
            assert_eq!(*agreement.context.exporter_secret(), array(&vector.exporter_secret));

            let read = Envelope::of(Object::read(&vector.envelope).unwrap()).unwrap();
            let transcript = Transcript { header: hash(&read.header_bytes), ciphertext: hash(&read.ciphertext) };
            assert_eq!([transcript.header, transcript.ciphertext].concat(), hex(&vector.transcript));
            assert_eq!(*transcript.wrapping_key(&agreement.context).unwrap(), array(&vector.wrap));
            assert_eq!(vector.opened_key, vector.content_key);

            let Header { event, id, created, .. } = read.header;
            let content_key = Zeroizing::new(array(&vector.content_key));
            let mut payload =
                Payload::new(vector.plaintext.as_bytes(), event, content_key, id, created, false).unwrap();
            let sealed = payload.copy_for(to.id(), &agreement, own.as_ref(), vector.signed).unwrap();
            assert_eq!(sealed, WirePayload::from_wire(encoding::encode(vector.envelope.as_bytes())));
        }
    }
}
