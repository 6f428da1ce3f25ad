//! NaCl's `crypto_box_beforenm`.
//!
//! ```text
//! shared = HSalsa20(X25519(secret, public), 0¹²⁸)          RFC 7748 §5; "Cryptography in NaCl" §§5–7
//! box    = secretbox(shared, nonce, plaintext)
//! ```

use std::fmt;

use salsa20::cipher::consts::U10;
use salsa20::hsalsa;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use super::secretbox::{self, KEY, NONCE};
use crate::{Result, random};

/// The key of every box between two key pairs. Wiped when dropped.
pub(crate) struct SharedKey(Zeroizing<[u8; KEY]>);

impl SharedKey {
    /// What a secret and a public key agree on; `None` if the agreement is all zero.
    ///
    /// It is all zero exactly when `public` is a point of small order, whatever the (clamped) secret: everybody would know the
    /// key (RFC 7748 §6.1).
    pub(crate) fn agree(secret: &StaticSecret, public: &[u8; 32]) -> Option<Self> {
        #[cfg(test)]
        crate::crypto::cost::agreed();
        let agreement = secret.diffie_hellman(&PublicKey::from(*public));
        if !agreement.was_contributory() {
            return None;
        }
        let mut derived = hsalsa::<U10>(agreement.as_bytes().into(), &[0; 16].into());
        let mut key = Zeroizing::new([0; KEY]);
        key.copy_from_slice(&derived);
        derived.as_mut_slice().zeroize();
        Some(Self(key))
    }

    /// The box of `plaintext`. No nonce serves twice.
    pub(crate) fn seal(&self, nonce: &[u8; NONCE], plaintext: &[u8]) -> Vec<u8> {
        secretbox::seal(&self.0, nonce, plaintext)
    }

    /// The plaintext of a box; `None` if it does not belong to these keys, or was altered.
    pub(crate) fn open(&self, nonce: &[u8; NONCE], boxed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        secretbox::open(&self.0, nonce, boxed)
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey(..)")
    }
}

/// A fresh key pair, for one agreement with one recipient.
///
/// # Errors
///
/// [`ErrorKind::Internal`](crate::ErrorKind::Internal) if the operating system gives no randomness.
pub(crate) fn ephemeral() -> Result<(StaticSecret, [u8; 32])> {
    let random = Zeroizing::new(random::array::<32>()?);
    let secret = StaticSecret::from(*random);
    let public = PublicKey::from(&secret).to_bytes();
    Ok((secret, public))
}

#[cfg(test)]
mod tests {
    use super::super::secretbox::tests::{BOXED, FIRST_KEY, MESSAGE, NONCE_69, array, hex};
    use super::*;

    const ALICE: &str = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
    const ALICE_PUBLIC: &str = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
    const BOB: &str = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
    const BOB_PUBLIC: &str = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";

    #[test]
    fn matches_nacl() {
        let alice = SharedKey::agree(&StaticSecret::from(array(ALICE)), &array(BOB_PUBLIC)).unwrap();
        let bob = SharedKey::agree(&StaticSecret::from(array(BOB)), &array(ALICE_PUBLIC)).unwrap();
        assert_eq!(*alice.0, array(FIRST_KEY));
        assert_eq!(alice.seal(&array(NONCE_69), &hex(MESSAGE)), hex(BOXED));
        assert_eq!(**bob.open(&array(NONCE_69), &hex(BOXED)).unwrap(), hex(MESSAGE));
        assert_eq!(format!("{alice:?}"), "SharedKey(..)");
    }

    #[test]
    fn points_of_small_order_agree_on_nothing() {
        let secret = StaticSecret::from(array(ALICE));
        for u in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            for high_bit in [0, 0x80] {
                let mut u = array::<32>(u);
                u[31] |= high_bit;
                assert!(SharedKey::agree(&secret, &u).is_none());
            }
        }
    }

    #[test]
    fn ephemeral_pairs_differ_and_belong_together() {
        let ((a, a_public), (b, b_public)) = (ephemeral().unwrap(), ephemeral().unwrap());
        assert_ne!(a_public, b_public);
        let (ab, ba) = (SharedKey::agree(&a, &b_public).unwrap(), SharedKey::agree(&b, &a_public).unwrap());
        assert_eq!(ab.0, ba.0);
    }
}
