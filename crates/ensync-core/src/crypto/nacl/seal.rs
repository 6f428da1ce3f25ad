use std::sync::Arc;

use zeroize::Zeroizing;

use super::agreement::{SharedKey, ephemeral};
use super::secretbox::{self, KEY, NONCE};
use crate::crypto::Recipient;
use crate::crypto::agreements::Writing;
use crate::{AppId, Error, ErrorKind, Result, WirePayload, encoding, random};

/// For several recipients, a plaintext longer than this, in bytes, is encrypted once under a message key; up to this, once for
/// each recipient.
///
/// A hybrid copy is about 760 bytes longer on the wire and costs two more small boxes; it saves 7 to 10 µs for each KiB of plaintext
/// and each recipient but the first, beside an agreement of about 70 µs that both forms need. Measured with ten recipients, in µs
/// a recipient: 4 KiB 83 single, 75 hybrid (9 % more bytes); 16 KiB 118 and 80 (2 %); 64 KiB 339 and 179 (0.6 %). With two
/// recipients the forms differ by less than the noise up to 16 KiB. So hybrid starts where its bytes hardly count any more.
const HYBRID_ABOVE: usize = 16 * 1024;

/// What a writer has agreed on with one recipient. The ephemeral secret is gone already.
pub(in crate::crypto) struct BoxAgreement {
    shared: SharedKey,
    ephemeral: [u8; 32],
}

impl BoxAgreement {
    fn fresh(to: &Recipient) -> Result<Self> {
        let (secret, ephemeral) = ephemeral()?;
        // A `Recipient` is never of small order, so there is always an agreement.
        let none = || Error::new(ErrorKind::Internal, format!("no agreement with the checked key of app {}", to.id()));
        Ok(Self { shared: SharedKey::agree(&secret, to.x25519()).ok_or_else(none)?, ephemeral })
    }
}

/// See [`crate::crypto::seal`]. `single_boxes` keeps to the form for one recipient, whatever the size.
pub(in crate::crypto) fn seal(
    plaintext: &[u8],
    to: &[Recipient],
    kept: &Writing<AppId, BoxAgreement>,
    single_boxes: bool,
) -> Result<Vec<WirePayload>> {
    let agree = |recipient: &Recipient| kept.agree(recipient.id(), || BoxAgreement::fresh(recipient));
    if !single_boxes && to.len() > 1 && plaintext.len() > HYBRID_ABOVE {
        return hybrid(plaintext, to, agree);
    }
    to.iter().map(|recipient| single(plaintext, &*agree(recipient)?)).collect()
}

fn single(plaintext: &[u8], BoxAgreement { shared, ephemeral }: &BoxAgreement) -> Result<WirePayload> {
    let nonce = random::array::<NONCE>()?;
    let mut envelope = Vec::with_capacity(192 + plaintext.len().div_ceil(3) * 4);
    wrapped(&mut envelope, &["ciphertext"], &nonce, &shared.seal(&nonce, plaintext), ephemeral);
    let mut wire = Vec::new();
    encoding::encode_to(&mut wire, &envelope);
    Ok(WirePayload::written(wire))
}

fn hybrid(
    plaintext: &[u8],
    to: &[Recipient],
    agree: impl Fn(&Recipient) -> Result<Arc<BoxAgreement>>,
) -> Result<Vec<WirePayload>> {
    let key = Zeroizing::new(random::array::<KEY>()?);
    let nonce = random::array::<NONCE>()?;
    let mut common = br#"{"type":"hybrid","payload":{"nonce":""#.to_vec();
    common.reserve(128 + plaintext.len().div_ceil(3) * 4);
    encoding::encode_to(&mut common, &nonce);
    common.extend_from_slice(br#"","ciphertext":""#);
    encoding::encode_to(&mut common, &secretbox::seal(&key, &nonce, plaintext));
    common.extend_from_slice(br#""},"#);
    // Three bytes are four characters of base64: filled up to a multiple, the part that all copies share is encoded once.
    while !common.len().is_multiple_of(3) {
        common.push(b' ');
    }
    let mut shared = Vec::new();
    encoding::encode_to(&mut shared, &common);

    to.iter()
        .map(|recipient| {
            let own = entries(&key, recipient.id(), &*agree(recipient)?)?;
            let mut wire = Vec::with_capacity(shared.len() + own.len().div_ceil(3) * 4);
            wire.extend_from_slice(&shared);
            encoding::encode_to(&mut wire, &own);
            Ok(WirePayload::written(wire))
        })
        .collect()
}

/// The recipient's two entries: a Node or a Go client finds the first, a Python client the second, and each skips the other.
///
/// Node looks for `encryptedKey`, Go for `ciphertext`, and both take the box's content for the message key: the first entry holds one
/// box under both names. Python looks for `ciphertext` and takes its content for base64 text of the message key. It tries the first
/// entry too, and goes on, as the content there is no text. The two contents are under one shared key, so their nonces must differ:
/// under one nonce the two boxes would reveal the XOR of the key and its own base64 text, and with it the key.
fn entries(key: &[u8; KEY], to: &AppId, BoxAgreement { shared, ephemeral }: &BoxAgreement) -> Result<Vec<u8>> {
    let (raw, python) = (random::array::<NONCE>()?, random::array::<NONCE>()?);
    let text = encoding::encode_secret(key);
    let mut json = format!(r#""keys":{{"{to}":"#).into_bytes();
    wrapped(&mut json, &["encryptedKey", "ciphertext"], &raw, &shared.seal(&raw, key), ephemeral);
    json.extend_from_slice(format!(r#","{}":"#, to.to_hex()).as_bytes());
    wrapped(&mut json, &["ciphertext"], &python, &shared.seal(&python, text.as_bytes()), ephemeral);
    json.extend_from_slice(b"}}");
    Ok(json)
}

/// Writes the JSON of one box, which it holds under each of these names. Base64 needs no escapes.
fn wrapped(json: &mut Vec<u8>, names: &[&str], nonce: &[u8; NONCE], boxed: &[u8], ephemeral: &[u8; 32]) {
    json.extend_from_slice(br#"{"nonce":""#);
    encoding::encode_to(json, nonce);
    for name in names {
        json.extend_from_slice(format!(r#"","{name}":""#).as_bytes());
        encoding::encode_to(json, boxed);
    }
    json.extend_from_slice(br#"","ephemeralPublicKey":""#);
    encoding::encode_to(json, ephemeral);
    json.extend_from_slice(br#""}"#);
}
