use std::fmt;
use std::str::FromStr;

use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::clamp_integer;
use ed25519_dalek::{Signer, SigningKey};
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use crate::{AppId, Error, ErrorKind, Result, encoding, random};

/// The key that opens what was sealed for an app ("app secret key" in the peers).
///
/// Either an Ed25519 seed (RFC 8032), which has an [`AppId`], or a bare X25519 secret (RFC 7748), which opens but has none.
/// For the agreement a seed becomes `clamp(SHA-512(seed)[0..32])`, as in libsodium's `crypto_sign_ed25519_sk_to_curve25519`.
///
/// Wiped when dropped, redacted in `Debug`, compared in constant time. There is no `Display`: call [`SecretKey::to_base64`].
///
/// ```
/// use ensync_core::SecretKey;
///
/// let secret = SecretKey::generate()?;
/// let again = SecretKey::parse(&secret.to_base64().expect("a seed"))?;
/// assert_eq!(again.app_id(), secret.app_id());
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone)]
pub struct SecretKey {
    /// `None` for a bare X25519 secret.
    identity: Option<Identity>,
    /// Clamped, so that two spellings of one secret are equal.
    agreement: StaticSecret,
    /// The public half of `agreement`.
    x25519_public: [u8; 32],
}

#[derive(Clone)]
struct Identity {
    seed: Zeroizing<[u8; 32]>,
    id: AppId,
}

impl SecretKey {
    /// Reads an app secret key: base64 (standard or URL-safe, padded or not) of 64 bytes, the seed and then the public key,
    /// which is libsodium's layout.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the text is not that, or the public half does not belong to the seed. 32 bytes are refused,
    /// because the peers disagree about them: call [`from_seed_base64`](Self::from_seed_base64) or
    /// [`from_x25519_base64`](Self::from_x25519_base64). The message does not repeat the key.
    pub fn parse(text: &str) -> Result<Self> {
        let bytes = decode(text, "app secret key")?;
        if bytes.len() == 32 {
            return Err(invalid(
                "the app secret key holds 32 bytes; or is this the app id? As a secret they can mean two keys: the Node client \
                 takes them as an Ed25519 seed (SecretKey::from_seed_base64), the Python client as a converted X25519 secret \
                 (SecretKey::from_x25519_base64); call the one that is meant, or give the 64-byte form",
            ));
        }
        let (seed, public) = match bytes.split_first_chunk::<32>() {
            Some((seed, public)) if public.len() == 32 => (seed, public),
            _ => {
                return Err(invalid(format!(
                    "the app secret key holds {} bytes; it is base64 of 64 bytes (seed and public key), 88 characters",
                    bytes.len()
                )));
            }
        };
        let key = Self::from_seed(*seed);
        match &key.identity {
            Some(identity) if identity.id.as_bytes().as_slice() == public => Ok(key),
            _ => Err(invalid(
                "the public half of the app secret key does not belong to its seed; was it copied whole, and from one key?",
            )),
        }
    }

    /// From an Ed25519 seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let signing = SigningKey::from_bytes(&seed);
        let public = signing.verifying_key();
        let (id, x25519_public) = (AppId::from_bytes(public.to_bytes()), public.to_montgomery().to_bytes());
        // SHA-512(seed)[0..32]. Clamped as bytes and multiplied as an integer: `Scalar` would reduce it modulo the group order,
        // and the product with a point that has a small-order part would differ.
        let half_hash = Zeroizing::new(signing.to_scalar_bytes());
        let agreement = StaticSecret::from(clamp_integer(*half_hash));
        Self { identity: Some(Identity { seed, id }), agreement, x25519_public }
    }

    /// From an Ed25519 seed in base64.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the text is not base64 of 32 bytes.
    pub fn from_seed_base64(text: &str) -> Result<Self> {
        decode_32(text, "Ed25519 seed").map(|bytes| Self::from_seed(*bytes))
    }

    /// From a bare X25519 secret: what the Python client takes 32 bytes for. It has no [`AppId`].
    pub fn from_x25519(secret: [u8; 32]) -> Self {
        let secret = Zeroizing::new(secret);
        let agreement = StaticSecret::from(clamp_integer(*secret));
        let x25519_public = PublicKey::from(&agreement).to_bytes();
        Self { identity: None, agreement, x25519_public }
    }

    /// From a bare X25519 secret in base64.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the text is not base64 of 32 bytes.
    pub fn from_x25519_base64(text: &str) -> Result<Self> {
        decode_32(text, "X25519 secret").map(|bytes| Self::from_x25519(*bytes))
    }

    /// A new key, its randomness from the operating system.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] if the operating system gives no randomness.
    pub fn generate() -> Result<Self> {
        let seed = Zeroizing::new(random::array::<32>()?);
        Ok(Self::from_seed(*seed))
    }

    /// The public half: the address that others seal for. `None` for a bare X25519 secret.
    pub fn app_id(&self) -> Option<AppId> {
        self.identity.as_ref().map(|identity| identity.id)
    }

    /// The 64-byte form in base64, which [`parse`](Self::parse) and the peers read. `None` for a bare X25519 secret.
    pub fn to_base64(&self) -> Option<Zeroizing<String>> {
        self.identity.as_ref().map(|Identity { seed, id }| {
            let bytes = Zeroizing::new([seed.as_slice(), id.as_bytes()].concat());
            Zeroizing::new(encoding::encode(&bytes))
        })
    }

    /// The X25519 secret, clamped.
    pub(crate) fn agreement(&self) -> &StaticSecret {
        &self.agreement
    }

    /// The X25519 public key of [`agreement`](Self::agreement).
    pub(crate) fn x25519_public(&self) -> &[u8; 32] {
        &self.x25519_public
    }

    /// Whether this is the secret key of `id`.
    pub(crate) fn is_of(&self, id: &AppId) -> bool {
        self.candidate_ids().contains(&Some(*id))
    }

    /// The ids that this may be the secret key of. A bare X25519 secret is that of two, which differ in one bit: an X25519 key does
    /// not say which of two opposite points of the curve it came from.
    pub(crate) fn candidate_ids(&self) -> [Option<AppId>; 2] {
        match self.app_id() {
            Some(id) => [Some(id), None],
            None => [0, 1].map(|sign| {
                let point = MontgomeryPoint(self.x25519_public).to_edwards(sign)?;
                Some(AppId::from_bytes(point.compress().to_bytes()))
            }),
        }
    }

    /// The Ed25519 signature (RFC 8032) of a message; `None` for a bare X25519 secret.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<[u8; 64]> {
        self.identity.as_ref().map(|Identity { seed, .. }| SigningKey::from_bytes(seed).sign(message).to_bytes())
    }
}

fn invalid(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidKey, why)
}

fn decode(text: &str, what: &str) -> Result<Zeroizing<Vec<u8>>> {
    encoding::decode(text).map(Zeroizing::new).ok_or_else(|| {
        invalid(format!("the {what} is not base64; was it copied whole, without white space around it?"))
    })
}

fn decode_32(text: &str, what: &str) -> Result<Zeroizing<[u8; 32]>> {
    let bytes = decode(text, what)?;
    match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(array) => Ok(Zeroizing::new(array)),
        Err(_) => Err(invalid(format!("the {what} holds {} bytes, not 32", bytes.len()))),
    }
}

impl FromStr for SecretKey {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for SecretKey {
    type Error = Error;
    fn try_from(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for SecretKey {
    type Error = Error;
    fn try_from(mut text: String) -> Result<Self> {
        let key = Self::parse(&text);
        text.zeroize();
        key
    }
}

impl TryFrom<&String> for SecretKey {
    type Error = Error;
    fn try_from(text: &String) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<&SecretKey> for SecretKey {
    type Error = Error;
    fn try_from(key: &SecretKey) -> Result<Self> {
        Ok(key.clone())
    }
}

impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        // The ids are public, and whether there is one is no secret either.
        self.app_id() == other.app_id() && bool::from(self.agreement.as_bytes().ct_eq(other.agreement.as_bytes()))
    }
}

impl Eq for SecretKey {}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.app_id() {
            Some(id) => write!(f, "SecretKey({}…, ..)", id.to_string().chars().take(4).collect::<String>()),
            None => f.write_str("SecretKey(x25519, ..)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keyring;

    const WAREHOUSE: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB2hX8vsQ/MVG/NzNwzYwgDgAA/Dk3nieaSflWlKdB+03w==";

    #[test]
    fn every_spelling_is_the_same_key() {
        let key = SecretKey::parse(WAREHOUSE).unwrap();
        assert_eq!(key.to_base64().unwrap().as_str(), WAREHOUSE);
        assert_eq!(key.app_id().unwrap().to_string(), "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=");
        let url_safe = WAREHOUSE.trim_end_matches('=').replace('+', "-").replace('/', "_");
        for same in [
            url_safe.parse(),
            SecretKey::try_from(url_safe.as_str()),
            SecretKey::try_from(&url_safe),
            SecretKey::try_from(url_safe.clone()),
            SecretKey::try_from(&key),
            SecretKey::from_seed_base64("7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB0="),
        ] {
            assert_eq!(same.unwrap(), key);
        }
    }

    #[test]
    fn what_is_not_a_key_says_why_and_is_not_repeated() {
        let other_half = format!("{}A==", &WAREHOUSE[..85]);
        for (text, part) in [
            (&WAREHOUSE[..85], "not base64"),
            ("7NIy 0DXn", "not base64"),
            ("", "holds 0 bytes; it is base64 of 64 bytes"),
            (&WAREHOUSE[..84], "holds 63 bytes"),
            (&WAREHOUSE.replace("==", "AA"), "holds 66 bytes"),
            (&other_half, "does not belong to its seed"),
        ] {
            let error = SecretKey::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert!(error.to_string().contains(part), "{text:?}: {error}");
            assert!(!error.to_string().contains("7NIy"), "{error}");
        }
    }

    #[test]
    fn thirty_two_bytes_are_ambiguous_until_the_caller_says() {
        let text = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB0=";
        let error = SecretKey::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
        for part in ["is this the app id?", "Node", "Python", "from_seed_base64", "from_x25519_base64"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        let (seed, bare) = (SecretKey::from_seed_base64(text).unwrap(), SecretKey::from_x25519_base64(text).unwrap());
        assert_ne!(seed, bare);
        assert_eq!(bare.app_id(), None);
        assert!(bare.to_base64().is_none());
        for wrong in [WAREHOUSE, "AAAA", "?"] {
            assert_eq!(SecretKey::from_seed_base64(wrong).unwrap_err().kind(), ErrorKind::InvalidKey);
            assert_eq!(SecretKey::from_x25519_base64(wrong).unwrap_err().kind(), ErrorKind::InvalidKey);
        }
    }

    #[test]
    fn bare_secrets_that_agree_alike_are_equal() {
        let mut unclamped = [7; 32];
        let key = SecretKey::from_x25519(unclamped);
        unclamped[31] |= 0x80;
        assert_eq!(SecretKey::from_x25519(unclamped), key);
        unclamped[1] ^= 1;
        assert_ne!(SecretKey::from_x25519(unclamped), key);
    }

    #[test]
    fn a_key_knows_its_ids_with_and_without_a_seed() {
        for seed in 0..8 {
            let key = SecretKey::from_seed([seed; 32]);
            let id = key.app_id().unwrap();
            let bare = SecretKey::from_x25519(key.agreement().to_bytes());
            assert_eq!(bare.x25519_public(), key.x25519_public());
            assert!(key.is_of(&id) && bare.is_of(&id));

            let mut opposite = *id.as_bytes();
            opposite[31] ^= 0x80;
            let opposite = AppId::from_bytes(opposite);
            assert!(bare.is_of(&opposite) && !key.is_of(&opposite));

            let other = SecretKey::from_seed([99; 32]).app_id().unwrap();
            assert!(!bare.is_of(&other) && !key.is_of(&other));
        }
    }

    #[test]
    fn a_seed_signs_as_rfc_8032_says() {
        // RFC 8032 §7.1, test 2.
        let key = SecretKey::from_seed_base64("TM0Imyj/ltqdtsNG7BFOD1uKMZ81q6Yk2oz27U+4pvs=").unwrap();
        let signature = "kqAJqfDUyrhyDoILX2QlQKKye1QWUD+Ps3YiI+vbadoIWsHkPhWZbkWPNhPQ8R2MOHsurrQwKu6wDSkWErsMAA==";
        assert_eq!(key.sign(&[0x72]).unwrap().as_slice(), encoding::decode(signature).unwrap());
        assert!(SecretKey::from_x25519([1; 32]).sign(&[0x72]).is_none());
    }

    #[test]
    fn debug_is_redacted() {
        let key = SecretKey::parse(WAREHOUSE).unwrap();
        assert_eq!(format!("{key:?}"), "SecretKey(oV/L…, ..)");
        let ring = Keyring::new(key).with_previous(SecretKey::from_x25519([1; 32]));
        assert_eq!(format!("{ring:?}"), "Keyring[SecretKey(oV/L…, ..), SecretKey(x25519, ..)]");
    }

    #[test]
    fn generated_keys_differ() {
        assert_ne!(SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    }
}
