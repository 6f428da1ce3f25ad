//! NaCl's `crypto_secretbox_xsalsa20poly1305`.
//!
//! ```text
//! stream = XSalsa20(key, nonce)                            "Extending the Salsa20 nonce", cr.yp.to/snuffle/xsalsa-20110204.pdf
//! c      = plaintext ⊕ stream[32..]
//! tag    = Poly1305(stream[0..32], c)                      "Cryptography in NaCl" §9, cr.yp.to/highspeed/naclcrypto-20090310.pdf
//! box    = tag ‖ c
//! ```

use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit, StreamCipher};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The length of a key, in bytes.
pub(crate) const KEY: usize = 32;
/// The length of a nonce, in bytes. Long enough to be drawn at random for every box.
pub(crate) const NONCE: usize = 24;
/// The length of a tag, in bytes: how much longer than its plaintext a box is.
pub(crate) const TAG: usize = 16;

/// The box of `plaintext`. The same key and nonce never meet two plaintexts.
pub(crate) fn seal(key: &[u8; KEY], nonce: &[u8; NONCE], plaintext: &[u8]) -> Vec<u8> {
    let mut boxed = Vec::with_capacity(TAG + plaintext.len());
    boxed.extend_from_slice(&[0; TAG]);
    boxed.extend_from_slice(plaintext);
    if let Some((tag, text)) = boxed.split_first_chunk_mut::<TAG>() {
        let (mac, mut stream) = start(key, nonce);
        stream.apply_keystream(text);
        *tag = mac.compute_unpadded(text).into();
    }
    boxed
}

/// The plaintext of a box; `None` if its tag is not that of this key, nonce and content.
pub(crate) fn open(key: &[u8; KEY], nonce: &[u8; NONCE], boxed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    #[cfg(test)]
    crate::crypto::cost::decrypted(boxed.len());
    let (tag, text) = boxed.split_first_chunk::<TAG>()?;
    let (mac, mut stream) = start(key, nonce);
    if !bool::from(mac.compute_unpadded(text).as_slice().ct_eq(tag)) {
        return None;
    }
    let mut plaintext = Zeroizing::new(text.to_vec());
    stream.apply_keystream(&mut plaintext);
    Some(plaintext)
}

/// The authenticator, keyed with the first 32 bytes of the stream, and the rest of the stream.
fn start(key: &[u8; KEY], nonce: &[u8; NONCE]) -> (Poly1305, XSalsa20) {
    let mut stream = XSalsa20::new(key.into(), nonce.into());
    let mut one_time_key = Zeroizing::new([0; 32]);
    stream.apply_keystream(one_time_key.as_mut_slice());
    (Poly1305::new((&*one_time_key).into()), stream)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `tests/secretbox.c` and `tests/box.c` of NaCl: both make this box, the latter from the key pairs in `agreement.rs`.
    pub(crate) const FIRST_KEY: &str = "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389";
    pub(crate) const NONCE_69: &str = "69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37";
    pub(crate) const MESSAGE: &str = "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc\
        e5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb31\
        0e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde\
        048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f93776384864\
        5e0705";
    pub(crate) const BOXED: &str = "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce\
        48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c972\
        71d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae\
        90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b3\
        7973f622a43d14a6599b1f654cb45a74e355a5";

    pub(crate) fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    pub(crate) fn array<const N: usize>(text: &str) -> [u8; N] {
        hex(text).try_into().unwrap()
    }

    #[test]
    fn matches_nacl() {
        let (key, nonce) = (array(FIRST_KEY), array(NONCE_69));
        assert_eq!(seal(&key, &nonce, &hex(MESSAGE)), hex(BOXED));
        assert_eq!(**open(&key, &nonce, &hex(BOXED)).unwrap(), hex(MESSAGE));
    }

    #[test]
    fn any_other_key_nonce_or_bit_is_refused() {
        let (key, nonce, boxed) = (array(FIRST_KEY), array(NONCE_69), hex(BOXED));
        for bit in 0..boxed.len() * 8 {
            let mut altered = boxed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, &nonce, &altered).is_none(), "bit {bit}");
        }
        for length in 0..boxed.len() {
            assert!(open(&key, &nonce, &boxed[..length]).is_none(), "first {length} bytes");
        }
        let (mut other_key, mut other_nonce) = (key, nonce);
        other_key[31] ^= 1;
        other_nonce[23] ^= 1;
        assert!(open(&other_key, &nonce, &boxed).is_none());
        assert!(open(&key, &other_nonce, &boxed).is_none());
    }

    #[test]
    fn nothing_boxes_to_a_tag() {
        let boxed = seal(&[1; KEY], &[2; NONCE], b"");
        assert_eq!(boxed.len(), TAG);
        assert!(open(&[1; KEY], &[2; NONCE], &boxed).unwrap().is_empty());
    }
}
