//! AES-256-GCM (NIST SP 800-38D) under keys that each encrypt one thing, so that their nonce may be zero.
//!
//! ```text
//! box = AES-256-GCM(key, nonce 0⁹⁶, aad "", plaintext)     -- ciphertext ‖ tag
//! ```

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Result};

/// The length of a key, in bytes.
pub(super) const KEY: usize = 32;
/// The length of a tag, in bytes: how much longer than its plaintext a box is.
pub(super) const TAG: usize = 16;

/// The box of `plaintext`. `key` encrypts nothing else, ever.
///
/// # Errors
///
/// [`ErrorKind::InvalidPayload`] above 64 GiB, which AES-GCM cannot encrypt.
pub(super) fn seal(key: &[u8; KEY], plaintext: &[u8]) -> Result<Vec<u8>> {
    let mut boxed = Vec::with_capacity(plaintext.len() + TAG);
    boxed.extend_from_slice(plaintext);
    let cipher = Aes256Gcm::new(key.into());
    let tag = cipher
        .encrypt_inout_detached(&Nonce::default(), b"", boxed.as_mut_slice().into())
        .map_err(|_| Error::new(ErrorKind::InvalidPayload, "the payload is longer than 64 GiB"))?;
    boxed.extend_from_slice(&tag);
    Ok(boxed)
}

/// The plaintext of a box; `None` if its tag is not that of this key and content.
pub(super) fn open(key: &[u8; KEY], boxed: Vec<u8>) -> Option<Zeroizing<Vec<u8>>> {
    #[cfg(test)]
    crate::crypto::cost::decrypted(boxed.len());
    let mut text = Zeroizing::new(boxed);
    let at = text.len().checked_sub(TAG)?;
    let tag: [u8; TAG] = text.get(at..)?.try_into().ok()?;
    text.truncate(at);
    let cipher = Aes256Gcm::new(key.into());
    cipher.decrypt_inout_detached(&Nonce::default(), b"", text.as_mut_slice().into(), &tag.into()).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn matches_the_specification() {
        // Test cases 13 and 14 of "The Galois/Counter Mode of Operation" (McGrew and Viega): key and nonce zero.
        for (plaintext, boxed) in [
            ("", "530f8afbc74536b9a963b4f1c4cb738b"),
            ("00000000000000000000000000000000", "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
        ] {
            assert_eq!(seal(&[0; KEY], &hex(plaintext)).unwrap(), hex(boxed));
            assert_eq!(**open(&[0; KEY], hex(boxed)).unwrap(), hex(plaintext));
        }
    }

    #[test]
    fn any_other_key_or_bit_or_length_is_refused() {
        let boxed = seal(&[1; KEY], b"what it is about").unwrap();
        for bit in 0..boxed.len() * 8 {
            let mut altered = boxed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&[1; KEY], altered).is_none(), "bit {bit}");
        }
        for length in 0..boxed.len() {
            assert!(open(&[1; KEY], boxed[..length].to_vec()).is_none(), "first {length} bytes");
        }
        let mut other = [1; KEY];
        other[31] = 2;
        assert!(open(&other, boxed).is_none());
    }
}
