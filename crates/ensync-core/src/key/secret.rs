use std::fmt;
use std::sync::{Arc, OnceLock};

use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::clamp_integer;
use ed25519_dalek::{Signer, SigningKey};
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::convert::from_text;
use crate::redact::find_secret_key;
use crate::text::trimmed;
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
pub struct SecretKey(Arc<Halves>);

/// Behind a pointer, for a value that is moved leaves its bytes where it was, and they would be wiped at its last place only. Filled
/// in place for the same reason.
struct Halves {
    /// Of no meaning without an `id`.
    seed: Zeroizing<[u8; 32]>,
    /// `None` for a bare X25519 secret.
    id: Option<AppId>,
    /// See [`SecretKey::candidate_ids`].
    candidate_ids: [Option<AppId>; 2],
    /// Clamped, so that two spellings of one secret are equal.
    agreement: StaticSecret,
    /// The public half of `agreement`.
    x25519_public: [u8; 32],
    /// The key pair of `seed`, once something was signed: making it is half of what a signature costs.
    signing: OnceLock<Box<SigningKey>>,
}

impl SecretKey {
    /// Reads an app secret key: base64 (standard or URL-safe, padded or not) of 64 bytes, the seed and then the public key,
    /// which is libsodium's layout. White space and a byte order mark around it, which editors and shells leave, are left out.
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
                 takes them as an Ed25519 seed (from_seed_base64), the Python client as a converted X25519 secret \
                 (from_x25519_base64); call the one that is meant, or give the 64-byte form",
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
        let key = Self::of_seed(seed);
        match &key.0.id {
            Some(id) if id.as_bytes().as_slice() == public => Ok(key),
            _ => Err(invalid(
                "the public half of the app secret key does not belong to its seed; was it copied whole, and from one key?",
            )),
        }
    }

    /// Where in a text a whole secret key stands, in base64 of either alphabet: for programs that print or send what they were
    /// given, and want to keep a secret out of it. A key without its public half cannot be told from other bytes. The search is
    /// bounded: behind 16,384 places with as many letters of base64 as a key has, the rest of the text counts as one.
    ///
    /// ```
    /// use ensync_core::SecretKey;
    ///
    /// let text = format!("--to={}", &*SecretKey::generate()?.to_base64().unwrap());
    /// assert_eq!(SecretKey::find_in(&text), Some(5..text.len()));
    /// assert_eq!(SecretKey::find_in("--to=warehouse"), None);
    /// # Ok::<(), ensync_core::Error>(())
    /// ```
    pub fn find_in(text: &str) -> Option<std::ops::Range<usize>> {
        find_secret_key(text)
    }

    /// From an Ed25519 seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self::of_seed(&Zeroizing::new(seed))
    }

    fn of_seed(seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(seed);
        let public = signing.verifying_key();
        // SHA-512(seed)[0..32]. Clamped as bytes and multiplied as an integer: `Scalar` would reduce it modulo the group order,
        // and the product with a point that has a small-order part would differ.
        let half_hash = Zeroizing::new(signing.to_scalar_bytes());
        let id = AppId::from_bytes(public.to_bytes());
        Self::filled(|halves| {
            halves.seed.copy_from_slice(seed);
            halves.id = Some(id);
            halves.candidate_ids = [Some(id), None];
            halves.agreement = StaticSecret::from(clamp_integer(*half_hash));
            halves.x25519_public = public.to_montgomery().to_bytes();
        })
    }

    fn filled(fill: impl FnOnce(&mut Halves)) -> Self {
        let mut halves = Arc::new(Halves {
            seed: Zeroizing::default(),
            id: None,
            candidate_ids: [None; 2],
            agreement: StaticSecret::from([0; 32]),
            x25519_public: [0; 32],
            signing: OnceLock::new(),
        });
        // Nobody else has it yet.
        if let Some(halves) = Arc::get_mut(&mut halves) {
            fill(halves);
        }
        Self(halves)
    }

    /// From an Ed25519 seed in base64.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the text is not base64 of 32 bytes.
    pub fn from_seed_base64(text: &str) -> Result<Self> {
        decode_32(text, "Ed25519 seed").map(|bytes| Self::of_seed(&bytes))
    }

    /// From a bare X25519 secret: what the Python client takes 32 bytes for. It has no [`AppId`].
    pub fn from_x25519(secret: [u8; 32]) -> Self {
        Self::of_x25519(&Zeroizing::new(secret))
    }

    fn of_x25519(secret: &[u8; 32]) -> Self {
        Self::filled(|halves| {
            halves.agreement = StaticSecret::from(clamp_integer(*secret));
            halves.x25519_public = PublicKey::from(&halves.agreement).to_bytes();
            halves.candidate_ids = [0, 1].map(|sign| {
                let point = MontgomeryPoint(halves.x25519_public).to_edwards(sign)?;
                Some(AppId::from_bytes(point.compress().to_bytes()))
            });
        })
    }

    /// From a bare X25519 secret in base64.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the text is not base64 of 32 bytes.
    pub fn from_x25519_base64(text: &str) -> Result<Self> {
        decode_32(text, "X25519 secret").map(|bytes| Self::of_x25519(&bytes))
    }

    /// A new key, its randomness from the operating system.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] if the operating system gives no randomness.
    pub fn generate() -> Result<Self> {
        let seed = Zeroizing::new(random::array::<32>()?);
        Ok(Self::of_seed(&seed))
    }

    /// The public half: the address that others seal for. `None` for a bare X25519 secret.
    pub fn app_id(&self) -> Option<AppId> {
        self.0.id
    }

    /// The 64-byte form in base64, which [`parse`](Self::parse) and the peers read. `None` for a bare X25519 secret.
    pub fn to_base64(&self) -> Option<Zeroizing<String>> {
        self.0.id.as_ref().map(|id| {
            let bytes = Zeroizing::new([self.0.seed.as_slice(), id.as_bytes()].concat());
            encoding::encode_secret(&bytes)
        })
    }

    /// The X25519 secret, clamped.
    pub(crate) fn agreement(&self) -> &StaticSecret {
        &self.0.agreement
    }

    /// The X25519 public key of [`agreement`](Self::agreement).
    pub(crate) fn x25519_public(&self) -> &[u8; 32] {
        &self.0.x25519_public
    }

    /// Whether this is the secret key of `id`.
    pub(crate) fn is_of(&self, id: &AppId) -> bool {
        self.candidate_ids().contains(&Some(*id))
    }

    /// The ids that this may be the secret key of, worked out once: each envelope is compared with them. A bare X25519 secret is that of
    /// two, which differ in one bit: an X25519 key does not say which of two opposite points of the curve it came from.
    pub(crate) fn candidate_ids(&self) -> [Option<AppId>; 2] {
        self.0.candidate_ids
    }

    /// The Ed25519 signature (RFC 8032) of a message; `None` for a bare X25519 secret.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<[u8; 64]> {
        let signing = || self.0.signing.get_or_init(|| Box::new(SigningKey::from_bytes(&self.0.seed)));
        self.0.id.map(|_| signing().sign(message).to_bytes())
    }
}

fn invalid(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidKey, why)
}

fn decode(text: &str, what: &str) -> Result<Zeroizing<Vec<u8>>> {
    encoding::decode_secret(trimmed(text))
        .ok_or_else(|| invalid(format!("the {what} is not base64; was it copied whole?")))
}

fn decode_32(text: &str, what: &str) -> Result<Zeroizing<[u8; 32]>> {
    let bytes = decode(text, what)?;
    if bytes.len() != 32 {
        return Err(invalid(format!("the {what} holds {} bytes, not 32", bytes.len())));
    }
    let mut array = Zeroizing::<[u8; 32]>::default();
    array.copy_from_slice(&bytes);
    Ok(array)
}

from_text!(secret SecretKey, "an app secret key, base64 of 64 bytes");

impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        // The ids are public, and whether there is one is no secret either.
        self.app_id() == other.app_id() && bool::from(self.0.agreement.as_bytes().ct_eq(other.0.agreement.as_bytes()))
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
            SecretKey::parse(&format!("\u{feff}{WAREHOUSE}\r\n")),
            serde_json::from_str(&format!("{WAREHOUSE:?}")).map_err(|error| invalid(error.to_string())),
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
